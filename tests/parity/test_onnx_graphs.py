"""Reading, checking and running both exporters' graphs; every check fails on a planted edit."""
import io
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from captures.article import DCGAN
from parity.blame.finding import measured_floor
from parity.onnx import graph as onnx_graph
from parity.onnx import runtime as onnx_runtime
from parity.onnx import structure as graph_structure
from parity.onnx.graph import Graph
from parity.onnx.names import GraphError
from torch_port.dcgan import Networks, normalized
from torch_port.onnx_export import _FromPixels, export

NETWORKS = ("generator", "discriminator")
INPUTS = {"generator": "z", "discriminator": "x"}
# CNTK's outputs, in [-1, 1] and (0, 1), against onnxruntime: 6.9e-7 and 8.9e-7 measured.
CNTK_OUTPUT = 2e-6
PORT_OUTPUT = 2e-6  # 9.5e-7 and 1.2e-6 measured


@dataclass(repr=False)
class Case:
    """What CNTK and the port computed from one state, and both exports."""

    state: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    cntk: dict[str, dict[str, np.ndarray]]
    port: dict[str, dict[str, np.ndarray]]
    paths: dict[tuple[str, str], Path]

    def networks(self):
        made = Networks()
        made.load(self.state)
        return made


def port_layers(networks, network, taken):
    layers = {}

    def each(name, h):
        layers[name] = h.numpy()
        return h

    networks.eval()
    enabled = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.set_flags(False)  # as the captures are made: nearer to float64
    with torch.no_grad():
        h = torch.from_numpy(taken)
        if network == "generator":
            networks.generator(h, each)
        else:
            networks.discriminator(normalized(h), each)
    torch.backends.mkldnn.set_flags(enabled)
    return layers


def make_case(run, folder):
    state = {name.removeprefix("state/"): array for name, array in run.items()
             if name.startswith("state/")}
    inputs = {network: run[f"input/{INPUTS[network]}"] for network in NETWORKS}
    cntk = {network: {name.split("/")[1]: array for name, array in run.items()
                      if name.startswith(network + "/")} for network in NETWORKS}
    made = Case(state, inputs, cntk, {}, {})
    networks = made.networks()
    made.port = {network: port_layers(networks, network, inputs[network]) for network in NETWORKS}
    for network, path in export(networks, folder / "port").items():
        made.paths["port", network] = path
        made.paths["cntk", network] = folder / f"{network}.onnx"
        made.paths["cntk", network].write_bytes(run[f"onnx/{network}"].tobytes())
    return made


@pytest.fixture(scope="module")
def case(cntk):
    with tempfile.TemporaryDirectory() as folder:
        yield make_case(cntk.run("onnx_export.py"), Path(folder))


@pytest.fixture
def folder():
    """Emptied at once: pytest keeps its own for three sessions, and each graph here is 25 MB."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module", params=["cntk", "port"])
def exporter(request):
    return request.param


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return request.param


@pytest.fixture(scope="module")
def ran(case, exporter, network):
    return onnx_runtime.run(case.paths[exporter, network], case.inputs[network])


def failed(checks):
    return {check.place: check.detail for check in checks if not check.passed}


# --------------------------------------------------------------------------- both exporters' graphs


def test_both_pass_every_check(case, exporter, network):
    path = case.paths[exporter, network]
    assert graph_structure.check(path) == ""
    checks, _ = graph_structure.compare_structure(path, network)
    assert failed(checks) == {}
    assert len(checks) == 6 + len(DCGAN.network(network).layers)
    checks = graph_structure.compare_state(path, network, case.state)
    assert failed(checks) == {}
    assert len(checks) == len([name for name in case.state if name.startswith(network)
                               and not name.endswith("sample_count")])


def test_notes_say_what_the_two_write_differently(case):
    notes = {(exporter, network): "\n".join(
        graph_structure.compare_structure(case.paths[exporter, network], network)[1])
        for exporter, network in case.paths}
    for network in NETWORKS:
        cntk, port = notes["cntk", network], notes["port", network]
        assert "momentum is 0.99044591, exp(-N/5000) for a minibatch of 48.0" in cntk
        assert "momentum is 0.99680513, exp(-N/5000) for a minibatch of 16.0" in port
        assert "initializers are inputs of the graph too" in cntk
        assert "initializers are inputs" not in port
        for text in (cntk, port):
            assert "sample_count (CNTK's aggregate_count) is not in the file" in text
            assert "opset 9, IR 4" in text
            assert "folded" not in text
    assert "the bias is an Add of its own behind conv7" in notes["cntk", "generator"]
    assert "the bias is an Add of its own behind conv1 conv7" in notes["cntk", "discriminator"]
    assert "conv2 conv3 conv4 conv5 conv6 conv7: cropped" in notes["port", "generator"]
    assert "a Pad of its own in front of conv1 conv2" in notes["port", "discriminator"]


def test_structure(case, exporter, network):
    made = onnx_graph.structure(case.paths[exporter, network])
    assert (made["opset"], made["ir_version"], made["network"]) == (9, 4, network)
    assert made["producer"].startswith({"cntk": "CNTK", "port": "pytorch"}[exporter])
    assert made["parameters"] == sum(
        array.size for name, array in case.state.items()
        if name.startswith(network) and not name.endswith("sample_count"))
    assert made["layers"] == [layer.name for layer in DCGAN.network(network).layers]
    assert made["inputs"][0]["dims"][1:] == list(DCGAN.network(network).input)
    norms = [node for node in made["nodes"] if node["op"] == "BatchNormalization"]
    assert len(norms) == {"generator": 6, "discriminator": 5}[network]
    assert norms[0]["attributes"]["epsilon"] == pytest.approx(1e-5)


def test_layer_outputs_are_tensors_of_the_file(case, exporter, network):
    path = case.paths[exporter, network]
    outputs = onnx_graph.layer_outputs(path)
    assert list(outputs) == [layer.name for layer in DCGAN.network(network).layers]
    assert list(outputs) == list(case.cntk[network])  # CNTK's own order
    there = {name for node in onnx.load(path).graph.node for name in node.output}
    assert set(outputs.values()) <= there


def test_initializers_have_the_frameworks_bits(case, exporter, network):
    got = onnx_graph.initializers(case.paths[exporter, network])
    names = [name for name in case.state if name.startswith(network)
             and not name.endswith("sample_count")]
    assert sorted(got) == sorted(names)
    for name in names:
        assert np.array_equal(got[name], case.state[name]), name


def test_onnxruntime_agrees_with_the_framework(case, exporter, network, ran):
    """Every layer, and the output that a user gets."""
    native = getattr(case, exporter)[network]
    assert list(ran.layers) == list(native)
    for layer, right in native.items():
        apart = np.abs(ran.layers[layer] - right).max()
        assert apart <= measured_floor(f"{network}/{layer}", right), layer
    apart = np.abs(ran.output - list(native.values())[-1]).max()
    assert apart <= {"cntk": CNTK_OUTPUT, "port": PORT_OUTPUT}[exporter]
    assert ran.providers == ["CPUExecutionProvider"]


def test_the_run_with_layers_has_the_plain_runs_output(exporter, ran):
    """Of CNTK's export, whose initializers are inputs, onnxruntime folds nothing: the same bits."""
    if exporter == "cntk":
        assert ran.difference == 0
        assert ran.batch == 1
        assert "run in minibatches of 1, which the file insists on" in ran.notes
    else:
        assert 0 < ran.difference <= PORT_OUTPUT
        assert ran.batch is None
        assert "with the layers as outputs too" in ran.notes[0]


@pytest.mark.parametrize("batch", [1, 2, None])
def test_a_minibatch_of_any_size(case, folder, batch):
    """Also of a file that insists on one that does not divide it."""
    model = onnx.load(case.paths["port", "discriminator"])
    for info in (model.graph.input[0], model.graph.output[0]):
        dim = info.type.tensor_type.shape.dim[0]
        dim.ClearField("dim_param")
        if batch:
            dim.dim_value = batch
        else:
            dim.dim_param = "N"
    onnx.save(model, folder / "fixed.onnx")
    taken = case.inputs["discriminator"][[0, 1, 0, 1, 1]]
    got = onnx_runtime.run(folder / "fixed.onnx", taken)
    right = case.port["discriminator"]["sigmoid7"][[0, 1, 0, 1, 1]]
    assert got.batch == batch
    assert got.output.shape == (5, 1, 1, 1)
    assert np.abs(got.output - right).max() <= PORT_OUTPUT
    assert all(len(array) == 5 for array in got.layers.values())


def test_a_perturbed_runtime_goes_on_with_what_it_got(case):
    path, taken = case.paths["port", "discriminator"], case.inputs["discriminator"][:1]
    sound = onnx_runtime.run(path, taken)
    got = onnx_runtime.run(path, taken, perturb=lambda layer, array: array * 1.5
                          if layer == "conv6" else array)
    order = list(sound.layers)
    for layer in order[:order.index("conv6")]:
        assert np.array_equal(got.layers[layer], sound.layers[layer])
    assert np.array_equal(got.layers["conv6"], sound.layers["conv6"] * 1.5)
    # bn6 is linear: 1.5 times what goes in moves it by half of what it has above its value at 0
    for layer in order[order.index("conv6"):]:
        assert np.abs(got.layers[layer] - sound.layers[layer]).max() > 1e-3, layer


# ------------------------------------------------------------------------------------ planted edits


def node_of(model, layer):
    return Graph(model).layers[Graph(model).index(layer)].main


def find(model, layer):
    """The model's own node of a layer: the one to be changed."""
    name = node_of(model, layer).output[0]
    return next(node for node in model.graph.node if name in node.output)


def attribute(node, name, value):
    for one in list(node.attribute):
        if one.name == name:
            node.attribute.remove(one)
    node.attribute.append(helper.make_attribute(name, value))


def constant(model, name, change):
    """Changes an initializer or a Constant node."""
    tensors = [t for t in model.graph.initializer if t.name == name]
    tensors += [node.attribute[0].t for node in model.graph.node
                if node.op_type == "Constant" and name in node.output]
    (tensor,) = tensors
    array = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def weight(layer, position, change):
    def edit(model):
        constant(model, node_of(model, layer).input[position], change)
    return edit


def pads(model):
    """The odd pixel at the bottom and the right: what SAME_UPPER means elsewhere."""
    layer = Graph(model).layers[Graph(model).index("conv3")]
    for node in layer.nodes:
        if node.op_type == "Pad":
            attribute(find_output(model, node.output[0]), "pads", [0, 0, 0, 0, 0, 0, 1, 1])
            return
    attribute(find(model, "conv3"), "pads", [0, 0, 1, 1])


def find_output(model, name):
    return next(node for node in model.graph.node if name in node.output)


def auto_pad(model):
    for node in model.graph.node:
        if node.output[0] == node_of(model, "conv3").output[0]:
            attribute(node, "auto_pad", "SAME_UPPER")


def fixed(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3


def momentum(model):
    attribute(find(model, "bn3"), "momentum", 0.9)


def opset(model):
    model.opset_import[0].version = 11


def strides(model):
    attribute(find(model, "conv3"), "strides", [2, 1])


def dilations(model):
    attribute(find(model, "conv6"), "dilations", [2, 2])


def epsilon(model):
    attribute(find(model, "bn3"), "epsilon", 1e-3)


def alpha(model):
    attribute(find(model, "leaky_relu2"), "alpha", 0.1)


def without_alpha(model):
    del find(model, "leaky_relu2").attribute[:]


def other_activation(model):
    node = find(model, "leaky_relu4")
    node.op_type = "Relu"
    del node.attribute[:]


def no_activation(model):
    node = find(model, "leaky_relu4")
    for later in model.graph.node:
        later.input[:] = [node.input[0] if name == node.output[0] else name
                          for name in later.input]
    model.graph.node.remove(node)


def swapped(model):
    """Scale and bias in each other's place."""
    node = find(model, "bn5")
    node.input[1], node.input[2] = node.input[2], node.input[1]


def in_training(model):
    """Five outputs: by the minibatch's statistics."""
    find(model, "bn3").output.extend(["mean", "variance", "saved_mean", "saved_variance"])


def one_attribute_more(model):
    attribute(find(model, "bn3"), "spatial", 0)


def foreign(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def other_normalisation(model):
    """127.5 - x."""
    node = next(node for node in model.graph.node if node.op_type == "Sub")
    node.input[0], node.input[1] = node.input[1], node.input[0]


def middle(model):
    node = next(node for node in model.graph.node if node.op_type == "Sub")
    constant(model, node.input[1], lambda c: c + np.float32(0.5))


def bias_lost(model):
    """The Add, or the third input, of the last convolution."""
    layer = Graph(model).layers[Graph(model).index("conv7")]
    node = find(model, "conv7")
    if not layer.bias:
        del node.input[2:]
        return
    add = find_output(model, layer.output)
    for later in model.graph.node:
        later.input[:] = [node.output[0] if name == layer.output else name for name in later.input]
    model.graph.node.remove(add)


def mirrored(model):
    """Rows and columns exchanged in front of the last activation."""
    node = find(model, "leaky_relu3")
    model.graph.node.insert(list(model.graph.node).index(node), helper.make_node(
        "Transpose", [node.input[0]], ["exchanged"], perm=[0, 1, 3, 2]))
    node.input[0] = "exchanged"


def bfloat16(array):
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def one_bit(array):
    array.ravel()[0] = np.nextafter(array.ravel()[0], np.float32(9))
    return array


# The edit, and the place of the first check that fails by it.
EDITS = {
    "pads at the other side": (pads, "conv3/node"),
    "auto_pad": (auto_pad, "conv3/node"),
    "strides": (strides, "conv3/node"),
    "dilations": (dilations, "conv6/node"),
    "a fixed minibatch": (fixed, "graph/minibatch"),
    "another momentum": (momentum, "graph/momentum"),
    "opset 11": (opset, "graph/opset"),
    "epsilon": (epsilon, "bn3/node"),
    "alpha": (alpha, "leaky_relu2/node"),
    "alpha left out": (without_alpha, "leaky_relu2/node"),
    "another activation": (other_activation, "leaky_relu4/node"),
    "no activation": (no_activation, "graph/operators"),
    "scale and bias exchanged": (swapped, "bn5/scale"),
    "batch normalisation in training": (in_training, "bn3/node"),
    "an attribute more": (one_attribute_more, "bn3/node"),
    "operators of others": (foreign, "graph/opset"),
    "the other way round": (other_normalisation, "conv1/node"),
    "weights in float64": (weight("conv4", 1, lambda w: w.astype(np.float64)), "conv4/node"),
    "normalisation": (middle, "conv1/node"),
    "no bias": (bias_lost, "conv7/node"),
    "rows and columns exchanged": (mirrored, "leaky_relu3/node"),
    "weights in bfloat16": (weight("conv4", 1, bfloat16), "conv4/weight"),
    "one bit of one weight": (weight("conv5", 1, one_bit), "conv5/weight"),
    "output channels in another order": (weight("conv5", 1, lambda w: w[::-1]), "conv5/weight"),
    "mean lost": (weight("bn4", 3, np.zeros_like), "bn4/running_mean"),
    "root of the variance": (weight("bn6", 4, np.sqrt), "bn6/running_variance"),
}


def edited(case, exporter, network, edit, folder):
    model = onnx.load(case.paths[exporter, network])
    edit(model)
    path = folder / f"{exporter}_{network}.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_fails_its_check(case, exporter, name, folder):
    edit, place = EDITS[name]
    path = edited(case, exporter, "discriminator", edit, folder)
    checks = graph_structure.compare_structure(path, "discriminator")[0]
    # What the checker makes of an edit is its own affair: it does not know the article.
    found = failed(c for c in checks if not c.place.endswith(("/checker", "/ends")))
    found.update(failed(graph_structure.compare_state(path, "discriminator", case.state)))
    assert next(iter(found)) == f"discriminator/{place}"
    assert found[f"discriminator/{place}"]


def test_of_a_weight_it_is_said_how_many_values_differ(case, folder):
    path = edited(case, "cntk", "discriminator", weight("conv5", 1, one_bit), folder)
    (check,) = [c for c in graph_structure.compare_state(path, "discriminator", case.state)
                if not c.passed]
    assert check.measured == 1
    assert "1 of 1179648 values differ" in check.detail
    assert "flat index 0" in check.detail


def generator_pads(model):
    attribute(find(model, "conv4"), "pads", [1, 1, 2, 2])


def output_padding(model):
    node = find(model, "conv4")
    attribute(node, "pads", [2, 2, 2, 2])
    attribute(node, "output_padding", [1, 1])


def test_a_transposed_convolutions_two_forms_are_one(case, exporter, folder):
    path = edited(case, exporter, "generator", output_padding, folder)
    assert failed(graph_structure.compare_structure(path, "generator")[0]) == {}


def pads_on_all_sides(model):
    """As ``nn.Conv2d(padding=1)`` is exported."""
    layer = Graph(model).layers[Graph(model).index("conv3")]
    for node in layer.nodes:
        if node.op_type == "Pad":
            attribute(find_output(model, node.output[0]), "pads", [0, 0, 1, 1, 0, 0, 1, 1])
            return
    attribute(find(model, "conv3"), "pads", [1, 1, 1, 1])


def test_padding_that_no_window_reaches(case, exporter, folder):
    """Is none: the outputs have the same bits."""
    path = edited(case, exporter, "discriminator", pads_on_all_sides, folder)
    assert failed(graph_structure.compare_structure(path, "discriminator")[0]) == {}
    taken = case.inputs["discriminator"][:1]
    ours, theirs = (onnx_runtime.run(p, taken).layers["conv3"]
                    for p in (path, case.paths[exporter, "discriminator"]))
    assert np.array_equal(ours, theirs)


def output_shape(model):
    attribute(find(model, "conv4"), "output_shape", [32, 32])


@pytest.mark.parametrize("edit", [generator_pads, output_shape])
def test_the_generators_pads(case, exporter, edit, folder):
    path = edited(case, exporter, "generator", edit, folder)
    found = failed(graph_structure.compare_structure(path, "generator")[0])
    assert "pads" in found["generator/conv4/node"]


def automatic(layer, way):
    def edit(model):
        node = find(model, layer)
        node.attribute.remove(next(one for one in node.attribute if one.name == "pads"))
        attribute(node, "auto_pad", way)
    return edit


@pytest.mark.parametrize(("network", "layer", "way", "other"), [
    ("discriminator", "conv3", "SAME_LOWER", "SAME_UPPER"),
    ("generator", "conv4", "SAME_UPPER", "SAME_LOWER")])
def test_same_is_the_articles_pads_one_way_round_alone(case, folder, network, layer, way, other):
    """The odd pixel at the top and the left is SAME_LOWER of a convolution, SAME_UPPER of a
    transposed one's crop."""
    path = edited(case, "cntk", network, automatic(layer, way), folder)
    assert failed(graph_structure.compare_structure(path, network)[0]) == {}
    path = edited(case, "cntk", network, automatic(layer, other), folder)
    found = failed(graph_structure.compare_structure(path, network)[0])
    assert "pads" in found[f"{network}/{layer}/node"]


def test_onnxruntime_reads_same_lower_likewise(case, folder):
    path = edited(case, "cntk", "discriminator", automatic("conv3", "SAME_LOWER"), folder)
    taken = case.inputs["discriminator"][:1]
    ours, theirs = (onnx_runtime.run(p, taken).layers["conv3"]
                    for p in (path, case.paths["cntk", "discriminator"]))
    assert np.array_equal(ours, theirs)


def sparse(indices):
    values = numpy_helper.from_array(np.array([3, 5], np.float32), "values")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices), "at"),
                                     [2, 2])


@pytest.mark.parametrize(("given", "expected"), [
    ({"value": numpy_helper.from_array(np.arange(4.0))}, np.arange(4.0)),
    ({"value_float": 127.5}, np.float32(127.5)),
    ({"value_floats": [1.5, 2.5]}, np.array([1.5, 2.5], np.float32)),
    ({"value_int": 7}, np.int64(7)),
    ({"value_ints": [1, -1]}, np.array([1, -1], np.int64)),
    ({"sparse_value": sparse([1, 2])}, np.array([[0, 3], [5, 0]], np.float32)),
    ({"sparse_value": sparse([[0, 1], [1, 0]])}, np.array([[0, 3], [5, 0]], np.float32))])
def test_every_form_of_a_constant(given, expected):
    got = onnx_graph._constant(helper.make_node("Constant", [], ["c"], **given), "x.onnx")
    assert got.dtype == expected.dtype and got.shape == expected.shape
    assert np.array_equal(got, expected)


def test_a_constant_of_text_is_no_number():
    node = helper.make_node("Constant", [], ["c"], value_string=b"no")
    with pytest.raises(GraphError, match=r"x\.onnx has a Constant c that holds no numbers"):
        onnx_graph._constant(node, "x.onnx")


def no_constant(model):
    """A second taker of a layer's tensor."""
    name = find(model, "conv3").output[0]
    model.graph.node.append(helper.make_node("Relu", [name], ["spare"]))


def second_output(model):
    model.graph.output.append(helper.make_tensor_value_info(
        find(model, "conv3").output[0], onnx.TensorProto.FLOAT, None))


@pytest.mark.parametrize(("edit", "message"), [
    (no_constant, "is taken by 2 nodes"), (second_output, "1 inputs and 2 outputs")])
def test_what_is_no_chain_is_one_failed_check(case, edit, message, folder):
    path = edited(case, "port", "discriminator", edit, folder)
    found = failed(graph_structure.compare_structure(path, "discriminator")[0])
    assert message in found["discriminator/graph/operators"]


def test_the_other_network_is_no_article_s(case, folder):
    """The generator's file where the discriminator's belongs."""
    checks, _ = graph_structure.compare_structure(case.paths["port", "generator"], "discriminator")
    assert "discriminator/graph/operators" in failed(checks)
    assert "discriminator/graph/ends" in failed(checks)


def test_the_checkers_word(case, folder):
    def edit(model):
        find(model, "conv3").input.append("nowhere")
    path = edited(case, "port", "discriminator", edit, folder)
    assert "nowhere" in graph_structure.check(path)
    checks, _ = graph_structure.compare_structure(path, "discriminator")
    assert "discriminator/graph/checker" in failed(checks)


# -------------------------------------------------------------------------------- what others write


@pytest.fixture(scope="module")
def folded(case):
    """An ordinary export of the discriminator: batch normalisation folded into the convolutions."""
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = _FromPixels("discriminator", case.networks().discriminator, DCGAN.middle)
        torch.onnx.export(made.eval(), (torch.zeros(1, 3, 256, 256),), file,
                          opset_version=9, dynamo=False, input_names=["x"],
                          dynamic_axes={"x": {0: "N"}})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "discriminator.onnx"
        path.write_bytes(file.getvalue())
        yield path


def test_what_is_folded_is_listed(case, folded):
    outputs = onnx_graph.layer_outputs(folded)
    convolutions = [f"conv{i}" for i in range(2, 7)]
    assert not set(convolutions) & set(outputs)
    assert {f"bn{i}" for i in range(2, 7)} <= set(outputs)
    assert onnx_graph.structure(folded)["folded"] == convolutions
    checks, notes = graph_structure.compare_structure(folded, "discriminator")
    assert failed(checks) == {}
    assert any("folded into" in note and "conv2 conv3 conv4 conv5 conv6" in note for note in notes)
    assert set(onnx_graph.initializers(folded)) == {
        f"discriminator/{name}" for name in ("conv1/weight", "conv1/bias", "conv7/weight",
                                             "conv7/bias")}
    assert failed(graph_structure.compare_state(folded, "discriminator", case.state)) == {}
    got = onnx_runtime.run(folded, case.inputs["discriminator"])
    assert got.folded == convolutions
    for layer, array in got.layers.items():
        right = case.port["discriminator"][layer]
        assert np.abs(array - right).max() <= measured_floor(f"discriminator/{layer}", right), layer


@pytest.mark.parametrize(("position", "quantity"), [(1, "weight"), (2, "bias")])
def test_a_wrong_fold_is_found(case, folded, position, quantity, folder):
    model = onnx.load(folded)
    weight("bn3", position, lambda a: a * np.float32(1.0001))(model)
    onnx.save(model, folder / "wrong.onnx")
    found = failed(graph_structure.compare_state(folder / "wrong.onnx", "discriminator",
                                                 case.state))
    assert list(found) == [f"discriminator/conv3/{quantity}"]


def test_squeezed_and_reshaped_layers(case, folder):
    """Nodes that change shapes and no values are walked through and noted."""
    def edit(model):
        last = find(model, "sigmoid7")
        last.output[0] = "long"
        model.graph.node.append(helper.make_node("Squeeze", ["long"], ["short"], axes=[2, 3]))
        model.graph.output[0].name = "short"
        del model.graph.output[0].type.tensor_type.shape.dim[2:]
    path = edited(case, "port", "discriminator", edit, folder)
    assert onnx_graph.layer_outputs(path)["sigmoid7"] == "short"
    checks, notes = graph_structure.compare_structure(path, "discriminator")
    assert list(failed(checks)) == ["discriminator/graph/ends"]
    assert "a Squeeze stands in sigmoid7" in notes
    got = onnx_runtime.run(path, case.inputs["discriminator"][:1])
    right = case.port["discriminator"]["sigmoid7"][:1]
    assert np.abs(got.output - right).max() <= PORT_OUTPUT
    assert got.output.shape == right.shape


# ------------------------------------------------------------------------------------------- errors


def test_no_file(folder):
    with pytest.raises(GraphError, match=r"cannot be read .*: export it again"):
        onnx_graph.structure(folder / "nothing.onnx")


def test_no_onnx(folder):
    (folder / "text.onnx").write_bytes(b"not a graph at all")
    with pytest.raises(GraphError, match="is not an ONNX file"):
        onnx_graph.layer_outputs(folder / "text.onnx")


def test_a_truncated_file(case, folder):
    whole = case.paths["port", "discriminator"].read_bytes()
    (folder / "half.onnx").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(GraphError, match="is not an ONNX file"):
        Graph.open(folder / "half.onnx")


def test_inputs_of_another_type(case):
    with pytest.raises(GraphError, match="float32 with a minibatch first, not float64"):
        onnx_runtime.run(case.paths["port", "generator"], np.zeros((1, 100)))


def test_inputs_of_another_shape(case):
    with pytest.raises(GraphError, match=r"onnxruntime .* fails in the graph"):
        onnx_runtime.run(case.paths["port", "generator"], np.zeros((1, 99), np.float32))


def test_a_graph_that_onnxruntime_refuses(case, folder):
    def edit(model):
        find(model, "conv3").op_type = "Convolve"
    path = edited(case, "port", "discriminator", edit, folder)
    with pytest.raises(GraphError):
        onnx_runtime.run(path, case.inputs["discriminator"])


def test_silent(case, capfd):
    onnx_runtime.run(case.paths["cntk", "discriminator"], case.inputs["discriminator"][:1])
    assert capfd.readouterr() == ("", "")
