"""A classifier as a producer: what it makes of both sides' pictures, as a capture.

    classifier/SOURCE/SIDE/logits      of all pictures, N x K
    classifier/SOURCE/SIDE/truth       of the first ones, by the same network in float64
    classifier/SOURCE/SIDE/features    of all pictures, N x D, where it shows them
    classifier/SOURCE/SIDE/exact       of the first ones, in float64
    classifier/SOURCE/SIDE/prepared    the pictures that the side prepared itself, in float64

Pictures that cannot be classified are no error of this program: the fact ``refused`` says why.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from captures.errors import CaptureError, DamageError
from captures.files import AnyPath
from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from scores.classifiers.base import Classifier
from scores.errors import ScoreError
from scores.paired import Look, looked
from scores.sides import compared, names_of, side_of, sources

PRODUCER, JOB = "classifier", "pictures"
FURTHER = ("prepared", "features", "exact")  # of a Look, where there are any
CHECKED = 4  # pictures whose logits are compared with float64
Note = Callable[[str, int, int], None]


def write(folder: AnyPath, plan: Plan, sides: Mapping[str, Capture], classifier: Classifier,
          truth: Classifier, note: Note = lambda text, done, total: None) -> None:
    """The capture. sides: "cntk" and "port". truth: the same classifier in float64.

    Raises CaptureError, OSError.
    """
    refused: dict[str, str] = {}
    made_from: dict[str, dict[str, str]] = {who: {} for who in sides}
    wanted = [source for source in sources(plan.spec) if compared(source, *sides.values())]
    versions = {"numpy": np.__version__, classifier.runtime: version_of(classifier.runtime),
                truth.runtime: version_of(truth.runtime)}
    with CaptureWriter(folder, PRODUCER, plan, versions, plan.threads, JOB) as writer:
        for at, source in enumerate(wanted):
            note(f"classifier: {source}", at, len(wanted))
            for who, capture in sides.items():
                made_from[who].update((name, capture.checksum(name))
                                      for name in names_of(capture, source).values())
            try:
                looks = looked({who: side_of(one, source) for who, one in sides.items()},
                               classifier.spec, classifier.of_prepared, truth.of_prepared, CHECKED)
            except DamageError:
                raise
            except (CaptureError, ScoreError) as error:  # NaN, say
                refused[source] = str(error)
                continue
            for who, look in looks.items():
                _add(writer, f"classifier/{source}/{who}", look)
        spec = classifier.spec
        writer.fact("classifier", {"name": spec.name, "title": spec.title, "kernel": spec.kernel,
                                   "weights": classifier.weights})
        writer.fact("refused", refused)
        writer.fact("made_from", made_from)


def _add(writer: CaptureWriter, place: str, look: Look) -> None:
    writer.add(f"{place}/logits", look.logits)
    writer.add(f"{place}/truth", look.truth)
    for name in FURTHER:
        if (value := getattr(look, name)) is not None:
            writer.add(f"{place}/{name}", value)


def look_of(capture: Capture, source: str, who: str) -> Look:
    """What was written, NaN too. Raises CaptureError: it is not there."""
    place = f"classifier/{source}/{who}"
    return Look(capture.as_it_is(f"{place}/logits"), capture.as_it_is(f"{place}/truth"), *(
        capture.as_it_is(f"{place}/{name}") if f"{place}/{name}" in capture else None
        for name in FURTHER))


def version_of(package: str) -> str:
    from importlib import metadata
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # the same under another name: onnxruntime-gpu
        return "unknown"


