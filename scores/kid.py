"""Kernel Inception Distance: squared maximum mean discrepancy of two sets of features.

    k(a, b) = (a . b / D + 1)^3
    KID     = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)      x and x' different, y and y' too

Unbiased, unlike FID: of few pictures it scatters, but about the right value, so below 0 at times.
Binkowski et al., "Demystifying MMD GANs", 2018. As there, a mean over random subsets, whose
standard deviation is given beside it.
"""
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scores.errors import ScoreError

Floats = NDArray[np.float64]
Features = NDArray[np.floating]
SUBSETS, SUBSET_SIZE = 100, 1000  # of the paper's own program
KEPT = 10_000  # features that are kept for it, drawn evenly from all that come


def squared_discrepancy(x: Features, y: Features) -> float:
    """KID of two sets: n x D and m x D. Raises ScoreError: fewer than two, other widths, NaN."""
    f, g = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if f.ndim != 2 or g.ndim != 2 or f.shape[1] != g.shape[1] or min(len(f), len(g)) < 2:
        raise ScoreError(f"features have the shapes {f.shape} and {g.shape}: give at least two "
                         "pictures on either side, with the features of one classifier")
    if not (np.isfinite(f).all() and np.isfinite(g).all()):
        raise ScoreError("features hold NaN or infinity: look at the pictures and the weights")

    def kernel(a: Floats, b: Floats) -> Floats:
        return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)

    def own(a: Floats) -> float:
        k = kernel(a, a)
        return float((k.sum() - np.trace(k)) / (len(a) * (len(a) - 1)))

    return own(f) + own(g) - 2 * float(kernel(f, g).mean())


def kid(x: Features, y: Features, subsets: int = SUBSETS, size: int = SUBSET_SIZE,
        seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of KID over random subsets of both sides.

    size: pictures of each subset, at most as many as the smaller side has; ``RandomState(seed)``
    draws them, x's before y's, without replacement.
    """
    draws, size = np.random.RandomState(seed), min(size, len(x), len(y))
    found = []
    for _ in range(subsets):
        of_x = x[draws.choice(len(x), size, replace=False)]
        of_y = y[draws.choice(len(y), size, replace=False)]
        found.append(squared_discrepancy(of_x, of_y))
    return float(np.mean(found)), float(np.std(found))


class Reservoir:
    """At most ``kept`` rows of all that come, each with the same chance (Vitter's algorithm R)."""

    def __init__(self, kept: int = KEPT, seed: int = 0) -> None:
        self.kept, self.seen = kept, 0
        self._draws = np.random.RandomState(seed)
        self._rows: list[NDArray[np.floating]] = []

    def add(self, rows: NDArray[np.floating]) -> None:
        for row in rows:
            if len(self._rows) < self.kept:
                self._rows.append(row.copy())
            else:
                place = int(self._draws.randint(self.seen + 1))
                if place < self.kept:
                    self._rows[place] = row.copy()
            self.seen += 1

    def rows(self) -> NDArray[np.floating]:
        return np.array(self._rows)
