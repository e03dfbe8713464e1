"""The Inception Score's formula on pictures that both sides made from the same latents and weights.

Each source of pictures (``scores/sides.py``) is by the side's own hands, down to the files that its
own writer wrote. They went through one classifier, whose capture is read here, and every step is
judged where it is taken (``scores/paired.py``), so that a difference says where it began; CNTK
looked at some of them itself, in its own process.

The classifier is EfficientNet-Lite0 by default, so the number is not a paper's Inception Score.
"""
import math
from collections.abc import Mapping, Sequence

import numpy as np

from captures.errors import CaptureError, DamageError
from captures.format import Capture
from parity.judge import judgements
from parity.judge.policies import (
    FEATURES,
    FEATURES_CHAIN,
    LOGITS,
    LOGITS_CHAIN,
    OUTPUT,
    PICTURES,
    PREPARED,
    SCORE_OF_FLIPS,
    Policy,
)
from parity.judge.policies import SCORE as POLICY
from parity.judge.results import Check, Stage
from parity.stages.common import CLASSIFIER, Captures
from parity.stages.definition import Definition, Needs, only
from scores.capture.looks import look_of
from scores.errors import ScoreError
from scores.evaluate import carrying
from scores.inception_score import interval
from scores.paired import Link, Side, judged
from scores.sides import compared, side_of, sources

POLICY_OF: dict[str, Policy] = {"images": OUTPUT, "pictures": PICTURES, "prepared": PREPARED,
                                "features": FEATURES, "logits": LOGITS, "score": POLICY}
CHAIN: dict[str, Policy] = {"features": FEATURES_CHAIN, "logits": LOGITS_CHAIN}
RESAMPLES = 200


def policy_of(link: Link, part: float = 0.0) -> Policy:
    """part: what ``turned`` says. Where rounding turned values of the pictures, what comes of them
    is judged more loosely between the sides than a side's on its own input."""
    return (CHAIN if part and not link.side else {}).get(link.step, POLICY_OF[link.step])


def turned(links: Sequence[Link], nudge: float = 0.0) -> float:
    """The part of the two sides' pictures' values that rounding turned: another whole number came
    out for them. 0 where images or pictures are farther apart than rounding takes them. nudge: as
    ``_check``."""
    steps = [one for one in links if not one.side and one.step in ("images", "pictures")]
    return steps[-1].measured if all(
        one.measured <= policy_of(one).value * wider(nudge) for one in steps) and steps else 0.0


def wider(nudge: float) -> float:
    """Times that images which a nudge moves are allowed to be apart."""
    return max(1.0, 4 * nudge / OUTPUT.value)


def allowed(link: Link, part: float) -> float:
    """part: what ``turned`` says. It moves the score."""
    more = SCORE_OF_FLIPS.value * part if link.step == "score" and not link.side else 0.0
    return policy_of(link, part).value + more


def judge(made: Stage, captures: Captures) -> None:
    by = captures.of(CLASSIFIER)
    assert by is not None  # the stage needs it
    figures: dict[str, float] = {}
    for source, (_, title) in sources(captures.spec).items():
        if compared(source, captures.cntk, captures.port):
            _judge_source(made, captures, source, by, figures)
        else:
            made.notes.append(f"No pictures of {title}: none were asked for, or a port has no "
                              "program for them.")
    about = by.facts["classifier"]
    made.notes.append(f"By {about['title']}; weights {about['weights']}. Compare it only with "
                      "scores by the same classifier, of as many pictures.")
    captures.found["score"] = figures


def _judge_source(made: Stage, captures: Captures, source: str, by: Capture,
                  figures: dict[str, float]) -> None:
    sides: dict[str, Side] = {}
    for who, capture in (("cntk", captures.cntk), ("port", captures.port)):
        try:
            sides[who] = side_of(capture, source)
        except DamageError:
            raise
        except CaptureError as error:
            made.checks.append(judgements.missing(f"{source}/images/{who}", str(error)))
    if len(sides) < 2:
        return
    if sides["cntk"].images.shape != sides["port"].images.shape:
        made.checks.append(judgements.other_shape(
            f"{source}/images/apart", sides["port"].images, sides["cntk"].images))
        return
    about = by.facts["classifier"]
    try:
        if source in by.facts["refused"]:
            raise ScoreError(by.facts["refused"][source])
        links, likely, values = judged(sides, {who: look_of(by, source, who) for who in sides},
                                       about["name"], about["kernel"])
    except DamageError:
        raise
    except (CaptureError, ScoreError) as error:  # NaN, say
        made.checks.append(judgements.missing(f"{source}/images/score", str(error)))
        return
    maker = captures.spec.maker
    nudge = captures.nudge(f"{maker.name}/{maker.last}/output")["largest"] \
        if source == maker.name else 0.0
    part = turned(links, nudge)
    made.checks += [_check(source, link, nudge, part) for link in links]
    _figures(figures, "" if source == maker.name else f"{source} ", likely, values)
    top = ", ".join(f"{row['class']} ({row['share']:.0%})" for row in carrying(likely["cntk"], 3))
    title = sources(captures.spec)[source][1]
    made.notes.append(f"{title}: score {values['cntk']:.6g} of {len(likely['cntk'])} pictures; "
                      f"classes that carry it: {top}.")


def _check(source: str, link: Link, nudge: float, part: float) -> Check:
    """nudge: how far CNTK's own images move by one ULP of the latents. It widens what two sides may
    differ by, not what a side does to its own input. part: as ``allowed``."""
    place = f"{source}/{link.step}/{link.side or 'apart'}"
    policy = policy_of(link, part)
    measured = link.measured if not math.isnan(link.measured) else math.inf
    if link.step == "images":
        return judgements.within_nudges(place, measured, nudge, policy, detail=link.detail)
    factor = allowed(link, part) / policy.value * (1.0 if link.side else wider(nudge))
    return judgements.within(place, measured, policy, link.detail, factor=factor,
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
    {**only("cntk", "port", arrays=("score",)), CLASSIFIER: Needs(facts=("classifier",))},
    ("evaluation",))
