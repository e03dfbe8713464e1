"""An exported graph against its network's description, and its weights against the framework's."""
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from captures.article import DCGAN
from captures.spec import Spec
from parity.judge import judgements
from parity.judge.policies import FOLDED
from parity.judge.results import Check
from parity.onnx.graph import Graph, Layer, _first_line, _load, _opset, attributes
from parity.onnx.names import OPSET, RESHAPES, STATISTICS, AnyPath, Array, GraphError
from parity.onnx.table import Expected, convolution_of, normalisation_of, single, table


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
            pads = _automatic(graph, layer, shape[2:], given)
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
        facts = {"epsilon": given.get("epsilon", single(1e-5)),
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


def _automatic(graph: Graph, layer: Layer, kernel: Sequence[int], given: Mapping[str, Any]) -> Any:
    """The pads that auto_pad stands for. (ONNX: SAME_UPPER has the odd pixel of a convolution at
    the end and of a transposed one's crop at the beginning, SAME_LOWER the other way.)"""
    way, sizes = given["auto_pad"], graph.input_shape(layer)[1:]
    if any(node.op_type == "Pad" for node in layer.nodes):
        return f"auto_pad {way} behind a Pad"
    if way == "VALID":
        return [0] * 2 * len(kernel)
    transposed = layer.main.op_type == "ConvTranspose"
    if way not in ("SAME_UPPER", "SAME_LOWER") or len(sizes) != len(kernel) \
            or not all(isinstance(size, int) for size in sizes) \
            or any(one != 1 for one in given.get("dilations", [])):
        return f"auto_pad {way}"
    before, after = [], []
    for size, window, step in zip(sizes, kernel, given.get("strides", [1] * len(kernel)),
                                  strict=True):
        assert isinstance(size, int)
        beyond = max(window - step if transposed else (-(-size // step) - 1) * step + window - size,
                     0)
        larger_first = (way == "SAME_UPPER") == transposed
        first = beyond - beyond // 2 if larger_first else beyond // 2
        before.append(first)
        after.append(beyond - first)
    return [*before, *after]


def _scalar(graph: Graph, node: onnx.NodeProto) -> float | None:
    """x - c and x / c: c. None for c - x and c / x, and for anything but one number."""
    name = node.input[1]
    if name not in graph.constants or graph.constants[name].size != 1:
        return None
    return float(graph.constants[name].reshape(()))


def _exact(place: str, wrong: Sequence[str]) -> Check:
    return Check(place=place, measured=float(len(wrong)), allowed=0.0, unit="differences",
                 policy="exact", detail="; ".join(wrong))


def compare_structure(path: AnyPath | Graph, network: str, spec: Spec = DCGAN,
                      minibatch: int | None = None) -> tuple[list[Check], list[str]]:
    """One check a layer, six of the whole graph, and what is listed without being judged.

    minibatch: of the training, for batch normalisation's momentum; None: any whole one.

    A file that is not a chain of layers is one failed check.
    """
    place = f"{network}/graph"
    said = check(path)
    checks = [_exact(f"{place}/checker", [said] if said else [])]
    try:
        graph = Graph.of(path, spec)
    except GraphError as error:
        return [*checks, _exact(f"{place}/operators", [str(error)])], []
    model = graph.model
    foreign = [o.domain for o in model.opset_import if o.domain not in ("", "ai.onnx")]
    checks.append(_exact(f"{place}/opset", [
        *([f"opset {_opset(model)}, CNTK's is {OPSET}"] if _opset(model) != OPSET else []),
        *(f"operators of {domain}" for domain in foreign)]))
    ends = []
    described = spec.network(network)
    for info, sample, what in ((graph.input, list(described.input), "input"),
                               (graph.output, list(described.output), "output")):
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if dims[1:] != sample or info.type.tensor_type.elem_type != TensorProto.FLOAT:
            ends.append(f"the {what} {info.name} is N x {dims[1:]}, it should be N x {sample} "
                        "of float32")
    checks.append(_exact(f"{place}/ends", ends))
    by_cntk = model.producer_name == "CNTK"
    checks.append(_exact(f"{place}/minibatch", [
        f"the minibatch is fixed at {graph.batch}, it should be free"]
        if graph.batch and (graph.batch, by_cntk) != (1, True) else []))
    checks.append(_exact(f"{place}/momentum", _momenta(
        graph, CNTKS_SAMPLES if by_cntk else minibatch)))

    expected = [e for e in table(spec, network) if e.name not in graph.folded]
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
            checks.append(_compare_layer(graph, e, network, spec))
    return checks, _notes(graph)


def _compare_layer(graph: Graph, e: Expected, network: str, spec: Spec) -> Check:
    layer = graph.layers[graph.index(e.name)]
    op, facts = e.op, dict(e.facts)
    convolution = convolution_of(graph.described, e.name)
    if convolution in graph.folded:
        source = next(x for x in table(spec, network) if x.name == convolution)
        op, facts = source.op, {**source.facts, "bias": [source.shape[0]]}
    got = _facts(graph, layer)
    if e.op == op == "Conv":
        got["pads"] = _reached(got["pads"], graph.input_shape(layer)[1:], facts)
    wrong = [f"{layer.main.op_type}, it should be {op}"] if layer.main.op_type != op else []
    for name in [*facts, *(name for name in got if name not in facts)]:
        if got.get(name) != facts.get(name):
            wrong.append(f"{name} {got.get(name)}, it should be {facts.get(name)}")
    return _exact(f"{network}/{e.name}/node", wrong)


# CNTK 2.7's exporter fixes the minibatch at 1, and takes this for the training's, whatever it was.
CNTKS_SAMPLES = 48


def _momenta(graph: Graph, minibatch: int | None) -> list[str]:
    """Which batch normalisations would keep another part of their statistics in training than
    exp(-N / time constant)."""
    wrong, constant = [], graph.spec.time_constant
    for layer in graph.layers:
        if layer.main.op_type == "BatchNormalization":
            found = attributes(layer.main).get("momentum", 0.9)
            samples = -constant * math.log(found) if 0 < found < 1 else -1.0
            nearest = max(round(samples), 1)
            asked = nearest if minibatch is None else minibatch
            # The roundings to float32 are up to 2**-23 of 1: that many time constants of a sample.
            if abs(samples - asked) > 2 ** -23 * constant:
                wrong.append(f"{layer.name} has momentum {found:.8g}, exp(-{samples:.3f} / "
                             f"{constant:g}): it should be of {asked} samples")
    return wrong


def _notes(graph: Graph) -> list[str]:
    """What the file's form is, where two exporters may differ without one being wrong."""
    model = graph.model
    notes = [f"written by {model.producer_name} {model.producer_version}".rstrip()
             + f", opset {_opset(model)}, IR {model.ir_version}; {graph.input.name} to "
               f"{graph.output.name}"]
    constant = graph.spec.time_constant
    momenta = sorted({attributes(layer.main).get("momentum", 0.9) for layer in graph.layers
                      if layer.main.op_type == "BatchNormalization"})
    for momentum in momenta:
        samples = -constant * math.log(momentum) if 0 < momentum < 1 else 0
        notes.append(
            f"batch normalisation's momentum is {momentum:.8f}"
            + (f", exp(-N/{constant:g}) for a minibatch of {samples:.1f}" if samples else "")
            + (f": CNTK's exporter takes {CNTKS_SAMPLES}, whatever the training's was"
               if round(samples) == CNTKS_SAMPLES else "") + "; inference does not read it")
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


def compare_state(path: AnyPath | Graph, network: str, state: Mapping[str, Array],
                  spec: Spec = DCGAN) -> list[Check]:
    """Every parameter and statistic of the network against the framework's own, bit for bit; a
    folded pair against what folding gives. sample_count is not looked for."""
    graph = Graph.of(path, spec)
    layers = {layer.name: layer for layer in graph.layers}
    checks = []
    for name in [n for n in state if n.startswith(network + "/")]:
        layer, quantity = name.split("/")[1:]
        if quantity == "sample_count" or layer in graph.folded or graph.is_folded(layer):
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
    norm = normalisation_of(graph.described, convolution)
    layer = graph.layers[graph.index(norm)]
    scale, bias, mean, variance = (np.asarray(state[f"{network}/{norm}/{q}"], np.float64)
                                   for q in STATISTICS)
    factor = scale / np.sqrt(variance + single(graph.spec.epsilon))
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
        checks.append(judgements.within(f"{network}/{convolution}/{quantity}", apart, FOLDED,
                                     detail))
    return checks
