"""What an update has to move, from the gradient that made it: CNTK's Adam in float64. Python 3.6.

    t = N per sample * N samples          g <- clamp(g, -t, t)       the article's clipping
    v <- b2 v + (1 - b2) g g              b2 = 0.9999986111120757 ** N, rounded to float32
    m <- b1 m + u g                       u = 1 - b1 with unit gain, else 1
    w <- w - m bc / (sqrt(v) + 1e-8) * lr / N,   bc = sqrt(1 - b2 ** c) / (1 - b1 ** c), c updates

CNTK rounds b2, 1 - b2, bc and the rate to float32, which moves them by up to 0.6 % (1 - b2 at
N = 1); they are rounded here too, and nothing else is. So a port's own gradient says what its
update has to be to a few roundings, whatever bits the gradient has: what is done to a gradient
behind the backward pass shows.

Source: microsoft/CNTK, Source/Math/CPUMatrixImpl.h and Matrix.cpp; ``torch_port/adam.py`` has the
measurements.
"""
import math
from typing import Dict, Mapping, NamedTuple, Tuple

import numpy as np

from captures.article import LEARNING_RATE, MOMENTUM

VARIANCE_MOMENTUM, EPSILON = 0.9999986111120757, 1e-8
UNIT = 2.0 ** -24  # of float32: half the distance of 1 and the next number, over 1
SMALLEST = 2.0 ** -102  # of float32, normal, over 2**-24: below it, roundings are absolute
Floats = np.ndarray  # of float64


class Moments(NamedTuple):
    """A parameter and what Adam remembers of it."""

    weight: Floats
    m: Floats
    v: Floats


def parameter_of(name: str) -> str:
    """The parameter that a weight, its m or its v belongs to."""
    return name[:-2] if name.endswith(("_m", "_v")) else name


class Constants(NamedTuple):
    """What CNTK's Adam multiplies by in one update. rate: bc lr / N."""

    b1: float
    b2: float
    rest: float
    gain: float
    rate: float


class Update(NamedTuple):
    """after: the moments behind the update. terms: of what size the terms are that make each of
    them; a rounding is 2**-24 of that."""

    after: Moments
    terms: Moments


def update(before: Moments, gradient: Floats, count: int, samples: int, unit_gain: bool) -> Update:
    """One update. gradient: summed over ``samples``. count: updates so far, with this one."""
    before = Moments(*(np.asarray(one, np.float64) for one in before))
    one = constants(count, samples, unit_gain)
    limit = float(np.float32(samples * samples))
    g = np.clip(np.asarray(gradient, np.float64), -limit, limit)
    v = one.b2 * before.v + one.rest * g * g
    m = one.b1 * before.m + one.gain * g
    factor = one.rate / (np.sqrt(v) + EPSILON)
    w = before.weight - m * factor
    of_m = np.abs(one.b1 * before.m) + np.abs(one.gain * g)
    terms = Moments(np.abs(before.weight) + np.abs(w) + of_m * factor, of_m, v)
    return Update(Moments(w, m, v), terms)


def constants(count: int, samples: int, unit_gain: bool) -> Constants:
    """Of an update; the terms as in ``update``."""
    b2 = VARIANCE_MOMENTUM ** samples
    b1f, b2f = np.float32(MOMENTUM), np.float32(b2)
    bias = float(np.float32(math.sqrt(1 - b2 ** count) / (1 - MOMENTUM ** count)))
    return Constants(float(b1f), float(b2f), float(np.float32(1) - b2f),
                     float(np.float32(1) - b1f) if unit_gain else 1.0,
                     bias * float(np.float32(LEARNING_RATE / samples)))


def consistent(before: Moments, after: Moments, count: int, samples: int, unit_gain: bool
               ) -> Tuple[float, float]:
    """How far the weight and v behind an update are from what CNTK's Adam makes beside the m that
    the same update made, in roundings: the largest of all values. What the gradient was is not
    asked: m tells it.

        g = (m' - b1 m) / u         v' = b2 v + (1 - b2) g g         w' = w - m' bc rate / sqrt(v')
    """
    one = constants(count, samples, unit_gain)
    w, m, v = (np.asarray(each, np.float64) for each in before)
    new_w, new_m, new_v = (np.asarray(each, np.float64) for each in after)
    factor = one.rate / (np.sqrt(new_v) + EPSILON)
    of_w = _roundings(new_w - (w - new_m * factor),
                      np.abs(w) + np.abs(new_w) + np.abs(new_m) * factor)
    g = (new_m - one.b1 * m) / one.gain
    of_g = (np.abs(one.b1 * m) + np.abs(new_m)) / one.gain  # of what size g's own rounding is
    of_v = _roundings(new_v - (one.b2 * v + one.rest * g * g),
                      new_v + one.rest * (2 * np.abs(g) + UNIT * of_g) * of_g)
    return of_w, of_v


def _roundings(apart: Floats, terms: Floats) -> float:
    ratio = np.abs(apart) / (np.maximum(terms, SMALLEST) * UNIT)
    return float(np.max(ratio)) if ratio.size else 0.0


def each_consistent(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray],
                    samples: int, unit_gain: bool) -> Dict[str, float]:
    """``consistent`` of every parameter whose m and v both states hold: the names of weights and of
    their v to roundings."""
    made = {}
    for name in after:
        names = [name, name + "_m", name + "_v"]
        counter = name.partition("/")[0] + "/learner/minibatches"
        if counter not in after or not all(
                one in before and one in after and before[one].size == after[one].size
                for one in names):
            continue
        old, new = (Moments(*(np.ravel(held[one]) for one in names)) for held in (before, after))
        made[name], made[name + "_v"] = consistent(old, new, int(after[counter]), samples,
                                                   unit_gain)
    return made
