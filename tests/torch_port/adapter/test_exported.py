"""Networks out of files: an .onnx by its nodes, a .pt2; each is matched as the module it was."""
import warnings
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from test_matching import CRITIC, Plain, outputs

from torch_port.adapter.exported import Frozen, from_file
from torch_port.adapter.isolation import AdapterError

X = torch.zeros(2, 3, 16, 16)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """critic.onnx and critic.pt2, of one module."""
    folder, module = tmp_path_factory.mktemp("files"), Plain().eval()
    warnings.simplefilter("ignore", FutureWarning)  # of PyTorch about itself
    torch.onnx.export(module, (X,), folder / "critic.onnx", dynamo=True, optimize=False,
                      external_data=False, verbose=False,
                      dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(torch.export.export(module, (X,), dynamic_shapes=(
        {0: torch.export.Dim.DYNAMIC},)), folder / "critic.pt2")
    return folder


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_matched_as_the_module(files, kind):
    """With the same weights put in, every layer gives what the module's layer gives."""
    network = from_file(files / "adapter.py", "discriminator", f"critic.{kind}")
    assert isinstance(network, Frozen) and isinstance(network.train(), Frozen)
    plain, theirs = outputs(Plain()), outputs(network)
    assert set(theirs) == set(plain) and len(theirs) > len(CRITIC.layers)
    for layer, h in theirs.items():
        assert torch.allclose(h, plain[layer].reshape(h.shape), rtol=1e-5, atol=1e-5), layer


def graph(folder: Path, inputs: int = 1, operator: str = "Relu") -> str:
    names = [f"x{i}" for i in range(inputs)]
    made = helper.make_graph(
        [helper.make_node(operator, names[:1], ["y"])], "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in names],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])])
    onnx.save(helper.make_model(made), folder / "made.onnx")
    return "made.onnx"


def test_a_file_that_cannot_be_used(tmp_path, files):
    adapter = tmp_path / "adapter.py"
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    (tmp_path / "no.pt2").write_bytes(b"no program")
    for given, said in (("none.onnx", "there is no "), ("model.h5", "name a class or function"),
                        ("no.onnx", "cannot be read"), ("no.pt2", "cannot be read"),
                        (graph(tmp_path, 2), "inputs x0, x1 and outputs y: export it with one"),):
        with pytest.raises(AdapterError, match=said) as error:
            from_file(adapter, "generator", given)
        assert f"{adapter}: `generator` is '{given}'" in str(error.value)
    with pytest.raises(AdapterError, match="which has a Erf: known are"):
        from_file(adapter, "generator", graph(tmp_path, operator="Erf"))


def test_external_data_that_is_missing(tmp_path, files):
    onnx.save(onnx.load(files / "critic.onnx"), tmp_path / "critic.onnx",
              save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(AdapterError, match=r"lie in a file beside it that is not there|cannot be "
                                           r"read .*weights\.bin"):
        from_file(tmp_path / "adapter.py", "generator", "critic.onnx")
