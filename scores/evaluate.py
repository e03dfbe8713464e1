"""Pictures to scores, a batch at a time: logits, moments and a sample of features stay, no more.

Memory for N pictures, K classes, D features: N K float32 logits, once that in float64 while the
score is computed, a few D x D matrices, and at most 10,000 x D features for KID, of each side.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scores.classifiers.base import Classifier, Floats, Spec
from scores.errors import ScoreError
from scores.fid import Moments, enough_for_fid, fid, of_one_classifier, stated
from scores.images import (
    Pictures,
    arrays_of,
    first_of,
    headers,
    open_pictures,
    told_left_out,
)
from scores.inception_score import InceptionScore, distributions, entropy, inception_score, softmax
from scores.kid import Reservoir, kid

BATCH = 32
SHOWN = 64  # pictures of the contact sheet
CARRYING = 10  # classes that are told

Told = Callable[[int], None]  # how many pictures more are done


@dataclass
class Evaluated:
    """logits N x K float32; moments and a sample of the features; the first pictures, 8-bit."""

    logits: NDArray[np.float32]
    moments: Moments
    sample: Reservoir
    shown: list[NDArray[np.uint8]]
    largest: float = 0.0


@dataclass
class Scored:
    """What a run found. kernel: by which pictures were scaled. seed: of a model's latents, the
    interval and the shuffled order. classes: as ``carrying``. reference: what distances are to.
    broken: every picture that could not be read. left_out: why, to all that was left out.
    output: how the classifier's was taken."""

    pictures: str
    count: int
    classifier: str
    weights: str
    runtime: str
    score: InceptionScore
    classes: list[dict[str, Any]]
    reference: str = ""
    distances: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    output: str = ""
    kernel: str = ""
    seed: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        made = dict(vars(self))
        made["score"] = self.score._asdict()
        return made


def evaluate(pictures: Pictures, classifier: Classifier, told: Told = lambda n: None,
             kernel: str | None = None, batch: int = BATCH, features: bool = False) -> Evaluated:
    """Every picture through the classifier. features: whether moments and sample are wanted.

    Raises ScoreError: as the pictures and the classifier.
    """
    spec = classifier.spec
    parts: list[Floats] = []
    made = Evaluated(np.empty((0, spec.classes), np.float32), Moments(spec.features if features
                                                                      else 0), Reservoir(), [])
    for pixels in pictures.batches(batch):
        got, logits = classifier(pixels, kernel)
        parts.append(logits.astype(np.float32))
        if features:
            made.moments.add(got)
            made.sample.add(got)
        for picture in pixels[:max(0, SHOWN - len(made.shown))]:
            made.shown.append(np.rint(picture).astype(np.uint8).transpose(1, 2, 0))
        told(len(pixels))
    made.logits = np.concatenate(parts)
    return made


def probabilities(logits: Floats) -> NDArray[np.float64]:
    """softmax in float64, in place of a second array of that size."""
    p = np.empty(logits.shape)
    for i in range(0, len(logits), 4096):
        p[i:i + 4096] = softmax(logits[i:i + 4096].astype(np.float64), i)
    return p


def carrying(p: NDArray[np.float64], count: int = CARRYING) -> list[dict[str, Any]]:
    """The classes that the score comes from, most first.

        log IS = sum over y of c(y),    c(y) = E_x p(y|x) (log p(y|x) - log p(y)) >= ~0

    class: its number, from 0. share: c(y) / log IS. pictures: of how many it is the likeliest.
    probability: p(y).
    """
    p = distributions(p)[0]
    marginal = p.mean(0)
    c = np.zeros(p.shape[1])
    for i in range(0, len(p), 4096):
        part = p[i:i + 4096]
        c += (part * np.log(np.where(part > 0, part, 1.0))).sum(0) / len(p)
    c -= marginal * np.log(np.where(marginal > 0, marginal, 1.0))
    whole = float(entropy(marginal) - (entropy(marginal) - c.sum()))
    likeliest = np.bincount(p.argmax(1), minlength=p.shape[1])
    return [{"class": int(y), "share": float(c[y] / whole) if whole > 1e-12 else 0.0,
             "pictures": int(likeliest[y]), "probability": float(marginal[y])}
            for y in np.argsort(-c, kind="stable")[:count]]


def scored(pictures: Pictures, made: Evaluated, classifier: Classifier, splits: int,
           seed: int = 0) -> Scored:
    """The score of evaluated pictures, with all that has to be said of it.

    Raises ScoreError: as ``inception_score``.
    """
    p = probabilities(made.logits)
    score = inception_score(p, splits, seed=seed)
    return Scored(pictures.name, len(p), classifier.spec.title, classifier.weights,
                  classifier.runtime, score, carrying(p), notes=notes_of(pictures) + score.notes,
                  broken=list(pictures.broken), output=f"taken as {classifier.reading.taken}",
                  kernel=classifier.spec.kernel, seed=seed, left_out=dict(pictures.left_out))


def notes_of(pictures: Pictures) -> list[str]:
    """What was done to how many, and what was left out."""
    notes = [f"{what}: {count:,}" for what, count in sorted(pictures.notes.items())]
    if pictures.broken:
        count, _, named = first_of(pictures.broken).partition(", ")
        notes.append(f"could not be read and were left out: {count} of {pictures.count}, {named}")
    return notes + told_left_out(pictures)


def open_reference(path: Path, pictures: int, spec: Spec, broken: str = "refuse"
                   ) -> Moments | Pictures:
    """What FID and KID are taken against: pictures, or moments (FID alone). It is refused here,
    before the work, where it will not do.

    Raises ScoreError: as ``open_pictures`` and ``stated``; too few on either side; moments of
    another width.
    """
    if not spec.features:
        raise ScoreError(f"{spec.name} gives no features, which FID and KID are made of: leave "
                         "--reference out, or give an ONNX file with an output named 'features'")
    against = _moments(path) or open_pictures(path, broken)
    for what, count in (("set of pictures", pictures), ("reference set", against.count)):
        enough_for_fid(what, count, spec.features)
    if isinstance(against, Moments):
        of_one_classifier(spec.features, against.D)
    return against


def _moments(path: Path) -> Moments | None:
    """Of an .npz that holds ``mu`` and ``sigma`` (as pytorch-fid writes them), or None."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    if not {"mu", "sigma"} <= set(headers(path)):
        return None
    mean, covariance = arrays_of(path, ("mu", "sigma")).values()
    try:
        return stated(mean, covariance)
    except ScoreError as error:
        raise ScoreError(f"{path}: {error}") from error


def add_reference(found: Scored, made: Evaluated, against: Moments | Pictures, name: str,
                  classifier: Classifier, told: Told = lambda n: None) -> None:
    """FID, and KID where there are pictures, against what ``open_reference`` gave.

    Raises ScoreError: as ``evaluate`` and ``fid``.
    """
    found.reference = name
    if isinstance(against, Moments):
        value, word = fid(made.moments, against)
        found.distances["FID"] = value
        found.notes.append("mu and sigma are taken to be of the features of this classifier, with "
                           "these weights: such a file does not say whose they are")
    else:
        theirs = evaluate(against, classifier, told, features=True)
        value, word = fid(made.moments, theirs.moments)
        mean, deviation = kid(made.sample.rows(), theirs.sample.rows())
        found.distances.update({"FID": value, "KID": mean, "KID deviation": deviation})
        found.notes += [f"reference, {note}" for note in notes_of(against)]
    if word:
        found.notes.append(word)
