"""CNTK's paddings in PyTorch's words, for any size, kernel and stride.

CNTK pads a convolution so that n -> ceil(n / stride), the odd pixel at the top and the left; of a
transposed one with ``output_shape`` it crops that much. PyTorch pads both sides alike, or none.

    convolution            F.pad(x, (left, right, top, bottom)), then padding=0; where the two sides
                           are alike, or no window reaches the difference, plain ``padding``
    transposed             padding = the larger crop, output_padding = the difference, where that is
                           below the stride; else crop the result of padding=0

Source: captures/spec.py (pads as CNTK's ONNX exporter writes them, measured).
"""
from dataclasses import dataclass

from captures.spec import CONVOLUTION, TRANSPOSED, Layer, network
from torch_port.translate.adam import TranslationError


@dataclass(frozen=True)
class Padding:
    """padding, output_padding: of ``nn.Conv2d`` / ``nn.ConvTranspose2d``. pad: of F.pad in front,
    (left, right, top, bottom). crop: rows and columns to cut off behind, the same order."""

    padding: int = 0
    output_padding: int = 0
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    output: int = 0

    @property
    def code(self) -> str:
        before = f"x = F.pad(x, {self.pad})\n" if any(self.pad) else ""
        layer = f"padding={self.padding}" + (
            f", output_padding={self.output_padding}" if self.output_padding else "")
        left, right, top, bottom = self.crop
        after = (f"\ny = y[:, :, {top}:y.shape[2] - {bottom}, {left}:y.shape[3] - {right}]"
                 if any(self.crop) else "")
        return f"{before}{layer}{after}"


def convolution(size: int, kernel: int, stride: int = 1, padded: bool = True) -> Padding:
    """For ``Convolution2D(pad=padded)`` on ``size`` x ``size``. Raises TranslationError."""
    top, left, bottom, right, output = _pads(CONVOLUTION, size, kernel, stride, padded)
    # The last window of a symmetric padding: does it reach what CNTK does not have?
    reached = (output - 1) * stride + kernel - size - top
    if top == bottom or ((size + 2 * top - kernel) // stride + 1 == output and reached == bottom):
        return Padding(padding=top, output=output)
    return Padding(pad=(left, right, top, bottom), output=output)


def transposed(size: int, kernel: int, stride: int = 1, padded: bool = True) -> Padding:
    """For ``ConvolutionTranspose2D(pad=padded, output_shape=size * stride)``."""
    top, left, bottom, right, output = _pads(TRANSPOSED, size, kernel, stride, padded)
    short = output - ((size - 1) * stride + kernel)
    if short > 0:  # a kernel shorter than the stride: rows of zeros at the bottom and the right
        return Padding(output_padding=short, output=output)
    if 0 <= top - bottom < stride:
        return Padding(padding=top, output_padding=top - bottom, output=output)
    return Padding(crop=(left, right, top, bottom), output=output)


def _pads(kind: str, size: int, kernel: int, stride: int, padded: bool
          ) -> tuple[int, int, int, int, int]:
    if size < 1 or kernel < 1 or stride < 1:
        raise TranslationError(f"size {size}, kernel {kernel}, stride {stride}: give whole numbers "
                               "from 1")
    made = network("net", (1, size, size), [Layer("layer", kind, 1, kernel, stride, padded)])
    layer = made.layers[0]
    return (*layer.pads, layer.output[1])
