"""TODO."""
import numpy as np

from parity.judge import judgements
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, compared_bits, pairs


def optimizer(captures: Captures) -> Stage:
    return Stage("optimizer", "Adam on given gradients, 12 steps, many of them clipped",
                 compared_bits(captures.cntk, captures.port, "optimizer/probe", local=True))


def normalisation(captures: Captures) -> Stage:
    return Stage("normalisation", "running statistics of a layer from its first minibatch on",
                 compared_bits(captures.cntk, captures.port, "normalisation/probe", local=True))


POINTWISE = {"log": ("pointwise", "pointwise_gradient"), "loss_of_real": ("loss", "loss_gradient"),
             "loss_of_fake": ("loss", "loss_gradient")}


def pointwise(captures: Captures) -> Stage:
    stage = Stage("pointwise", "log, sigmoid, rectifiers and the losses, where they saturate")
    for pair in pairs(captures.cntk, captures.port, "pointwise/probe"):
        if isinstance(pair, Check):
            stage.checks.append(pair)
            continue
        name, theirs, ours = pair
        if theirs.shape != ours.shape:
            stage.checks.append(judgements.other_shape(name, ours, theirs))
            continue
        function, quantity = name.split("/")
        policies = POINTWISE.get(function, ("pointwise", "pointwise"))
        same = (ours == theirs) | ((np.abs(ours) <= 1e-45) & (np.abs(theirs) <= 1e-45))
        with np.errstate(all="ignore"):
            apart = np.where(same, 0.0, np.abs(ours.astype(float) - theirs) / np.abs(
                theirs.astype(float)))
        worst = int(np.argmax(np.nan_to_num(apart, nan=np.inf)))
        stage.checks.append(judgements.within(
            name, float(np.nan_to_num(apart, nan=np.inf)[worst]),
            policies[0] if quantity == "output" else policies[1],
            f"at point {worst}: {theirs[worst]:.9g} in CNTK, {ours[worst]:.9g} in the port",
            local=True))
    return stage


def state(captures: Captures) -> Stage:
    return Stage("state", "the weights as they came in from CNTK's model files",
                 compared_bits(captures.cntk, captures.port, "state"))
