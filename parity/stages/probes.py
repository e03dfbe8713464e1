"""What is computed on inputs made for the edges: Adam, running statistics, pointwise functions; and
the weights as they came in from CNTK's files."""
import numpy as np

from parity.judge import judgements
from parity.judge.policies import (
    LOSS,
    LOSS_GRADIENT,
    POINTWISE,
    POINTWISE_GRADIENT,
    SUBNORMAL,
)
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, compared_bits, pairs
from parity.stages.definition import Definition, array_case, only


def optimizer(stage: Stage, captures: Captures) -> None:
    stage.checks = compared_bits(captures.cntk, captures.port, "optimizer/probe", local=True)


def normalisation(stage: Stage, captures: Captures) -> None:
    stage.checks = compared_bits(captures.cntk, captures.port, "normalisation/probe", local=True)


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
    "optimizer", "Adam on given gradients, 12 steps, many of them clipped", "exact bits", optimizer,
    only("cntk", "port", arrays=("optimizer/probe",)), ("seed",), array_case("optimizer/probe"))
NORMALISATION = Definition(
    "normalisation", "running statistics of a layer from its first minibatch on", "exact bits",
    normalisation, only("cntk", "port", arrays=("normalisation/probe",)), ("seed",),
    array_case("normalisation/probe"))
POINTWISE_FUNCTIONS = Definition(
    "pointwise", "log, sigmoid, rectifiers and the losses, where they saturate", "one rounding",
    pointwise, only("cntk", "port", arrays=("pointwise/probe",)), ("seed",),
    array_case("pointwise/probe"))
STATE = Definition(
    "state", "the weights as they came in from CNTK's model files", "exact bits", state,
    only("cntk", "port", arrays=("state",)), ("evaluation",), array_case("state"))
