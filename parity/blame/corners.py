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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from captures.spec import Spec
from parity.blame.finding import (
    CNTK_EXPORTER,
    PORT,
    PORT_EXPORTER,
    RUNTIME,
    Blame,
    Corners,
    Finding,
    Layers,
    State,
    Tolerance,
    _input_of,
    _one,
    _Outside,
    _worst,
    distance,
    measured_floor,
)
from parity.judge.policies import BORN_INSIDE
from parity.judge.results import Check
from parity.onnx.graph import Graph
from parity.onnx.names import AnyPath, Array, GraphError
from parity.onnx.reference import _reference
from parity.onnx.structure import compare_state, compare_structure


def blame(network: str, corners: Corners, cntk_graph: AnyPath, port_graph: AnyPath,
          cntk_state: State, port_state: State, tolerance: Tolerance = measured_floor) -> Blame:
    """The verdict on one network. cntk_state, port_state: captures' names to arrays, with what the
    corners were computed. Raises GraphError: a graph's file cannot be read at all."""
    layers = [layer.name for layer in corners.spec.network(network).layers]
    native = _first_outside(network, layers, corners.cntk, corners.port, tolerance)
    found = _weights_differ(network, cntk_state, port_state)
    for word, path, state, framework, runtime in (
            (CNTK_EXPORTER, cntk_graph, cntk_state, corners.cntk, corners.cntk_onnx),
            (PORT_EXPORTER, port_graph, port_state, corners.port, corners.port_onnx)):
        try:
            graph: AnyPath | Graph = Graph.open(path, corners.spec)  # once: it is up to 76 MB
        except GraphError:
            graph = path  # no chain of layers: a failed check below
        edge = _first_outside(network, layers, framework, runtime, tolerance,
                              folded=graph.folded if isinstance(graph, Graph) else ())
        structural = _structural(word, network, graph, state, corners.spec)
        if word == PORT_EXPORTER and native and edge is None:
            # The export does what the port does. What its graph has wrong, the port has wrong.
            structural = [s for s in structural
                          if s.place.split("/")[-1] not in ("node", "operators", "ends")]
        found += structural
        if edge and (runtime or not structural):
            export = _Export(word, network, graph, corners.input, framework, runtime)
            found.append(_exporter_or_runtime(export, edge, tolerance, bool(structural)))
    if native:
        found.append(Finding(PORT, native.layer, _port_detail(network, native, corners),
                             native.measured, native.allowed))
    order = [*layers, "graph"]
    # A sort that keeps exporters and runtime before the port in one layer: where CNTK's own export
    # disagrees with CNTK too, that comes first.
    return Blame(network, tuple(sorted(found, key=lambda f: order.index(f.layer))))


def _first_outside(network: str, layers: Sequence[str], right: Layers, other: Layers,
                   tolerance: Tolerance, folded: Sequence[str] = ()) -> _Outside | None:
    for name in layers:
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


def _structural(word: str, network: str, graph: AnyPath | Graph, state: State, spec: Spec
                ) -> list[Finding]:
    checks, _ = compare_structure(graph, network, spec)
    # Where the file is no chain of layers, that is the failed check.
    with contextlib.suppress(GraphError):
        checks += compare_state(graph, network, state, spec)
    order = {layer.name for layer in spec.network(network).layers}
    failed: dict[str, list[Check]] = {}
    for check in checks:
        if not check.passed:
            layer = check.place.split("/")[1]
            failed.setdefault(layer if layer in order else "graph", []).append(check)
    return [Finding(word, layer, "; ".join(f"{c.place}: {c.detail}" for c in of),
                    place=of[0].place, export=word) for layer, of in failed.items()]


# -------------------------------------------------------------------------- the reference evaluator


@dataclass(frozen=True)
class _Export:
    """One side's export of one network, and what both ends of its edge made of the input. word:
    who is at fault if the exporter is."""

    word: str
    network: str
    graph: AnyPath | Graph
    input: Array
    framework: Layers
    runtime: Layers


def _exporter_or_runtime(export: _Export, edge: _Outside, tolerance: Tolerance, structural: bool
                         ) -> Finding:
    """The export's edge disagrees from one layer on."""
    word, framework = export.word, export.framework
    what = (f"on {word[:-2]} onnxruntime is {edge.measured:.3g} away from the framework, "
            f"{edge.allowed:.3g} allowed")
    if not export.runtime:
        return Finding(RUNTIME, edge.layer, f"onnxruntime does not run {word[:-2]}, which onnx's "
                                            "checker passes", math.inf, 0.0, export=word)
    try:
        graph = Graph.of(export.graph)
        last = graph.index(edge.layer)
        # An export that looks right in every respect, a layer that the reference computes as the
        # runtime does: the fault was born inside the tolerance, in a layer before.
        for i in [last] if structural else range(last, -1, -1):
            layer = graph.layers[i].name
            apart = _reference_apart(graph, i, export)
            allowed = tolerance(f"{export.network}/{layer}", framework[layer]) * (
                1 if i == last else BORN_INSIDE.value)
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


def _reference_apart(graph: Graph, i: int, export: _Export) -> float:
    """The runtime's layer against the reference evaluator's, from the runtime's own input."""
    layer, runtime = graph.layers[i], export.runtime
    sample, channels = _worst(export.framework[layer.name], runtime[layer.name])
    convolution = layer.main.op_type in ("Conv", "ConvTranspose") \
        and all(node.op_type not in ("Transpose", "Slice") for node in layer.nodes)
    groups = [a.i for a in layer.main.attribute if a.name == "group"]
    chosen = channels if convolution and groups in ([], [1]) else None
    taken = _one(graph, _input_of(graph, i, export.input, runtime), sample)
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
