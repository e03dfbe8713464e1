"""What a layer was given, and what CNTK's formula makes of it in float64."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from captures.spec import LEAKY_RELU, NORMALISATION, RELU, SIGMOID, TANH, TRANSPOSED, Layer
from parity.diagnosis.arithmetic import Floats, Pads, column, conv, moments, normalised, transposed


@dataclass(frozen=True)
class Given:
    """x: what went in. arrays: the layer's own, by quantity. training: the mode. others: what else
    went into a layer that both branches share, in the same pass. images: pixels 0..255 where x is
    made of them, and the middle that is taken off."""

    layer: Layer
    x: Floats
    arrays: Mapping[str, Floats]
    training: bool
    epsilon: float
    slope: float
    others: Sequence[Floats] = ()
    pixels: Floats | None = None
    middle: float = 0.0
    factor: float = 0.0  # of the running statistics' update


def right(given: Given) -> Floats:
    """CNTK's formula in float64."""
    layer, x = given.layer, given.x
    if layer.weight:
        return convolved(given, x, given.arrays["weight"], layer.pads, given.arrays.get("bias"))
    if layer.kind == NORMALISATION:
        mean, variance = moments(x) if given.training else (
            given.arrays["running_mean"], given.arrays["running_variance"])
        return normalised(x, mean, variance, given.arrays["scale"], given.arrays["bias"],
                          given.epsilon)
    return activated(layer.kind, x, given.slope)


def activated(kind: str, x: Floats, slope: float) -> Floats:
    if kind == RELU:
        return np.maximum(x, 0)
    if kind == LEAKY_RELU:
        return np.where(x >= 0, x, slope * x)
    if kind == TANH:
        return np.tanh(x)
    assert kind == SIGMOID
    return sigmoid(x)


def sigmoid(x: Floats) -> Floats:
    q = np.exp(-np.abs(x))
    made: Floats = np.where(x > 0, 1.0, q) / (1 + q)
    return made


def convolved(given: Given, x: Floats, w: Floats, pads: Pads, bias: Floats | None,
              mode: str = "constant") -> Floats:
    layer = given.layer
    y = transposed(x, w, layer.stride, pads) if layer.kind == TRANSPOSED else conv(
        x, w, layer.stride, pads, mode)
    return y if bias is None else y + column(bias)
