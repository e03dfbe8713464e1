"""A failing case as a small folder with a script that shows it."""
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined
from onnx import TensorProto, helper, numpy_helper

from captures.article import DCGAN
from captures.files import folder_whole
from captures.spec import Spec
from parity.blame.finding import (
    PORT,
    PORT_EXPORTER,
    Blame,
    Corners,
    Layers,
    State,
    Tolerance,
    _input_of,
    _one,
    _worst,
    distance,
    measured_floor,
)
from parity.onnx.graph import Graph
from parity.onnx.names import OPSET, STATISTICS, AnyPath, Array, GraphError
from parity.onnx.runtime import Session
from parity.onnx.table import table

VALUES = 2_000_000  # of an array in a reproduction that has no layer: 8 MB in float32


# ----------------------------------------------------------------------- a failing case as a folder


def write_reproduction(folder: AnyPath, verdict: Blame, corners: Corners, cntk_graph: AnyPath,
                       port_graph: AnyPath, cntk_state: State, port_state: State,
                       tolerance: Tolerance = measured_floor) -> Path:
    """The first finding as a small folder that shows it alone. Raises ValueError: none there.

    An exporter's or the runtime's: the layer of the export on the framework's own input, against
    the framework's output. It is widened towards the input until this machine's onnxruntime shows
    the failure; if nothing does, and weights differ, those are the case. The port's: the layer made
    from CNTK's weights, the port's output against CNTK's.
    """
    if not verdict.findings:
        raise ValueError("nothing disagrees: there is no failing case to write")
    finding, network, spec = verdict.findings[0], verdict.network, corners.spec
    order = [layer.name for layer in spec.network(network).layers]
    weights = finding.place.split("/")[-1] in (*STATISTICS, "weight")
    if finding.word == PORT:
        if weights:
            return write_array_reproduction(
                folder, finding.place, cntk_state[finding.place],
                port_state.get(finding.place, np.zeros(0, np.float32)), 0.0, what=str(verdict))
        i = order.index(finding.layer)
        taken = corners.input if i == 0 else corners.cntk[order[i - 1]]
        right = corners.cntk[finding.layer]
        return write_layer_reproduction(
            folder, OnItsOwn(network, finding.layer, taken, corners.port[finding.layer], right,
                             tolerance(f"{network}/{finding.layer}", right)),
            cntk_state, str(verdict), spec)
    port_side = finding.export == PORT_EXPORTER
    framework, runtime = (corners.port, corners.port_onnx) if port_side \
        else (corners.cntk, corners.cntk_onnx)
    try:
        graph = Graph.open(port_graph if port_side else cntk_graph, spec)
    except GraphError:  # no layer of it can be cut out
        name = order[-1]
        return write_array_reproduction(
            folder, f"{network}/{name}", framework[name],
            runtime.get(name, np.zeros(0, np.float32)),
            tolerance(f"{network}/{name}", framework[name]), ("framework", "export"), str(verdict))
    here = {layer.name for layer in graph.layers}
    start = order.index(finding.layer) if finding.layer in order else len(order) - 1
    # A layer that the file lacks is missed by the next one that it has.
    name = next((name for name in order[start:] if name in here), graph.layers[-1].name)
    state = port_state if port_side else cntk_state
    case = _export_case(graph, name, corners.input, framework, runtime, tolerance)
    if not case.shown and weights and finding.place in state:
        got = graph.weights(graph.layers[graph.index(finding.layer)]).get(
            finding.place.split("/")[-1], np.zeros(0, np.float32))
        return write_array_reproduction(folder, finding.place, state[finding.place], got, 0.0,
                                        names=("framework", "export"), what=str(verdict))
    return _write(folder, case, str(verdict), "the framework", "onnxruntime, in its own chain",
                  judge=False)


@dataclass(frozen=True)
class OnItsOwn:
    """One layer on CNTK's own input.

    taken: what it took, a whole minibatch: N x C x H x W, or z. port, cntk: its outputs. allowed:
    largest absolute difference. training: batch normalisation by the minibatch's own statistics.
    pixels: the critic's first layer took 0..255; False: what is in [-1, 1] already.
    """

    network: str
    layer: str
    taken: Array
    port: Array
    cntk: Array
    allowed: float
    training: bool = False
    pixels: bool = True

    @property
    def place(self) -> str:
        return f"{self.network}/{self.layer}"


def write_layer_reproduction(folder: AnyPath, given: OnItsOwn, cntk_state: State, what: str = "",
                             spec: Spec = DCGAN) -> Path:
    """The port's layer against CNTK's, with a graph of CNTK's weights as judge."""
    sample, _ = _worst(given.cntk, given.port)
    one = slice(sample, sample + 1)
    case = _Case(given.place, _layer_model(given, cntk_state, spec), given.taken[one],
                 given.cntk[one], given.port[one], given.allowed, True)
    return _write(folder, case, what or f"the port's {given.place} is not CNTK's", "CNTK",
                  "the port", judge=True)


def write_array_reproduction(folder: AnyPath, place: str, right: Array, other: Array,
                             allowed: float, names: tuple[str, str] = ("CNTK", "port"),
                             what: str = "") -> Path:
    """A failure that is no layer's forward: a gradient, a weight after a step, the reader's pixels.
    Both arrays, or two million values of them around the worst, and a script that prints how far
    they are apart. allowed: largest absolute difference."""
    shapes = [list(np.shape(a)) for a in (right, other)]
    right, other = (np.ascontiguousarray(a).ravel() for a in (right, other))
    start = 0
    if right.shape == other.shape and right.size > VALUES:
        apart = np.abs(np.asarray(right, np.float64) - other)
        worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        start = min(max(worst - VALUES // 2, 0), right.size - VALUES)
    arrays = {"expected": right[start:start + VALUES], "suspect": other[start:start + VALUES]}
    script = rendered("arrays.py.j2", place=place, allowed=allowed, shapes=shapes, start=start,
                      names=names)
    return _folder(folder, place, what or f"{place} differs", script,
                   {"outputs.npz": arrays}, None)


@dataclass
class _Case:
    place: str
    model: onnx.ModelProto
    taken: Array
    expected: Array
    suspect: Array
    allowed: float
    shown: bool


def _export_case(graph: Graph, name: str, first_input: Array, framework: Layers, runtime: Layers,
                 tolerance: Tolerance) -> _Case:
    """The layer, or as many before it as the failure needs to show here."""
    last = graph.index(name)
    right, other = framework[name], runtime.get(name)
    sample = 0 if other is None else _worst(right, other)[0]
    expected = _one(graph, right, sample)
    suspect = expected[:0] if other is None else _one(graph, other, sample)
    allowed = tolerance(f"{graph.network}/{name}", right)
    narrow = None
    for first in range(last, -1, -1):
        taken = _input_of(graph, first, first_input, framework)
        case = _Case(f"{graph.network}/{name}", graph.part(first, last),
                     _one(graph, taken, sample), expected, suspect, allowed, False)
        try:
            got = Session(case.model)(case.taken)[0]
            apart = distance(got.reshape(expected.shape), expected) if got.size == expected.size \
                else math.inf
        except GraphError:
            apart = math.inf
        if not apart <= allowed:
            case.shown = True
            return case
        narrow = narrow or case
    assert narrow is not None  # the range has at least one element
    return narrow


def _layer_model(of: OnItsOwn, state: State, spec: Spec) -> onnx.ModelProto:
    """One layer of the networks' table with given weights, in ONNX's words."""
    expected = next(one for one in table(spec, of.network) if one.name == of.layer)
    place, taken = of.place, of.taken
    arrays: dict[str, Array] = {}
    nodes, source = [], "input"
    given: dict[str, Any] = {}
    names: list[str] = []
    if "weight" in expected.facts:
        facts = expected.facts
        given = {name: facts[name] for name in ("kernel_shape", "strides", "pads", "dilations",
                                                "group")}
        names = [name for name in ("weight", "bias") if f"{place}/{name}" in state]
        arrays = {name: np.asarray(state[f"{place}/{name}"]) for name in names}
        if taken.ndim == 2:
            arrays["shape"] = np.array([-1, *taken.shape[1:], 1, 1], np.int64)
            nodes.append(helper.make_node("Reshape", ["input", "shape"], ["reshaped"]))
            source = "reshaped"
        if "normalisation" in facts and of.pixels:
            for op, constant in facts["normalisation"]:
                arrays[op] = np.array(constant, np.float32)
                nodes.append(helper.make_node(op, [source, op], [op + "_output"]))
                source = op + "_output"
    elif expected.op == "BatchNormalization":
        given = {"epsilon": expected.facts["epsilon"]}
        arrays = {name: np.asarray(state[f"{place}/{name}"]) for name in STATISTICS}
        if of.training:
            exact = taken.astype(np.float64)
            arrays["running_mean"] = exact.mean((0, 2, 3)).astype(np.float32)
            arrays["running_variance"] = exact.var((0, 2, 3)).astype(np.float32)
        names = list(STATISTICS)
    elif expected.op == "LeakyRelu":
        given = dict(expected.facts)
    nodes.append(helper.make_node(expected.op, [source, *names], ["output"], **given))
    graph = helper.make_graph(
        nodes, expected.name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *taken.shape[1:]])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", *expected.shape])],
        [numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), name)
         for name, a in arrays.items()])
    return helper.make_model(graph, ir_version=4, opset_imports=[helper.make_opsetid("", OPSET)])


def _write(folder: AnyPath, case: _Case, what: str, right: str, suspect: str, judge: bool) -> Path:
    script = rendered("layer.py.j2", place=case.place, layers=case.model.graph.name,
                      allowed=case.allowed, right=right, suspect=suspect, judge=judge)
    return _folder(folder, case.place, what, script,
                   {"inputs.npz": {"input": case.taken},
                    "outputs.npz": {"expected": case.expected, "suspect": case.suspect}},
                   case.model)


def rendered(template: str, **values: Any) -> str:
    """A file of a folder. Raises jinja2.UndefinedError: the template asks for more."""
    files = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
                        keep_trailing_newline=True, trim_blocks=True, autoescape=False)
    files.filters["literal"] = _literal
    return files.get_template(template).render(values)


def _literal(value: Any) -> str:
    """As Python writes it. (``repr`` of what a template lacks would be a name.)"""
    if isinstance(value, Undefined):
        str(value)  # raises
    if isinstance(value, float):
        return repr(float(value)) if math.isfinite(value) else f'float("{value}")'
    return repr(value)


def _folder(folder: AnyPath, place: str, what: str, script: str,
            arrays: Mapping[str, Mapping[str, Array]], model: onnx.ModelProto | None) -> Path:
    with folder_whole(folder) as part:
        for name, of in arrays.items():
            np.savez(part / name, **of)  # type: ignore[arg-type]
        if model is not None:
            (part / "subgraph.onnx").write_bytes(model.SerializeToString(deterministic=True))
        (part / "reproduce.py").write_text(script, encoding="utf-8")
        (part / "README.txt").write_text(rendered(
            "README.txt.j2", place=place, what=textwrap.fill(what, 98),
            needs="numpy" if model is None else "numpy and onnxruntime",
            files=[(name, text) for name, text in _FILES.items() if (part / name).exists()]),
            encoding="utf-8")
    return Path(folder)


_FILES = {
    "subgraph.onnx": "the smallest part of the network that shows it",
    "inputs.npz": "what goes in: one sample",
    "outputs.npz": "expected: what is right; suspect: what was computed instead",
    "reproduce.py": "prints how far they are apart",
}
