"""The families that look at arrays as they are: structure, initial weights, probes, loaded weights.

Each takes the captures and a failed stage and yields (place, what was found there).
"""
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from captures import probes as inputs
from captures.plan import Plan
from captures.spec import TRANSPOSED
from parity.diagnosis import optimizer as adam
from parity.diagnosis import pointwise as functions
from parity.diagnosis import statistics, values
from parity.diagnosis.arithmetic import Floats, wide
from parity.diagnosis.evidence import Found, read
from parity.judge.results import Stage
from parity.stages.common import Captures

Places = Iterator[tuple[str, Found]]


def plan_of(captures: Captures) -> Plan:
    """As much of the plan as the probes ask."""
    return cast(Plan, SimpleNamespace(**captures.plan))


def failed(stage: Stage) -> list[str]:
    return list(dict.fromkeys(check.place for check in stage.checks if not check.passed))


def structure(captures: Captures, stage: Stage) -> Places:
    spec, cntk, port = captures.spec, captures.cntk, captures.port
    theirs, ours = ({name: capture.shape(f"initial/{name}") for name in capture.names("initial")}
                    for capture in (cntk, port))
    for name in failed(stage):
        network, _, quantity = name.rpartition("/")
        if name in theirs and name not in ours:
            yield name, Found("parameter-missing", f"there is no {quantity}; CNTK's layer has one",
                              "bias=True" if quantity == "bias" else f"add {quantity}")
        elif name in ours and name not in theirs:
            yield name, Found("parameter-too-many", f"there is a {quantity}; CNTK's layer has none",
                              "bias=False" if quantity == "bias" else f"take {quantity} out")
        elif name in ours and ours[name] != theirs[name]:
            yield name, Found("another-shape", f"{quantity} has another shape: {ours[name]}, "
                              f"CNTK's {theirs[name]}", "give the layer CNTK's sizes")
        elif quantity == "shape":
            made = {f"{branch}/{layer}": tuple(shape) for branch, layer, shape
                    in port.facts.get("parameters", {}).get("layers", [])}
            branch, _, layer_name = network.partition("/")
            layer = spec.network(branch).layer(layer_name)
            got = made.get(network)
            if got is None or got == layer.output:
                continue
            if layer.kind == TRANSPOSED and layer.padded:
                top, _, bottom, _ = layer.pads
                yield name, Found("no-output-padding", f"it gives {got[-1]} x {got[-1]}, CNTK "
                                  f"{layer.output[-1]} x {layer.output[-1]}",
                                  f"padding={top}, output_padding={top - bottom}",
                                  "docs/behaviours.md#convolutions")
            else:
                yield name, Found("another-size", f"it gives {got}, CNTK {layer.output}",
                                  f"stride={layer.stride}, padding={layer.pads[0]}",
                                  "docs/behaviours.md#convolutions")
            return  # what follows has its size from this one


def _arrays(captures: Captures, prefix: str) -> dict[str, Floats]:
    return {name: wide(captures.cntk[f"{prefix}/{name}"])
            for name in captures.cntk.names(prefix)}


def _pair(captures: Captures, prefix: str, name: str) -> tuple[Floats, Floats] | None:
    ours, theirs = (read(capture, f"{prefix}/{name}") for capture in (captures.port,
                                                                      captures.cntk))
    return None if ours is None or theirs is None else (ours, theirs)


def initial(captures: Captures, stage: Stage) -> Places:
    others = _arrays(captures, "initial")
    for name in others:
        pair = _pair(captures, "initial", name)
        if pair is not None and (pair[0].shape != pair[1].shape or not np.array_equal(*pair)):
            one = values.drawn(values.Carried(name, *pair, others), captures.spec.deviation)
            if one is not None:
                yield name, one


def state(captures: Captures, stage: Stage) -> Places:
    others = _arrays(captures, "state")
    for name in failed(stage):
        pair = _pair(captures, "state", name)
        if pair is not None:
            one = values.loaded(values.Carried(name, *pair, others))
            if one is not None:
                yield name, one


def optimizer(captures: Captures, stage: Stage) -> Places:
    """The settings that give what the port's optimizer did with the probe's gradients."""
    plan = captures.plan
    start, gradients = inputs.optimizer_probe(plan_of(captures))
    after: dict[str, list[Floats]] = {}
    for name in start:
        places = [f"optimizer/probe/{name}/step{i + 1:02d}" for i in range(inputs.OPTIMIZER_STEPS)]
        if any(place not in captures.port for place in places):
            return
        after[name] = [wide(captures.port[place]) for place in places]
    probe = adam.probe_of({name: wide(w) for name, w in start.items()},
                          {name: [wide(g) for g in each] for name, each in gradients.items()},
                          after)
    samples, gain = int(plan["minibatch_size"]), bool(plan["unit_gain"])
    got = adam.settings_of(probe, samples, gain)
    place = next(iter(failed(stage)), "")
    other = None if got else adam.another(probe)
    for one in adam.mistakes(got[0], samples, gain, got[1]) if got else [other] if other else []:
        yield place, one


def normalisation(captures: Captures, stage: Stage) -> Places:
    """Statistics from the first minibatch on: of the probe's layer, or of the user's own."""
    port, constant = captures.port, captures.spec.time_constant
    if port.names("normalisation/probe"):
        batches = [statistics.Minibatch.of(wide(x))
                   for x in inputs.normalisation_probe(plan_of(captures))]
        after = [_held(captures, f"normalisation/probe/minibatch{i:02d}")
                 for i in range(len(batches))]
        for one in statistics.from_the_first(batches, after, constant):
            yield next(iter(failed(stage))), one
        return
    samples, numbers = int(captures.plan["minibatch_size"]), list(dict.fromkeys(
        name.split("/")[0] for name in port.names("normalisation/networks")))
    first: dict[str, str] = {}  # layer to the first of its places
    for place in failed(stage):
        first.setdefault(place.partition("/")[2].rpartition("/")[0], place)
    for layer, place in first.items():
        network, name = layer.split("/")
        _, height, width = captures.spec.network(network).layer(name).output
        after = [_held(captures, f"normalisation/networks/{number}/{layer}") for number in numbers]
        if all({"mean", "variance", *statistics.QUANTITIES} <= set(one) for one in after):
            batches = [statistics.Minibatch(one["mean"], one["variance"], samples,
                                            samples * height * width) for one in after]
            for one in statistics.from_the_first(batches, after, constant):
                yield place, one


def _held(captures: Captures, at: str) -> dict[str, Floats]:
    return {name: wide(captures.port[f"{at}/{name}"]) for name in captures.port.names(at)}


def pointwise(captures: Captures, stage: Stage) -> Places:
    asked: dict[str, Any] = {}
    for place in failed(stage):
        asked.setdefault(place.split("/")[0], place)
    logits, logarithms = inputs.logits_probe(), inputs.logarithms_probe()
    known = set()
    for function, place in asked.items():
        pairs = [_pair(captures, "pointwise/probe", f"{function}/{quantity}")
                 for quantity in ("output", "gradient")]
        if pairs[0] is None or pairs[1] is None:
            continue
        x = wide(logarithms if function == "log" else logits)
        one = functions.explained(function, x, pairs[0], pairs[1], captures.spec.slope)
        if one is not None and one.name not in known:
            known.add(one.name)
            yield place, one

