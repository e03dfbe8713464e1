"""The Inception Score of Salimans et al., "Improved Techniques for Training GANs", 2016, section 4.

    IS = exp( E_x KL( p(y|x) || p(y) ) ),    p(y) = E_x p(y|x),    x the pictures, y the classes

1 when the classifier says the same of every picture; at most the number of pictures, and at most
the number of classes. High when each picture is surely of one class and the pictures are of many.

What a published number does not say by itself, and moves it by per cents: over how many parts of
the pictures it is a mean (``splits``; the paper's own program takes 10 contiguous ones, so does
the article's source, CNTK 206), in which order the pictures stood, and how many there were. Here
each is an argument, and each result carries what the other choices would have given.

Everything is float64. Python 3.6 and numpy alone, so that CNTK's process runs the same lines.
"""
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

import numpy as np

from scores.errors import ScoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SPLITS = 10  # of the paper's program and of the article's source
RESAMPLES = 1000
CONFIDENCE = 0.95
# How far the sum of a row may be from 1: K values, each rounded to half a unit of the last place,
# and a softmax that added them up in the same precision. float64 rows are asked for more than
# rounding needs, so that probabilities printed with seven digits are taken.
SUM_WITHIN = {"float16": 4e-3, "float32": 1e-4, "float64": 1e-6}
ROWS_AT_ONCE = 4096  # bounds the temporaries: 33 MB each at 1,008 classes


class InceptionScore(NamedTuple):
    """value: mean over the splits. deviation: over the splits, numpy's std (divided by splits), the
    plus-minus of published scores; it says how the parts differ, not how sure the score is.
    low, high: bootstrap interval of the score of all pictures as one split, drawn again.
    one_split: the score of all pictures together. shuffled, shuffled_deviation: with as many
    splits, the pictures in random order. pictures, classes, splits: counts. notes: what a reader
    has to know besides."""

    value: float
    deviation: float
    low: float
    high: float
    one_split: float
    shuffled: float
    shuffled_deviation: float
    pictures: int
    classes: int
    splits: int
    notes: List[str]


def softmax(logits: "Floats", first: int = 0) -> "Floats":
    """exp(l) / sum exp(l) over the last axis, in float64. first: the number of the first picture,
    for messages.

    Raises ScoreError: NaN or infinity, with the picture's number.
    """
    l = np.asarray(logits, np.float64)  # noqa: E741  the formula's letter
    if not np.isfinite(l).all():
        bad = int(np.argmin(np.isfinite(l).all(-1)))
        raise ScoreError("the classifier says NaN or infinity of picture {}: look at the picture "
                         "and at the weights".format(first + bad))
    e = np.exp(l - l.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def distributions(rows: "Floats") -> "Tuple[Floats, str]":
    """Rows p(y|x), checked, as float64; and a word about it, or "". float64 rows are given back
    as they are, not a copy: 50,000 of 1,000 classes take 400 MB. Shorter ones are divided by their
    sums.

    rows: N x K. float16 and float32 rows are taken: their sums are 1 within what their rounding
    explains, and float64 ones within 1e-6.

    Raises ScoreError: not N x K, one class, not floating point, not finite, a negative value, or a
    row whose sum is not 1 (the row is named).
    """
    given = np.asarray(rows)
    if given.ndim != 2 or given.shape[0] < 1 or given.shape[1] < 1:
        raise ScoreError("probabilities have the shape {}: give one row for each picture and one "
                         "column for each class".format(given.shape))
    if given.shape[1] == 1:
        raise ScoreError("there is one class, so every picture is surely of it and any score would "
                         "be 1: give the classifier's probabilities of all its classes")
    if given.dtype.name not in SUM_WITHIN:
        raise ScoreError("probabilities are {}: give float16, float32 or float64".format(
            given.dtype))
    p = given.astype(np.float64, copy=False)
    if not np.isfinite(p).all():
        bad = int(np.argmin(np.isfinite(p).all(1)))
        raise ScoreError("row {} of the probabilities holds NaN or infinity: look at that picture"
                         .format(bad))
    sums = p.sum(1)
    off, allowed = abs(sums - 1), SUM_WITHIN[given.dtype.name]
    if p.min() < 0 or off.max() > allowed:
        bad = int(np.argmax(np.maximum(off, -p.min(1))))
        raise ScoreError("row {} is no distribution (sum {:.7g}, least value {:.3g}): every row "
                         "has to be at least 0 and to sum to 1. Are these logits? Take the softmax"
                         .format(bad, sums[bad], p[bad].min()))
    word = ""
    if given.dtype != np.float64:
        word = ("the rows were {}; each was divided by its sum, which was off 1 by {:.2g} at most"
                .format(given.dtype, off.max()))
        p /= sums[:, None]
    return p, word


def entropy(p: "Floats") -> "Floats":
    """-sum p log p over the last axis, in nats; 0 log 0 = 0."""
    return np.asarray(-np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1))


def divergences(p: "Floats") -> "Floats":
    """KL( p(y|x) || p(y) ) of each row x, in nats: sum over y of p(y|x) (log p(y|x) - log p(y))."""
    marginal = p.mean(0)
    # Where p(y|x) > 0 so is p(y), unless the mean of it underflows.
    log_marginal = np.log(np.where(marginal > 0, marginal, 1.0))
    parts = [np.sum(part * (np.log(np.where(part > 0, part, 1.0)) - log_marginal), axis=1)
             for part in (p[i:i + ROWS_AT_ONCE] for i in range(0, len(p), ROWS_AT_ONCE))]
    return np.concatenate(parts)


def score(probabilities: "Floats") -> float:
    """exp( mean over x of KL( p(y|x) || p(y) ) ) of all rows together: one split.

    Raises ScoreError: as ``distributions``.
    """
    return _score(distributions(probabilities)[0])


def _score(p: "Floats") -> float:
    value = float(np.exp(np.mean(divergences(p))))
    return min(max(1.0, value), float(min(p.shape)))  # the formula's bounds, where rounding passes


def split_scores(probabilities: "Floats", splits: int = SPLITS) -> "Floats":
    """The score of each of ``splits`` contiguous parts: rows floor(i N / S) to floor((i+1) N / S).

    Raises ScoreError: as ``distributions``; fewer pictures than splits.
    """
    p = distributions(probabilities)[0]
    enough(len(p), splits)
    return _split_scores(p, splits)


def enough(pictures: int, splits: int) -> None:
    """Raises ScoreError: fewer pictures than splits."""
    if splits < 1:
        raise ScoreError("{} splits: give at least 1".format(splits))
    if pictures < splits:
        raise ScoreError("{} splits of {} pictures: a split without a picture has no score. "
                         "Give more pictures, or --splits {}".format(
                             splits, pictures, "1" if pictures == 1
                             else "{} or fewer".format(pictures)))


def _split_scores(p: "Floats", splits: int, order: "Optional[NDArray[np.intp]]" = None
                  ) -> "Floats":
    edges = [i * len(p) // splits for i in range(splits + 1)]
    return np.array([_score(p[a:b] if order is None else p[order[a:b]])
                     for a, b in zip(edges[:-1], edges[1:])])


def interval(probabilities: "Floats", resamples: int = RESAMPLES, seed: int = 0,
             confidence: float = CONFIDENCE) -> Tuple[float, float]:
    """The range in which the score of all pictures moves when pictures are drawn again.

        log low, log high = log score + (quantiles of log score* - mean of log score*)

    score* are the scores of ``resamples`` bootstrap samples: N pictures drawn with replacement.
    Drawn samples repeat pictures, so score* lies below the score on average; the interval takes its
    width from them and its place from the score. It does not correct the score's own bias (few
    pictures give a low score); two sets of as many pictures share that bias. Of one picture it has
    no width.

    seed: of ``numpy.random.RandomState``. Returns (low, high), 1 <= low <= score <= high <= the
    smaller of N and K.

    Raises ScoreError: as ``distributions``; resamples below 2; a confidence outside (0, 1).
    """
    p = distributions(probabilities)[0]
    if resamples < 2 or not 0 < confidence < 1:
        raise ScoreError("resamples = {}, confidence = {}: give at least 2, and a confidence "
                         "between 0 and 1".format(resamples, confidence))
    tail = (1 - confidence) / 2
    logs = _resampled(p, resamples, seed)
    below, above = np.quantile(logs, [tail, 1 - tail]) - logs.mean()
    value = _score(p)
    low = min(value, max(1.0, value * float(np.exp(below))))
    high = max(value, min(float(min(p.shape)), value * float(np.exp(above))))
    return low, high


def _resampled(p: "Floats", resamples: int, seed: int) -> "Floats":
    """log score of each bootstrap sample; the KL as a difference of entropies."""
    draws, pictures = np.random.RandomState(seed), len(p)
    own = np.concatenate([entropy(p[i:i + ROWS_AT_ONCE])
                          for i in range(0, pictures, ROWS_AT_ONCE)])
    logs = []
    at_once = max(1, min(resamples, 4000000 // pictures))  # 32 MB of weights
    for start in range(0, resamples, at_once):
        counts = draws.multinomial(pictures, np.full(pictures, 1.0 / pictures),
                                   min(at_once, resamples - start))
        weights = counts / float(pictures)
        logs.append(entropy(weights.dot(p)) - weights.dot(own))
    return np.concatenate(logs)


def inception_score(probabilities: "Floats", splits: int = SPLITS, resamples: int = RESAMPLES,
                    seed: int = 0, confidence: float = CONFIDENCE,
                    order: "Optional[NDArray[np.intp]]" = None) -> InceptionScore:
    """The score with everything that a reader needs to compare it with another.

    probabilities: N x K, row x is p(y|x). splits: see ``split_scores``. order: the shuffled order;
    left out, ``RandomState(seed).permutation(N)``.

    Raises ScoreError: as ``distributions`` and ``interval``; fewer pictures than splits.
    """
    p, word = distributions(probabilities)
    enough(len(p), splits)
    parts = _split_scores(p, splits)
    low, high = interval(p, resamples, seed, confidence)
    if order is None:
        order = np.random.RandomState(seed).permutation(len(p))
    shuffled = _split_scores(p, splits, order)
    notes = [word] if word else []
    whole = _score(p)
    if whole - 1 < 1e-9:
        notes.append("the classifier says the same of every picture: 1 is the least there is")
    if len(p) < 10 * p.shape[1]:
        notes.append("{} pictures of {} classes: the score is low by what few pictures cost it; "
                     "compare it with scores of as many".format(len(p), p.shape[1]))
    return InceptionScore(float(parts.mean()), float(parts.std()), low, high, whole,
                          float(shuffled.mean()), float(shuffled.std()), len(p), p.shape[1], splits,
                          notes)
