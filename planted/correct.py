"""Ports that are right in every formula and round otherwise than ours. None of them may fail.

Each is what somebody may well have: PyTorch as it comes, its other memory layout, its own batch
normalisation, its compiler, a convolution by another algorithm, a better precision than CNTK's.
"""
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from planted.graphs import as_constants, auto_pad, in_export
from planted.parts import method, replace
from planted.plant import correct
from torch_port import adam, convolution, dcgan, layers, rounding
from torch_port.batch_norm import BatchNormalization

Pair = tuple[int, ...]


def as_pytorch_comes() -> None:
    """oneDNN on: nobody asks for CNTK's order of additions."""
    torch.backends.mkldnn.set_flags(True)
    replace(rounding.as_cntk_rounds, lambda cntk_threads=0: None)
    replace(rounding.follows_cntk, lambda *tensors: False)


def by(conv2d: object, conv_transpose2d: object) -> None:
    """Convolutions by these two functions, of the arguments of the port's."""
    replace(convolution.conv2d, conv2d)
    replace(convolution.conv_transpose2d, conv_transpose2d)


# ---------------------------------------------------------------------------- PyTorch's own kernels


@correct("onednn", "Convolutions by oneDNN, as PyTorch computes them by itself.")
def onednn() -> None:
    as_pytorch_comes()


@correct("native", "Convolutions by PyTorch's own loops over MKL's fastest branch, without oneDNN.")
def native() -> None:
    as_pytorch_comes()
    torch.backends.mkldnn.set_flags(False)


def mkl_branch(number: int) -> bool:
    """Asks MKL for a branch of mkl_service.h; whether it agreed. It does not after its first
    product of matrices, and there are PyTorchs without MKL."""
    try:
        libtorch = ctypes.CDLL(os.fspath(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        done: bool = libtorch.mkl_serv_cbwr_set(number) == 0
        return done
    except (OSError, AttributeError):
        return False


def _mkl_branch(number: int) -> None:
    """Of MKL_CBWR_AVX2 = 10 and so on; MKL takes its fastest where it does not give the branch."""
    as_pytorch_comes()
    torch.backends.mkldnn.set_flags(False)
    mkl_branch(number)


@correct("mkl-avx2", "Convolutions by PyTorch's own loops over MKL's AVX2 branch.")
def mkl_avx2() -> None:
    _mkl_branch(10)


@correct("mkl-sse4", "Convolutions by PyTorch's own loops over MKL's SSE4.2 branch.")
def mkl_sse4() -> None:
    _mkl_branch(8)


@correct("f-batch-norm", "PyTorch's batch normalisation, which sums in double; CNTK's statistics.")
def f_batch_norm() -> None:
    method(BatchNormalization, "_rounds_as_cntk", lambda self, x: False)


@correct("float32-bias", "Biases and their gradients by PyTorch's own broadcasting, in float32.")
def float32_bias() -> None:
    def with_bias(convolve: layers.Convolve, bias: Tensor | None) -> Tensor:
        if bias is None or torch.onnx.is_in_onnx_export():
            return convolve(bias)
        return convolve(None) + bias.reshape(-1, 1, 1)
    replace(layers.with_bias, with_bias)


@correct("torch-adam", "Adam's update by PyTorch's fused operations: addcmul, sqrt, addcdiv.")
def torch_adam() -> None:
    def update(self: adam.CNTKAdam, w: Tensor, g: Tensor, m: Tensor, v: Tensor, scratch: Tensor,
               k: adam.Coefficients) -> None:
        v.mul_(k.b2).addcmul_(g, g, value=1 - k.b2)
        m.mul_(k.b1).add_(g, alpha=k.gain)
        w.addcdiv_(m, torch.sqrt(v).add_(k.epsilon), value=-k.rate * k.correction)
    method(adam.CNTKAdam, "_update_chunk", update)


@correct("ordinary", "What a user writes: oneDNN, nn.BatchNorm2d's kernel with CNTK's statistics, "
                     "biases inside the convolution, PyTorch's operations in Adam.")
def ordinary() -> None:
    as_pytorch_comes()
    f_batch_norm()
    torch_adam()
    replace(layers.with_bias, lambda convolve, bias: convolve(bias))
    replace(dcgan.normalized, lambda x, middle=127.5: (x - middle) / middle)


@correct("channels-last", "The ordinary port in PyTorch's other memory layout.")
def channels_last() -> None:
    ordinary()
    empty, drawn = dcgan.empty_networks, dcgan.networks_from_seed

    def laid_out(networks: dcgan.Networks) -> dcgan.Networks:
        return networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    replace(dcgan.empty_networks, lambda *spec: laid_out(empty(*spec)))
    replace(dcgan.networks_from_seed, lambda seed, *spec: laid_out(drawn(seed, *spec)))
    before: Callable[..., Tensor] = method(dcgan.Chain, "forward", lambda self, h, *each: before(
        self, h.contiguous(memory_format=torch.channels_last) if h.ndim == 4 else h, *each))


# ------------------------------------------------------------------------------- other algorithms


def taps_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair) -> Tensor:
    """One product of matrices for each place of the window, added up from the first to the last."""
    rows, columns = ((x.shape[2 + i] - weight.shape[2 + i]) // stride[i] + 1 for i in (0, 1))
    y: Tensor | None = None
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            seen = x[:, :, i:i + stride[0] * (rows - 1) + 1:stride[0],
                     j:j + stride[1] * (columns - 1) + 1:stride[1]]
            part = torch.einsum("oc,nchw->nohw", weight[:, :, i, j], seen)
            y = part if y is None else y + part
    assert y is not None
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def taps_conv_transpose2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair,
                          padding: Pair, output_padding: Pair) -> Tensor:
    kernel = weight.shape[2:]
    rows, columns = ((x.shape[2 + i] - 1) * stride[i] + kernel[i] + output_padding[i]
                     for i in (0, 1))
    y = x.new_zeros(len(x), weight.shape[1], rows, columns)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            part = torch.einsum("co,nchw->nohw", weight[:, :, i, j], x)
            y[:, :, i:i + stride[0] * (x.shape[2] - 1) + 1:stride[0],
              j:j + stride[1] * (x.shape[3] - 1) + 1:stride[1]] += part
    y = y[:, :, padding[0]:rows - padding[0], padding[1]:columns - padding[1]]
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def _exporting_by_torch(mine: object, torchs: object) -> object:
    def choose(*arguments: object) -> object:
        return (torchs if torch.onnx.is_in_onnx_export() else mine)(*arguments)  # type: ignore[operator]
    return choose


@correct("taps", "Convolutions as one product for each place of the window, added up.")
def taps() -> None:
    as_pytorch_comes()
    by(_exporting_by_torch(taps_conv2d, convolution.conv2d),
       _exporting_by_torch(taps_conv_transpose2d, convolution.conv_transpose2d))


LARGEST_SPECTRUM = 256 * 128  # filters: the transforms of more would take gigabytes


def fft_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair) -> Tensor:
    """The spectra's product, in the tensors' own precision; every stride-th place is kept."""
    size = x.shape[2:]
    product = torch.einsum("nchw,ochw->nohw", torch.fft.rfft2(x),
                           torch.fft.rfft2(weight, s=size).conj())
    whole = torch.fft.irfft2(product, s=size)
    rows, columns = (size[i] - weight.shape[2 + i] + 1 for i in (0, 1))
    y: Tensor = whole[:, :, :rows:stride[0], :columns:stride[1]]
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def fft_conv_transpose2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair,
                         padding: Pair, output_padding: Pair) -> Tensor:
    kernel = weight.shape[2:]
    size = [(x.shape[2 + i] - 1) * stride[i] + kernel[i] + output_padding[i] for i in (0, 1)]
    spread = x.new_zeros(*x.shape[:2], *size)
    spread[:, :, :stride[0] * x.shape[2]:stride[0], :stride[1] * x.shape[3]:stride[1]] = x
    product = torch.einsum("nchw,cohw->nohw", torch.fft.rfft2(spread),
                           torch.fft.rfft2(weight, s=size))
    y: Tensor = torch.fft.irfft2(product, s=size)[
        :, :, padding[0]:size[0] - padding[0], padding[1]:size[1] - padding[1]]
    return y if bias is None else y + bias.reshape(-1, 1, 1)


@correct("fft", "Convolutions of up to 32,768 filters by Fourier transforms in float32.")
def fft() -> None:
    as_pytorch_comes()
    conv2d, conv_transpose2d = convolution.conv2d, convolution.conv_transpose2d

    def small(weight: Tensor) -> bool:
        return weight.shape[0] * weight.shape[1] <= LARGEST_SPECTRUM

    def forward(x: Tensor, weight: Tensor, *others: object) -> Tensor:
        chosen = fft_conv2d if small(weight) and not torch.onnx.is_in_onnx_export() else conv2d
        return chosen(x, weight, *others)  # type: ignore[arg-type]

    def transposed(x: Tensor, weight: Tensor, *others: object) -> Tensor:
        chosen = fft_conv_transpose2d if small(weight) \
            and not torch.onnx.is_in_onnx_export() else conv_transpose2d
        return chosen(x, weight, *others)  # type: ignore[arg-type]

    by(forward, transposed)


@correct("double-inside", "Convolutions and batch normalisation in float64, rounded at the end of "
                          "each layer: nearer to the formula than CNTK.")
def double_inside() -> None:
    as_pytorch_comes()
    f_batch_norm()

    def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return F.conv2d(x, weight, bias, stride)
        return F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(),
                        stride).to(x.dtype)

    def conv_transpose2d(x: Tensor, weight: Tensor, bias: Tensor | None, *how: Pair) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return F.conv_transpose2d(x, weight, bias, *how)  # type: ignore[arg-type]
        return F.conv_transpose2d(x.double(), weight.double(),
                                  None if bias is None else bias.double(),
                                  *how).to(x.dtype)  # type: ignore[arg-type]

    by(conv2d, conv_transpose2d)


# ------------------------------------------------------------------------------ PyTorch's compiler


def batch_norm(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float
               ) -> tuple[Tensor, Tensor, Tensor]:
    """The formula in float32 as it is written: y, mean, unbiased variance."""
    n = x.numel() // x.shape[1]
    mean = x.mean((0, 2, 3))
    centred = x - mean[:, None, None]
    variance = (centred * centred).mean((0, 2, 3))
    y = centred * (scale * torch.rsqrt(variance + epsilon))[:, None, None] + bias[:, None, None]
    return y, mean, variance * (n / (n - 1))


@correct("compiled", "Batch normalisation, written as its formula, and the rectifiers by "
                     "torch.compile; convolutions by oneDNN.")
def compiled() -> None:
    as_pytorch_comes()
    # The eleven layers differ in size alone: one compilation is to do for all of them.
    torch.fx.experimental._config.use_duck_shape = False
    torch._dynamo.config.recompile_limit = 64
    fast = torch.compile(batch_norm, dynamic=True)
    before = BatchNormalization.forward

    def forward(self: BatchNormalization, x: Tensor) -> Tensor:
        if not self.training or torch.onnx.is_in_onnx_export() or x.dtype != torch.float32:
            return before(self, x)
        y, mean, variance = fast(x, self.scale, self.bias, self.epsilon)
        with torch.no_grad():
            self._update_statistics(mean, variance, len(x), x.numel() // self.channels)
        return y

    f_batch_norm()
    method(BatchNormalization, "forward", forward)


# ------------------------------------------------ other legal forms and manners: nothing is wrong


@correct("export-auto-pad", "The exported padding as auto_pad SAME_LOWER, which is [1, 1, 0, 0].")
def export_auto_pad() -> None:
    for number in range(1, 7):
        in_export("discriminator", auto_pad(f"conv{number}", "SAME_LOWER"))


@correct("export-constants", "The exported weights as Constant nodes, not as initializers.")
def export_constants() -> None:
    in_export("generator", as_constants)
    in_export("discriminator", as_constants)


@correct("talkative", "It prints a megabyte.")
def talkative() -> None:
    before = dcgan.normalized

    def said(x: Tensor, middle: float = 127.5) -> Tensor:
        print("x" * 200_000, flush=True)
        return before(x, middle)
    replace(dcgan.normalized, said)
