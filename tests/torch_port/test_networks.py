"""The port's networks: shapes, geometry against plain sums, weights in and out."""
import copy
import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captures.article import DCGAN
from torch_port.dcgan import Networks, networks_from_seed, normalized
from torch_port.layers import Convolution, ConvolutionTranspose, PaddedConvolution
from torch_port.normal_initializer import draw_initial_weights, seeds_for

GENERATOR = {"conv1": (1024, 4), "conv2": (512, 8), "conv3": (256, 16), "conv4": (128, 32),
             "conv5": (64, 64), "conv6": (32, 128), "conv7": (3, 256)}
DISCRIMINATOR = {"conv1": (32, 128), "conv2": (64, 64), "conv3": (128, 32), "conv4": (256, 16),
                 "conv5": (512, 8), "conv6": (1024, 4), "conv7": (1, 1)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two take ten times as long where another process has the second processor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def networks():
    return networks_from_seed(3)


def layers(module, x):
    """Every layer's output, by name."""
    outputs = {}

    def each(name, h):
        outputs[name] = h
        return h

    with torch.no_grad():
        module(x, each)
    return outputs


# ------------------------------------------------------------------------------------ structure


@pytest.mark.parametrize("network, x, table, others", [
    ("generator", torch.zeros(2, 100), GENERATOR,
     {"bn": range(1, 7), "relu": range(1, 7), "tanh": [7]}),
    ("discriminator", torch.zeros(2, 3, 256, 256), DISCRIMINATOR,
     {"bn": range(2, 7), "leaky_relu": range(1, 7), "sigmoid": [7]}),
])
def test_layers(networks, network, x, table, others):
    outputs = layers(networks.get_submodule(network), x)
    assert {name: tuple(h.shape) for name, h in outputs.items() if name in table} == {
        name: (2, channels, size, size) for name, (channels, size) in table.items()}
    assert set(outputs) - set(table) == {f"{kind}{i}" for kind, numbers in others.items()
                                         for i in numbers}
    for name, h in outputs.items():
        assert h.shape == outputs[f"conv{name[-1]}"].shape


def test_parameter_counts(networks):
    assert sum(p.numel() for p in networks.generator.parameters()) == 19_104_035
    assert sum(p.numel() for p in networks.discriminator.parameters()) == 6_306_561
    with_every_bias = sum(p.numel() for p in networks.generator.parameters()) + sum(
        channels for channels, _ in list(GENERATOR.values())[:6])
    assert with_every_bias != 19_104_035  # what nn.ConvTranspose2d has by default


def test_what_each_returns_goes_on(networks):
    seen = {}

    def each(name, h):
        seen[name] = h
        return torch.full_like(h, 2.0) if name == "leaky_relu6" else h

    with torch.no_grad():
        networks.discriminator(torch.zeros(1, 3, 256, 256), each)
        conv7 = networks.discriminator.conv7
        expected = 2 * conv7.weight.double().sum() + conv7.bias
    # 16,384 float32 additions to about 5: each is off by up to 2e-7, and the roots add up.
    assert seen["conv7"].item() == pytest.approx(expected.item(), abs=4e-5)


def test_both_branches_share_everything():
    """Called for x and for G(z), the discriminator counts both minibatches."""
    networks = Networks()
    x = torch.zeros(2, 3, 256, 256)
    networks.discriminator(x)
    networks.discriminator(x)
    counts = {name: int(t) for name, t in networks.arrays().items()
              if name.endswith("sample_count")}
    assert {v for k, v in counts.items() if k.startswith("discriminator")} == {4}
    assert {v for k, v in counts.items() if k.startswith("generator")} == {0}


def test_pixels():
    assert normalized(torch.tensor([0, 127.5, 255])).tolist() == [-1, 0, 1]
    pixels = torch.arange(0, 255, 0.25)
    divided = (pixels - 127.5) / 127.5
    torch.testing.assert_close(normalized(pixels), divided, rtol=1.2e-7, atol=0)
    assert not torch.equal(normalized(pixels), divided)  # CNTK multiplies by 1 / 127.5


# ------------------------------------------------------------------------------------- geometry


def seen_by(convolve, at, size=8):
    """The rows and columns of an image that one value of the output depends on."""
    impulses = torch.eye(size * size).reshape(-1, 1, size, size)
    seen = convolve(impulses)[:, 0, at[0], at[1]].reshape(size, size) != 0
    return seen.any(1).nonzero().flatten().tolist(), seen.any(0).nonzero().flatten().tolist()


def test_a_window_sees_one_pixel_to_the_top_and_the_left():
    """Pads [1, 1, 0, 0]: window i begins at pixel 2 i - 1."""
    layer = PaddedConvolution(1, 1, 3, stride=2, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1)
        assert seen_by(layer, (0, 0)) == ([0, 1], [0, 1])
        assert seen_by(layer, (1, 2)) == ([1, 2, 3], [3, 4, 5])
        assert seen_by(layer, (3, 3)) == ([5, 6, 7], [5, 6, 7])

        def below(x):  # TensorFlow's SAME: the odd pixel at the bottom and the right
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), layer.weight, None, 2)

        def on_all_sides(x):
            return F.conv2d(x, layer.weight, None, 2, 1)

        assert seen_by(below, (0, 0)) == ([0, 1, 2], [0, 1, 2])
        # On an even size nothing reaches the pixels that are added below: the very same windows.
        assert seen_by(on_all_sides, (3, 3)) == ([5, 6, 7], [5, 6, 7])


def convolution(x, w, begin, stride):
    """y[o, i, j] = sum over c, k, l of x[c, s i + k - begin, s j + l - begin] w[o, c, k, l]."""
    out = [(size - w.shape[2] + 2 * begin) // stride + 1 for size in x.shape[1:]]
    y = np.zeros((len(w), *out))
    for i, j in np.ndindex(*out):
        for k, m in np.ndindex(*w.shape[2:]):
            row, column = stride * i + k - begin, stride * j + m - begin
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                y[:, i, j] += w[:, :, k, m] @ x[:, row, column]
    return y


def transposed(x, w, stride, begin, size):
    """y[o, s i + k - begin, s j + l - begin] += sum over c of x[c, i, j] w[c, o, k, l]."""
    y = np.zeros((w.shape[1], *size))
    for i, j in np.ndindex(*x.shape[1:]):
        for k, m in np.ndindex(*w.shape[2:]):
            row, column = stride * i + k - begin, stride * j + m - begin
            if 0 <= row < size[0] and 0 <= column < size[1]:
                y[:, row, column] += x[:, i, j] @ w[:, :, k, m]
    return y


def drawn(*shape):
    return np.random.RandomState(0).normal(size=shape)


def apart(layer, x, expected):
    with torch.no_grad():
        got = layer.double()(torch.from_numpy(x)[None])[0].numpy()
    return np.inf if got.shape != expected.shape else float(np.abs(got - expected).max())


@pytest.mark.parametrize("name", ["conv1", "conv2", "conv3"])
def test_convolutions(networks, name):
    layer = copy.deepcopy(networks.discriminator.get_submodule(name))
    w, bias = layer.weight.detach().double().numpy(), layer.bias
    x = drawn(w.shape[1], 6, 8)
    expected = convolution(x, w, 1, 2)
    if bias is not None:
        expected += bias.detach().double().numpy()[:, None, None]
    assert apart(layer, x, expected) < 1e-12
    moved = np.roll(x, 1, axis=1)
    assert apart(layer, moved, expected) > 0.01


def test_the_last_convolution_has_no_padding(networks):
    layer = copy.deepcopy(networks.discriminator.conv7)
    w = layer.weight.detach().double().numpy()
    x = drawn(1024, 4, 4)
    assert apart(layer, x, np.sum(w * x, axis=(1, 2, 3))[:, None, None]
                 + layer.bias.detach().double().numpy()[:, None, None]) < 1e-12


@pytest.mark.parametrize("name", ["conv5", "conv6", "conv7"])
def test_transposed_convolutions(networks, name):
    """Crops [2, 2, 1, 1] of the whole result; twice the size comes out."""
    layer = copy.deepcopy(networks.generator.get_submodule(name))
    w = layer.weight.detach().double().numpy()
    bias = 0 if layer.bias is None else layer.bias.detach().double().numpy()[:, None, None]
    x = drawn(w.shape[0], 3, 4)
    assert apart(layer, x, transposed(x, w, 2, 2, (6, 8)) + bias) < 1e-12
    assert apart(layer, x, transposed(x, w, 2, 1, (6, 8)) + bias) > 0.01  # [1, 1, 2, 2]
    assert apart(layer, x, transposed(x, w, 2, 2, (5, 7)) + bias) == np.inf  # no output_shape


def test_the_first_transposed_convolution(networks):
    """4 x 4 from 1 x 1: no stride shows."""
    layer = copy.deepcopy(networks.generator.conv1)
    w = layer.weight.detach().double().numpy()
    x = drawn(100, 1, 1)
    assert apart(layer, x, transposed(x, w, 1, 0, (4, 4))) < 1e-12
    assert apart(layer, x, transposed(x, w, 1, 0, (4, 4))[:, ::-1]) > 0.01


# ----------------------------------------------------------------------------- the bias's gradient


@pytest.mark.parametrize("make", [
    lambda: PaddedConvolution(3, 4, 3, stride=2),
    lambda: ConvolutionTranspose(3, 4, 5, stride=2, padding=2, output_padding=1),
    lambda: Convolution(3, 4, 4)])
def test_the_bias_gradient_is_summed_in_double(make):
    """Values of which a float32 sum keeps nothing: 1e8, many ones, -1e8, in one sample's map."""
    layer = make()
    y = layer(torch.zeros(2, 3, 64, 64))
    upstream = torch.ones_like(y)
    upstream[0, :, 0, 0], upstream[0, :, -1, -1] = 1e8, -1e8
    y.backward(upstream)
    expected = y[:, 0].numel() - 2
    assert layer.bias.grad.tolist() == [expected] * 4

    plain = nn.Conv2d(3, 4, 1)  # PyTorch's own sums
    plain(torch.zeros(2, 3, *y.shape[2:])).backward(upstream)
    assert plain.bias.grad.tolist() != [expected] * 4


def test_so_is_that_of_the_discriminators_first_layer(networks):
    h = {}

    def each(name, value):
        value.retain_grad()
        return h.setdefault(name, value)

    networks.zero_grad()
    x = torch.from_numpy(drawn(2, 3, 256, 256).astype(np.float32))
    networks.discriminator(x, each).sum().backward()
    assert torch.equal(networks.discriminator.conv1.bias.grad,
                       h["conv1"].grad.double().sum((2, 3)).float().double().sum(0).float())


# ------------------------------------------------------------------------------- weights in and out


def digest(networks):
    made = hashlib.sha256()
    for name, tensor in networks.arrays().items():
        made.update(name.encode() + tensor.detach().numpy().tobytes())
    return made.hexdigest()


def numbers(networks):
    return {name: tensor.detach().numpy().copy() for name, tensor in networks.arrays().items()}


def test_load(networks):
    other = Networks()
    assert digest(other) != digest(networks)
    other.load(numbers(networks))
    assert digest(other) == digest(networks)


@pytest.mark.parametrize("change, expected", [
    (lambda a: a.pop("generator/conv3/weight"), "the weights have no generator/conv3/weight"),
    (lambda a: a.pop("discriminator/bn6/sample_count"), "no discriminator/bn6/sample_count"),
    (lambda a: a.update({"generator/conv3/bias": np.zeros(256)}),
     "have generator/conv3/bias, which the article's DCGAN has not"),
    (lambda a: a.update({"discriminator/conv7/bias": np.zeros((1, 1, 1))}),
     r"discriminator/conv7/bias has the shape \(1, 1, 1\), in the article's DCGAN it is \(1,\)"),
    (lambda a: a.update({"generator/conv2/weight": a["generator/conv2/weight"].swapaxes(0, 1)}),
     r"generator/conv2/weight has the shape \(512, 1024, 5, 5\)"),
])
def test_load_takes_all_or_nothing(networks, change, expected):
    arrays = {name: np.broadcast_to(np.float32(9), tuple(tensor.shape))
              for name, tensor in networks.arrays().items()}
    change(arrays)
    before = digest(networks)
    with pytest.raises(ValueError, match=expected) as caught:
        networks.load(arrays)
    assert "\n" not in str(caught.value) and "give a model" in str(caught.value)
    assert digest(networks) == before


def test_networks_from_seed(networks):
    """Weights in CNTK's order of creation; all else is constant."""
    arrays = networks.arrays()
    drawn = draw_initial_weights(DCGAN.creation_order, seeds_for(3, 14))
    assert set(drawn) == {name for name in arrays if name.endswith("/weight")}
    for name, weights in drawn.items():
        assert np.array_equal(arrays[name].detach().numpy(), weights), name
    constants = {"bias": 0, "scale": 1, "running_mean": 0, "running_variance": 0,
                 "sample_count": 0}
    networks_of_4 = networks_from_seed(4).arrays()
    fresh = networks_from_seed(3).arrays()
    for name, tensor in fresh.items():
        quantity = name.rpartition("/")[2]
        if quantity != "weight":
            assert torch.all(tensor == constants[quantity]), name
        else:
            assert torch.equal(tensor, arrays[name])
            assert not torch.equal(tensor, networks_of_4[name])
    assert torch.equal(fresh["generator/conv2/weight"].ravel()[:9],
                       networks_of_4["generator/conv1/weight"].ravel()[:9])  # seed 4 in both
