"""Every planted defect is blamed on whose it is, and its folder shows it alone."""
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch.nn.functional as F
from jinja2 import UndefinedError
from test_onnx_graphs import (  # the graphs' edits are the same ones, the fixtures too
    EDITS,
    NETWORKS,
    case,  # noqa: F401
    edited,
    folder,  # noqa: F401
    generator_pads,
    port_layers,
    weight,
)
from torch import nn

from captures.article import DCGAN
from parity.blame import corners as accused
from parity.blame import finding
from parity.blame.corners import blame
from parity.blame.finding import (
    CNTK_EXPORTER,
    PORT,
    PORT_EXPORTER,
    RUNTIME,
    Corners,
    measured_floor,
)
from parity.blame.reproduction import (
    OnItsOwn,
    rendered,
    write_array_reproduction,
    write_layer_reproduction,
    write_reproduction,
)
from parity.onnx import graph as onnx_graph
from parity.onnx import runtime as onnx_runtime
from parity.onnx.names import GraphError
from torch_port import dcgan, onnx_export

EXPORTERS = {"cntk": CNTK_EXPORTER, "port": PORT_EXPORTER}


@pytest.fixture(scope="module")
def sound(case):  # noqa: F811
    """Of each network, one sample: the corners, and the two graphs."""
    @cache
    def made(network):
        taken = case.inputs[network][:1]
        runs = [onnx_runtime.run(case.paths[exporter, network], taken).layers
                for exporter in EXPORTERS]
        native = [{layer: array[:1] for layer, array in of[network].items()}
                  for of in (case.cntk, case.port)]
        oracle = port_layers(case.networks().double(), network, taken.astype(np.float64))
        return Corners(taken, *native, *runs, oracle)
    return made


def arguments(case, network, **changed):  # noqa: F811
    return {"cntk_graph": case.paths["cntk", network], "port_graph": case.paths["port", network],
            "cntk_state": case.state, "port_state": case.state, **changed}


def ran(path, taken, perturb=None):
    try:
        return onnx_runtime.run(path, taken, perturb=perturb).layers
    except GraphError:
        return {}  # as the comparison gives it


@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_disagrees(case, sound, network):  # noqa: F811
    verdict = blame(network, sound(network), **arguments(case, network))
    assert verdict.findings == ()
    assert (verdict.word, verdict.layer, verdict.detail, str(verdict)) == ("", "", "", "")


# ------------------------------------------------------------------------------------ the exporters


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", EDITS)
def test_an_export_at_fault(case, sound, folder, name, exporter):  # noqa: F811
    edit, place = EDITS[name]
    path = edited(case, exporter, "discriminator", edit, folder)
    corners = sound("discriminator")
    corners = replace(corners, **{f"{exporter}_onnx": ran(path, corners.input)})
    verdict = blame("discriminator", corners,
                    **arguments(case, "discriminator", **{f"{exporter}_graph": path}))
    assert {finding.word for finding in verdict.findings} == {EXPORTERS[exporter]}, str(verdict)
    layer = {"no activation": "leaky_relu4"}.get(name, place.split("/")[0])
    assert verdict.layer == layer, str(verdict)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_generators_export_at_fault(case, sound, folder, exporter):  # noqa: F811
    path = edited(case, exporter, "generator", generator_pads, folder)
    corners = sound("generator")
    corners = replace(corners, **{f"{exporter}_onnx": ran(path, corners.input)})
    verdict = blame("generator", corners,
                    **arguments(case, "generator", **{f"{exporter}_graph": path}))
    assert (verdict.word, verdict.layer) == (EXPORTERS[exporter], "conv4")


def test_by_its_numbers_alone(case, sound, folder, monkeypatch):  # noqa: F811
    """Of a defect that no check of the graph knows, the reference evaluator still says whose."""
    monkeypatch.setattr(accused, "compare_structure", lambda *given: ([], []))
    monkeypatch.setattr(accused, "compare_state", lambda *given: [])
    path = edited(case, "cntk", "discriminator", EDITS["epsilon"][0], folder)
    corners = sound("discriminator")
    corners = replace(corners, cntk_onnx=ran(path, corners.input))
    verdict = blame("discriminator", corners, **arguments(case, "discriminator", cntk_graph=path))
    assert [(f.word, f.layer) for f in verdict.findings] == [(CNTK_EXPORTER, "bn3")]
    assert "reference evaluator agrees with onnxruntime" in verdict.detail


def test_a_file_that_is_no_chain(case, sound, folder):  # noqa: F811
    def edit(model):
        model.graph.node.append(onnx.helper.make_node("Relu", [model.graph.input[0].name], ["o"]))
    path = edited(case, "port", "discriminator", edit, folder)
    verdict = blame("discriminator", replace(sound("discriminator"), port_onnx={}),
                    **arguments(case, "discriminator", port_graph=path))
    assert (verdict.word, verdict.layer) == (PORT_EXPORTER, "graph")
    assert "is not a chain of layers" in verdict.detail
    done = reproduce(write_reproduction(
        folder / "made", verdict, replace(sound("discriminator"), port_onnx={}),
        **arguments(case, "discriminator", port_graph=path)))
    assert done.returncode == 1


# -------------------------------------------------------------------------------------- the runtime


def broken(layer, by):
    """A runtime that gets one value of a layer wrong."""
    def perturb(name, array):
        if name != layer:
            return array
        array = array.copy()
        array[0, 1] += np.float32(by)
        return array
    return perturb


@pytest.mark.parametrize(("network", "layer", "exporters"), [
    ("discriminator", "conv4", ["cntk"]),
    ("discriminator", "leaky_relu3", ["cntk", "port"]),
    ("discriminator", "bn6", ["port"]),
    ("generator", "conv2", ["port"]),
    ("generator", "tanh7", ["cntk"]),
])
def test_the_runtime_at_fault(case, sound, network, layer, exporters):  # noqa: F811
    corners = sound(network)
    corners = replace(corners, **{
        f"{exporter}_onnx": ran(case.paths[exporter, network], corners.input, broken(layer, 1e-2))
        for exporter in exporters})
    verdict = blame(network, corners, **arguments(case, network))
    assert [(f.word, f.layer) for f in verdict.findings] == [(RUNTIME, layer)] * len(exporters)
    assert [f.export for f in verdict.findings] == [EXPORTERS[e] for e in exporters]


def test_a_fault_inside_the_tolerance_where_it_is_born(case, sound):  # noqa: F811
    """bn4 divides by 0.5: what conv4 has wrong is inside its allowance there, not behind it."""
    def tolerance(place, right):
        return 2e-2 if place.endswith("conv4") else measured_floor(place, right)

    corners = sound("discriminator")
    corners = replace(corners, cntk_onnx=ran(case.paths["cntk", "discriminator"], corners.input,
                                             broken("conv4", 1e-2)))
    verdict = blame("discriminator", corners, **arguments(case, "discriminator"),
                    tolerance=tolerance)
    assert (verdict.word, verdict.layer) == (RUNTIME, "conv4")


def test_a_runtime_that_does_not_run_a_sound_graph(case, sound):  # noqa: F811
    verdict = blame("discriminator", replace(sound("discriminator"), port_onnx={}),
                    **arguments(case, "discriminator"))
    assert verdict.word == RUNTIME
    assert "does not run the port's export" in verdict.detail


# ----------------------------------------------------------------------------------------- the port


class OtherSide(nn.Conv2d):
    """The odd pixel at the bottom and the right, as TensorFlow has it."""

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def with_padding_at_the_other_side(networks, monkeypatch):
    networks.discriminator.conv3.__class__ = OtherSide
    return "conv3"


def with_another_slope(networks, monkeypatch):
    monkeypatch.setattr(dcgan, "leaky_relu", lambda h, slope: F.leaky_relu(h, 0.1))
    return "leaky_relu1"


def with_another_epsilon(networks, monkeypatch):
    networks.discriminator.bn4.epsilon = 1e-3
    return "bn4"


def with_another_activation(networks, monkeypatch):
    monkeypatch.setattr(dcgan, "leaky_relu", lambda h, slope: F.relu(h))
    return "leaky_relu1"


@pytest.mark.parametrize("defect", [with_padding_at_the_other_side, with_another_slope,
                                    with_another_epsilon, with_another_activation])
def test_the_port_at_fault(case, sound, folder, monkeypatch, defect):  # noqa: F811
    """Its export and its float64 version do the same; it is the port that is not CNTK."""
    networks = case.networks()
    layer = defect(networks, monkeypatch)
    corners = sound("discriminator")
    path = folder / "discriminator.onnx"
    pixels = onnx_export._FromPixels("discriminator", networks.discriminator, DCGAN.middle)
    onnx.save(onnx_export._graph(pixels, DCGAN.critic.input, "x", DCGAN.critic.output,
                                 "probability", 16), path)
    corners = replace(
        corners, port=port_layers(networks, "discriminator", corners.input),
        port_onnx=ran(path, corners.input),
        oracle=port_layers(networks.double(), "discriminator", corners.input.astype(np.float64)))
    verdict = blame("discriminator", corners, **arguments(case, "discriminator", port_graph=path))
    assert [(f.word, f.layer) for f in verdict.findings] == [(PORT, layer)], str(verdict)
    assert "its float64 version does the same" in verdict.detail

    made = write_reproduction(folder / "made", verdict, corners,
                              **arguments(case, "discriminator", port_graph=path))
    done = reproduce(made)
    assert done.returncode == 1
    assert "onnxruntime is nearer to CNTK" in done.stdout


def test_the_ports_arithmetic_at_fault(case, sound, folder):  # noqa: F811
    """Its float64 version is right, a kernel of its float32 one is not."""
    corners = sound("discriminator")
    wrong = {**corners.port, "bn3": corners.port["bn3"] * np.float32(1.001)}
    verdict = blame("discriminator", replace(corners, port=wrong, port_onnx=wrong),
                    **arguments(case, "discriminator"))
    assert (verdict.word, verdict.layer) == (PORT, "bn3")
    assert "the port's arithmetic" in verdict.detail


def test_the_ports_weights_at_fault(case, sound, folder):  # noqa: F811
    """Found from the bits, where the outputs are not far enough apart."""
    state = dict(case.state)
    name = "discriminator/conv5/weight"
    state[name] = state[name].copy()
    state[name].ravel()[7] += np.float32(1e-6)
    path = edited(case, "port", "discriminator", weight("conv5", 1, lambda w: state[name]), folder)
    corners = sound("discriminator")
    given = arguments(case, "discriminator", port_state=state, port_graph=path)
    verdict = blame("discriminator", corners, **given)
    assert [(f.word, f.layer) for f in verdict.findings] == [(PORT, "conv5")]
    assert "discriminator/conv5/weight is not CNTK's" in verdict.detail
    done = reproduce(write_reproduction(folder / "made", verdict, corners, **given))
    assert done.returncode == 1
    assert "1 of 1179648 values differ" in done.stdout


# ------------------------------------------------------------------------------------ reproductions


def reproduce(folder):  # noqa: F811
    """Alone: of the project nothing can be imported."""
    return subprocess.run([sys.executable, "-I", "-W", "error", folder / "reproduce.py"],
                          cwd="/", capture_output=True, text=True, check=False, timeout=120)


def lint(folder):  # noqa: F811
    """What the project's own rules say of the script. (A folder has no __init__: no matter.)"""
    rules = Path(__file__).parents[2] / "pyproject.toml"
    return subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--config", rules,
         folder / "reproduce.py"], capture_output=True, text=True, check=False, timeout=120)


def test_the_scripts_keep_the_projects_own_rules(folder):  # noqa: F811
    """Each template, filled in; and a script that does not keep them is told."""
    one = np.zeros((1, 2), np.float32)
    made = write_array_reproduction(folder / "made", "step/0001/gradient/x", one, one, 0.5)
    assert lint(made).returncode == 0, lint(made).stdout
    (made / "reproduce.py").write_text(rendered(
        "layer.py.j2", place="generator/conv1", layers="conv1", allowed=float("1e-6"),
        right="the framework", suspect="onnxruntime, in its own chain", judge=False))
    assert lint(made).returncode == 0, lint(made).stdout
    (made / "reproduce.py").write_text("import os\nfrom typing import Any\n")
    assert lint(made).returncode == 1
    assert "F401" in lint(made).stdout


@pytest.mark.parametrize(("allowed", "written"), [
    (np.float64(1e-6), "1e-06"), (float("inf"), 'float("inf")'), (float("nan"), 'float("nan")')])
def test_a_number_is_written_as_python_reads_it(allowed, written):
    script = rendered("arrays.py.j2", place="x", allowed=allowed, names=("CNTK", "port"),
                      shapes=[[1], [1]], start=0)
    assert f"ALLOWED = {written}  #" in script


def test_a_template_that_asks_for_more_is_refused():
    with pytest.raises(UndefinedError, match="judge"):
        rendered("layer.py.j2", place="x", layers="x", allowed=1.0, right="a", suspect="b")


@pytest.mark.parametrize(("exporter", "name", "expected"), [
    ("cntk", "pads at the other side", 1), ("port", "epsilon", 1),
    ("cntk", "weights in bfloat16", 1), ("cntk", "rows and columns exchanged", 1),
    ("port", "no activation", 1), ("cntk", "dilations", 1), ("port", "one bit of one weight", 1),
    ("cntk", "opset 11", 0),  # no number is wrong
])
def test_an_exports_folder(case, sound, folder, exporter, name, expected):  # noqa: F811
    path = edited(case, exporter, "discriminator", EDITS[name][0], folder)
    corners = sound("discriminator")
    corners = replace(corners, **{f"{exporter}_onnx": ran(path, corners.input)})
    given = arguments(case, "discriminator", **{f"{exporter}_graph": path})
    verdict = blame("discriminator", corners, **given)
    made = write_reproduction(folder / "made", verdict, corners, **given)
    done = reproduce(made)
    assert (done.returncode, done.stderr) == (expected, ""), done.stdout
    assert ("the failure shows" in done.stdout) is bool(expected)

    files = {file.name for file in made.iterdir()}
    assert {"README.txt", "outputs.npz", "reproduce.py"} <= files
    readme = (made / "README.txt").read_text()
    assert "python reproduce.py" in readme
    assert verdict.word in " ".join(readme.split())
    assert not [file for file in folder.iterdir() if file.name.endswith(".part")]
    assert sum(file.stat().st_size for file in made.iterdir()) < 60e6
    if name == "one bit of one weight":
        assert "subgraph.onnx" not in files
        return
    layer = {"graph": "sigmoid7", "leaky_relu4": "conv5"}.get(verdict.layer, verdict.layer)
    assert onnx.load(made / "subgraph.onnx").graph.name == f"{layer}..{layer}" or not expected
    # With the graph as it should be, the same folder shows nothing.
    graph = onnx_graph.Graph.open(case.paths[exporter, "discriminator"])
    first = verdict.layer if verdict.layer != "graph" else layer
    sound_part = graph.part(graph.index(first), graph.index(layer))
    (made / "subgraph.onnx").write_bytes(sound_part.SerializeToString())
    done = reproduce(made)
    assert done.returncode == 0, done.stdout
    assert "does not show" in done.stdout


def test_the_runtimes_folder(case, sound, folder):  # noqa: F811
    """A fault that this machine's runtime has not: the folder keeps both outputs and says so."""
    corners = sound("discriminator")
    path = case.paths["cntk", "discriminator"]
    corners = replace(corners, cntk_onnx=ran(path, corners.input, broken("conv4", 1e-2)))
    given = arguments(case, "discriminator")
    verdict = blame("discriminator", corners, **given)
    made = write_reproduction(folder / "made", verdict, corners, **given)
    assert onnx.load(made / "subgraph.onnx").graph.name == "conv4..conv4"
    done = reproduce(made)
    assert done.returncode == 0
    assert "does not show here" in done.stdout
    stored = np.load(made / "outputs.npz")
    assert np.abs(stored["suspect"] - stored["expected"]).max() == pytest.approx(1e-2, rel=1e-2)


def test_nothing_to_write(case, sound, folder):  # noqa: F811
    corners = sound("discriminator")
    given = arguments(case, "discriminator")
    with pytest.raises(ValueError, match="nothing disagrees"):
        write_reproduction(folder / "made", finding.Blame("discriminator"), corners, **given)


def test_written_over_what_was_there_or_not_at_all(folder, monkeypatch):  # noqa: F811
    one, two = np.zeros(3, np.float32), np.ones(3, np.float32)
    made = write_array_reproduction(folder / "made", "step/0001/x", one, two, 0.5)
    (made / "old.txt").write_text("old")
    write_array_reproduction(folder / "made", "step/0001/x", one, two, 0.5)
    assert not (made / "old.txt").exists()

    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(accused.np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        write_array_reproduction(folder / "made", "step/0001/x", one, one, 0.5)
    assert [file.name for file in folder.iterdir()] == ["made"]
    assert (made / "outputs.npz").exists()


PLACES = [("generator", "conv1"), ("generator", "conv3"), ("generator", "bn2"),
          ("generator", "relu6"), ("generator", "conv7"), ("generator", "tanh7"),
          ("discriminator", "conv1"), ("discriminator", "leaky_relu1"), ("discriminator", "conv2"),
          ("discriminator", "bn6"), ("discriminator", "conv7"), ("discriminator", "sigmoid7")]


@pytest.mark.parametrize(("network", "layer"), PLACES)
def test_a_layer_from_cntks_own_input(case, folder, network, layer):  # noqa: F811
    """The graph that is made of CNTK's weights gives CNTK's output; a wrong port shows."""
    names = [layer.name for layer in DCGAN.network(network).layers]
    i = names.index(layer)
    taken = case.inputs[network] if i == 0 else case.cntk[network][names[i - 1]]
    right = case.cntk[network][layer]
    allowed = measured_floor(f"{network}/{layer}", right)
    right_port = case.port[network][layer]
    wrong_port = right_port + np.float32(3 * allowed) * (np.arange(2) == 1)[:, None, None, None]
    for port, expected in ((right_port, 0), (wrong_port.astype(np.float32), 1)):
        made = write_layer_reproduction(
            folder / "made", OnItsOwn(network, layer, taken, port, right, allowed), case.state)
        stored = dict(np.load(made / "outputs.npz"))
        session = onnx_runtime.Session(onnx.load(made / "subgraph.onnx"))
        onnx.checker.check_model(onnx.load(made / "subgraph.onnx"), full_check=True)
        (fresh,) = session(np.load(made / "inputs.npz")["input"])
        assert len(fresh) == 1
        assert np.abs(fresh - stored["expected"]).max() <= allowed
        shows = np.abs(stored["suspect"] - stored["expected"]).max() > allowed
        assert shows == bool(expected)
        if layer in ("conv1", "sigmoid7"):  # a process each
            assert reproduce(made).returncode == expected


def test_a_batch_normalisation_in_training(case, folder):  # noqa: F811
    """By the whole minibatch's own statistics, though one sample is kept."""
    taken = case.cntk["generator"]["conv5"]
    of = taken.astype(np.float64)
    mean, variance = (f((0, 2, 3), keepdims=True) for f in (of.mean, of.var))
    scale, bias = (case.state[f"generator/bn5/{q}"].reshape(1, -1, 1, 1) for q in ("scale", "bias"))
    right = (scale * (of - mean) / np.sqrt(variance + 1e-5) + bias).astype(np.float32)
    agreeing = OnItsOwn("generator", "bn5", taken, right, right, 1e-5, training=True)
    made = write_layer_reproduction(folder / "made", agreeing, case.state)
    assert reproduce(made).returncode == 0
    made = write_layer_reproduction(
        folder / "made", replace(agreeing, port=case.cntk["generator"]["bn5"]), case.state)
    done = reproduce(made)
    assert done.returncode == 1
    assert "onnxruntime is nearer to CNTK" in done.stdout


def test_the_discriminator_on_generated_images(case, folder):  # noqa: F811
    """Images in [-1, 1] are not normalised again."""
    pixels = case.inputs["discriminator"]
    taken = ((pixels - 127.5) / 127.5).astype(np.float32)
    right = case.cntk["discriminator"]["conv1"]
    made = write_layer_reproduction(
        folder / "made", OnItsOwn("discriminator", "conv1", taken, right, right, 1e-5,
                                  pixels=False), case.state)
    (fresh,) = onnx_runtime.Session(onnx.load(made / "subgraph.onnx"))(
        np.load(made / "inputs.npz")["input"])
    assert np.abs(fresh - right[:1]).max() <= 1e-5


@pytest.mark.parametrize(("other", "allowed", "expected", "text"), [
    (lambda a: a, 0.0, 0, "0 of 12 values differ"),
    (lambda a: a + (np.arange(12).reshape(3, 4) == 5), 0.5, 1, "there, at flat index 5"),
    (lambda a: a + 0.25, 0.5, 0, "largest difference: 0.25, allowed 0.5"),
    (lambda a: a[:2], 9.0, 1, "the shapes differ"),
    (lambda a: np.where(a == 3, np.nan, a), 9.0, 1, "largest difference: inf"),
])
def test_two_arrays(folder, other, allowed, expected, text):  # noqa: F811
    right = np.arange(12, dtype=np.float32).reshape(3, 4)
    made = write_array_reproduction(folder / "made", "step/0001/gradient/generator/conv1/weight",
                                    right, other(right), allowed)
    done = reproduce(made)
    assert done.returncode == expected, done.stdout + done.stderr
    assert text in done.stdout
    assert "gradient/generator/conv1/weight" in (made / "README.txt").read_text()


def test_of_large_arrays_the_worst_part_is_kept(folder):  # noqa: F811
    right = np.zeros((5, 1_000_000), np.float32)
    other = right.copy()
    other[4, 999_990] = 1
    made = write_array_reproduction(folder / "made", "x", right, other, 0.0)
    done = reproduce(made)
    assert done.returncode == 1
    assert "at flat index 4999990" in done.stdout
    assert sum(file.stat().st_size for file in made.iterdir()) < 20e6
