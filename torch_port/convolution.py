"""CNTK 2.7's convolutions on the CPU, bit for bit.

    conv2d(x, weight, bias, stride)                                     x N x in x H x W
    conv_transpose2d(x, weight, bias, stride, padding, output_padding)

take the arguments of their namesakes in ``torch.nn.functional``, and are these wherever
``follows_cntk`` says no: in float64 (the oracle), on a GPU, in an ONNX export, with oneDNN on, and
on a machine where ``bit_exact()`` is False. Weights out x in x h x w, the transposed one's in x out
x h x w. No bias is added in CNTK's way here; networks.py adds it.

CNTK leaves convolutions to MKL 2018, which on an AMD processor takes its plain code. For each
sample, one product of matrices, in the order of its SSE kernel and without fused multiply-add:

    forward             weight (out, in*h*w) . unfolded x (in*h*w, places)
    gradient of x       weight^T . g, its h*w parts added to x' from the LAST tap to the first
    gradient of weight  g (out, places) . unfolded x^T, added up over the samples: in consecutive
                        shares, one for each thread of CNTK and longer ones first; in a share every
                        product goes on from the sum so far; then share after share
    transposed          its forward pass is the gradient of x, and the other way round
    one output value    where that product is a row times a column: native/cntk_single.c

So the gradient of a weight depends on how many threads CNTK has. Making a trainer sets them to the
machine's processors, whatever OMP_NUM_THREADS and the process's affinity say (measured), so that is
what ``CNTK_THREADS`` is; without a trainer they are OMP_NUM_THREADS, at most the processors. The
port's own threads change no bit.

The MKL inside PyTorch is a later one and has the same kernel: it is the branch COMPATIBLE of its
conditional numerical reproducibility. This module asks for it when it is imported, since the first
product of matrices in the process settles it for good; then ``bit_exact()`` is False. (The variable
MKL_CBWR=COMPATIBLE would do as well, but a CNTK that inherits it adds up its discriminator's last
layer in another order.) The branch has vectors of two doubles: a product in float64 takes four
times as long, so ``ask_mkl(False)`` is for who wants float64 alone.

The taps are added by F.fold, which goes from the first to the last: all is turned by 180 degrees
before and after. A product is computed by one thread, as in CNTK: MKL cuts it in two for two, and
11 % of the values of a narrow one (75 columns) are others. Memory: one sample's unfolded x for each
thread, at most 13 MB in the article's layers.

0 values differ from CNTK's: output and gradients of x, weight and bias of every layer of the
article, of 1 and 3 samples, with 1 and 2 threads of CNTK. Two things do, in their last bits: the
gradient of the generator's first x, the latents, which training does not take (a product with one
column), and products with odd numbers of rows and of columns, 23 x 9, which no layer has.

Time: forward and backward of an iteration of both networks at minibatch 4 take 2.1 to 2.2 times as
long in one thread as PyTorch's own convolutions on MKL's fastest branch (4.2 s to 2.0 s); memory is
the same.

Source: found by cancellation (Xie et al. 2025, FPRev) and from MKL's own entry points; measured by
tests/torch_port/test_convolution.py.
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from torch_port.native import single_library
from torch_port.rounding import CNTK_THREADS, ask_mkl, follows_cntk
from torch_port.threads import _side_by_side, shares

Pair = tuple[int, ...]  # rows, columns
Pads = tuple[int, int, int, int]  # left, right, top, bottom: F.pad's order
NO_PADS = (0, 0, 0, 0)
SHORTEST_DOT = 12  # of native/cntk_single.c


ask_mkl(True)


# ------------------------------------------------------------------------------ the three products


def _columns(x: Tensor, kernel: Pair, stride: Pair, pads: Pads) -> Tensor:
    """One sample C x H x W as (C * h * w) x places."""
    return F.unfold(F.pad(x[None], pads) if any(pads) else x[None], kernel, stride=stride)[0]


def correlate(x: Tensor, weight: Tensor, stride: Pair, pads: Pads) -> Tensor:
    """The forward pass. x N x in x H x W, weight out x in x h x w."""
    n, (out, _, *kernel) = len(x), weight.shape
    rows, columns = ((x.shape[2 + i] + sum(pads[2 - 2 * i:4 - 2 * i]) - kernel[i]) // stride[i] + 1
                     for i in (0, 1))
    y, w = x.new_empty(n, out, rows, columns), weight.reshape(out, -1)

    def work(i: int) -> None:
        unfolded = _columns(x[i], tuple(kernel), stride, pads)
        if unfolded.shape[1] == out == 1 and len(unfolded) >= SHORTEST_DOT:
            row, column = w.contiguous(), unfolded.contiguous()
            y[i] = single_library().dot(row.data_ptr(), column.data_ptr(), len(column))
        else:
            torch.mm(w, unfolded, out=y[i].view(out, -1))
    _side_by_side(range(n), work)
    return y


def backward_data(g: Tensor, weight: Tensor, stride: Pair, pads: Pads, size: Pair) -> Tensor:
    """The gradient N x in x H x W of x from that of y; size: H, W."""
    n, (out, channels, *kernel) = len(g), weight.shape
    w = weight.flip(2, 3).reshape(out, -1).t()
    turned = g.flip(2, 3).reshape(n, out, -1)
    full = tuple((g.shape[2 + i] - 1) * stride[i] + kernel[i] for i in (0, 1))
    # Turned, the last row is the first: so many beyond x's are cropped, or no window reached them.
    top, left = (full[i] - size[i] - pads[2 - 2 * i] for i in (0, 1))
    made = g.new_empty(n, channels, *size)

    def work(i: int) -> None:
        x = F.fold(torch.mm(w, turned[i])[None], full, tuple(kernel), stride=stride)
        if top < 0 or left < 0:
            x = F.pad(x, (max(0, -left), 0, max(0, -top), 0))
        made[i] = x[0, :, max(0, top):, max(0, left):][:, :size[0], :size[1]].flip(1, 2)
    _side_by_side(range(n), work)
    return made


def backward_weight(g: Tensor, x: Tensor, kernel: Pair, stride: Pair, pads: Pads) -> Tensor:
    """The gradient out x in x h x w of the weight."""
    rows = g.reshape(*g.shape[:2], -1)

    def work(share: range) -> Tensor:
        total: Tensor | None = None
        for i in share:
            unfolded = _columns(x[i], kernel, stride, pads).t()
            total = torch.mm(rows[i], unfolded) if total is None else total.addmm_(
                rows[i], unfolded)
        assert total is not None
        return total

    total, *others = _side_by_side(shares(len(g), CNTK_THREADS), work)
    for other in others:
        total.add_(other)
    return total.reshape(g.shape[1], x.shape[1], *kernel)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return correlate(x.detach(), weight.detach(), stride, NO_PADS)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x, weight), g = (t.detach() for t in ctx.saved_tensors), g.contiguous()
        return (backward_data(g, weight, ctx.stride, NO_PADS, tuple(x.shape[2:]))
                if ctx.needs_input_grad[0] else None,
                backward_weight(g, x, tuple(weight.shape[2:]), ctx.stride, NO_PADS)
                if ctx.needs_input_grad[1] else None, None)


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, pads: Pads, size: Pair
                ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.pads = stride, pads
        return backward_data(x.detach(), weight.detach(), stride, pads, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor
                 ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (x, weight), g = (t.detach() for t in ctx.saved_tensors), g.contiguous()
        return (correlate(g, weight, ctx.stride, ctx.pads) if ctx.needs_input_grad[0] else None,
                backward_weight(x, g, tuple(weight.shape[2:]), ctx.stride, ctx.pads)
                if ctx.needs_input_grad[1] else None, None, None, None)


# ------------------------------------------------------------------------------ the two functions


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair) -> Tensor:
    """F.conv2d, without padding, in CNTK's order where there is no bias."""
    if bias is None and follows_cntk(x, weight):
        return _Convolution.apply(x, weight, stride)
    return F.conv2d(x, weight, bias, stride)


def conv_transpose2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair,
                     output_padding: Pair) -> Tensor:
    """F.conv_transpose2d in CNTK's order where there is no bias."""
    if bias is not None or not follows_cntk(x, weight):
        return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding)
    size = tuple((x.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + weight.shape[2 + i]
                 + output_padding[i] for i in (0, 1))
    (top, left), (bottom, right) = padding, (padding[i] - output_padding[i] for i in (0, 1))
    return _Transposed.apply(x, weight, stride, (left, right, top, bottom), size)
