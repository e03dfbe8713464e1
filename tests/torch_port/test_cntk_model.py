"""CNTK's files read without CNTK, against the values that CNTK itself saw when it saved them."""
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from captures.article import DCGAN
from torch_port.adam import CNTKAdam
from torch_port.dcgan import Networks
from torch_port.files.checkpoint import learner_parameters, read_checkpoint
from torch_port.files.message import ModelFileError
from torch_port.files.model import layer_table, read_model

NETWORKS = ("generator", "discriminator")
SAMPLES, STEPS = 2, 3  # of the probe
VARIABLES = {"weight": "W", "running_mean": "aggregate_mean", "sample_count": "aggregate_count",
             "running_variance": "aggregate_variance", "scale": "scale"}
SMALL = {"kernel": (4, 3, 2, 5), "matrix": (5, 3), "vector": (6,), "bias": (3,), "scalar": ()}


@pytest.fixture(scope="module")
def saved(cntk):
    """The folder of CNTK's files and the values behind them."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder), cntk.run("cntk_model.py", folder)


@pytest.fixture(scope="module")
def read(saved):
    folder, _ = saved
    return {name: array for network in NETWORKS
            for name, array in read_model(folder / f"{network}.model", network).items()}


def cntks_own(run, name, stage="after"):
    """The value of an array by CNTK's names, in the captures' shape."""
    layer, _, quantity = name.rpartition("/")
    if quantity == "bias":
        variable = "b" if "/conv" in layer else "bias"
        return run[f"{stage}/{layer}/{variable}"].reshape(-1)
    return run[f"{stage}/{layer}/{VARIABLES[quantity]}"]


def differing(run, arrays, stage="after"):
    """How many values are not CNTK's own bits."""
    count = 0
    for name, array in arrays.items():
        own = cntks_own(run, name, stage)
        assert array.shape == own.shape, name
        array = array.astype(np.float32) if name.endswith("sample_count") else array
        assert array.dtype == own.dtype == np.float32, name
        count += int((array.view(np.int32) != own.view(np.int32)).sum())
    return count


# The models.

def test_all_arrays_have_cntks_bits(saved, read):
    _, run = saved
    assert list(read) == list(Networks().arrays())
    assert len(read) == 72
    assert sum(array.size for array in read.values()) > 25_000_000
    assert differing(run, read) == 0
    assert differing(run, read, "before") > 20_000_000  # the iteration moved them
    counts = {name: int(array) for name, array in read.items() if name.endswith("sample_count")}
    assert {v for k, v in counts.items() if k.startswith("generator")} == {2 * 2 * SAMPLES}
    assert {v for k, v in counts.items() if k.startswith("discriminator")} == {2 * 3 * SAMPLES}
    assert all(array.dtype == np.int64 for k, array in read.items() if k.endswith("sample_count"))


@pytest.mark.parametrize("name, change", [
    ("generator/conv6/weight", lambda w: w[[1, 0, *range(2, len(w))]]),
    ("discriminator/conv2/weight", lambda w: w[:, ::-1]),
    ("generator/conv4/weight", lambda w: w.swapaxes(2, 3)),
    ("discriminator/conv1/weight", lambda w: w[:, :, ::-1, ::-1]),
    ("generator/bn3/scale", lambda w: w[::-1]),
    ("discriminator/bn5/running_variance", lambda w: np.roll(w, 1)),
    ("discriminator/bn2/sample_count", lambda w: w + SAMPLES),
    ("generator/conv7/bias", lambda w: np.nextafter(w, np.float32(1))),
])
def test_planted_mistakes_show(saved, read, name, change):
    assert differing(saved[1], {**read, name: np.array(change(read[name]), order="C")}) > 0


def test_two_layers_exchanged_show(saved, read):
    a, b = "discriminator/bn2/running_mean", "discriminator/bn2/bias"
    assert differing(saved[1], {**read, a: read[b], b: read[a]}) > 0


def test_the_ports_networks_load_them(read):
    networks = Networks()
    networks.load(read)
    for name, tensor in networks.arrays().items():
        assert np.array_equal(tensor.detach().numpy(), read[name]), name


def test_arrays_are_their_own(read):
    """Not views of 100 MB, and fit for torch: writable and aligned."""
    for array in read.values():
        assert array.flags.owndata and array.flags.writeable and array.flags.aligned


def test_layers_without_names_are_found_by_their_place(saved):
    folder, _ = saved
    unnamed = read_model(folder / "unnamed.model", "discriminator")
    assert {name: array.shape for name, array in unnamed.items()} == DCGAN.critic.arrays
    assert b"conv2" not in (folder / "unnamed.model").read_bytes()
    assert layer_table(folder / "unnamed.model") == layer_table(folder / "discriminator.model")


def test_layer_table(saved):
    folder, run = saved
    tables = {network: layer_table(folder / f"{network}.model") for network in NETWORKS}
    for network, table in tables.items():
        for layer, following in pairwise(table):
            assert layer.output == following.input
        for layer in table:
            if layer.arrays:
                assert layer.output == tuple(run[f"output/{network}/{layer.name}"])
        assert set(DCGAN.network(network).arrays) == {
            f"{network}/{layer.name}/{quantity}" for layer in table for quantity in layer.arrays}

    def convolutions(network):
        return [(layer.kind, layer.output[0], layer.kernel, layer.stride, layer.pads, layer.input,
                 layer.output, layer.arrays)
                for layer in tables[network] if layer.name.startswith("conv")]

    # The article's tables; its generator's first row says stride 2, its program 1.
    transposed, weight, both = "ConvolutionTranspose", ("weight",), ("weight", "bias")
    channels = (1024, 512, 256, 128, 64, 32, 3)
    assert convolutions("generator") == [
        (transposed, 1024, (4, 4), (1, 1), (0, 0, 0, 0), (100, 1, 1), (1024, 4, 4), weight),
        *((transposed, after, (5, 5), (2, 2), (2, 2, 1, 1), (before, 2 ** i, 2 ** i),
           (after, 2 ** (i + 1), 2 ** (i + 1)), both if after == 3 else weight)
          for i, (before, after) in enumerate(pairwise(channels), 2))]
    channels = (3, 32, 64, 128, 256, 512, 1024)
    assert convolutions("discriminator") == [
        *(("Convolution", after, (3, 3), (2, 2), (1, 1, 0, 0), (before, 2 ** i, 2 ** i),
           (after, 2 ** (i - 1), 2 ** (i - 1)), both if before == 3 else weight)
          for i, (before, after) in zip(range(8, 2, -1), pairwise(channels), strict=True)),
        ("Convolution", 1, (4, 4), (1, 1), (0, 0, 0, 0), (1024, 4, 4), (1, 1, 1), both)]

    for network, activation, last in (("generator", "ReLU", "Tanh"),
                                      ("discriminator", "LeakyReLU", "StableSigmoid")):
        table = tables[network]
        assert [layer.kind for layer in table if not layer.arrays] == [activation] * 6 + [last]
        assert all(layer.settings == {"epsilon": 1e-5, "time_constant": 5000.0} for layer in table
                   if layer.name.startswith("bn"))
    assert all(layer.settings == {"alpha": 0.2} for layer in tables["discriminator"]
               if layer.kind == "LeakyReLU")


# Adam's state.

def moved(w, m, v, c):
    """The update that made m, v and c: CNTKAdam's products, in float32 and from left to right."""
    b1, b2 = 0.5, 0.9999986111120757 ** SAMPLES
    correction = np.float32(np.sqrt(1 - b2 ** c) / (1 - b1 ** c))
    step = np.float32(1) / (np.sqrt(v) + np.float32(1e-8)) * correction * m
    return w - step * np.float32(1e-4 / SAMPLES)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_articles_state_gives_cntks_last_update(saved, network):
    folder, run = saved
    state = read_checkpoint(folder / f"{network}.ckp", learner_parameters(network))
    assert state.minibatches == 2
    assert set(state.m) == set(state.v) == set(DCGAN.network(network).parameters)

    def apart(m, v, c=2):
        return differing(run, {name: moved(cntks_own(run, name, "before"), m[name], v[name], c)
                               for name in m})

    assert apart(state.m, state.v) == 0
    few = {name: state.m[name] for name in [f"{network}/bn3/scale", f"{network}/bn3/bias"]}
    scale, bias = few
    assert apart(few, state.v) == 0
    assert apart(few, state.v, c=1) > 0
    assert apart({scale: few[bias], bias: few[scale]},
                 {scale: state.v[bias], bias: state.v[scale]}) > 0
    last = f"{network}/conv7/weight"
    mirrored = {last: np.ascontiguousarray(state.m[last][..., ::-1])}
    assert apart(mirrored, {last: np.ascontiguousarray(state.v[last][..., ::-1])}) > 0


def small_adam(run, name):
    p = torch.nn.Parameter(torch.from_numpy(run[name].reshape(-1).copy()))
    return p, CNTKAdam([p], 1e-2)


def feed(run, name, p, optimizer, steps):
    for step in steps:
        p.grad = torch.from_numpy(run[f"gradient/{name}"][step].reshape(-1))
        optimizer.step(samples=SAMPLES)


@pytest.mark.parametrize("name", SMALL)
def test_m_and_v_have_the_ports_bits_and_cntks_own(saved, name):
    folder, run = saved
    state = read_checkpoint(folder / "small.ckp", SMALL)
    assert state.minibatches == run["minibatches"] == STEPS
    p, optimizer = small_adam(run, f"initial/{name}")
    feed(run, name, p, optimizer, range(STEPS))
    for key, got in (("m", state.m[name]), ("v", state.v[name])):
        assert got.shape == SMALL[name] and got.dtype == np.float32
        assert np.array_equal(got.reshape(-1), optimizer.state[p][key].numpy())
        assert np.array_equal(got.reshape(-1), run[f"{key}/{name}"].reshape(-1))
    assert not np.array_equal(state.m[name], state.v[name])


@pytest.mark.parametrize("name", SMALL)
def test_the_port_goes_on_from_cntks_checkpoint(saved, name):
    folder, run = saved
    state = read_checkpoint(folder / "small.ckp", SMALL)

    def finish(m, v, minibatches):
        p, optimizer = small_adam(run, f"initial/{name}")
        feed(run, name, p, optimizer, range(STEPS))  # the probe's parameters when it saved
        optimizer.state[p]["m"] = torch.from_numpy(m[name].reshape(-1).copy())
        optimizer.state[p]["v"] = torch.from_numpy(v[name].reshape(-1).copy())
        optimizer.param_groups[0]["minibatches"] = minibatches
        feed(run, name, p, optimizer, range(STEPS, 2 * STEPS))
        return np.array_equal(p.detach().numpy(), run[f"unbroken/{name}"].reshape(-1))

    assert finish(state.m, state.v, state.minibatches)
    assert not finish(state.v, {name: np.abs(state.m[name])}, state.minibatches)
    assert not finish(state.m, state.v, 0)


def test_cntk_itself_can_be_given_m_v_and_the_counter(saved):
    _, run = saved
    for name in SMALL:
        assert np.array_equal(run[f"resumed/{name}"], run[f"unbroken/{name}"]), name


# What is refused.

def refused(call, path, *arguments):
    with pytest.raises(ModelFileError) as caught:
        call(path, *arguments)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and ": " in message
    return message


def test_wrong_files(saved, tmp_path):
    folder, _ = saved
    parameters = learner_parameters("generator")
    onnx_file = tmp_path / "generator.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), onnx_file)
    contents = {"empty.model": b"", "text.model": b"step,G_loss,D_loss\n", "zip.model": b"PK\3\4",
                "huge.model": b"ktnc" + bytes(8), "noise.model": b"\x08\2\x12" + b"\xff" * 10 ** 6}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for call, more in ((read_model, "generator"), (read_checkpoint, parameters)):
        assert "No such file" in refused(call, tmp_path / "none.model", more)
        assert "Is a directory" in refused(call, tmp_path, more)
        assert "is an ONNX file: give" in refused(call, onnx_file, more)
        for name in ("empty.model", "text.model", "zip.model"):
            assert "no file of CNTK 2: give" in refused(call, tmp_path / name, more)
        assert "cut off or damaged" in refused(call, tmp_path / "noise.model", more)
        assert "beyond 2 GB" in refused(call, tmp_path / "huge.model", more)

    assert "holds a checkpoint's optimizer state: give a model" in refused(
        read_model, folder / "small.ckp", "generator")
    assert "holds a model: give the .ckp" in refused(
        read_checkpoint, folder / "short.model", parameters)


def test_wrong_networks(saved, tmp_path):
    folder, _ = saved
    assert "conv1 is a ConvolutionTranspose, so this is no discriminator: give the" in refused(
        read_model, folder / "generator.model", "discriminator")
    assert "conv1 is a Convolution, so this is no generator: give the generator's model" in refused(
        read_model, folder / "discriminator.model", "generator")
    assert "has no discriminator/conv2/weight: give a model of" in refused(
        read_model, folder / "short.model", "discriminator")
    assert ("discriminator/conv1/weight has the shape (32, 4, 3, 3), not (32, 3, 3, 3): give"
            in refused(read_model, folder / "four_channels.model", "discriminator"))
    assert "give the model of one network" in refused(
        read_model, folder / "checkpoint.model", "generator")

    # Two layers' names exchanged: a string is stored as field 8, its length, its text.
    content = (folder / "discriminator.model").read_bytes()
    exchanged = (content.replace(b"\x42\3bn2", b"\x42\3bn?").replace(b"\x42\3bn3", b"\x42\3bn2")
                 .replace(b"\x42\3bn?", b"\x42\3bn3"))
    assert len(exchanged) == len(content) and exchanged != content
    (tmp_path / "exchanged.model").write_bytes(exchanged)
    assert "the layer in bn2's place is named bn3: give a model" in refused(
        read_model, tmp_path / "exchanged.model", "discriminator")


def test_wrong_checkpoints(saved):
    folder, _ = saved
    assert "holds no state of Adam's" in refused(read_checkpoint, folder / "sgd.ckp", SMALL)
    assert "the state of 5 parameters, not of 20: give" in refused(
        read_checkpoint, folder / "small.ckp", learner_parameters("generator"))
    backwards = dict(reversed(SMALL.items()))
    assert "240 numbers where scalar of the shape () needs twice 1: give" in refused(
        read_checkpoint, folder / "small.ckp", backwards)
    assert "the state of 20 parameters, not of 19" in refused(
        read_checkpoint, folder / "generator.ckp", learner_parameters("discriminator"))


@pytest.mark.parametrize("kept", [-1, 0.5, 100])
def test_cut_off(saved, tmp_path, kept):
    folder, _ = saved
    for name, call, more in (("discriminator.model", read_model, "discriminator"),
                             ("small.ckp", read_checkpoint, SMALL)):
        content = (folder / name).read_bytes()
        length = int(kept * len(content)) if kept == 0.5 else kept
        (tmp_path / name).write_bytes(content[:length])
        assert "is cut off or damaged" in refused(call, tmp_path / name, more)


def adam_numbers(path):
    state = read_checkpoint(path, SMALL)
    return state.minibatches, [a.tobytes() for a in (*state.m.values(), *state.v.values())]


@pytest.mark.parametrize("name, call", [("short.model", layer_table), ("small.ckp", adam_numbers)])
def test_damage_is_refused_or_harmless(saved, tmp_path, name, call):
    """One byte changed: a message or other numbers. Cut off: a message, or nothing that is read was
    in the rest. Never another exception."""
    content = (saved[0] / name).read_bytes()
    path = tmp_path / name
    random = np.random.RandomState(1)
    places = random.choice(len(content), 400, replace=False)
    changed = cut = 0
    for i in places:
        damaged = bytearray(content)
        damaged[i] ^= random.randint(1, 256)
        path.write_bytes(damaged)
        try:
            call(path)
        except ModelFileError as error:
            changed += "\n" not in str(error)
        path.write_bytes(content[:i])
        try:
            assert call(path) == call(saved[0] / name)
        except ModelFileError as error:
            cut += "\n" not in str(error)
    assert 0 < changed < len(places)
    assert cut > 0.9 * len(places)
