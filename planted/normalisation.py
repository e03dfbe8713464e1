"""Mistakes in batch normalisation: its statistics, their update, and what shares them."""
import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from planted.parts import built, method, replace
from planted.plant import NORMALISATION, mistake
from torch_port import dcgan, losses
from torch_port.batch_norm import BatchNormalization
from torch_port.layers import Each, unchanged
from torch_port.train import steps

FIRST_MEAN, SECOND_MEAN = "minibatch00/running_mean", "minibatch01/running_mean"


def initialised(change: object) -> None:
    """Changes every layer once it is made: ``change(layer)``."""
    def init(self: BatchNormalization, *arguments: float, **options: float) -> None:
        before(self, *arguments, **options)
        change(self)  # type: ignore[operator]

    before = method(BatchNormalization, "__init__", init)


@contextlib.contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Running statistics are afterwards what they were."""
    kept = [buffer.clone() for buffer in network.buffers()]
    yield
    with torch.no_grad():
        for buffer, was in zip(network.buffers(), kept, strict=True):
            buffer.copy_(was)


@mistake("running-variance-biased", NORMALISATION,
         "The running variance from the biased batch variance, 1/n.",
         "normalisation", "minibatch00/running_variance")
def running_variance_biased() -> None:
    method(BatchNormalization, "variance_kept",
           lambda unbiased_variance, values: unbiased_variance * ((values - 1) / values))


@mistake("momentum-from-the-onnx-file", NORMALISATION,
         "The momentum 0.9904 that CNTK's exporter writes for 48 samples, whatever N is.",
         "normalisation", SECOND_MEAN)
def momentum_from_the_onnx_file() -> None:
    _factor(1 - 0.99044591)


def _factor(later: float) -> None:
    method(BatchNormalization, "update_factor",
           lambda self, samples: later if int(self.sample_count) else 1.0)


@mistake("momentum-0.1", NORMALISATION, "nn.BatchNorm2d's momentum.",
         "normalisation", SECOND_MEAN)
def momentum_of_pytorch() -> None:
    _factor(0.1)


@mistake("no-first-update-rule", NORMALISATION,
         "The first minibatch is blended into 0 as every other, not copied.",
         "normalisation", FIRST_MEAN)
def no_first_update_rule() -> None:
    def factor(self: BatchNormalization, samples: int) -> float:
        count = int(self.sample_count)
        self.sample_count.fill_(max(1, count))
        made = before(self, samples)
        self.sample_count.fill_(count)
        return float(made)

    before = method(BatchNormalization, "update_factor", factor)


@mistake("starts-at-one", NORMALISATION, "nn.BatchNorm2d's start: a running variance of 1.",
         "initial", "generator/bn1/running_variance")
def starts_at_one() -> None:
    initialised(lambda layer: layer.running_variance.fill_(1))


@mistake("count-in-pixels", NORMALISATION, "sample_count counts pixels.",
         "normalisation", "minibatch00/sample_count")
def count_in_pixels() -> None:
    def update(self: BatchNormalization, mean: Tensor, variance: Tensor, samples: int,
               values: int) -> None:
        before(self, mean, variance, samples, values)
        self.sample_count += values - samples

    before = method(BatchNormalization, "_update_statistics", update)


@mistake("factor-from-pixels", NORMALISATION,
         "The update's factor from the values of the minibatch, N*H*W, not from its samples.",
         "normalisation", SECOND_MEAN)
def factor_from_pixels() -> None:
    def update(self: BatchNormalization, mean: Tensor, variance: Tensor, samples: int,
               values: int) -> None:
        before(self, mean, variance, values, values)
        self.sample_count += samples - values

    before = method(BatchNormalization, "_update_statistics", update)


@mistake("epsilon-1e-3", NORMALISATION, "Keras' epsilon.",
         "forward/evaluation", "generator/bn1/output")
def epsilon_of_keras() -> None:
    def change(layer: BatchNormalization) -> None:
        layer.epsilon = 1e-3
    initialised(change)


@mistake("epsilon-1e-5-in-one-layer-1e-4", NORMALISATION,
         "One layer of eleven with another epsilon.",
         "forward/evaluation", "generator/bn4/output")
def epsilon_in_one_layer() -> None:
    def change(networks: dcgan.Networks) -> None:
        layer = networks.generator.get_submodule("bn4")
        assert isinstance(layer, BatchNormalization)
        layer.epsilon = 1e-4
    built(change)


# --------------------------------------------------------------- who updates what, and how often


@mistake("clones-statistics-separate", NORMALISATION,
         "The fake branch with running statistics of its own: the discriminator's see real images "
         "only.",
         "step", "after_d/discriminator/bn2/(sample_count|running_mean)")
def clones_statistics_separate() -> None:
    _d_step(keep_real=False, keep_fake=True)


@mistake("statistics-updated-once", NORMALISATION,
         "Real images update nothing: the two branches' updates are one.",
         "step", "after_d/discriminator/bn2/(sample_count|running_mean)")
def statistics_updated_once() -> None:
    _d_step(keep_real=True, keep_fake=False)


def _d_step(keep_real: bool, keep_fake: bool) -> None:
    def of(networks: dcgan.Networks, x: Tensor, z: Tensor, each_real: Each = unchanged,
           each_fake: Each = unchanged) -> Tensor:
        def kept(keep: bool) -> contextlib.AbstractContextManager[None]:
            return statistics_kept(networks.discriminator) if keep else contextlib.nullcontext()

        with torch.no_grad():
            fake = networks.generator(z)
        with kept(keep_real):
            d_real = networks.discriminator(dcgan.normalized(x), each_real)
        with kept(keep_fake):
            d_fake = networks.discriminator(fake, each_fake)
        return losses.discriminator_loss(d_real, d_fake)

    replace(steps.discriminator_losses, of)


@mistake("one-pass-over-real-and-fake", NORMALISATION,
         "Real and generated images as one minibatch: normalised together, statistics updated "
         "once.",
         "forward/training", "discriminator_(real|fake)/bn2/output")
def one_pass_over_real_and_fake() -> None:
    def of(networks: dcgan.Networks, x: Tensor, z: Tensor, each_real: Each = unchanged,
           each_fake: Each = unchanged) -> Tensor:
        with torch.no_grad():
            fake = networks.generator(z)
        n = len(fake)
        both = networks.discriminator(
            torch.cat([dcgan.normalized(x), fake]),
            lambda name, h: torch.cat([each_real(name, h[:n]), each_fake(name, h[n:])]))
        return losses.discriminator_loss(both[:n], both[n:])

    replace(steps.discriminator_losses, of)


@mistake("statistics-frozen-in-the-g-step", NORMALISATION,
         "The discriminator's running statistics stand still while the generator learns.",
         "step", "after_g/discriminator/bn2/(sample_count|running_mean)")
def statistics_frozen_in_the_g_step() -> None:
    before = steps.generator_losses

    def of(networks: dcgan.Networks, z: Tensor, each: Each = unchanged,
           each_fake: Each = unchanged) -> tuple[Tensor, Tensor]:
        with statistics_kept(networks.discriminator):
            return before(networks, z, each, each_fake)

    replace(steps.generator_losses, of)


@mistake("generators-statistics-frozen-in-the-d-step", NORMALISATION,
         "The generator's running statistics stand still while the discriminator learns.",
         "step", "after_d/generator/bn1/(sample_count|running_mean)")
def generators_statistics_frozen_in_the_d_step() -> None:
    before = steps.discriminator_losses

    def of(networks: dcgan.Networks, x: Tensor, z: Tensor, each_real: Each = unchanged,
           each_fake: Each = unchanged) -> Tensor:
        with statistics_kept(networks.generator):
            return before(networks, x, z, each_real, each_fake)

    replace(steps.discriminator_losses, of)


@mistake("evaluation-statistics-in-training", NORMALISATION,
         "The running statistics are updated in training, and normalise already there.",
         "forward/training", "generator/bn1/output")
def evaluation_statistics_in_training() -> None:
    def forward(self: BatchNormalization, x: Tensor) -> Tensor:
        if not self.training:
            return before(self, x)  # type: ignore[no-any-return]
        kept = self.running_mean.clone(), self.running_variance.clone()
        with torch.no_grad():
            before(self, x)
        return F.batch_norm(x, *kept, self.scale, self.bias, False, 0.0, self.epsilon)

    before = method(BatchNormalization, "forward", forward)


@mistake("discriminator-in-evaluation-in-the-g-step", NORMALISATION,
         "The discriminator put into evaluation mode for the G step.",
         "forward/g_step", "discriminator_fake/bn2/output")
def discriminator_in_evaluation_in_the_g_step() -> None:
    before = steps.generator_losses

    def of(networks: dcgan.Networks, z: Tensor, each: Each = unchanged,
           each_fake: Each = unchanged) -> tuple[Tensor, Tensor]:
        networks.discriminator.eval()
        made = before(networks, z, each, each_fake)
        networks.discriminator.train()
        return made

    replace(steps.generator_losses, of)


@mistake("fake-before-real", NORMALISATION,
         "D(G(z)) is computed before D(x): the running statistics are updated in another order.",
         "step|twin", ".*discriminator/bn2/running_(mean|variance)")
def fake_before_real() -> None:
    def of(networks: dcgan.Networks, x: Tensor, z: Tensor, each_real: Each = unchanged,
           each_fake: Each = unchanged) -> Tensor:
        with torch.no_grad():
            fake = networks.generator(z)
        d_fake = networks.discriminator(fake, each_fake)
        d_real = networks.discriminator(dcgan.normalized(x), each_real)
        return losses.discriminator_loss(d_real, d_fake)
    replace(steps.discriminator_losses, of)


@mistake("generators-statistics-updated-twice", NORMALISATION,
         "The D step runs the generator twice, once more for a picture.",
         "step", "after_d/generator/bn1/(sample_count|running_mean)")
def generators_statistics_updated_twice() -> None:
    before = steps.discriminator_losses

    def of(networks: dcgan.Networks, x: Tensor, z: Tensor, *each: Each) -> Tensor:
        with torch.no_grad():
            networks.generator(z)
        return before(networks, x, z, *each)
    replace(steps.discriminator_losses, of)


@mistake("statistics-of-the-cumulative-mean", NORMALISATION,
         "momentum=None: the plain mean over all minibatches so far.",
         "normalisation", SECOND_MEAN)
def statistics_of_the_cumulative_mean() -> None:
    method(BatchNormalization, "update_factor",
           lambda self, samples: samples / (samples + int(self.sample_count)))


@mistake("first-order-factor", NORMALISATION,
         "The update's factor N / T, the first term of 1 - exp(-N / T).",
         "normalisation", SECOND_MEAN, minibatch_size=16)  # of 2 samples: 2e-4 of 4e-4, rounding
def first_order_factor() -> None:
    method(BatchNormalization, "update_factor",
           lambda self, samples: samples / 5000 if int(self.sample_count) else 1.0)
