"""MKL's product of matrices where it is not a sum over blocks of 112: at its edges.

MKL 2018's plain sgemm makes an m x n product, a sum over k, in its own memory order (columns one
after the other). For a sample of a convolution that is

    pass                 m         n         k         left matrix        right matrix
    forward              places    out       in*h*w    places together    k together
    gradient of x        places    in*h*w    out       places together    columns together, "spread"
    gradient of weight   in*h*w    out       places    k together, "dotted"    k together

    m, n and k at least 8   the first m - m % 8 rows of the first n - n % 4 columns: blocks
                            (products.py). Rows below: for each block, chains onto the value, or,
                            dotted, dot products. Columns beyond: one chain over all of k, or,
                            dotted, lines
    smaller                 all of it one chain over k, or, dotted, dot products
    m = 1                   lines; if spread, a chain
    n = 1                   a chain; if dotted, lines
    k = 1, m and n not      a product, added without a sum from 0

    chain         one product after the other onto the value. Of each column, and of a single row,
                  the values before the first place in memory that is a multiple of four add every
                  second four products up first, if four values are left there; not where the right
                  matrix is spread and the column one of several rows beyond n - n % 4
    dot product   first the products before b's place is a multiple of four; then four (rows in
                  fours) or eight (the rows left) running sums, joined in halves; then what is left
    lines         the same with one to four products first, so that the fourth of four lines, or
                  the vector, comes to a multiple of four; of the lines left over from fours the
                  second has four running sums and takes eight products at a time

So a sum may depend on where its matrices begin in CNTK's memory: the arrays at a multiple of four
values, but a sample behind the one before, and what a thread unfolds behind what the thread before
unfolds (products.where_unfolded).

Found by tracing MKL's inner calls and by cancellation in each (Xie et al. 2025, FPRev).
0 values differ from CNTK's own MKL, wherever the matrices begin: `python -m
benchmarks.product_search`; and from CNTK's convolutions of small sizes: `python -m
benchmarks.convolution_search`.
"""
import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_port.native import edges_library
from torch_port.threads import ranges, side_by_side

BLOCK = 112
SMALLEST, ROWS, COLUMNS = 8, 8, 4  # of a product in blocks; multiples of its rows and columns

# Of C's memory, whatever the caller's defaults are.
FLOAT32: Any = {"dtype": torch.float32, "device": "cpu"}

Table = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t


class _Product(ctypes.Structure):
    """Of cntk_edges.c."""
    _fields_ = [("a", _POINTER), ("rows", _POINTER), ("offsets", _POINTER), ("b", _POINTER),
                ("b_column", _SIZE), ("b_k", _SIZE), ("c", _POINTER),
                *((name, _SIZE) for name in (
                    "m", "n", "k", "a_place", "b_place", "c_place", "add")),
                ("values", _POINTER)]


def in_blocks(m: int, n: int, k: int) -> tuple[int, int]:
    """How many rows and columns are sums over blocks."""
    return (0, 0) if min(m, n, k) < SMALLEST else (m - m % ROWS, n - n % COLUMNS)


@dataclass(frozen=True)
class Shape:
    """A product m x n, a sum over k, with the right matrix's strides in values."""
    m: int
    n: int
    k: int
    b_column: int
    b_k: int
    dotted: bool = False
    spread: bool = False

    @property
    def has_edges(self) -> bool:
        return in_blocks(self.m, self.n, self.k) != (self.m, self.n)


def fill(shape: Shape, a: int, rows: Table, offsets: Table, b: int, c: int,
         places: tuple[int, int, int] = (0, 0, 0), add: bool = False) -> None:
    """Computes the product's values that are not sums over blocks. a, b, c: addresses of float32;
    value (row, k) of the left matrix is at rows[row] + offsets[k] from a. places: where MKL has a,
    b and c, in values from a multiple of four."""
    a_place, b_place, c_place = (place % 4 for place in places)
    edges = edges_library().edges

    def work(first: int, last: int) -> None:
        values = torch.empty(shape.k, **FLOAT32)
        product = _Product(a, rows.ctypes.data, offsets.ctypes.data, b, shape.b_column, shape.b_k,
                           c, shape.m, shape.n, shape.k, a_place, b_place, c_place, add,
                           values.data_ptr())
        edges(ctypes.addressof(product), first, last, shape.dotted, shape.spread)
    side_by_side(ranges(shape.n, -(-shape.n // torch.get_num_threads())), work)


def other_order(shape: Shape, c_places: list[int]) -> bool:
    """Whether a spread product, made at these places, has edges that are no sums over blocks."""
    return shape.has_edges and (shape.k > BLOCK or (shape.m % 4 > 0 and shape.m > 1)
                                or any(place % 4 for place in c_places))


def paste(shape: Shape, made: Tensor, edge: Tensor) -> None:
    """Into ``made``, n x m, those values of ``edge`` that ``fill`` computes."""
    rows, columns = in_blocks(shape.m, shape.n, shape.k)
    made[columns:] = edge[columns:]
    made[:columns, rows:] = edge[:columns, rows:]
