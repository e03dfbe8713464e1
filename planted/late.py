"""Mistakes that show in a training run alone, some of them late.

What is wrong at iteration t has to be named at t. Iterations are counted from 1.
"""
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captures.plan import Latents
from planted.between import gradient
from planted.parts import PlantError, method, replace, weight_of
from planted.plant import LATE, TRAINING_STAGE, at, mistake
from torch_port import dcgan, losses
from torch_port.adam import CNTKAdam
from torch_port.batch_norm import BatchNormalization
from torch_port.layers import Each, unchanged
from torch_port.reader.reader import ImageReader
from torch_port.train import run, steps

D, G = "discriminator", "generator"


def from_iteration(t: int, network: str, change: Callable[[nn.Module], None],
                   only: bool = False) -> None:
    """``change(network)`` after the backward pass of each of its steps from t on, or of that
    alone."""
    done = {D: 0, G: 0}
    before = steps.backward

    def backward(samples: Tensor, learnt: nn.Module) -> None:
        before(samples, learnt)
        which = D if isinstance(learnt, dcgan.Discriminator) else G
        done[which] += 1
        if which == network and (done[which] == t or (done[which] > t and not only)):
            with torch.no_grad():
                change(learnt)
    replace(steps.backward, backward)


def _filter_scaled(t: int) -> None:
    from_iteration(t, D, lambda network: _nothing(
        gradient(network, "conv3.weight")[5].mul_(1.01)))


def _nothing(_: object) -> None:
    """For a lambda that is to give nothing."""


@mistake("one-filters-gradient-scaled-from-iteration-2", LATE,
         "From iteration 2 on the gradient of one filter is 1 % too large.",
         TRAINING_STAGE, at(2, "discriminator/conv3/weight.*"))
def filter_scaled_from_2() -> None:
    _filter_scaled(2)


@mistake("one-filters-gradient-scaled-from-iteration-10", LATE,
         "From iteration 10 on the gradient of one filter is 1 % too large.",
         TRAINING_STAGE, at(10, "discriminator/conv3/weight.*"))
def filter_scaled_from_10() -> None:
    _filter_scaled(10)


@mistake("one-filters-gradient-scaled-from-iteration-15", LATE,
         "From iteration 15 on the gradient of one filter is 1 % too large.",
         TRAINING_STAGE, at(15, "discriminator/conv3/weight.*"))
def filter_scaled_from_15() -> None:
    _filter_scaled(15)


@mistake("one-filters-gradient-scaled-from-iteration-20", LATE,
         "From iteration 20 on the gradient of one filter is 1 % too large.",
         TRAINING_STAGE, at(20, "discriminator/conv3/weight.*"))
def filter_scaled_from_20() -> None:
    _filter_scaled(20)


@mistake("adam-remade-after-10", LATE,
         "The discriminator's optimizer is made anew after iteration 10.",
         TRAINING_STAGE, at(11, "discriminator/(conv1/.*|learner/minibatches)"))
def adam_remade() -> None:
    is_first = weight_of("discriminator/conv1")

    def step(self: CNTKAdam, *arguments: Any, **options: Any) -> None:
        (group,) = self.param_groups
        if any(map(is_first, group["params"])) and group["minibatches"] == 10:
            self.state.clear()
            group["minibatches"] = 0
        before(self, *arguments, **options)
    before = method(CNTKAdam, "step", step)


@mistake("adams-counter-stops-at-15", LATE, "The correction for the start stands still after 15.",
         TRAINING_STAGE, at(16, "discriminator/conv1/.*"))
def adams_counter_stops() -> None:
    before = method(CNTKAdam, "correction", lambda self, b1, b2, minibatches: before(
        self, b1, b2, min(minibatches, 15)))


@mistake("rate-decays-after-15", LATE, "After iteration 15 the learning rate is 1 % smaller.",
         TRAINING_STAGE, at(16, "discriminator/conv1/.*"))
def rate_decays() -> None:
    before = method(CNTKAdam, "rate", lambda self, group, samples: before(
        self, group, samples) * (0.99 if group["minibatches"] >= 16 else 1))


@mistake("momentum-grows-after-15", LATE, "After iteration 15 Adam's momentum is 0.51.",
         TRAINING_STAGE, at(16, "discriminator/.*"))  # of every array alike
def momentum_grows() -> None:
    before = method(CNTKAdam, "momentum", lambda self, group, samples: before(
        self, group, samples) + (0.01 if group["minibatches"] >= 16 else 0))


@mistake("warm-up-of-the-rate", LATE, "Half the learning rate in the first two iterations.",
         "optimizer", "matrix/step01")
def warm_up() -> None:
    before = method(CNTKAdam, "rate", lambda self, group, samples: before(
        self, group, samples) * (0.5 if group["minibatches"] <= 2 else 1))


@mistake("statistics-change-their-pace", LATE,
         "Once 60 samples were seen, statistics move ten times as fast.",
         TRAINING_STAGE, at(11, "discriminator/bn2/running_mean"))
def statistics_change_their_pace() -> None:
    before = method(BatchNormalization, "update_factor", lambda self, samples: before(
        self, 10 * samples if int(self.sample_count) >= 60 else samples))


@mistake("generator-trained-twice-at-12", LATE, "In iteration 12 the generator takes two steps.",
         TRAINING_STAGE, at(12, "generator/.*|discriminator/bn[0-9]+/sample_count"))
def generator_trained_twice() -> None:
    before, done = steps.generator_step, [0]

    def step(*arguments: Any) -> tuple[float, Tensor]:
        done[0] += 1
        if done[0] == 12:
            before(*arguments)
        return before(*arguments)
    replace(steps.generator_step, step)


@mistake("labels-flipped-at-7", LATE, "In iteration 7 real and generated images are exchanged.",
         TRAINING_STAGE, at(7, "discriminator/.*|twin/D_loss"))  # the loss is what is wrong
def labels_flipped() -> None:
    before, done = losses.discriminator_loss, [0]
    d_losses = steps.discriminator_losses

    def of(*arguments: Any, **options: Any) -> Tensor:
        done[0] += 1
        return d_losses(*arguments, **options)

    replace(steps.discriminator_losses, of)
    replace(losses.discriminator_loss, lambda d_real, d_fake: before(d_fake, d_real)
            if done[0] == 7 else before(d_real, d_fake))


@mistake("minibatch-repeated-at-11", LATE, "Iteration 11 reads the minibatch of iteration 10.",
         TRAINING_STAGE, "twin/reader/minibatches")
def minibatch_repeated() -> None:
    before = method(ImageReader, "minibatch", lambda self, step: before(
        self, step - 1 if step == 10 else step))


@mistake("weights-through-float16-at-10", LATE,
         "After iteration 10 the generator's weights go through a checkpoint in float16.",
         TRAINING_STAGE, at(10, "generator/.*"))
def weights_through_float16() -> None:
    before, done = steps.generator_step, [0]

    def step(networks: dcgan.Networks, *others: Any) -> tuple[float, Tensor]:
        made = before(networks, *others)
        done[0] += 1
        if done[0] == 10:
            with torch.no_grad():
                for p in networks.generator.parameters():
                    p.copy_(p.half())
        return made
    replace(steps.generator_step, step)


# ---------------------------------------------------------------- gradients and images of yesterday


@mistake("zero-grad-forgotten", LATE,
         "The discriminator's gradients are added to those of the iteration before.",
         TRAINING_STAGE, at(2, "discriminator/.*"))
def zero_grad_forgotten() -> None:
    _added_up(dcgan.Discriminator)


@mistake("zero-grad-forgotten-in-the-generator", LATE,
         "The generator's gradients are added to those of the iteration before.",
         TRAINING_STAGE, at(2, "generator/.*"))
def zero_grad_forgotten_in_the_generator() -> None:
    _added_up(dcgan.Generator)


def _added_up(network: type[nn.Module]) -> None:
    before = steps.backward
    kept: dict[Tensor, Tensor] = {}

    def backward(samples: Tensor, learnt: nn.Module) -> None:
        before(samples, learnt)
        if isinstance(learnt, network):
            with torch.no_grad():
                for p in learnt.parameters():
                    if p.grad is not None:
                        kept[p] = p.grad.add_(kept.get(p, 0)).clone()
    replace(steps.backward, backward)


@mistake("fakes-of-the-iteration-before", LATE,
         "The discriminator learns from the images that the generator made an iteration ago.",
         TRAINING_STAGE, at(2, "discriminator/.*|twin/D_loss"))  # the loss is of them
def fakes_of_the_iteration_before() -> None:
    kept: list[Tensor] = []

    def of(networks: dcgan.Networks, x: Tensor, z: Tensor, each_real: Each = unchanged,
           each_fake: Each = unchanged) -> Tensor:
        with torch.no_grad():
            kept.append(networks.generator(z))
        d_real = networks.discriminator(dcgan.normalized(x), each_real)
        d_fake = networks.discriminator(kept.pop(0) if len(kept) > 1 else kept[0], each_fake)
        return losses.discriminator_loss(d_real, d_fake)
    replace(steps.discriminator_losses, of)


# ------------------------------------------------------------------------------------- the latents


def _latents(make: Callable[[Any, int], np.ndarray]) -> None:
    """Another stream: ``make(latents, samples)`` float32, samples x 100."""
    if not hasattr(run, "Latents"):
        raise PlantError("torch_port.train.run holds no Latents")

    class Other(Latents):
        def next(self, samples: int) -> np.ndarray:
            return np.ascontiguousarray(make(self, samples), dtype=np.float32)
    replace(Latents, Other)


LATENTS = "twin/latents/drawn"


@mistake("latents-clamped-at-3", LATE, "Latents beyond 3 are cut to 3.",
         TRAINING_STAGE, LATENTS)
def latents_clamped() -> None:
    before = Latents.next
    _latents(lambda self, samples: np.clip(before(self, samples), -3, 3))


@mistake("latents-of-another-generator", LATE,
         "Latents of numpy's newer generator, from the same seed.",
         TRAINING_STAGE, LATENTS)
def latents_of_another_generator() -> None:
    random = np.random.default_rng(0)
    _latents(lambda self, samples: random.standard_normal((samples, 100)))


@mistake("latents-drawn-in-float32", LATE,
         "PyTorch draws the latents, from the same seed.",
         TRAINING_STAGE, LATENTS)
def latents_of_pytorch() -> None:
    random = torch.Generator().manual_seed(0)
    _latents(lambda self, samples: torch.randn(samples, 100, generator=random).numpy())


@mistake("latents-used-twice", LATE, "The G step takes the latents of the D step.",
         TRAINING_STAGE, LATENTS)
def latents_used_twice() -> None:
    before = Latents.next
    kept: list[np.ndarray] = []

    def make(self: Any, samples: int) -> np.ndarray:
        if kept:
            return kept.pop()
        kept.append(before(self, samples))
        return kept[0]
    _latents(make)
