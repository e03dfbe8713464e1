"""Hypotheses against what PyTorch itself computes with a mistake: each is called by its name, a
right layer by none, and noise by none either."""
import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from captures import probes
from captures import spec as kinds
from captures.movement import VARIANCE_MOMENTUM
from captures.spec import Layer, network
from parity.diagnosis import minibatches, optimizer, pointwise, statistics, values
from parity.diagnosis.diagnose import Noted, _merged
from parity.diagnosis.evidence import Case, Found, Hypothesis, first, listed, mixed, nice
from parity.diagnosis.given import Given, right
from parity.diagnosis.gradients import Back, Judged, backwards, losses, of_input, of_parameters
from parity.diagnosis.layers import hypotheses
from parity.diagnosis.pattern import described, is_noise
from parity.judge.results import Check, Stage
from torch_port.adam import CNTKAdam

PAIR = (network("maker", (6,), [
    Layer("up", kinds.TRANSPOSED, 8, 4), Layer("bn", kinds.NORMALISATION),
    Layer("relu", kinds.RELU), Layer("grown", kinds.TRANSPOSED, 8, 5, 2, True, True),
    Layer("tanh", kinds.TANH)]),
    network("critic", (3, 16, 16), [
        Layer("seen", kinds.CONVOLUTION, 8, 3, 2, True, True), Layer("leaky", kinds.LEAKY_RELU),
        Layer("same", kinds.CONVOLUTION, 8, 3, 2, True), Layer("bn", kinds.NORMALISATION),
        Layer("last", kinds.CONVOLUTION, 1, 4, 1, False, True),
        Layer("sigmoid", kinds.SIGMOID)]))
EPSILON, SLOPE = 1e-5, 0.2


def layer(name: str) -> Layer:
    which, _, short = name.partition("/")
    return {one.name: one for one in PAIR}[which].layer(short)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def given_of(name: str, training: bool = False) -> tuple[Given, dict[str, Tensor], Tensor]:
    """What goes in, the layer's arrays and the input as tensors."""
    one = layer(name)
    x = drawn(3, *one.input, seed=1)
    pixels = None
    if name == "critic/seen":
        pixels = (drawn(3, *one.input).clamp(-1, 1) + 1) * 127.5
        x = (pixels - 127.5) / 127.5
    arrays = {quantity: drawn(*shape, seed=i + 2) * 0.3
              for i, (quantity, shape) in enumerate(one.arrays.items())
              if quantity != "sample_count"}
    for quantity in ("scale", "running_variance"):
        if quantity in arrays:
            arrays[quantity] = arrays[quantity].abs() * 0.1 + 0.01
    given = Given(one, x.double().numpy(), {k: v.double().numpy() for k, v in arrays.items()},
                  training, EPSILON, SLOPE,
                  pixels=None if pixels is None else pixels.double().numpy(), middle=127.5)
    return given, arrays, x


def conv(x: Tensor, a: dict[str, Tensor], pads=(1, 0, 1, 0), bias: bool = True, **more) -> Tensor:
    mode = more.pop("mode", "constant")
    weight = more.pop("weight", a["weight"])
    return F.conv2d(F.pad(x, pads, mode=mode), weight, a.get("bias") if bias else None, 2)


def grown(x: Tensor, a: dict[str, Tensor], padding: int = 2, more: int = 1) -> Tensor:
    return F.conv_transpose2d(x, a["weight"], a.get("bias"), 2, padding, more)


def bn(x: Tensor, a: dict[str, Tensor], training: bool = False, eps: float = EPSILON) -> Tensor:
    return F.batch_norm(x, a["running_mean"].clone(), a["running_variance"].clone(), a["scale"],
                        a["bias"], training, 0.1, eps)


def in_channel(h: Tensor, changed: Tensor, channel: int = 2) -> Tensor:
    h = h.clone()
    h[:, channel] = changed[:, channel]
    return h


RIGHT = {"critic/seen": conv, "critic/same": conv, "maker/grown": grown,
         "critic/bn": bn, "critic/leaky": lambda x, a: F.leaky_relu(x, SLOPE),
         "maker/relu": lambda x, a: F.relu(x), "maker/tanh": lambda x, a: torch.tanh(x),
         "critic/sigmoid": lambda x, a: torch.sigmoid(x)}
WRONG = {
    "kernels-flipped": ("critic/same", lambda x, a: conv(x, a, weight=a["weight"].flip(2, 3))),
    "kernels-transposed": ("critic/same", lambda x, a: conv(
        x, a, weight=a["weight"].transpose(2, 3))),
    "in-and-out-exchanged": ("critic/same", lambda x, a: conv(
        x, a, weight=a["weight"].transpose(0, 1))),
    "padding-at-the-other-side": ("critic/same", lambda x, a: conv(x, a, (0, 1, 0, 1))),
    "padding-not-zero": ("critic/same", lambda x, a: conv(x, a, mode="reflect")),
    "pooled": ("critic/same", lambda x, a: F.max_pool2d(
        F.conv2d(F.pad(x, (1, 0, 1, 0)), a["weight"]), 2, ceil_mode=True)),
    "cropped-elsewhere": ("maker/grown", lambda x, a: grown(x, a, 0, 0)[:, :, 1:-2, 1:-2]),
    "no-output-padding": ("maker/grown", lambda x, a: F.pad(grown(x, a, 2, 0), (0, 1, 0, 1))),
    "bias-missing": ("critic/seen", partial(conv, bias=False)),
    "constant-added": ("critic/same", lambda x, a: conv(x, a) + drawn(8).view(-1, 1, 1)),
    "range-of-the-images": ("critic/seen", lambda x, a: conv((x + 1) / 2, a)),
    "red-and-blue-exchanged": ("critic/seen", lambda x, a: conv(x.flip(1), a)),
    "coarse-product": ("critic/same", lambda x, a: conv(
        x.bfloat16().float(), a, weight=a["weight"].bfloat16().float())),
    "coarse-weights": ("critic/same", lambda x, a: in_channel(
        conv(x, a), conv(x, a, weight=a["weight"].half().float()))),
    "channels-exchanged": ("critic/same", lambda x, a: conv(x, a)[:, [1, 0, *range(2, 8)]]),
    "scaled": ("critic/same", lambda x, a: in_channel(conv(x, a), conv(x, a) * 1.001)),
    "edge-repeated": ("maker/grown", lambda x, a: torch.cat(
        [grown(x, a)[:, :, :-1], grown(x, a)[:, :, -2:-1]], 2)),
    "bent": ("critic/same", lambda x, a: conv(x, a) + 1e-3 * conv(x, a) * conv(x, a).abs()),
    "another-epsilon": ("critic/bn", partial(bn, eps=1e-3)),
    "minibatch-statistics-in-evaluation": ("critic/bn", partial(bn, training=True)),
    "another-slope": ("critic/leaky", lambda x, a: F.leaky_relu(x, 0.01)),
    "another-activation": ("critic/sigmoid", lambda x, a: (torch.tanh(x) + 1) / 2),
    "clipped": ("maker/tanh", lambda x, a: torch.tanh(x).clamp(-0.5, 0.5)),
    "dropout": ("critic/leaky", lambda x, a: F.dropout(F.leaky_relu(x, SLOPE), 0.3)),
}


def case_of(name: str, port: Tensor, training: bool = False) -> tuple[Given, Case]:
    given, _, _ = given_of(name, training)
    return given, Case(port.double().numpy(), right(given))


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_layer_is_right(name):
    _, arrays, x = given_of(name)
    assert not case_of(name, RIGHT[name](x, arrays))[1].wrong


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_layer_is_called_by_its_name(name):
    where, compute = WRONG[name]
    _, arrays, x = given_of(where)
    given, case = case_of(where, compute(x, arrays))
    assert case.wrong
    found = first(case, [lambda: hypotheses(given, case)])
    assert found is not None and found.name == name
    assert found.mend and found.left < 0.1


def test_the_numbers_are_said():
    _, arrays, x = given_of("critic/bn")
    given, case = case_of("critic/bn", bn(x, arrays, eps=1e-3))
    found = first(case, [lambda: hypotheses(given, case)])
    assert found is not None and found.what == "epsilon is 0.001, CNTK's is 1e-05"
    assert found.mend == "eps=1e-05"


def test_in_training_the_running_statistics():
    _, arrays, x = given_of("critic/bn", True)
    given, case = case_of("critic/bn", bn(x, arrays), True)
    found = first(case, [lambda: hypotheses(given, case)])
    assert found is not None and found.name == "running-statistics-in-training"


@pytest.mark.parametrize("name", RIGHT)
def test_noise_is_explained_by_nothing(name):
    """A hypothesis has a number or two: it does not fit whatever comes."""
    _, arrays, x = given_of(name)
    made = RIGHT[name](x, arrays)
    given, case = case_of(name, made + 0.01 * made.std() * drawn(*made.shape, seed=7))
    assert case.wrong and first(case, [lambda: hypotheses(given, case)]) is None


def test_one_channel_alone_is_said():
    port = np.zeros((2, 4, 3, 3))
    port[:, 1] = 5
    one = mixed(Case(port, np.zeros_like(port)), Hypothesis("x", "it is", "", np.full_like(
        port, 5)), 1, "channel")
    assert one is not None and one.what == "it is, in channel 1 alone"
    assert mixed(Case(port, np.zeros_like(port)), Hypothesis("x", "", "", port + 9), 1, "c") is None


def test_words():
    assert [listed("channel", given) for given in ([], [3], [1, 2], range(9))] == [
        "no channel", "channel 3", "channels 1 and 2", "9 channels"]
    assert [nice(value) for value in (0.1, 0.09999999, 1 / 3, 0.000399920)] == [
        "0.1", "0.1", "0.3333", "0.0003999"]


# -------------------------------------------------------------------------------------- backwards


def test_backwards_as_pytorch():
    for name in ("critic/same", "maker/grown", "critic/bn", "critic/leaky", "maker/tanh"):
        given, arrays, x = given_of(name, True)
        learnt = {k: v.clone().requires_grad_() for k, v in arrays.items()}
        x = x.requires_grad_()
        compute = partial(bn, training=True) if name == "critic/bn" else RIGHT[name]
        y = compute(x, {k: v.detach() if k.startswith("running") else v
                        for k, v in learnt.items()})
        g = drawn(*y.shape, seed=5)
        y.backward(g)
        back = Back(given.layer, given.x, y.detach().double().numpy(), g.double().numpy(),
                    given.arrays, EPSILON, SLOPE)
        wanted = of_input(back)
        assert np.abs(x.grad.numpy() - wanted).max() < 2e-5 * np.abs(wanted).max(), name
        for quantity, value in of_parameters(back).items():
            got = learnt[quantity].grad.numpy()
            assert np.abs(got - value).max() < 2e-5 * np.abs(value).max(), (name, quantity)


@pytest.mark.parametrize("name, where, change", [
    ("slope-backwards", "critic/leaky", lambda b: b.g * np.where(b.x >= 0, 1, 0.25)),
    ("no-gradient", "critic/same", lambda b: 0 * b.x),
    ("gradient-scaled", "critic/same", lambda b: 0.999 * of_input(b)),
    ("statistics-as-constants", "critic/bn", lambda b: b.g * (b.arrays["scale"] / np.sqrt(
        b.x.var((0, 2, 3)) + EPSILON)).reshape(1, -1, 1, 1))])
def test_a_wrong_gradient_is_called_by_its_name(name, where, change):
    given, _, _ = given_of(where, True)
    y = right(given)
    back = Back(given.layer, given.x, y, drawn(*y.shape, seed=5).double().numpy(), given.arrays,
                EPSILON, SLOPE)
    case = Case(change(back), of_input(back))
    found = first(case, [lambda: backwards(back, case)])
    assert found is not None and found.name == name


P = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
Q = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)
LOSSES = {
    "mean-for-sum": lambda p, q: -(p.log() + (1 - q).log()).mean(),
    "loss-scaled": lambda p, q: -(p.log() + (1 - q).log()).sum() / 2,
    "branch-scaled": lambda p, q: -(2 * p.log() + (1 - q).log()).sum(),
    "label-smoothing": lambda p, q: F.binary_cross_entropy(
        p, torch.full_like(p, 0.9), reduction="sum") - (1 - q).log().sum(),
    "least-squares-loss": lambda p, q: ((p - 1) ** 2 + q ** 2).sum(),
    "labels-exchanged": lambda p, q: -((1 - p).log() + q.log()).sum(),
    "": lambda p, q: -(p.log() + (1 - q).log()).sum(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_called_by_its_name(name):
    p, q = P.clone().requires_grad_(), Q.clone().requires_grad_()
    LOSSES[name](p, q).backward()
    judged = [Judged("real", P.numpy(), p.grad.numpy(), True),
              Judged("fake", Q.numpy(), q.grad.numpy(), False)]
    held = [hypothesis.name for hypothesis, predicted in losses(judged, 3) if all(
        np.allclose(one.gradient, value, rtol=1e-6) for one, value in zip(judged, predicted,
                                                                          strict=True))]
    assert (held[0] if held else "") == name


# -------------------------------------------------------------------------------- optimizer's probe


def optimizer_named(make, samples: int = 3, mean: bool = False, clip: float = 0.0) -> list[str]:
    """What the settings are called that an optimizer of PyTorch's has on the probe."""
    return [one.name for one in optimizer_found(make, samples, mean, clip)]


def optimizer_found(make, samples: int = 3, mean: bool = False, clip: float = 0.0) -> list[Found]:
    start, gradients = probes.optimizer_probe(SimpleNamespace(seed=0, minibatch_size=samples))
    held = {name: nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    one, after = make(held.values()), {name: [] for name in held}
    for step in range(probes.OPTIMIZER_STEPS):
        for name, p in held.items():
            p.grad = torch.from_numpy(gradients[name][step]) / (samples if mean else 1)
        if clip:
            nn.utils.clip_grad_value_(held.values(), clip)
        one.step(**({"samples": samples} if isinstance(one, CNTKAdam) else {}))
        for name, p in held.items():
            after[name].append(p.detach().double().numpy().copy())
    probe = optimizer.probe_of({k: v.astype(float) for k, v in start.items()},
                               {k: [g.astype(float) for g in v] for k, v in gradients.items()},
                               after)
    found = optimizer.settings_of(probe, samples, False)
    if found is not None:
        return optimizer.mistakes(found[0], samples, False, found[1])
    other = optimizer.another(probe)
    return [other] if other else []


@pytest.mark.parametrize("options, names", [
    ({}, []), ({"momentum": 0.9}, ["momentum"]), ({"epsilon": 1e-7}, ["adams-epsilon"]),
    ({"clip_per_sample": float("inf")}, ["clipping"]), ({"lr": 3e-4}, ["learning-rate"]),
    ({"unit_gain": True}, ["learning-rate"]), ({"clip_with_truncation": False}, ["clipping"]),
    ({"momentum": 0.9, "epsilon": 1e-6}, ["momentum", "adams-epsilon"])])
def test_an_optimizer_is_called_by_its_settings(options, names):
    assert optimizer_named(lambda ps: CNTKAdam(ps, **{
        "lr": 1e-4, "clip_per_sample": 3.0, **options})) == names


def test_a_stock_adam():
    assert optimizer_named(lambda ps: torch.optim.Adam(ps, 2e-4, (0.5, 0.999)), mean=True) == [
        "learning-rate", "variance-momentum", "adams-epsilon", "clipping"]


@pytest.mark.parametrize("times, gain, said", [
    (2, False, ""), (2, True, "it is that without unit gain"), (0.5, False, "it is unit gain's"),
    (0.5, True, ""), (3, False, "it is not divided by the minibatch size")])
def test_a_learning_rate_that_is_unit_gains(times, gain, said):
    right = optimizer.cntks(3, gain)
    one, = optimizer.mistakes(replace(right, rate=times * right.rate), 3, gain)
    assert one.what == f"a step is {times:g} times CNTK's" + (f": {said}" if said else "")


def test_the_mends_of_clipping_and_epsilon_lead_there():
    clip, epsilon = (optimizer.mistakes(replace(optimizer.cntks(3, False), **change), 3, False)[0]
                     for change in ({"clip": optimizer.NONE}, {"where": optimizer.CORRECTED}))
    assert (clip.name, epsilon.name) == ("clipping", "adams-epsilon")
    assert "step()" in clip.mend and "`optimizers`" in clip.mend
    assert "does not come to AGREE" in epsilon.mend

    def hooked(parameters) -> torch.optim.Adam:
        held = list(parameters)
        adam = torch.optim.Adam(held, lr=1e-4 / 3 / 0.5, betas=(0.5, VARIANCE_MOMENTUM ** 3))
        adam.register_step_pre_hook(lambda *_: nn.utils.clip_grad_value_(held, 3) and None)
        return adam
    assert optimizer_named(hooked, mean=True) == ["adams-epsilon"]


def test_one_step_alone():
    """Of a parameter that was learnt before: its m, v and count are given."""
    random = np.random.RandomState(0)
    w, g, m, v = (random.standard_normal(40) * size for size in (0.02, 3, 3, 1e-5))
    right_one = optimizer.cntks(3, False)
    for rate, good in ((right_one.rate, True), (2 * right_one.rate, False)):
        probe = optimizer.probe_of({"p": w}, {"p": [g]}, {"p": [w]}, {"p": (m, v * v)}, 5)
        made = optimizer.step(probe, probe.start, 0, replace(right_one, rate=rate))
        after = replace(probe, after=[made.w.astype(np.float32).astype(float)])
        assert (optimizer.fits(after, right_one) <= 1) == good
        found = optimizer.settings_of(after, 3, False)
        assert found is not None
        assert [one.name for one in optimizer.mistakes(found[0], 3, False)] == (
            [] if good else ["learning-rate"])


@pytest.mark.parametrize("lr, decay", [(1e-4, 0.01), (2e-4, 0.05)])
def test_adamw(lr, decay):
    assert "weight-decay" in optimizer_named(lambda ps: torch.optim.AdamW(
        ps, lr, (0.5, 0.999), weight_decay=decay), mean=True)


@pytest.mark.parametrize("make, said", [
    (lambda ps: torch.optim.RMSprop(ps, 1e-4), "it is RMSprop (lr=0.0001, alpha=0.99)"),
    (lambda ps: torch.optim.RMSprop(ps, 5e-5, 0.9), "it is RMSprop (lr=5e-05, alpha=0.9)"),
    (lambda ps: torch.optim.SGD(ps, 1e-4), "times the summed gradient: SGD"),
    (lambda ps: torch.optim.SGD(ps, 1e-2, 0.9), "times the summed gradient: SGD"),
    (lambda ps: torch.optim.Rprop(ps, 1e-3), "sign of it")])
@pytest.mark.parametrize("mean", [False, True])
def test_another_optimizer(make, said, mean):
    found = optimizer_found(make, mean=mean)
    assert [one.name for one in found] == ["another-optimizer"] and said in found[0].what


# ------------------------------------------------------------------------------------- statistics


def behind(momentum: float, copied: bool, samples: int = 3) -> list[Found]:
    one = nn.BatchNorm2d(8, momentum=momentum).train()
    batches = [drawn(samples, 8, 4, 4, seed=i) * 2 + 1 for i in range(2)]
    after = []
    for i, x in enumerate(batches):
        one.momentum = 1.0 if copied and not i else momentum
        one(x)
        after.append({"running_mean": one.running_mean.double().numpy().copy(),
                      "running_variance": one.running_var.double().numpy().copy()})
    return statistics.from_the_first(
        [statistics.Minibatch.of(x.double().numpy()) for x in batches], after, 5000)


RIGHT_MOMENTUM = -np.expm1(-3 / 5000)


def test_statistics_from_the_first_minibatch_on():
    assert behind(RIGHT_MOMENTUM, True) == []
    assert [one.name for one in behind(0.1, True)] == ["momentum"]
    assert [one.name for one in behind(RIGHT_MOMENTUM, False)] == ["first-update"]
    both = behind(0.1, False)
    assert [one.name for one in both] == ["first-update", "momentum"]
    assert both[0].what.startswith("the first minibatch is blended into 0 and 1 by 0.1")
    assert "momentum=0.00059982" in both[1].mend


@pytest.mark.parametrize("name, passes, momentum", [
    ("", "ab", RIGHT_MOMENTUM), ("momentum", "ab", 0.1),
    ("one-pass-not-counted", "a", RIGHT_MOMENTUM), ("a-pass-too-many", "abb", RIGHT_MOMENTUM),
    ("statistics-frozen", "", RIGHT_MOMENTUM), ("order-of-the-branches", "ba", 0.0005998200)])
def test_statistics_of_a_step(name, passes, momentum):
    one = nn.BatchNorm2d(8, momentum=momentum).train()
    x = {"a": drawn(3, 8, 4, 4) * 300 + 9, "b": drawn(3, 8, 4, 4, seed=1)}
    before = {"running_mean": np.zeros(8), "running_variance": np.ones(8)}
    for each in passes:
        one(x[each])
    kept = statistics.Kept(before, {
        "running_mean": one.running_mean.double().numpy(),
        "running_variance": one.running_var.double().numpy()},
        {k: v.double().numpy() for k, v in x.items()}, 3, 5000, 7)
    assert [found.name for found in statistics.explained(kept)] == ([name] if name else [])


# -------------------------------------------------------------------------------- carried values


W = drawn(8, 8, 3, 3).double().numpy().astype(np.float32).astype(float) * 0.02


@pytest.mark.parametrize("name, value", [
    ("left-at-zero", 0 * W), ("coarse-values", np.float16(W).astype(float)),
    ("kernels-turned", W.swapaxes(2, 3)), ("axes-exchanged", W.swapaxes(0, 1)),
    ("another-array", W + 1), ("sign-turned", -W)])
def test_loaded_weights(name, value):
    found = values.loaded(values.Carried("a/b/weight", value, W, {"a/c/weight": W + 1}))
    assert found is not None and found.name == name


def test_one_value_and_none():
    value = W.copy()
    value[1, 2, 0, 0] += 1e-9
    found = values.loaded(values.Carried("a/b/weight", value, W, {}))
    assert found is not None and found.name == "single-values" and "[1, 2, 0, 0]" in found.what
    assert values.loaded(values.Carried("a/b/weight", W + drawn(*W.shape).numpy(), W, {})) is None


@pytest.mark.parametrize("name, value", [
    ("another-deviation", W * 7), ("truncated", np.clip(W, -0.04, 0.04)),
    ("stream-shifted", np.roll(W.ravel(), -1).reshape(W.shape)), ("left-at-zero", 0 * W),
    ("another-seed", 3 + drawn(8, 8, 3, 3, seed=4).double().numpy()),
    ("uniform-weights", np.random.RandomState(0).uniform(-0.1, 0.1, W.shape)),
    ("another-stream", drawn(8, 8, 3, 3, seed=9).double().numpy() * 0.02)])
def test_initial_weights(name, value):
    others = {"a/c/weight": 3 + drawn(8, 8, 3, 3, seed=4).double().numpy()}
    found = values.drawn(values.Carried("a/b/weight", value, W, others), 0.02)
    assert found is not None and found.name == name


def test_a_statistic_that_starts_elsewhere_is_filled():
    """Copying the first minibatch changes no start: it is no mend."""
    found = values.drawn(values.Carried("a/bn/running_variance", np.ones(8), np.zeros(8), {}), 0.02)
    assert found is not None and found.name == "another-start"
    assert "in `initialize`" in found.mend and "running_var.fill_(0)" in found.mend


# ------------------------------------------------------------------------------ pointwise, pattern


@pytest.mark.parametrize("name, compute", [
    ("clamp-of-the-log", lambda z: torch.where(z < 1e-37, -100.0, z.clamp(min=1e-37).log())),
    ("epsilon-in-the-log", lambda z: (z + 1e-8).clamp(min=1e-37).log())])
def test_a_logarithm(name, compute):
    points = probes.logarithms_probe().astype(float)
    z = torch.from_numpy(points).requires_grad_()
    y = compute(z)
    y.sum().backward()
    cntk = pointwise._log(points)
    found = pointwise.explained("log", points, (y.detach().numpy(), cntk), (
        z.grad.numpy(), np.exp(-cntk)), SLOPE)
    assert found is not None and found.name == name


def test_a_pattern_is_said():
    right_one = drawn(2, 8, 6, 6).double().numpy()
    for change, said in ((np.s_[:, 3], "channel 3"), (np.s_[1], "sample 1"),
                         (np.s_[:, :, -1], "the last row"), (np.s_[..., 0], "the first column")):
        port = right_one.copy()
        port[change] += 1
        text = described(port, right_one)
        assert said in text and "always above" in text
    assert "goes with the value" in described(right_one * 1.1, right_one)
    assert described(right_one, right_one) == "no value differs"
    assert "not finite" in described(right_one + np.inf, right_one)
    assert "its shape" in described(right_one[:1], right_one)
    noisy = right_one + 0.1 * drawn(2, 8, 6, 6, seed=3).double().numpy()
    assert "no pattern" in described(noisy, right_one) and is_noise(noisy, right_one)
    assert not is_noise(right_one * 1.1, right_one)
    assert not is_noise(right_one + 1e-7 * (noisy - right_one), right_one)


def test_one_mistake_in_many_places_is_one():
    noted = Noted(None)  # type: ignore[arg-type]
    for i in range(3):
        noted.add("forward/evaluation", f"maker/bn{i}/output",
                  Found("another-epsilon", f"epsilon is {i}", "eps=1e-05", "page"))
    noted.add("step", "after_d/x", Found("momentum", "it is 0.1", "momentum=0.0004"))
    noted.patterns.append(("step", "somewhere", "all differ"))
    epsilon, momentum, unknown = _merged(noted)
    assert epsilon.places == ("maker/bn0/output", "maker/bn1/output", "maker/bn2/output")
    assert epsilon.what == "epsilon is 0; 2 more alike, with their own numbers"
    assert (momentum.stage, momentum.name, unknown.name) == ("step", "momentum", "")


# ------------------------------------------------------------------------------- readers, pictures


def faces(count: int = 5, size: int = 40) -> dict[int, np.ndarray]:
    """Images of smooth spots, no two alike and none like its mirror image: uint8 H x W x 3."""
    small = drawn(count, 3, 5, 5, seed=3) * torch.tensor([20, 40, 70]).view(3, 1, 1)
    images = F.interpolate(small + torch.tensor([60, 120, 170]).view(3, 1, 1), size,
                           mode="bicubic").clamp(0, 255)
    return {i: image.permute(1, 2, 0).byte().numpy() for i, image in enumerate(images)}


FILES, ORDER, OTHER, SIDE = faces(), [2, 0, 4, 1, 3, 0, 2], [0, 3, 1, 2, 4, 4, 1], 28
PLACES = [divmod(k, 3) for k in range(len(ORDER))]


def read_as(order=ORDER, colour: bool = True, resize: str = "linear") -> np.ndarray:
    made = []
    for number, (step, place) in zip(order, PLACES, strict=True):
        image = FILES[number].astype(float)
        image = minibatches.coloured(image, place, step) if colour else image
        made.append(minibatches.resized(image, SIDE, SIDE, resize))
    return np.asarray(made, np.float32)


def pillow(images: np.ndarray) -> np.ndarray:
    resized = [Image.fromarray(FILES[i]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
               for i in OTHER]
    return np.asarray(resized, np.float32).transpose(0, 3, 1, 2)[:, ::-1] / 255


READERS = {
    "right": ((), lambda x: x),
    "channels": (("channels-reversed",), lambda x: x[:, ::-1]),
    "0 .. 1": (("range-of-the-minibatches",), lambda x: x / 255),
    "-1 .. 1, R, G, B": (("channels-reversed", "range-of-the-minibatches"),
                         lambda x: x[:, ::-1] / 127.5 - 1),
    "of each channel": (("range-of-the-minibatches",), lambda x: (
        x / 255 - np.float32([[[.4]], [[.5]], [[.6]]])) / np.float32([[[.2]], [[.3]], [[.25]]])),
    "mirrored": (("images-turned",), lambda x: x[..., ::-1]),
    "upside down": (("images-turned",), lambda x: x[:, :, ::-1]),
    "order": (("order-of-the-images",), lambda x: read_as(OTHER)),
    "order and channels": (("channels-reversed", "order-of-the-images"),
                           lambda x: read_as(OTHER)[:, ::-1]),
    "no colour": (("colour-missing",), lambda x: np.rint(read_as(colour=False))),
    "antialias": (("another-interpolation",), lambda x: read_as(resize="antialias")),
    "bytes": (("rounded-to-bytes",), np.rint),
    "cut": (("rounded-to-bytes",), np.floor),
    "Pillow": (("channels-reversed", "range-of-the-minibatches", "order-of-the-images",
                "colour-missing", "another-interpolation"), pillow),
    "noise": ((), lambda x: x + drawn(*x.shape).numpy())}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_is_called_by_its_mistakes(name):
    said, change = READERS[name]
    cntk = read_as()
    seen = minibatches.Seen(list(cntk), list(change(cntk)), PLACES, FILES)
    assert [one.name for one in minibatches.explained(seen)] == list(said)


@pytest.mark.parametrize("name", ["right", "channels", "0 .. 1", "mirrored", "bytes"])
def test_without_the_files_cntks_images_are_what_there_is(name):
    said, change = READERS[name]
    cntk = read_as()
    seen = minibatches.Seen(list(cntk), list(change(cntk)), PLACES, {})
    assert [one.name for one in minibatches.explained(seen)] == list(said)


def test_of_another_reader_the_pattern_is_said():
    cntk = read_as()
    for port, said in ((0.8 * cntk + 10, "with other brightness"), (cntk + 1, "but for details"),
                       (np.where(np.arange(7)[:, None, None, None] == 3, 0, cntk), "1 of 7")):
        assert said in minibatches.pattern(minibatches.Seen(list(cntk), list(port), PLACES, {}))


def test_the_stage_of_a_reader(tmp_path):
    """Layout and minibatches that are not full are seen before the images are; the images' files
    are those of the plan beside the captures."""
    cntk = read_as()[:6].reshape(2, 3, 3, SIDE, SIDE)

    def read(*port: np.ndarray) -> tuple[list[str], str]:
        sides = [Arrays(tmp_path / "side", {f"reader/probe/minibatch{i:02d}/images": one
                         for i, one in enumerate(side)}) for side in (cntk, port)]
        stage = Stage("reader", "", [Check("minibatch00/images", 1, 0, "", "")])
        _, found, pattern = minibatches.read(SimpleNamespace(cntk=sides[0], port=sides[1]), stage)
        return [one.name for one in found], pattern
    assert read(*cntk.transpose(0, 1, 3, 4, 2)) == (["layout"], "")
    assert read(cntk[0], cntk[1, :1]) == (["short-minibatches"], "")
    assert read(*cntk[:, :, ::-1]) == (["channels-reversed"], "")
    plain = read_as(colour=False)[:6].reshape(cntk.shape)
    assert "with other brightness" in read(*plain)[1]
    for number, image in FILES.items():
        Image.fromarray(image[..., ::-1]).save(tmp_path / f"{number}.bmp")
    (tmp_path / "map.txt").write_text("".join(f"{tmp_path / str(i)}.bmp\t0\n" for i in FILES))
    (tmp_path / "plan.json").write_text(json.dumps({"map_file": str(tmp_path / "map.txt")}))
    assert read(*plain) == (["colour-missing"], "")
    assert "are CNTK's, those of the plan" in read(*cntk)[1]


class Arrays(dict):
    def __init__(self, folder, arrays) -> None:
        super().__init__(arrays)
        self.folder = folder

    def names(self, prefix: str) -> list[str]:
        return [name.removeprefix(f"{prefix}/") for name in self]


def byte(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x), 0, 255)


@pytest.mark.parametrize("said, write", [
    (["channels-reversed"], lambda x: byte((x[::-1] + 1) * 127.5)),
    (["range-of-the-picture"], lambda x: byte(x * 127 + 127.5)),
    (["range-of-the-picture"], lambda x: byte(x * 255)),
    (["truncated"], lambda x: np.floor((x + 1) * 127.5)),
    (["channels-reversed", "truncated"], lambda x: np.floor((x[::-1] + 1) * 127.5)),
    (["images-turned"], lambda x: byte((x[..., ::-1] + 1) * 127.5)),
    ([], lambda x: byte((x + 1) * 127.5 + 9 * np.sin(np.arange(x.size)).reshape(x.shape)))])
def test_a_picture_is_called_by_its_mistakes(said, write):
    image = np.tanh(drawn(3, 24, 24, seed=5).numpy())
    found = minibatches.picture(image, write(image).transpose(1, 2, 0))
    assert [one.name for one in found] == said
