"""What CNTK 2.7 saves, read without CNTK: the networks' arrays, their layers, Adam's state.

    read_model(path, "generator")    name of the captures -> array, from Function.save's file
    layer_table(path)                kind, kernel, stride, pads, shapes of every layer in it
    read_checkpoint(path, learner_parameters("generator"))
                                     Adam's m, v and counter, from Trainer.save_checkpoint's .ckp

The file is one protocol-buffers message, a dictionary of dictionaries, lists, arrays and scalars,
without any header (beyond 2 GB CNTK writes another form, which is refused). Shapes are stored with
the fastest index first: reversed, they and the numbers are NumPy's C order. Conv weights come out
as (out, in, h, w), transposed ones as (in, out, h, w), a bias (out, 1, 1) as (out,); CNTK's
aggregate_count, a float, becomes sample_count, int64.

An array gets its name from the graph: from the root back to the input a network is a chain of
blocks, the i-th convolution of it is conv<i>, what follows it bn<i>, relu<i> and so on. Names that
the program gave its layers must agree; a program that gave none is read the same way.

Adam's state of one parameter is a single array, twice as long: first v, then m, each in the
parameter's own order. The checkpoint names no parameter: the order is the learner's, which for
``network.parameters`` is the last layer first, and in a layer W, b or scale, bias. The counter is
the learner's, not the parameter's. Adam, FSAdaGrad and Adam with ``adamax`` look alike in the file.

Measured against CNTK 2.7's CPU (tests/torch_port/test_cntk_model.py): after training 0 of 25.4
million values differ, and m, v and the counter give CNTK's last update bit for bit. Reading takes
0.2 s for both models and 0.4 s for both checkpoints, on two busy cores. google.protobuf, with the
packed numbers declared as bytes, takes as long, and describing the messages to it takes as many
lines as reading them.

Source: microsoft/CNTK, Source/CNTKv2LibraryDll/proto/CNTK.proto (the message), Serialization.cpp
(framing), Learner.cpp (checkpoint), API/Internals/PrimitiveOpType.h (operation numbers).
"""
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from captures import spec as described
from captures.article import DCGAN, FILES
from captures.spec import Network, Spec
from torch_port.files.message import (
    _NOT_AS_EXPECTED,
    Arrays,
    FilePath,
    ModelFileError,
    Shape,
    _read,
)

# CNTK's word to ours.
KINDS = {"ConvolutionTranspose": described.TRANSPOSED, "Convolution": described.CONVOLUTION,
         "BatchNormalization": described.NORMALISATION, "ReLU": described.RELU,
         "LeakyReLU": described.LEAKY_RELU, "Tanh": described.TANH, "Sigmoid": described.SIGMOID,
         "StableSigmoid": described.SIGMOID}
CONVOLUTIONS = ("ConvolutionTranspose", "Convolution")
MODELS = {network: f"{name}.model" for network, name in FILES.items()}


# ------------------------------------------------------------------------- the networks' arrays


@dataclass(frozen=True)
class Layer:
    """One layer as the file has it. Shapes are (channels, height, width), without the minibatch."""
    name: str  # of the captures: conv1, bn1, relu1
    kind: str  # CNTK's: ConvolutionTranspose, Convolution, BatchNormalization, ReLU, LeakyReLU, ...
    input: Shape
    output: Shape
    kernel: Shape = ()
    stride: Shape = ()
    pads: Shape = ()  # top, left, bottom, right; of a transposed convolution what is cropped
    settings: Mapping[str, float] = field(default_factory=dict)  # epsilon, time_constant, alpha
    arrays: tuple[str, ...] = ()  # weight, bias, scale, running_mean, ...


def read_model(path: FilePath, network: str, spec: Spec = DCGAN) -> Arrays:
    """Every parameter and statistic of the "generator" or the "discriminator", or of a network of
    another spec, as the captures name and shape them; ``Networks.load`` takes both together.

    Raises ModelFileError: no such file, cut off, of another kind, or of another network.
    """
    found: Arrays = {}
    wanted = spec.network(network)
    kinds = {layer.kind for layer in wanted.layers}
    for layer, arrays in _chain(path, wanted):
        if layer.kind in CONVOLUTIONS and KINDS[layer.kind] not in kinds:
            raise ModelFileError(f"{path}: {layer.name} is a {layer.kind}, so this is no "
                                 f"{network}: give the {network}'s model "
                                 f"({MODELS.get(network, network + '.model')})")
        found.update({f"{network}/{layer.name}/{name}": a for name, a in arrays.items()})
    expected = wanted.arrays
    of = "the article's" if spec == DCGAN else f"{spec.name}'s"
    for name in [*expected, *found]:
        if name not in found:
            what = f"has no {name}"
        elif name not in expected:
            what = f"has {name}, which {of} {network} has not"
        elif found[name].shape != expected[name]:
            what = f"{name} has the shape {found[name].shape}, not {expected[name]}"
        else:
            continue
        raise ModelFileError(f"{path}: {what}: give a model of {of} {network}")
    return {name: found[name] for name in expected}


def layer_table(path: FilePath) -> list[Layer]:
    """The layers from input to output; reshaping and arithmetic on the input are left out."""
    return [layer for layer, _ in _chain(path)]


# Names that CNTK's layers give their variables, operation numbers and kinds of variables.
_QUANTITIES = {"W": "weight", "b": "bias", "scale": "scale", "bias": "bias",
               "aggregate_mean": "running_mean", "aggregate_variance": "running_variance",
               "aggregate_count": "sample_count"}
_NAMES = {"Convolution": "conv", "ConvolutionTranspose": "conv", "BatchNormalization": "bn",
          "ReLU": "relu", "LeakyReLU": "leaky_relu", "Tanh": "tanh", "Sigmoid": "sigmoid",
          "StableSigmoid": "sigmoid"}
_OPERATIONS = {1: "Sigmoid", 2: "Tanh", 3: "ReLU", 16: "Reshape", 19: "Plus", 75: "StableSigmoid"}
_INPUT = 0


def _chain(path: FilePath, network: Network | None = None) -> list[tuple[Layer, Arrays]]:
    """The layers from input to output, with their arrays; of a network that is known, under its
    layers' names."""
    model = _read(path)
    if "Learners" in model:
        raise ModelFileError(f"{path} holds a checkpoint's optimizer state: give a model, the file "
                             "that CNTK's save() wrote")
    for key in ("root", "inputs", "primitive_functions"):
        if key not in model:
            raise ModelFileError(f"{path} has no '{key}', so it is no CNTK model: give the file "
                                 "that CNTK's save() wrote")
    try:
        return list(_layers(path, model, network))
    except ModelFileError:
        raise
    except _NOT_AS_EXPECTED as error:
        raise ModelFileError(f"{path} is not built as CNTK 2.7 builds its models ({error!r}): copy "
                             "it or save it again") from error


def _layers(path: FilePath, model: dict[str, Any], network: Network | None
            ) -> Iterator[tuple[Layer, Arrays]]:
    variables = {variable["uid"]: variable for variable in model["inputs"]}
    functions = {function["uid"]: function for function in model["primitive_functions"]}
    chain, at = [], model["root"]
    while at not in variables:
        chain.append(functions[at])
        operands = [uid for uid in functions[at]["inputs"]
                    if uid not in variables or variables[uid]["kind"] == _INPUT]
        if len(operands) != 1 or len(chain) > len(functions):
            raise ModelFileError(
                f"{path}: {functions[at].get('name', at)} has {len(operands)} inputs where a layer "
                "has one: give the model of one network, as the program leaves it, not the one "
                "that a checkpoint writes")
        at = _function(operands[0])
    shape, number = variables[at]["shape"], 0
    known = list(network.layers if network else ())
    for function in reversed(chain):
        kind = function.get("block_function_op_name") or _OPERATIONS.get(function["op"])
        if kind == "Reshape":
            shape = function["attributes"]["newShape"]
        if kind not in _NAMES:
            continue
        number += kind in CONVOLUTIONS
        name = f"{_NAMES[kind]}{number}"
        if known and (layer := known.pop(0)).kind == KINDS[kind]:
            name = layer.name
        if function.get("name", name) != name:
            raise ModelFileError(f"{path}: the layer in {name}'s place is named "
                                 f"{function['name']}: give a model of the article's networks, "
                                 "where layers are numbered from input to output")
        arrays = {}
        for variable in (variables[uid] for uid in function["inputs"] if uid in variables):
            if variable.get("name") in _QUANTITIES:
                quantity = _QUANTITIES[variable["name"]]
                arrays[quantity] = _own(variable["value"], quantity)
        found = _layer(name, kind, shape, arrays, _attributes(function, functions))
        shape = found.output
        yield found, arrays


def _function(uid: str) -> str:
    """Whose output it is."""
    return uid.partition("_Output_")[0]


def _own(array: np.ndarray, quantity: str) -> np.ndarray:
    """A copy, shaped as in the captures: what was read is a view of the whole file."""
    if quantity == "sample_count":
        return np.array(int(array), dtype=np.int64)
    return np.array(array.reshape(-1) if quantity == "bias" else array)


def _attributes(function: dict[str, Any], functions: dict[str, Any]) -> dict[str, Any]:
    """A block keeps them in the function inside it, which may be followed by the bias's sum."""
    if function.get("block_function_op_name") in (None, "LeakyReLU"):
        own: dict[str, Any] = function["attributes"]
        return own
    inside = functions[function["block_function_composite"]["root"]]
    if _OPERATIONS.get(inside["op"]) == "Plus":
        inside = functions[_function(inside["inputs"][0])]
    found: dict[str, Any] = inside["attributes"]
    return found


def _layer(name: str, kind: str, shape: Shape, arrays: Arrays, attributes: dict[str, Any]) -> Layer:
    if kind == "BatchNormalization":
        return Layer(name, kind, shape, shape, arrays=tuple(arrays), settings={
            "epsilon": attributes["epsilon"],
            "time_constant": attributes["normalizationTimeConstant"]})
    if kind not in CONVOLUTIONS:
        alpha = {"alpha": attributes["alpha"]} if kind == "LeakyReLU" else {}
        return Layer(name, kind, shape, shape, settings=alpha)
    kernel, stride = attributes["kernelShape"][-2:], attributes["strides"][-2:]
    automatic = attributes["autoPadding"][1::-1]  # a list, so still width first
    given = list(zip(attributes["lowerPad"][-2:], attributes["upperPad"][-2:], strict=True))
    if kind == "ConvolutionTranspose":
        output = attributes["outputShape"]
    else:
        output = (len(arrays["weight"]), *(
            -(-side // step) if auto else (side + sum(pads) - window) // step + 1
            for side, window, step, auto, pads in zip(
                shape[-2:], kernel, stride, automatic, given, strict=True)))
    for i, (one, other) in enumerate(zip(shape[-2:], output[-2:], strict=True)):
        if automatic[i]:
            beyond = max((min(one, other) - 1) * stride[i] + kernel[i] - max(one, other), 0)
            given[i] = beyond - beyond // 2, beyond // 2  # CNTK puts the odd pixel first
    before, after = zip(*given, strict=True)
    return Layer(name, kind, shape, output, kernel, stride, before + after, arrays=tuple(arrays))
