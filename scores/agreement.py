"""Two runs that are only statistically alike: equivalent, different, or cannot be told.

Each side is a set of runs, each run a score of as many pictures. With a, b the logarithms of the
scores, d = mean b - mean a, and s its standard error after Welch (unequal variances, df degrees of
freedom):

    equivalent   d - t(0.95) s > -m  and  d + t(0.95) s < m       two one-sided tests at 5 %
    different    not that, and |d| > t(0.975) s                   one two-sided test at 5 %
    cannot tell  neither

m, the margin, is what the reader is willing to call the same: log 1.05 for 5 %. Of pairs that are m
apart, at most 5 in 100 are called equivalent; of pairs that are the same, at most 5 in 100 are
called different. "Not significantly different" is none of these: few pictures make everything so.

    visible = (t(0.975) + t(0.8)) s

is the difference that would have been called different 4 times out of 5. Where it is larger than
the margin, "cannot tell" was the likely answer from the start.

Schuirmann, "A comparison of the two one-sided tests procedure and the power approach", 1987; Welch,
"The generalization of Student's problem", 1947.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from scores.errors import ScoreError
from scores.inception_score import distributions, divergences, score

Floats = NDArray[np.float64]

EQUIVALENT, DIFFERENT, CANNOT_TELL = "equivalent", "different", "cannot tell"
ALPHA = 0.05
POWER = 0.8
MARGIN = 0.05  # published scores of the same pictures by two programs differ by about as much


@dataclass(frozen=True)
class Agreement:
    """Everything as a part of the score: 0.05 is 5 %.

    difference: of the second side from the first. low, high: its 90 % interval, which equivalence
    is read from. visible: the smallest difference that would have been seen, 4 times out of 5.
    runs: of each side; 0 where one run a side was judged by its pictures.
    """

    verdict: str
    difference: float
    low: float
    high: float
    margin: float
    visible: float
    runs: tuple[int, int]
    pictures: int

    def __str__(self) -> str:
        units = (f"{self.runs[0]} and {self.runs[1]} runs of {self.pictures:,} pictures"
                 if self.runs[0] else f"one run each of {self.pictures:,} pictures, whose scatter "
                 "over seeds is not known")
        said = (f"{self.verdict}: {self.difference:+.2%} (90 % interval {self.low:+.2%} to "
                f"{self.high:+.2%}), margin {self.margin:.2%}; from {units}")
        if self.verdict == CANNOT_TELL:
            return said + (f"; with this many a difference of {self.visible:.2%} would have been "
                           "seen, so more of them are needed")
        return said + f"; smallest difference that this many could have seen: {self.visible:.2%}"


def of_runs(a: Sequence[float], b: Sequence[float], pictures: int,
            margin: float = MARGIN) -> Agreement:
    """a, b: the score of each run of either side, each of ``pictures`` pictures.

    Raises ScoreError: fewer than two runs on a side, a score below 1, a margin that is none.
    """
    _check_margin(margin)
    if min(len(a), len(b)) < 2:
        raise ScoreError(f"{len(a)} and {len(b)} runs: how far runs scatter is not seen from one. "
                         "Give at least two runs, of other seeds, on either side")
    x, y = (np.asarray(side, np.float64) for side in (a, b))
    for side in (x, y):
        if not np.isfinite(side).all() or side.min() < 1:
            raise ScoreError(f"the scores are {[float(v) for v in side]}: a score is at least 1")
    if any(side.max() - side.min() == 0 for side in (x, y)):
        raise ScoreError(f"all runs of a side have one score ({[float(v) for v in x]} and "
                         f"{[float(v) for v in y]}), so how far runs scatter is not seen: give "
                         "runs of other seeds, each once, and generators that make pictures")
    x, y = np.log(x), np.log(y)
    parts = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    error = math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(part ** 2 / (n - 1) for part, n in
                                    zip(parts, (len(x), len(y)), strict=True)) if error else 1e9
    return _judged(float(y.mean() - x.mean()), error, freedom, margin, (len(x), len(y)), pictures)


def of_pictures(p: Floats, q: Floats, margin: float = MARGIN) -> Agreement:
    """One run on either side, judged by its pictures: p, q are N x K rows p(y|x).

    The standard error of log IS is that of a mean of N influences, KL(p(y|x) || p(y)) of each
    picture (the derivative of log IS by a picture's weight). It knows nothing of how runs of other
    seeds scatter, so "different" means these two sets of pictures, not their programs.

    Raises ScoreError: as ``distributions``; sets of different sizes, whose scores have different
    bias; fewer than 20 pictures.
    """
    _check_margin(margin)
    p, q = distributions(p)[0], distributions(q)[0]
    if len(p) != len(q):
        raise ScoreError(f"{len(p)} and {len(q)} pictures: few pictures score lower than many. "
                         "Give as many on either side")
    if len(p) < 20:
        raise ScoreError(f"{len(p)} pictures: give at least 20 on either side")
    error = math.sqrt(sum(divergences(rows).var(ddof=1) / len(rows) for rows in (p, q)))
    return _judged(math.log(score(q)) - math.log(score(p)), error, 2.0 * len(p) - 2, margin,
                   (0, 0), len(p))


def _check_margin(margin: float) -> None:
    if not 0 < margin < 1:
        raise ScoreError(f"the margin is {margin}: give a part of the score, 0.05 for 5 %")


def _judged(difference: float, error: float, freedom: float, margin: float, runs: tuple[int, int],
            pictures: int) -> Agreement:
    def t(probability: float) -> float:
        return float(stats.t.ppf(probability, freedom))

    half, wide, room = t(1 - ALPHA) * error, t(1 - ALPHA / 2) * error, math.log1p(margin)
    if -room < difference - half and difference + half < room:
        verdict = EQUIVALENT
    else:
        verdict = DIFFERENT if abs(difference) > wide else CANNOT_TELL
    return Agreement(verdict, math.expm1(difference), math.expm1(difference - half),
                     math.expm1(difference + half), margin,
                     math.expm1((t(1 - ALPHA / 2) + t(POWER)) * error), runs, pictures)


# --------------------------------------------------------------------------------- simulation


@dataclass(frozen=True)
class Population:
    """A generator that is only its modes: a picture is of one of ``modes`` kinds, a kind is p(y|x)
    over as many classes, sure by ``sureness``; each run's shares of the kinds scatter by
    ``scatter``, as trainings from other seeds do."""

    modes: int = 10
    classes: int = 20
    sureness: float = 4.0
    scatter: float = 0.3

    def run(self, pictures: int, draws: np.random.RandomState) -> float:
        """The score of one run."""
        shares = np.exp(self.scatter * draws.normal(size=self.modes))
        kinds = draws.choice(self.modes, pictures, p=shares / shares.sum())
        logits = self.sureness * np.eye(self.classes)[kinds] + draws.normal(
            size=(pictures, self.classes))
        e = np.exp(logits)
        return score(e / e.sum(1, keepdims=True))


def rates(first: Population, second: Population, pairs: int, runs: int, pictures: int,
          margin: float = MARGIN, seed: int = 0,
          told: Callable[[int], None] = lambda n: None) -> dict[str, float]:
    """Verdict to its share over simulated pairs of sets of runs."""
    draws, found = np.random.RandomState(seed), dict.fromkeys(
        (EQUIVALENT, DIFFERENT, CANNOT_TELL), 0)
    for _ in range(pairs):
        a, b = ([side.run(pictures, draws) for _ in range(runs)] for side in (first, second))
        found[of_runs(a, b, pictures, margin).verdict] += 1
        told(1)
    return {verdict: count / pairs for verdict, count in found.items()}


def true_difference(first: Population, second: Population, runs: int, pictures: int,
                    seed: int = 1) -> float:
    """|mean log score of the second - of the first|, from so many runs of each, as a part."""
    draws = np.random.RandomState(seed)
    means = [np.mean([math.log(side.run(pictures, draws)) for _ in range(runs)])
             for side in (first, second)]
    return math.expm1(abs(means[1] - means[0]))


def error_rates(pairs: int = 200, runs: int = 6, pictures: int = 200, seed: int = 0,
                told: Callable[[int], None] = lambda n: None) -> dict[str, float]:
    """The two rates that are stated to be 5 % or less, measured on simulated pairs.

    "same, called different": two sets from one population.
    "a margin apart, called equivalent": two populations, the margin being their true difference.
    """
    usual, fewer = Population(), Population(modes=9)
    apart = true_difference(usual, fewer, 400, pictures)
    same = rates(usual, usual, pairs, runs, pictures, seed=seed, told=told)
    edge = rates(usual, fewer, pairs, runs, pictures, margin=apart, seed=seed + 1, told=told)
    return {"same, called different": same[DIFFERENT],
            "a margin apart, called equivalent": edge[EQUIVALENT]}
