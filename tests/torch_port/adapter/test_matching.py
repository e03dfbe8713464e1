"""Variations of one small network: each is matched rightly, or refused with a question; never
wrongly. Rightly: with known weights put in, every layer gives what the plain network's layer gives.
"""
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captures.spec import (
    CONVOLUTION,
    LEAKY_RELU,
    NORMALISATION,
    RELU,
    SIGMOID,
    TANH,
    TRANSPOSED,
    Layer,
    network,
)
from torch_port.adapter.load import Functional
from torch_port.adapter.network import MatchingError, UserNetwork, match

# Two layers of equal shape (conv2, conv3), one without normalisation.
CRITIC = network("critic", (3, 16, 16), [
    Layer("conv1", CONVOLUTION, 8, 3, 2, True, True), Layer("act1", LEAKY_RELU),
    Layer("conv2", CONVOLUTION, 8, 3, 1, True), Layer("norm2", NORMALISATION),
    Layer("act2", LEAKY_RELU),
    Layer("conv3", CONVOLUTION, 8, 3, 1, True), Layer("norm3", NORMALISATION),
    Layer("act3", LEAKY_RELU),
    Layer("conv4", CONVOLUTION, 1, 8, 1, False, True), Layer("act4", SIGMOID)])
MAKER = network("maker", (5,), [
    Layer("up1", TRANSPOSED, 6, 4, 1), Layer("norm1", NORMALISATION), Layer("act1", RELU),
    Layer("up2", TRANSPOSED, 3, 5, 2, True, True), Layer("act2", TANH)])


class Plain(nn.Module):
    """The reference: with the spec's own names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 8, 3, 1, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(8)
        self.conv4 = nn.Conv2d(8, 1, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv1(x), 0.2)
        x = F.leaky_relu(self.norm2(self.conv2(x)), 0.2)
        x = F.leaky_relu(self.norm3(self.conv3(x)), 0.2)
        return torch.sigmoid(self.conv4(x))


class Reordered(nn.Module):
    """Constructed last to first, under other names."""

    def __init__(self) -> None:
        super().__init__()
        self.d = nn.Conv2d(8, 1, 8)
        self.c_bn, self.c = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, 1, 1, bias=False)
        self.b_bn, self.b = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, 1, 1, bias=False)
        self.a = nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.a(x), 0.2, inplace=True)
        x = F.leaky_relu(self.b_bn(self.b(x)), 0.2, inplace=True)
        x = F.leaky_relu(self.c_bn(self.c(x)), 0.2, inplace=True)
        return self.d(x).sigmoid().view(-1)


class Called(nn.Module):
    """F.batch_norm of tensors with names that say nothing, or another thing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.var, self.weight = (nn.Parameter(torch.full((channels,), v)) for v in (1.0, 0.0))
        self.register_buffer("a", torch.zeros(channels))
        self.register_buffer("b", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.a, self.b, weight=self.var, bias=self.weight,
                            training=self.training)


class Lying(nn.Module):
    """A normalisation of one's own, whose names say another thing than it does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.full((channels,), v)) for v in (0.0, 1.0))
        self.register_buffer("running_var", torch.zeros(channels))
        self.register_buffer("running_mean", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_var, self.running_mean
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), False)
            self.running_var.copy_(mean.detach())
            self.running_mean.copy_(variance.detach())
        mean, variance, scale, bias = (
            one[:, None, None] for one in (mean, variance, self.bias, self.weight))
        return (x - mean) / (variance + 1e-5).sqrt() * scale + bias


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


class Viewed(nn.Module):
    """A convolution's weight in a layout of one's own."""

    def __init__(self, shape: tuple[int, ...], view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.w, self.view = nn.Parameter(torch.randn(shape)), view

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.view(self.w), padding=1)


class Block(nn.Module):
    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), norm(8), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Own(nn.Module):
    """A normalisation of one's own, with names of one's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("moving_mean", torch.zeros(channels))
        self.register_buffer("moving_var", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)) if self.training else (
            self.moving_mean, self.moving_var)
        y = (x - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + 1e-5).sqrt()
        return y * self.gamma.view(1, -1, 1, 1) + self.beta.view(1, -1, 1, 1)


class OwnActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)


class Hidden(torch.autograd.Function):
    """A convolution that no function of PyTorch shows."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return torch.nn.functional.conv2d(x, weight, padding=1)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return (torch.nn.grad.conv2d_input(x.shape, weight, g, padding=1),
                torch.nn.grad.conv2d_weight(x, weight.shape, g, padding=1))


class OwnConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 8, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return Hidden.apply(x, self.kernel)


class BiasApart(nn.Module):
    """The bias is a parameter of its own, added behind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.shift = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shift.view(1, -1, 1, 1)


def sequential(*middle: nn.Module, first: nn.Module | None = None, last: nn.Module | None = None,
               activation: Callable[[], nn.Module] = lambda: nn.LeakyReLU(0.2)) -> nn.Sequential:
    return nn.Sequential(first or nn.Conv2d(3, 8, 3, 2, 1), activation(), *middle,
                         last or nn.Sequential(nn.Conv2d(8, 1, 8), nn.Sigmoid()))


def functional() -> nn.Module:
    weights = {"a.w": torch.randn(8, 3, 3, 3, requires_grad=True),
               "a.b": torch.zeros(8, requires_grad=True),
               "d.w": torch.randn(1, 8, 8, 8, requires_grad=True),
               "d.b": torch.zeros(1, requires_grad=True)}
    for layer in "bc":
        weights.update({f"{layer}.w": torch.randn(8, 8, 3, 3, requires_grad=True),
                        f"{layer}.gamma": torch.ones(8, requires_grad=True),
                        f"{layer}.beta": torch.zeros(8, requires_grad=True),
                        f"{layer}.mean": torch.zeros(8), f"{layer}.var": torch.ones(8)})

    def forward(p: dict[str, Tensor], x: Tensor) -> Tensor:
        x = F.leaky_relu(F.conv2d(x, p["a.w"], p["a.b"], 2, 1), 0.2)
        for layer in "bc":
            x = F.conv2d(x, p[f"{layer}.w"], padding=1)
            x = F.batch_norm(x, p[f"{layer}.mean"], p[f"{layer}.var"], p[f"{layer}.gamma"],
                             p[f"{layer}.beta"], False)
            x = F.leaky_relu(x, 0.2)
        return torch.sigmoid(F.conv2d(x, p["d.w"], p["d.b"]))

    return Functional(forward, weights)


MATCHED = {
    "plain": Plain,
    "reordered and renamed, in place": Reordered,
    "sequential": lambda: sequential(Block(), Block()),
    "a normalisation of one's own": lambda: sequential(Block(Own), Block(Own)),
    "a normalisation of one's own, whose names are wrong": lambda: sequential(
        Block(Lying), Block(Own)),
    "activations of one's own": lambda: sequential(
        nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), OwnActivation(),
        nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), OwnActivation(),
        activation=OwnActivation),
    "a convolution of one's own": lambda: sequential(
        nn.Sequential(OwnConvolution(), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)), Block()),
    "the bias apart": lambda: sequential(Block(), Block(), first=BiasApart()),
    "functional": functional,
    "wrapped": lambda: nn.DataParallel(sequential(Block(), Block())),
    "a padding in front": lambda: sequential(nn.Sequential(
        nn.ZeroPad2d(1), nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)),
        Block()),
    "dropout between": lambda: sequential(Block(), nn.Dropout(0.0), Block()),
    "identities between": lambda: sequential(nn.Identity(), Block(), nn.Identity(), Block()),
    "logits": lambda: sequential(Block(), Block(), last=nn.Conv2d(8, 1, 8)),
    "flattened": lambda: nn.Sequential(sequential(Block(), Block()), nn.Flatten(0)),
    "a bias too many": lambda: sequential(
        nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), Block()),
    "the functions of a normalisation, whatever its tensors are called": lambda: sequential(
        Block(Called), Block(Called)),
    **{f"weights {name}": partial(lambda *given: sequential(nn.Sequential(
        Viewed(*given), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)), Block()), shape, view)
       for name, shape, view in (
           ("as H x W x in x out", (3, 3, 8, 8), lambda w: w.permute(3, 2, 0, 1)),
           ("turned", (8, 8, 3, 3), lambda w: w.transpose(2, 3)),
           ("in and out exchanged", (8, 8, 3, 3), lambda w: w.transpose(0, 1)),
           ("in one row", (576,), lambda w: w.view(8, 8, 3, 3)))},
    "batch normalisation without tracking of minibatches": lambda: _untracked(),
}


def _untracked() -> nn.Module:
    made = sequential(Block(), Block())
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = None
    return made


class Twice(nn.Module):
    """One block, called twice: its weights are shared."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.block, self.last = nn.Conv2d(3, 8, 3, 2, 1), Block(), nn.Conv2d(8, 1, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(x), 0.2)
        return torch.sigmoid(self.last(self.block(self.block(x))))


class TwoMeans(Own):
    """Two tensors that may both be the running mean."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("ema_mean", torch.zeros(channels))


REFUSED = {
    "a layer too few": (lambda: sequential(Block()), "4 convolutions"),
    "a layer too many": (lambda: sequential(Block(), Block(), Block()), "4 convolutions"),
    "another stride": (lambda: sequential(Block(), Block(), first=nn.Conv2d(3, 8, 3, 1, 1)),
                       "conv1 is a convolution|does not run"),
    "spectral norm": (lambda: sequential(Block(), Block(), first=nn.utils.parametrizations.
                                         spectral_norm(nn.Conv2d(3, 8, 3, 2, 1))),
                      "computed while the network runs"),
    "shared weights": (Twice, "which another layer has already"),
    "two that may be the mean": (lambda: sequential(Block(TwoMeans), Block(Own)),
                                 "may be .* or .*: say which"),
    "no bias where CNTK has one": (
        lambda: sequential(Block(), Block(), first=nn.Conv2d(3, 8, 3, 2, 1, bias=False)),
        "bias is not there"),
    "a parameter too many": (lambda: sequential(nn.Sequential(Block(), nn.PReLU()), Block()),
                             "is no weight of CNTK's|may be"),
    "no normalisation": (lambda: sequential(
        nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.LeakyReLU(0.2), Block()), "was not found"),
    "two results": (lambda: nn.Sequential(Plain(), Pair()), "gives a tuple, not a tensor"),
    "too few numbers": (lambda: nn.Sequential(Plain(), nn.Flatten(0), Mean()),
                        r"gives \(\) of torch.float32, where CNTK's gives \(2, 1, 1, 1\)"),
    "float64": (lambda: Plain().double(), "weights are torch.float64: give them in torch.float32"),
    "groups": (lambda: sequential(nn.Sequential(
        nn.Conv2d(8, 8, 3, 1, 1, bias=False, groups=2), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)),
        Block()), r"conv2/weight is \(8, 8, 3, 3\) in CNTK, .* goes in as \(8, 4, 3, 3\)"),
    "another kernel of the same output": (lambda: sequential(Block(), Block(), first=nn.Conv2d(
        3, 8, 4, 2, 1)), r"conv1/weight is .* goes in as \(8, 3, 4, 4\)"),
    "a part of a tensor": (lambda: sequential(nn.Sequential(
        Viewed((2, 8, 8, 3, 3), lambda w: w[0]), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)), Block()),
        "conv2/weight is computed while"),
    "torch.jit": (lambda: torch.jit.script(Block()), "is a program of torch.jit"),
    "another input": (lambda: nn.Sequential(nn.Linear(3, 3), Plain()), "does not run"),
}


def values(seed: int, spec=CRITIC) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in spec.arrays.items():
        value = torch.randn(shape, generator=random) * 0.3
        if name.endswith(("scale", "running_variance")):
            value = value.abs() + 0.5
        made[name] = torch.tensor(7) if name.endswith("sample_count") else value
    return made


def outputs(module: nn.Module, spec=CRITIC) -> dict[str, Tensor]:
    """Every layer's output with the weights of ``values``, in evaluation mode."""
    made: dict[str, Tensor] = {}
    x = torch.randn(2, *spec.input, generator=torch.Generator().manual_seed(9))
    user = UserNetwork(match(module, spec, x), lambda t: t, lambda t: t)
    user.load({name: value.numpy() for name, value in values(3, spec).items()})
    user.eval()

    def each(name: str, h: Tensor) -> Tensor:
        made[name] = h.detach().clone()
        return h

    with torch.no_grad():
        made["network"] = user(x, each)
    return made


@pytest.mark.parametrize("name", MATCHED)
def test_matched_rightly(name):
    plain, theirs = outputs(Plain()), outputs(MATCHED[name]())
    assert set(plain) == set(theirs)
    for layer, h in theirs.items():
        assert torch.allclose(h, plain[layer], rtol=1e-5, atol=1e-5), layer  # float32, 4 layers


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_question(name):
    make, said = REFUSED[name]
    with pytest.raises(MatchingError, match=said):
        outputs(make())


def test_weights_of_two_layers_swapped_would_show():
    """That what ``test_matched_rightly`` compares can differ: two layers of equal shape."""
    module = Reordered()
    module.b, module.c = module.c, module.b
    right = outputs(module)
    module.forward = lambda x: right["network"]  # type: ignore[method-assign]
    matched = match(Reordered(), CRITIC, torch.zeros(2, 3, 16, 16))
    held = dict(matched.held)
    held["critic/conv2/weight"], held["critic/conv3/weight"] = (
        held["critic/conv3/weight"], held["critic/conv2/weight"])
    matched.held = held
    user = UserNetwork(matched, lambda t: t, lambda t: t).eval()
    user.load({name: value.numpy() for name, value in values(3).items()})
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    assert not torch.allclose(user(x).ravel(), right["network"].ravel(), atol=1e-4)


def test_a_mapping_overrules():
    module = sequential(Block(TwoMeans), Block(Own))
    path = next(name for name, _ in module.named_buffers() if name.endswith("ema_mean"))
    matched = match(module, CRITIC, torch.zeros(2, 3, 16, 16),
                    {"critic/norm2/running_mean": path})
    assert matched.held["critic/norm2/running_mean"].path == path
    with pytest.raises(MatchingError, match="which the critic has not"):
        match(module, CRITIC, torch.zeros(2, 3, 16, 16), {"critic/norm2/running_mean": "none"})
    with pytest.raises(MatchingError, match=r"of \(8, 3, 3, 3\); CNTK's is \(8,\)"):
        match(module, CRITIC, torch.zeros(2, 3, 16, 16),
              {"critic/norm2/running_mean": "0.weight"})


@pytest.mark.parametrize("bgr", [True, False])
def test_a_maker_and_the_order_of_its_channels(bgr):
    """With R, G, B the last layer's weights are turned, and so is what is shown of it."""
    def made() -> nn.Module:
        return nn.Sequential(nn.Unflatten(1, (5, 1, 1)), nn.ConvTranspose2d(5, 6, 4, bias=False),
                             nn.BatchNorm2d(6), nn.ReLU(),
                             nn.ConvTranspose2d(6, 3, 5, 2, 2, 1), nn.Tanh())
    z = torch.randn(2, 5)
    shown = {}
    for order in (True, bgr):
        user = UserNetwork(match(made(), MAKER, z, bgr=order), lambda t: t,
                           lambda t, order=order: t if order else t.flip(1), order).eval()
        user.load({name: value.numpy() for name, value in values(4, MAKER).items()})

        def each(name: str, h: Tensor, order: bool = order) -> Tensor:
            shown[name, order] = h.detach()
            return h

        with torch.no_grad():
            shown["network", order] = user(z, each)
    for name in ("up1", "norm1", "act1", "up2", "act2", "network"):
        assert torch.allclose(shown[name, True], shown[name, bgr], atol=1e-6), name


@pytest.mark.parametrize("ends", ["tanh", "sigmoid"])
def test_a_maker_of_images_in_another_range(ends):
    """A sigmoid of 2 x is a tanh, taken to 0 .. 1: what is compared is the image, taken back."""
    class Ends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (torch.tanh(x) + 1) / 2 if ends == "tanh" else torch.sigmoid(2 * x)

    module = nn.Sequential(nn.Unflatten(1, (5, 1, 1)), nn.ConvTranspose2d(5, 6, 4, bias=False),
                           nn.BatchNorm2d(6), nn.ReLU(), nn.ConvTranspose2d(6, 3, 5, 2, 2, 1),
                           Ends())
    z, shown = torch.randn(2, 5), {}
    user = UserNetwork(match(module, MAKER, z), lambda t: t, lambda t: 2 * t - 1)

    def each(name: str, h: Tensor) -> Tensor:
        shown[name] = h.detach()
        return h

    out = user(z, each)
    assert torch.allclose(shown["act2"], torch.tanh(shown["up2"]), atol=1e-6)
    assert torch.allclose(shown["act2"], out, atol=1e-6)


def test_gradients_in_cntks_layout():
    x = torch.randn(2, 3, 16, 16)
    user = UserNetwork(match(Reordered(), CRITIC, x), lambda t: t, lambda t: t)
    user(x).sum().backward()
    assert {name: value.shape for name, value in user.gradients().items()} == dict(
        CRITIC.parameters)
