"""Mistakes of a user's, as lines at the end of examples/sequential/mended.py, and what the
diagnosis has to say of each. Two of different kinds go together."""
from typing import NamedTuple

BEFORE = '''

import math
import torch
from torch import nn
from torch.nn import functional as F
from torch_port.translate.batch_norm import FirstCopied


def change(name, of):
    """Has the adapter's function of that name give ``of(network)``, or the network it changed."""
    make = globals()[name]

    def made():
        network = make()
        return of(network) or network
    globals()[name] = made


def each(kind, of, which=slice(None), networks=("generator", "discriminator")):
    """of(layer) for each layer of that kind; what it gives takes the layer's place."""
    def changed(network):
        for i in [i for i, m in enumerate(network) if isinstance(m, kind)][which]:
            network[i] = of(network[i]) or network[i]
    for name in networks:
        change(name, changed)


def settings(**values):
    return lambda layer: layer.__dict__.update(values)
'''


class Mistake(NamedTuple):
    """said: a regular expression for the diagnosis's name."""

    kind: str
    said: str
    lines: str


STEP = '''
def d_step(generator, discriminator, optimizer, x, z):
    with torch.no_grad():
        fake = generator(z)
    loss = {loss}
    optimizer.zero_grad()
    loss.backward()
    {between}
    optimizer.step()
    {behind}
'''


def step(loss: str = "d_loss(discriminator(x), discriminator(fake))", between: str = "pass",
         behind: str = "pass") -> str:
    return STEP.format(loss=loss, between=between, behind=behind)


def adam(options: str, of: str = "network.parameters()") -> str:
    return ("def optimizers(g, d, minibatch_size):\n    return tuple(CNTKAdamOfMeans("
            f"{of}, minibatch_size, {options}) for network in (g, d))\n")


NORM, SHAPE, BENT, LOSS, ADAM, BETWEEN = (
    "normalisation", "geometry", "activation", "loss", "optimizer", "step")
CRITIC = 'networks=("discriminator",)'
MISTAKES = {
    "momentum-0.1": Mistake(NORM, "momentum", (
        "each(nn.BatchNorm2d, settings(time_constant=None, momentum=0.1))")),
    "momentum-0.01-in-one-layer": Mistake(NORM, "momentum", (
        "each(nn.BatchNorm2d, settings(time_constant=None, momentum=0.01), slice(2, 3))")),
    "first-minibatch-blended": Mistake(NORM, "first-update", '''
def blended(layer):
    layer.__class__ = nn.BatchNorm2d
    layer.momentum = -math.expm1(-3 / 5000)
each(nn.BatchNorm2d, blended)'''),
    "variance-biased": Mistake(NORM, "biased-variance", '''
class Biased(FirstCopied):
    def forward(self, x):
        before = None if self.running_var is None else self.running_var.clone()
        y = super().forward(x)
        if self.training:
            n = x.numel() // x.shape[1]
            a = 1.0 if int(self.num_batches_tracked) == 1 else -math.expm1(-len(x) / 5000)
            kept = before * (1 - a)
            self.running_var.copy_(kept + (self.running_var - kept) * ((n - 1) / n))
        return y
each(nn.BatchNorm2d, lambda layer: setattr(layer, "__class__", Biased))'''),
    "epsilon-1e-3": Mistake(NORM, "another-epsilon", "each(nn.BatchNorm2d, settings(eps=1e-3))"),
    "epsilon-1e-4-in-one-layer": Mistake(NORM, "another-epsilon", (
        "each(nn.BatchNorm2d, settings(eps=1e-4), slice(3, 4), ('generator',))")),
    "padding-mirrored": Mistake(SHAPE, "padding-not-zero", f'''
each(nn.Conv2d, lambda layer: nn.Sequential(nn.ReflectionPad2d(1), layer)
     if layer.padding == (1, 1) and not layer.__dict__.update(padding=(0, 0)) else None,
     slice(0, 2), {CRITIC})'''),
    "padding-at-the-bottom-and-right": Mistake(SHAPE, "padding-at-the-other-side", f'''
def shifted(layer):
    layer.padding = (0, 0)
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), layer)
each(nn.Conv2d, shifted, slice(0, 6), {CRITIC})'''),
    "one-layers-padding-shifted": Mistake(SHAPE, "padding-at-the-other-side", f'''
def shifted(layer):
    layer.padding = (0, 0)
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), layer)
each(nn.Conv2d, shifted, slice(3, 4), {CRITIC})'''),
    "cropped-a-row-too-early": Mistake(SHAPE, "cropped-elsewhere", '''
class Cropped(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        layer.padding, layer.output_padding = (0, 0), (0, 0)

    def forward(self, x):
        y = self.layer(x)
        return y[:, :, 1:2 * x.shape[2] + 1, 1:2 * x.shape[3] + 1]
each(nn.ConvTranspose2d, Cropped, slice(1, 4), ("generator",))'''),
    "pooled-not-strided": Mistake(SHAPE, "pooled", f'''
def pooled(layer):
    layer.stride = (1, 1)
    return nn.Sequential(layer, nn.MaxPool2d(2))
each(nn.Conv2d, pooled, slice(1, 2), {CRITIC})'''),
    "last-bias-missing": Mistake(SHAPE, "parameter-missing|bias-missing", (
        "each(nn.ConvTranspose2d, lambda layer: layer.register_parameter('bias', None), "
        "slice(6, 7), ('generator',))")),
    "slope-0.01": Mistake(BENT, "another-slope",
                          "each(nn.LeakyReLU, settings(negative_slope=0.01))"),
    "slope-0.3-in-one-layer": Mistake(BENT, "another-slope", (
        "each(nn.LeakyReLU, settings(negative_slope=0.3), slice(2, 3))")),
    "relu-in-the-critic": Mistake(BENT, "another-slope|another-activation",
                                  "each(nn.LeakyReLU, lambda layer: nn.ReLU())"),
    "leaky-relu-in-the-generator": Mistake(BENT, "another-slope|another-activation", (
        "each(nn.ReLU, lambda layer: nn.LeakyReLU(0.2))")),
    "one-relu-forgotten": Mistake(BENT, "another-slope|another-activation", (
        "each(nn.ReLU, lambda layer: nn.Identity(), slice(1, 2))")),
    "elu": Mistake(BENT, "another-activation", "each(nn.ReLU, lambda layer: nn.ELU())"),
    "sigmoid-for-tanh": Mistake(BENT, "another-activation",
                                "each(nn.Tanh, lambda layer: nn.Sigmoid())"),
    "dropout": Mistake(BENT, "dropout", (
        "each(nn.LeakyReLU, lambda layer: nn.Sequential(layer, nn.Dropout(0.3)), slice(2, 3))")),
    "relu6": Mistake(BENT, "clipped", "each(nn.ReLU, lambda layer: nn.Hardtanh(0, 2))"),
    "label-smoothing": Mistake(LOSS, "label-smoothing", '''
def d_loss(real, fake):
    bce = F.binary_cross_entropy
    return bce(real, torch.full_like(real, 0.9)) + bce(fake, torch.zeros_like(fake))'''),
    "losses-averaged": Mistake(LOSS, "loss-scaled", '''
def d_loss(real, fake):
    return port.d_loss(real, fake) / 2'''),
    "minimax": Mistake(LOSS, "minimax-loss", '''
def g_loss(fake):
    return -F.binary_cross_entropy(fake, torch.zeros_like(fake))'''),
    "least-squares": Mistake(LOSS, "loss-without-log|another-loss", '''
def g_loss(fake):
    return 1 - fake.mean()'''),
    "lr-2e-4": Mistake(ADAM, "learning-rate", adam("lr=2e-4")),
    "unit-gain": Mistake(ADAM, "learning-rate", adam("unit_gain=True")),
    "beta1-0.9": Mistake(ADAM, "momentum", adam("momentum=0.9")),
    "beta2-0.999": Mistake(ADAM, "variance-momentum", adam("variance_momentum=0.999 ** (1 / 3)")),
    "epsilon-1e-6": Mistake(ADAM, "adams-epsilon", adam("epsilon=1e-6")),
    "no-clipping": Mistake(ADAM, "clipping", adam("clip_per_sample=math.inf")),
    "clipped-to-less": Mistake(ADAM, "clipping", adam("clip_per_sample=0.5")),
    "weights-clipped": Mistake(BETWEEN, "weights-clipped", step(behind=(
        "[p.data.clamp_(-0.01, 0.01) for p in discriminator.parameters()]"))),
    "gradients-clipped-by-norm": Mistake(BETWEEN, "gradients-shortened", step(between=(
        "nn.utils.clip_grad_norm_(discriminator.parameters(), 0.1)"))),
    "weight-decay": Mistake(BETWEEN, "weight-decay", step(between=(
        "[p.grad.add_(p.detach(), alpha=1e-2) for p in discriminator.parameters()]"))),
    "real-branch-counts-twice": Mistake(BETWEEN, "branch-scaled", step(
        "d_loss(real := discriminator(x), discriminator(fake)) - real.log().mean()")),
    "both-in-one-minibatch": Mistake(BETWEEN, "(both-branches-in|one)-.*minibatch.*", step(
        "d_loss(*discriminator(torch.cat([x, fake])).split(len(x)))")),
    "fake-before-real": Mistake(BETWEEN, "order-of-the-branches", step(
        "(lambda f: d_loss(discriminator(x), f))(discriminator(fake))")),
}

# A layer of another shape cannot be matched: the adapter is refused before anything is judged.
REFUSED = {
    "cropped-a-row-too-early": r"generator/conv2 .* gives \(16, 11, 11\): mend the layer",
    "pooled-not-strided": r"discriminator/conv2 .* gives \(2, 128, 128\): mend the layer",
    "last-bias-missing": r"generator/conv7/bias is not there: .* Give the layer a bias",
}
# Of a name, or of a pair "one+other": what is said instead.
MISNAMED = {
    "dropout": "noise in training: which it is",
    "real-branch-counts-twice": "nothing: a step of the user's own shows one gradient, not two",
    "fake-before-real": "nothing: after a minibatch of 3 the order is of rounding's size",
    "lr-2e-4+weight-decay": "the rate alone: with an Adam of other settings a step is not asked",
    "beta2-0.999+gradients-clipped-by-norm": "beta2 alone, likewise",
    "clipped-to-less+gradients-clipped-by-norm": "the clipping alone, likewise",
}
