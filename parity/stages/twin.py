"""Whole training runs from the seed alone, iteration by iteration; the first difference in time is
the first failure.

Three ways, and the capture says which (its fact "mode"):

bits   The port had CNTK's bits behind the first iteration, so bits are what it is asked for: of
       latents, minibatches, losses, and everything that an iteration moves. Losing them at
       iteration t is a failure at t.
step   It never had them. Then it was given CNTK's state before each iteration, and what the
       iteration moved is compared: nothing has time to grow.
free   Nobody was beside it. Two runs whose weights differ in the last place part by some per cent
       within five iterations, so all that can be asked is that the port parts from CNTK no faster
       than CNTK from itself, which takes CNTK's reruns from nudged weights to tell.
"""
import itertools
import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from captures.format import Capture
from captures.lockstep import BITS, FREE, STEP
from parity.judge import judgements
from parity.judge.policies import EXACT, FIRST_LOSS, HORIZON
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, array_or_failure
from parity.stages.definition import Definition, Needs
from parity.stages.in_step import LOSSES, in_step, order
from parity.stages.reader import same_minibatches

WEIGHTS = "twin/run/weights/sampled"


def judge(stage: Stage, captures: Captures) -> None:
    cntk, port = captures.twins["cntk"], captures.twins["port"]
    stage.checks += inputs(cntk, port)
    plan, mode = cntk.manifest["plan"], port.facts.get("mode", FREE)
    if cntk.facts.get("state_hashes") and not differing(cntk, port, 0):
        mode = BITS  # whoever was beside it
    count = len(cntk.facts.get("state_hashes", []))
    asked = int(plan["twin_iterations"])
    if count < asked and mode != FREE:
        stage.checks.append(judgements.missing(
            "twin/run/length", f"CNTK's run has {count} of {asked} iterations"))
    if mode == BITS:
        stage.checks += same_bits(cntk, port)
        at = lost(cntk, port)
        stage.notes.append(f"The port loses CNTK's bits in iteration {at} of {count}." if at else
                           f"The port has CNTK's bits through {count} iterations from seed "
                           f"{plan['seed']}.")
    elif mode == STEP:
        stage.checks += in_step(cntk, port)
        stage.notes.append(f"The port never had CNTK's bits: each of {count} iterations from seed "
                           f"{plan['seed']} began at CNTK's state.")
    else:
        free(stage, captures)


def inputs(cntk: Capture, port: Capture) -> Iterator[Check]:
    """What an iteration begins with: initial weights, minibatches, latents."""
    a, b = (capture.facts.get("initial_sha256") or {} for capture in (cntk, port))
    wrong = sorted(name for name in {**a, **b} if a.get(name) != b.get(name))
    yield judgements.within(
        f"twin/initial/{wrong[0] if wrong else 'weights'}", len(wrong), EXACT,
        f"other initial values in {', '.join(wrong[:3])}") if a and b else judgements.missing(
            "twin/initial/weights", "a side has no hashes of its initial weights")
    yield same_minibatches("twin/reader/minibatches", *(
        capture.facts.get("minibatch_sha256") for capture in (cntk, port)))
    theirs, ours = (capture.facts.get("latents_hashes") for capture in (cntk, port))
    if theirs is None and ours is None:
        return  # runs of before latents were kept
    if not theirs or not ours:
        yield judgements.missing("twin/latents/drawn", "one side has no hashes of its latents")
        return
    other = [i // 2 + 1 for i, (x, y) in enumerate(itertools.zip_longest(theirs, ours)) if x != y]
    yield judgements.within("twin/latents/drawn", len(other), EXACT,
                            f"the latents of iterations {sorted(set(other))[:5]} are others")


# ------------------------------------------------------------------------------------------- bits


def differing(cntk: Capture, port: Capture, i: int) -> list[str]:
    """The arrays that have not CNTK's bits behind iteration i, from 0."""
    sides = [capture.facts.get("state_hashes", []) for capture in (cntk, port)]
    a, b = (side[i] if i < len(side) else {} for side in sides)
    return sorted((name for name in {**a, **b} if a.get(name) != b.get(name)),
                  key=partial(order, cntk.spec.critic.name))


def lost(cntk: Capture, port: Capture) -> int | None:
    """The iteration, from 1, behind which the bits are no longer CNTK's."""
    for i in range(len(cntk.facts.get("state_hashes", []))):
        if differing(cntk, port, i):
            return i + 1
    return None


def same_bits(cntk: Capture, port: Capture) -> Iterator[Check]:
    """Iterations up to the first that differs; what follows it says nothing new."""
    losses = [array_or_failure(capture, LOSSES) for capture in (cntk, port)]
    for i in range(len(cntk.facts.get("state_hashes", []))):
        wrong = differing(cntk, port, i)
        place = wrong[0] if wrong else "twin/state/bits"
        yield judgements.within(
            f"iteration{i + 1:04d}/{place}", len(wrong), EXACT,
            f"behind iteration {i + 1} {len(wrong)} arrays have not CNTK's bits, the first in "
            f"order {', '.join(wrong[:3])}: until then every one had")
        for at, name in enumerate(("D_loss", "G_loss")):
            a, b = losses
            if isinstance(a, Check) or isinstance(b, Check) or min(len(a), len(b)) <= i:
                yield judgements.missing(f"iteration{i + 1:04d}/twin/{name}",
                                         "one side has no loss of this iteration")
                continue
            yield judgements.same_bits(f"iteration{i + 1:04d}/twin/{name}", b[i, at], a[i, at])
        if wrong:
            return


# ------------------------------------------------------------------------------------------- free


def free(stage: Stage, captures: Captures) -> None:
    """Distances from CNTK's run, against those of CNTK's own reruns."""
    unusable = incomparable(captures.twins)
    if unusable:
        stage.checks += unusable
        return
    reference, port = captures.twins["cntk"][LOSSES], captures.twins["port"][LOSSES]
    distances = horizon(captures.twins)
    first = abs(float(port[0, 0]) / float(reference[0, 0]) - 1)
    stage.checks.append(judgements.within("iteration0001/twin/D_loss", first, FIRST_LOSS,
                                          f"the first D loss differs by {first:.3g}"))
    for quantity, series in distances.items():
        reruns = [values for name, values in series.items() if name.startswith("rerun")]
        if not reruns:
            stage.notes.append(f"{quantity} of a free run: CNTK's own reruns were not made, so how "
                               "far it may part was not judged.")
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
    "twin", "from the seed alone: initial weights, minibatches, latents, and all that each "
            "iteration moves", "bits; or each iteration from CNTK's own state", judge,
    {"twin-cntk": Needs(), "twin-port": Needs()})
