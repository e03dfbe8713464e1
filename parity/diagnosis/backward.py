"""A whole backward pass of the port's, gradient by gradient, each on the port's own.

    of_losses(captures, "d")     what is wrong with the loss's own gradient
    of_pass(captures, "d", ...)  every gradient behind it that is wrong, with its hypotheses
"""
from collections.abc import Iterator
from functools import partial

import numpy as np

from captures.spec import SIGMOID, Branch, Layer
from parity.diagnosis.arithmetic import Floats
from parity.diagnosis.evidence import Case, Family, Found, found, read, rms
from parity.diagnosis.gradients import (
    Back,
    Judged,
    backwards,
    factors,
    losses,
    of_input,
    of_parameters,
)
from parity.diagnosis.walk import G_STEP, TRAINING, Pass
from parity.stages.common import Captures

Wrong = tuple[str, tuple[str, str], Case, Family]
OWN = 1e-6  # of a gradient's size: what float32 leaves in a backward pass on its own inputs


def _pass(captures: Captures, which: str) -> Pass:
    return Pass(captures, TRAINING if which == "d" else G_STEP, False)


def _gradient(captures: Captures, which: str, name: str) -> Floats | None:
    return read(captures.port, f"gradient/{which}/{name}")


def learning(captures: Captures, which: str) -> list[Branch]:
    """The branches that a gradient runs through, the loss's first."""
    spec = captures.spec
    named = (spec.real, spec.fake) if which == "d" else (spec.fake, spec.maker.name)
    return [next(one for one in spec.branches if one.name == name) for name in named]


# ---------------------------------------------------------------------------------------- the loss


def of_losses(captures: Captures, which: str) -> tuple[str, Found] | None:
    spec, one = captures.spec, _pass(captures, which)
    judged = []
    for branch in learning(captures, which):
        if branch.network != spec.critic.name:
            continue
        p = one.output(branch.name, spec.critic.last)
        g = _gradient(captures, which, f"{branch.name}/{spec.critic.last}/output")
        if g is None and p is not None:  # the losses take logits
            of_logit = _gradient(captures, which, f"{branch.name}/{spec.critic.logit}/output")
            g = None if of_logit is None or not _between(p) else of_logit / (p * (1 - p))
        if p is None or g is None or p.shape != g.shape or not _between(p):
            return None
        judged.append(Judged(branch.name, p, g, which == "g" or branch.name == spec.real))
    if not judged or all(_same(each.gradient, each.right) for each in judged):
        return None
    samples = int(captures.plan["minibatch_size"])
    for hypothesis, predictions in losses(judged, samples):
        if all(_same(each.gradient, value) for each, value in zip(judged, predictions,
                                                                  strict=True)):
            return (f"{judged[0].branch}/{spec.critic.last}/output", found(hypothesis, 0.0))
    return None


def _between(p: Floats) -> bool:
    return bool(np.all((p > 0) & (p < 1)))


def _same(port: Floats, wanted: Floats) -> bool:
    """Each value to a few roundings; 1 - p has fewer digits where p is nearly 1."""
    return bool(np.all(np.abs(port - wanted) <= 2e-6 * np.abs(wanted) * (1 + np.abs(wanted) / 8)))


# --------------------------------------------------------------------------------- behind the loss


def of_pass(captures: Captures, which: str, asked: set[str], known: set[tuple[str, str]]
            ) -> Iterator[Wrong]:
    """asked: places whose gradient failed. known: layers whose forward pass is wrong already."""
    one = _pass(captures, which)
    learnt = captures.spec.learns(which).name
    sums: dict[str, Floats] = {}
    for branch in learning(captures, which):
        network = captures.spec.network(branch.name)
        for layer in reversed(network.layers):
            back = _back(captures, which, one, branch, layer)
            if back is None:
                continue
            before = network.before(layer.name)
            place = f"{branch.name}/{before}/output"
            if before and place in asked and (network.name, layer.name) not in known:
                yield from _input(captures, which, place, (network.name, layer.name), back)
            if network.name == learnt and any(
                    f"{network.name}/{layer.name}/{quantity}" in asked
                    for quantity in layer.parameters):
                for quantity, value in of_parameters(back).items():
                    name = f"{network.name}/{layer.name}/{quantity}"
                    sums[name] = sums[name] + value if name in sums else value
    samples = int(captures.plan["minibatch_size"])
    for name, right in sums.items():
        network_name, layer_name, _ = name.split("/")
        port = _gradient(captures, which, name)
        if name not in asked or port is None or (network_name, layer_name) in known:
            continue
        case = Case(port, right, OWN * rms(right))
        if port.shape == right.shape and case.wrong:
            yield name, (network_name, layer_name), case, partial(factors, case, samples)


def _back(captures: Captures, which: str, one: Pass, branch: Branch, layer: Layer) -> Back | None:
    x, y = one.into(branch, layer), one.output(branch.name, layer.name)
    g = _gradient(captures, which, f"{branch.name}/{layer.name}/output")
    if x is None or y is None or g is None or g.shape != y.shape or x.shape[1:] != layer.input:
        return None
    if layer.kind == SIGMOID and not _between(y):
        return None
    given = one.given(branch, layer, x)
    return Back(layer, x, y, g, given.arrays, given.epsilon, given.slope)


def _input(captures: Captures, which: str, place: str, layer: tuple[str, str], back: Back
           ) -> Iterator[Wrong]:
    port = _gradient(captures, which, place)
    if port is None:
        return
    right = of_input(back)
    if port.shape != right.shape:
        return
    # What float32 leaves: a normalisation takes a part away that is nearly all of it.
    case = Case(port, right, OWN * (rms(right) + 0.1 * _lost(back)))
    if case.wrong:
        yield place, layer, case, lambda: backwards(back, case)


def _lost(back: Back) -> float:
    """Of a normalisation: the size of the gradient before its mean and slope are taken out."""
    if "running_variance" not in back.arrays:
        return 0.0
    x = back.x
    deviation = x.std((0, 2, 3))
    factor = np.abs(back.arrays["scale"]) / np.sqrt(np.square(deviation) + back.epsilon)
    return rms(back.g * factor.reshape(1, -1, 1, 1))
