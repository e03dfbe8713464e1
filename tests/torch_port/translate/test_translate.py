"""Translations against CNTK's own arithmetic, as the port has it, and against each other."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from torch_port.translate import adam, batch_norm, geometry
from torch_port.translate.adam import CNTKLearner, TranslationError


@pytest.mark.parametrize("learner", [
    CNTKLearner(), CNTKLearner(unit_gain=True), CNTKLearner(momentum=0.9, minibatch_size=4),
    CNTKLearner(clip_per_sample=0.5), CNTKLearner(minibatch_size=64, learning_rate=1e-3)])
def test_the_translated_adam_moves_as_cntks(learner):
    """Not its bits: what is left of the movement is epsilon and the weights' own rounding."""
    assert adam.distance(learner, adam.to_stock(learner), 100) < 5e-5


@pytest.mark.parametrize("wrong", [
    {"lr": 1e-4}, {"betas": (0.5, 0.999)}, {"clip_value": math.inf}, {"eps": 1e-2}])
def test_one_setting_not_translated_shows(wrong):
    learner = CNTKLearner(clip_per_sample=0.5)
    stock = adam.to_stock(learner)
    values = {"lr": stock.lr, "betas": stock.betas, "eps": stock.eps,
              "clip_value": stock.clip_value, **wrong}
    assert adam.distance(learner, adam.StockAdam(**values), 100) > 2e-4


@pytest.mark.parametrize("samples", [1, 4, 16])
def test_a_drop_in_for_means_is_cntks_adam(samples):
    """Bits, the factor being a power of two; gradients are left as they were."""
    random = torch.Generator().manual_seed(0)
    start = torch.randn(100, generator=random)
    theirs, ours = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    one = adam.CNTKAdamOfMeans([ours], samples)
    cntk = adam.CNTKAdam([theirs], 1e-4, clip_per_sample=float(samples))
    for _ in range(5):
        mean = torch.randn(100, generator=random) * 9
        ours.grad, theirs.grad = mean.clone(), mean * samples
        one.step()
        cntk.step(samples=samples)
        assert torch.equal(ours, theirs) and torch.equal(ours.grad, mean)
    assert not torch.equal(ours.detach(), start)
    with pytest.raises(TranslationError, match="at least 1"):
        adam.CNTKAdamOfMeans([ours], 0)


def test_a_networks_normalisations_as_cntks():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4, eps=1e-3)))
    made = batch_norm.as_cntks(network, 16)
    layer = made[1][0]
    assert isinstance(layer, batch_norm.FirstCopied)
    assert (layer.eps, round(layer.momentum, 7)) == (1e-5, 0.0031949)
    x = torch.randn(16, 3, 5, 5)
    h = made[0](x)
    made(x)
    assert torch.allclose(layer.running_mean, h.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(layer.running_var, h.var((0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("size", [2, 4, 16])
def test_a_normalisation_that_takes_the_minibatch_that_comes(size):
    """Left out, the size is that of each minibatch, as CNTK counts samples."""
    left, given = (batch_norm.as_cntks(nn.Sequential(nn.BatchNorm2d(3)), *one).train()
                   for one in ((), (size,)))
    random = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = torch.randn(size, 3, 4, 4, generator=random)
        left(x), given(x)
    assert torch.equal(left[0].running_var, given[0].running_var)
    assert left[0].momentum == batch_norm.to_stock(5000, 1).momentum  # put back
    before = left[0].running_mean.clone()
    left.eval()(torch.ones(1, 3, 4, 4))
    assert torch.equal(left[0].running_mean, before)



def test_there_and_back():
    for learner in (CNTKLearner(), CNTKLearner(unit_gain=True, minibatch_size=4)):
        back = adam.from_stock(adam.to_stock(learner), learner.minibatch_size, learner.unit_gain)
        assert back.learning_rate == pytest.approx(learner.learning_rate, rel=1e-12)
        assert back.variance_momentum == pytest.approx(learner.variance_momentum, rel=1e-12)
    assert batch_norm.from_stock(batch_norm.to_stock(5000, 16).momentum, 16) == pytest.approx(5000)


def test_code_that_is_printed_runs():
    parameters = [nn.Parameter(torch.ones(3))]
    parameters[0].grad = torch.ones(3)
    stock = adam.to_stock(CNTKLearner(clip_per_sample=16))
    made = [eval(line, {"torch": torch, "parameters": parameters})  # our own text
            for line in stock.code.splitlines()][-1]
    assert isinstance(made, torch.optim.Adam) and made.defaults["lr"] == pytest.approx(stock.lr)
    assert stock.left


def test_batch_norms_momentum():
    stock = batch_norm.to_stock(5000, 16)
    assert stock.momentum == pytest.approx(0.0031949, abs=1e-7)
    assert batch_norm.distance(5000, stock, 16) < 1e-5
    assert batch_norm.distance(5000, stock, 16, copied=False) > 0.1
    assert batch_norm.distance(5000, batch_norm.StockBatchNorm(0.1), 16) > 1e-3
    assert batch_norm.to_stock(0, 4).momentum == 1
    assert batch_norm.to_stock(math.inf, 4).momentum == 0


@pytest.mark.parametrize("kernel", range(1, 6))
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padded", [True, False])
def test_paddings_of_any_size(kernel, stride, padded):
    for size in range(1, 12):
        check_paddings(size, kernel, stride, padded)


def check_paddings(size: int, kernel: int, stride: int, padded: bool) -> None:
    """Against the definition: a convolution of the image as CNTK pads it; a transposed one as the
    gradient of a convolution, cropped as CNTK crops it."""
    x, w = torch.randn(1, 1, size, size).double(), torch.randn(1, 1, kernel, kernel).double()
    if not padded and kernel > size:
        with pytest.raises(ValueError, match="kernel"):
            geometry.convolution(size, kernel, stride, padded)
        return
    made = geometry.convolution(size, kernel, stride, padded)
    beyond = max((made.output - 1) * stride + kernel - size, 0) if padded else 0
    low = beyond - beyond // 2
    right = F.conv2d(F.pad(x, (low, beyond // 2, low, beyond // 2)), w, stride=stride)
    got = F.conv2d(F.pad(x, made.pad), w, stride=stride, padding=made.padding)
    assert got.shape == right.shape and torch.allclose(got, right)
    assert made.output == right.shape[2]
    made = geometry.transposed(size, kernel, stride, padded)
    whole = F.conv_transpose2d(x, w, stride=stride)
    pads = F.pad(whole, (0, max(made.output - whole.shape[3], 0)) * 2)
    crop = max(kernel - stride, 0) if padded else 0
    high = crop - crop // 2
    right = pads[:, :, high:high + made.output, high:high + made.output]
    got = F.conv_transpose2d(x, w, stride=stride, padding=made.padding,
                             output_padding=made.output_padding)
    left, after, top, bottom = made.crop
    got = got[:, :, top:got.shape[2] - bottom, left:got.shape[3] - after]
    assert got.shape == right.shape and torch.allclose(got, right)


def test_the_articles_layers():
    assert geometry.convolution(256, 3, 2) == geometry.Padding(padding=1, output=128)
    assert geometry.transposed(4, 5, 2) == geometry.Padding(padding=2, output_padding=1, output=8)
    assert "F.pad(x, (1, 0, 1, 0))" in geometry.convolution(4, 2, 1).code


@pytest.mark.parametrize("call", [
    lambda: adam.to_stock(CNTKLearner(minibatch_size=0)),
    lambda: adam.from_stock(adam.to_stock(CNTKLearner()), 0),
    lambda: batch_norm.to_stock(-1, 4), lambda: batch_norm.from_stock(2, 4),
    lambda: geometry.convolution(0, 1, 1)])
def test_bad_input(call):
    with pytest.raises(TranslationError):
        call()
