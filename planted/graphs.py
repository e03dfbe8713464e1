"""Changes of an exported graph, and faults of a runtime."""
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import nn

from parity.onnx.graph import Graph
from planted.parts import replace
from torch_port import onnx_export

# ------------------------------------------------------------------------------- changes of a graph


def in_export(network: str, change: Callable[[onnx.ModelProto], None]) -> None:
    """Changes what the port's exporter makes of one network, as it runs."""
    def graph(module: nn.Module, *others: Any) -> onnx.ModelProto:
        made = before(module, *others)
        if hasattr(module, network):
            change(made)
        return made
    before: Callable[..., onnx.ModelProto] = onnx_export._graph
    replace(before, graph)


def node_of(model: onnx.ModelProto, layer: str) -> onnx.NodeProto:
    """The model's own node that a layer is named for: the one to be changed."""
    graph = Graph(model)
    name = graph.layers[graph.index(layer)].main.output[0]
    found: onnx.NodeProto = next(node for node in model.graph.node if name in node.output)
    return found


def attribute(layer: str, name: str, value: object) -> Callable[[onnx.ModelProto], None]:
    """The layer's attribute, whatever it was."""
    def edit(model: onnx.ModelProto) -> None:
        node = node_of(model, layer)
        for one in list(node.attribute):
            if one.name == name:
                node.attribute.remove(one)
        node.attribute.append(helper.make_attribute(name, value))
    return edit


def initializer(layer: str, position: int, change: Callable[[np.ndarray], np.ndarray]
                ) -> Callable[[onnx.ModelProto], None]:
    """The array at a position of the layer's inputs, changed."""
    def edit(model: onnx.ModelProto) -> None:
        name = node_of(model, layer).input[position]
        (tensor,) = [one for one in model.graph.initializer if one.name == name] or [
            node.attribute[0].t for node in model.graph.node
            if node.op_type == "Constant" and name in node.output]
        array = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return edit


def auto_pad(layer: str, how: str) -> Callable[[onnx.ModelProto], None]:
    """The layer's padding by auto_pad, in place of a Pad node in front of it or of ``pads``."""
    def edit(model: onnx.ModelProto) -> None:
        graph = Graph(model)
        nodes = graph.layers[graph.index(layer)].nodes
        convolution = node_of(model, layer)
        for pad in [node for node in nodes if node.op_type == "Pad"]:
            convolution.input[0] = pad.input[0]
            model.graph.node.remove(next(
                node for node in model.graph.node if node.output[0] == pad.output[0]))
        for one in list(convolution.attribute):
            if one.name == "pads":
                convolution.attribute.remove(one)
        convolution.attribute.append(helper.make_attribute("auto_pad", how))
    return edit


def bfloat16(array: np.ndarray) -> np.ndarray:
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def pads_at_the_other_side(model: onnx.ModelProto) -> None:
    """conv3's odd pixel at the bottom and the right: what SAME_UPPER is."""
    attribute("conv3", "pads", [0, 0, 1, 1])(model)


def padding_node_at_the_other_side(model: onnx.ModelProto) -> None:
    """The same where the padding is a node of its own."""
    graph = Graph(model)
    made = [node.output[0] for node in graph.layers[graph.index("conv3")].nodes
            if node.op_type == "Pad"]
    for node in model.graph.node:
        if node.output[0] in made:
            del node.attribute[:]
            node.attribute.extend([helper.make_attribute("mode", "constant"),
                                   helper.make_attribute("pads", [0, 0, 0, 0, 0, 0, 1, 1])])


def opset_11(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 11


def folded_without_epsilon(model: onnx.ModelProto) -> None:
    """bn4 goes into conv4, as an optimiser does it, but it divides by sqrt(variance)."""
    convolution, norm = node_of(model, "conv4"), node_of(model, "bn4")
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    scale, bias, mean, variance = (numpy_helper.to_array(arrays[name]).astype(np.float64)
                                   for name in norm.input[1:5])
    weight = numpy_helper.to_array(arrays[convolution.input[1]])
    factor = scale / np.sqrt(variance)
    axis = (1, -1, 1, 1) if convolution.op_type == "ConvTranspose" else (-1, 1, 1, 1)
    arrays[convolution.input[1]].CopyFrom(numpy_helper.from_array(
        (weight * factor.reshape(axis)).astype(np.float32), convolution.input[1]))
    arrays[norm.input[2]].CopyFrom(numpy_helper.from_array(
        (bias - mean * factor).astype(np.float32), norm.input[2]))
    convolution.input[:] = [*convolution.input[:2], norm.input[2]]
    convolution.output[0] = norm.output[0]
    model.graph.node.remove(norm)


def channels_last(model: onnx.ModelProto) -> None:
    """The image with its channels in the opposite order, R, G, B."""
    last = model.graph.node[-1]
    name = last.output[0]
    last.output[0] = "in_the_old_order"
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "order"))
    model.graph.node.append(helper.make_node("Gather", ["in_the_old_order", "order"], [name],
                                             axis=1))


def in_training_mode(model: onnx.ModelProto) -> None:
    """Five outputs: by ONNX 9's text the minibatch's own statistics are taken."""
    node_of(model, "bn3").output.extend(["mean", "variance", "saved_mean", "saved_variance"])


# ------------------------------------------------------------------------------ faults of a runtime


def one_channel_off(layer: str, by: float) -> Callable[[str, np.ndarray], np.ndarray]:
    """A value that is added to one channel of one sample."""
    def perturb(name: str, array: np.ndarray) -> np.ndarray:
        if name == layer:
            array = array.copy()
            array[0, 1] += np.float32(by)
        return array
    return perturb


def in_half(layer: str) -> Callable[[str, np.ndarray], np.ndarray]:
    """A layer that is computed in float16."""
    def perturb(name: str, array: np.ndarray) -> np.ndarray:
        return array.astype(np.float16).astype(np.float32) if name == layer else array
    return perturb


def one_channel_coarse(layer: str, channel: int) -> Callable[[str, np.ndarray], np.ndarray]:
    """A layer of which one channel is computed in bfloat16."""
    def perturb(name: str, array: np.ndarray) -> np.ndarray:
        if name == layer:
            array = array.copy()
            array[:, channel] = bfloat16(array[:, channel])
        return array
    return perturb


def one_sample_for_all(layer: str) -> Callable[[str, np.ndarray], np.ndarray]:
    """A layer whose first sample is given for every sample."""
    def perturb(name: str, array: np.ndarray) -> np.ndarray:
        return np.repeat(array[:1], len(array), 0) if name == layer else array
    return perturb


def as_constants(model: onnx.ModelProto) -> None:
    """Every initializer as a Constant node in front of the others."""
    made = [helper.make_node("Constant", [], [tensor.name], value=tensor)
            for tensor in model.graph.initializer]
    nodes = [*made, *model.graph.node]
    names = {tensor.name for tensor in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in names]
    del model.graph.initializer[:], model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(nodes)
    model.graph.input.extend(inputs)
