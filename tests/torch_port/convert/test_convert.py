"""Out of a checkpoint and back: the same weights and the same pictures from every form."""
import json

import cv2
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from captures.article import DCGAN
from captures.errors import ParityError
from captures.plan import Latents
from captures.training.checkpoint import Checkpoint, latents_state, read_newest, write_checkpoint
from captures.training.shapes import KEYS
from torch_port import rounding
from torch_port.convert import sample, sources, targets
from torch_port.convert.__main__ import main
from torch_port.dcgan import networks_from_seed
from torch_port.train.run import Run
from torch_port.train.steps import create_optimizers

N = 2


@pytest.fixture(scope="module", autouse=True)
def cntks_rounding():
    enabled = torch.backends.mkldnn.enabled
    rounding.as_cntk_rounds()
    yield
    torch.backends.mkldnn.set_flags(enabled)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint as a run of CNTK's would leave it, with made-up statistics and moments."""
    networks = networks_from_seed(3)
    random = np.random.RandomState(0)
    with torch.no_grad():
        for name, tensor in networks.arrays().items():
            if "running" in name:
                tensor.copy_(torch.from_numpy(random.uniform(1e-6, 2e-6, tensor.shape)))
    run = Run(3, N, False, targets._NoReader(), networks, *create_optimizers(networks, N),
              Latents(3))
    for _, optimizer in run.optimizers():
        (group,) = optimizer.param_groups
        group["minibatches"] = 2
        for parameter in group["params"]:
            optimizer.state[parameter] = {name: torch.full_like(parameter, value)
                                          for name, value in (("m", 0.25), ("v", 0.5))}
    run.latents.next(4)
    place, arrays = latents_state(run.latents), run.arrays()
    arrays[KEYS] = place.pop("keys")
    identity = {"program": "cntk", "seed": 3, "minibatch_size": N, "unit_gain": False,
                "threads": 2, "arithmetic": "MKL's"}
    return write_checkpoint(tmp_path_factory.mktemp("run"), Checkpoint(
        2, identity, place, arrays, [(1, 0.5, 0.25), (2, 0.125, 1.0)], []))


@pytest.fixture(scope="module")
def forms(checkpoint, tmp_path_factory):
    """The checkpoint in every form: name to path."""
    folder = tmp_path_factory.mktemp("forms")
    source = sources.read(checkpoint)
    for target in ("pytorch", "safetensors", "onnx"):
        targets.write(source, target, folder, checkpoint)
    return {"checkpoint": checkpoint, "pt": folder / "checkpoint.pt",
            "safetensors": folder / "model.safetensors", "onnx": folder / "generator.onnx"}


@pytest.mark.parametrize("form", ["pt", "safetensors", "onnx"])
def test_every_form_has_the_weights(forms, checkpoint, form):
    ours, theirs = sources.read(forms[form]).arrays, sources.read(checkpoint).arrays
    assert set(ours) == set(theirs)
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])
            and not (form == "onnx" and name.endswith("/sample_count"))] == []


def test_every_form_gives_the_same_pictures(forms, tmp_path):
    pictures = {}
    for form, path in forms.items():
        written = sample.write(sources.read(path), form, tmp_path / form, 2, 5)
        assert [one.name for one in written] == [
            "sample000.png", "sample001.png", "grid.png", "interpolation.png"]
        pictures[form] = [one.read_bytes() for one in written]
    assert all(one == pictures["checkpoint"] for one in pictures.values())
    first = cv2.imread(str(tmp_path / "onnx" / "sample000.png"))
    assert first.shape == (256, 256, 3) and first.std() > 1
    strip = cv2.imread(str(tmp_path / "onnx" / "interpolation.png"))
    assert strip.shape == (128, 8 * 128, 3)


def test_pytorch_takes_it_back(forms, checkpoint):
    """Adam too: what PyTorch's own loading gives the port's optimizer."""
    kept = torch.load(forms["pt"], weights_only=True)
    networks = networks_from_seed(0)
    networks.load_state_dict(kept["networks"])
    optimizers = dict(zip(("generator", "discriminator"), create_optimizers(networks, N),
                          strict=True))
    arrays = read_newest(checkpoint.parent.parent).arrays
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(kept["optimizers"][name])
        (group,) = optimizer.param_groups
        assert group["minibatches"] == arrays[f"{name}/learner/minibatches"] == 2
        assert {float(state["m"].flatten()[0]) for state in optimizer.state.values()} == {0.25}
    assert kept["iteration"] == 2


@pytest.mark.parametrize("to", ["port", "cntk"])
def test_a_run_changes_hands(checkpoint, tmp_path, to):
    assert main(["convert", str(checkpoint), "--to", to, "--output", str(tmp_path / to)]) == 0
    ours, theirs = read_newest(tmp_path / to), read_newest(checkpoint.parent.parent)
    assert {name: array.tobytes() for name, array in ours.arrays.items()} == {
        name: array.tobytes() for name, array in theirs.arrays.items()}
    assert ours.latents == theirs.latents and ours.rows == theirs.rows
    assert ours.identity["program"] == to
    assert [change["what"] for change in ours.changes] == ["program"] * (to == "port")
    assert json.loads((tmp_path / to / "run.json").read_text())["program"] == to
    assert main(["convert", str(checkpoint), "--to", to, "--output", str(tmp_path / to)]) == 2


def test_the_great_circle():
    first, last = np.float32([[3, 0], [0, 3]])
    line = sample.between(first, last, 5)
    assert np.allclose(np.linalg.norm(line, axis=1), 3) and np.allclose(line[2], 3 / np.sqrt(2))
    assert np.array_equal(line[[0, -1]].round(5), [first, last])
    assert np.array_equal(sample.between(first, first, 2), [first, first])


@pytest.mark.parametrize("name, content", [
    ("none.onnx", None), ("a.onnx", b"garbage"), ("a.pt", b"garbage"), ("a.safetensors", b"x"),
    ("a.model", b"garbage"), ("a.png", b""), ("empty", "folder"), ("a.pt", "a list"),
    ("a.pt", "another network"),
])
def test_what_is_no_model(tmp_path, name, content):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content == "a list":
        torch.save([1], path)
    elif content == "another network":
        torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ParityError) as caught:
        sources.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


WEIGHT = "generator.conv1.weight"


@pytest.mark.parametrize("made, expected", [
    (lambda held: held.half(), "is float16, not float32"),
    (lambda held: held.bfloat16(), "is bfloat16, not float32"),
    (lambda held: held.to(torch.complex64), "is complex64, not float32"),
    (lambda held: held > 0, "is bool, not float32"),
    (lambda held: held / 0, "is not finite"),
])
def test_weights_of_another_kind(forms, tmp_path, made, expected):
    """In safetensors, and in PyTorch's own, which numpy may not read."""
    held = {name: tensor for name, tensor in load_file(forms["safetensors"]).items()
            if name.startswith("generator.") and not name.endswith((".m", ".v"))}
    held[WEIGHT] = made(held[WEIGHT])
    save_file(held, tmp_path / "a.safetensors")
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(ParityError) as caught:
        sources.read(tmp_path / "a.safetensors")
    assert f"generator/conv1/weight {expected}" in str(caught.value)
    with pytest.raises(ParityError, match=r"a\.pt"):
        sources.read(tmp_path / "a.pt")


def edited(graph):
    first = graph.initializer[0]
    return {"no constants": lambda: graph.ClearField("initializer"),
            "half of them": lambda: [graph.initializer.pop() for _ in range(
                len(graph.initializer) // 2)],
            "an unknown type": lambda: setattr(first, "data_type", 99),
            "cut off": lambda: setattr(first, "raw_data", first.raw_data[:8]),
            "outside": lambda: (first.ClearField("raw_data"), setattr(first, "data_location", 1),
                                first.external_data.add(key="location", value="../../secret"))}


@pytest.mark.parametrize("edit", edited(onnx.helper.make_graph([], "", [], [], [
    onnx.numpy_helper.from_array(np.ones(1, np.float32))])))
def test_graphs_that_are_not_the_articles(forms, tmp_path, edit):
    model = onnx.load(forms["onnx"])
    edited(model.graph)[edit]()
    path = tmp_path / "edited.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ParityError) as caught:
        sources.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_weights_alone_do_not_go_on(forms, tmp_path, capsys):
    assert main(["convert", str(forms["pt"]), "--to", "cntk", "--output", str(tmp_path)]) == 2
    assert "holds weights alone" in capsys.readouterr().err


def test_one_network_alone(forms, tmp_path, capsys):
    (tmp_path / "d.onnx").write_bytes(forms["onnx"].with_name("discriminator.onnx").read_bytes())
    assert main(["sample", str(tmp_path / "d.onnx"), "--output", str(tmp_path / "out")]) == 2
    assert "holds no generator, which alone makes pictures" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "d.onnx"), "--output", str(tmp_path / "out")]) == 2
    assert "holds no generator: put that network's file beside it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert DCGAN.critic.name in sources.read(tmp_path / "d.onnx").networks


@pytest.mark.parametrize(("command", "name"), [
    (["convert", "--to", "pytorch"], "checkpoint.pt"),
    (["convert", "--to", "onnx"], "generator.onnx"),
    (["sample", "--count", "2"], "sample001.png"), (["sample", "--count", "2"], "grid.png")])
def test_what_lies_there_is_not_replaced_but_what_was_written_before(forms, tmp_path, capsys,
                                                                     command, name):
    given = [command[0], str(forms["checkpoint"]), *command[1:], "--output"]
    (tmp_path / name).write_text("precious")
    assert main([*given, str(tmp_path)]) == 2
    assert f"{tmp_path / name} was not made here" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "precious"
    for _ in range(2):
        assert main([*given, str(tmp_path / "new")]) == 0


def test_an_empty_output_is_refused(forms, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(forms["checkpoint"]), "--output", ""]) == 2
    assert "it is empty: give a path" in capsys.readouterr().err and not list(tmp_path.iterdir())
