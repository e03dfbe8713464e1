"""CNTK 2.7's convolutions on the CPU, bit for bit.

    conv2d(x, weight, bias, stride)                                     x N x in x H x W
    conv_transpose2d(x, weight, bias, stride, padding, output_padding)

take the arguments of their namesakes in ``torch.nn.functional``, and are these wherever
``follows_cntk`` says no: in float64 (the oracle), on a GPU, in an ONNX export, with oneDNN on.
Weights out x in x h x w, the transposed one's in x out x h x w. No bias is added in CNTK's way
here; layers.py adds it.

A convolution's forward pass, gradient of x and gradient of weight are the three products of
products.py, where the order of their sums is explained; the transposed one's are the same with the
first two exchanged. The gradient of a weight depends on how many threads CNTK has: making a trainer
sets them to the machine's processors, whatever OMP_NUM_THREADS and the process's affinity say
(measured); of sizes that are no multiple of four so do the other two (products.where_unfolded). How
many are followed is said outright, ``rounding.as_cntk_rounds(cntk_threads)``, and CNTK is run with
as many (environment/processors.py). The port's own threads change no bit.

0 values differ from CNTK's: output and gradients of x, weight and bias of every layer of the
article and of some small layers with odd sizes, of 1 and 3 samples, with 1 and 2 threads of CNTK;
of random small layers of up to 5 samples with 1, 2 and 4 threads (benchmarks.convolution_search).
Not followed: a padded kernel of even size, for which CNTK says that it takes another engine.

Source: found by cancellation (Xie et al. 2025, FPRev) and from MKL's own entry points; measured by
tests/torch_port/test_convolution.py.
"""
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from torch_port import products
from torch_port.products import NO_PADS, Pads, Pair
from torch_port.ranks import whole
from torch_port.rounding import cntk_threads, follows_cntk


def products_of(x: Tensor) -> Any:
    """The module that makes the three products where x is."""
    if x.device.type == "cpu":
        return products
    from torch_port.gpu import products as on_gpu  # imports Triton
    return on_gpu


def plain(t: Tensor) -> Tensor:
    """The values as they lie in memory: C knows of no view that negates."""
    return t.detach().resolve_neg()


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        y: Tensor = products_of(x).correlate(plain(x), plain(weight), stride, NO_PADS,
                                              cntk_threads())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x, weight), g = map(plain, ctx.saved_tensors), plain(g).contiguous()
        of_x, of_weight, _ = ctx.needs_input_grad
        made = products_of(x)
        return (made.backward_data(g, weight, ctx.stride, NO_PADS, tuple(x.shape[2:]),
                                   cntk_threads()) if of_x else None,
                made.backward_weight(whole(g), whole(x), tuple(weight.shape[2:]), ctx.stride,
                                     NO_PADS, cntk_threads())
                if of_weight else None, None)


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, pads: Pads, size: Pair
                ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.pads = stride, pads
        y: Tensor = products_of(x).backward_data(plain(x), plain(weight), stride, pads, size,
                                                  cntk_threads())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor
                 ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (x, weight), g = map(plain, ctx.saved_tensors), plain(g).contiguous()
        of_x, of_weight, *_ = ctx.needs_input_grad
        made = products_of(x)
        return (made.correlate(g, weight, ctx.stride, ctx.pads, cntk_threads())
                if of_x else None,
                made.backward_weight(whole(x), whole(g), tuple(weight.shape[2:]), ctx.stride,
                                     ctx.pads, cntk_threads())
                if of_weight else None, None, None, None)


# ------------------------------------------------------------------------------ the two functions


def _pair(sizes: int | Sequence[int]) -> Pair:
    return (sizes, sizes) if isinstance(sizes, int) else tuple(sizes)


def _has_values(x: Tensor, weight: Tensor, channels: int, size: Pair) -> bool:
    """Whether there are values to compute, of images and a weight that fit: the C code looks at no
    size. What has none, or does not fit, is PyTorch's to answer or to refuse."""
    if x.ndim != 4:
        raise ValueError("a convolution in CNTK's order takes images N x C x H x W, not x of "
                         f"shape {tuple(x.shape)}: give a single one as x[None]")
    return (weight.ndim == 4 and x.shape[1] == channels and min(size) > 0
            and x.numel() > 0 and weight.numel() > 0)


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int | Pair) -> Tensor:
    """F.conv2d, without padding, in CNTK's order where there is no bias."""
    stride = _pair(stride)
    size = tuple(x.shape[i] - weight.shape[i] + 1 for i in (-2, -1))
    if (bias is None and follows_cntk(x, weight) and len(stride) == 2 and min(stride) > 0
            and _has_values(x, weight, weight.shape[1], size)):
        y: Tensor = _Convolution.apply(x, weight, stride)
        return y
    return F.conv2d(x, weight, bias, stride)


def conv_transpose2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int | Pair,
                     padding: int | Pair, output_padding: int | Pair) -> Tensor:
    """F.conv_transpose2d in CNTK's order where there is no bias."""
    stride, padding, output_padding = map(_pair, (stride, padding, output_padding))
    if (bias is None and follows_cntk(x, weight)
            and len(stride) == len(padding) == len(output_padding) == 2
            and min(padding) >= 0 and all(0 <= output_padding[i] < stride[i] for i in (0, 1))):
        size = tuple((x.shape[i] - 1) * stride[i] - 2 * padding[i] + weight.shape[i]
                     + output_padding[i] for i in (-2, -1))
        if _has_values(x, weight, weight.shape[0], size):
            (top, left), (bottom, right) = padding, (padding[i] - output_padding[i]
                                                     for i in (0, 1))
            y: Tensor = _Transposed.apply(x, weight, stride, (left, right, top, bottom), size)
            return y
    return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding)
