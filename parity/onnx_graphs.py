"""ONNX graphs of the two networks, whoever wrote them: read, checked against the article, run.

    Graph.open(path)                   a file's chain of layers, under the captures' names
    structure(path)                    what is in the file, ready for JSON
    layer_outputs(path)                layer -> the tensor that holds its output
    initializers(path)                 name of the captures -> the array in the file
    check(path)                        onnx's own checker, full: "" or what it found
    compare_structure(path, network)   checks against the article's table, and notes
    compare_state(path, network, s)    checks of every weight against a framework's state
    run(path, inputs)                  onnxruntime on the CPU: layer -> array

A graph of the article's networks is a chain: every node takes one tensor that is no constant. It
is walked from its input; a layer ends at its Conv, ConvTranspose, BatchNormalization or activation
and owns everything since the layer before it. So both exporters' forms are one:

    CNTK      ConvTranspose with pads [2,2,1,1]; Conv with pads [1,1,0,0]
    port      ConvTranspose with pads [2,2,2,2] and output_padding [1,1]; Pad, then Conv with none
    either    a bias inside the convolution, or an Add of its own behind it

A BatchNormalization folded into the convolution before it leaves one tensor for two layers: it
holds ``bn3``, and ``conv3`` is in ``Graph.folded`` and in no map.

Measured after two iterations, largest difference over the layer's largest value. CNTK's layers
against onnxruntime 1.32 on CNTK's export: 2e-7 (first convolution) to 2.4e-6 (the discriminator's
logit, a sum of 16,384 products), the outputs absolutely 6.9e-7 and 8.9e-7. The port's (without
oneDNN) against its own: up to 1.3e-6, the outputs 9.5e-7 and 1.2e-6. Of CNTK's file the plain run
has the bits of the run with layers as outputs; of the port's, whose BatchNormalization onnxruntime
folds into the convolutions, it is 1.3e-6 and 7e-7 away.

Sources: ONNX's operators at opset 9; the article's layer table; onnxruntime's documentation of
graph optimisations. CNTK's exporter: Source/CNTKv2LibraryDll/proto/onnx/CNTKToONNX.cpp.
"""
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from parity import verdict
from parity.results import Check

Array = np.ndarray
Perturb = Callable[[str, Array], Array]
AnyPath = str | os.PathLike[str]

OPSET = 9
TIME_CONSTANT = 5000  # of the article's batch normalisation, in samples
EPSILON = float(np.float32(1e-5))
ALPHA = float(np.float32(0.2))
MIDDLE = 127.5  # the discriminator's normalisation: (x - 127.5) / 127.5
ACTIVATIONS = {"Relu": "relu", "LeakyRelu": "leaky_relu", "Tanh": "tanh", "Sigmoid": "sigmoid"}
RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")  # no value moves or changes
STATISTICS = ("scale", "bias", "running_mean", "running_variance")  # inputs 1..4 of the node
SAMPLES_AT_ONCE = 4  # of a graph whose minibatch is free: 60 MB of layers


class GraphError(Exception):
    """What was wrong with a graph or its run, where, and how to mend it, in one line."""


# ------------------------------------------------------------------------------ the article's table


@dataclass(frozen=True)
class Expected:
    """One layer: its operator, what of it is fixed, and the shape of one sample's output."""

    name: str
    op: str
    facts: Mapping[str, Any]
    shape: tuple[int, ...]


def _convolution(op: str, before: int, after: int, geometry: tuple[int, int, list[int]],
                 bias: bool) -> dict[str, Any]:
    kernel, stride, pads = geometry
    weight = (after, before) if op == "Conv" else (before, after)
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads,
            "dilations": [1, 1], "group": 1, "weight": [*weight, kernel, kernel],
            "bias": [after] if bias else None}


def _table(network: str) -> Iterator[Expected]:
    if network == "generator":
        op, channels, activation = "ConvTranspose", (100, 1024, 512, 256, 128, 64, 32, 3), "Relu"
        last, sizes = "Tanh", (4, 8, 16, 32, 64, 128, 256)
    else:
        op, channels, activation = "Conv", (3, 32, 64, 128, 256, 512, 1024, 1), "LeakyRelu"
        last, sizes = "Sigmoid", (128, 64, 32, 16, 8, 4, 1)
    for i, size in enumerate(sizes, 1):
        shape = (channels[i], size, size)
        if (network, i) in (("generator", 1), ("discriminator", 7)):
            geometry = (4, 1, [0, 0, 0, 0])
        else:
            geometry = (5, 2, [2, 2, 1, 1]) if network == "generator" else (3, 2, [1, 1, 0, 0])
        bias = i == 7 or (network, i) == ("discriminator", 1)
        facts = _convolution(op, channels[i - 1], channels[i], geometry, bias)
        if (network, i) == ("discriminator", 1):
            facts["normalisation"] = [["Sub", MIDDLE], ["Div", MIDDLE]]
        yield Expected(f"conv{i}", op, facts, shape)
        if i < 7 and (network, i) != ("discriminator", 1):
            yield Expected(f"bn{i}", "BatchNormalization",
                           {"epsilon": EPSILON, "channels": [channels[i]] * 4}, shape)
        chosen = last if i == 7 else activation
        yield Expected(f"{ACTIVATIONS[chosen]}{i}", chosen,
                       {"alpha": ALPHA} if chosen == "LeakyRelu" else {}, shape)


LAYERS = {network: tuple(_table(network)) for network in ("generator", "discriminator")}
INPUT = {"generator": [100], "discriminator": [3, 256, 256]}


# ---------------------------------------------------------------------------------- reading a graph


@dataclass(frozen=True)
class Layer:
    """name: of the captures. input, output: tensors. main: the node that it is named for. bias: the
    constant that a separate Add adds, or "". nodes: all, in order."""

    name: str
    input: str
    output: str
    main: onnx.NodeProto
    nodes: tuple[onnx.NodeProto, ...]
    bias: str = ""


def _load(path: AnyPath) -> onnx.ModelProto:
    try:
        return onnx.load(os.fspath(path))
    except OSError as error:
        raise GraphError(f"{path} cannot be read ({error.strerror}): export it again") from None
    except Exception as error:  # protobuf's own, by the file's content
        raise GraphError(f"{path} is not an ONNX file ({_first_line(error)}): export it again"
                         ) from None


class Graph:
    """A file's chain of layers. Raises GraphError: not readable as ONNX, or not a chain.

    network: "generator" if it has transposed convolutions, else "discriminator". constants: arrays
    of initializers and Constant nodes. folded: convolutions that have a BatchNormalization in them.
    """

    def __init__(self, model: onnx.ModelProto, where: str = "the graph") -> None:
        self.model = model
        self.where = where
        graph = model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor)
                          for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.overridable = {v.name for v in graph.input} & {t.name for t in graph.initializer}
        inputs = [v for v in graph.input if v.name not in self.overridable]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise GraphError(f"{where} has {len(inputs)} inputs and {len(graph.output)} outputs: "
                             "the article's networks have one of each")
        self.input, self.output = inputs[0], graph.output[0]
        self.chain = self._chain()
        transposed = any(node.op_type == "ConvTranspose" for node in self.chain)
        self.network = "generator" if transposed else "discriminator"
        self.folded: list[str] = []
        self.layers = self._layers()

    @classmethod
    def open(cls, path: AnyPath) -> "Graph":
        return cls(_load(path), str(path))

    @classmethod
    def of(cls, source: "AnyPath | Graph") -> "Graph":
        return source if isinstance(source, Graph) else cls.open(source)

    @property
    def batch(self) -> int | None:
        """The minibatch that the file insists on; None if it is free."""
        dims = self.input.type.tensor_type.shape.dim
        return dims[0].dim_value or None if dims else None

    def _chain(self) -> list[onnx.NodeProto]:
        takers: dict[str, list[onnx.NodeProto]] = {}
        nodes = [node for node in self.model.graph.node if node.op_type != "Constant"]
        for node in nodes:
            for name in node.input:
                if name and name not in self.constants:
                    takers.setdefault(name, []).append(node)
        tensor, chain = self.input.name, []
        while tensor != self.output.name:
            found = takers.pop(tensor, [])
            if len(found) != 1:
                raise GraphError(f"{self.where} is not a chain of layers: {tensor} is taken by "
                                 f"{len(found)} nodes")
            chain.append(found[0])
            tensor = found[0].output[0]
        if len(chain) != len(nodes):
            raise GraphError(f"{self.where} is not a chain of layers: {len(nodes) - len(chain)} "
                             "nodes do not lie between its input and its output")
        return chain

    def _layers(self) -> list[Layer]:
        made: list[Layer] = []
        waiting: list[onnx.NodeProto] = []
        number = 0
        names = {int(e.name[-1]): e.name for e in LAYERS[self.network]
                 if e.op in ACTIVATIONS}
        for node in self.chain:
            waiting.append(node)
            op = node.op_type
            if op in ("Conv", "ConvTranspose"):
                number += 1
                name = f"conv{number}"
            elif op == "BatchNormalization":
                name = f"bn{number}"
            elif op in ACTIVATIONS:  # under the article's name: the operator is judged elsewhere
                name = names.get(number, f"{ACTIVATIONS[op]}{number}")
            else:
                constant = self._bias_of(node, made[-1]) if made and waiting == [node] else ""
                if constant:
                    last = made.pop()
                    made.append(Layer(last.name, last.input, node.output[0], last.main,
                                      (*last.nodes, node), constant))
                    waiting = []
                continue
            made.append(Layer(name, waiting[0].input[0] if not made else made[-1].output,
                              node.output[0], node, tuple(waiting)))
            waiting = []
        if not made:
            raise GraphError(f"{self.where} has no layer of the article's networks")
        if waiting:  # after the last activation: what leaves the graph is the last layer's output
            last = made.pop()
            made.append(Layer(last.name, last.input, self.output.name, last.main,
                              (*last.nodes, *waiting), last.bias))
        return self._named_by_fold(made)

    def _bias_of(self, node: onnx.NodeProto, layer: Layer) -> str:
        """The constant of an Add directly behind a convolution without one, one value a channel."""
        if node.op_type != "Add" or layer.main.op_type not in ("Conv", "ConvTranspose") \
                or layer.bias or len(layer.main.input) > 2:
            return ""
        for name in node.input:
            shape = self.constants[name].shape if name in self.constants else ()
            if len(shape) in (3, 4) and int(np.prod(shape)) == shape[-3]:
                return name
        return ""

    def _named_by_fold(self, layers: list[Layer]) -> list[Layer]:
        """A convolution with a bias that the article's has not, and no BatchNormalization behind
        it, is that BatchNormalization's output."""
        here = {layer.name for layer in layers}
        without_bias = {e.name for e in LAYERS[self.network] if e.facts.get("bias", 0) is None}
        named = []
        for layer in layers:
            norm = layer.name.replace("conv", "bn")
            if layer.name in without_bias and norm not in here \
                    and (layer.bias or len(layer.main.input) > 2):
                self.folded.append(layer.name)
                layer = Layer(norm, layer.input, layer.output, layer.main, layer.nodes, layer.bias)
            named.append(layer)
        return named

    def index(self, name: str) -> int:
        """Raises KeyError: no such layer in the graph."""
        for i, layer in enumerate(self.layers):
            if layer.name == name:
                return i
        raise KeyError(name)

    def weights(self, layer: Layer) -> dict[str, Array]:
        """The layer's parameters and statistics as they stand in the file, by quantity; a bias as
        a vector. Those of a folded pair are no framework's and come as "weight" and "bias" too."""
        found = {}
        if layer.main.op_type in ("Conv", "ConvTranspose"):
            names = dict(zip(("weight", "bias"), layer.main.input[1:], strict=False))
            if layer.bias:
                names["bias"] = layer.bias
        elif layer.main.op_type == "BatchNormalization":
            names = dict(zip(STATISTICS, layer.main.input[1:], strict=False))
        else:
            names = {}
        for quantity, name in names.items():
            if name in self.constants:
                array = self.constants[name]
                found[quantity] = array.ravel() if quantity == "bias" else array
        return found

    def part(self, first: int, last: int, channels: Sequence[int] | None = None) -> onnx.ModelProto:
        """Layers first..last as a model of their own; only some output channels of one convolution
        if channels are given. Its input and output are called "input" and "output"."""
        nodes = []
        for layer in self.layers[first:last + 1]:
            nodes += [_copy(node) for node in layer.nodes]
        start, end = self.layers[first].input, self.layers[last].output
        for node in nodes:
            node.input[:] = ["input" if name == start else name for name in node.input]
            node.output[:] = ["output" if name == end else name for name in node.output]
        used = dict.fromkeys(name for node in nodes for name in node.input
                             if name in self.constants)
        arrays = {name: self.constants[name] for name in used}
        if channels is not None:
            layer = self.layers[first]
            axis = 0 if layer.main.op_type == "Conv" else 1
            for name in (*layer.main.input[1:3], layer.bias):
                if name:
                    arrays[name] = arrays[name].take(
                        channels, axis if name == layer.main.input[1] else 0)
        taken = [helper.make_tensor_value_info(
            "input", TensorProto.FLOAT, ["N", *self.input_shape(self.layers[first])])]
        # Constants that are inputs too stay so: onnxruntime must not fold them, and does not.
        taken += [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype),
                                                array.shape)
                  for name, array in arrays.items() if name in self.overridable]
        given = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", "c", "h", "w"])
        graph = helper.make_graph(
            nodes, f"{self.layers[first].name}..{self.layers[last].name}", taken, [given],
            [numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
             for name, array in arrays.items()])
        return helper.make_model(graph, ir_version=self.model.ir_version,
                                 opset_imports=list(self.model.opset_import),
                                 producer_name=self.model.producer_name)

    def input_shape(self, layer: Layer) -> list[int | str]:
        """Of one sample, as the article has it."""
        names = [one.name for one in self.layers]
        if layer.name == names[0]:
            return list(INPUT[self.network])
        before = names[names.index(layer.name) - 1]
        for expected in LAYERS[self.network]:
            if expected.name == before:
                return list(expected.shape)
        return ["c", "h", "w"]


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Ready for JSON; a tensor by its shape."""
    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, onnx.TensorProto):
            return f"tensor {list(value.dims)}"
        return list(value) if isinstance(value, list | tuple) else value
    return {a.name: plain(helper.get_attribute_value(a)) for a in node.attribute}


def _opset(model: onnx.ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def structure(path: AnyPath) -> dict[str, Any]:
    """What is in a file: opset, IR, producer, inputs and outputs, nodes, counts."""
    graph = Graph.open(path)
    model = graph.model

    def value(info: onnx.ValueInfoProto) -> dict[str, Any]:
        return {"name": info.name,
                "dims": [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]}
    return {
        "network": graph.network, "opset": _opset(model), "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "inputs": [value(graph.input)], "outputs": [value(graph.output)],
        "nodes": [{"op": node.op_type, "name": node.name, "attributes": attributes(node)}
                  for node in model.graph.node],
        "layers": [layer.name for layer in graph.layers], "folded": list(graph.folded),
        "parameters": sum(int(array.size) for layer in graph.layers
                          for array in graph.weights(layer).values()),
        "initializers": len(model.graph.initializer),
        "initializers_as_inputs": len(graph.overridable),
    }


def layer_outputs(path: AnyPath) -> dict[str, str]:
    """Layer to tensor, in order. A convolution with a BatchNormalization in it is missing."""
    return {layer.name: layer.output for layer in Graph.open(path).layers}


def initializers(path: AnyPath) -> dict[str, Array]:
    """Name of the captures to the array in the file; what is folded is left out."""
    graph = Graph.open(path)
    return {f"{graph.network}/{layer.name}/{quantity}": array
            for layer in graph.layers if layer.name.replace("bn", "conv") not in graph.folded
            for quantity, array in graph.weights(layer).items()}


def check(path: AnyPath | Graph) -> str:
    """What onnx's full checker, with its inference of shapes, says of the file; "" if it passes."""
    try:
        onnx.checker.check_model(path.model if isinstance(path, Graph) else _load(path),
                                 full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return _first_line(error)
    return ""


# ---------------------------------------------------------------------- against the article's table


def _pads(node: onnx.NodeProto) -> list[int]:
    """Of a Pad node in front of a convolution: top, left, bottom, right."""
    pads = attributes(node).get("pads", [])
    if len(pads) != 8 or any(pads[:2]) or any(pads[4:6]):
        return []
    return [pads[2], pads[3], pads[6], pads[7]]


def _facts(graph: Graph, layer: Layer) -> dict[str, Any]:
    """A layer in the table's words. What an exporter may write in two ways has one form here."""
    node, given = layer.main, attributes(layer.main)
    weights = graph.weights(layer)
    facts: dict[str, Any] = {}
    known = {"auto_pad", "pads", "group", "dilations", "strides", "kernel_shape"}
    others = [n for n in layer.nodes if n is not node and n.op_type not in RESHAPES]
    if layer.bias:
        others.remove(layer.nodes[[n.output[0] for n in layer.nodes].index(layer.output)])
    if node.op_type in ("Conv", "ConvTranspose"):
        shape = list(weights["weight"].shape) if "weight" in weights else []
        spatial = max(len(shape) - 2, 0)
        pads: Any = given.get("pads", [0] * 2 * spatial)
        extra = given.get("output_padding", [0] * spatial)
        if node.op_type == "ConvTranspose":
            known |= {"output_padding", "output_shape"}
            # More output at the end is less cropped there.
            pads = [*pads[:spatial], *(p - e for p, e in zip(pads[spatial:], extra, strict=False))]
        for pad in [n for n in others if n.op_type == "Pad"]:
            before = _pads(pad)
            if before and attributes(pad).get("mode", "constant") == "constant" \
                    and not attributes(pad).get("value", 0.0) and node.op_type == "Conv":
                pads = [a + b for a, b in zip(pads, before, strict=True)]
                others.remove(pad)
        if given.get("auto_pad", "NOTSET") != "NOTSET":
            pads = f"auto_pad {given['auto_pad']}"
        elif "output_shape" in given:
            pads = f"output_shape {given['output_shape']}: the runtime chooses the pads"
        facts = {"kernel_shape": given.get("kernel_shape", shape[2:]), "pads": pads,
                 "strides": given.get("strides", [1] * spatial),
                 "dilations": given.get("dilations", [1] * spatial),
                 "group": given.get("group", 1), "weight": shape,
                 "bias": list(weights["bias"].shape) if "bias" in weights else None}
        normalisation = [n for n in others if n.op_type in ("Sub", "Div")]
        if normalisation:
            facts["normalisation"] = [[n.op_type, _scalar(graph, n)] for n in normalisation]
            others = [n for n in others if n not in normalisation]
    elif node.op_type == "BatchNormalization":
        known = {"epsilon", "momentum"}
        facts = {"epsilon": given.get("epsilon", EPSILON),
                 "channels": [int(array.size) for array in weights.values()]}
        if len([name for name in node.output if name]) != 1 or given.get("training_mode"):
            facts["training"] = "it updates its statistics"
    else:
        known = {"alpha"} if node.op_type == "LeakyRelu" else set()
        if known:
            facts = {"alpha": given.get("alpha", float(np.float32(0.01)))}
    for name in sorted(set(given) - known - {"training_mode"}):
        facts[name] = given[name]
    if others:
        facts["further operators"] = [n.op_type for n in others]
    if any(array.dtype != np.float32 for array in weights.values()):
        facts["type"] = [str(array.dtype) for array in weights.values()]
    return facts


def _reached(pads: Any, sizes: Sequence[Any], facts: Mapping[str, Any]) -> Any:
    """Pads without what no window reaches: at stride 2 a 3 x 3 window on an even size takes [1, 1,
    1, 1] and [1, 1, 0, 0] to the same bits."""
    if len(pads) != 4 or not all(isinstance(size, int) for size in sizes):
        return pads
    made = list(pads)
    for i, size in enumerate(sizes):
        kernel, stride = facts["kernel_shape"][i], facts["strides"][i]
        steps = (size + pads[i] + pads[i + 2] - kernel) // stride
        reached = steps * stride + kernel - pads[i] - size
        made[i + 2] = min(pads[i + 2], max(reached, 0))
    return made


def _scalar(graph: Graph, node: onnx.NodeProto) -> float | None:
    """x - c and x / c: c. None for c - x and c / x, and for anything but one number."""
    name = node.input[1]
    if name not in graph.constants or graph.constants[name].size != 1:
        return None
    return float(graph.constants[name].reshape(()))


def _exact(place: str, wrong: Sequence[str]) -> Check:
    return Check(place=place, measured=float(len(wrong)), allowed=0.0, unit="differences",
                 policy="exact", detail="; ".join(wrong))


def compare_structure(path: AnyPath | Graph, network: str) -> tuple[list[Check], list[str]]:
    """One check a layer, four of the whole graph, and what is listed without being judged.

    A file that is not a chain of layers is one failed check.
    """
    place = f"{network}/graph"
    said = check(path)
    checks = [_exact(f"{place}/checker", [said] if said else [])]
    try:
        graph = Graph.of(path)
    except GraphError as error:
        return [*checks, _exact(f"{place}/operators", [str(error)])], []
    model = graph.model
    foreign = [o.domain for o in model.opset_import if o.domain not in ("", "ai.onnx")]
    checks.append(_exact(f"{place}/opset", [
        *([f"opset {_opset(model)}, CNTK's is {OPSET}"] if _opset(model) != OPSET else []),
        *(f"operators of {domain}" for domain in foreign)]))
    ends = []
    for info, sample, what in ((graph.input, INPUT[network], "input"),
                               (graph.output, list(LAYERS[network][-1].shape), "output")):
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if dims[1:] != sample or info.type.tensor_type.elem_type != TensorProto.FLOAT:
            ends.append(f"the {what} {info.name} is N x {dims[1:]}, it should be N x {sample} "
                        "of float32")
    checks.append(_exact(f"{place}/ends", ends))

    expected = [e for e in LAYERS[network] if e.name not in graph.folded]
    found = [layer.name for layer in graph.layers]
    wrong = []
    if found != [e.name for e in expected]:
        missing = [e.name for e in expected if e.name not in found]
        extra = [name for name in found if name not in {e.name for e in expected}]
        wrong.append(f"the layers are {' '.join(found)}; missing {' '.join(missing) or 'none'}, "
                     f"too many {' '.join(extra) or 'none'}")
    checks.append(_exact(f"{place}/operators", wrong))
    for e in expected:
        if e.name in found:
            checks.append(_compare_layer(graph, e, network))
    return checks, _notes(graph)


def _compare_layer(graph: Graph, e: Expected, network: str) -> Check:
    layer = graph.layers[graph.index(e.name)]
    op, facts = e.op, dict(e.facts)
    convolution = e.name.replace("bn", "conv")
    if convolution in graph.folded:
        source = next(x for x in LAYERS[network] if x.name == convolution)
        op, facts = source.op, {**source.facts, "bias": [source.shape[0]]}
    got = _facts(graph, layer)
    if e.op == op == "Conv":
        got["pads"] = _reached(got["pads"], graph.input_shape(layer)[1:], facts)
    wrong = [f"{layer.main.op_type}, it should be {op}"] if layer.main.op_type != op else []
    for name in [*facts, *(name for name in got if name not in facts)]:
        if got.get(name) != facts.get(name):
            wrong.append(f"{name} {got.get(name)}, it should be {facts.get(name)}")
    return _exact(f"{network}/{e.name}/node", wrong)


def _notes(graph: Graph) -> list[str]:
    """What the file's form is, where two exporters may differ without one being wrong."""
    model = graph.model
    notes = [f"written by {model.producer_name} {model.producer_version}".rstrip()
             + f", opset {_opset(model)}, IR {model.ir_version}; {graph.input.name} to "
               f"{graph.output.name}"]
    if graph.batch:
        notes.append(f"the minibatch is fixed at {graph.batch}: other minibatches are run in parts "
                     "of that")
    momenta = sorted({attributes(layer.main).get("momentum", 0.9) for layer in graph.layers
                      if layer.main.op_type == "BatchNormalization"})
    for momentum in momenta:
        samples = -TIME_CONSTANT * math.log(momentum) if 0 < momentum < 1 else 0
        notes.append(
            f"batch normalisation's momentum is {momentum:.8f}"
            + (f", exp(-N/{TIME_CONSTANT}) for a minibatch of {samples:.1f}" if samples else "")
            + (": CNTK's exporter takes 48, whatever the training's was" if round(samples) == 48
               else "") + "; inference does not read it")
    notes.append("batch normalisation's sample_count (CNTK's aggregate_count) is not in the file")
    if graph.overridable:
        notes.append(f"all {len(graph.overridable)} initializers are inputs of the graph too, so "
                     "onnxruntime may not fold them")
    added = [layer.name for layer in graph.layers if layer.bias]
    if added:
        notes.append(f"the bias is an Add of its own behind {' '.join(added)}")
    for op, text in (("Pad", "the padding is a Pad of its own in front of"),
                     ("Reshape", "a Reshape stands in"), ("Squeeze", "a Squeeze stands in"),
                     ("Unsqueeze", "an Unsqueeze stands in"), ("Flatten", "a Flatten stands in"),
                     ("Identity", "an Identity stands in")):
        having = [layer.name for layer in graph.layers
                  if any(node.op_type == op for node in layer.nodes)]
        if having:
            notes.append(f"{text} {' '.join(having)}")
    transposed = [layer.name for layer in graph.layers
                  if any(attributes(layer.main).get("output_padding", []))]
    if transposed:
        notes.append(f"{' '.join(transposed)}: cropped [2, 2, 2, 2] with output_padding [1, 1], "
                     "which is [2, 2, 1, 1]")
    if graph.folded:
        notes.append("batch normalisation is folded into, so the file has no output of "
                     + " ".join(graph.folded))
    return notes


def compare_state(path: AnyPath | Graph, network: str, state: Mapping[str, Array]
                  ) -> list[Check]:
    """Every parameter and statistic of the network against the framework's own, bit for bit; a
    folded pair against what folding gives. sample_count is not looked for."""
    graph = Graph.of(path)
    layers = {layer.name: layer for layer in graph.layers}
    checks = []
    for name in [n for n in state if n.startswith(network + "/")]:
        layer, quantity = name.split("/")[1:]
        if quantity == "sample_count" or layer.replace("bn", "conv") in graph.folded:
            continue
        got = graph.weights(layers[layer]).get(quantity) if layer in layers else None
        checks.append(_same(name, got, np.asarray(state[name])))
    for convolution in graph.folded:
        checks += _compare_folded(graph, network, convolution, state)
    return checks


def _same(place: str, got: Array | None, state: Array) -> Check:
    wrong, detail, metrics = 0.0, "", {}
    if got is None:
        wrong, detail = math.inf, "it is not in the file"
    elif got.shape != state.shape or got.dtype != state.dtype:
        wrong = math.inf
        detail = f"the file has {got.dtype} {got.shape}, the framework {state.dtype} {state.shape}"
    else:
        different = got.view(f"u{got.itemsize}") != state.view(f"u{state.itemsize}")
        wrong = float(np.count_nonzero(different))
        if wrong:
            first = int(np.argmax(different.ravel()))
            metrics = {"largest_absolute": float(np.max(np.abs(got.astype(np.float64) - state)))}
            detail = (f"{wrong:.0f} of {got.size} values differ, by up to "
                      f"{metrics['largest_absolute']:.3g}; the first at flat index {first}: "
                      f"{got.ravel()[first]!s} in the file, {state.ravel()[first]!s} in the "
                      "framework")
    return Check(place=place, measured=wrong, allowed=0.0, unit="values differ", policy="exact",
                 metrics=metrics, detail=detail)


def _compare_folded(graph: Graph, network: str, convolution: str,
                    state: Mapping[str, Array]) -> list[Check]:
    norm = convolution.replace("conv", "bn")
    layer = graph.layers[graph.index(norm)]
    scale, bias, mean, variance = (np.asarray(state[f"{network}/{norm}/{q}"], np.float64)
                                   for q in STATISTICS)
    factor = scale / np.sqrt(variance + EPSILON)
    weight = np.asarray(state[f"{network}/{convolution}/weight"], np.float64)
    along = [-1, 1, 1, 1] if layer.main.op_type == "Conv" else [1, -1, 1, 1]
    checks = []
    for quantity, folded, terms in (
            ("weight", weight * factor.reshape(along), None),
            ("bias", bias - mean * factor, np.abs(bias) + np.abs(mean * factor))):
        got = graph.weights(layer)[quantity]
        apart, detail = math.inf, f"{norm} is folded in; the file has {got.shape}"
        if got.shape == folded.shape:
            size = float(np.max(np.abs(folded) if terms is None else terms)) or 1.0
            apart = float(np.max(np.abs(got - folded))) / size
            detail = f"{norm} is folded in; off by {apart:.3g} of the largest value"
        checks.append(verdict.within(f"{network}/{convolution}/{quantity}", apart, "folded",
                                     detail))
    return checks


# --------------------------------------------------------------------------------------- running it


@dataclass
class Run:
    """What onnxruntime did with a graph.

    layers: layer to N x C x H x W, in order; the last is of the plain run, as users run it with all
        graph optimisations, the others of a run in which they are outputs too.
    difference: largest distance between the two runs' last layer.
    notes: facts for people.
    """

    network: str
    layers: dict[str, Array]
    difference: float
    batch: int | None
    folded: list[str]
    providers: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def output(self) -> Array:
        return next(reversed(self.layers.values()))


class Session:
    """onnxruntime on the CPU, without a word. Raises GraphError: it does not take the model."""

    def __init__(self, model: onnx.ModelProto, threads: int = 2) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # it warns of initializers that are inputs, CNTK's way
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a module of exceptions without a common base
            raise GraphError(f"onnxruntime {onnxruntime.__version__} refuses the graph: "
                             f"{_first_line(error)}") from None
        self.providers = list(self._session.get_providers())
        if self.providers != ["CPUExecutionProvider"]:
            raise GraphError(f"onnxruntime runs on {', '.join(self.providers)}, not on the CPU "
                             "alone: install requirements-torch-cpu.txt")
        self.name = self._session.get_inputs()[0].name
        self.version = onnxruntime.__version__

    def __call__(self, array: Array, names: Sequence[str] | None = None) -> list[Array]:
        try:
            return self._session.run(names, {self.name: array})
        except Exception as error:
            raise GraphError(f"onnxruntime {self.version} fails in the graph: "
                             f"{_first_line(error)}") from None


def run(path: AnyPath, inputs: Array, threads: int = 2, perturb: Perturb | None = None) -> Run:
    """Every layer of the graph on inputs, z or pixels, of any minibatch.

    perturb(layer, array): a runtime that is at fault, for tests. It is given every layer's output
    and returns it, or another, with which the layers behind it then go on.

    Raises GraphError: not a graph of the article's networks, or onnxruntime does not run it.
    """
    graph = Graph.open(path)
    if inputs.dtype != np.float32 or inputs.ndim < 2:
        raise GraphError(f"the graph's input is float32 with a minibatch first, not "
                         f"{inputs.dtype} {inputs.shape}")
    plain = Session(graph.model, threads)
    providers = plain.providers
    (output,) = _in_parts(plain, graph.batch, inputs, None)
    del plain  # before the second is made: each holds all the weights
    values = _with_layers(graph, 0, inputs, threads)
    last = graph.layers[-1].name
    apart = _distance(values[last], output)
    values[last] = output
    if perturb is not None:
        for i, layer in enumerate(graph.layers):
            changed = perturb(layer.name, values[layer.name])
            if changed is not values[layer.name]:
                values[layer.name] = changed
                if i + 1 < len(graph.layers):
                    values.update(_with_layers(graph, i + 1, changed, threads))
    made = Run(graph.network, {}, apart, graph.batch, list(graph.folded), providers)
    for expected in LAYERS[graph.network]:
        if expected.name in values:
            array, shape = values.pop(expected.name), (len(inputs), *expected.shape)
            # Squeezed or flattened in the file: the values are those of the layer all the same.
            made.layers[expected.name] = array.reshape(shape) if array.size == math.prod(shape) \
                else array
    made.layers.update(values)
    if graph.batch:
        made.notes.append(f"run in minibatches of {graph.batch}, which the file insists on")
    if apart:
        made.notes.append(f"with the layers as outputs too, {last} is {apart:.3g} away from the "
                          "plain run's")
    return made


def _with_layers(graph: Graph, first: int, inputs: Array, threads: int) -> dict[str, Array]:
    """From layer ``first`` on, with every layer's tensor an output."""
    model = graph.model if first == 0 else graph.part(first, len(graph.layers) - 1)
    last = model.graph.output[0].name
    wanted = [layer.output for layer in graph.layers[first:-1]]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted)
    try:
        session = Session(model, threads)
    finally:
        del model.graph.output[1:]
    arrays = _in_parts(session, graph.batch, inputs, [*wanted, last])
    return {layer.name: array
            for layer, array in zip(graph.layers[first:], arrays, strict=True)}


def _in_parts(session: Session, batch: int | None, inputs: Array,
              names: Sequence[str] | None) -> list[Array]:
    """A minibatch of any size through a graph of a fixed one. Evaluation mode: no sample knows of
    another, so the last part may be filled up with copies."""
    parts = []
    size = batch or SAMPLES_AT_ONCE
    for start in range(0, len(inputs), size):
        part = inputs[start:start + size]
        samples = len(part)
        if batch and samples < batch:
            part = np.concatenate([part, np.repeat(part[-1:], batch - samples, axis=0)])
        parts.append([array[:samples] for array in session(part, names)])
    return [np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
            for arrays in zip(*parts, strict=True)]


def _distance(a: Array, b: Array) -> float:
    return float(np.max(np.abs(a - b))) if a.shape == b.shape else math.inf
