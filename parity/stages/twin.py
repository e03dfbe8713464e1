"""Whole training runs from the seed alone."""
import math

import numpy as np

from captures.format import Capture
from parity.judge import judgements
from parity.judge.policies import EXACT, FIRST_LOSS, HORIZON
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, array_or_failure
from parity.stages.definition import Definition, only
from parity.stages.reader import same_minibatches


def judge(stage: Stage, captures: Captures) -> None:
    cntk, port = captures.twins["cntk"], captures.twins["port"]
    a, b = (capture.facts.get("initial_sha256") or {} for capture in (cntk, port))
    wrong = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    stage.checks.append(judgements.within(
        "twin/initial/weights", len(wrong), EXACT,
        f"other initial values in {', '.join(wrong[:3])}") if a or b else judgements.missing(
            "twin/initial/weights", "neither side has hashes of its initial weights"))
    stage.checks.append(same_minibatches("twin/reader/minibatches", *(
        capture.facts.get("minibatch_sha256") for capture in (cntk, port))))
    unusable = incomparable(captures.twins)
    if unusable:
        stage.checks += unusable
        return
    distances = horizon(captures.twins)
    reference = cntk[LOSSES]
    first = abs(float(port[LOSSES][0, 0]) / float(reference[0, 0]) - 1)
    stage.checks.append(judgements.within("iteration0001/twin/D_loss", first, FIRST_LOSS,
                                       f"the first D loss differs by {first:.3g}"))
    for quantity, series in distances.items():
        reruns = [values for name, values in series.items() if name.startswith("rerun")]
        if not reruns:
            continue
        bound = np.max(reruns, axis=0)
        for i in range(len(reference)):
            if quantity == "D_loss" and i == 0:
                continue
            ratio = series["port"][i] / bound[i] if bound[i] else (
                0.0 if not series["port"][i] else math.inf)
            stage.checks.append(judgements.within(
                f"iteration{i + 1:04d}/twin/{quantity}", ratio, HORIZON,
                f"the port is {series['port'][i]:.3g} away from CNTK, CNTK's own reruns at most "
                f"{bound[i]:.3g}", figures={"port": float(series["port"][i]),
                                            "largest_rerun": float(bound[i])}))
    step_reached = indistinguishable(distances)
    if step_reached is not None:
        stage.notes.append(f"Up to iteration {step_reached} of {len(reference)} the port is no "
                           "farther from CNTK's weights than the farthest of CNTK's own one-ULP "
                           "reruns.")


LOSSES, WEIGHTS = "twin/run/losses/d_and_g", "twin/run/weights/sampled"


def incomparable(twins: dict[str, Capture]) -> list[Check]:
    """A failed check for every run that ended early, reached NaN or lacks something."""
    checks = []
    for array in (LOSSES, WEIGHTS):
        reference = array_or_failure(twins["cntk"], array)
        for name, capture in twins.items():
            found = array_or_failure(capture, array)
            if isinstance(found, Check):
                checks.append(found)
            elif not isinstance(reference, Check) and found.shape != reference.shape:
                checks.append(judgements.missing(
                    array, f"the shape is {found.shape} in twin-{name}, "
                                                     f"{reference.shape} in twin-cntk"))
    return checks


def horizon(twins: dict[str, Capture]) -> dict[str, dict[str, np.ndarray]]:
    """Distances from CNTK's run: of its weights (root mean square over 256 places of every
    parameter) and its two losses (largest so far): quantity to run to one value an iteration."""
    reference = twins["cntk"]
    losses = reference[LOSSES]
    weights = reference[WEIGHTS].astype(np.float64)
    made: dict[str, dict[str, np.ndarray]] = {"weights": {}, "D_loss": {}, "G_loss": {}}
    for name, capture in twins.items():
        if name == "cntk":
            continue
        apart = capture[WEIGHTS] - weights
        made["weights"][name] = np.sqrt(np.mean(apart ** 2, axis=1))
        gone = np.maximum.accumulate(np.abs(capture[LOSSES] - losses), axis=0)
        made["D_loss"][name], made["G_loss"][name] = gone[:, 0], gone[:, 1]
    return made


def indistinguishable(distances: dict[str, dict[str, np.ndarray]]) -> int | None:
    """The last iteration up to which the port is no farther away than the farthest rerun."""
    series = distances["weights"]
    reruns = [values for name, values in series.items() if name.startswith("rerun")]
    if not reruns:
        return None
    beyond = np.flatnonzero(series["port"] > np.max(reruns, axis=0))
    return int(beyond[0]) if beyond.size else len(series["port"])


TWIN_RUN = Definition(
    "twin", "from the seed alone: initial weights, minibatches, losses; and how fast CNTK parts "
            "from itself", "exact weights and minibatches; distance against CNTK's own", judge,
    only("twin-cntk", "twin-port"))
