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
import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from torch_port.native import single_library

Pair = tuple[int, ...]  # rows, columns
Pads = tuple[int, int, int, int]  # left, right, top, bottom: F.pad's order
NO_PADS = (0, 0, 0, 0)
SHORTEST_DOT = 12  # of native/cntk_single.c

# --------------------------------------------------------------------------------- MKL's branch

_OFF, _COMPATIBLE = 1, 3  # MKL_CBWR_BRANCH_OFF and MKL_CBWR_COMPATIBLE of mkl_service.h


def ask_mkl(compatible: bool) -> bool:
    """Asks MKL for the branch COMPATIBLE, or for its fastest; whether it agreed. It does not after
    its first product of matrices, and there are PyTorchs without MKL."""
    try:
        libtorch = ctypes.CDLL(os.fspath(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return libtorch.mkl_serv_cbwr_set(_COMPATIBLE if compatible else _OFF) == 0
    except (OSError, AttributeError):
        return False


ask_mkl(True)

# 2^60 and -2^60 in a row of ones: what is left of the sum are the ones added after both. Place of
# -2^60 (2^60 is at 0) to the number of ones lost, of 576. MKL's other branches lose 113, 129 and
# 576 at the last three.
LOST = {1: 2, 64: 65, 111: 112, 112: 240, 128: 240, 575: 128}


def lost_and_fused() -> tuple[dict[int, int], bool]:
    """What a product of 128 x 576 by 576 x 1024 makes of LOST, and whether it multiplies and adds
    with one rounding: -(1 + 2^-11) + (1 + 2^-12)^2 is 2^-24 then, and 0 with two."""
    ones = torch.ones(576, 1024)
    cancelling, squares = torch.ones(128, 576), torch.zeros(128, 576)
    for row, place in enumerate(LOST):
        cancelling[row, 0], cancelling[row, place] = 2.0 ** 60, -(2.0 ** 60)
    squares[:, 0], squares[:, 1] = -(1 + 2.0 ** -11), 1 + 2.0 ** -12
    factors = ones.clone()
    factors[1] = 1 + 2.0 ** -12
    ((kept, fused),) = _side_by_side([0], lambda _: (torch.mm(cancelling, ones),
                                                     torch.mm(squares, factors)))
    return {place: 576 - round(float(kept[row, 0])) for row, place in enumerate(LOST)}, bool(
        fused.any())


@cache
def bit_exact() -> bool:
    """Whether this machine's products of matrices are CNTK's; settles MKL's branch by asking."""
    return lost_and_fused() == (LOST, False)


def follows_cntk(*tensors: Tensor) -> bool:
    """Whether a convolution of these is done in CNTK's order."""
    return (all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
            and not torch.onnx.is_in_onnx_export() and not torch.jit.is_tracing()
            and not torch.compiler.is_compiling()
            and not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled)
            and bit_exact())


# ---------------------------------------------------------------------------- samples and threads

CNTK_THREADS = os.cpu_count() or 1


def shares(samples: int, threads: int) -> Iterator[range]:
    """Consecutive shares of so many samples, one a thread, the longer ones first."""
    count, start = min(threads, samples), 0
    for s in range(count):
        size = samples // count + (s < samples % count)
        yield range(start, start + size)
        start += size


def _one_thread() -> None:
    torch.get_num_threads()  # a thread's first call takes over the main one's number
    torch.set_num_threads(1)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """So many workers, in each of which MKL has one thread. ``process``: a fork has no workers."""
    before, ready = torch.get_num_threads(), threading.Barrier(threads)
    pool = ThreadPoolExecutor(threads, initializer=_one_thread)
    for waiting in [pool.submit(ready.wait) for _ in range(threads)]:
        waiting.result()
    torch.set_num_threads(before)  # what a worker sets is also the number of threads made later
    return pool


def _side_by_side(parts: Iterable[Any], work: Callable[[Any], Any]) -> list[Any]:
    """work(part) for each part, in as many threads as PyTorch has; the results in order."""
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def one(part: Any) -> Any:
        with torch.inference_mode(inference), torch.no_grad():
            return work(part)
    if threads == 1:
        return [one(part) for part in parts]
    return list(_pool(threads, os.getpid()).map(one, parts))


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
