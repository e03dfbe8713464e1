"""The port's ONNX export: what is in the files, and that onnxruntime agrees with the port."""
import io
import math
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from torch_port import onnx_export
from torch_port.dcgan import Networks, normalized
from torch_port.onnx_export import export

# Outputs are in [-1, 1] and (0, 1). Measured 9.5e-7 (image) and 1.2e-6 (probability: a quarter of
# the error of a logit that sums 16,384 products); through oneDNN, farther from float64, 1.8e-6.
OUTPUT = 2e-6
ENDS = {"generator": ("z", ["N", 100], "image", ["N", 3, 256, 256]),
        "discriminator": ("x", ["N", 3, 256, 256], "probability", ["N", 1, 1, 1])}


@pytest.fixture(scope="module")
def networks(cntk):
    """With CNTK's weights after two iterations."""
    run = cntk.run("onnx_export.py")
    made = Networks()
    made.load({name.removeprefix("state/"): array for name, array in run.items()
               if name.startswith("state/")})
    return made


@pytest.fixture(scope="module")
def paths(networks):
    with tempfile.TemporaryDirectory() as folder:
        yield export(networks, folder)


@pytest.fixture
def folder():
    """Emptied at once: pytest keeps its own for three sessions, and an export is 100 MB."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module", params=["generator", "discriminator"])
def network(request):
    return request.param


@pytest.fixture(scope="module")
def model(paths, network):
    return onnx.load(paths[network])


def test_form(model, network):
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 9)]
    assert model.ir_version == 4
    input_name, input_dims, output_name, output_dims = ENDS[network]
    for (info,), name, dims in ((model.graph.input, input_name, input_dims),
                                (model.graph.output, output_name, output_dims)):
        assert info.name == name
        assert [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim] == dims


def test_every_layer_is_a_node(model, network):
    operators = [node.op_type for node in model.graph.node]
    convolution = "ConvTranspose" if network == "generator" else "Conv"
    assert operators.count(convolution) == 7
    assert operators.count("BatchNormalization") == (6 if network == "generator" else 5)
    assert operators.count("Relu") + operators.count("LeakyRelu") == 6
    assert operators.count("Reshape") == (1 if network == "generator" else 0)


def test_an_ordinary_export_folds(networks):
    """Why the export is not the ordinary one: the discriminator's layers vanish in it."""
    made = onnx_export._FromPixels("discriminator", networks.discriminator, 127.5).eval()
    file = io.BytesIO()
    with pytest.warns(DeprecationWarning), torch.no_grad():
        torch.onnx.export(made, (torch.zeros(1, 3, 256, 256),), file, opset_version=9, dynamo=False)
    nodes = onnx.load_from_string(file.getvalue()).graph.node
    assert "BatchNormalization" not in {node.op_type for node in nodes}


def test_momentum_is_what_16_samples_leave(model):
    momenta = {helper.get_node_attr_value(node, "momentum") for node in model.graph.node
               if node.op_type == "BatchNormalization"}
    assert momenta == {float(np.float32(math.exp(-16 / 5000)))}


def test_momentum_of_another_minibatch(networks, folder):
    made = onnx.load(export(networks, folder, minibatch_size=4)["discriminator"])
    node = next(node for node in made.graph.node if node.op_type == "BatchNormalization")
    assert helper.get_node_attr_value(node, "momentum") == pytest.approx(math.exp(-4 / 5000))


def test_weights_have_the_modules_bits(model, network, networks):
    ours = {name.replace("/", "."): tensor.detach().numpy()
            for name, tensor in networks.arrays().items()
            if name.startswith(network) and not name.endswith("sample_count")}
    got = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(got) == set(ours)
    for name, array in ours.items():
        assert got[name].dtype == np.float32
        assert np.array_equal(got[name], array), name


def test_onnxruntime_agrees_with_the_port(model, network, networks, monkeypatch):
    """In minibatches of several sizes."""
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    assert session.get_providers() == ["CPUExecutionProvider"]
    random = np.random.RandomState(0)
    networks.eval()
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    for samples in (1, 3):
        with torch.no_grad():
            if network == "generator":
                taken = random.normal(size=(samples, 100)).astype(np.float32)
                ours = networks.generator(torch.from_numpy(taken))
            else:
                taken = random.randint(0, 256, size=(samples, 3, 256, 256)).astype(np.float32)
                ours = networks.discriminator(normalized(torch.from_numpy(taken)))
        (got,) = session.run(None, {ENDS[network][0]: taken})
        assert got.shape == tuple(ours.shape)
        assert np.abs(got - ours.numpy()).max() <= OUTPUT


def modes_of(networks):
    return [module.training for module in networks.modules()]


def test_once_more(networks, paths, folder, capfd):
    """Silent, the same bytes, and every module in the mode in which it was."""
    networks.train()
    networks.generator.eval()
    networks.discriminator.bn3.eval()
    before = modes_of(networks)
    counts = [int(t) for n, t in networks.arrays().items() if n.endswith("sample_count")]
    again = export(networks, folder)  # a warning is an error here
    assert capfd.readouterr() == ("", "")
    for name, path in again.items():
        assert path.read_bytes() == paths[name].read_bytes()
    assert modes_of(networks) == before
    assert [int(t) for n, t in networks.arrays().items() if n.endswith("sample_count")] == counts


def test_a_failure_leaves_modes_and_folder_alone(networks, folder, monkeypatch):
    def refuse(*arguments, **options):
        raise onnx.checker.ValidationError("no")

    networks.train()
    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(onnx.checker.ValidationError):
        export(networks, folder / "folder")
    assert not (folder / "folder").exists()
    assert all(modes_of(networks))


def test_half_a_file_is_never_there(model, folder, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx_export.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        onnx_export._write({"generator": model, "discriminator": model}, folder)
    assert list(folder.iterdir()) == []


def test_double_is_refused(folder):
    with pytest.raises(ValueError, match=r"generator/conv1/weight is torch\.float64"):
        export(Networks().double(), folder)
