"""How small a change of one layer's weights the paired comparison sees: ``parity score-limits``.

One side is a model as it is; on the other one filter of one layer is multiplied by 1 + size.
Both make pictures of the same latents, and every step from image to score is judged as between two
frameworks (``scores/paired.py``). size goes down from 1, a decade at a time, until no step sees it.
The filter is the one whose weights are of the middle size in its layer.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scores.classifiers.base import Classifier
from scores.errors import ScoreError
from scores.generators import Generate
from scores.paired import Array, Link, Side, judged, looked

SMALLEST = -8  # as a power of ten: float32 ends there
Arrays = Mapping[str, Array]
FILTERS = 1  # axis of a transposed convolution's weights


@dataclass(frozen=True)
class Limit:
    """smallest: of each step that sees a change of size 1, the smallest size that it sees, it and
    all larger ones."""

    layer: str
    smallest: dict[str, float]


def changed(arrays: Arrays, name: str, size: float) -> dict[str, Array]:
    """One filter of ``name`` times 1 + size."""
    weight = np.array(arrays[name])
    filters = np.moveaxis(weight, FILTERS, 0)
    norms = abs(filters).reshape(len(filters), -1).sum(1)
    filters[np.argsort(norms, kind="stable")[len(norms) // 2]] *= np.float32(1 + size)
    return {**arrays, name: weight}


def limits(arrays: Arrays, model: Callable[[Arrays], Generate], latents: Array,
           classifier: Classifier, allowed: Callable[[Link, Sequence[Link]], float],
           told: Callable[[int], None] = lambda n: None) -> list[Limit]:
    """Of each layer with weights, in order. allowed: of a judgement between the sides,
    and all of them.

    Raises ScoreError: a model that does not agree with itself; pictures that cannot be scored.
    """
    before = model(arrays)(latents)
    if not np.isfinite(before).all():
        raise ScoreError("the model makes pictures that hold NaN or infinity: train it, or give an "
                         "earlier checkpoint")
    if _seen(before, model(arrays)(latents), classifier, allowed):
        raise ScoreError("the model makes other pictures of the same latents each time, so "
                         "nothing can be told from a change of its weights")
    found = []
    for name in (name for name in arrays if name.endswith("/weight")):
        smallest: dict[str, float] = {}
        still: set[str] | None = None  # the steps that have seen every size so far
        for power in range(0, SMALLEST - 1, -1):
            size = float(f"1e{power}")
            after = model(changed(arrays, name, size))(latents)
            seen = set(_seen(before, after, classifier, allowed))
            still = seen if still is None else still & seen
            smallest.update(dict.fromkeys(still, size))
            if not still:
                break
        told(1)
        found.append(Limit(name.rpartition("/")[0], smallest))
    return found


def _seen(before: Array, after: Array, classifier: Classifier,
          allowed: Callable[[Link, Sequence[Link]], float]) -> Sequence[str]:
    """The steps at which the two sides are farther apart than is allowed."""
    sides = {"one": Side(before, None), "other": Side(after, None)}
    looks = looked(sides, classifier.spec, classifier.of_prepared, classifier.of_prepared, 1)
    links, _, _ = judged(sides, looks, classifier.spec.name, classifier.spec.kernel)
    return [link.step for link in links
            if not link.side and not link.measured <= allowed(link, links)]
