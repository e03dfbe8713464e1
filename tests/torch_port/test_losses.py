"""cntk_log, sigmoid, the rectifiers and the losses against real CNTK, at the edges and between."""
import io
import math
import warnings

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from torch_port import activations, losses

# How far a mistake has to be off to be called one: multiples of what a rounding does.
ONE_ROUNDING = 1.2e-7  # 2**-23
LOG_GRADIENT = 4e-6  # exp(-log z) from an output rounded to float32: half a unit of |log z| <= 88
LOSS = 4e-7
LOSS_GRADIENT = 2e-6


def port(run, name, function):
    x = torch.from_numpy(run[f"{name}/input"].copy()).requires_grad_()
    y = function(x)
    upstream = run.get(f"{name}/upstream")
    weights = torch.ones_like(x) if upstream is None else torch.from_numpy(upstream)
    (y * weights).sum().backward()
    return {"output": y.detach().numpy(), "gradient": x.grad.numpy()}


def farthest(run, name, got, quantity, where=slice(None)):
    """The largest relative distance from CNTK; values that are equal (or both NaN) are at 0."""
    theirs, ours = (np.asarray(a[where], dtype=np.float64)
                    for a in (run[f"{name}/{quantity}"], got[quantity]))
    same = (theirs == ours) | (np.isnan(theirs) & np.isnan(ours))
    with np.errstate(all="ignore"):
        apart = np.where(same, 0.0, np.abs(theirs - ours) / np.abs(theirs))
    return float(np.nan_to_num(apart, nan=np.inf).max())


def differing(run, name, got, quantity):
    """How many values are not CNTK's; NaN is NaN."""
    return int(np.sum((run[f"{name}/{quantity}"] != got[quantity])
                      & ~(np.isnan(got[quantity]) & np.isnan(run[f"{name}/{quantity}"]))))


def assert_same_bits(run, name, got):
    for quantity in ("output", "gradient"):
        assert got[quantity].dtype == np.float32
        assert differing(run, name, got, quantity) == 0, quantity


@pytest.fixture(scope="module")
def run(cntk):
    return cntk.run("losses.py")


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 5, 8, 16, 48])
def test_the_average_that_is_printed(run, samples):
    """All digits of 60 minibatches; of more than 2 samples a mean in float32 has not."""
    given, theirs = run[f"average/losses{samples}"], run[f"average/of{samples}"]
    assert [losses.minibatch_average(torch.from_numpy(part)) for part in given] == list(theirs)
    means = [float(torch.from_numpy(part).mean()) for part in given]
    assert (means == list(theirs)) == (samples <= 2)


@pytest.mark.parametrize("name", ["log", "log_upstream"])
def test_log(run, name):
    assert_same_bits(run, name, port(run, name, activations.cntk_log))


def test_log_is_clamped_exactly_where_cntk_clamps(run):
    z, got = run["log/input"], port(run, "log", activations.cntk_log)
    clamped = run["log/output"] == np.float32(-85.1)
    assert clamped.sum() > 5
    assert np.array_equal(clamped, got["output"] == np.float32(-85.1))
    assert np.array_equal(clamped, z < np.float32(1e-37))
    assert np.array_equal(run["log/gradient"][clamped], got["gradient"][clamped])


def test_sigmoid(run):
    got = port(run, "sigmoid", activations.sigmoid)
    assert_same_bits(run, "sigmoid", got)
    subnormal = (got["output"] > 0) & (got["output"] < np.finfo(np.float32).tiny)
    assert subnormal.sum() > 100


def test_tanh(run):
    assert_same_bits(run, "tanh", port(run, "tanh", activations.tanh))
    assert differing(run, "tanh", port(run, "tanh", torch.tanh), "output") > 1000  # PyTorch's own


@pytest.mark.parametrize("name, function", [
    ("leaky_relu", activations.leaky_relu), ("relu", activations.relu)])
def test_rectifiers(run, name, function):
    got = port(run, name, function)
    # CNTK's relu makes NaN of -inf and 0 of the smallest subnormal: no network gets there.
    normal = np.isfinite(run[f"{name}/input"]) & (np.abs(run[f"{name}/input"]) != 1e-45)
    for quantity in ("output", "gradient"):
        assert np.array_equal(run[f"{name}/{quantity}"][normal], got[quantity][normal])
    at_zero = run[f"{name}/input"] == 0
    assert at_zero.sum() >= 2
    assert (got["gradient"][at_zero] == (1 if name == "leaky_relu" else 0)).all()
    x = torch.tensor([float("nan")], requires_grad=True)
    function(x).sum().backward()
    assert x.grad.item() == (1 if name == "leaky_relu" else 0)


@pytest.mark.parametrize("name, loss", [
    ("loss_of_real", losses.generator_loss),
    ("loss_of_fake", lambda d: losses.discriminator_loss(torch.ones_like(d), d))])
def test_losses_from_the_logit_on(run, name, loss):
    got = port(run, name, lambda x: loss(activations.sigmoid(x)))
    assert_same_bits(run, name, got)
    # The clamp is a little off: -85.1 below 1e-37, whose log is -85.195, the largest loss there is.
    for largest in (got["output"].max(), run[f"{name}/output"].max()):
        assert 85.1 <= largest <= 85.196


def log_clamped_as_bce(z):
    return torch.clamp(torch.log(z), min=-100)


class OneOverZ(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return activations.cntk_log(z)

    @staticmethod
    def backward(ctx, upstream):
        return upstream / ctx.saved_tensors[0]


@pytest.mark.parametrize("name, function, quantity, bound", [
    ("log", log_clamped_as_bce, "output", ONE_ROUNDING),
    ("log", log_clamped_as_bce, "gradient", LOG_GRADIENT),
    ("log", OneOverZ.apply, "gradient", LOG_GRADIENT),
    ("leaky_relu", lambda x: F.leaky_relu(x, 0.2), "gradient", ONE_ROUNDING),
    ("leaky_relu", lambda x: activations.leaky_relu(x, 0.01), "output", ONE_ROUNDING),
    ("loss_of_real", F.softplus, "output", LOSS),
    ("loss_of_real", lambda x: F.softplus(-x), "gradient", LOSS_GRADIENT),
    ("loss_of_fake", F.softplus, "gradient", LOSS_GRADIENT),
    ("loss_of_real", lambda x: F.binary_cross_entropy(
        torch.sigmoid(x), torch.ones_like(x), reduction="none"), "output", LOSS),
])
def test_a_mistake_shows(run, name, function, quantity, bound):
    assert farthest(run, name, port(run, name, function), quantity) > 100 * bound


def test_exponentials_of_double_precision_show(run, monkeypatch):
    """Rounded from double they are nearer to the true values, and not CNTK's."""
    monkeypatch.setattr(activations, "_by_the_c_library",
                        lambda _, function, x: function(x.double()).to(x.dtype))
    assert differing(run, "log", port(run, "log", activations.cntk_log), "output") > 100
    assert differing(run, "sigmoid", port(run, "sigmoid", activations.sigmoid), "output") > 10


def test_a_sigmoid_that_flushes_subnormals_shows(run):
    def flushed(x):
        y = activations.sigmoid(x)
        return torch.where(y < torch.finfo(torch.float32).tiny, 0 * y, y)

    assert farthest(run, "sigmoid", port(run, "sigmoid", flushed), "output") == 1


def test_losses_are_per_sample_and_the_gradient_is_summed():
    d_real = torch.tensor([0.5, 0.25]).reshape(2, 1, 1, 1).requires_grad_()
    d_fake = torch.tensor([0.5, 0.75]).reshape(2, 1, 1, 1).requires_grad_()
    loss = losses.discriminator_loss(d_real, d_fake)
    torch.testing.assert_close(loss, torch.tensor([2 * math.log(2), 4 * math.log(2) / 1]))
    loss.sum().backward()
    torch.testing.assert_close(d_real.grad.flatten(), torch.tensor([-2.0, -4.0]))
    torch.testing.assert_close(d_fake.grad.flatten(), torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(losses.generator_loss(d_real), torch.tensor([2.0, 4.0]).log())


@pytest.mark.parametrize("function", [activations.cntk_log, activations.leaky_relu])
def test_float64_has_the_same_formulas(function):
    x = torch.linspace(0.1, 0.9, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,))
    assert activations.cntk_log(torch.zeros(1, dtype=torch.float64)).item() == -85.1


@pytest.mark.parametrize("function", [
    activations.relu, activations.leaky_relu, activations.sigmoid, activations.tanh])
def test_a_gradient_has_a_gradient(function):
    x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    (once,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
    (plain,) = torch.autograd.grad(function(x).square().sum(), x)
    assert torch.equal(once, plain)
    (twice,) = torch.autograd.grad(once.sum(), x)
    if function is activations.leaky_relu:
        torch.testing.assert_close(twice, torch.tensor([0.08, 2.0, 2.0]))


@pytest.mark.parametrize(("function", "exact", "slope", "saturated"), [
    (activations.sigmoid, torch.sigmoid, lambda y: y * (1 - y), 16.636),
    (activations.tanh, torch.tanh, lambda y: 1 - y * y, 9.1)])
def test_float64_saturates_as_float32_does(function, exact, slope, saturated):
    """The output is a float32 number next to the exact value, and the gradient is taken from it."""
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64, requires_grad=True)
    y = function(x)
    assert torch.equal(y, y.float().double())
    # Two roundings, of 1 + q and of the quotient, each half a unit: 2**-24 of 1, twice that of 0.5.
    assert ((y - exact(x)).abs() <= 2.0 ** -22 * exact(x).abs()).all()
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, slope(y.detach()), rtol=1e-15, atol=0)
    assert (gradient[x > saturated] == 0).all()
    assert (slope(exact(x.detach()))[x > saturated] > 0).any()  # twin: unrounded it is not


def test_they_export_as_one_node_each():
    class Tail(nn.Module):
        def forward(self, x):
            return activations.sigmoid(activations.leaky_relu(activations.relu(x)))

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(Tail().eval(), (torch.randn(2, 3),), file, opset_version=9, dynamo=False)
    nodes = [n.op_type for n in onnx.load_from_string(file.getvalue()).graph.node]
    assert nodes == ["Relu", "LeakyRelu", "Sigmoid"]


# For the documentation.

def behaviours(cntk):
    """What PyTorch's own losses and activations do instead, measured against real CNTK."""
    run = cntk.run("losses.py")

    def at(name, value, quantity, function):
        i = int(np.flatnonzero(run[f"{name}/input"] == np.float32(value))[0])
        return float(run[f"{name}/{quantity}"][i]), float(port(run, name, function)[quantity][i])

    def bce(x):
        return F.binary_cross_entropy(torch.sigmoid(x), torch.ones_like(x), reduction="none")

    rows = []
    for behaviour, theirs, ordinary, where in [
        ("log: D(G(z)) = 0", "clamped at -85.1", "binary_cross_entropy clamps at -100",
         ("loss_of_real", -1e30, "output", bce)),
        ("loss: gradient of -log(1 - D(G(z))) at logit 30", "0: the sigmoid is exactly 1",
         "softplus keeps it", ("loss_of_fake", 30, "gradient", F.softplus)),
        ("loss: gradient of -log D(G(z)) at logit -88", "fades out",
         "softplus keeps it", ("loss_of_real", -88, "gradient", lambda x: F.softplus(-x))),
        ("loss: gradient of -log D(G(z)) at logit -90", "exp keeps subnormals",
         "torch.sigmoid may flush them", ("loss_of_real", -90, "gradient",
                                          lambda x: -activations.cntk_log(torch.sigmoid(x)))),
        ("leaky ReLU: gradient at exactly 0", "1", "the slope",
         ("leaky_relu", 0, "gradient", lambda x: F.leaky_relu(x, 0.2))),
    ]:
        a, b = at(*where)
        rows.append({"behaviour": behaviour, "cntk": f"{theirs} ({a:.3g})",
                     "ordinary_pytorch": f"{ordinary} ({b:.3g})", "off_by": f"{abs(b - a):.3g}"})
    one = int(np.flatnonzero(run["log/input"] == 1)[0])
    z = torch.from_numpy(run["log/input"].copy()).requires_grad_()
    activations.cntk_log(z).mean().backward()
    factor = float(run["log/gradient"][one] / z.grad[one])
    rows.append({"behaviour": "gradient of a minibatch", "cntk": "summed over the samples",
                 "ordinary_pytorch": "averaged by the default reduction",
                 "off_by": f"{factor:.6g} times, with {len(z)} samples"})
    given, theirs = run["average/losses4"], run["average/of4"]
    means = np.array([float(torch.from_numpy(part).mean()) for part in given])
    rows.append({"behaviour": "the average that is printed, of 4 samples",
                 "cntk": "added in double, rounded to float32, divided in double",
                 "ordinary_pytorch": "mean() in float32",
                 "off_by": f"another last digit in {np.mean(means != theirs):.0%} of the "
                           "minibatches"})
    return rows


def test_behaviours_are_measured(cntk):
    assert len(behaviours(cntk)) == 7
