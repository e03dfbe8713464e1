"""Who is at fault where implementations of one network disagree, and the case as a small folder.

Four corners compute every layer in evaluation mode from one input; two more voices are asked where
corners disagree:

    CNTK ----- edge "native" ----- the port          the port in float64: evidence, where A fails
     |                                 |
    "CNTK's export"           "the port's export"    onnx's reference evaluator: where an export
     |                                 |             and its framework disagree, one layer of it
    onnxruntime              onnxruntime

An edge is followed layer by layer to the first that is outside the tolerance.

    an export's weights are not its framework's bits, or its graph is not the article's: that
        exporter. But where the port and CNTK differ and the port's export does what the port does,
        the graph only says what the port is.
    an export's edge disagrees: the reference evaluator computes that layer from the runtime's own
        input. It agrees with the runtime: the exporter. It does not: "runtime".
    the native edge disagrees, or the port's weights are not CNTK's: "port", CNTK being what is to
        be ported.

The fault in the earliest layer is the word; all are in ``Blame.findings``. What lies inside the
tolerance and shows in no graph is not found. Of an export that looks right in every respect, the
reference is asked about the layers before the first that disagrees too: a fault may be inside the
tolerance in the layer where it is born.

The reference evaluator is numpy and slow (a transposed convolution of 64 x 64 x 64: 8 s), so it is
asked about one sample and two channels. Its BatchNormalization below opset 14 is replaced: onnx
1.23.2 blends the input's own statistics into the running ones (off by 1.4e-3 in the discriminator's
bn2 to 0.23 in its bn6, measured; replaced, by 7e-7), where ONNX says that a node with one output
takes the running ones. It would side against onnxruntime in every such layer. Source:
https://github.com/onnx/onnx/pull/8442, which mends it.
"""
import contextlib
import math
import os
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from parity.onnx_graphs import (
    ALPHA,
    EPSILON,
    INPUT,
    LAYERS,
    OPSET,
    STATISTICS,
    AnyPath,
    Array,
    Expected,
    Graph,
    GraphError,
    Session,
    compare_state,
    compare_structure,
)
from parity.results import Check

Layers = Mapping[str, Array]
State = Mapping[str, Array]
# Place, "network/layer", and the array that is right, to the largest absolute difference allowed.
Tolerance = Callable[[str, Array], float]

PORT, RUNTIME = "port", "runtime"
CNTK_EXPORTER, PORT_EXPORTER = "CNTK's exporter", "the port's exporter"
CHANNELS = 2
VALUES = 2_000_000  # of an array in a reproduction that has no layer: 8 MB in float32
# Of the layer's largest value. Float32 corners of one network are up to 2.4e-6 apart (measured,
# onnx_graphs.py); an export in bfloat16 is 2e-3 away.
FLOOR = 1e-5


def measured_floor(place: str, right: Array) -> float:
    """The tolerance where none is given: four times what float32 corners were measured apart."""
    size = float(np.max(np.abs(right))) if right.size else 0.0
    if place.endswith(("conv7", "tanh7", "sigmoid7")):
        size = max(size, 1.0)  # a logit or a pixel may be near 0, the terms of its sum are not
    return FLOOR * size


@dataclass(frozen=True)
class Corners:
    """One network's layers in evaluation, layer -> N x C x H x W, and what went in: z or pixels.

    A run that failed is an empty mapping; a layer that an export has folded away is missing.
    """

    input: Array
    cntk: Layers
    port: Layers
    cntk_onnx: Layers
    port_onnx: Layers
    oracle: Layers = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One fault.

    word: who. layer: where, "graph" if in no one layer. detail: why, one sentence. measured,
    allowed: in that layer, 0 where only the graph was looked at. place: of the check that failed.
    export: whose export was looked at, in the same words.
    """

    word: str
    layer: str
    detail: str
    measured: float = 0.0
    allowed: float = 0.0
    place: str = ""
    export: str = ""


@dataclass(frozen=True)
class Blame:
    """The verdict. word: "port", "CNTK's exporter", "the port's exporter", "runtime", or "" where
    nothing disagrees."""

    network: str
    findings: tuple[Finding, ...] = ()

    @property
    def word(self) -> str:
        return self.findings[0].word if self.findings else ""

    @property
    def layer(self) -> str:
        return self.findings[0].layer if self.findings else ""

    @property
    def detail(self) -> str:
        return self.findings[0].detail if self.findings else ""

    def __str__(self) -> str:
        return f"{self.word}: {self.network}/{self.layer}: {self.detail}" if self.findings else ""


@dataclass(frozen=True)
class _Outside:
    layer: str
    measured: float
    allowed: float


def distance(a: Array, b: Array) -> float:
    """Largest absolute difference; infinite between different shapes, and where one is NaN."""
    if a.shape != b.shape:
        return math.inf
    apart = float(np.max(np.abs(np.asarray(a, np.float64) - b))) if a.size else 0.0
    return math.inf if math.isnan(apart) else apart


def blame(network: str, corners: Corners, cntk_graph: AnyPath, port_graph: AnyPath,
          cntk_state: State, port_state: State, tolerance: Tolerance = measured_floor) -> Blame:
    """The verdict on one network. cntk_state, port_state: captures' names to arrays, with what the
    corners were computed. Raises GraphError: a graph's file cannot be read at all."""
    native = _first_outside(network, corners.cntk, corners.port, tolerance)
    found = _weights_differ(network, cntk_state, port_state)
    for word, path, state, framework, runtime in (
            (CNTK_EXPORTER, cntk_graph, cntk_state, corners.cntk, corners.cntk_onnx),
            (PORT_EXPORTER, port_graph, port_state, corners.port, corners.port_onnx)):
        try:
            graph: AnyPath | Graph = Graph.open(path)  # once: it is up to 76 MB
        except GraphError:
            graph = path  # no chain of layers: a failed check below
        edge = _first_outside(network, framework, runtime, tolerance,
                              folded=graph.folded if isinstance(graph, Graph) else ())
        structural = _structural(word, network, graph, state)
        if word == PORT_EXPORTER and native and edge is None:
            # The export does what the port does. What its graph has wrong, the port has wrong.
            structural = [s for s in structural
                          if s.place.split("/")[-1] not in ("node", "operators", "ends")]
        found += structural
        if edge and (runtime or not structural):
            found.append(_exporter_or_runtime(word, network, graph, edge, corners.input, framework,
                                              runtime, tolerance, bool(structural)))
    if native:
        found.append(Finding(PORT, native.layer, _port_detail(network, native, corners),
                             native.measured, native.allowed))
    order = [*(e.name for e in LAYERS[network]), "graph"]
    # A sort that keeps exporters and runtime before the port in one layer: where CNTK's own export
    # disagrees with CNTK too, that comes first.
    return Blame(network, tuple(sorted(found, key=lambda f: order.index(f.layer))))


def _first_outside(network: str, right: Layers, other: Layers, tolerance: Tolerance,
                   folded: Sequence[str] = ()) -> _Outside | None:
    for expected in LAYERS[network]:
        name = expected.name
        if name in folded or name not in right:  # NaN, say: the forward stage names it
            continue
        if name not in other:
            return _Outside(name, math.inf, 0.0)
        truth = right[name]
        allowed = tolerance(f"{network}/{name}", truth)
        measured = distance(truth, other[name])
        if not measured <= allowed:
            return _Outside(name, measured, allowed)
    return None


def _weights_differ(network: str, cntk_state: State, port_state: State) -> list[Finding]:
    """The port is to compute with CNTK's bits."""
    for name in cntk_state:
        if not name.startswith(network + "/"):
            continue
        ours = port_state.get(name)
        theirs = np.asarray(cntk_state[name])
        if ours is None or ours.shape != theirs.shape or not np.array_equal(ours, theirs):
            apart = math.inf if ours is None else distance(np.asarray(ours), theirs)
            return [Finding(PORT, name.split("/")[1],
                            f"its {name} is not CNTK's: up to {apart:.3g} apart", apart, 0.0, name)]
    return []


def _structural(word: str, network: str, graph: AnyPath | Graph, state: State) -> list[Finding]:
    checks, _ = compare_structure(graph, network)
    # Where the file is no chain of layers, that is the failed check.
    with contextlib.suppress(GraphError):
        checks += compare_state(graph, network, state)
    order = {expected.name for expected in LAYERS[network]}
    failed: dict[str, list[Check]] = {}
    for check in checks:
        if not check.passed:
            layer = check.place.split("/")[1]
            failed.setdefault(layer if layer in order else "graph", []).append(check)
    return [Finding(word, layer, "; ".join(f"{c.place}: {c.detail}" for c in of),
                    place=of[0].place, export=word) for layer, of in failed.items()]


# -------------------------------------------------------------------------- the reference evaluator


def _exporter_or_runtime(word: str, network: str, path: AnyPath | Graph, edge: _Outside,
                         first_input: Array, framework: Layers, runtime: Layers,
                         tolerance: Tolerance, structural: bool) -> Finding:
    """The export's edge disagrees from one layer on."""
    what = (f"on {word[:-2]} onnxruntime is {edge.measured:.3g} away from the framework, "
            f"{edge.allowed:.3g} allowed")
    if not runtime:
        return Finding(RUNTIME, edge.layer, f"onnxruntime does not run {word[:-2]}, which onnx's "
                                            "checker passes", math.inf, 0.0, export=word)
    try:
        graph = Graph.of(path)
        last = graph.index(edge.layer)
        # An export that looks right in every respect, a layer that the reference computes as the
        # runtime does: the fault was born inside the tolerance, in a layer before.
        for i in [last] if structural else range(last, -1, -1):
            layer = graph.layers[i].name
            apart = _reference_apart(graph, i, first_input, framework, runtime)
            allowed = tolerance(f"{network}/{layer}", framework[layer]) / (1 if i == last else 10)
            if not apart <= allowed:
                return Finding(RUNTIME, layer,
                               f"{what}; onnx's reference evaluator, from the same input, is "
                               f"{apart:.3g} away from onnxruntime", apart, allowed, export=word)
        why = "onnx's reference evaluator agrees with onnxruntime, so the graph says it so"
    except KeyError:
        why = f"it has no {edge.layer}"
    except GraphError as error:
        why = str(error)
    return Finding(word, edge.layer, f"{what}; {why}", edge.measured, edge.allowed, export=word)


def _worst(right: Array, other: Array) -> tuple[int, list[int]]:
    """The sample and the two channels in which two arrays differ most."""
    if right.shape != other.shape:
        return 0, list(range(min(CHANNELS, other.shape[1] if other.ndim > 1 else 1)))
    apart = np.abs(np.asarray(right, np.float64) - other)
    apart = np.where(np.isnan(apart), np.inf, apart).reshape(*right.shape[:2], -1).max(axis=2)
    sample = int(np.argmax(apart.max(axis=1)))
    return sample, sorted(np.argsort(apart[sample])[::-1][:CHANNELS].tolist())


class BatchNormalization(OpRun):
    """ONNX's text for opset 9: by the running statistics with one output, as CNTK evaluates; by the
    input's own with more."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, bias: Array, mean: Array, variance: Array,
             epsilon: float | None = None, **ignored: Any) -> tuple[Array, ...]:
        def along(a: Array) -> Array:
            return a.reshape(-1, *[1] * (x.ndim - 2))
        training = len(self.onnx_node.output) > 1
        if training:
            axes = tuple(i for i in range(x.ndim) if i != 1)
            mean, variance = x.mean(axes), x.var(axes)
        root = np.sqrt(along(variance) + (EPSILON if epsilon is None else epsilon))
        y = (along(scale) * (x - along(mean)) / root + along(bias)).astype(x.dtype)
        return (y, *[mean] * (len(self.onnx_node.output) - 1))  # nobody looks at the others


def _reference(model: onnx.ModelProto, taken: Array) -> Array:
    old = all(opset.version < 14 for opset in model.opset_import if not opset.domain)
    evaluator = ReferenceEvaluator(model, new_ops=[BatchNormalization] if old else None)
    return np.asarray(*evaluator.run(None, {"input": taken}))


def _one(graph: Graph, array: Array, sample: int) -> Array:
    """One sample, as often as the file's minibatch asks for."""
    return array[[sample] * (graph.batch or 1)]


def _input_of(graph: Graph, i: int, first_input: Array, layers: Layers) -> Array:
    return first_input if i == 0 else layers[graph.layers[i - 1].name]


def _reference_apart(graph: Graph, i: int, first_input: Array, framework: Layers,
                     runtime: Layers) -> float:
    """The runtime's layer against the reference evaluator's, from the runtime's own input."""
    layer = graph.layers[i]
    sample, channels = _worst(framework[layer.name], runtime[layer.name])
    convolution = layer.main.op_type in ("Conv", "ConvTranspose") \
        and all(node.op_type not in ("Transpose", "Slice") for node in layer.nodes)
    groups = [a.i for a in layer.main.attribute if a.name == "group"]
    chosen = channels if convolution and groups in ([], [1]) else None
    taken = _one(graph, _input_of(graph, i, first_input, runtime), sample)
    try:
        got = _reference(graph.part(i, i, chosen), taken)
    except Exception as error:  # numpy's, from a graph that does not fit together
        raise GraphError(f"onnx's reference evaluator cannot compute {layer.name}: {error}"
                         ) from None
    theirs = _one(graph, runtime[layer.name], sample)
    theirs = theirs if chosen is None else theirs[:, chosen]
    if got.size == theirs.size:  # squeezed or flattened in the file
        got = got.reshape(theirs.shape)
    return distance(got, theirs)


def _port_detail(network: str, edge: _Outside, corners: Corners) -> str:
    text = f"the port is {edge.measured:.3g} away from CNTK, {edge.allowed:.3g} allowed"
    if edge.layer not in corners.oracle or edge.layer not in corners.port:
        return text
    oracle = corners.oracle[edge.layer]
    ours = distance(corners.port[edge.layer], oracle)
    theirs = distance(corners.cntk[edge.layer], oracle)
    if ours <= edge.allowed:
        return f"{text}; its float64 version does the same ({ours:.3g} apart): the model is another"
    return (f"{text}; from the float64 version the port is {ours:.3g} away and CNTK {theirs:.3g}: "
            "the port's arithmetic")


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
    finding, network = verdict.findings[0], verdict.network
    weights = finding.place.split("/")[-1] in (*STATISTICS, "weight")
    if finding.word == PORT:
        if weights:
            return write_array_reproduction(
                folder, finding.place, cntk_state[finding.place],
                port_state.get(finding.place, np.zeros(0, np.float32)), 0.0, what=str(verdict))
        before = [e.name for e in LAYERS[network]]
        i = before.index(finding.layer)
        taken = corners.input if i == 0 else corners.cntk[before[i - 1]]
        right = corners.cntk[finding.layer]
        return write_layer_reproduction(
            folder, network, finding.layer, taken, corners.port[finding.layer], right, cntk_state,
            tolerance(f"{network}/{finding.layer}", right), what=str(verdict))
    port_side = finding.export == PORT_EXPORTER
    framework, runtime = (corners.port, corners.port_onnx) if port_side \
        else (corners.cntk, corners.cntk_onnx)
    try:
        graph = Graph.open(port_graph if port_side else cntk_graph)
    except GraphError:  # no layer of it can be cut out
        name = LAYERS[network][-1].name
        return write_array_reproduction(
            folder, f"{network}/{name}", framework[name],
            runtime.get(name, np.zeros(0, np.float32)),
            tolerance(f"{network}/{name}", framework[name]), ("framework", "export"), str(verdict))
    here = {layer.name for layer in graph.layers}
    order = [e.name for e in LAYERS[network]]
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


def write_layer_reproduction(folder: AnyPath, network: str, layer: str, taken: Array, port: Array,
                             cntk: Array, cntk_state: State, allowed: float,
                             training: bool = False, pixels: bool = True,
                             what: str = "") -> Path:
    """The port's layer against CNTK's on CNTK's own input, with a graph of CNTK's weights as judge.

    taken: what the layer took, a whole minibatch: N x C x H x W, or z. port, cntk: its outputs.
    allowed: largest absolute difference. training: batch normalisation by the minibatch's own
    statistics. pixels: the discriminator's conv1 took 0..255; False: what is in [-1, 1] already.
    """
    expected = next(e for e in LAYERS[network] if e.name == layer)
    sample, _ = _worst(cntk, port)
    model = _layer_model(network, expected, taken, cntk_state, training, pixels)
    case = _Case(f"{network}/{layer}", model, taken[sample:sample + 1], cntk[sample:sample + 1],
                 port[sample:sample + 1], allowed, True)
    return _write(folder, case, what or f"the port's {network}/{layer} is not CNTK's", "CNTK",
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
    script = _ARRAYS.format(place=place, allowed=allowed, shapes=shapes, start=start, names=names)
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


def _layer_model(network: str, expected: Expected, taken: Array, state: State,
                 training: bool, pixels: bool) -> onnx.ModelProto:
    """One layer of the article's table with given weights, in ONNX's words."""
    place = f"{network}/{expected.name}"
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
        if network == "generator" and expected.name == "conv1" and taken.ndim == 2:
            arrays["shape"] = np.array([-1, *INPUT[network], 1, 1], np.int64)
            nodes.append(helper.make_node("Reshape", ["input", "shape"], ["reshaped"]))
            source = "reshaped"
        if "normalisation" in facts and pixels:
            for op, constant in facts["normalisation"]:
                arrays[op] = np.array(constant, np.float32)
                nodes.append(helper.make_node(op, [source, op], [op + "_output"]))
                source = op + "_output"
    elif expected.op == "BatchNormalization":
        given = {"epsilon": EPSILON}
        arrays = {name: np.asarray(state[f"{place}/{name}"]) for name in STATISTICS}
        if training:
            of = taken.astype(np.float64)
            arrays["running_mean"] = of.mean((0, 2, 3)).astype(np.float32)
            arrays["running_variance"] = of.var((0, 2, 3)).astype(np.float32)
        names = list(STATISTICS)
    elif expected.op == "LeakyRelu":
        given = {"alpha": ALPHA}
    nodes.append(helper.make_node(expected.op, [source, *names], ["output"], **given))
    graph = helper.make_graph(
        nodes, expected.name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *taken.shape[1:]])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", *expected.shape])],
        [numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), name)
         for name, a in arrays.items()])
    return helper.make_model(graph, ir_version=4, opset_imports=[helper.make_opsetid("", OPSET)])


def _write(folder: AnyPath, case: _Case, what: str, right: str, suspect: str, judge: bool) -> Path:
    layers = case.model.graph.name
    script = _LAYER.format(place=case.place, layers=layers, allowed=case.allowed, right=right,
                           suspect=suspect, judge=judge)
    return _folder(folder, case.place, what, script,
                   {"inputs.npz": {"input": case.taken},
                    "outputs.npz": {"expected": case.expected, "suspect": case.suspect}},
                   case.model)


def _folder(folder: AnyPath, place: str, what: str, script: str,
            arrays: Mapping[str, Mapping[str, Array]], model: onnx.ModelProto | None) -> Path:
    whole, part = Path(folder), Path(os.fspath(folder) + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for name, of in arrays.items():
            np.savez(part / name, **of)  # type: ignore[arg-type]
        if model is not None:
            (part / "subgraph.onnx").write_bytes(model.SerializeToString(deterministic=True))
        (part / "reproduce.py").write_text(script)
        (part / "README.txt").write_text(_README.format(
            place=place, what=textwrap.fill(what, 98), needs="numpy" if model is None
            else "numpy and onnxruntime", files="\n".join(
                f"    {name}: {text}" for name, text in _FILES.items() if (part / name).exists())))
        shutil.rmtree(whole, ignore_errors=True)
        os.replace(part, whole)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return whole


_FILES = {
    "subgraph.onnx": "the smallest part of the network that shows it",
    "inputs.npz": "what goes in: one sample",
    "outputs.npz": "expected: what is right; suspect: what was computed instead",
    "reproduce.py": "prints how far they are apart",
}
_README = """\
{place}

{what}

    python reproduce.py

needs {needs}, nothing else of the project. It exits 1 if it shows the failure, 0 if not.

{files}
"""
_LAYER = '''\
"""{place}: does onnxruntime, with {layers} alone, show the failure? See README.txt."""
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
ALLOWED = {allowed!r}  # largest absolute difference
# True: subgraph.onnx holds CNTK's own weights and judges between the two stored outputs.
# False: subgraph.onnx, or what runs it, is itself the suspect.
JUDGE = {judge}


def distance(a, b):
    if a.size != b.size:
        return float("inf")
    apart = float(np.max(np.abs(a.ravel().astype(np.float64) - b.ravel())))
    return apart if apart == apart else float("inf")


def main():
    taken = np.load(HERE / "inputs.npz")["input"]
    stored = np.load(HERE / "outputs.npz")
    expected, suspect = stored["expected"], stored["suspect"]
    print("allowed: %.6g" % ALLOWED)
    print("{right} against {suspect}, as stored: %.6g" % distance(expected, suspect))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(HERE / "subgraph.onnx"), options, providers=["CPUExecutionProvider"])
        fresh = session.run(None, {{session.get_inputs()[0].name: taken}})[0]
    except Exception as error:
        print("onnxruntime %s does not run subgraph.onnx: %s" % (onnxruntime.__version__, error))
        return 1
    right, wrong = distance(expected, fresh), distance(suspect, fresh)
    print("{right} against onnxruntime %s here and now: %.6g" % (onnxruntime.__version__, right))
    print("{suspect} against onnxruntime here and now: %.6g" % wrong)
    if JUDGE:
        print("onnxruntime is nearer to " + ("{right}" if right <= wrong else "{suspect}"))
        failed = not distance(expected, suspect) <= ALLOWED
    else:
        failed = not right <= ALLOWED
    print("the failure shows" if failed else "the failure does not show here")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
'''
_ARRAYS = '''\
"""{place}: how far two arrays are apart. See README.txt."""
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ALLOWED = {allowed!r}  # largest absolute difference
NAMES = {names!r}
SHAPES = {shapes!r}  # of the whole arrays
START = {start}  # flat index of the first value that is stored


def main():
    stored = np.load(HERE / "outputs.npz")
    expected, suspect = (stored[name].astype(np.float64) for name in ("expected", "suspect"))
    for name, shape in zip(NAMES, SHAPES):
        print("%s: %s" % (name, shape))
    if SHAPES[0] != SHAPES[1]:
        print("the shapes differ: the failure shows")
        return 1
    apart = np.abs(expected - suspect)
    apart[np.isnan(apart)] = np.inf
    worst = int(np.argmax(apart))
    print("%d of %d values differ" % (np.count_nonzero(apart), apart.size))
    print("largest difference: %.6g, allowed %.6g" % (apart[worst], ALLOWED))
    print("there, at flat index %d: %s %.9g, %s %.9g"
          % (START + worst, NAMES[0], expected[worst], NAMES[1], suspect[worst]))
    print("root mean square, over that of %s: %.6g"
          % (NAMES[0], np.sqrt(np.mean(apart ** 2) / max(np.mean(expected ** 2), 1e-300))))
    failed = not apart[worst] <= ALLOWED
    print("the failure shows" if failed else "the failure does not show")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
'''
