"""Mistakes between backward and step: gradients that something happens to, parameters left out.

The gradients themselves are right, and so is the optimizer by itself.
"""
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from planted.one_layer import backwards
from planted.parts import layer, method, replace, weight_of
from planted.plant import BETWEEN, mistake
from torch_port import dcgan, losses
from torch_port.adam import CNTKAdam, Coefficients
from torch_port.layers import Each, unchanged
from torch_port.train import steps

Change = Callable[[nn.Module], None]
AFTER_D, AFTER_G = "after_d/discriminator", "after_g/generator"


@torch.no_grad()
def _apply(change: Change, network: nn.Module) -> None:
    change(network)


def in_d_step(change: Change) -> None:
    """``change(discriminator)`` after its backward pass."""
    def step(networks: dcgan.Networks, optimizer: CNTKAdam, x: Tensor, z: Tensor) -> float:
        samples = steps.discriminator_losses(networks, x, z)
        steps.backward(samples, networks.discriminator)
        _apply(change, networks.discriminator)
        optimizer.step(samples=len(z))
        return losses.minibatch_average(samples)
    replace(steps.discriminator_step, step)


def in_g_step(change: Change) -> None:
    """``change(generator)`` after its backward pass."""
    def step(networks: dcgan.Networks, optimizer: CNTKAdam, z: Tensor) -> tuple[float, Tensor]:
        samples, fake = steps.generator_losses(networks, z)
        steps.backward(samples, networks.generator)
        _apply(change, networks.generator)
        optimizer.step(samples=len(z))
        return losses.minibatch_average(samples), fake.detach()
    replace(steps.generator_step, step)


def gradient(network: nn.Module, name: str) -> Tensor:
    found = network.get_parameter(name).grad
    assert found is not None
    return found


def every_gradient(network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [(p, p.grad) for p in network.parameters() if p.grad is not None]


@mistake("weight-decay", BETWEEN, "p.grad += 1e-2 * p before the D step's update.",
         "step", AFTER_D + "/conv1/.*")
def weight_decay() -> None:
    def change(network: nn.Module) -> None:
        for p, g in every_gradient(network):
            g.add_(p, alpha=1e-2)
    in_d_step(change)


@mistake("small-weight-decay-in-the-generator", BETWEEN,
         "p.grad += 1e-4 * p before the G step's update.",
         "step", AFTER_G + "/conv1/.*")
def small_weight_decay() -> None:
    def change(network: nn.Module) -> None:
        for p, g in every_gradient(network):
            g.add_(p, alpha=1e-4)
    in_g_step(change)


@mistake("gradients-clipped-by-norm-between", BETWEEN,
         "torch.nn.utils.clip_grad_norm_ to 0.1 over the whole discriminator.",
         "step", AFTER_D + "/conv1/.*")
def gradients_clipped_between() -> None:
    in_d_step(lambda network: _only(torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)))


def _only(_: object) -> None:
    """For a lambda that is to give nothing."""


@mistake("one-layers-gradient-scaled", BETWEEN,
         "The gradient of one layer's weight is 0.1 % too large.",
         "step", AFTER_D + "/conv4/weight.*")
def one_layers_gradient_scaled() -> None:
    in_d_step(lambda network: _only(gradient(network, "conv4.weight").mul_(1.001)))


@mistake("one-filter-not-learnt", BETWEEN,
         "The gradient of one filter is 0: a mask that was left on.",
         "step", AFTER_D + "/conv3/weight.*")
def one_filter_not_learnt() -> None:
    in_d_step(lambda network: _only(gradient(network, "conv3.weight")[5].zero_()))


@mistake("noise-in-one-gradient", BETWEEN,
         "Noise of 1 % in the gradient of one layer of the generator.",
         "step", AFTER_G + "/conv5/weight.*")
def noise_in_one_gradient() -> None:
    def change(network: nn.Module) -> None:
        g = gradient(network, "conv5.weight")
        g.mul_(1 + 1e-2 * torch.randn(g.shape, generator=torch.Generator().manual_seed(1)))
    in_g_step(change)


@mistake("gradients-in-bfloat16", BETWEEN,
         "Gradients are rounded to bfloat16, as a compressed exchange between machines does.",
         "step", AFTER_D + "/conv1/.*")
def gradients_in_bfloat16() -> None:
    def change(network: nn.Module) -> None:
        for _, g in every_gradient(network):
            g.copy_(g.bfloat16())
    in_d_step(change)


@mistake("real-branch-counts-twice", BETWEEN,
         "The gradient of the real branch is taken twice; the loss is right.",
         "gradient/d", "discriminator_real/sigmoid7/output")
def real_branch_counts_twice() -> None:
    def of(networks: dcgan.Networks, x: Tensor, z: Tensor, each_real: Each = unchanged,
           each_fake: Each = unchanged) -> Tensor:
        with torch.no_grad():
            fake = networks.generator(z)
        d_real = networks.discriminator(dcgan.normalized(x), each_real)
        d_fake = networks.discriminator(fake, each_fake)
        return losses.discriminator_loss(backwards(d_real, 2 * d_real), d_fake)
    replace(steps.discriminator_losses, of)


@mistake("one-gradient-not-summed", BETWEEN,
         "The gradient of one normalisation's bias is the mean over the minibatch, not the sum.",
         "gradient/g", "generator/bn6/bias")
def one_gradient_not_summed() -> None:
    before = steps.backward

    def backward(samples: Tensor, learnt: nn.Module) -> None:
        before(samples, learnt)
        if isinstance(learnt, dcgan.Generator):
            with torch.no_grad():
                gradient(learnt, "bn6.bias").div_(len(samples))
    replace(steps.backward, backward)


# -------------------------------------------------------------------------- what is learnt, and not


def _learnt(network: str, name: str) -> None:
    """One parameter that its optimizer was not given."""
    layer(f"{network}/{name.rpartition('.')[0]}")

    def create(networks: dcgan.Networks, minibatch_size: int, unit_gain: bool = False
               ) -> tuple[CNTKAdam, ...]:
        left = networks.get_submodule(network).get_parameter(name)
        return tuple(steps.create_optimizer(
            [p for p in of.parameters() if p is not left], minibatch_size, unit_gain)
            for of in (networks.generator, networks.discriminator))
    replace(steps.create_optimizers, create)


@mistake("one-weight-not-given-to-the-optimizer", BETWEEN,
         "The generator's fourth weight is not among the parameters of its optimizer.",
         "step|ledger", "(after_g/|g_step/)?generator/conv4/weight.*")
def one_weight_not_given() -> None:
    _learnt("generator", "conv4.weight")


@mistake("one-scale-not-given-to-the-optimizer", BETWEEN,
         "One normalisation's scale is not among the parameters of the optimizer.",
         "step|ledger", "(after_d/|d_step/)?discriminator/bn5/scale.*")
def one_scale_not_given() -> None:
    _learnt("discriminator", "bn5.scale")


@mistake("one-layers-rate-doubled", BETWEEN,
         "A parameter group of its own for the first layer, with twice the rate.",
         "step", AFTER_D + "/conv1/weight")
def one_layers_rate_doubled() -> None:
    is_first = weight_of("discriminator/conv1")

    def update(self: CNTKAdam, p: Tensor, truncate: bool, k: Coefficients) -> None:
        if is_first(p):
            k = Coefficients(**{**vars(k), "rate": 2 * k.rate})
        before(self, p, truncate, k)
    before = method(CNTKAdam, "_update_parameter", update)


@mistake("generator-learns-from-the-old-discriminator", BETWEEN,
         "Both losses first, then both updates: the generator's gradient is that of the "
         "discriminator before its step.",
         "step|ledger", "(after_d/|d_step/)?discriminator/(conv1/.*|learner/minibatches)")
def both_losses_first() -> None:
    waiting: list[Callable[[], None]] = []

    def d_step(networks: dcgan.Networks, optimizer: CNTKAdam, x: Tensor, z: Tensor) -> float:
        samples = steps.discriminator_losses(networks, x, z)
        steps.backward(samples, networks.discriminator)
        waiting.append(lambda: optimizer.step(samples=len(z)))
        return losses.minibatch_average(samples)

    def g_step(networks: dcgan.Networks, optimizer: CNTKAdam, z: Tensor) -> tuple[float, Tensor]:
        samples, fake = steps.generator_losses(networks, z)
        steps.backward(samples, networks.generator)
        while waiting:
            waiting.pop()()
        optimizer.step(samples=len(z))
        return losses.minibatch_average(samples), fake.detach()
    replace(steps.discriminator_step, d_step)
    replace(steps.generator_step, g_step)


@mistake("weights-clipped", BETWEEN, "The discriminator's weights are clipped to 0.06, as a "
         "Wasserstein GAN's.",
         "step", AFTER_D + "/conv[12]/weight")
def weights_clipped() -> None:
    before = steps.discriminator_step

    def step(networks: dcgan.Networks, *others: Any) -> float:
        mean = before(networks, *others)
        with torch.no_grad():
            for p in networks.discriminator.parameters():
                if p.ndim == 4:
                    p.clamp_(-0.06, 0.06)
        return mean
    replace(steps.discriminator_step, step)
