"""Where numbers stopped being finite, from what a training step leaves. Plain Python 3.6 and numpy.

A loss that is not finite says nothing about where it began, and the update after it spoils nearly
every weight. So a step's loss is looked at before the next step runs, and what is left then points
to the layer:

* born in the backward pass of an earlier step: gradients pass from the loss to the input, so the
  weights from that layer back to the input are spoilt and those nearer to the loss are not;
* born in the forward pass: all weights of that network are spoilt, but what passes a batch
  normalisation enters its running statistics: the first layer with statistics that are not finite
  stands just behind the place.
"""
import math
from typing import Dict, Mapping, Optional, Sequence

import numpy as np


class NotFiniteError(Exception):
    """A step's loss is not finite."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def finite(loss: float, what: str) -> float:
    """The loss. Raises NotFiniteError, naming ``what``, where it is none."""
    if not math.isfinite(loss):
        raise NotFiniteError("%s is %r" % (what, loss))
    return loss


def spoilt_layer(arrays: Mapping[str, np.ndarray], layers: Mapping[str, Sequence[str]]
                 ) -> Optional[str]:
    """"network/layer" where it began, or None where every weight and statistic is finite.

    arrays: network/layer/quantity. layers: the networks in the order that an image passes them, and
    the names of each one's layers, input first.
    """
    spoilt = {name for name, array in arrays.items()
              if array.dtype.kind == "f" and not np.isfinite(array).all()}
    learnt: Dict[str, Sequence[str]] = {}
    for network in layers:
        learnt[network] = [layer for layer in layers[network] if any(
            "%s/%s/%s" % (network, layer, quantity) in spoilt
            for quantity in ("weight", "bias", "scale"))]
        with_weights = [layer for layer in layers[network] if any(
            "%s/%s/%s" % (network, layer, quantity) in arrays for quantity in ("weight", "scale"))]
        if learnt[network] and learnt[network][-1] != with_weights[-1]:
            return "%s/%s" % (network, learnt[network][-1])
    for network in layers:
        for before, layer in zip(("", *layers[network]), layers[network]):
            if "%s/%s/running_mean" % (network, layer) in spoilt or \
                    "%s/%s/running_variance" % (network, layer) in spoilt:
                return "%s/%s" % (network, before or layer)
    for network in layers:
        if learnt[network]:
            return "%s/%s" % (network, learnt[network][-1])
    return None
