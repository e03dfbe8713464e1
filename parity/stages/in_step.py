"""A run that had CNTK's state before each iteration: what an iteration moved, against what it moved
in CNTK; nothing has time to grow.

Three things hold a learnt array: its m is held against its gradient, as far as it goes elsewhere
and by which scale; weight and v have to be what CNTK's Adam makes beside that m; and no array goes
elsewhere alone. Statistics are held against their size, counts are exact.
"""
import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from captures import observe
from captures.format import Capture
from captures.movement import UNIT, parameter_of
from captures.spec import Spec
from parity.judge import judgements
from parity.judge.policies import (
    EXACT,
    FEW_ROUNDINGS,
    FORMULA_CHAIN,
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
from parity.judge.results import Check
from parity.stages.common import array_or_failure

LOSSES = "twin/run/losses/d_and_g"
APART, OWN = "twin/step/state/apart", "twin/step/state/own"
STATISTICS, COUNTS = ("running_mean", "running_variance"), ("sample_count", "minibatches")


def order(critic: str, name: str) -> tuple[bool, bool, int, str]:
    """In which a difference spreads within an iteration: the critic's step comes first, and what a
    step learns before what it counts on the way."""
    network, layer, quantity = name.split("/")
    number = int("".join(c for c in layer if c.isdigit()) or 0)
    return (network != critic, quantity in STATISTICS, number, name)


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
