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
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from captures import observe
from captures.format import Capture
from captures.lockstep import BITS, FREE, STEP
from captures.movement import UNIT, parameter_of
from captures.spec import Spec
from parity.judge import judgements
from parity.judge.policies import (
    EXACT,
    FEW_ROUNDINGS,
    FIRST_LOSS,
    FORMULA_CHAIN,
    HORIZON,
    STEP_ALONE,
    STEP_ALONE_TIMES,
    STEP_G_LOSS,
    STEP_LAST,
    STEP_LOSS,
    STEP_MOVEMENT,
    STEP_SCALE,
    STEP_SCALE_NOISE,
    STEP_STATISTIC,
    Policy,
)
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, array_or_failure
from parity.stages.definition import Definition, Needs
from parity.stages.reader import same_minibatches

LOSSES, WEIGHTS = "twin/run/losses/d_and_g", "twin/run/weights/sampled"
APART, OWN = "twin/step/state/apart", "twin/step/state/own"
STATISTICS, COUNTS = ("running_mean", "running_variance"), ("sample_count", "minibatches")


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
    wrong = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    yield judgements.within(
        "twin/initial/weights", len(wrong), EXACT,
        f"other initial values in {', '.join(wrong[:3])}") if a or b else judgements.missing(
            "twin/initial/weights", "neither side has hashes of its initial weights")
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


def order(critic: str, name: str) -> tuple[bool, bool, int, str]:
    """In which a difference spreads within an iteration: the critic's step comes first, and what a
    step learns before what it counts on the way."""
    network, layer, quantity = name.split("/")
    number = int("".join(c for c in layer if c.isdigit()) or 0)
    return (network != critic, quantity in STATISTICS, number, name)


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


# ---------------------------------------------------------------------------------------- in step


def in_step(cntk: Capture, port: Capture) -> Iterator[Check]:
    """Every iteration from CNTK's own state: losses, counters, statistics, weights, m and v."""
    theirs = array_or_failure(cntk, LOSSES)
    ours, apart = (array_or_failure(port, name, finite=False) for name in (LOSSES, APART))
    for found in (theirs, ours, apart):  # what is not finite is named at its iteration
        if isinstance(found, Check):
            yield judgements.missing("twin/step/state", found.detail)
            return
    assert not isinstance(theirs, Check) and not isinstance(ours, Check) \
        and not isinstance(apart, Check)
    if OWN in port:  # captures of before have none
        own = array_or_failure(port, OWN, finite=False)
        if isinstance(own, Check):
            yield judgements.missing("twin/step/state", own.detail)
            return
        apart = np.concatenate([apart, own[..., None]], axis=2)
    names = port.facts.get("step_names", [])
    critic = cntk.spec.critic.name + "/"
    sharp = behind_the_kinks(cntk.spec, int(cntk.manifest["plan"]["twin_minibatch_size"]))
    at = sorted(range(len(names)), key=lambda i: order(cntk.spec.critic.name, names[i]))
    for i in range(len(theirs)):
        place = f"iteration{i + 1:04d}"
        if i >= len(apart):
            yield judgements.missing(f"{place}/twin/state", "the port has not done this iteration")
            return
        # A count is exact, and says more than the loss that it spoils.
        counts = [k for k in at if names[k].rpartition("/")[2] in COUNTS]
        yield from _worst_of_each(place, [names[k] for k in counts], apart[i][counts],
                                  STEP_STATISTIC, sharp)
        for column, (name, learnt) in enumerate((("D_loss", True), ("G_loss", False))):
            gone = abs(float(ours[i, column]) / float(theirs[i, column]) - 1)
            yield judgements.within(
                f"{place}/twin/{name}", _number(gone), STEP_LOSS if learnt else STEP_G_LOSS,
                f"from CNTK's state the loss is {ours[i, column]:.9g}, CNTK's "
                f"{theirs[i, column]:.9g}")
            # What the critic's step moved decides the other loss, so it comes before. The first
            # minibatch of all is the running statistic, with the rounding of the chain.
            of = [k for k in at if names[k].startswith(critic) is learnt and k not in counts]
            yield from _worst_of_each(place, [names[k] for k in of], apart[i][of],
                                      STEP_STATISTIC if i else FORMULA_CHAIN, sharp)


class Sharp(NamedTuple):
    """names: what the names of the critic's arrays begin with that no rectifier parts from the
    loss. least: the movement that 16 roundings of the sum of 2 N probabilities are allowed of.
    first: what the names of its first layer begin with, which has no other layer before it."""

    names: tuple[str, ...]
    least: float
    first: str


def behind_the_kinks(spec: Spec, samples: int) -> Sharp:
    """Of the critic's arrays."""
    layers = [layer.name for layer in spec.critic.layers]
    rectified = [i for i, name in enumerate(layers) if name in spec.critic.rectified]
    # "rectified" are the rectifiers' inputs; the layer behind them is the rectifier itself.
    last = max(rectified, default=-2) + 2
    return Sharp(tuple(f"{spec.critic.name}/{name}/" for name in layers[last:]),
                 2 * samples * FEW_ROUNDINGS.value * UNIT / STEP_LAST.value,
                 f"{spec.critic.name}/{layers[0]}/")


def _worst_of_each(place: str, names: Sequence[str], rows: np.ndarray,
                   of_statistics: Policy, sharp: Sharp) -> Iterator[Check]:
    """A check for each kind of quantity: of the arrays that fail the first in order, else the
    worst."""
    kinds: dict[str, list[Check]] = {}
    known = set(names) if rows.shape[1] > len(observe.APART) else set()
    parts = {name: _part(float(row[0]), float(row[1]))
             for name, row in zip(names, rows, strict=True) if gradient_of(name, known)}
    for name, row in zip(names, rows, strict=True):
        quantity = name.rpartition("/")[2]
        difference, movement, size, largest = (float(value) for value in row[:4])
        if quantity in COUNTS:
            kind, check = "counts", judgements.within(
                f"{place}/{name}", _number(largest), EXACT,
                "the count is another")
        elif quantity in STATISTICS:
            kind, check = "statistics", judgements.within(
                f"{place}/{name}", _part(difference, size), of_statistics,
                f"from CNTK's state the statistic goes {difference:.3g} elsewhere, it moved by "
                f"{movement:.3g}")
        elif not gradient_of(name, known):
            kind, check = "learnt", judgements.within(
                f"{place}/{name}", _number(float(row[-1])), FEW_ROUNDINGS,
                "it is not what CNTK's Adam makes beside the m of the same update")
        else:
            few, last = not row[5:6].any(), name.startswith(sharp.names)
            kind, check = "learnt", _movement(
                f"{place}/{name}", difference, movement, row[4:],
                STEP_LAST if last else STEP_MOVEMENT, sharp.least if last and few else 0.0)
            others = [part for other, part in parts.items() if other != name]
            if others and not few and not name.startswith(sharp.first):
                check = max(check, _alone(f"{place}/{name}", parts[name], max(others)),
                            key=lambda one: one.margin)
        kinds.setdefault(kind, []).append(check)
    for checks in kinds.values():
        failed = [check for check in checks if not check.passed]
        yield failed[0] if failed else max(checks, key=lambda check: check.margin)


def gradient_of(name: str, known: Collection[str]) -> bool:
    """Whether an array that is learnt says what its gradient was: m; a weight, where its m and how
    it stands to it are not among ``known``."""
    quantity = name.rpartition("/")[2]
    return quantity not in (*COUNTS, *STATISTICS) and (
        name.endswith("_m") or parameter_of(name) + "_m" not in known)


def _alone(place: str, part: float, other: float) -> Check:
    """part, other: of their gradients, how far an array goes elsewhere, and the farthest of all
    others of its network."""
    times = part / other if other else (math.inf if part else 0.0)
    measured = min(part, STEP_ALONE.value * times / STEP_ALONE_TIMES.value)
    return judgements.within(
        place, _number(measured), STEP_ALONE,
        f"from CNTK's state it goes {part:.3g} of its gradient elsewhere, the next array of its "
        f"network {other:.3g}")


def _movement(place: str, difference: float, movement: float, scales: np.ndarray,
              policy: Policy, least: float) -> Check:
    """By how much it goes elsewhere, or by which scale, of all of it or of a filter. scales: the
    columns behind the fourth, as many as were kept. least: that the movement counts as."""
    made = judgements.within(
        place, _part(difference, max(movement, least)), policy,
        f"from CNTK's state it goes {difference:.3g} elsewhere, CNTK moved it by {movement:.3g}")
    if len(scales) < len(observe.APART) - 4:
        return made  # a capture of before scales were kept
    whole, part = scales[:2], scales[3:5]
    number = int(scales[2]) if math.isfinite(scales[2]) else 0
    of = f"channel {number - 1000}" if number >= 1000 else f"filter {number}"
    for (scale, noise), what in ((whole, "all of it"), (part, of)):
        sure = abs(scale) / noise if noise else (math.inf if scale else 0.0)
        measured = min(abs(scale), STEP_SCALE.value * sure / STEP_SCALE_NOISE.value)
        check = judgements.within(
            place, _number(measured), STEP_SCALE,
            f"from CNTK's state {what} goes {1 + scale:.5g} times as far as CNTK's")
        made = max(made, check, key=lambda one: one.margin)
    return made


def _number(value: float) -> float:
    """NaN is as far off as can be."""
    return math.inf if math.isnan(value) else value


def _part(difference: float, whole: float) -> float:
    if math.isnan(difference):
        return math.inf
    return difference / whole if whole else (0.0 if not difference else math.inf)


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
