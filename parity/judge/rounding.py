"""A verdict that knows rounding from a mistake.

Given are a port's array, the float64 oracle's on the same inputs, and E, value by value the size
that the rounding of a correct float32 program has, in whatever order it adds up (the oracle's
capture holds it: ``torch_port/capture/expected_rounding.py`` has the formulas). Two questions:

size      Rounding is as large as E explains, in every channel, sample, row and column, and in every
          single value. One filter in float16 is one channel that is not.
pattern   Rounding is noise. Over thousands of values noise averages out and a mistake does not, so
          that a channel's difference is fitted by s * o + b, o the oracle's values: a scale (an
          epsilon, a variance) or an offset (a bias) fails where it is larger than rounding makes
          one AND stands out of the noise. Neither alone: a correct port has offsets of small size
          whose t is 9, since rounding is a little biased, and scales of 1e-6 where a channel has
          64 values.

Where CNTK itself is farther from float64 than E says, a port may be twice as far as CNTK: a
variance summed in float32 scales a whole channel, and E of random signs does not know that CNTK
rounds to one side. In evaluation mode nothing does that.
"""
import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from parity.judge.policies import (
    CHANCE,
    COARSE,
    FAMILY,
    OUTLIER,
    PATTERN,
    PATTERN_NOISE,
    PATTERN_SHARE,
    ROUNDING,
)

Floats = NDArray[np.float64]


class Verdict(StrEnum):
    """What a port's array is, beside CNTK's."""

    SAME_BITS = "same bits"
    ROUNDING = "same formula, rounding only"
    COARSER = "same formula, coarser than float32"
    ANOTHER = "another formula"


@dataclass(frozen=True)
class Finding:
    """margin: the worst group, pattern or value, as a part of what passes. where: which;
    what: of what kind, "size", "scale", "offset" or "value". measured: there, in the kind's unit.
    """

    verdict: Verdict
    margin: float
    what: str = ""
    where: str = ""
    measured: float = 0.0

    @property
    def detail(self) -> str:
        said = {
            "size": f"rounding in {self.where} is {self.measured:.3g} times what adding up in "
                    "float32 explains",
            "value": f"one value, at {self.where}, is {self.measured:.3g} times as far from "
                     "float64 as rounding is expected to be",
            "scale": f"{self.where} is scaled by 1 {self.measured:+.3g}",
            "offset": f"{self.where} is shifted by {self.measured:.3g} of its size",
        }
        return f"{self.verdict}: {said.get(self.what, self.where)}"


AXES = {4: ("sample", "channel", "row", "column"), 2: ("sample", "value"), 1: ("value",), 0: ()}
WEIGHT_AXES = ("filter", "input channel", "tap row", "tap column")


def examined(port: NDArray[np.floating], cntk: NDArray[np.floating], oracle: NDArray[np.floating],
             expected: NDArray[np.floating], weights: bool = False) -> Finding:
    """The verdict on an array that has not CNTK's bits. All of one shape; weights: it is a weight's
    gradient, whose first axis is its filters."""
    truth = np.asarray(oracle, np.float64)
    error, size = np.asarray(port, np.float64) - truth, np.asarray(expected, np.float64)
    own = np.asarray(cntk, np.float64) - truth
    if not np.isfinite(error).all():
        return Finding(Verdict.ANOTHER, math.inf, "", "it holds NaN or infinity")
    axes = WEIGHT_AXES if weights and truth.ndim == 4 else AXES.get(truth.ndim, ())
    channel = axes.index("filter") if weights and axes else 1 if truth.ndim == 4 else None
    family = _family(own, size, channel)
    found = [_sizes(error, size, family, axes), _outlier(error, size, family)]
    patterns = Patterns.of(error, truth, size, channel)
    if patterns is not None:
        reference = Patterns.of(own, truth, size, channel)
        assert reference is not None
        found += patterns.findings(family, reference, axes[channel] if channel is not None else "")
    worst = max(found, key=lambda finding: finding.margin)
    if worst.margin <= 1:
        return replace(worst, verdict=Verdict.ROUNDING)
    return replace(worst, verdict=_which(worst, error, truth, patterns))


def _which(worst: Finding, error: Floats, truth: Floats, patterns: "Patterns | None") -> Verdict:
    """Coarser: noise, of a size that half precision or bfloat16 has. Anything else is a formula."""
    if worst.what in ("scale", "offset"):
        return Verdict.ANOTHER
    total, whole = float(np.sum(error ** 2)), float(np.sum(truth ** 2))
    coarse = total <= COARSE.value ** 2 * whole
    share = patterns.explained(error, truth) if patterns is not None else 0.0
    border = worst.where.startswith(("row", "column", "tap", "sample"))
    return Verdict.COARSER if coarse and share < PATTERN_SHARE.value and not border \
        else Verdict.ANOTHER


# ------------------------------------------------------------------------------------------- size


def _over(values: Floats, axis: int | None) -> Floats:
    """Sums over all axes but one."""
    if axis is None:
        return np.asarray([values.sum()])
    return np.asarray(values.sum(tuple(i for i in range(values.ndim) if i != axis)))


def _family(own: Floats, size: Floats, channel: int | None) -> float:
    """How many E a port may be off by because CNTK is: 1, or twice CNTK's own in the channel in
    which it is farthest."""
    ratio = np.sqrt(_ratio(_over(own ** 2, channel), _over(size ** 2, channel)))
    return max(1.0, FAMILY.value * float(ratio.max(initial=0.0)))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole; 0 / 0 is 0."""
    with np.errstate(all="ignore"):
        return np.where(part == 0, 0.0, np.where(whole == 0, np.inf, part / whole))


@cache
def few(count: int, groups: int, chance: float) -> float:
    """How far beyond its expectation the root mean square of so many values may be, in the worst of
    so many groups: the root of chi-squared's quantile over its degrees of freedom."""
    return math.sqrt(float(stats.chi2.isf(chance / max(groups, 1), count)) / count)


def _sizes(error: Floats, size: Floats, family: float, axes: tuple[str, ...]) -> Finding:
    """Every slice along every axis, and the whole."""
    worst = Finding(Verdict.ROUNDING, 0.0)
    squares = error ** 2
    for axis, name in [(None, "all of it"), *enumerate(axes)]:
        ratio = np.sqrt(_ratio(_over(squares, axis), _over(size ** 2, axis)))
        if not ratio.size:
            continue
        allowed = ROUNDING.value * family * few(
            max(1, error.size // len(ratio)), len(ratio), CHANCE.value)
        at = int(np.argmax(ratio))
        if ratio[at] / allowed > worst.margin:
            where = name if axis is None else f"{name} {at}"
            worst = Finding(Verdict.ROUNDING, float(ratio[at] / allowed), "size", where,
                            float(ratio[at]))
    return worst


def _outlier(error: Floats, size: Floats, family: float) -> Finding:
    """The value that is farthest off, in its own E."""
    if not error.size:
        return Finding(Verdict.ROUNDING, 0.0)
    ratio = _ratio(np.abs(error), size).ravel()
    at = int(np.argmax(ratio))
    place = [int(i) for i in np.unravel_index(at, error.shape)]
    return Finding(Verdict.ROUNDING, float(ratio[at]) / (OUTLIER.value * family), "value",
                   str(place), float(ratio[at]))


# ---------------------------------------------------------------------------------------- pattern


@dataclass(frozen=True)
class Patterns:
    """error = scale * truth + offset of each channel: what is fitted, and how sure it is.

    offset: as a part of the channel's root mean square. noise: standard errors of both. floor: what
    E alone, all to one side, would be."""

    scale: Floats
    offset: Floats
    scale_noise: Floats
    offset_noise: Floats
    floor: Floats
    fitted: Floats  # the sum of squares that the fit explains, of each channel

    @classmethod
    def of(cls, error: Floats, truth: Floats, size: Floats, channel: int | None
           ) -> "Patterns | None":
        """None where a channel has too few values to tell a pattern from noise."""
        n = error.size // (error.shape[channel] if channel is not None else 1)
        if n < 8:
            return None
        one, two = _over(truth, channel) / n, _over(truth ** 2, channel) / n
        mean, cross = _over(error, channel) / n, _over(error * truth, channel) / n
        squares = _over(error ** 2, channel) / n
        spread = np.maximum(two - one ** 2, 0.0)
        usable = spread > 1e-12 * two  # a channel of one value has no scale
        spread = np.where(usable, spread, 1.0)
        scale = np.where(usable, (cross - mean * one) / spread, 0.0)
        offset = mean - scale * one
        fitted = scale ** 2 * np.where(usable, spread, 0.0) + mean ** 2
        left = np.maximum(squares - fitted, 0.0) * n / (n - 2)
        rms = np.sqrt(two)
        safe = np.where(rms > 0, rms, 1.0)
        of_scale = np.sqrt(left / (n * spread))
        of_offset = np.sqrt(left / n * (1 + one ** 2 / spread)) / safe
        floor = np.sqrt(_over(size ** 2, channel) / n)
        return cls(scale, offset / safe, of_scale, of_offset,
                   np.where(usable, floor / np.sqrt(spread), np.inf), fitted * n)

    def findings(self, family: float, reference: "Patterns", name: str) -> list[Finding]:
        """The channel whose scale stands out most, and that whose offset does."""
        made = []
        for what, value, noise, own in (
                ("scale", self.scale, self.scale_noise, reference.scale),
                ("offset", self.offset, self.offset_noise, reference.offset)):
            floor = np.maximum(PATTERN.value, np.maximum(
                self.floor * family, FAMILY.value * np.max(np.abs(own), initial=0.0)))
            beyond = np.minimum(_ratio(np.abs(value), floor),
                                _ratio(np.abs(value), PATTERN_NOISE.value * noise))
            at = int(np.argmax(beyond))
            where = f"{name} {at}" if name else "it"
            made.append(Finding(Verdict.ROUNDING, float(beyond[at]), what, where,
                                float(value[at])))
        return made

    def explained(self, error: Floats, truth: Floats) -> float:
        """Which part of the difference is scales and offsets of channels, or depends on the value:
        on its magnitude, as a wrong slope does."""
        total = float(np.sum(error ** 2))
        if not total:
            return 0.0
        terms = np.stack([truth.ravel(), np.abs(truth).ravel(), np.ones(truth.size)])
        gram, right = terms @ terms.T, terms @ error.ravel()
        solved = np.linalg.lstsq(gram, right, rcond=None)[0]
        return max(float(self.fitted.sum()), float(solved @ right)) / total
