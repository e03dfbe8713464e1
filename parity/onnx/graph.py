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
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from captures.article import DCGAN
from captures.spec import Spec
from parity.onnx.names import STATISTICS, AnyPath, Array, GraphError
from parity.onnx.table import ACTIVATIONS, convolution_of, normalisation_of

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

    network: the name of the spec's network that takes such an input. constants: arrays
    of initializers and Constant nodes. folded: convolutions that have a BatchNormalization in them.
    """

    def __init__(self, model: onnx.ModelProto, where: str = "the graph", spec: Spec = DCGAN
                 ) -> None:
        self.spec = spec
        self.model = model
        self.where = where
        graph = model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor)
                          for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = _constant(node, where)
        self.overridable = {v.name for v in graph.input} & {t.name for t in graph.initializer}
        inputs = [v for v in graph.input if v.name not in self.overridable]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise GraphError(f"{where} has {len(inputs)} inputs and {len(graph.output)} outputs: "
                             f"the networks of {spec.name} have one of each")
        self.input, self.output = inputs[0], graph.output[0]
        self.chain = self._chain()
        takes_latents = len(self.input.type.tensor_type.shape.dim) == 1 + len(spec.maker.input)
        self.described = spec.maker if takes_latents else spec.critic
        self.network = self.described.name
        self.folded: list[str] = []
        self.layers = self._layers()

    @classmethod
    def open(cls, path: AnyPath, spec: Spec = DCGAN) -> "Graph":
        return cls(_load(path), str(path), spec)

    @classmethod
    def of(cls, source: "AnyPath | Graph", spec: Spec = DCGAN) -> "Graph":
        return source if isinstance(source, Graph) else cls.open(source, spec)

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
        named = self._names()
        for node in self.chain:
            waiting.append(node)
            op = node.op_type
            if op in ("Conv", "ConvTranspose"):
                number += 1
                name = named.get((number, "convolution"), f"convolution_{number}")
            elif op == "BatchNormalization":
                name = named.get((number, "normalisation"), f"normalisation_{number}")
            elif op in ACTIVATIONS:  # under the spec's name: the operator is judged elsewhere
                name = named.get((number, "activation"), f"activation_{number}")
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
            raise GraphError(f"{self.where} has no layer of the networks of {self.spec.name}")
        if waiting:  # after the last activation: what leaves the graph is the last layer's output
            last = made.pop()
            made.append(Layer(last.name, last.input, self.output.name, last.main,
                              (*last.nodes, *waiting), last.bias))
        return self._named_by_fold(made)

    def _names(self) -> dict[tuple[int, str], str]:
        """(which convolution, "convolution" or what stands behind it) to the spec's name."""
        made: dict[tuple[int, str], str] = {}
        number = 0
        for layer in self.described.layers:
            number += bool(layer.weight)
            what = "convolution" if layer.weight else (
                "normalisation" if layer.parameters else "activation")
            made.setdefault((number, what), layer.name)
        return made

    def _bias_of(self, node: onnx.NodeProto, layer: Layer) -> str:
        """The constant of an Add directly behind a convolution without one, one value a channel."""
        if node.op_type != "Add" or layer.main.op_type not in ("Conv", "ConvTranspose") \
                or layer.bias or len(layer.main.input) > 2:
            return ""
        for name in node.input:
            shape = self.constants[name].shape if name in self.constants else ()
            if len(shape) in (3, 4) and int(np.prod(shape)) == shape[-3]:
                return str(name)
        return ""

    def _named_by_fold(self, layers: list[Layer]) -> list[Layer]:
        """A convolution with a bias that the spec's has not, and no BatchNormalization behind
        it, is that BatchNormalization's output."""
        here = {layer.name for layer in layers}
        without_bias = {one.name for one in self.described.layers if one.weight and not one.bias}
        named = []
        for layer in layers:
            norm = normalisation_of(self.described, layer.name)
            if layer.name in without_bias and norm and norm not in here \
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
        """Of one sample, as the spec has it."""
        names = [one.name for one in self.layers]
        if layer.name == names[0]:
            return list(self.described.input)
        before = names[names.index(layer.name) - 1]
        for one in self.described.layers:
            if one.name == before:
                return list(one.output)
        return ["c", "h", "w"]

    def is_folded(self, normalisation: str) -> bool:
        return convolution_of(self.described, normalisation) in self.folded


def _constant(node: onnx.NodeProto, where: str) -> Array:
    """The value of a Constant node, in whichever of its forms."""
    for given in node.attribute:
        value = helper.get_attribute_value(given)
        if given.name == "value":
            return numpy_helper.to_array(value)
        if given.name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if given.name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
        if given.name == "sparse_value":
            dense = np.zeros(list(value.dims), numpy_helper.to_array(value.values).dtype)
            at = numpy_helper.to_array(value.indices)
            values = numpy_helper.to_array(value.values)
            if at.ndim == 2:
                dense[tuple(at.T)] = values
            else:
                dense.reshape(-1)[at] = values
            return dense
    raise GraphError(f"{where} has a Constant {node.name or node.output[0]} that holds no numbers")


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
            for layer in graph.layers if not graph.is_folded(layer.name)
            for quantity, array in graph.weights(layer).items()}
