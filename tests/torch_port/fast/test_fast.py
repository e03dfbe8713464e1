"""The fast arithmetics: the article's training all the same, with other roundings, by name."""
import copy
import json

import cv2
import numpy as np
import pytest
import torch

from captures.article import DCGAN
from captures.errors import TrainingError
from captures.narrow import narrow
from torch_port import rounding
from torch_port.adam import CNTKAdam
from torch_port.batch_norm import BatchNormalization
from torch_port.dcgan import networks_from_seed
from torch_port.fast import arithmetic as arithmetics
from torch_port.fast import networks as fast_networks
from torch_port.fast.adam import GraphAdam
from torch_port.fast.arithmetic import Arithmetic
from torch_port.train import __main__ as program_module
from torch_port.train.fast import FastRun
from torch_port.train.run import Run

SEED, N, IMAGES = 7, 2, 5
SPEC = narrow(DCGAN)
FLOAT32, BFLOAT16 = Arithmetic("float32", "cpu"), Arithmetic("bfloat16", "cpu")


@pytest.fixture(scope="module", autouse=True)
def the_switches_stay():
    enabled, threads = torch.backends.mkldnn.enabled, torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.backends.mkldnn.set_flags(enabled)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def map_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.RandomState(0)
    for i in range(IMAGES):
        coarse = random.randint(0, 256, (6, 5, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.bmp"), cv2.resize(coarse, (70, 90)))
    (folder / "map.txt").write_text("".join(f".../{i}.bmp\t0\n" for i in range(IMAGES)))
    return folder / "map.txt"


def exact(map_file):
    rounding.as_cntk_rounds()
    return Run.from_seed(SEED, map_file, N, spec=SPEC, threads=1)


def fast(map_file, arithmetic=FLOAT32):
    return FastRun.of(exact(map_file), arithmetic)


def taken(run, iterations):
    steps = run.iterations()
    return np.array([next(steps)[:2] for _ in range(iterations)])


@pytest.fixture(scope="module")
def twin(map_file):
    """Losses of two iterations with CNTK's bits, and the state behind them."""
    run = exact(map_file)
    return taken(run, 2), run.arrays()


@pytest.mark.parametrize("arithmetic, losses, statistics", [
    (FLOAT32, 2e-3, 1e-3), (BFLOAT16, 0.2, 0.3)], ids=lambda one: getattr(one, "name", ""))
def test_the_steps_are_the_twins(twin, map_file, arithmetic, losses, statistics):
    run = fast(map_file, arithmetic)
    assert np.abs(taken(run, 2) / twin[0] - 1).max() < losses
    ours = run.arrays()
    assert set(ours) == set(twin[1])
    for name, theirs in twin[1].items():
        if name.endswith(("sample_count", "minibatches")):
            assert ours[name] == theirs, name
        elif name.endswith(("running_mean", "running_variance")):
            apart = np.linalg.norm(ours[name] - theirs) / np.linalg.norm(theirs)
            assert apart < statistics, (name, apart)


def a_mean_gradient(run):
    plain = run._learnt
    run._learnt = lambda losses, optimizer: plain(losses / len(losses), optimizer)


def a_blend_from_the_start(run):
    fast_networks.update_factor = lambda layer, samples: torch.tensor(0.1)


@pytest.mark.parametrize("mistake", [a_mean_gradient, a_blend_from_the_start],
                         ids=lambda one: one.__name__)
def test_a_mistake_in_them_shows(twin, map_file, mistake, monkeypatch):
    monkeypatch.setattr(fast_networks, "update_factor", fast_networks.update_factor)
    run = fast(map_file)
    mistake(run)
    losses, ours = taken(run, 2), run.arrays()
    off = [np.abs(ours[name] - theirs).max() > 1e-2 * np.abs(theirs).max()
           for name, theirs in twin[1].items() if "running" in name or name.endswith("_m")]
    assert np.abs(losses / twin[0] - 1).max() > 0.01 or sum(off) > len(off) / 4


def test_a_restored_run_goes_on_as_the_whole_one(map_file):
    whole, first = fast(map_file), fast(map_file)
    expected = taken(whole, 3)
    before = taken(first, 2)
    resumed = fast(map_file)
    resumed.restore(first.arrays(), 2, print)
    resumed.latents = copy.deepcopy(first.latents)
    np.testing.assert_array_equal(np.concatenate([before, taken(resumed, 1)]), expected)
    for name, theirs in whole.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], theirs, name)


def test_generated_images_are_the_networks_own(map_file):
    """In evaluation mode, and the weights stay where they were."""
    run, z = fast(map_file), np.random.RandomState(0).standard_normal((5, 100)).astype(np.float32)
    taken(run, 1)
    rounding.as_cntk_rounds()
    other = exact(map_file)
    other.restore(run.arrays(), 1, print)
    torch.backends.mkldnn.set_flags(True)
    np.testing.assert_allclose(run.generate(z), other.generate(z), atol=2e-5)
    assert run.networks.generator.training


# ------------------------------------------------------------------------------------------- parts


def test_graph_adam_moves_as_cntks(tmp_path):
    random = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 5, 5), (7,))
    start = [torch.randn(shape, generator=random) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(one.clone()) for one in start] for _ in range(2))
    options = {"clip_per_sample": 2.0, "unit_gain": False}
    graph, plain = GraphAdam(ours, 1e-2, **options), CNTKAdam(theirs, 1e-2, **options)
    for _ in range(5):
        gradients = [5 * torch.randn(shape, generator=random) for shape in shapes]
        graph.advance(4)
        graph.update([one.clone() for one in gradients], 4)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient
        plain.step(samples=4)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert graph.param_groups[0]["minibatches"] == 5
    graph.update(gradients, 4)  # without ``advance`` the factor is the last minibatch's
    assert graph.param_groups[0]["minibatches"] == 5


@pytest.mark.parametrize("time_constant", [5000.0, 0.0, float("inf"), -1.0])
def test_the_update_factor_is_the_layers(time_constant):
    layer = BatchNormalization(3, time_constant)
    for count in (0, 16, 400):
        layer.sample_count.fill_(count)
        assert float(fast_networks.update_factor(layer, 16)) == pytest.approx(
            layer.update_factor(16), rel=1e-6)


@pytest.mark.parametrize("name", ["maker", "critic"])
def test_a_network_is_the_same_network(name):
    """Every layer's output, in training and in evaluation mode."""
    rounding.as_cntk_rounds()
    networks = networks_from_seed(1, SPEC)
    described = getattr(SPEC, name)
    chain = networks.get_submodule(described.name)
    h = torch.randn(3, *described.input, generator=torch.Generator().manual_seed(0))
    for training in (True, False):
        chain.train(training)
        expected, made = Kept(), Kept()
        chain(h, expected)
        torch.backends.mkldnn.set_flags(True)
        fast_networks.output(chain, fast_networks.weights_of(chain, torch.float32), h, made)
        torch.backends.mkldnn.set_flags(False)
        assert list(made) == [layer.name for layer in described.layers]
        for layer, theirs in expected.items():
            assert (made[layer] - theirs).norm() <= 2e-4 * theirs.norm(), layer


@pytest.mark.parametrize("kind", ["transposed", "convolution"])
@pytest.mark.parametrize("dtype, far", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_a_product_of_matrices_is_the_convolution(kind, dtype, far):
    """Output and both gradients; which way is taken is a matter of the map's size."""
    layer = SPEC.maker.layer("conv2") if kind == "transposed" else SPEC.critic.layer("conv6")
    random = torch.Generator().manual_seed(0)
    h, weight, g = (torch.randn(shape, generator=random) for shape in (
        (3, *layer.input), layer.weight, (3, *layer.output)))
    assert fast_networks.by_matrices(layer, weight.to(torch.bfloat16))
    assert fast_networks.by_matrices(layer, weight) == (kind == "transposed")

    def made(way, dtype):
        leaves = [t.to(dtype).requires_grad_() for t in (h.clone(), weight.clone())]
        y = way(layer, *leaves)
        return y, *torch.autograd.grad(y, leaves, g.to(dtype))

    def plain(layer, h, weight):
        top, left, bottom, right = layer.pads
        if kind == "transposed":
            return torch.nn.functional.conv_transpose2d(
                h, weight, None, layer.stride, (top, left), (top - bottom, left - right))
        padded = torch.nn.functional.pad(h, (left, right, top, bottom))
        return torch.nn.functional.conv2d(padded, weight, None, layer.stride)

    pairs = zip(made(fast_networks._by_matrices, dtype), made(plain, torch.float64), strict=True)
    for ours, theirs in pairs:
        assert (ours.double() - theirs).norm() <= far * theirs.norm()


def test_larger_maps_are_convolved():
    assert [layer.name for network in SPEC.networks for layer in network.layers
            if layer.weight and not fast_networks.one_place(layer)
            and fast_networks.by_matrices(layer, torch.empty(0, dtype=torch.bfloat16))
            ] == ["conv2", "conv6"]


class Kept(dict):
    """Each layer's output: what is passed as ``each``."""

    def __call__(self, name, y):
        self[name] = y.detach().clone()
        return y


# --------------------------------------------------------------------------------------- by name


@pytest.mark.parametrize("name, device, said", [
    ("tf32", "cpu", "--arithmetic tf32 is a GPU's: give --device cuda, or --arithmetic float32"),
    ("float32", "cuda", r"PyTorch finds no GPU here: give --device cpu, or.*ACCELERATOR=cuda"),
    ("bfloat16", "cpu", "this processor multiplies no bfloat16.*give --arithmetic float32")])
def test_what_the_machine_has_not_is_told(monkeypatch, name, device, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(arithmetics, "bfloat16_here", lambda: False)
    with pytest.raises(TrainingError, match=said):
        arithmetics.chosen(name, device)


@pytest.mark.parametrize("capability, name, said", [
    ((7, 5), "tf32", "this GPU has no matrix units for it.*give --arithmetic float32"),
    ((7, 5), "bfloat16", "this GPU has no matrix units for it"),
    ((9, 0), "cntk", "needs Triton.*give --device cpu, or install that")])
def test_what_a_gpu_has_not_is_told(monkeypatch, capability, name, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setitem(__import__("sys").modules, "triton", None)
    with pytest.raises(TrainingError, match=said):
        arithmetics.chosen(name, "cuda")


def test_each_arithmetic_is_another_run():
    said = {program_module.program(Arithmetic(name, device)).identity["arithmetic"]
            for name in arithmetics.NAMES for device in arithmetics.DEVICES}
    assert len(said) == 8 and "CNTK's order" in said
    assert program_module.program().identity["arithmetic"] == "CNTK's order"


def test_bad_names_and_what_is_not_there_exit_2(map_file, tmp_path, capfd):
    given = ["--map-file", str(map_file), "--output-dir", str(tmp_path / "run"),
             "--minibatch-size", "2", "--iterations", "1"]
    assert program_module.main([*given, "--arithmetic", "float16"]) == 2
    assert "'float16' is not one of 'cntk', 'float32', 'tf32'" in capfd.readouterr().err
    assert program_module.main([*given, "--arithmetic", "tf32"]) == 2
    assert "error: --arithmetic tf32 is a GPU's" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_program_trains_and_does_not_go_on_in_another(map_file, tmp_path, capfd, monkeypatch):
    """With narrow networks: the program's are the article's."""
    monkeypatch.setattr(Run, "from_seed", classmethod(
        lambda cls, *given, from_seed=Run.from_seed.__func__, **named: from_seed(
            cls, *given, **{**named, "spec": SPEC})))
    monkeypatch.setattr(program_module, "DCGAN", SPEC)
    given = ["--map-file", str(map_file), "--output-dir", str(tmp_path / "run"), "--seed", "3",
             "--minibatch-size", "2", "--threads", "1"]
    assert program_module.main([*given, "--iterations", "1", "--arithmetic", "float32"]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["identity"]["arithmetic"] == "float32 on cpu"
    again = [*given, "--iterations", "2", "--resume"]
    assert program_module.main([*again, "--arithmetic", "cntk"]) == 2
    assert "the run's arithmetic is float32 on cpu, now it is CNTK's order" in (
        capfd.readouterr().err)
    assert program_module.main([*again, "--cntk-threads", "4"]) == 2
    assert "the run's cntk_threads is 2, now it is 4" in capfd.readouterr().err
    assert program_module.main(again) == 0  # what is left out is the run's own
    assert program_module.main([*given, "--iterations", "3", "--resume", "--accept", "arithmetic",
                                "--arithmetic", "cntk", "--accept", "threads",
                                "--cntk-threads", "4"]) == 0
    assert program_module.main([*given, "--iterations", "4", "--resume"]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {change["what"] for change in record["changes"]} == {"arithmetic", "threads"}
    assert record["identity"]["threads"] == 4 and record["iterations"] == 4
