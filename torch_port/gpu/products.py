"""The three products of a convolution on a GPU, each sum in CNTK's order.

    correlate, backward_data, backward_weight      as in torch_port/products.py, which explains them

The same steps in the same order as native/cntk_products.c, by the kernels of kernels.py: a value is
made by one thread alone, or, where there are few values, its steps by many, and a second kernel
adds the steps up in their order.

0 values differ from the C kernels: in Triton's interpreter, and on a GPU (`benchmarks.gpu`).
"""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_port import edges, products
from torch_port.edges import Table, in_blocks
from torch_port.gpu import edges as gpu_edges
from torch_port.gpu import kernels
from torch_port.products import Pads, Pair, blocks, lattice, padded, phase_of, where_unfolded
from torch_port.threads import shares

FRESH, JOIN = 1, 2
MOST_ROWS, UNROLL = 256, 8
ENOUGH_TILES = 4096  # fill a GPU; else the steps are made side by side
MOST_PARTS = 1 << 27  # values of them, 0.5 GB
MOST_STEPS = 65535  # a grid's third side
Step = tuple[int, int, int, int, int, int]  # of kernels.py: value, row, offset, packed, count, how


@dataclass(frozen=True)
class Sums:
    """What a product adds up, on the device."""

    rows: Tensor  # tables of them, one after the other; -1: the row has not this step
    offsets: Tensor
    steps: Tensor
    places: Tensor
    count: int  # rows

    @staticmethod
    def of(device: torch.device, rows: Sequence[Table], offsets: Table, steps: Sequence[Step],
           places: Table) -> "Sums":
        count = len(places)
        more = -count % MOST_ROWS
        tables = [np.pad(table, (0, more), constant_values=-1) for table in rows]
        return Sums(on(device, np.concatenate(tables)), on(device, offsets),
                    torch.tensor(steps, dtype=torch.int64, device=device),
                    on(device, np.pad(places, (0, more))), count)

    @property
    def padded_count(self) -> int:
        return self.count + -self.count % MOST_ROWS


def on(device: torch.device, table: Table) -> Tensor:
    """Raises ValueError: an array too large for the kernels' 32-bit places."""
    if table.size and table.max() >= 2 ** 31:
        raise ValueError("an array of 2**31 values or more: take a smaller minibatch")
    return torch.from_numpy(table.astype(np.int32)).to(device)


def of_blocks(count: int, value: int = 0, row: int = 0, packed: int = 0) -> list[Step]:
    """The blocks of one sum, a group of their own."""
    cut = blocks(count)
    return [(value, row, start, packed + start, end - start,
             FRESH * (i == 0) + JOIN * (i == len(cut) - 1)) for i, (start, end) in enumerate(cut)]


def multiply(values: Tensor, packed: Tensor, sums: Sums, lane_stride: int, output: Tensor) -> None:
    """packed: ... x k x lanes. Value (row, lane) of the output, which holds zeros, is at
    places[row] + lane * lane_stride."""
    width = packed.shape[-1]
    lanes = min(128, max(4, 1 << (width - 1).bit_length()))
    rows = min(128, 2048 // lanes)  # 64 values a thread, or what is loaded outweighs what is added
    packed = F.pad(packed, (0, -width % lanes)).contiguous()
    padded_rows, padded_lanes, steps = sums.padded_count, packed.shape[-1], len(sums.steps)
    tiles = -(-sums.count // rows), padded_lanes // lanes
    size = {"ROWS": rows, "LANES": lanes, "num_warps": 1, "enable_fp_fusion": False}
    few = tiles[0] * tiles[1] < ENOUGH_TILES and 1 < steps <= MOST_STEPS
    if few and steps * padded_rows * padded_lanes <= MOST_PARTS:
        parts = values.new_empty(steps * padded_rows * padded_lanes)
        kernels.one_step[(*tiles, steps)](
            values, sums.rows, sums.offsets, packed, sums.steps, parts, padded_rows, padded_lanes,
            UNROLL=UNROLL, **size)
        size["ROWS"] = rows // 4
        kernels.join[(-(-sums.count // size["ROWS"]), tiles[1])](
            parts, sums.rows, sums.steps, steps, output, sums.places, sums.count, width,
            lane_stride, padded_rows, padded_lanes, **size)
    else:
        kernels.whole_sums[tiles](
            values, sums.rows, sums.offsets, packed, sums.steps, steps, output, sums.places,
            sums.count, width, lane_stride, padded_lanes, UNROLL=UNROLL, **size)


# --------------------------------------------------------------------------------- forward pass


@lru_cache(maxsize=64)
def _forward_sums(device: torch.device, n: int, out: int, channels: int, size: Pair, kernel: Pair,
                  stride: Pair, small: Pair) -> Sums:
    (height, width), places, count = size, small[0] * small[1], channels * kernel[0] * kernel[1]
    bases = lattice((n, channels * height * width), (small[0], stride[0] * width),
                    (small[1], stride[1]))
    offsets = lattice((channels, height * width), (kernel[0], width), (kernel[1], 1))
    return Sums.of(device, [bases], offsets, of_blocks(count),
                   lattice((n, out * places), (places, 1)))


def correlate(x: Tensor, weight: Tensor, stride: Pair, pads: Pads, threads: int) -> Tensor:
    """The forward pass, as of so many threads of CNTK."""
    pixels = x.shape[2] * x.shape[3]
    (out, channels, h, w), x, weight = weight.shape, padded(x, pads), weight.contiguous()
    n, _, height, width = x.shape
    rows, columns = (height - h) // stride[0] + 1, (width - w) // stride[1] + 1
    places, count = rows * columns, channels * h * w
    y = x.new_zeros(n, out, rows, columns)
    if count == 1 and min(places, out) > 1:  # a product is no sum from 0: -0 stays
        return torch.mul(x[:, :, ::stride[0], ::stride[1]], weight.reshape(out, 1, 1), out=y)
    if all(in_blocks(places, out, count)):
        sums = _forward_sums(x.device, n, out, channels, (height, width), (h, w), stride,
                             (rows, columns))
        multiply(x, weight.reshape(out, count).t(), sums, places, y)
    shape = edges.Shape(places, out, count, b_column=count, b_k=1, dotted=places == 1)
    if shape.has_edges:
        bases = lattice((rows, stride[0] * width), (columns, stride[1]))
        offsets = lattice((channels, height * width), (h, width), (w, 1))
        at = where_unfolded(n, threads, channels, pixels, h * w, places)
        gpu_edges.fill(shape, x, bases, offsets, weight, y,
                       [(at[i], 0, i * out * places) for i in range(n)])
    return y


# ------------------------------------------------------------------------------- gradient of x


@lru_cache(maxsize=256)
def _phase_sums(device: torch.device, phase: Pair, size: Pair, small: Pair, kernel: Pair,
                stride: Pair, crop: Pair, n: int, channels: int, out: int) -> Sums | None:
    places, met = phase_of(phase, size, small, kernel, stride, crop, n, channels, out)
    if not met:
        return None
    padded_count = len(places) + -len(places) % MOST_ROWS
    steps = [step for i, (tap, _) in enumerate(met)
             for step in of_blocks(out, 0, i * padded_count, tap * out)]
    return Sums.of(device, [rows for _, rows in met], lattice((out, 1)), steps, places)


def backward_data(g: Tensor, weight: Tensor, stride: Pair, pads: Pads, size: Pair, threads: int
                  ) -> Tensor:
    """The gradient N x in x H x W of x from that of y, as of so many threads of CNTK; size: H, W.
    """
    n, (out, channels, h, w), weight = len(g), weight.shape, weight.contiguous()
    small: Pair = tuple(g.shape[2:])
    places, taps = small[0] * small[1], h * w
    shape = edges.Shape(places, channels * taps, out, b_column=1, b_k=channels * taps, spread=True)
    at = where_unfolded(n, threads, channels, size[0] * size[1], taps, places)
    if edges.other_order(shape, at):
        return _through_products(g.contiguous(), weight, stride, pads, size, shape, at)
    spread = g.reshape(n, out, places).transpose(1, 2).contiguous()
    packed = weight.reshape(out, channels, taps).permute(2, 0, 1)
    x = g.new_zeros(n, channels, *size)
    for phase in np.ndindex(*stride):
        sums = _phase_sums(g.device, phase, tuple(size), small, (h, w), tuple(stride),
                           (pads[2], pads[0]), n, channels, out)
        if sums is not None:
            multiply(spread, packed, sums, size[0] * size[1], x)
    return x


def _through_products(g: Tensor, weight: Tensor, stride: Pair, pads: Pads, size: Pair,
                      shape: edges.Shape, at: Sequence[int]) -> Tensor:
    """The same where the product has edges whose order is another: it is made as a whole, ``at``
    these places, and its taps are added from the last to the first."""
    n, (out, channels, h, w), small = len(g), weight.shape, g.shape[2:]
    made = g.new_zeros(n, shape.n, shape.m)
    offsets = lattice((out, shape.m))
    if all(in_blocks(shape.m, shape.n, shape.k)):
        sums = Sums.of(g.device, [lattice((n, out * shape.m), (shape.m, 1))], offsets,
                       of_blocks(out), lattice((n, shape.n * shape.m), (shape.m, 1)))
        multiply(g, weight.reshape(out, shape.n), sums, shape.m, made)
    gpu_edges.fill(shape, g, lattice((shape.m, 1)), offsets, weight, made,
                   [(0, 0, place) for place in at])
    full = [(small[i] - 1) * stride[i] + (h, w)[i] for i in (0, 1)]
    top, left = pads[2], pads[0]
    x = g.new_zeros(n, channels, *full)
    by_tap = made.reshape(n, channels, h * w, *small)
    for tap in reversed(range(h * w)):
        i, j = divmod(tap, w)
        x[:, :, i:i + (small[0] - 1) * stride[0] + 1:stride[0],
          j:j + (small[1] - 1) * stride[1] + 1:stride[1]] += by_tap[:, :, tap]
    return F.pad(x, (-left, size[1] + left - full[1], -top, size[0] + top - full[0])).contiguous()


# -------------------------------------------------------------------------- gradient of weight


@lru_cache(maxsize=64)
def _weight_sums(device: torch.device, n: int, channels: int, size: Pair, kernel: Pair,
                 stride: Pair, small: Pair, threads: int) -> Sums:
    (height, width), places, steps = size, small[0] * small[1], []
    for share in shares(n, threads):
        of_share = [step for i in share for step in of_blocks(
            places, i * channels * height * width, 0, i * places)]
        steps += in_one_group(of_share)
    count = channels * kernel[0] * kernel[1]
    return Sums.of(device, [lattice((channels, height * width), (kernel[0], width),
                                    (kernel[1], 1))],
                   lattice((small[0], stride[0] * width), (small[1], stride[1])), steps,
                   lattice((count, 1)))


def in_one_group(steps: Sequence[Step]) -> list[Step]:
    return [(*step[:5], FRESH * (i == 0) + JOIN * (i == len(steps) - 1))
            for i, step in enumerate(steps)]


def backward_weight(g: Tensor, x: Tensor, kernel: Pair, stride: Pair, pads: Pads, threads: int
                    ) -> Tensor:
    """The gradient out x in x h x w of the weight, as of so many threads of CNTK."""
    pixels = x.shape[2] * x.shape[3]
    (n, out, rows, columns), x, g = g.shape, padded(x, pads), g.contiguous()
    _, channels, height, width = x.shape
    places, count = rows * columns, channels * kernel[0] * kernel[1]
    if places == 1:
        bases = lattice((channels, height * width), (kernel[0], width), (kernel[1], 1))
        return products.outer(g.reshape(n, out),
                              x.reshape(n, -1)[:, torch.from_numpy(bases).to(x.device)],
                              list(shares(n, threads))).reshape(out, channels, *kernel)
    made = g.new_zeros(out, count)
    if all(in_blocks(count, out, places)):
        sums = _weight_sums(x.device, n, channels, (height, width), tuple(kernel), tuple(stride),
                            (rows, columns), threads)
        multiply(x, g.reshape(n, out, places).transpose(1, 2), sums, count, made)
    shape = edges.Shape(count, out, places, b_column=places, b_k=1, dotted=True)
    if shape.has_edges:
        bases = lattice((channels, height * width), (kernel[0], width), (kernel[1], 1))
        offsets = lattice((rows, stride[0] * width), (columns, stride[1]))
        gpu_edges.add_up(shape, x, bases, offsets, g, made, list(shares(n, threads)),
                         where_unfolded(n, threads, channels, pixels, count // channels, places))
    return made.reshape(out, channels, *kernel)
