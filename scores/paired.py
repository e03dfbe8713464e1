"""The same latents and weights on two sides: where their pictures and scores first part.

    images      what the generator gave, [-1, 1], B, G, R            float
    pictures    what the side's picture writer made of them, read back, 0..255, R, G, B
    prepared    scaled and normalised for the classifier             float32
    features    of the classifier, where it shows them
    logits      of the classifier
    score       of all pictures

Each step is judged twice. On the side's own input, against float64: an error there was born
there, and is that side's. Between the two sides, in the chain: it may be inherited. The first that
fails in this order is where a difference began.

What a side has not made itself (it may have no classifier) is made for it here, by the same
functions for both, so that it cannot be the place where they part.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scores.classifiers.base import Runner, Spec, prepared
from scores.evaluate import probabilities
from scores.inception_score import score

Array = NDArray[Any]

STEPS = ("images", "pictures", "prepared", "features", "logits", "score")


@dataclass
class Side:
    """What one side made. images: N x 3 x H x W. pictures: N x H x W x 3 uint8; None if it writes
    none. prepared, logits: of the first pictures, as many as it made. score: of those logits."""

    images: Array
    pictures: Array | None
    prepared: Array | None = None
    logits: Array | None = None
    score: float | None = None

    @property
    def files(self) -> Array:
        """The written pictures, or what should have been written."""
        return (np.rint(written(self.images)).astype(np.uint8) if self.pictures is None
                else self.pictures)

    def pixels(self, count: int | None = None) -> NDArray[np.float32]:
        """Of the written pictures: N x 3 x H x W, R, G, B, 0..255."""
        return np.ascontiguousarray(self.files[:count].transpose(0, 3, 1, 2), np.float32)


@dataclass(frozen=True)
class Look:
    """What one classifier makes of one side's pictures. logits: of all, N x K. truth: of the first
    few in float64, of what the side prepared itself, if it did. prepared: those, in float64.
    features: of all, N x D, and exact: in float64 of the first few; None where it shows none."""

    logits: Array
    truth: Array
    prepared: Array | None = None
    features: Array | None = None
    exact: Array | None = None


def looked(sides: Mapping[str, Side], spec: Spec, runner: Runner, truth: Runner, checked: int
           ) -> dict[str, Look]:
    """runner: the classifier that every side's pictures go through. truth: the same in float64.
    checked: of how many pictures logits are compared with the truth.

    Raises ScoreError: pictures that cannot be classified.
    """
    made: dict[str, Look] = {}
    files: list[tuple[Array, tuple[Array, Array]]] = []  # those classified, and what it gave
    for name, side in sides.items():
        given = next((one for same, one in files if np.array_equal(same, side.files)), None)
        if given is None:
            given = runner(prepared(side.pixels(), spec))
            files.append((side.files, given))
        ours, taken = prepared(side.pixels(checked), spec), side.prepared
        own = (side.logits is not None and taken is not None
               and taken.shape[1:] == ours.shape[1:])
        exact = truth(taken[:checked] if own and taken is not None else ours)
        features = given[0] if given[0].size else None
        made[name] = Look(given[1], exact[1], None if side.prepared is None else prepared(
            side.pixels(len(side.prepared)).astype(np.float64), spec), features,
            None if features is None else truth(ours)[0] if own else exact[0])
    return made


@dataclass(frozen=True)
class Link:
    """One judgement. step: of STEPS. side: whose, "" between the two. measured: in the step's unit
    (``judged``). detail: one sentence, if it is too much."""

    step: str
    side: str
    measured: float
    detail: str


def written(images: Array) -> NDArray[np.float64]:
    """What pictures should hold before rounding: (x / 2 + 1 / 2) * 255, R, G, B, in float64."""
    whole = (np.asarray(images, np.float64) / 2 + 0.5) * 255
    return np.clip(whole[:, ::-1].transpose(0, 2, 3, 1), 0, 255)


def flipped(pictures: Array, expected: Array) -> float:
    """The part of all values that are another whole number than the expected one; infinite if any
    is more than one step off, or the shape is another. A value that is nearly half way may fall
    either way."""
    if pictures.shape != expected.shape:
        return float("inf")
    apart = abs(pictures.astype(np.float64) - np.rint(expected))
    return float("inf") if apart.max(initial=0) > 1 else float(np.mean(apart > 0))


def largest(ours: Array, theirs: Array) -> float:
    """Largest difference; infinite if the shape is another."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(abs(np.asarray(ours, np.float64) - theirs).max())


def relative(ours: Array, theirs: Array) -> float:
    """Largest difference as a part of the largest value; infinite if the shape is another."""
    return largest(ours, theirs) / (float(abs(theirs).max()) or 1.0)


def _shapes(ours: Array, theirs: Array) -> str:
    """What a detail says of them where they are not the same."""
    return "" if ours.shape == theirs.shape else (
        f": {' x '.join(map(str, ours.shape))} values, not {' x '.join(map(str, theirs.shape))}")


def judged(sides: Mapping[str, Side], looks: Mapping[str, Look], classifier: str, kernel: str
           ) -> tuple[list[Link], dict[str, NDArray[np.float64]], dict[str, float]]:
    """Every judgement in order; each side's p(y|x), N x K; each side's score.

    sides: two, by name. looks: of the same. classifier, kernel: what it is called, and how it
    scales. Units: images, largest difference; pictures, part of the values that another whole
    number came out for; prepared, largest difference; features and logits, of the largest one;
    score, relative.

    Raises ScoreError: logits that cannot be scored.
    """
    first, second = sides
    links = [*_of_pictures(sides), *_prepared(sides, looks, classifier, kernel),
             *_of_features(looks, classifier), *_of_logits(sides, looks, classifier)]
    likely = {name: probabilities(look.logits) for name, look in looks.items()}
    values = {name: score(p) for name, p in likely.items()}
    for name, side in sides.items():
        if side.score is not None and side.logits is not None:
            expected_score = score(probabilities(side.logits))
            links.append(Link("score", name, abs(side.score / expected_score - 1),
                              f"{name} computes another formula from its logits: {side.score:.9g}, "
                              f"not {expected_score:.9g}"))
    links.append(Link("score", "", abs(values[second] / values[first] - 1),
                      f"{second}'s pictures score {values[second]:.9g}, {first}'s "
                      f"{values[first]:.9g}"))
    return links, likely, values


def _of_pictures(sides: Mapping[str, Side]) -> list[Link]:
    (first, a), (second, b) = sides.items()
    links = [Link("images", "", largest(a.images, b.images),
                  f"the images of {first} and {second} differ before they are written")]
    for name, side in sides.items():
        if side.pictures is None:
            continue
        wanted = written(side.images)
        links.append(Link("pictures", name, flipped(side.pictures, wanted),
                          f"{name}'s picture writer does not write (x / 2 + 1/2) * 255, rounded, "
                          f"in R, G, B{_shapes(side.pictures, wanted)}"))
    links.append(Link("pictures", "", flipped(a.files, b.files),
                      f"the written pictures of {first} and {second} differ"
                      f"{_shapes(a.files, b.files)}"))
    return links


def _prepared(sides: Mapping[str, Side], looks: Mapping[str, Look], classifier: str, kernel: str
              ) -> list[Link]:
    return [Link("prepared", name, largest(side.prepared, expected),
                 f"{name} scales or normalises its pictures otherwise than {classifier} asks for "
                 f"({kernel}){_shapes(side.prepared, expected)}")
            for name, side in sides.items()
            if side.prepared is not None and (expected := looks[name].prepared) is not None]


def _of_features(looks: Mapping[str, Look], classifier: str) -> list[Link]:
    links = [Link("features", name, relative(look.features[:len(look.exact)], look.exact),
                  f"the features that {classifier} sees in {name}'s pictures are not those of "
                  "float64")
             for name, look in looks.items() if look.features is not None
             and look.exact is not None]
    (first, a), (second, b) = looks.items()
    if a.features is not None and b.features is not None:
        links.append(Link("features", "", relative(b.features, a.features),
                          f"the classifier sees other features in {second}'s pictures than in "
                          f"{first}'s"))
    return links


def _of_logits(sides: Mapping[str, Side], looks: Mapping[str, Look], classifier: str
               ) -> list[Link]:
    links = []
    first, second = sides
    for name, side in sides.items():
        own = side.logits is not None and side.prepared is not None
        given = side.logits if own and side.logits is not None else looks[name].logits
        truth = looks[name].truth
        links.append(Link("logits", name, relative(given[:len(truth)], truth),
                          f"{name}'s classifier says something else than {classifier} in float64"
                          f"{_shapes(given[:len(truth)], truth)}"))
    links.append(Link("logits", "", relative(looks[second].logits, looks[first].logits),
                      f"the classifier says something else of {second}'s pictures than of "
                      f"{first}'s"))
    return links
