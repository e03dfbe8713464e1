"""What an update has to move, from the gradient that made it: CNTK's Adam in float64.

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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.article import LEARNING_RATE, MOMENTUM

VARIANCE_MOMENTUM, EPSILON = 0.9999986111120757, 1e-8
Floats = NDArray[np.float64]


class Moments(NamedTuple):
    """A parameter and what Adam remembers of it."""

    weight: Floats
    m: Floats
    v: Floats


class Update(NamedTuple):
    """after: the moments behind the update. terms: of what size the terms are that make each of
    them; a rounding is 2**-24 of that."""

    after: Moments
    terms: Moments


def update(before: Moments, gradient: Floats, count: int, samples: int, unit_gain: bool) -> Update:
    """One update. gradient: summed over ``samples``. count: updates so far, with this one."""
    before = Moments(*(np.asarray(one, np.float64) for one in before))
    limit = float(np.float32(samples * samples))
    g = np.clip(np.asarray(gradient, np.float64), -limit, limit)
    b2 = VARIANCE_MOMENTUM ** samples
    b1f, b2f = np.float32(MOMENTUM), np.float32(b2)
    rest = float(np.float32(1) - b2f)
    gain = float(np.float32(1) - b1f) if unit_gain else 1.0
    bias = float(np.float32(math.sqrt(1 - b2 ** count) / (1 - MOMENTUM ** count)))
    rate = float(np.float32(LEARNING_RATE / samples))
    v = float(b2f) * before.v + rest * g * g
    m = float(b1f) * before.m + gain * g
    factor = bias * rate / (np.sqrt(v) + EPSILON)
    w = before.weight - m * factor
    of_m = np.abs(float(b1f) * before.m) + np.abs(gain * g)
    terms = Moments(np.abs(before.weight) + np.abs(w) + of_m * factor, of_m, v)
    return Update(Moments(w, m, v), terms)
