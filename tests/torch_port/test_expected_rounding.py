"""What the oracle says of rounding: above it every correct way of computing, far above it none."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from captures.article import DCGAN
from captures.narrow import narrow
from planted.correct import fft_conv2d, fft_conv_transpose2d, taps_conv2d
from torch_port.capture import expected_rounding as expected
from torch_port.capture.carried import AMPLITUDE, DRAWS, apart, carried
from torch_port.capture.recorder import numbers
from torch_port.dcgan import networks_from_seed
from torch_port.layers import Convolution, ConvolutionTranspose
from torch_port.rounding import as_cntk_rounds

SHAPES = [(3, 8, 256), (16, 16, 33), (8, 8, 16)]  # channels in and out, side of the map
SLICES = [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)]


@pytest.mark.parametrize("n, made", [(1, 0), (2, 2), (12, 7), (258, 48), (43, 43)])
def test_primes(n, made):
    assert expected.primes(n) == made


def farthest(apart, size):
    """The largest ratio of root mean squares in a sample, channel, row or column."""
    ratios = [(apart.double().pow(2).mean(axes) / size.pow(2).mean(axes)).sqrt().max()
              for axes in SLICES]
    return float(max(ratios))


@pytest.fixture(params=SHAPES, ids=str, scope="module")
def convolution(request):
    """(layer, x, its output in float64, E): x is smooth, with a border of nothing."""
    channels, filters, side = request.param
    torch.manual_seed(0)
    x = F.interpolate(torch.randn(2, channels, side // 4 + 1, side // 4 + 1), side,
                      mode="bilinear")
    x[:, :, :2] = 0
    layer = Convolution(channels, filters, 3, 2, bias=False)
    with torch.no_grad():
        y = F.conv2d(x.double(), layer.weight.double(), None, 2)
        return layer, x, y, expected.of_output("conv2", layer, x, y)


@torch.no_grad()
def test_every_way_of_a_convolution_is_rounding(convolution):
    layer, x, y, size = convolution
    for way in (fft_conv2d, taps_conv2d, F.conv2d):
        made = way(x, layer.weight, None, layer.stride)
        assert farthest(made - y, size) < 1.5, way


@torch.no_grad()
def test_half_precision_is_more(convolution):
    layer, x, y, size = convolution
    coarse = F.conv2d(x, layer.weight.bfloat16().float(), None, 2)
    assert farthest(coarse - y, size) > 30


@torch.no_grad()
def test_a_transposed_convolution_by_transforms():
    torch.manual_seed(1)
    x = torch.randn(2, 8, 32, 32)
    layer = ConvolutionTranspose(8, 3, 5, 2, 2, 1, bias=False)
    y = F.conv_transpose2d(x.double(), layer.weight.double(), None, 2, 2, 1)
    size = expected.of_output("conv7", layer, x, y)
    made = fft_conv_transpose2d(x, layer.weight, None, (2, 2), (2, 2), (1, 1))
    assert farthest(made - y, size) < 1.5


# ---------------------------------------------------------------------------------- in the chain


def test_apart_is_a_part_of_the_size():
    kept = np.array([3.0, 4.0])
    assert apart(torch.tensor([3.0, 4.5]), kept) == pytest.approx(0.1)
    assert apart(torch.zeros(2), np.zeros(2)) == 0


def test_what_rounding_carries(monkeypatch):
    """Every layer moves by about its rounding, and the first by as much as is added."""
    as_cntk_rounds()
    spec = narrow(DCGAN)
    torch.manual_seed(0)
    z, x = torch.randn(2, 100).double(), torch.rand(2, 3, 256, 256).double() * 2 - 1
    quiet = networks_from_seed(0, spec).double().train()
    kept = {}

    def each(branch):
        def keep(name, h):
            kept[f"forward/training/{branch}/{name}/output"] = h.detach().numpy()
            return h
        return keep

    with torch.no_grad():
        fake = quiet.generator(z, each("generator"))
        quiet.discriminator(x, each("discriminator_real"))
        quiet.discriminator(fake, each("discriminator_fake"))
    made = carried(spec, lambda: networks_from_seed(0, spec).double().train(), kept.__getitem__,
                   {"z": z, "x": x}, "forward/training")
    assert set(made) == set(kept)
    for name, moved in made.items():
        assert 1e-8 < moved < 1e-3, name
    # Error grows along the chain, and four times E is what is added.
    assert made["forward/training/generator/conv7/output"] \
        > made["forward/training/generator/conv1/output"]
    monkeypatch.setattr("torch_port.capture.carried.AMPLITUDE", 2 * AMPLITUDE)
    first = "forward/training/generator/conv1/output"
    twice = carried(spec, lambda: networks_from_seed(0, spec).double().train(), kept.__getitem__,
                    {"z": z, "x": x}, "forward/training")
    assert twice[first] == pytest.approx(2 * made[first])
    assert DRAWS == 2


def test_half_precisions_become_float32():
    for dtype in (torch.bfloat16, torch.float16):
        made = numbers(torch.tensor([1.5, -2.0], dtype=dtype, requires_grad=True))
        assert made.dtype == np.float32 and made.tolist() == [1.5, -2.0]
    assert numbers(torch.zeros(2, dtype=torch.float64)).dtype == np.float64
