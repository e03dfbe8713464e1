"""BatchNormalization against real CNTK: bit for bit in float32 on the CPU."""
import io
import math
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from torch_port import batch_norm, native
from torch_port.batch_norm import BatchNormalization

UPDATES = 6  # minibatches of 4, 4, 2, 1, 7 and 16 samples
STATISTICS = ("running_mean", "running_variance")
TIME_CONSTANTS = ["5000", "5", "0", "inf", "-1"]


def rms(a):
    return float(np.sqrt(np.mean(np.square(np.asarray(a, dtype=np.float64)))))


class Reference:
    """The formulas in NumPy and float64."""

    def __init__(self, time_constant):
        self.T, self.count, self.running_mean, self.running_variance = time_constant, 0, 0.0, 0.0

    def __call__(self, x):
        x = x.astype(np.float64)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        N, n = len(x), x.size // x.shape[1]
        if self.count == 0 or self.T == 0:
            a = 1.0
        else:
            a = N / (N + self.count) if self.T < 0 else 1 - math.exp(-N / self.T)
        self.running_mean = (1 - a) * self.running_mean + a * mean
        self.running_variance = (1 - a) * self.running_variance + a * variance * n / (n - 1)
        self.count += N
        return (x - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)


def errors(run, time_constant, layer):
    """RMS error against float64 over all updates, of CNTK and of the layer, by quantity."""
    reference = Reference(time_constant)
    apart = {name: ([], []) for name in ("output", *STATISTICS)}
    counts = []
    for i in range(UPDATES):
        true = {"output": reference(run[f"{i}/input"])}
        got = {"output": layer(torch.from_numpy(run[f"{i}/input"])).detach().numpy()}
        for name in STATISTICS:
            true[name], got[name] = getattr(reference, name), getattr(layer, name).numpy()
        for name, (theirs, ours) in apart.items():
            theirs.append(rms(run[f"{i}/{name}"] - true[name]))
            ours.append(rms(got[name] - true[name]))
        counts.append((int(run[f"{i}/sample_count"]), int(layer.sample_count)))
    return {name: (rms(theirs), rms(ours)) for name, (theirs, ours) in apart.items()}, counts


def differing(got, true):
    """How many values are not CNTK's, to the last bit."""
    assert got.shape == true.shape and got.dtype == true.dtype == np.float32
    return int(np.sum((got != true) & ~(np.isnan(got) & np.isnan(true))))


@pytest.mark.parametrize("time_constant", TIME_CONSTANTS)
def test_outputs_and_statistics_have_cntks_bits(cntk, time_constant):
    run = cntk.run("batch_norm.py", "updates", time_constant)
    layer = BatchNormalization(7, float(time_constant))
    for i, count in enumerate((4, 8, 10, 11, 18, 34)):
        output = layer(torch.from_numpy(run[f"{i}/input"]))
        assert differing(output.detach().numpy(), run[f"{i}/output"]) == 0, i
        for name in STATISTICS:
            assert differing(getattr(layer, name).numpy(), run[f"{i}/{name}"]) == 0, (i, name)
        assert layer.sample_count == run[f"{i}/sample_count"] == count
    output = layer.eval()(torch.from_numpy(run[f"{UPDATES - 1}/input"]))
    assert differing(output.detach().numpy(), run["evaluation/output"]) == 0


QUANTITIES = ("output", *STATISTICS, "gradient/input", "gradient/scale", "gradient/bias",
              "evaluation/output")
CASES = 9  # SHAPES of the probe


def of_case(run, i, layer=BatchNormalization, change=lambda x: x):
    """What the layer makes of one of the probe's cases, under the probe's names."""
    case = {name.split("/", 1)[1]: torch.from_numpy(value) for name, value in run.items()
            if name.startswith(f"{i}/")}
    made = layer(len(case["scale"]))
    with torch.no_grad():
        made.scale.copy_(case["scale"]), made.bias.copy_(case["bias"])
    x = change(case["input"]).requires_grad_()
    y = made(x)
    y.backward(change(case["upstream"]))
    got = {"output": y.detach(), **{name: getattr(made, name) for name in STATISTICS},
           "gradient/input": x.grad, "gradient/scale": made.scale.grad,
           "gradient/bias": made.bias.grad}
    got["evaluation/output"] = made.eval()(x).detach()
    with torch.no_grad():
        assert torch.equal(made(x), got["evaluation/output"])
    return {name: value.numpy() for name, value in got.items()}


def differing_in_all_cases(run, **changes):
    """By quantity, over all cases."""
    made = [of_case(run, i, **changes) for i in range(CASES)]
    return {name: sum(differing(case[name], run[f"{i}/{name}"]) for i, case in enumerate(made))
            for name in QUANTITIES}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("theirs", [1, 2])
@pytest.mark.parametrize("ours", [1, 2, 3])
def test_every_quantity_has_cntks_bits(cntk, threads, monkeypatch, theirs, ours):
    """Outputs, statistics, gradients and evaluation; whatever the threads on either side."""
    run = cntk.run("batch_norm.py", "cases", str(theirs))
    threads(ours)
    monkeypatch.setattr(batch_norm, "VALUES_PER_THREAD", 1)
    assert differing_in_all_cases(run) == dict.fromkeys(QUANTITIES, 0)


def test_a_compiler_without_vectors_changes_no_bit(cntk, tmp_path, monkeypatch):
    source = native.BATCH_NORM.read_text(encoding="ascii")
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-DPLAIN*) exec cc "$@" ;; esac\n'
                        'echo no vectors >&2; exit 1\n')
    compiler.chmod(0o755)
    with pytest.raises(native.CompilerError, match="no vectors"):
        native.compiled(source, tmp_path, str(compiler), native.BATCH_NORM)
    plain = native.compiled(source, tmp_path, str(compiler), native.BATCH_NORM, ("-DPLAIN",))
    monkeypatch.setattr(batch_norm, "batch_norm_library", lambda: plain)
    assert differing_in_all_cases(cntk.run("batch_norm.py", "cases", "1")) == dict.fromkeys(
        QUANTITIES, 0)


def test_statistics_that_never_move_stay_whatever_comes():
    layer = BatchNormalization(2, time_constant=math.inf)
    layer(torch.randn(2, 2, 3, 3))
    before = [getattr(layer, name).clone() for name in ("running_mean", "running_variance")]
    layer(torch.full((2, 2, 3, 3), math.inf))
    assert all(torch.equal(a, b) for a, b in zip(
        before, (layer.running_mean, layer.running_variance), strict=True))


def test_another_layout_in_memory_changes_nothing(cntk):
    run = cntk.run("batch_norm.py", "cases", "2")
    got = differing_in_all_cases(run, change=lambda x: x.clone(memory_format=torch.channels_last))
    assert got == dict.fromkeys(QUANTITIES, 0)


class SumsInDouble(BatchNormalization):
    """PyTorch's own kernel."""
    def _rounds_as_cntk(self, x):
        return False


def test_sums_in_double_show(cntk):
    apart = differing_in_all_cases(cntk.run("batch_norm.py", "cases", "2"), layer=SumsInDouble)
    assert all(apart.values()), apart


MISTAKES = {
    "columns one after the other": (
        "shape.columns & ~(size_t)1", "0", {*QUANTITIES}),
    "the sum so far among the odd columns": (
        "both[k] = (pair){sum[k], 0.0f};", "both[k] = (pair){0.0f, sum[k]};", {*QUANTITIES}),
    "mean by a factor": ("mean[k] /= values", "mean[k] *= 1.0f / values",
                         {*QUANTITIES} - {"gradient/bias"}),
    "variance by a factor": ("variance[k] /= values", "variance[k] *= 1.0f / values",
                             {*QUANTITIES} - {"gradient/bias", "running_mean"}),
    "scale over deviation": ("scale[k] * (1.0f / sqrtf(variance[k] + epsilon))",
                             "scale[k] / sqrtf(variance[k] + epsilon)", {"output"}),
    "root in double": ("scale[k] * (1.0f / sqrtf(variance[k] + epsilon))",
                       "scale[k] * (float)(1.0 / sqrt(variance[k] + epsilon))", {"output"}),
    "epsilon in double": ("scale[k] * (1.0f / sqrtf(variance[k] + epsilon))",
                          "scale[k] * (1.0f / (float)sqrt(variance[k] + 1e-5))", {"output"}),
    "scale last": ("factor * (in[i] - centre) + shift",
                   "scale[k] * ((in[i] - centre) * (factor / scale[k])) + shift", {"output"}),
    "mean in the shift": ("factor * (in[i] - centre) + shift",
                          "factor * in[i] + (shift - factor * centre)", {"output"}),
    "inverse deviation kept": ("1.0f / sqrtf(again + epsilon)", "kept",
                               {"gradient/input", "gradient/scale"}),
    "inverse deviation kept from double": (
        "kept = 1.0f / sqrtf(variance[k] + epsilon)",
        "kept = (float)(1.0 / sqrt(variance[k] + epsilon))", {"gradient/input", "gradient/scale"}),
    "scale's gradient over deviation": (
        "scale_gradient[k] *= inverse[k - c]", "scale_gradient[k] /= sqrtf(again + epsilon)",
        {"gradient/input", "gradient/scale"}),
    "n divides the slope": ("(in[i] - centre) * slope / values",
                            "(in[i] - centre) * (slope / values)", {"gradient/input"}),
    "the means of g together": (
        "((upstream[i] - g_mean) - (in[i] - centre) * slope / values)",
        "(upstream[i] - (g_mean + (in[i] - centre) * slope / values))", {"gradient/input"}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_another_arithmetic_shows(cntk, monkeypatch, mistake):
    """Each edit of the C source, in exactly the quantities that it touches."""
    old, new, touched = MISTAKES[mistake]
    source = native.BATCH_NORM.read_text(encoding="ascii")
    assert source.count(old) == 1
    edited = native.compiled(source.replace(old, new), of=native.BATCH_NORM)
    monkeypatch.setattr(batch_norm, "batch_norm_library", lambda: edited)
    apart = differing_in_all_cases(cntk.run("batch_norm.py", "cases", "2"))
    assert {name for name, count in apart.items() if count} == touched, apart


@pytest.mark.parametrize("time_constant", TIME_CONSTANTS)
def test_the_running_update_has_cntks_bits(cntk, time_constant):
    """From CNTK's own statistics of each minibatch, which T = 0 shows, its own running ones."""
    batch = cntk.run("batch_norm.py", "updates", "0")
    run = cntk.run("batch_norm.py", "updates", time_constant)
    layer = BatchNormalization(7, float(time_constant))
    for i in range(UPDATES):
        shape = run[f"{i}/input"].shape
        layer._update_statistics(*(torch.from_numpy(batch[f"{i}/{name}"]) for name in STATISTICS),
                                 samples=shape[0], values=shape[0] * 30)
        for name in STATISTICS:
            assert np.array_equal(getattr(layer, name).numpy(), run[f"{i}/{name}"]), (i, name)


class BiasedVariance(BatchNormalization):
    @staticmethod
    def variance_kept(unbiased_variance, values):
        return unbiased_variance * (values - 1) / values


class StartValuesKept(BatchNormalization):
    """No factor of 1 on the first update."""
    def update_factor(self, samples):
        return -math.expm1(-samples / self.time_constant)


class FactorOfPixels(BatchNormalization):
    def update_factor(self, samples):
        return super().update_factor(samples * 30)


class FixedFactor(BatchNormalization):
    """PyTorch's momentum."""
    def update_factor(self, samples):
        return 0.1 if self.sample_count else 1.0


class Lerp(BatchNormalization):
    """run + a * (batch - run): the same formula, rounded otherwise."""
    def _update_statistics(self, mean, unbiased_variance, samples, values):
        a = self.update_factor(samples)
        self.running_mean.add_((mean - self.running_mean) * a)
        self.running_variance.add_((unbiased_variance - self.running_variance) * a)
        self.sample_count += samples


@pytest.mark.parametrize("mistake", [BiasedVariance, StartValuesKept, FactorOfPixels, FixedFactor])
def test_a_mistake_shows(cntk, mistake):
    run = cntk.run("batch_norm.py", "updates", "5000")
    apart, _ = errors(run, 5000.0, mistake(7))
    theirs, ours = apart["running_variance"]
    assert ours > 1000 * theirs


def test_another_order_of_the_update_shows(cntk):
    with pytest.raises(AssertionError):
        batch = cntk.run("batch_norm.py", "updates", "0")
        run = cntk.run("batch_norm.py", "updates", "5")
        layer = Lerp(7, 5.0)
        for i in range(UPDATES):
            layer._update_statistics(
                *(torch.from_numpy(batch[f"{i}/{name}"]) for name in STATISTICS),
                samples=len(run[f"{i}/input"]), values=30 * len(run[f"{i}/input"]))
            for name in STATISTICS:
                assert np.array_equal(getattr(layer, name).numpy(), run[f"{i}/{name}"])


def after_updates(run, layer):
    for i in range(UPDATES):
        layer(torch.from_numpy(run[f"{i}/input"]).to(layer.scale.dtype))
    return layer


def test_evaluation_uses_running_statistics_and_changes_nothing(cntk):
    run = cntk.run("batch_norm.py", "updates", "5000")
    assert run["evaluation/sample_count"] == run[f"{UPDATES - 1}/sample_count"]
    layer = after_updates(run, BatchNormalization(7)).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.from_numpy(run[f"{UPDATES - 1}/input"])
    assert differing(layer(x).detach().numpy(), run["evaluation/output"]) == 0
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    # The twins: PyTorch's order of roundings shows, and so do the minibatch's own statistics.
    with torch.no_grad():
        rounded = SumsInDouble(7).eval()
        rounded.load_state_dict(before)
        assert differing(rounded(x).numpy(), run["evaluation/output"]) > 0
        wrong = layer.train()(x).numpy()
    assert rms(wrong - run["evaluation/output"]) > 0.01


def test_gradients_in_evaluation_mode_are_pytorchs():
    layer = BatchNormalization(2).eval()
    layer.running_variance += 2
    x = torch.randn(3, 2, 2, 2, requires_grad=True, generator=torch.Generator().manual_seed(2))
    of = [x, layer.scale, layer.bias]
    ours = torch.autograd.grad(layer(x).square().sum(), of)
    theirs = torch.autograd.grad(layer.double()(x.double()).square().sum(), of)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.float())


def gradients(run, layer, change=lambda y: y):
    dtype = layer.scale.dtype
    with torch.no_grad():
        layer.scale.copy_(torch.from_numpy(run["scale"]))
        layer.bias.copy_(torch.from_numpy(run["bias"]))
    x = torch.from_numpy(run["input"]).to(dtype).requires_grad_()
    (change(layer(x)) * torch.from_numpy(run["upstream"]).to(dtype)).sum().backward()
    return {"input": x.grad.numpy(), "scale": layer.scale.grad.numpy(),
            "bias": layer.bias.grad.numpy()}


def test_gradients_have_cntks_bits_and_float64s_value(cntk):
    run = cntk.run("batch_norm.py", "gradients")
    true = gradients(run, BatchNormalization(7).double())
    ours = gradients(run, BatchNormalization(7))
    for name, value in true.items():
        assert rms(run[f"gradient/{name}"] - value) < 1e-5 * rms(value), name
        assert differing(ours[name], run[f"gradient/{name}"].reshape(ours[name].shape)) == 0, name


def test_statistics_held_constant_in_the_gradient_show(cntk):
    class HeldConstant(BatchNormalization):
        def forward(self, x):
            mean, variance = x.detach().mean((0, 2, 3)), x.detach().var((0, 2, 3), unbiased=False)
            return nn.functional.batch_norm(x, mean, variance, self.scale, self.bias, False, 0.0,
                                            self.epsilon)

    run = cntk.run("batch_norm.py", "gradients")
    true = gradients(run, BatchNormalization(7).double())["input"]
    wrong = gradients(run, HeldConstant(7))["input"]
    assert rms(wrong - true) > 1000 * rms(run["gradient/input"] - true)


def test_gradients_are_those_of_finite_differences():
    layer = BatchNormalization(2).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True,
                    generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(layer, (x,))


def test_one_value_per_channel_gives_cntks_nan_variance(cntk):
    run = cntk.run("batch_norm.py", "single")
    layer = BatchNormalization(7)
    layer(torch.from_numpy(run["input"]))
    for name in STATISTICS:
        np.testing.assert_array_equal(getattr(layer, name).numpy(), run[name])
    assert np.isnan(run["running_variance"]).all()


def test_another_number_of_channels_is_refused():
    for layer in (BatchNormalization(3), BatchNormalization(3).eval()):
        for channels in (1, 2, 4):
            with pytest.raises(RuntimeError, match="should contain"):
                layer(torch.randn(4, channels, 2, 2))


def test_a_layer_shared_by_two_branches_updates_twice():
    layer = BatchNormalization(3)
    real, fake = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2) + 5
    layer(real), layer(fake)
    assert layer.sample_count == 8
    a = -math.expm1(-4 / 5000)
    expected = (1 - a) * real.mean((0, 2, 3)) + a * fake.mean((0, 2, 3))
    torch.testing.assert_close(layer.running_mean, expected)


def test_casts_keep_the_count():
    layer = BatchNormalization(3)
    layer.sample_count += 2 ** 24 + 1  # not a float32
    assert layer.double().float().half().sample_count == 2 ** 24 + 1


def test_state_survives_saving():
    layer = BatchNormalization(3)
    layer(torch.randn(4, 3, 2, 2))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    again = BatchNormalization(3)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert all(torch.equal(a, b) for a, b in
               zip(layer.state_dict().values(), again.state_dict().values(), strict=True))


def test_it_exports_as_one_batch_normalization_node():
    layer = BatchNormalization(3).eval()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(nn.Sequential(nn.ReLU(), layer), (torch.randn(2, 3, 4, 4),), file,
                          opset_version=9, dynamo=False)
    nodes = [n.op_type for n in onnx.load_from_string(file.getvalue()).graph.node]
    assert [n for n in nodes if n != "Identity"] == ["Relu", "BatchNormalization"]


# For the documentation.

def behaviours(cntk):
    """What nn.BatchNorm2d does instead, measured against real CNTK."""
    run = cntk.run("batch_norm.py", "updates", "5000")

    def apart(layer, i, name="running_var", theirs="running_variance"):
        for k in range(i + 1):
            layer(torch.from_numpy(run[f"{k}/input"]))
        true = run[f"{i}/{theirs}"]
        return 100 * rms(getattr(layer, name).numpy() - true) / rms(true)

    last = UPDATES - 1
    x = torch.from_numpy(run["0/input"])
    with torch.no_grad():
        untrained = float((BatchNormalization(7).eval()(x) / nn.BatchNorm2d(7).eval()(x)).mean())
    first_is_copied = nn.BatchNorm2d(7, momentum=-math.expm1(-4 / 5000))
    fixed = nn.BatchNorm2d(7, momentum=0.1)
    return [
        {"behaviour": "BN: first update", "cntk": "copies the batch's statistics",
         "ordinary_pytorch": "blends them with 0 and 1",
         "off_by": f"running variance {apart(first_is_copied, 0):.3g} %"},
        {"behaviour": "BN: factor", "cntk": "1 - exp(-N / 5000), N in samples",
         "ordinary_pytorch": "momentum 0.1",
         "off_by": f"running variance {apart(fixed, last):.3g} % after {UPDATES} minibatches"},
        {"behaviour": "BN: running variance before training", "cntk": "0", "ordinary_pytorch": "1",
         "off_by": f"evaluation {untrained:.1f} times as large in CNTK"},
        {"behaviour": "BN: sums over a map of 4 x 64 x 64", "cntk": "in float32",
         "ordinary_pytorch": "in double on the CPU", "off_by": _sums(cntk)},
    ]


def _sums(cntk):
    run = cntk.run("batch_norm.py", "network")
    true = Reference(5000)(run["input"])
    ours = nn.BatchNorm2d(16)(torch.from_numpy(run["input"])).detach().numpy()
    return (f"output's RMS error {rms(run['output'] - true):.2g} in CNTK, "
            f"{rms(ours - true):.2g} in PyTorch")


def test_behaviours_are_measured(cntk):
    rows = behaviours(cntk)
    assert len(rows) == 4
    assert all("nan" not in row["off_by"] for row in rows)
