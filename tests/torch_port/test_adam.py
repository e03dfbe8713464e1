"""CNTKAdam against real CNTK, bit for bit, and the mistakes that the comparison catches."""
import io
import math

import numpy as np
import pytest
import torch

from torch_port import adam
from torch_port.adam import CNTKAdam

# Without truncation CNTK adds the squares up in float32, so its norm may differ from the float64
# one in the last digits. Measured over 100 steps: 2.8e-6 of a parameter's largest movement.
NORM_CLIPPING = 1e-5


def start(run):
    return {name.partition("/")[2]: torch.nn.Parameter(torch.from_numpy(value.copy()))
            for name, value in run.items() if name.startswith("initial/")}


def feed(parameters, run, step):
    for name, p in parameters.items():
        p.grad = torch.from_numpy(run[f"gradient/{name}"][step]).to(p.dtype)


def port(run, samples, make=CNTKAdam, step=None, dtype=torch.float32, **options):
    """The parameters after the run's gradients, by the optimizer that ``make`` gives."""
    parameters = start(run)
    for p in parameters.values():
        p.data = p.data.to(dtype)
    optimizer = make(parameters.values(), **options)
    for i in range(len(run["gradient/matrix"])):
        feed(parameters, run, i)
        if step is None:
            optimizer.step(samples=samples)
        else:
            step(optimizer)
    return {name: p.detach().numpy() for name, p in parameters.items()}


def differing(run, got):
    """How many parameter values are not CNTK's own bits."""
    steps = len(run["gradient/matrix"])
    return sum(int((run[f"{steps}/{name}"].view(np.int32) != value.view(np.int32)).sum())
               for name, value in got.items())


def movement_apart(run, got, name="matrix"):
    """Distance to CNTK's final values, relative to how far CNTK moved: both root mean squares."""
    final = run[f"{len(run['gradient/matrix'])}/{name}"].astype(np.float64)
    moved = final - run[f"initial/{name}"]
    return float(np.sqrt(np.mean((got[name] - final) ** 2) / np.mean(moved ** 2)))


@pytest.mark.parametrize("samples, unit_gain, clip", [
    (1, False, math.inf), (4, True, math.inf), (16, False, math.inf), (16, True, math.inf),
    (1, True, 0.1), (4, False, 0.1), (16, True, 0.1),
    (16, False, 16.0),  # the article's
])
def test_300_steps_have_cntks_bits(cntk, samples, unit_gain, clip):
    arguments = [] if clip == math.inf else [f"clip={clip}"]
    run = cntk.run("adam.py", "300", str(samples), f"unit_gain={int(unit_gain)}", *arguments)
    if clip == 16:  # rarely active: some gradients beyond the threshold, most within
        assert 0 < np.mean(np.abs(run["gradient/scalar"]) > clip * samples) < 1
    assert differing(run, port(run, samples, unit_gain=unit_gain, clip_per_sample=clip)) == 0


@pytest.mark.parametrize("samples, arguments, options", [
    (4, ["minibatch_size=16"], {"minibatch_size": 16}),
    (3, ["minibatch_size=16", "unit_gain=1"], {"minibatch_size": 16, "unit_gain": True}),
    (4, ["minibatch_size=1", "clip=.1"], {"minibatch_size": 1, "clip_per_sample": 0.1}),
    (3, ["minibatch_size=0"], {"minibatch_size": 0}),
    (3, ["minibatch_size=0", "clip=.3"], {"minibatch_size": 0, "clip_per_sample": 0.3}),
    (4, ["momentum=.9"], {"momentum": 0.9}),
    (4, ["momentum=0", "lr=.1"], {"momentum": 0.0, "lr": 0.1}),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_learning_rate_rules_have_cntks_bits(cntk, samples, arguments, options):
    run = cntk.run("adam.py", "50", str(samples), *arguments)
    assert differing(run, port(run, samples, **options)) == 0


class TextbookEpsilon(CNTKAdam):
    """On the corrected v."""
    def epsilon(self, group, b2):
        return group["epsilon"] * math.sqrt(1 - b2 ** group["minibatches"])


class Undivided(CNTKAdam):
    def rate(self, group, samples):
        return group["lr"]


class ClippedAsIfOneSample(CNTKAdam):
    def threshold(self, group, samples):
        return group["clip_per_sample"]


class Beta2PerMinibatch(CNTKAdam):
    def variance_momentum(self, group, samples):
        return group["variance_momentum"]


class CountsEachParameter(CNTKAdam):
    def _update_parameter(self, p, truncate, k):
        super()._update_parameter(p, truncate, k)
        self.param_groups[0]["minibatches"] += 1


class Beta2InDouble(CNTKAdam):
    """1 - b2 from the double: right in the fifth digit only."""
    def coefficients(self, group, samples, dtype):
        k = super().coefficients(group, samples, dtype)
        return adam.Coefficients(**{**vars(k), "b2": self.variance_momentum(group, samples)})


@pytest.mark.parametrize("mistake, options", [
    (TextbookEpsilon, {}), (Undivided, {}), (ClippedAsIfOneSample, {}), (Beta2PerMinibatch, {}),
    (CountsEachParameter, {}), (Beta2InDouble, {}), (CNTKAdam, {"variance_momentum": 0.999}),
    (CNTKAdam, {"unit_gain": True}), (CNTKAdam, {"clip_with_truncation": False}),
    (CNTKAdam, {"minibatch_size": 0}), (CNTKAdam, {"momentum": 0.5 + 1e-6}),
], ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_mistake_shows(cntk, mistake, options):
    run = cntk.run("adam.py", "100", "16", "clip=.1")
    assert differing(run, port(run, 16, mistake, **{"clip_per_sample": 0.1, **options})) > 500


def test_a_momentum_taken_as_per_minibatch_shows(cntk):
    class PlainMomentum(CNTKAdam):
        def momentum(self, group, samples):
            return group["momentum"]

    run = cntk.run("adam.py", "50", "4", "minibatch_size=16")
    assert differing(run, port(run, 4, PlainMomentum, minibatch_size=16)) > 1000


def test_a_learning_rate_of_0_stops_the_counter_too(cntk):
    run = cntk.run("adam.py", "50", "4", "still=5")

    def after_a_pause(still, make=CNTKAdam):
        parameters = start(run)
        optimizer = make(parameters.values(), still)
        for i in range(-5, 50):
            if i < 0:
                for p in parameters.values():
                    p.grad = torch.full_like(p, 4)
            else:
                optimizer.param_groups[0]["lr"] = 1e-4
                feed(parameters, run, i)
            optimizer.step(samples=4)
        return {name: p.detach().numpy() for name, p in parameters.items()}

    assert differing(run, after_a_pause(0.0)) == 0
    assert differing(run, after_a_pause(1e-30)) > 1000  # the same, had the counter gone on


@pytest.mark.parametrize("arguments, options", [
    ([], {}), (["minibatch_size=0"], {"minibatch_size": 0})], ids=["sum", "mean"])
def test_clipping_by_norm_follows_cntk(cntk, arguments, options):
    run = cntk.run("adam.py", "100", "4", "clip=1", "truncate=0", *arguments)
    options = {"clip_per_sample": 1.0, **options}
    by_norm = port(run, 4, clip_with_truncation=False, **options)
    truncated = port(run, 4, **options)
    for name, value in by_norm.items():
        moved = np.abs(run[f"100/{name}"] - run[f"initial/{name}"]).max()
        if moved:  # gradients of 1e-20 move nothing
            assert np.abs(value - run[f"100/{name}"]).max() < NORM_CLIPPING * moved, name
    assert movement_apart(run, truncated) > 100 * NORM_CLIPPING


def test_torchs_adam_does_not_have_cntks_bits(cntk):
    run = cntk.run("adam.py", "300", "16", "unit_gain=1")
    got = port(run, 16, torch.optim.Adam, lambda optimizer: optimizer.step(), lr=1e-4 / 16,
               betas=(0.5, 0.9999986111120757 ** 16))
    assert differing(run, got) > 1000
    assert 1e-5 < movement_apart(run, got) < 1e-3  # close, but another optimizer


# The optimizer by itself.

def two_parameters(dtype=torch.float32):
    random = torch.Generator().manual_seed(1)
    made = [torch.nn.Parameter(torch.randn(shape, generator=random).to(dtype))
            for shape in [(5, 4, 3, 3), (7,)]]
    for p in made:
        p.grad = torch.randn(p.shape, generator=random).to(dtype)
    return made


def steps(optimizer, count=3):
    for _ in range(count):
        optimizer.step(samples=4)


def test_float64_is_the_formula_in_float64():
    parameters = two_parameters(torch.float64)
    w, g = parameters[0].detach().numpy().copy(), parameters[0].grad.numpy()
    m, v = np.zeros_like(w), np.zeros_like(w)
    b2 = 0.9999986111120757 ** 4
    steps(CNTKAdam(parameters, 1e-3))
    for c in (1, 2, 3):
        v = b2 * v + (1 - b2) * g * g
        m = 0.5 * m + g
        w = w - m * (np.sqrt(1 - b2 ** c) / (1 - 0.5 ** c) / (np.sqrt(v) + 1e-8)) * (1e-3 / 4)
    np.testing.assert_allclose(parameters[0].detach().numpy(), w, rtol=1e-13)


@pytest.mark.parametrize("clip", [math.inf, 0.1])
def test_chunks_and_layouts_do_not_change_a_bit(monkeypatch, clip):
    whole = two_parameters()
    steps(CNTKAdam(whole, clip_per_sample=clip))
    monkeypatch.setattr(adam, "CHUNK", 16)
    for weight, gradient in [(torch.contiguous_format, torch.contiguous_format),
                             (torch.channels_last, torch.channels_last),
                             (torch.channels_last, torch.contiguous_format)]:
        parts = two_parameters()
        parts[0].data = parts[0].data.to(memory_format=weight)
        parts[0].grad = parts[0].grad.contiguous(memory_format=gradient)
        steps(CNTKAdam(parts, clip_per_sample=clip))
        for a, b in zip(whole, parts, strict=True):
            assert torch.equal(a, b)
    strided = two_parameters()
    spread = torch.empty(5, 4, 3, 6)[..., ::2]
    spread.copy_(strided[0].data)
    strided[0] = torch.nn.Parameter(spread)
    strided[0].grad = two_parameters()[0].grad
    assert not strided[0].is_contiguous()
    steps(CNTKAdam(strided, clip_per_sample=clip))
    assert torch.equal(strided[0], whole[0])


@pytest.mark.parametrize("unit_gain", [False, True])
def test_c_and_pytorch_take_the_same_steps(unit_gain):
    """Side by side in C and one operation after another in PyTorch, which a GPU has: every value,
    tiny, infinite and NaN ones among them."""
    values = torch.randn(2, 5000, generator=torch.Generator().manual_seed(1)) * torch.logspace(
        -44, 30, 5000)
    values[0, ::500] = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan] * 2)
    made = []
    for layout in (torch.clone, lambda t: t.repeat_interleave(2)[::2]):  # not dense: PyTorch's
        p = torch.nn.Parameter(layout(values[1]))
        optimizer = CNTKAdam([p], momentum=0.5, unit_gain=unit_gain)
        for _ in range(3):
            p.grad = layout(values[0])
            optimizer.step(samples=3)
        made.append([p.detach(), *optimizer.state[p].values()])
    assert not made[1][0].is_contiguous()
    for a, b in zip(*made, strict=True):
        assert a.numpy().tobytes() == b.contiguous().numpy().tobytes()


def test_moments_follow_a_parameter_that_is_laid_out_anew():
    """They were updated in a copy that was lost."""
    made = []
    for changed in (False, True):
        parameters = two_parameters()
        p = parameters[0]
        optimizer = CNTKAdam(parameters, 1e-2)
        steps(optimizer, 2)
        if changed:
            p.data = p.data.to(memory_format=torch.channels_last)
        steps(optimizer, 3)
        made.append([p.detach(), *optimizer.state[p].values()])
    for a, b in zip(*made, strict=True):
        assert torch.equal(a, b)


def test_moments_of_double_are_not_read_as_float32():
    parameters = two_parameters(torch.float64)
    optimizer = CNTKAdam(parameters, 1e-2)
    steps(optimizer, 2)
    for p in parameters:
        g, p.grad = p.grad, None
        p.data = p.data.float()
        p.grad = g.float()
    before = {p: optimizer.state[p]["m"].float() for p in parameters}
    steps(optimizer, 1)
    for p in parameters:
        torch.testing.assert_close(optimizer.state[p]["m"], 0.5 * before[p] + p.grad)


def test_bfloat16_parameters_move():
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    p.grad = torch.tensor([1.0, -2.0, 0.0], dtype=torch.bfloat16)
    CNTKAdam([p], 0.1).step(samples=1)
    assert p[0] < 1 < p[1] and p[2] == 1


def test_the_gradient_is_left_alone():
    parameters = two_parameters()
    before = [p.grad.clone() for p in parameters]
    for options in ({}, {"minibatch_size": 0}, {"clip_with_truncation": False}):
        steps(CNTKAdam(parameters, clip_per_sample=0.1, **options))
    assert all(torch.equal(p.grad, g) for p, g in zip(parameters, before, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_saved_run_goes_on_as_if_never_stopped(layout):
    unbroken = two_parameters()
    steps(CNTKAdam(unbroken, 1e-2), 5)

    stopped = two_parameters()
    optimizer = CNTKAdam(stopped, 1e-2)
    steps(optimizer, 2)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = two_parameters()
    for p, q in zip(resumed, stopped, strict=True):
        p.data = q.data.clone()
    resumed[0].data = resumed[0].data.to(memory_format=layout)
    optimizer = CNTKAdam(resumed, 1.0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))
    assert optimizer.param_groups[0]["minibatches"] == 2
    steps(optimizer, 3)
    for p, q in zip(unbroken, resumed, strict=True):
        assert torch.equal(p, q)

    for key in ("m", "v"):  # the twin: a state not restored shows
        forgetful = CNTKAdam(stopped, 1e-2)
        forgetful.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
        forgetful.state[stopped[0]][key].zero_()
        before = stopped[0].detach().clone()
        steps(forgetful, 3)
        assert not torch.equal(stopped[0], unbroken[0])
        stopped[0].data = before


def spoilt(change):
    parameters = two_parameters()
    optimizer = CNTKAdam(parameters)
    steps(optimizer)
    state = optimizer.state_dict()
    state = {"state": {k: dict(v) for k, v in state["state"].items()},
             "param_groups": [dict(group) for group in state["param_groups"]]}
    change(state)
    return state


def set_m(state):
    state["state"][1]["m"] = torch.zeros(8)


@pytest.mark.parametrize("change, says", [
    (set_m, r"group 0, parameter 1: 'm' has shape \(8,\), the parameter has \(7,\); load the"),
    (lambda s: s["state"][0].pop("v"), "parameter 0: no 'v'"),
    (lambda s: s.pop("state"), "no 'state'"),
    (lambda s: s["param_groups"].clear(), "0 parameter groups, the optimizer has 1"),
    (lambda s: s["param_groups"][0].pop("minibatches"), "no minibatches, so it is not a CNTKAdam"),
    (lambda s: s["param_groups"][0]["params"].pop(), "group 0: 1 parameters, the optimizer has 2"),
])
def test_a_state_that_does_not_fit_is_refused_whole(change, says):
    optimizer = CNTKAdam(two_parameters())
    steps(optimizer, 1)
    before = io.BytesIO()
    torch.save(optimizer.state_dict(), before)
    with pytest.raises(ValueError, match=says):
        optimizer.load_state_dict(spoilt(change))
    after = io.BytesIO()
    torch.save(optimizer.state_dict(), after)
    assert before.getvalue() == after.getvalue()


@pytest.mark.parametrize("options, says", [
    ({"lr": -1}, "lr -1"), ({"momentum": 1.0}, "momentum 1.0"),
    ({"minibatch_size": -2}, "minibatch_size -2"), ({"clip_per_sample": 0}, "clip_per_sample 0"),
])
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        CNTKAdam(two_parameters(), **options)


def test_a_step_says_what_it_needs():
    optimizer = CNTKAdam(two_parameters())
    with pytest.raises(ValueError, match="samples is 0"):
        optimizer.step(samples=0)
    with pytest.raises(ValueError, match="takes no closure"):
        optimizer.step(lambda: None, samples=1)


# For the documentation.

def behaviours(cntk):
    """What an ordinary torch.optim.Adam does instead, measured against real CNTK."""
    rows = []

    def row(behaviour, theirs, ordinary, samples, arguments, options, name="matrix", clip=None,
            step_count="300"):
        run = cntk.run("adam.py", step_count, str(samples), *arguments)

        def step(optimizer):
            if clip is not None:
                torch.nn.utils.clip_grad_value_(optimizer.param_groups[0]["params"], clip)
            optimizer.step()

        got = port(run, samples, torch.optim.Adam, step, **options)
        initial = run[f"initial/{name}"].astype(np.float64)
        mine, yours = got[name] - initial, run[f"{step_count}/{name}"] - initial
        size = float(np.sqrt(np.mean(mine ** 2) / np.mean(yours ** 2)))
        rows.append({
            "behaviour": behaviour, "cntk": theirs, "ordinary_pytorch": ordinary,
            "off_by": f"{100 * (size - 1):+.4g} % of the movement in {step_count} step(s); "
                      f"distance {movement_apart(run, got, name):.2g} of it"})

    b2 = 0.9999986111120757 ** 16
    row("Adam: learning rate", "lr / N for a plain float", "lr as it is", 16,
        ["unit_gain=1"], {"lr": 1e-4, "betas": (0.5, b2)})
    row("Adam: variance momentum", "0.9999986111120757 ** N", "0.999", 16,
        ["unit_gain=1"], {"lr": 1e-4 / 16, "betas": (0.5, 0.999)})
    row("Adam: unit_gain=False", "gradient not scaled by 1 - momentum", "always scaled", 16,
        ["unit_gain=0"], {"lr": 1e-4 / 16, "betas": (0.5, b2)})
    row("Adam: epsilon, gradients of 1e-9", "added to the root of the uncorrected v",
        "added to the root of the corrected v", 16, ["unit_gain=1"],
        {"lr": 1e-4 / 16, "betas": (0.5, b2)}, name="tiny")
    row("Adam: gradient clipping at 0.1", "sum over the minibatch clamped at 0.1 * N",
        "clip_grad_value_(0.1)", 16, ["unit_gain=1", "clip=0.1"],
        {"lr": 1e-4 / 16, "betas": (0.5, b2)}, clip=0.1)
    row("Adam: 1 - beta2, first step", "1 - float32(beta2)", "1 - beta2 in double", 1,
        ["unit_gain=1"], {"lr": 1e-4, "betas": (0.5, 0.9999986111120757)}, step_count="1")
    row("Adam: all settings translated", "float32 products in CNTK's order",
        "lr / N, beta2 ** N, unit gain", 16, ["unit_gain=1"],
        {"lr": 1e-4 / 16, "betas": (0.5, b2)})
    return rows


def test_behaviours_are_measured(cntk):
    rows = behaviours(cntk)
    assert len(rows) == 7
    assert all("nan" not in row["off_by"] and "inf" not in row["off_by"] for row in rows)
