"""What moves a score, and by how much, on the same pictures: ``parity sensitivity IMAGES``.

    order       contiguous splits of the pictures as they stand, and shuffled, 20 times
    splits      1, 2, 5, 10, 20
    resize      every kernel of ``scores/resize.py``
    rounding    pictures as floats, and rounded to whole pixels; of a generator the two differ
    file        as arrays, and through PNG and JPEG files
    classifier  each that is given
    count       the first 100, 200, 500 ... of them, with the value that no more pictures would
                change: log score against 1 / N is nearly a line, and its end at 1 / N = 0 is that

Everything is relative to the score with nothing changed: 10 splits, the classifier's own kernel.
"""
from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scores.classifiers.base import Classifier
from scores.errors import ScoreError
from scores.evaluate import evaluate, probabilities
from scores.images import Pictures, Pixels
from scores.inception_score import SPLITS, inception_score, score, split_scores
from scores.resize import KERNELS

OF_ROWS = ("order", "splits", "count")  # one look at the pictures is enough
KINDS = (*OF_ROWS, "resize", "rounding", "file", "classifier")
SHUFFLES = 20
COUNTS = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
FEWEST = 100

Change = Callable[[Pixels], Pixels]


@dataclass(frozen=True)
class Row:
    """what: of the list above. choice: what was done. value: the score then. moved: by what part of
    the score with nothing changed."""

    what: str
    choice: str
    value: float
    moved: float


@dataclass
class Changed(Pictures):
    """The same pictures with something done to each batch."""

    source: Pictures | None = None
    change: Change = lambda x: x

    def batches(self, size: int) -> Iterator[Pixels]:
        assert self.source is not None
        for batch in self.source.batches(size):
            yield self.change(batch)


def through_file(kind: str, **more: int) -> Change:
    """Written as a picture file and read back."""
    def change(batch: Pixels) -> Pixels:
        from PIL import Image
        made = []
        for picture in batch:
            file = io.BytesIO()
            whole = np.rint(picture).astype(np.uint8).transpose(1, 2, 0)
            Image.fromarray(whole).save(file, kind, **more)
            made.append(np.asarray(Image.open(file).convert("RGB"), np.float32).transpose(2, 0, 1))
        return np.stack(made)
    return change


def rounded(batch: Pixels) -> Pixels:
    return np.asarray(np.rint(batch), np.float32)


def truncated(batch: Pixels) -> Pixels:
    return np.asarray(np.floor(batch), np.float32)


def sensitivity(pictures: Pictures, classifiers: Sequence[Classifier], seed: int = 0,
                told: Callable[[int], None] = lambda n: None, only: Sequence[str] = KINDS
                ) -> list[Row]:
    """Every row. The first classifier is the one that nothing is changed of. only: these kinds.

    Raises ScoreError: fewer than 100 pictures, of which splits would say nothing; an unknown kind;
    as ``evaluate``.
    """
    for kind in only:
        if kind not in KINDS:
            raise ScoreError(f"there is no change {kind!r}: give some of {', '.join(KINDS)}")
    if pictures.count < FEWEST:  # before the work
        raise ScoreError(f"{pictures.count} pictures: give at least {FEWEST}")
    first = classifiers[0]
    p = _likely(pictures, first, told)
    if len(p) < FEWEST:
        raise ScoreError(f"{len(p)} pictures: give at least {FEWEST}")
    base = inception_score(p, seed=seed).value
    rows = [Row("nothing", f"{SPLITS} splits, {first.spec.kernel}, {named(first)}", base, 0.0)]

    def add(what: str, choice: str, value: float) -> None:
        if what in only:
            rows.append(Row(what, choice, value, value / base - 1))

    if set(only) & set(OF_ROWS):
        _of_rows(p, seed, add)
    for kernel in KERNELS if "resize" in only else ():
        if kernel != first.spec.kernel:
            q = probabilities(evaluate(pictures, first, told, kernel).logits)
            add("resize", kernel, float(split_scores(q, SPLITS).mean()))
    for what, choice, change in (
            ("rounding", "to whole pixels", rounded), ("rounding", "truncated", truncated),
            ("file", "PNG", through_file("PNG")),
            ("file", "JPEG of quality 95", through_file("JPEG", quality=95)),
            ("file", "JPEG of quality 75", through_file("JPEG", quality=75))):
        if what not in only:
            continue
        q = _likely(Changed(pictures.name, pictures.count, source=pictures, change=change), first,
                    told)
        add(what, choice, float(split_scores(q, SPLITS).mean()))
    for other in classifiers[1:] if "classifier" in only else ():
        value = float(split_scores(_likely(pictures, other, told), SPLITS).mean())
        add("classifier", named(other), value)
    return rows


def named(classifier: Classifier) -> str:
    """With how its output was taken, where that was decided from its first pictures."""
    name = classifier.spec.name
    return f"{name} (taken as {classifier.reading.taken})" if name.endswith(".onnx") else name


def looks(only: Sequence[str], classifiers: int) -> int:
    """How often each picture is looked at."""
    each = {"resize": len(KERNELS) - 1, "rounding": 2, "file": 3, "classifier": classifiers - 1}
    return 1 + sum(each.get(kind, 0) for kind in only)


def table(rows: Sequence[Row]) -> str:
    """For a page in Markdown."""
    lines = ["| what | choice | score | moved by |", "| --- | --- | ---: | ---: |"]
    lines += [f"| {row.what} | {row.choice} | {row.value:.4f} | {row.moved:+.2%} |" for row in rows]
    return "\n".join(lines) + "\n"


def _likely(pictures: Pictures, classifier: Classifier, told: Callable[[int], None]
            ) -> NDArray[np.float64]:
    return probabilities(evaluate(pictures, classifier, told).logits)


def _of_rows(p: NDArray[np.float64], seed: int, add: Callable[[str, str, float], None]) -> None:
    """What needs no second look at the pictures: order, splits, count."""
    draws = np.random.RandomState(seed)
    shuffled = [float(split_scores(p[draws.permutation(len(p))], SPLITS).mean())
                for _ in range(SHUFFLES)]
    add("order", f"shuffled, lowest of {SHUFFLES}", min(shuffled))
    add("order", f"shuffled, highest of {SHUFFLES}", max(shuffled))
    for splits in (1, 2, 5, 20):
        add("splits", str(splits), float(split_scores(p, splits).mean()))
    order = draws.permutation(len(p))
    for count in (*(n for n in COUNTS if n < len(p)), len(p)):
        add("count", f"{count:,}, one split", score(p[order[:count]]))
    add("count", "as many as one likes (extrapolated)", unlimited(p[order]))


def unlimited(p: NDArray[np.float64]) -> float:
    """The score that no more pictures would change: exp of the end, at 1 / N = 0, of a line through
    log score against 1 / N, from halves, quarters and eighths of the pictures, and all of them.

    log IS of N pictures is below that of all by about (effective classes - 1) / 2 N: to first order
    the bias of an entropy (Miller, "Note on the bias of information estimates", 1955).
    """
    parts, logs = [], []
    for share in (1, 2, 4, 8):
        size = len(p) // share
        logs.append(np.mean([np.log(score(p[i * size:(i + 1) * size])) for i in range(share)]))
        parts.append(1 / size)
    return float(np.exp(np.polyfit(parts, logs, 1)[1]))
