"""The edges of a product on a GPU: torch_port/edges.py says which values those are and how their
sums go; native/cntk_edges.c is the same one after the other."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from torch_port.edges import COLUMNS, ROWS, SMALLEST, Shape, Table
from torch_port.gpu import kernels
from torch_port.products import blocks

FRESH, JOIN = 1, 2
JOBS = 32
OF_B, OR_FOUR, OF_A = 1, 2, 4  # how places count: kernels.dots


@dataclass(frozen=True)
class Region:
    """Rows and columns of a product, and the stretches of k in which each value is summed."""

    rows: range
    columns: range
    stretches: tuple[tuple[int, int], ...]


def regions(shape: Shape) -> Iterator[Region]:
    """Those that are not sums over blocks; a column of lines is a region of its own kind."""
    m, n, k = shape.m, shape.n, shape.k
    whole = ((0, k),)
    if m == 1 or n == 1 or min(m, n, k) < SMALLEST:
        yield Region(range(m), range(n), whole)
        return
    if m % ROWS:
        yield Region(range(m - m % ROWS, m), range(n - n % COLUMNS), tuple(blocks(k)))
    if n % COLUMNS:
        yield Region(range(m), range(n - n % COLUMNS, n), whole)


def _dot_job(shape: Shape, region: Region, row: int, column: int) -> tuple[int, int, int, int]:
    """(place, how it counts, lanes, products at a time) of one value."""
    m, n, k = shape.m, shape.n, shape.k
    by_row = m == 1
    if not by_row and (n > 1 and (min(m, n, k) < SMALLEST or column < n - n % COLUMNS)):
        fours = len(region.rows) // 4 * 4
        lanes = 4 if row - region.rows.start < fours else 8
        return column * shape.b_column, OF_B, lanes, lanes
    line, lines = (column, n) if by_row else (row, m)
    if line < lines // 4 * 4:  # four at a time
        return 3 * k, OR_FOUR + (OF_B if by_row else OF_A), 4, 4
    place = 0 if by_row else column * shape.b_column
    return (place, OR_FOUR + (OF_A if by_row else OF_B),
            4 if line == lines // 4 * 4 + 1 else 8, 8)


def _above(shape: Shape, region: Region, column: int, c_place: int) -> int:
    """How many rows of a column come before a multiple of four."""
    if shape.m == 1:  # along the row
        return int(column < _before(c_place, shape.n))
    plain = (shape.spread and min(shape.m, shape.n, shape.k) >= SMALLEST
             and column >= shape.n - shape.n % COLUMNS)
    return 0 if plain else _before(c_place + column * shape.m + region.rows.start,
                                   len(region.rows))


def _before(place: int, count: int) -> int:
    """How many of ``count`` values from a place on come before a multiple of four, if four are left
    there."""
    before = -place % 4
    return 0 if before + 4 > count else before


@lru_cache(maxsize=64)
def _dots(device: torch.device, shape: Shape, region: Region, rows: tuple[int, ...]
          ) -> tuple[Tensor, Table]:
    """Jobs of kernels.dots, and the place of each in an n x m product."""
    jobs = [(rows[row], column * shape.b_column, *_dot_job(shape, region, row, column))
            for column in region.columns for row in region.rows]
    places = [column * shape.m + row for column in region.columns for row in region.rows]
    return (torch.tensor(jobs, dtype=torch.int32, device=device),
            np.array(places, np.int64))


def _dot(shape: Shape, region: Region, a: Tensor, rows: Table, offsets: Table, b: Tensor,
         made: Tensor, groups: Sequence[Sequence[tuple[int, int, int, int]]]) -> None:
    """groups: (where a sample begins in a, in b, and the places of both) of the samples that are
    added up; each group's sum is added to the value."""
    jobs, within = _dots(a.device, shape, region, tuple(rows.tolist()))
    steps, hows = [], []
    for group in groups:
        of_group = [(*sample, start, end) for sample in group for start, end in region.stretches]
        steps += of_group
        hows += [FRESH * (i == 0) + JOIN * (i == len(of_group) - 1) for i in range(len(of_group))]
    count = len(jobs)
    padded = count + -count % JOBS
    parts = a.new_empty(len(steps), padded)
    step_table = torch.tensor(steps, dtype=torch.int64, device=a.device)
    kernels.dots[(padded // JOBS, len(steps))](
        a, b, _int32(a.device, offsets), jobs, count, step_table, parts, padded, JOBS=JOBS,
        num_warps=4, enable_fp_fusion=False)
    joined = torch.tensor([(0, 0, 0, 0, 0, how) for how in hows], dtype=torch.int64,
                          device=a.device)
    where = _int32(a.device, np.pad(within, (0, padded - count)))
    # Every row has every step, whatever the table holds.
    kernels.join[(padded // JOBS, 1)](
        parts, where, joined, len(steps), made, where, count, 1, 1, padded, 1, ROWS=JOBS, LANES=1,
        num_warps=1, enable_fp_fusion=False)


def _int32(device: torch.device, table: Table) -> Tensor:
    return torch.from_numpy(table.astype(np.int32)).to(device)


def fill(shape: Shape, a: Tensor, rows: Table, offsets: Table, b: Tensor, made: Tensor,
         places: Sequence[tuple[int, int, int]]) -> None:
    """The edges of each sample's product, N x n x m, with one right matrix b. places: where MKL has
    each sample's a, b and product, in values from a multiple of four."""
    for region in regions(shape):
        if shape.dotted or (shape.m == 1 and not shape.spread):
            for i, (sample, (a_place, b_place, _)) in enumerate(zip(made, places, strict=True)):
                _dot(shape, region, a[i], rows, offsets, b, sample,
                     [[(0, 0, a_place % 4, b_place % 4)]])
        else:
            _chain(shape, region, a, rows, offsets, b, made, [c_place for *_, c_place in places])


def _chain(shape: Shape, region: Region, a: Tensor, rows: Table, offsets: Table, b: Tensor,
           made: Tensor, c_places: Sequence[int]) -> None:
    size, jobs, places = shape.m * shape.n, [], []
    for i in range(len(a)):
        for column in region.columns:
            above = _above(shape, region, column, c_places[i])
            for row in region.rows:
                jobs.append((i * a[0].numel() + int(rows[row]), column * shape.b_column,
                             row - region.rows.start < above))
                places.append(i * size + column * shape.m + row)
    device = a.device
    kernels.chains[(-(-len(jobs) // JOBS),)](
        a, b, shape.b_k, _int32(device, offsets),
        torch.tensor(jobs, dtype=torch.int32, device=device), len(jobs),
        torch.tensor(region.stretches, dtype=torch.int64, device=device), len(region.stretches),
        made, torch.tensor(places, dtype=torch.int32, device=device), JOBS=JOBS, num_warps=1,
        enable_fp_fusion=False)


def add_up(shape: Shape, a: Tensor, rows: Table, offsets: Table, b: Tensor, made: Tensor,
           parts: Sequence[range], a_places: Sequence[int]) -> None:
    """The edges of one product n x m that is added up over the samples of a and b, in shares.
    a_places: where MKL has each sample's a."""
    size = shape.n * shape.k
    groups = [[(i * a[0].numel(), i * size, a_places[i] % 4, i * size % 4) for i in share]
              for share in parts]
    for region in regions(shape):
        _dot(shape, region, a, rows, offsets, b, made, groups)
