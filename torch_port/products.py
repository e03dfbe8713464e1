"""The three products of a convolution, each sum in CNTK's order, on any processor.

    correlate(x, weight, stride, pads)               forward; a transposed one's gradient of x
    backward_data(g, weight, stride, pads, size)     gradient of x; a transposed one's forward
    backward_weight(g, x, kernel, stride, pads, threads)

x N x in x H x W, weight out x in x h x w, g N x out x h' x w', all float32 on the CPU.

The order. CNTK leaves one product of matrices for each sample to MKL 2018, and so every value is a
sum over some k = 0 .. K - 1 of products, each rounded, each added with a rounding of its own:

    k is cut into blocks of 112; a block's products are added one by one, from 0. The sums of the
    blocks are added in this order: the remainder, from 112 * floor(K / 112) on, then block 0, 1, ..

    correlate        k runs over (in, h, w): K = in * h * w
    backward_data    a sum over k = out for each of the h * w taps; these sums are added to the
                     value from the LAST tap to the first
    backward_weight  k runs over the places; the blocks of a sample's product are added to what the
                     samples before have left, in consecutive shares of the samples, one for each
                     thread of CNTK and the longer ones first; then share after share

So a value depends on its own row and column alone, not on how many values are computed side by
side, nor on vectors, threads, or the processor.
"""
import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_port.native.products import FRESH, JOIN, Step, library

Pair = tuple[int, ...]  # rows, columns
Pads = tuple[int, int, int, int]  # left, right, top, bottom: F.pad's order
Table = np.ndarray[Any, np.dtype[np.int64]]

BLOCK = 112
ROWS_IN_PART, PARTS_A_THREAD = 96, 4  # what a thread is given at a time


def blocks(count: int) -> list[tuple[int, int]]:
    """(start, end) of each block of k, in the order in which their sums are added."""
    whole = count // BLOCK * BLOCK
    return [(whole, count)] * (whole < count) + [(k, k + BLOCK) for k in range(0, whole, BLOCK)]


def shares(samples: int, threads: int) -> Iterator[range]:
    """Consecutive shares of so many samples, one a thread, the longer ones first."""
    count, start = min(threads, samples), 0
    for s in range(count):
        size = samples // count + (s < samples % count)
        yield range(start, start + size)
        start += size


# ------------------------------------------------------------------------------------- threads


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """``process``: a fork has no workers."""
    return ThreadPoolExecutor(threads)


def _side_by_side(parts: Iterable[tuple[Any, ...]], work: Callable[..., None]) -> None:
    """work(*part) for each part, in as many threads as PyTorch has."""
    threads = torch.get_num_threads()
    if threads == 1:
        for part in parts:
            work(*part)
    else:
        list(_pool(threads, os.getpid()).map(lambda part: work(*part), parts))


def _ranges(count: int, at_most: int) -> list[tuple[int, int]]:
    """0 .. count - 1 in parts of nearly one size."""
    parts = max(1, -(-count // at_most))
    edges = [count * i // parts for i in range(parts + 1)]
    return [(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True) if a < b]


# -------------------------------------------------------------------------------- one product


@dataclass(frozen=True)
class Packed:
    """Lanes side by side in panels: tap x panel x k x lane."""
    values: Tensor
    width: int  # lanes
    count: int  # values of k

    @property
    def panels(self) -> int:
        return self.values.shape[1]

    def at(self, k: int, tap: int = 0) -> int:
        return self.values.data_ptr() + 4 * (tap * self.values[0].numel()
                                             + k * self.values.shape[3])


def pack(source: Tensor, width: int, lane_stride: int, count: int, stride: int, taps: int = 1,
         samples: int = 1) -> Packed:
    """Value k of lane l and tap t is the one at l * lane_stride + k * stride + t of ``source``;
    ``samples`` of them follow one another and become taps."""
    lanes = library().lanes()
    panels = -(-width // lanes)
    values = torch.empty(taps * samples, panels, count, lanes)
    size = source.numel() // samples

    def work(sample: int, first: int, last: int) -> None:
        library().pack(source.data_ptr() + 4 * sample * size, width, lane_stride, count, stride,
                       taps, first, last, values[sample * taps].data_ptr())
    _side_by_side([(s, *part) for s in range(samples) for part in _ranges(panels, 4)], work)
    return Packed(values, width, count)


def _pointer(table: Table, start: int = 0) -> int:
    return table.ctypes.data + 8 * start


def _multiply(steps: list[Step], rows: int, packed: Packed, places: Table, stride: int,
              output: Tensor) -> None:
    """All values of ``rows`` rows by ``packed.width`` lanes."""
    array = (Step * len(steps))(*steps)
    tasks = PARTS_A_THREAD * torch.get_num_threads()
    row_parts = _ranges(rows, max(ROWS_IN_PART, -(-rows // tasks)))
    panel_parts = _ranges(packed.panels, max(1, packed.panels * len(row_parts) // tasks))

    def work(first: int, last: int, start: int, end: int) -> None:
        scratch = torch.empty(library().scratch_size())
        library().products(array, len(steps), start, end, first, last, scratch.data_ptr(),
                           _pointer(places), stride, packed.width, output.data_ptr())
    _side_by_side([(*p, *r) for p in panel_parts for r in row_parts], work)


def _step(values: int, rows: int, offsets: int, packed: Packed, at: int, count: int, how: int
          ) -> Step:
    panel = packed.count * packed.values.shape[3]
    return Step(values, rows, offsets, at, panel, count, how)


# ------------------------------------------------------------------------------ three products


def _grid(*axes: tuple[int, int]) -> Table:
    """The sum over the axes of index * stride, for every index of (size, stride) axes."""
    total: Table = np.zeros((), np.int64)
    for size, stride in axes:
        total = total[..., None] + np.arange(size, dtype=np.int64) * stride
    return np.ascontiguousarray(total.reshape(-1))


@lru_cache(maxsize=256)
def _grid_kept(*axes: tuple[int, int]) -> Table:
    return _grid(*axes)


def _padded(x: Tensor, pads: Pads) -> Tensor:
    return (F.pad(x, pads) if any(pads) else x).contiguous()


def correlate(x: Tensor, weight: Tensor, stride: Pair, pads: Pads) -> Tensor:
    """The forward pass."""
    (out, channels, h, w), x = weight.shape, _padded(x, pads)
    n, _, height, width = x.shape
    rows, columns = (height - h) // stride[0] + 1, (width - w) // stride[1] + 1
    places, count = rows * columns, channels * h * w
    y = x.new_empty(n, out, rows, columns)
    packed = pack(weight.contiguous(), out, count, count, 1)
    bases = _grid_kept((n, channels * height * width), (rows, stride[0] * width),
                       (columns, stride[1]))
    offsets = _grid_kept((channels, height * width), (h, width), (w, 1))
    cut = blocks(count)
    steps = [_step(x.data_ptr(), _pointer(bases), _pointer(offsets, start), packed,
                   packed.at(start), end - start,
                   FRESH * (i == 0) + JOIN * (i == len(cut) - 1))
             for i, (start, end) in enumerate(cut)]
    _multiply(steps, n * places, packed, _grid_kept((n, out * places), (places, 1)), places, y)
    return y


@lru_cache(maxsize=256)
def _phase(phase: Pair, size: Pair, small: Pair, kernel: Pair, stride: Pair, crop: Pair, n: int,
           channels: int, out: int, plane: int) -> tuple[Table, list[tuple[int, Table]]]:
    """The places in x' of the values in one phase of the stride, and for each tap, from the last to
    the first, where in g each of them is met (-1: nowhere)."""
    along = [np.arange(phase[i], size[i], stride[i]) for i in (0, 1)]
    few = len(along[1]) <= 16
    where = (along[0][:, None] * size[1] + along[1]).reshape(-1, 1)
    samples = np.arange(n)
    places = where + samples * (channels * size[0] * size[1])
    taps = []
    for tap in reversed(range(kernel[0] * kernel[1])):
        t = divmod(tap, kernel[1])
        met = [(along[i] + crop[i] - t[i]) for i in (0, 1)]
        if any((met[i] % stride[i]).any() for i in (0, 1)):
            continue
        met = [met[i] // stride[i] for i in (0, 1)]
        inside = [(met[i] >= 0) & (met[i] < small[i]) for i in (0, 1)]
        at = ((met[0][:, None] * small[1] + met[1]).reshape(-1, 1) + samples * plane) * out
        valid = (inside[0][:, None] & inside[1]).reshape(-1, 1)
        at = np.where(valid, at, -1)
        if (at >= 0).any():
            taps.append((tap, np.ascontiguousarray(at if few else at.T).reshape(-1)))
    return np.ascontiguousarray(places if few else places.T).reshape(-1), taps


def backward_data(g: Tensor, weight: Tensor, stride: Pair, pads: Pads, size: Pair) -> Tensor:
    """The gradient N x in x H x W of x from that of y; size: H, W."""
    n, (out, channels, h, w) = len(g), weight.shape
    small, taps = tuple(g.shape[2:]), h * w
    places = small[0] * small[1]
    spread = g.reshape(n, out, places).transpose(1, 2).contiguous()
    packed = pack(weight.contiguous(), channels, taps, out, channels * taps, taps)
    offsets, cut = _grid_kept((out, 1)), blocks(out)
    x = g.new_zeros(n, channels, *size)
    for phase in np.ndindex(*stride):
        where, met = _phase(phase, size, small, (h, w), stride, (pads[2], pads[0]), n, channels,
                            out, places)
        steps = [_step(spread.data_ptr(), _pointer(rows), _pointer(offsets, start), packed,
                       packed.at(start, tap), end - start,
                       FRESH * (i == 0) + JOIN * (i == len(cut) - 1))
                 for tap, rows in met for i, (start, end) in enumerate(cut)]
        if steps:
            _multiply(steps, len(where), packed, where, size[0] * size[1], x)
    return x


def backward_weight(g: Tensor, x: Tensor, kernel: Pair, stride: Pair, pads: Pads, threads: int
                    ) -> Tensor:
    """The gradient out x in x h x w of the weight, as of so many threads of CNTK."""
    (n, out, rows, columns), x = g.shape, _padded(x, pads)
    _, channels, height, width = x.shape
    places, taps = rows * columns, kernel[0] * kernel[1]
    made = g.new_empty(out, channels, *kernel)
    packed = pack(g.contiguous(), out, places, places, 1, samples=n)
    bases = _grid_kept((channels, height * width), (kernel[0], width), (kernel[1], 1))
    offsets = _grid_kept((rows, stride[0] * width), (columns, stride[1]))
    cut, steps = blocks(places), []
    for share in shares(n, threads):
        parts = [(sample, *part) for sample in share for part in cut]
        steps += [_step(x.data_ptr() + 4 * sample * x[0].numel(), _pointer(bases),
                        _pointer(offsets, start), packed, packed.at(start, sample), end - start,
                        FRESH * (i == 0) + JOIN * (i == len(parts) - 1))
                  for i, (sample, start, end) in enumerate(parts)]
    _multiply(steps, channels * taps, packed, _grid_kept((channels * taps, 1)), channels * taps,
              made)
    return made
