"""The Inception Score's formula on pictures that both sides made from the same latents and weights.

Three sources, each by the side's own hands: the generator of the plan's state, a generator that
has been trained (where one was given), and the data set through reader and normalisation. The
pictures are those that the side's own writer wrote to files. They go through one classifier, and
every step is judged where it is taken (``scores/paired.py``), so that a difference says where it
began; CNTK looks at some of them itself, in its own process.

The classifier is EfficientNet-Lite0 by default, so the number is not a paper's Inception Score.
"""
import math
from collections.abc import Mapping

import numpy as np

from captures.format import Capture
from captures.spec import Spec
from parity.judge import judgements
from parity.judge.policies import (
    LOGITS,
    LOGITS_CHAIN,
    OUTPUT,
    PICTURES,
    PREPARED,
    Policy,
)
from parity.judge.policies import SCORE as POLICY
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, array_or_failure
from parity.stages.definition import Definition, only
from scores.classifiers import registry
from scores.classifiers.base import Classifier
from scores.errors import ScoreError
from scores.evaluate import carrying
from scores.inception_score import interval
from scores.paired import Link, Side, judged

WRITTEN = "score/{}/written/pictures"
CHECKED = 4  # pictures whose logits are compared with float64
POLICY_OF: dict[str, Policy] = {"images": OUTPUT, "pictures": PICTURES, "prepared": PREPARED,
                                "logits": LOGITS, "score": POLICY}


def policy_of(link: Link) -> Policy:
    """Between the sides logits are judged more loosely than a side's on its own input."""
    return LOGITS_CHAIN if link.step == "logits" and not link.side else POLICY_OF[link.step]


RESAMPLES = 200
TRAINED, FACES = "trained", "faces"


def sources(spec: Spec) -> dict[str, tuple[str, str]]:
    """Second part of the arrays' names to the name of the images, and a title."""
    return {spec.maker.name: (spec.images, "the plan's state"),
            TRAINED: (f"score/{TRAINED}/{spec.maker.last}/images", "a trained model"),
            FACES: (f"score/{FACES}/normalised/images", "the data set")}


def judge(made: Stage, captures: Captures) -> None:
    """Raises ScoreError: the classifier cannot be had."""
    threads = int(captures.plan["threads"])
    classifier = registry.load(cache=captures.cache, threads=threads)
    truth = registry.load(runtime="torch", double=True, cache=captures.cache)
    figures: dict[str, float] = {}
    for source, (name, title) in sources(captures.spec).items():
        if name == captures.spec.images or (
                name in captures.cntk and makes_pictures(captures.port, captures.spec)):
            _judge_source(made, captures, source, classifier, truth, figures)
        else:
            made.notes.append(f"No pictures of {title}: none were asked for, or a port has no "
                              "program for them.")
    made.notes.append(f"By {classifier.spec.title}; weights {classifier.weights}. Compare it only "
                      "with scores by the same classifier, of as many pictures.")
    captures.found["score"] = figures


def _judge_source(made: Stage, captures: Captures, source: str, classifier: Classifier,
                  truth: Classifier, figures: dict[str, float]) -> None:
    sides: dict[str, Side] = {}
    for who, capture in (("cntk", captures.cntk), ("port", captures.port)):
        side = side_of(capture, source, captures.spec)
        if isinstance(side, Check):
            made.checks.append(side)
        else:
            sides[who] = side
    if len(sides) < 2:
        return
    if sides["cntk"].images.shape != sides["port"].images.shape:
        made.checks.append(judgements.other_shape(
            f"{source}/images/apart", sides["port"].images, sides["cntk"].images))
        return
    try:
        links, likely, values = judged(sides, classifier.spec, classifier.of_prepared,
                                       truth.of_prepared, CHECKED)
    except ScoreError as error:  # NaN, say
        made.checks.append(judgements.missing(f"{source}/images/score", str(error)))
        return
    maker = captures.spec.maker
    nudge = captures.nudge(f"{maker.name}/{maker.last}/output")["largest"] \
        if source == maker.name else 0.0
    made.checks += [_check(source, link, nudge) for link in links]
    _figures(figures, "" if source == maker.name else f"{source} ", likely, values)
    top = ", ".join(f"{row['class']} ({row['share']:.0%})" for row in carrying(likely["cntk"], 3))
    title = sources(captures.spec)[source][1]
    made.notes.append(f"{title}: score {values['cntk']:.6g} of {len(likely['cntk'])} pictures; "
                      f"classes that carry it: {top}.")


def makes_pictures(capture: Capture, spec: Spec) -> bool:
    """Whether its program has a reader and a picture writer: then it has to have all of them."""
    return any(WRITTEN.format(source) in capture for source in sources(spec))


def side_of(capture: Capture, source: str, spec: Spec) -> Side | Check:
    """What a capture holds of a source, or the failed check of what it lacks."""
    images = array_or_failure(capture, sources(spec)[source][0])
    if isinstance(images, Check):
        return images
    written: np.ndarray | None = None
    if makes_pictures(capture, spec):
        found = array_or_failure(capture, WRITTEN.format(source))
        if isinstance(found, Check):
            return found
        written = found
    own = f"score/{source}/classifier"
    if f"{own}/logits" not in capture:
        return Side(images, written)
    return Side(images, written, capture[f"{own}/prepared"], capture[f"{own}/logits"],
                float(capture[f"{own}/value"]))


def _check(source: str, link: Link, nudge: float) -> Check:
    """nudge: how far CNTK's own images move by one ULP of the latents. It widens what two sides may
    differ by, not what a side does to its own input."""
    place = f"{source}/{link.step}/{link.side or 'apart'}"
    policy = policy_of(link)
    measured = link.measured if not math.isnan(link.measured) else math.inf
    if link.step == "images":
        return judgements.within_nudges(place, measured, nudge, policy, detail=link.detail)
    wider = 1.0 if link.side else max(1.0, 4 * nudge / OUTPUT.value)
    return judgements.within(place, measured, policy, link.detail, factor=wider,
                             local=True if link.side else None)


def _figures(figures: dict[str, float], before: str, likely: Mapping[str, np.ndarray],
             values: Mapping[str, float]) -> None:
    """``cntk``, ``port`` of the plan's state, as ever; ``trained cntk`` and so on of the others."""
    figures.setdefault("images", float(len(likely["cntk"])))
    low = high = 0.0
    for who, p in likely.items():
        if who == "cntk" or not np.array_equal(p, likely["cntk"]):
            low, high = interval(p, RESAMPLES)
        name = before + who
        figures[name], figures[f"{name}_low"], figures[f"{name}_high"] = values[who], low, high


SCORE = Definition(
    "score", "Inception Score's formula on pictures of both sides, by EfficientNet-Lite0",
    "1e-5 of the score; every step to it on its own", judge,
    only("cntk", "port", arrays=("score",)), ("evaluation",))
