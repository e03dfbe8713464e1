"""Fréchet Inception Distance: how far two sets of pictures are apart in a classifier's features.

    FID = |m1 - m2|^2 + tr( C1 + C2 - 2 (C1 C2)^(1/2) )

m, C: mean and covariance (divided by N - 1) of the features of each set. 0 for equal moments; no
upper bound. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017. It is biased: of
few pictures it is too high, so compare only FIDs of as many.

tr (C1 C2)^(1/2) is taken as the sum of the roots of the eigenvalues of R C2 R, R the symmetric root
of C1: the same eigenvalues as those of C1 C2, from a symmetric matrix, so that no complex numbers
come in, and a covariance of few pictures (singular) needs nothing added to its diagonal.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scores.errors import ScoreError

Floats = NDArray[np.float64]
LEAST = 100  # pictures on either side: of fewer, chance is larger than what FIDs are compared for

ROUNDED = 1e-3  # of the largest value: what float32 and 2,000 features may leave of a covariance


@dataclass
class Moments:
    """Mean and covariance of features that come in parts, by Chan's update; D x D float64.

    D: features of each picture. Memory: two D x D arrays, whatever the number of pictures.
    """

    D: int
    count: int = 0
    mean: Floats = field(init=False)
    squares: Floats = field(init=False)  # sum of (f - mean)(f - mean)'

    def __post_init__(self) -> None:
        self.mean = np.zeros(self.D)
        self.squares = np.zeros((self.D, self.D))

    def add(self, features: NDArray[np.floating]) -> None:
        """features: n x D. Raises ScoreError: another width, NaN."""
        f = np.asarray(features, np.float64)
        if f.ndim != 2 or f.shape[1] != self.D:
            raise ScoreError(f"features have the shape {f.shape}: give n x {self.D}")
        if not np.isfinite(f).all():
            raise ScoreError("features hold NaN or infinity: look at the pictures and the weights")
        if not len(f):
            return
        mean = f.mean(0)
        centred, apart, count = f - mean, mean - self.mean, self.count + len(f)
        self.squares += centred.T @ centred
        self.squares += np.outer(apart, apart) * (self.count * len(f) / count)
        self.mean += apart * (len(f) / count)
        self.count = count

    @property
    def covariance(self) -> Floats:
        return self.squares / (self.count - 1)


def stated(mean: NDArray[Any], covariance: NDArray[Any]) -> Moments:
    """Moments that a file states, ``mu`` and ``sigma``, of finite real numbers. Of how many
    pictures is not told.

    Raises ScoreError: not D and D x D, or no covariance.
    """
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise ScoreError(f"mu has the shape {mean.shape}, sigma {covariance.shape}: give D and "
                         "D x D")
    C = covariance.astype(np.float64)
    size = float(abs(C).max())
    if abs(C - C.T).max() > ROUNDED * size:
        raise ScoreError("sigma is not symmetric, so it is no covariance: look at what made it")
    least = float(np.linalg.eigvalsh(C)[0])
    if least < -ROUNDED * size:
        raise ScoreError(f"sigma has an eigenvalue of {least:.6g}, below 0, so it is no "
                         "covariance: look at what made it")
    made = Moments(len(mean))
    made.count, made.mean = 1 << 30, mean.astype(np.float64)
    made.squares = C * (made.count - 1)
    return made


def frechet_distance(mean1: Floats, covariance1: Floats, mean2: Floats,
                     covariance2: Floats) -> float:
    """|m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2), of two Gaussians.

    Raises ScoreError: shapes that do not belong together, or NaN.
    """
    m1, m2 = (np.atleast_1d(np.asarray(m, np.float64)) for m in (mean1, mean2))
    C1, C2 = (np.atleast_2d(np.asarray(C, np.float64)) for C in (covariance1, covariance2))
    if not (m1.shape == m2.shape and C1.shape == C2.shape == (len(m1), len(m1))):
        raise ScoreError(f"means {m1.shape} and {m2.shape} with covariances {C1.shape} and "
                         f"{C2.shape}: give two of D values and two of D x D")
    if not all(np.isfinite(a).all() for a in (m1, m2, C1, C2)):
        raise ScoreError("a mean or a covariance holds NaN or infinity")
    values, vectors = np.linalg.eigh(C1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ C2 @ root)
    cross = np.sqrt(np.maximum(product, 0)).sum()
    return max(0.0, float((m1 - m2) @ (m1 - m2) + np.trace(C1) + np.trace(C2) - 2 * cross))


def enough_for_fid(what: str, count: int, D: int, least: int = LEAST) -> None:
    """Raises ScoreError: the set ``what`` has too few pictures for D features."""
    if count < max(2, least):
        raise ScoreError(
            f"the {what} has {count} pictures: a covariance of {D} features is a guess from so "
            f"few. Give at least {max(2, least)} for FID (better more than {D}), or leave "
            "--reference out")


def of_one_classifier(ours: int, theirs: int) -> None:
    """Raises ScoreError: features of different widths."""
    if ours != theirs:
        raise ScoreError(f"the features are {ours} and {theirs} wide: one classifier has to make "
                         "both")


def fid(pictures: Moments, reference: Moments, least: int = LEAST) -> tuple[float, str]:
    """The distance, and a word about it where one is due, or "".

    least: the fewest pictures of a side that are taken.

    Raises ScoreError: fewer pictures than that, or features of different classifiers.
    """
    for what, side in (("set of pictures", pictures), ("reference set", reference)):
        enough_for_fid(what, side.count, side.D, least)
    of_one_classifier(pictures.D, reference.D)
    few = min(pictures.count, reference.count)
    word = "" if few > pictures.D else (
        f"{few} pictures for {pictures.D} features: the covariance is singular and FID too high; "
        "compare it with FIDs of as many")
    return frechet_distance(pictures.mean, pictures.covariance,
                            reference.mean, reference.covariance), word
