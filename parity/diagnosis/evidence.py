"""What a hypothesis is, and when it explains what a port gave.

A family of hypotheses is a function that yields ``Hypothesis`` after ``Hypothesis``, the simplest
first, each with the array that the port would have given if it were so. The first that gives the
port's numbers, to rounding, is the diagnosis. Hypotheses have no numbers of their own: what they
need (an epsilon, a slope, a factor) is fitted to the port's array, and the fit has to hold for
every value of it, with one number for thousands.
"""
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from captures.errors import CaptureError, DamageError
from captures.format import Capture
from captures.movement import UNIT
from parity.diagnosis.arithmetic import Floats, wide

ROUNDINGS = 12.0  # how many times what CNTK itself is off by; and how many units of the size
SHARE = 0.1  # of the difference may be left
VALUES = 8  # for each number that is fitted


@dataclass(frozen=True)
class Hypothesis:
    """name: of the mistake. what: a sentence. mend: what to change. page: of the docs. predicted:
    what the port would have given. group: values that a fit may not use to explain more."""

    name: str
    what: str
    mend: str
    predicted: Floats
    page: str = ""


@dataclass(frozen=True)
class Found:
    """A hypothesis that holds. left: the part of the difference that it does not explain."""

    name: str
    what: str
    mend: str
    page: str = ""
    left: float = 0.0


Family = Callable[[], Iterable[Hypothesis]]


def read(capture: Capture, name: str) -> Floats | None:
    """An array in float64; None where there is none; NaN where it holds some, which a capture does
    not show. Raises DamageError."""
    if name not in capture:
        return None
    try:
        return wide(capture[name])
    except DamageError:
        raise
    except CaptureError:
        return np.full(capture.shape(name), np.nan)


def rms(x: NDArray[np.floating]) -> float:
    x = np.asarray(x, np.float64)
    return float(np.sqrt(np.mean(np.square(x)))) if x.size else 0.0


@dataclass(frozen=True)
class Case:
    """port: what it gave. right: what CNTK's formula gives on the same inputs, in float64. own: the
    size of CNTK's own rounding there, root mean square; 0 where it is not known."""

    port: Floats
    right: Floats
    own: float = 0.0

    @property
    def apart(self) -> float:
        return rms(self.port - self.right) if self.port.shape == self.right.shape else np.inf

    @property
    def rounding(self) -> float:
        """What may be left by rounding alone."""
        return max(ROUNDINGS * self.own, 4 * UNIT * rms(self.right))

    @property
    def wrong(self) -> bool:
        """Whether there is anything to explain."""
        if self.port.shape != self.right.shape or not np.isfinite(self.port).all():
            return True
        return self.apart > self.rounding

    def left(self, predicted: Floats) -> float:
        """What a prediction leaves, in parts of the difference."""
        if predicted.shape != self.port.shape or not np.isfinite(predicted).all():
            return np.inf
        return rms(self.port - predicted) / min(self.apart or 1.0, 1e30)

    def explained(self, predicted: Floats) -> bool:
        left = self.left(predicted)
        return left < SHARE and left * min(self.apart, 1e30) <= max(
            self.rounding, 4 * UNIT * rms(predicted))


def first(case: Case, families: Iterable[Family]) -> Found | None:
    """The first hypothesis of the families that gives the port's numbers."""
    for family in families:
        for one in family():
            if case.explained(one.predicted):
                return found(one, case.left(one.predicted))
    return None


def found(one: Hypothesis, left: float) -> Found:
    return Found(one.name, one.what, one.mend, one.page, float(left))


def mixed(case: Case, one: Hypothesis, axis: int, what: str) -> Hypothesis | None:
    """The hypothesis in some channels (axis 1) or samples (axis 0) alone, the others being right;
    None where all or none are. what: "channel"."""
    if one.predicted.shape != case.port.shape or case.port.size < VALUES * case.port.shape[axis]:
        return None
    others = tuple(i for i in range(case.port.ndim) if i != axis)
    with np.errstate(all="ignore"):
        of_it, of_right = (np.square(case.port - wanted).sum(others)
                           for wanted in (one.predicted, case.right))
    its = of_it < of_right * SHARE
    if not its.any() or its.all():
        return None
    shape = [1] * case.port.ndim
    shape[axis] = -1
    which = listed(what, np.nonzero(its)[0])
    return replace(one, what=f"{one.what}, in {which} alone",
                   predicted=np.where(its.reshape(shape), one.predicted, case.right))


def listed(what: str, numbers: Iterable[int], most: int = 6) -> str:
    """``channels 1, 4 and 9``; counted from 0."""
    given = [int(number) for number in numbers]
    if not given:
        return f"no {what}"
    if len(given) == 1:
        return f"{what} {given[0]}"
    if len(given) > most:
        return f"{len(given)} {what}s"
    return f"{what}s {', '.join(map(str, given[:-1]))} and {given[-1]}"


def nice(value: float, digits: int = 6) -> str:
    """A fitted number as a person would have typed it: few digits where those are near enough."""
    for few in range(1, digits):
        text = f"{value:.{few}g}"
        if abs(float(text) - value) <= 2e-4 * abs(value):
            return text
    return f"{value:.{digits}g}"


def float16(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return wide(np.asarray(x, np.float32).astype(np.float16))


def fewer_bits(x: Floats, dropped: int) -> Floats:
    """float32 with the last ``dropped`` bits of its mantissa rounded away, to even."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    half = np.uint64((1 << (dropped - 1)) - 1)
    bits = bits + half + ((bits >> np.uint64(dropped)) & np.uint64(1))
    kept = (bits >> np.uint64(dropped)) << np.uint64(dropped)
    return wide(kept.astype(np.uint32).view(np.float32).reshape(np.shape(x)))


def bfloat16(x: Floats) -> Floats:
    return fewer_bits(x, 16)


def tf32(x: Floats) -> Floats:
    return fewer_bits(x, 13)


PRECISIONS: dict[str, Callable[[Floats], Floats]] = {
    "float16": float16, "bfloat16": bfloat16, "TF32": tf32}
