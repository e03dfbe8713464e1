"""onnxruntime on one exported graph: every layer's output, of any minibatch."""
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper

from captures.article import DCGAN
from captures.spec import Spec
from parity.onnx.graph import Graph, _first_line
from parity.onnx.names import AnyPath, Array, GraphError, Perturb

SAMPLES_AT_ONCE = 4  # of a graph whose minibatch is free: 60 MB of layers


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
            made: list[Array] = self._session.run(names, {self.name: array})
            return made
        except Exception as error:
            raise GraphError(f"onnxruntime {self.version} fails in the graph: "
                             f"{_first_line(error)}") from None


def run(path: AnyPath, inputs: Array, threads: int = 2, perturb: Perturb | None = None,
        spec: Spec = DCGAN) -> Run:
    """Every layer of the graph on inputs, z or pixels, of any minibatch.

    perturb(layer, array): a runtime that is at fault, for tests. It is given every layer's output
    and returns it, or another, with which the layers behind it then go on.

    Raises GraphError: not a graph of the spec's networks, or onnxruntime does not run it.
    """
    graph = Graph.open(path, spec)
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
    for expected in graph.described.layers:
        if expected.name in values:
            array, shape = values.pop(expected.name), (len(inputs), *expected.output)
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
