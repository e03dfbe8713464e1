"""Convolutions with CNTK's geometry, and a bias whose gradient is added up as CNTK does."""
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_port.convolution import conv2d, conv_transpose2d
from torch_port.ranks import whole

Each = Callable[[str, Tensor], Tensor]
Convolve = Callable[[Tensor | None], Tensor]  # of a bias or of none


def unchanged(name: str, h: Tensor) -> Tensor:
    return h


class _AddBias(torch.autograd.Function):
    """h + bias of each channel. The bias's gradient is a sum over N, H and W, 65,536 values in the
    first layer at minibatch 4. CNTK adds each sample's map up in double and rounds to float32, then
    the samples' sums likewise, or, where there is one channel, all at once; PyTorch's convolution
    adds in float32, six times as far off."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, bias: Tensor) -> Tensor:
        ctx.mark_dirty(h)
        return h.add_(bias.reshape(-1, 1, 1))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        of_samples = upstream.sum((2, 3), dtype=torch.float64)
        if upstream.shape[1] > 1:
            of_samples = of_samples.to(upstream.dtype)
        return upstream, whole(of_samples).sum(0, dtype=torch.float64).to(upstream.dtype)


def with_bias(convolve: Convolve, bias: Tensor | None) -> Tensor:
    """convolve(None) + bias; in an ONNX export the bias goes into the convolution's own node."""
    if bias is None or torch.onnx.is_in_onnx_export():
        return convolve(bias)
    y: Tensor = _AddBias.apply(convolve(None), bias)
    return y


def padded(x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """With zeros around it: left, right, top, bottom."""
    return F.pad(x, pads)


class Convolution(nn.Conv2d):
    """pads: left, right, top, bottom."""

    pads = (0, 0, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        if any(self.pads):
            x = padded(x, self.pads)
        return with_bias(lambda bias: conv2d(x, self.weight, bias, self.stride), self.bias)


class PaddedConvolution(Convolution):
    """As CNTK pads 3 x 3 at stride 2: one row at the top and one column at the left."""

    pads = (1, 0, 1, 0)


class ConvolutionTranspose(nn.ConvTranspose2d):
    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return with_bias(lambda bias: conv_transpose2d(
            x, self.weight, bias, self.stride, self.padding,  # type: ignore[arg-type]
            self.output_padding), self.bias)
