"""Figures about two arrays of one shape. One metric, one pure function, in float64.

``value`` is what is judged, ``reference`` what it is judged against. ULP is the unit in the last
place of float32, 2**-23 of a value between 1 and 2. Near 0 a relative error says nothing about a
layer (a sum that cancels), so relative errors are taken to the value or to the layer's root mean
square, whichever is larger.
"""
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def rms(array: Array) -> float:
    """sqrt(mean(x**2)); 0 of no values."""
    flat = np.ravel(array).astype(np.float64, copy=False)
    return math.sqrt(float(np.dot(flat, flat)) / flat.size) if flat.size else 0.0


def error(value: Array, reference: Array) -> float:
    """rms(value - reference) / rms(reference): a part of the layer's own size. 0/0 is 0."""
    return _divided(rms(_difference(value, reference)), rms(reference))


def largest_absolute(value: Array, reference: Array) -> float:
    """max |value - reference|."""
    apart = np.abs(_difference(value, reference))
    return float(apart.max()) if apart.size else 0.0


def largest_relative(value: Array, reference: Array) -> float:
    """max |value - reference| / max(|reference|, rms(reference))."""
    if not np.size(value):
        return 0.0
    apart = np.abs(_difference(value, reference))
    scale = np.maximum(np.abs(np.asarray(reference, np.float64)), rms(reference))
    return float(np.max(np.where(apart == 0, 0.0, apart / np.where(scale == 0, 1.0, scale))))


def ulp(value: Array, reference: Array) -> float:
    """max |value - reference| in float32's units in the last place of max(|reference|, rms)."""
    if not np.size(value):
        return 0.0
    apart = np.abs(_difference(value, reference))
    scale = np.maximum(np.abs(np.asarray(reference, np.float64)), rms(reference))
    return float(np.max(apart / unit_in_the_last_place(scale)))


def unit_in_the_last_place(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """2**(e - 24) of m * 2**e, 0.5 <= m < 1: float32's spacing there; subnormals have one of their
    own. (numpy's ``spacing`` gives the same, five times as slowly.)"""
    exponent = np.frexp(scale)[1]
    ulp: np.ndarray = np.ldexp(1.0, np.maximum(exponent, -125) - 24)
    return ulp


def rms_ulp(value: Array, reference: Array) -> float:
    """rms(value - reference) in float32's unit in the last place of rms(reference)."""
    unit = float(np.spacing(np.float32(rms(reference))))
    return rms(_difference(value, reference)) / unit


def one_minus_cosine(value: Array, reference: Array) -> float:
    """1 - a.b / (|a| |b|), computed as |a/|a| - b/|b||**2 / 2, which does not cancel."""
    a, b = (np.ravel(x).astype(np.float64) for x in (value, reference))
    norms = np.linalg.norm(a), np.linalg.norm(b)
    if not norms[0] or not norms[1]:
        return 0.0 if norms[0] == norms[1] else 1.0
    apart = a / norms[0] - b / norms[1]
    return float(np.dot(apart, apart)) / 2


def differing(value: Array, reference: Array) -> int:
    """How many values are not the same bits; -0 and 0 differ."""
    a, b = np.ascontiguousarray(value), np.ascontiguousarray(reference)
    if a.dtype != b.dtype:
        return int(a.size)
    kind = np.dtype(f"u{a.dtype.itemsize}")
    return int(np.count_nonzero(a.view(kind) != b.view(kind)))


NO_DIFFERENCE = dict.fromkeys(("largest_absolute", "largest_relative", "ulp", "cosine"), 0.0)


def figures(value: Array, reference: Array) -> dict[str, float]:
    """largest_absolute, largest_relative, ulp and cosine (1 - cosine) of the two, in one go: layers
    have up to 13 million values.

    With a, b the norms, 1 - cosine = (|value - reference|**2 - (a - b)**2) / (2 a b).
    """
    r = np.ravel(reference).astype(np.float64)
    apart = np.ravel(value) - r
    squares = float(np.dot(apart, apart))
    a, b = (math.sqrt(float(np.dot(x, x))) for x in (r + apart, r))
    np.abs(apart, out=apart)
    scale = np.maximum(np.abs(r, out=r), b / math.sqrt(r.size)) if r.size else r
    worst = float(apart.max()) if r.size else 0.0
    if not worst:
        return NO_DIFFERENCE.copy()
    return {
        "largest_absolute": worst,
        "largest_relative": float(np.max(apart / np.where(scale == 0, 1.0, scale))),
        "ulp": float(np.max(apart / unit_in_the_last_place(scale))),
        "cosine": max(0.0, squares - (a - b) ** 2) / (2 * a * b) if a and b else 1.0,
    }


def first_differing(value: Array, reference: Array) -> tuple[int, ...]:
    """The index of the largest difference, for a message."""
    apart = np.abs(_difference(value, reference))
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(apart)), np.shape(value)))


def _difference(value: Array, reference: Array) -> NDArray[np.float64]:
    return np.asarray(value, np.float64) - np.asarray(reference, np.float64)


def _divided(part: float, whole: float) -> float:
    if whole:
        return part / whole
    return 0.0 if not part else math.inf
