"""What a network's layers are in ONNX's words, from its description."""
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from captures import spec as kinds
from captures.spec import Layer, Network, Spec

OPERATORS = {kinds.CONVOLUTION: "Conv", kinds.TRANSPOSED: "ConvTranspose",
             kinds.NORMALISATION: "BatchNormalization", kinds.RELU: "Relu",
             kinds.LEAKY_RELU: "LeakyRelu", kinds.TANH: "Tanh", kinds.SIGMOID: "Sigmoid"}
ACTIVATIONS = {OPERATORS[kind]: kind for kind in kinds.ACTIVATIONS}


class Expected(NamedTuple):
    """One layer: its operator, what of it is fixed, and the shape of one sample's output."""

    name: str
    op: str
    facts: Mapping[str, Any]
    shape: tuple[int, ...]


def single(value: float) -> float:
    """As ONNX's attributes hold it."""
    return float(np.float32(value))


@cache
def table(spec: Spec, network: str) -> tuple[Expected, ...]:
    """Every layer of one network. Raises SpecError: no such network."""
    of = spec.network(network)
    return tuple(Expected(layer.name, OPERATORS[layer.kind], _facts(spec, of, layer), layer.output)
                 for layer in of.layers)


def _facts(spec: Spec, network: Network, layer: Layer) -> dict[str, Any]:
    if layer.kind == kinds.NORMALISATION:
        return {"epsilon": single(spec.epsilon), "channels": [layer.output[0]] * 4}
    if layer.kind == kinds.LEAKY_RELU:
        return {"alpha": single(spec.slope)}
    if not layer.weight:
        return {}
    facts: dict[str, Any] = {
        "kernel_shape": [layer.kernel] * 2, "strides": [layer.stride] * 2,
        "pads": list(layer.pads), "dilations": [1, 1], "group": 1, "weight": list(layer.weight),
        "bias": [layer.channels] if layer.bias else None}
    if network == spec.critic and layer == network.layers[0]:
        facts["normalisation"] = [["Sub", spec.middle], ["Div", spec.middle]]
    return facts


def normalisation_of(network: Network, convolution: str) -> str:
    """The normalisation directly behind a convolution; "" where there is none."""
    names = [layer.name for layer in network.layers]
    if convolution not in names[:-1]:
        return ""
    after = network.layers[names.index(convolution) + 1]
    return after.name if after.kind == kinds.NORMALISATION else ""


def convolution_of(network: Network, normalisation: str) -> str:
    """The layer before a normalisation, if it is a convolution; "" otherwise."""
    for before, layer in zip(network.layers, network.layers[1:], strict=False):
        if layer.name == normalisation and layer.kind == kinds.NORMALISATION and before.weight:
            return before.name
    return ""
