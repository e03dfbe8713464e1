"""What is computed on inputs made for the edges: Adam, running statistics, pointwise functions; and
the weights as they came in from CNTK's files."""
import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from captures import probes as inputs
from captures.movement import Moments, update
from captures.plan import Plan
from parity.judge import judgements
from parity.judge.policies import (
    LOSS,
    LOSS_GRADIENT,
    POINTWISE,
    POINTWISE_GRADIENT,
    SUBNORMAL,
)
from parity.judge.results import Check, Stage
from parity.stages.common import (
    Captures,
    array_or_failure,
    arrays_or_failure,
    compared_bits,
    pairs,
)
from parity.stages.definition import Definition, Needs, array_case, only


def optimizer(stage: Stage, captures: Captures) -> None:
    """Bits, or a few roundings of CNTK's formula for each of the steps behind which it stands."""
    stage.checks = compared_bits(captures.cntk, captures.port, "optimizer/probe", local=True)
    if all(check.passed for check in stage.checks):
        return
    wanted = _updates(captures.plan)
    for i, check in enumerate(stage.checks):
        ours = array_or_failure(captures.port, f"optimizer/probe/{check.place}")
        if check.passed or isinstance(ours, Check) or check.place not in wanted:
            continue
        step, value, terms = wanted[check.place]
        stage.checks[i] = judgements.rounded_few_times(check.place, ours, value, terms,
                                                       check.detail, step, True)


def _updates(plan: Mapping[str, Any]) -> dict[str, tuple[int, np.ndarray, np.ndarray]]:
    """Of each array of the probe: the step, the weight that CNTK's formula gives in float64, and of
    what size the terms are that were rounded on the way."""
    initial, gradients = inputs.optimizer_probe(cast(Plan, SimpleNamespace(**plan)))
    made = {}
    for name, weight in initial.items():
        held = Moments(np.asarray(weight, np.float64), np.zeros(weight.shape),
                       np.zeros(weight.shape))
        terms = np.zeros(weight.shape)
        for step, gradient in enumerate(gradients[name], 1):
            done = update(held, gradient, step, int(plan["minibatch_size"]),
                          bool(plan["unit_gain"]))
            held, terms = done.after, np.maximum(terms, done.terms.weight)
            made[f"{name}/step{step:02d}"] = step, held.weight, terms
    return made


def normalisation(stage: Stage, captures: Captures) -> None:
    """Bits, or a few roundings of the statistics, of which the mean's scale is the deviation. A
    user's own layers have no probe: they are judged in their networks."""
    if captures.port.names("normalisation/networks"):
        _of_networks(stage, captures)
        return
    for pair in pairs(captures.cntk, captures.port, "normalisation/probe"):
        if isinstance(pair, Check):
            stage.checks.append(pair)
            continue
        name, theirs, ours = pair
        check = judgements.same_bits(name, ours, theirs, local=True)
        if not check.passed and theirs.dtype.kind == "f" and theirs.shape == ours.shape:
            variance = array_or_failure(
                captures.cntk, f"normalisation/probe/{name.rpartition('/')[0]}/running_variance")
            spread = 0.0 if isinstance(variance, Check) or not name.endswith("mean") \
                else np.sqrt(np.maximum(variance.astype(np.float64), 0))
            check = judgements.rounded_few_times(
                name, ours, theirs.astype(np.float64), np.abs(theirs) + spread, check.detail,
                local=True)
        stage.checks.append(check)


def _of_networks(stage: Stage, captures: Captures) -> None:
    """Running statistics behind each minibatch: the first is copied, a later one comes in by
    1 - exp(-N / T). In float64, of what went in, and of what the port's statistics were before."""
    port, samples = captures.port, int(captures.plan["minibatch_size"])
    for name in port.names("normalisation/networks"):
        minibatch, network, normalisation, quantity = name.split("/")
        if not quantity.startswith("running_"):
            continue
        number = int(minibatch.removeprefix("minibatch"))
        at, before = (f"normalisation/networks/minibatch{i:02d}/{network}/{normalisation}"
                      for i in (number, number - 1))
        found = arrays_or_failure(
            name, (port, f"{at}/{quantity}"), (port, f"{at}/mean"), (port, f"{at}/variance"),
            *([(port, f"{before}/{quantity}")] if number else []))
        if isinstance(found, Check):
            stage.checks.append(found)
            continue
        ours, mean, variance, *held = (array.astype(np.float64) for array in found)
        entered = mean if quantity == "running_mean" else variance
        factor = -math.expm1(-samples / captures.spec.time_constant) if held else 1.0
        wanted = (1 - factor) * held[0] + factor * entered if held else entered
        terms = np.abs(wanted) + (np.sqrt(variance) if quantity == "running_mean" else 0)
        apart = float(np.max(np.abs(ours - wanted) / terms))
        stage.checks.append(judgements.rounded_few_times(
            name, found[0], wanted, terms, ("the first minibatch is copied in CNTK" if not held
            else f"a later minibatch comes in by {factor:.7g} in CNTK")
            + f"; here it is {apart:.3g} of the statistic away", local=True))


# Function to the policies of its output and of its gradient.
ALLOWED = {"log": (POINTWISE, POINTWISE_GRADIENT), "loss_of_real": (LOSS, LOSS_GRADIENT),
           "loss_of_fake": (LOSS, LOSS_GRADIENT)}


def pointwise(stage: Stage, captures: Captures) -> None:
    for pair in pairs(captures.cntk, captures.port, "pointwise/probe"):
        if isinstance(pair, Check):
            stage.checks.append(pair)
            continue
        name, theirs, ours = pair
        if theirs.shape != ours.shape:
            stage.checks.append(judgements.other_shape(name, ours, theirs))
            continue
        function, quantity = name.split("/")
        of_output, of_gradient = ALLOWED.get(function, (POINTWISE, POINTWISE))
        tiny = SUBNORMAL.value
        same = (ours == theirs) | ((np.abs(ours) <= tiny) & (np.abs(theirs) <= tiny))
        with np.errstate(all="ignore"):
            apart = np.where(same, 0.0, np.abs(ours.astype(float) - theirs) / np.abs(
                theirs.astype(float)))
        worst = int(np.argmax(np.nan_to_num(apart, nan=np.inf)))
        stage.checks.append(judgements.within(
            name, float(np.nan_to_num(apart, nan=np.inf)[worst]),
            of_output if quantity == "output" else of_gradient,
            f"at point {worst}: {theirs[worst]:.9g} in CNTK, {ours[worst]:.9g} in the port",
            local=True))


def state(stage: Stage, captures: Captures) -> None:
    stage.checks = compared_bits(captures.cntk, captures.port, "state")


OPTIMIZER = Definition(
    "optimizer", "Adam on given gradients, 12 steps, many of them clipped",
    "bits, or a few roundings", optimizer,
    only("cntk", "port", arrays=("optimizer/probe",)), ("seed",), array_case("optimizer/probe"))
NORMALISATION = Definition(
    "normalisation", "running statistics of a layer from its first minibatch on",
    "bits, or a few roundings", normalisation,
    {"cntk": Needs(("normalisation/probe",)), "port": Needs(("normalisation",))}, ("seed",),
    array_case("normalisation/probe", "normalisation"))
POINTWISE_FUNCTIONS = Definition(
    "pointwise", "log, sigmoid, rectifiers and the losses, where they saturate", "one rounding",
    pointwise, only("cntk", "port", arrays=("pointwise/probe",)), ("seed",),
    array_case("pointwise/probe"))
STATE = Definition(
    "state", "the weights as they came in from CNTK's model files", "exact bits", state,
    only("cntk", "port", arrays=("state",)), ("evaluation",), array_case("state"))
