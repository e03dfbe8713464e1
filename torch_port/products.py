"""The three products of a convolution, each sum in CNTK's order, on any processor.

    correlate(x, weight, stride, pads, threads)            forward; a transposed one's gradient of x
    backward_data(g, weight, stride, pads, size, threads)  gradient of x; a transposed one's forward
    backward_weight(g, x, kernel, stride, pads, threads)

x N x in x H x W, weight out x in x h x w, g N x out x h' x w', all float32 on the CPU; threads are
CNTK's. CNTK leaves one product of matrices for each sample to MKL 2018, which takes its plain code
on an AMD processor: every value is a sum over some k = 0 .. K - 1 of products, each rounded, each
added with a rounding of its own.

The order. k is cut into blocks of 112, the last of which may be shorter; a block's products are
added one by one, from 0. The sums of the blocks are added in this order: the last, then block 0, 1,
and so on.

    correlate        k runs over (in, h, w): K = in * h * w
    backward_data    a sum over k = out for each of the h * w taps; these sums are added to the
                     value from the LAST tap to the first
    backward_weight  k runs over the places; the blocks of a sample's product are added to what the
                     samples before have left, in consecutive shares of the samples, one for each
                     thread of CNTK and the longer ones first; then share after share

At the edges of a product, rows beyond a multiple of 8 and columns beyond one of 4, and in small
ones the order is another: edges.py. In the article's networks these are the gradients of the
discriminator's first and the generator's last weight, and what has one place.

So a value depends on its own row and column alone, not on how many values are computed side by
side, nor on vectors, threads, or the processor: native/cntk_products.c computes any number at once,
and nothing is asked of PyTorch's own matrix products.
"""
import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_port import edges
from torch_port.edges import BLOCK, FLOAT32, Table, in_blocks
from torch_port.native.products import FRESH, JOIN, Step, library
from torch_port.threads import ranges, shares, side_by_side

Pair = tuple[int, ...]  # rows, columns
Pads = tuple[int, int, int, int]  # left, right, top, bottom: F.pad's order
NO_PADS = (0, 0, 0, 0)
ROWS_IN_PART, PARTS_A_THREAD = 96, 4  # what a thread is given at a time


def blocks(count: int) -> list[tuple[int, int]]:
    """(start, end) of each block of k, in the order in which their sums are added."""
    last = (count - 1) // BLOCK * BLOCK
    return [(last, count), *((k, k + BLOCK) for k in range(0, last, BLOCK))]


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


def pack(source: Tensor, width: int, lane_stride: int, count: int, stride: int, taps: int = 1,
         samples: int = 1) -> Packed:
    """Value k of lane l and tap t is the one at l * lane_stride + k * stride + t of ``source``;
    ``samples`` of them follow one another and become taps."""
    lanes = library().lanes()
    panels = -(-width // lanes)
    values = torch.empty(taps * samples, panels, count, lanes, **FLOAT32)
    size = source.numel() // samples

    def work(sample: int, first: int, last: int) -> None:
        library().pack(source.data_ptr() + 4 * sample * size, width, lane_stride, count, stride,
                       taps, first, last, values[sample * taps].data_ptr())
    side_by_side([(s, *part) for s in range(samples) for part in ranges(panels, 4)], work)
    return Packed(values, width, count)


def _pointer(table: Table) -> int:
    return int(table.ctypes.data)


def _multiply(steps: list[Step], rows: int, packed: Packed, places: Table, stride: int,
              output: Tensor) -> None:
    """All values of ``rows`` rows by ``packed.width`` lanes."""
    array = (Step * len(steps))(*steps)
    tasks = PARTS_A_THREAD * torch.get_num_threads()
    row_parts = ranges(rows, max(ROWS_IN_PART, -(-rows // tasks)))
    panel_parts = ranges(packed.panels, max(1, packed.panels * len(row_parts) // tasks))

    def work(first: int, last: int, start: int, end: int) -> None:
        scratch = torch.empty(library().scratch_size(), **FLOAT32)
        library().products(array, len(steps), start, end, first, last, scratch.data_ptr(),
                           _pointer(places), stride, packed.width, output.data_ptr())
    side_by_side([(*p, *r) for p in panel_parts for r in row_parts], work)


def _steps(values: int, rows: Table, offsets: Table, packed: Packed, taps: list[int]
           ) -> list[Step]:
    """The blocks of each tap's sum; each tap is a group of its own."""
    cut, lanes = blocks(packed.count), packed.values.shape[3]
    panel, of_a_tap, last = packed.count * lanes, 4 * packed.values[0].numel(), len(cut) - 1
    at_rows, at_offsets, at_packed = _pointer(rows), _pointer(offsets), packed.values.data_ptr()
    return [Step(values, at_rows, at_offsets + 8 * start,
                 at_packed + tap * of_a_tap + 4 * start * lanes, panel, end - start,
                 FRESH * (i == 0) + JOIN * (i == last))
            for tap in taps for i, (start, end) in enumerate(cut)]


@lru_cache(maxsize=256)
def lattice(*axes: tuple[int, int]) -> Table:
    """The sum over the axes of index * stride, for every index of (size, stride) axes."""
    total = np.zeros((), np.int64)
    for size, stride in axes:
        total = total[..., None] + np.arange(size, dtype=np.int64) * stride
    return np.ascontiguousarray(total.reshape(-1))


def padded(x: Tensor, pads: Pads) -> Tensor:
    return (F.pad(x, pads) if any(pads) else x).contiguous()


def where_unfolded(n: int, threads: int, channels: int, pixels: int, taps: int, places: int
                   ) -> list[int]:
    """Where in CNTK's memory each sample's image begins as MKL unfolds it, the channels' values
    under every tap of the kernel at every place, or the product which it folds: each thread has
    memory for one, that of the next thread behind it. A kernel of one tap at every pixel needs
    none: the image is taken as it is."""
    size = channels * taps * places
    if taps == 1 and places == pixels:
        return [i * size for i in range(n)]
    return [thread * size for thread, share in enumerate(shares(n, threads)) for _ in share]


# --------------------------------------------------------------------------------- forward pass


def correlate(x: Tensor, weight: Tensor, stride: Pair, pads: Pads, threads: int) -> Tensor:
    """The forward pass, as of so many threads of CNTK."""
    pixels = x.shape[2] * x.shape[3]
    (out, channels, h, w), x, weight = weight.shape, padded(x, pads), weight.contiguous()
    n, _, height, width = x.shape
    rows, columns = (height - h) // stride[0] + 1, (width - w) // stride[1] + 1
    places, count = rows * columns, channels * h * w
    y = x.new_empty(n, out, rows, columns)
    if count == 1 and min(places, out) > 1:  # a product is no sum from 0: -0 stays
        return torch.mul(x[:, :, ::stride[0], ::stride[1]], weight.reshape(out, 1, 1), out=y)
    offsets = lattice((channels, height * width), (h, width), (w, 1))
    if all(in_blocks(places, out, count)):
        packed = pack(weight, out, count, count, 1)
        bases = lattice((n, x[0].numel()), (rows, stride[0] * width), (columns, stride[1]))
        _multiply(_steps(x.data_ptr(), bases, offsets, packed, [0]), n * places, packed,
                  lattice((n, out * places), (places, 1)), places, y)
    shape = edges.Shape(places, out, count, b_column=count, b_k=1, dotted=places == 1)
    if shape.has_edges:
        bases = lattice((rows, stride[0] * width), (columns, stride[1]))
        for i, at in enumerate(where_unfolded(n, threads, channels, pixels, h * w, places)):
            edges.fill(shape, x[i].data_ptr(), bases, offsets, weight.data_ptr(),
                       y[i].data_ptr(), (at, 0, i * out * places))
    return y


# ------------------------------------------------------------------------------- gradient of x


@lru_cache(maxsize=256)
def phase_of(phase: Pair, size: Pair, small: Pair, kernel: Pair, stride: Pair, crop: Pair, n: int,
           channels: int, out: int) -> tuple[Table, list[tuple[int, Table]]]:
    """The places in x' of the values in one phase of the stride; and for each tap, from the last to
    the first, where in g, N x places x out, each of them is met (-1: nowhere)."""
    along = [np.arange(phase[i], size[i], stride[i]) for i in (0, 1)]
    samples, few = np.arange(n), len(along[1]) <= 16
    places = (along[0][:, None] * size[1] + along[1]).reshape(-1, 1) \
        + samples * (channels * size[0] * size[1])
    taps: list[tuple[int, Table]] = []
    for tap in reversed(range(kernel[0] * kernel[1])):
        met = [along[i] + crop[i] - divmod(tap, kernel[1])[i] for i in (0, 1)]
        if any((met[i] % stride[i]).any() for i in (0, 1)):
            continue
        met = [met[i] // stride[i] for i in (0, 1)]
        inside = [(met[i] >= 0) & (met[i] < small[i]) for i in (0, 1)]
        at = (met[0][:, None] * small[1] + met[1]).reshape(-1, 1) + samples * (small[0] * small[1])
        at = np.where((inside[0][:, None] & inside[1]).reshape(-1, 1), at * out, -1)
        if (at >= 0).any():
            taps.append((tap, np.ascontiguousarray(at if few else at.T).reshape(-1)))
    where: Table = np.ascontiguousarray(places if few else places.T).reshape(-1)
    return where, taps


def backward_data(g: Tensor, weight: Tensor, stride: Pair, pads: Pads, size: Pair, threads: int
                  ) -> Tensor:
    """The gradient N x in x H x W of x from that of y, as of so many threads of CNTK; size: H, W.
    """
    n, (out, channels, h, w), weight = len(g), weight.shape, weight.contiguous()
    places, taps = g.shape[2] * g.shape[3], h * w
    shape = edges.Shape(places, channels * taps, out, b_column=1, b_k=channels * taps, spread=True)
    at = where_unfolded(n, threads, channels, size[0] * size[1], taps, places)
    if edges.other_order(shape, at):
        return _through_products(g.contiguous(), weight, stride, pads, size, shape, at)
    spread = g.reshape(n, out, places).transpose(1, 2).contiguous()
    if channels * stride[0] * stride[1] <= library().lanes() and bool(g.sum().isfinite()):
        return _phases_together(spread, weight, stride, (pads[2], pads[0]), size,
                                tuple(g.shape[2:]))
    packed, offsets = pack(weight, channels, taps, out, channels * taps, taps), lattice((out, 1))
    x = g.new_zeros(n, channels, *size)
    for phase in np.ndindex(*stride):
        where, met = phase_of(phase, size, tuple(g.shape[2:]), (h, w), stride, (pads[2], pads[0]),
                              n, channels, out)
        steps = [step for tap, rows in met
                 for step in _steps(spread.data_ptr(), rows, offsets, packed, [tap])]
        if steps:
            _multiply(steps, len(where), packed, where, size[0] * size[1], x)
    return x


@lru_cache(maxsize=64)
def _met_together(stride: Pair, crop: Pair, size: Pair, small: Pair, kernel: Pair, n: int, out: int
                  ) -> tuple[Pair, list[tuple[Table, list[int]]]]:
    """How many values a phase has; and for each shift of the place in g, from the first on: where
    it is met (-1: nowhere), and the tap by which each phase meets it (-1: none)."""
    grid = tuple(-(-size[i] // stride[i]) for i in (0, 1))
    shifts = [range((crop[i] - kernel[i]) // stride[i], (stride[i] + crop[i]) // stride[i] + 1)
              for i in (0, 1)]
    met, samples = [], np.arange(n)[:, None, None] * (small[0] * small[1])
    for shift in itertools.product(*shifts):
        taps = []
        for phase in np.ndindex(*stride):
            t = [phase[i] + crop[i] - stride[i] * shift[i] for i in (0, 1)]
            taps.append(t[0] * kernel[1] + t[1]
                        if all(0 <= t[i] < kernel[i] for i in (0, 1)) else -1)
        place = [np.arange(grid[i]) + shift[i] for i in (0, 1)]
        inside = [(place[i] >= 0) & (place[i] < small[i]) for i in (0, 1)]
        at = (place[0][:, None] * small[1] + place[1] + samples) * out
        rows: Table = np.ascontiguousarray(
            np.where(inside[0][:, None] & inside[1], at, -1)).reshape(-1)
        if max(taps) >= 0 and (rows >= 0).any():
            met.append((rows, taps))
    return grid, met


def _phases_together(spread: Tensor, weight: Tensor, stride: Pair, crop: Pair, size: Pair,
                     small: Pair) -> Tensor:
    """The same for few channels: the lanes are the channels of every phase, and a shift that is not
    a phase's adds 0 to it, which changes nothing as long as all is finite. spread N x places x out.
    """
    n, (out, channels, h, w) = len(spread), weight.shape
    phases = list(np.ndindex(*stride))
    grid, met = _met_together(stride, crop, size, small, (h, w), n, out)
    if not met:  # no tap meets a place
        return spread.new_zeros(n, channels, *size)
    lanes = weight.new_zeros(len(met), out, len(phases), channels)
    for at, (_, taps) in enumerate(met):
        for phase, tap in enumerate(taps):
            if tap >= 0:
                lanes[at, :, phase] = weight.reshape(out, channels, h * w)[:, :, tap]
    width, plane = len(phases) * channels, grid[0] * grid[1]
    packed = pack(lanes, width, 1, out, width, samples=len(met))
    made = spread.new_empty(n, len(phases), channels, *grid)
    steps = [step for at, (rows, _) in enumerate(met)
             for step in _steps(spread.data_ptr(), rows, lattice((out, 1)), packed, [at])]
    _multiply(steps, n * plane, packed, lattice((n, width * plane), (plane, 1)), plane, made)
    x = spread.new_empty(n, channels, *size)
    for at, (i, j) in enumerate(phases):
        into = x[:, :, i::stride[0], j::stride[1]]
        into.copy_(made[:, at, :, :into.shape[2], :into.shape[3]])
    return x


def _through_products(g: Tensor, weight: Tensor, stride: Pair, pads: Pads, size: Pair,
                      shape: edges.Shape, at: list[int]) -> Tensor:
    """The same where the product has edges whose order is another: it is made as a whole, ``at``
    these places, and F.fold adds its taps, from the first to the last: all is turned by 180 degrees
    before."""
    (out, channels, h, w), small = weight.shape, tuple(g.shape[2:])
    full = tuple((small[i] - 1) * stride[i] + (h, w)[i] for i in (0, 1))
    top, left = (full[i] - size[i] - pads[2 - 2 * i] for i in (0, 1))
    made, product = g.new_empty(len(g), channels, *size), g.new_empty(shape.n, shape.m)
    bases, offsets = lattice((shape.m, 1)), lattice((out, shape.m))
    for i, one in enumerate(g):
        if all(in_blocks(shape.m, shape.n, shape.k)):
            packed = pack(weight, shape.n, 1, out, shape.n)
            _multiply(_steps(one.data_ptr(), bases, offsets, packed, [0]), shape.m, packed, bases,
                      shape.m, product)
        edges.fill(shape, one.data_ptr(), bases, offsets, weight.data_ptr(), product.data_ptr(),
                   (0, 0, at[i]))
        turned = product.reshape(channels, h * w, -1).flip(1, 2).reshape(1, shape.n, -1)
        x = F.fold(turned, full, (h, w), stride=stride)
        made[i] = F.pad(x[0], (-left, -pads[0], -top, -pads[2])).flip(1, 2)
    return made


# -------------------------------------------------------------------------- gradient of weight


def backward_weight(g: Tensor, x: Tensor, kernel: Pair, stride: Pair, pads: Pads, threads: int
                    ) -> Tensor:
    """The gradient out x in x h x w of the weight, as of so many threads of CNTK."""
    pixels = x.shape[2] * x.shape[3]
    (n, out, rows, columns), x, g = g.shape, padded(x, pads), g.contiguous()
    _, channels, height, width = x.shape
    places, count = rows * columns, channels * kernel[0] * kernel[1]
    bases = lattice((channels, height * width), (kernel[0], width), (kernel[1], 1))
    offsets = lattice((rows, stride[0] * width), (columns, stride[1]))
    parts = list(shares(n, threads))
    if places == 1:
        return outer(g.reshape(n, out), x.reshape(n, -1)[:, torch.from_numpy(bases)], parts
                      ).reshape(out, channels, *kernel)
    made = g.new_empty(out, count)
    if all(in_blocks(count, out, places)):
        packed, steps = pack(g, out, places, places, 1, samples=n), []
        for share in parts:
            of_share = [step for sample in share for step in _steps(
                x[sample].data_ptr(), bases, offsets, packed, [sample])]
            for i, step in enumerate(of_share):
                step.how = FRESH * (i == 0) + JOIN * (i == len(of_share) - 1)
            steps += of_share
        _multiply(steps, count, packed, lattice((count, 1)), count, made)
    shape = edges.Shape(count, out, places, b_column=places, b_k=1, dotted=True)
    if shape.has_edges:
        totals = []
        at = where_unfolded(n, threads, channels, pixels, count // channels, places)
        for share in parts:
            totals.append(torch.zeros_like(made))
            for i in share:
                edges.fill(shape, x[i].data_ptr(), bases, offsets, g[i].data_ptr(),
                           totals[-1].data_ptr(), (at[i], i * out * places, 0), i > share[0])
        for total in totals[1:]:
            totals[0] += total
        edges.paste(shape, made, totals[0])
    return made.reshape(out, channels, *kernel)


def outer(g: Tensor, x: Tensor, parts: list[range]) -> Tensor:
    """One place: each product is added to the value. g N x out, x N x (in * h * w)."""
    totals = []
    for share in parts:
        totals.append(g.new_zeros(g.shape[1], x.shape[1]))
        for i in share:
            totals[-1] += torch.outer(g[i], x[i])
    for total in totals[1:]:
        totals[0] += total
    return totals[0]
