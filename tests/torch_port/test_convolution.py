"""The convolutions against real CNTK: bit for bit in float32 on the CPU."""
import ast
import dataclasses
import hashlib
import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from torch_port import convolution, edges, products, rounding
from torch_port.dcgan import Networks
from torch_port.layers import Convolution, ConvolutionTranspose, PaddedConvolution
from torch_port.threads import shares

ROOT = Path(__file__).resolve().parents[2]
PROBE = ROOT / "tests" / "cntk_probes" / "convolution.py"
SAMPLES, THREADS = (1, 3), (1, 2)
QUANTITIES = ("output", "input", "weight", "bias")


def tables():
    """The probe's own tables and values: it cannot be imported without CNTK."""
    wanted, made = ("STRIDE", "CONVOLUTIONS", "TRANSPOSED", "values"), {"np": np}
    for node in ast.parse(PROBE.read_text()).body:
        name = getattr(node, "name", None) or (
            isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None))
        if name in wanted:
            exec(compile(ast.Module([node], []), str(PROBE), "exec"), made)
    return [made[name] for name in wanted]


STRIDE, CONVOLUTIONS, TRANSPOSED, values = tables()
LAYERS = [*CONVOLUTIONS, *TRANSPOSED]
ARTICLE = [name for name in LAYERS if not name.startswith("small/")]


@pytest.fixture(scope="module", autouse=True)
def in_cntks_order():
    before, threads = torch.backends.mkldnn.enabled, torch.get_num_threads()
    torch.backends.mkldnn.enabled = False
    torch.set_num_threads(2)
    yield
    torch.backends.mkldnn.enabled = before
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def runs(cntk):
    """CNTK's answers by its number of threads; both at once."""
    with ThreadPoolExecutor(len(THREADS)) as pool:
        return dict(zip(THREADS, pool.map(
            lambda threads: cntk.run("convolution.py", str(threads), *map(str, SAMPLES)),
            THREADS), strict=True))


@pytest.fixture(scope="module")
def networks():
    return Networks()


def layer_of(networks, name):
    if name in ARTICLE:
        return networks.get_submodule(name.replace("/", "."))
    if name in TRANSPOSED:
        (before, *_), after, kernel, stride, _ = TRANSPOSED[name]
        return ConvolutionTranspose(before, after, kernel, stride, padding=2, output_padding=1)
    (before, *_), after, kernel, stride, padded = CONVOLUTIONS[name]
    return (PaddedConvolution if padded else Convolution)(before, after, kernel, stride)


def made(layer, name, samples):
    """The layer's output and gradients on the probe's values."""
    place = LAYERS.index(name)
    shape = (CONVOLUTIONS.get(name) or TRANSPOSED[name])[0]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(values(place, tuple(layer.weight.shape), 0.02)))
        if layer.bias is not None:
            layer.bias.zero_()
    x = torch.from_numpy(values(100 + place, (samples, *shape), 1)).requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(torch.from_numpy(values(200 + place, tuple(y.shape), 1)))
    found = {"output": y.detach(), "input": x.grad, "weight": layer.weight.grad}
    if layer.bias is not None:
        found["bias"] = layer.bias.grad
    return {quantity: array.contiguous().numpy() for quantity, array in found.items()}


def differing(run, got, name, samples, quantity):
    """How many of the sampled values are not CNTK's; at least 1 if any value is not."""
    place = f"{samples}/{name}/{quantity}"
    if hashlib.sha256(got[quantity].tobytes()).hexdigest() == str(run[f"{place}/sha256"]):
        return 0
    return max(1, int(np.sum(got[quantity].ravel()[::STRIDE] != run[place])))


@pytest.mark.parametrize("name", LAYERS)
def test_every_quantity_has_cntks_bits(runs, networks, monkeypatch, name):
    layer = layer_of(networks, name)
    for threads, samples in itertools.product(THREADS, SAMPLES):
        monkeypatch.setattr(convolution, "cntk_threads", lambda threads=threads: threads)
        got = made(layer, name, samples)
        for quantity in got:
            case = f"{quantity}, {samples} samples, {threads} threads"
            count = differing(runs[threads], got, name, samples, quantity)
            assert count == 0, case


def test_the_ports_own_threads_change_nothing(networks):
    for name in ("generator/conv7", "discriminator/conv4"):
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(made(layer_of(networks, name), name, 3))
        torch.set_num_threads(2)
        assert torch.get_num_threads() == 2
        for other in found[1:]:
            assert all(np.array_equal(found[0][q], other[q]) for q in found[0])


# ------------------------------------------------------------------------------- mistakes show


def taps_ascending(g, weight, stride, pads, size, threads):
    """F.fold's own order."""
    out, _, *kernel = weight.shape
    full = tuple((g.shape[2 + i] - 1) * stride[i] + kernel[i] for i in (0, 1))
    w = weight.reshape(out, -1).t()
    x = torch.stack([F.fold(torch.mm(w, one.reshape(out, -1))[None], full, tuple(kernel),
                            stride=stride)[0] for one in g])
    return x[:, :, pads[2]:pads[2] + size[0], pads[0]:pads[0] + size[1]].contiguous()


def test_taps_added_from_the_first_to_the_last_show(runs, networks, monkeypatch):
    monkeypatch.setattr(products, "backward_data", taps_ascending)
    for name, quantity in (("generator/conv4", "output"), ("discriminator/conv4", "input")):
        got = made(layer_of(networks, name), name, 3)
        assert differing(runs[2], got, name, 3, quantity) > got[quantity].size // STRIDE // 20


def test_other_shares_show(runs, networks, monkeypatch):
    monkeypatch.setattr(convolution, "cntk_threads", lambda: 1)
    for name in ("generator/conv7", "discriminator/conv3"):
        got = made(layer_of(networks, name), name, 3)
        assert differing(runs[2], got, name, 3, "weight") > got["weight"].size // STRIDE // 4


def test_shares():
    assert [list(s) for s in shares(5, 2)] == [[0, 1, 2], [3, 4]]
    assert [list(s) for s in shares(8, 3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [list(s) for s in shares(2, 8)] == [[0], [1]]


@pytest.mark.parametrize(("name", "quantity"), [
    ("discriminator/conv7", "output"), ("discriminator/conv1", "weight"),
    ("generator/conv1", "input"), ("small/odd_both_ways", "weight")])
def test_sums_one_by_one_at_the_edges_show(runs, networks, monkeypatch, name, quantity):
    fill = edges.fill
    monkeypatch.setattr(edges, "fill", lambda shape, *arguments, **options: fill(
        dataclasses.replace(shape, dotted=False, spread=True), *arguments, **options))
    monkeypatch.setattr(convolution, "cntk_threads", lambda: 2)
    assert differing(runs[2], made(layer_of(networks, name), name, 3), name, 3, quantity)


@pytest.mark.parametrize("name", ["discriminator/conv3", "generator/conv3"])
def test_onednn_shows(runs, networks, name):
    torch.backends.mkldnn.enabled = True
    try:
        got = made(layer_of(networks, name), name, 3)
    finally:
        torch.backends.mkldnn.enabled = False
    assert differing(runs[2], got, name, 3, "output") > got["output"].size // STRIDE // 10


def test_a_geometry_that_is_another_is_another_here_too():
    """The arguments that networks.py gives are what the exact path does, as in PyTorch's."""
    random = torch.Generator().manual_seed(1)
    x, w = torch.randn(2, 3, 9, 8, generator=random), torch.randn(4, 3, 3, 2, generator=random)
    for stride in ((1, 1), (2, 2), (3, 1)):
        torch.testing.assert_close(convolution.conv2d(x, w, None, stride),
                                   F.conv2d(x.double(), w.double(), None, stride).float())
    w = torch.randn(3, 4, 5, 4, generator=random)
    for stride, padding, output_padding in (((2, 2), (2, 2), (1, 1)), ((2, 2), (2, 1), (0, 1)),
                                            ((3, 2), (0, 1), (2, 0)), ((1, 1), (1, 2), (0, 0))):
        geometry = (None, stride, padding, output_padding)
        inputs = [t.clone().requires_grad_() for t in (x, w)]
        doubles = [t.double().requires_grad_() for t in (x, w)]
        y, expected = (convolution.conv_transpose2d(*inputs, *geometry),
                       F.conv_transpose2d(*doubles, *geometry))
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
        upstream = torch.randn(y.shape, generator=random)
        for ours, theirs in zip(torch.autograd.grad(y, inputs, upstream), torch.autograd.grad(
                expected, doubles, upstream.double()), strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-4)
        if output_padding[0]:
            assert y.shape != convolution.conv_transpose2d(x, w, *geometry[:3], (0, 0)).shape


# ------------------------------------------------------------------------- where it holds, or not


def test_it_follows_cntk_only_in_float32_on_the_cpu_without_onednn(monkeypatch):
    x = torch.zeros(1)
    assert rounding.follows_cntk(x)
    assert not rounding.follows_cntk(x, x.double())
    assert not rounding.follows_cntk(x.to("meta"))
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    assert not rounding.follows_cntk(x)
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", True)
    assert not rounding.follows_cntk(x)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_callers_defaults_change_nothing(transposed):
    """The C code's own memory is of float32 on the CPU, whatever new tensors are by default."""
    random = torch.Generator().manual_seed(5)
    x = torch.randn(2, 12, 9, 9, generator=random)
    weight = torch.randn(12, 12, 3, 3, generator=random)

    def made():
        given = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        y = (convolution.conv_transpose2d(*given, None, 2, 0, 0) if transposed
             else convolution.conv2d(*given, None, 2))
        return [y.detach(), *torch.autograd.grad(y, given, y.detach())]

    expected = made()
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            found = made()
        finally:
            torch.set_default_dtype(torch.float32)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True)), dtype
    with torch.device("meta"):
        found = made()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_view_that_negates_is_what_it_shows():
    x, weight = torch.randn(2, 3, 9, 9), torch.randn(4, 3, 3, 3)
    view = torch._neg_view(x)
    assert torch.equal(convolution.conv2d(view, weight, None, (1, 1)),
                       convolution.conv2d(-x, weight, None, (1, 1)))


def test_places_that_no_tap_meets_are_0():
    x, weight = torch.ones(1, 16, 4, 1), torch.ones(16, 2, 1, 2)
    geometry = (None, (4, 4), (1, 2), (2, 3))
    found = convolution.conv_transpose2d(x, weight, *geometry)
    assert torch.equal(found, F.conv_transpose2d(x, weight, *geometry))


@pytest.mark.parametrize("geometry", [
    ((0, 1), (0, 0), (0, 0)), ((-1, 1), (0, 0), (0, 0)), ((2, 2, 2), (0, 0), (0, 0)),
    ((2, 2), (-1, 0), (0, 0)), ((2, 2), (0, 0), (2, 0)), ((2, 2), (0, 0), (-1, 0))])
def test_a_geometry_that_pytorch_refuses_is_refused_alike(geometry):
    x, weight = torch.ones(1, 3, 8, 8), torch.ones(3, 3, 3, 3)
    with pytest.raises((RuntimeError, TypeError, ValueError)) as theirs:
        F.conv_transpose2d(x, weight, None, *geometry)
    with pytest.raises(theirs.type, match=re.escape(str(theirs.value).splitlines()[0])):
        convolution.conv_transpose2d(x, weight, None, *geometry)
    if geometry[1:] == ((0, 0), (0, 0)):
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            convolution.conv2d(x, weight, None, geometry[0])


@pytest.mark.parametrize("transposed", [False, True])
def test_what_does_not_fit_is_refused_as_by_pytorch(transposed):
    """The C code would read beyond the arrays."""
    def made(x):
        if transposed:
            return convolution.conv_transpose2d(x, weight, None, (2, 2), (1, 1), (1, 1))
        return convolution.conv2d(x, weight, None, (2, 2))

    weight = torch.ones(3, 3, 3, 3, requires_grad=True)
    for channels in (2, 4):
        with pytest.raises(RuntimeError, match=f"to have 3 channels, but got {channels} channels"):
            made(torch.ones(2, channels, 9, 9))
    with pytest.raises(ValueError, match=r"N x C x H x W, not x of shape \(3, 9, 9\)"):
        made(torch.ones(3, 9, 9))
    none = torch.ones(0, 3, 9, 9, requires_grad=True)
    made(none).sum().backward()
    assert none.grad.shape == none.shape
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def test_an_image_smaller_than_the_kernel_is_refused():
    for size in (1, 2):
        with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
            convolution.conv2d(torch.ones(1, 3, 5, size), torch.ones(4, 3, 3, 3), None, (1, 1))


def test_inference_mode(networks):
    layer = networks.discriminator.conv2
    x = torch.ones(2, 32, 16, 16)
    with torch.inference_mode():
        y = layer(x)
    assert torch.equal(y, layer(x))


# For the documentation.


def behaviours(cntk):
    """What PyTorch's own convolutions do instead, measured against real CNTK."""
    run, before = cntk.run("convolution.py", "1", *map(str, SAMPLES)), torch.backends.mkldnn.enabled

    def given(name):
        place, shape = LAYERS.index(name), (CONVOLUTIONS.get(name) or TRANSPOSED[name])[0]
        weight = Networks().get_submodule(name.replace("/", ".")).weight
        return (torch.from_numpy(values(100 + place, (3, *shape), 1)),
                torch.from_numpy(values(place, tuple(weight.shape), 0.02)))

    def apart(name, got, quantity="output"):
        """Share of the values that differ, and their root mean square, as a part of CNTK's."""
        theirs = run[f"3/{name}/{quantity}"].astype(np.float64)
        ours = got.contiguous().numpy().ravel()[::STRIDE]
        return float(np.mean(ours != theirs)), float(np.sqrt(
            np.mean((ours - theirs) ** 2) / np.mean(theirs ** 2)))

    rows = []
    try:
        torch.backends.mkldnn.enabled = True  # as PyTorch computes by itself
        x, w = given("discriminator/conv4")
        share, rounding = apart("discriminator/conv4", F.conv2d(x, w, stride=2, padding=1))
        rows.append(("order of the additions", "MKL's plain kernel, sample by sample, no fused "
                     "multiply-add", "oneDNN: in blocks, fused",
                     f"{share:.0%} of the values, by {rounding:.1g} of the layer's size"))
        _, off = apart("discriminator/conv4", F.conv2d(F.pad(x, (0, 1, 0, 1)), w, stride=2))
        rows.append(("the odd row and column of padding, 3 x 3 at stride 2",
                     "at the top and the left", "TensorFlow's SAME: at the bottom and the right",
                     f"{off:.0%} of the layer's size"))
        x, w = given("generator/conv4")
        got = F.conv_transpose2d(x, w, stride=2, padding=2)
        rows.append(("transposed 5 x 5 at stride 2, told 32 x 32", "32 x 32",
                     "without output_padding: " + " x ".join(map(str, got.shape[2:])),
                     "one row and one column are missing"))
        full = F.conv_transpose2d(x, w, stride=2)
        _, off = apart("generator/conv4", full[:, :, 1:-2, 1:-2])
        rows.append(("what it cuts off of 35 x 35", "two rows and columns first, one last",
                     "the other way round", f"{off:.0%} of the layer's size"))
        place = LAYERS.index("discriminator/conv1")
        x, w = given("discriminator/conv1")
        bias = torch.zeros(32, requires_grad=True)
        y = F.conv2d(x, w, bias, stride=2, padding=1)
        y.backward(torch.from_numpy(values(200 + place, tuple(y.shape), 1)))
        _, off = apart("discriminator/conv1", bias.grad, "bias")
        rows.append(("gradient of a bias, 49,152 values each", "added up in double, sample by "
                     "sample", "in float32", f"by {off:.1g} of itself"))
    finally:
        torch.backends.mkldnn.enabled = before
    return [dict(zip(("behaviour", "cntk", "ordinary_pytorch", "off_by"), row, strict=True))
            for row in rows]


def test_behaviours_are_measured(cntk):
    assert len(behaviours(cntk)) == 5
