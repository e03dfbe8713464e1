"""CNTK's initial weights, bit for bit, from seeds alone.

    weight[i] = float32(z[i] * double(float32(standard_deviation)))

z is the stream of standard normals that a 2015 Boost makes of std::mt19937_64(seed): a ziggurat in
double, filled in C order. The i-th random parameter that a process creates gets seed i.

Differences that matter. Where PyTorch draws every layer from one global stream, CNTK gives every
parameter a seed of its own, so a layer's weights depend on its place in the order of creation and
on nothing else. ``torch.nn.init.normal_`` takes the same standard deviation, but the numbers of no
seed of PyTorch's are those of CNTK's. A PyTorch layer's default is another distribution.

Source: Math/CPUMatrixImpl.h (SetGaussianRandomValue), CNTKv2LibraryDll/Variable.cpp and Common.cpp
(the seeds) of microsoft/CNTK; the distribution of boost/random/normal_distribution.hpp before 2016.
Measured on CNTK 2.7's CPU: 0 of 76 million values differ. GPU initialisation was not measured.
"""
import ctypes
import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np

from captures.article import DEVIATION
from torch_port.mersenne import LARGEST_SEED, Mersenne64
from torch_port.native import library as compiled_library

# Two numbers that CNTK does not use as seeds: for the first it draws the next seed of its counter,
# for the second it asks the clock, and the weights are different in every second.
AUTOMATIC_SEED = 2**64 - 3
CLOCK_SEED = 2**64 - 1
LAYERS = 128
EDGE = "3.4426198558966521214"  # of the first layer, where the tail begins

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class LedgerEntry:
    """One parameter: where its numbers came from and what they are.

    ``drawn``: 64-bit outputs of the twister that they took; about 1.04 for each value.
    ``sha256``: of the float32 values' bytes, little-endian, in C order.
    ``dataclasses.asdict`` of it is ready for JSON.
    """

    name: str
    seed: int
    shape: Shape
    drawn: int
    sha256: str


class SeedCounter:
    """CNTK's process-wide source of seeds for parameters that are given none.

        next() = start, start + 1, start + 2, ...       or always ``fixed``

    One ``next()`` for each random parameter, when it is created. Constants (biases, batch
    normalisation), parameters with a seed of their own and clones made with "share" take none.
    ``SeedCounter(start)`` is CNTK after ``cntk_py.reset_random_seed(start)``, and a new process is
    start 0; ``SeedCounter(fixed=k)`` is CNTK after ``cntk_py.set_fixed_random_seed(k)``.

    Raises ValueError for a seed that CNTK does not take.
    """

    def __init__(self, start: int = 0, fixed: int | None = None) -> None:
        self._next = checked_seed(start, "the first seed of SeedCounter")
        self._fixed = None if fixed is None else checked_seed(fixed, "the fixed seed")

    def next(self) -> int:
        if self._fixed is not None:
            return self._fixed
        seed = checked_seed(self._next, "the next seed of SeedCounter")
        self._next += 1
        return seed


def seeds_for(base_seed: int, count: int) -> list[int]:
    """base_seed + i for the i-th of ``count`` parameters in order of creation.

    Base 0 is the article's run, whose program gives no seed. Under CNTK the same seeds come from
    ``cntk_py.reset_random_seed(base_seed)`` before the networks are built.

    Raises ValueError where one of them is a seed that CNTK does not take.
    """
    if not _is_whole(count) or count < 0:
        raise ValueError(f"seeds for {count!r} parameters were asked for; ask for 0 or more")
    checked_seed(base_seed, "the base seed")
    return [checked_seed(base_seed + i, f"the seed of parameter {i}, from base seed {base_seed},")
            for i in range(count)]


def normal(standard_deviation: float, shape: Sequence[int], seed: int) -> np.ndarray:
    """``C.parameter(shape, init=C.normal(standard_deviation, seed=seed)).value`` on the CPU.

    Arguments:
        standard_deviation: of every value; rounded to float32 before it is used. Positive, finite.
        shape: whole numbers of at least 1.
        seed: 0 .. 2**64 - 2 except 2**64 - 3.

    Returns a new float32 array of ``shape`` in C order. Raises ValueError on any other argument.
    """
    return _drawn(standard_deviation, shape, seed, "normal")[0]


def draw_initial_weights(shapes: Shapes, seeds: Iterable[int],
                         standard_deviation: float = DEVIATION) -> dict[str, np.ndarray]:
    """normal(standard_deviation, shape, seed) of every parameter, on every core.

    Arguments:
        shapes: name to shape, in order of creation, for example ``spec.creation_order``.
        seeds: one for each, in the same order: ``seeds_for(base, len(shapes))`` or a SeedCounter.

    Returns name to float32 array, in the order of ``shapes``. The number of threads does not change
    it. Raises ValueError, before anything is drawn, where an argument is bad.
    """
    return {entry.name: weights
            for weights, entry in _draw_all(shapes, seeds, standard_deviation, hashed=False)}


def draw_with_ledger(shapes: Shapes, seeds: Iterable[int], standard_deviation: float = DEVIATION
                     ) -> tuple[dict[str, np.ndarray], list[LedgerEntry]]:
    """draw_initial_weights, and one LedgerEntry for each parameter in the same order."""
    done = _draw_all(shapes, seeds, standard_deviation, hashed=True)
    return {entry.name: weights for weights, entry in done}, [entry for _, entry in done]


def fill(sigma: float, count: int, twister: Mersenne64, library: ctypes.CDLL | None = None
         ) -> tuple[np.ndarray, int]:
    """The innermost step: float32(z[i] * sigma), i < count, and how many outputs it took.

    ``sigma`` is used as it is: CNTK's is double(float32(standard deviation)). The twister's
    stream goes on after them.
    """
    values = np.empty(count, dtype=np.float32)
    x, y = ziggurat_corners()
    drawn = (library or compiled_library()).normal_fill(
        twister.state, _pointer(x, ctypes.c_double), _pointer(y, ctypes.c_double), sigma,
        _pointer(values, ctypes.c_float), count)
    return values, drawn


@cache
def ziggurat_corners() -> tuple[np.ndarray, np.ndarray]:
    """The corners of 128 layers of equal area V under f(x) = exp(-x*x/2).

        x[1] = R, x[0] = V/f(R)               V = R*f(R) + (area under f beyond R)
        y[0] = 0, y[i+1] = y[i] + V/x[i]      f(x[i]) = y[i]
        x[128] = 0, y[128] = 1

    Two float64 arrays of 129. Computed in 60 digits and rounded once: each is the double that
    Boost's own table holds.
    """
    with localcontext() as context:
        context.prec = 60
        edge = Decimal(EDGE)
        height = (-edge * edge / 2).exp()
        tail = edge  # height / tail is the area beyond the edge: Laplace's continued fraction
        for k in range(400, 0, -1):
            tail = edge + k / tail
        area = edge * height + height / tail
        x, y = [area / height, edge], [Decimal(0), height]
        while len(x) < LAYERS:
            y.append(y[-1] + area / x[-1])
            x.append((-2 * y[-1].ln()).sqrt())
        return np.array([*map(float, x), 0.0]), np.array([*map(float, y), 1.0])


def checked_seed(seed: int, what: str) -> int:
    """``seed`` if CNTK's initialisers take it as it is; ValueError, naming ``what``, if not."""
    if not _is_whole(seed):
        raise ValueError(f"{what} is {seed!r}; a seed is a whole number, 0 .. 2**64 - 2")
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"{what} is {seed}, outside 0 .. 2**64 - 2, which is what CNTK takes; "
                         "give a seed in that range")
    if seed in (AUTOMATIC_SEED, CLOCK_SEED):
        source = "the next seed of its counter" if seed == AUTOMATIC_SEED else "the time of day"
        raise ValueError(f"{what} is {seed} (2**64 - {2**64 - int(seed)}), for which CNTK takes "
                         f"{source} instead; give another seed")
    return int(seed)


def _draw_all(shapes: Shapes, seeds: Iterable[int], standard_deviation: float, hashed: bool
              ) -> list[tuple[np.ndarray, LedgerEntry]]:
    _sigma(standard_deviation, "the initial weights")
    checked = {name: _checked_shape(shape, name) for name, shape in shapes.items()}
    parameters = [(name, shape, checked_seed(seed, f"the seed of {name}"))
                  for (name, shape), seed in zip(checked.items(), _one_each(shapes, seeds),
                                                 strict=True)]
    ziggurat_corners(), compiled_library()  # once, before there are threads

    def draw(parameter: tuple[str, Shape, int]) -> tuple[np.ndarray, LedgerEntry]:
        name, shape, seed = parameter
        weights, drawn = _drawn(standard_deviation, shape, seed, name)
        digest = hashlib.sha256(weights.data).hexdigest() if hashed else ""
        return weights, LedgerEntry(name, seed, shape, drawn, digest)

    # Largest first: one layer is half of all weights, and the other core does the rest meanwhile.
    order = sorted(range(len(parameters)), key=lambda i: -math.prod(parameters[i][1]))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        running = {i: threads.submit(draw, parameters[i]) for i in order}
        return [running[i].result() for i in range(len(parameters))]


def _one_each(shapes: Shapes, seeds: Iterable[int]) -> list[int]:
    if isinstance(seeds, SeedCounter):
        return [seeds.next() for _ in shapes]
    seeds = list(seeds)
    if len(seeds) != len(shapes):
        raise ValueError(f"{len(seeds)} seeds for {len(shapes)} parameters; give one for each, as "
                         "seeds_for(base, len(shapes)) does")
    return seeds


def _drawn(standard_deviation: float, shape: Sequence[int], seed: int, where: str
           ) -> tuple[np.ndarray, int]:
    sigma = _sigma(standard_deviation, where)
    shape = _checked_shape(shape, where)
    values, drawn = fill(sigma, math.prod(shape),
                         Mersenne64(checked_seed(seed, f"the seed of {where}")))
    return values.reshape(shape), drawn


def _sigma(standard_deviation: float, where: str) -> float:
    """double(float32(standard deviation)): CNTK hands it to its matrix as a float32."""
    with np.errstate(over="ignore", under="ignore"):
        sigma = float(np.float32(standard_deviation))
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(
            f"the standard deviation of {where} is {standard_deviation!r}; give a positive finite "
            "number that float32 can hold (the article's is 0.02). It is not a variance")
    return sigma


def _checked_shape(shape: Sequence[int], where: str) -> Shape:
    shape = tuple(shape)
    if not all(_is_whole(size) and size >= 1 for size in shape):
        raise ValueError(f"the shape of {where} is {shape}; every size must be a whole number of "
                         "at least 1")
    return tuple(int(size) for size in shape)


def _is_whole(number: object) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


def _pointer(array: np.ndarray, kind: type) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
