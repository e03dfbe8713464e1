"""What may be wrong with running statistics: which minibatches enter them, and by how much.

    r <- (1 - a) r + a s      for every pass in training mode, in its order
    a = 1 - exp(-N / T), or 1 for the very first minibatch; s: its mean, its unbiased variance

A hypothesis is a list of passes, a factor, a kind of variance. The factor is fitted.
"""
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from captures.movement import UNIT
from parity.diagnosis.arithmetic import Floats, moments
from parity.diagnosis.evidence import Found, float16, listed, nice, rms

PAGE = "docs/behaviours.md#batch-normalisation"
MEAN, VARIANCE = "running_mean", "running_variance"
QUANTITIES = (MEAN, VARIANCE)


@dataclass(frozen=True)
class Kept:
    """One layer's statistics. before, after: by quantity; after is the port's. passes: what went
    into the layer, by what it was ("real images", ...), in CNTK's order. samples: N. count: samples
    seen before."""

    before: Mapping[str, Floats]
    after: Mapping[str, Floats]
    passes: Mapping[str, Floats]
    samples: int
    time_constant: float
    count: int

    @property
    def factor(self) -> float:
        return -math.expm1(-self.samples / self.time_constant) if self.count else 1.0


@dataclass(frozen=True)
class Minibatch:
    """What goes into a normalisation. variance: the unbiased one. values: of each channel."""

    mean: Floats
    variance: Floats
    samples: int
    values: int

    @classmethod
    def of(cls, x: Floats) -> "Minibatch":
        mean, variance = moments(x)
        n = x.size // x.shape[1]
        return cls(mean, variance * (n / max(n - 1, 1)), len(x), n)

    def entering(self, quantity: str, biased: bool = False) -> Floats:
        if quantity == MEAN:
            return self.mean
        return self.variance * ((self.values - 1) / self.values if biased else 1)


def blended(r: Floats, entering: Sequence[Floats], factor: float) -> Floats:
    for s in entering:
        r = (1 - factor) * r + factor * s
    return r


def predicted(kept: Kept, quantity: str, names: Sequence[str], factor: float,
              biased: bool = False) -> Floats:
    made = []
    for name in names:
        x = np.concatenate(list(kept.passes.values())) if name == TOGETHER else kept.passes[name]
        made.append(Minibatch.of(x).entering(quantity, biased))
    return blended(kept.before[quantity], made, factor)


TOGETHER = "all in one minibatch"


def size(kept: Kept, quantity: str) -> Floats:
    """Of what a rounding is a part: the mean's is the deviation."""
    variance = np.abs(kept.before[VARIANCE])
    return np.sqrt(variance) + np.abs(kept.before[MEAN]) if quantity == MEAN else variance


def wrong(kept: Kept, quantity: str) -> bool:
    return not _near(kept, quantity, predicted(kept, quantity, list(kept.passes), kept.factor))


def _near(kept: Kept, quantity: str, wanted: Floats) -> bool:
    apart = np.abs(kept.after[quantity] - wanted)
    allowed = 16 * UNIT * (size(kept, quantity) + np.abs(wanted))
    return bool(np.all(apart <= allowed + 1e-30))


def sequences(kept: Kept) -> Iterator[tuple[str, str, str, list[str]]]:
    """Name, what, mend, the passes that enter."""
    names = list(kept.passes)
    yield "", "", "", names
    if len(names) == 2:
        a, b = names
        yield ("one-pass-not-counted", f"only {a} enter the running statistics", "let both passes "
               "update them: one layer for both", [a])
        yield ("one-pass-not-counted", f"only {b} enter the running statistics", "let both passes "
               "update them: one layer for both", [b])
        yield ("order-of-the-branches", f"{b} enter before {a}", f"run {a} first", [b, a])
        yield ("one-minibatch-for-both", "both branches enter as one minibatch",
               "call the network twice", [TOGETHER])
        for one in names:
            yield ("a-pass-too-many", f"{one} enter once more", "run each branch once",
                   [*names, one])
    else:
        yield ("a-pass-too-many", f"{names[0]} enter twice", "run the network once in this step, "
               "or in eval() the second time", names * 2)
    yield ("statistics-frozen", "the running statistics stand still in this step",
           "leave the network in train() mode in both steps", [])


def explained(kept: Kept) -> list[Found]:
    """What gives the port's statistics; a hypothesis holds for both quantities, or says for
    which. CNTK's factor first, with whatever passes; then other factors."""
    left = [quantity for quantity in QUANTITIES if wrong(kept, quantity)]
    made: list[Found] = []
    for fitted in (False, True):
        for sequence in sequences(kept):
            made += _tried(kept, left, sequence, fitted)
    for quantity in left:
        part = _part(kept, quantity)
        if part is not None:
            made.append(part)
    return made


def _tried(kept: Kept, left: list[str], sequence: tuple[str, str, str, list[str]], fitted: bool
           ) -> list[Found]:
    """One list of passes; takes out of ``left`` what it explains."""
    name, what, mend, names = sequence
    if not left or (fitted and not names):
        return []
    for factor in _factors(kept, names, left[0]) if fitted else [kept.factor]:
        for biased in (False, True):
            if not (name or fitted or biased):
                continue
            hold = [quantity for quantity in left if _near(
                kept, quantity, predicted(kept, quantity, names, factor, biased))]
            if not hold or (name and hold != left) or (biased and VARIANCE not in hold):
                continue
            left[:] = [quantity for quantity in left if quantity not in hold]
            return [*([Found(name, what, mend, PAGE)] if name else []),
                    *([_of_factor(factor, kept.factor, Minibatch.of(next(iter(
                        kept.passes.values()))), kept.time_constant, kept.count)]
                      if factor != kept.factor else []),
                    *([_biased()] if biased else [])]
    return []


def _biased() -> Found:
    return Found("biased-variance", "the biased variance, 1 / n, enters the running one",
                 "the unbiased one, as nn.BatchNorm2d keeps it", PAGE)


def _of_factor(factor: float, cntks: float, x: Minibatch, constant: float, count: int) -> Found:
    """count: the samples that came before."""
    n = x.samples
    known = {f"1 - exp(-N H W / {constant:g}), of the values, not of the samples":
             -math.expm1(-x.values / constant),
             f"N / {constant:g}, the first term of 1 - exp(-N / {constant:g})": n / constant,
             "that of 48 samples, which CNTK's exporter writes": 1 - 0.99044591,
             "that of 16 samples": -math.expm1(-16 / constant),
             "nn.BatchNorm2d's own": 0.1,
             "N / (N + samples so far), the mean of all minibatches": n / (n + count)}
    said = next((what for what, value in known.items()
                 if abs(value - factor) <= 1e-4 * factor), "")
    return Found("momentum", f"momentum is {nice(factor)}" + (f" ({said})" if said else "")
                 + f", CNTK's {cntks:.7g} = 1 - exp(-{n} / {constant:g})",
                 f"nn.BatchNorm2d(channels, momentum={-math.expm1(-n / constant):.7g}) for "
                 f"minibatches of {n}, or torch_port.translate.batch_norm.as_cntks(network, {n})",
                 PAGE)


def _factors(kept: Kept, names: Sequence[str], quantity: str) -> list[float]:
    """CNTK's, and the one that comes nearest to the port."""
    if not names:
        return []

    def miss(factor: float) -> float:
        return rms((kept.after[quantity] - predicted(kept, quantity, names, factor))
                   / (size(kept, quantity) + 1e-30))

    grid = np.geomspace(1e-6, 1, 121)
    misses = [miss(float(factor)) for factor in grid]
    at = int(np.argmin(misses))
    low, high = float(grid[max(0, at - 1)]), float(grid[min(len(grid) - 1, at + 1)])
    for _ in range(80):  # golden section
        a, b = low + 0.381966 * (high - low), low + 0.618034 * (high - low)
        low, high = (low, b) if miss(a) < miss(b) else (a, high)
    best = (low + high) / 2
    rounded = float(nice(best))
    return [*([rounded] if miss(rounded) <= 2 * miss(best) else []), best]


def _part(kept: Kept, quantity: str) -> Found | None:
    """In some channels, or in another precision."""
    right = predicted(kept, quantity, list(kept.passes), kept.factor)
    port, before = kept.after[quantity], kept.before[quantity]
    unit = 16 * UNIT * (size(kept, quantity) + np.abs(right))
    if np.array_equal(float16(port), port) and np.any(port):
        return Found("coarse-statistics", f"the {quantity.replace('_', ' ')} is kept in float16",
                     "keep it in float32", PAGE)
    bad = np.abs(port - right) > unit
    if bad.any() and not bad.all() and np.array_equal(port[bad], before[bad]):
        return Found("channels-stand", f"{listed('channel', np.nonzero(bad)[0])} of the "
                     f"{quantity.replace('_', ' ')} stand still", "update all channels", PAGE)
    return None


# ---------------------------------------------------------------------- from the first minibatch on


def from_the_first(batches: Sequence[Minibatch], after: Sequence[Mapping[str, Floats]],
                   time_constant: float) -> list[Found]:
    """A fresh layer: after[i], its statistics behind minibatch i. Each rule that is another is
    found by itself: the first update, the factor later, the variance, the count."""
    made: list[Found] = []
    x, n = batches[0], batches[0].samples
    biased = _is_biased(batches, after)
    first = {quantity: x.entering(quantity, biased) for quantity in QUANTITIES}
    copied = all(_close(after[0][quantity], first[quantity], first) for quantity in QUANTITIES)
    if not copied:
        for at in ((0.0, 0.0), (0.0, 1.0)):
            factor = _blend(after[0], first, at)
            if factor is not None:
                made.append(Found(
                    "first-update", f"the first minibatch is blended into {at[0]:g} and {at[1]:g} "
                    f"by {nice(factor)}; CNTK copies it", "torch_port.translate.batch_norm."
                    f"as_cntks(network, {n}), or FirstCopied in place of nn.BatchNorm2d", PAGE))
                break
    if len(after) > 1:
        fitted = _later_factor(batches[1], after[0], after[1], biased)
        if fitted is not None:
            later, within = fitted
            wanted = -math.expm1(-batches[1].samples / time_constant)
            if abs(later - wanted) > within:
                made.append(_of_factor(later, wanted, batches[1], time_constant, n))
    if biased:
        made.append(_biased())
    counts = [float(np.ravel(one["sample_count"])[0]) for one in after if "sample_count" in one]
    if counts and counts[0] != n:
        said = "counts values, N H W" if counts[0] == x.values else \
            f"is {counts[0]:g} behind {n} samples"
        made.append(Found("sample-count", f"the count {said}; CNTK counts samples",
                          "sample_count += len(x)", PAGE))
    return made


def _close(port: Floats, wanted: Floats, first: Mapping[str, Floats]) -> bool:
    spread = np.sqrt(np.abs(first[VARIANCE]))
    return bool(np.all(np.abs(port - wanted) <= 64 * UNIT * (np.abs(wanted) + spread)))


def _is_biased(batches: Sequence[Minibatch], after: Sequence[Mapping[str, Floats]]) -> bool:
    """From the ratio of what entered the variance to what entered the mean."""
    x, n = batches[0], batches[0].values
    got, unbiased = after[0][VARIANCE], x.variance
    means = np.dot(after[0][MEAN], x.mean) / np.square(x.mean).sum()
    for start in (0.0, 1.0):
        entered = float(np.median((got - (1 - means) * start) / unbiased))
        if abs(entered / means - (n - 1) / n) < 0.05 / n:
            return True
    return False


def _blend(after: Mapping[str, Floats], first: Mapping[str, Floats], start: tuple[float, float]
           ) -> float | None:
    """The one factor by which both quantities were blended into the start's."""
    factors = []
    for quantity, at in zip(QUANTITIES, start, strict=True):
        moved, whole = after[quantity] - at, first[quantity] - at
        of = float(np.square(whole).sum())
        by = float((moved * whole).sum()) / of if of else 0.0
        if rms(moved - by * whole) > 1e-5 * rms(whole) * abs(by) + 4 * UNIT * (
                at + rms(after[quantity])):
            return None
        factors.append(by)
    return factors[0] if factors[0] > 0 and abs(factors[0] - factors[1]) < 1e-3 * factors[0] \
        else None


def _later_factor(x: Minibatch, before: Mapping[str, Floats], after: Mapping[str, Floats],
                  biased: bool) -> tuple[float, float] | None:
    """The factor of a later minibatch, and how exactly float32 says it."""
    factors = []
    for quantity in QUANTITIES:
        s = x.entering(quantity, biased)
        towards, moved = s - before[quantity], after[quantity] - before[quantity]
        of = float(np.square(towards).sum())
        by = float((moved * towards).sum()) / of if of else 0.0
        if rms(moved - by * towards) > 1e-4 * rms(moved) + 8 * UNIT * rms(before[quantity]):
            return None
        rounding = 8 * UNIT * (rms(before[quantity]) + rms(moved)) / (rms(towards) or 1.0)
        factors.append((rounding, by))
    rounding, by = min(factors)
    return by, rounding + 2e-5 * by
