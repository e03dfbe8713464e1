"""Options that are ignored, or used for something else: they show with other values than usual."""
from collections.abc import Callable
from typing import Any

from captures.plan import Latents
from planted.optimizer import FIRST_CLIPPED
from planted.parts import method, replace
from planted.plant import OPTIONS, TRAINING_STAGE, mistake
from torch_port import dcgan
from torch_port.adam import CNTKAdam
from torch_port.batch_norm import BatchNormalization
from torch_port.reader.augmentation import Draws, augmentation_draws
from torch_port.reader.reader import ImageReader
from torch_port.train import steps

FIRST_IMAGES, FIRST_WEIGHT, FIRST_STEP = (
    "minibatch00/images", "generator/conv1/weight", "matrix/step01")


def _reader(change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the options that the reader is made with."""
    def init(self: ImageReader, *arguments: Any, **options: Any) -> None:
        change(options)
        before(self, *arguments, **options)
    before = method(ImageReader, "__init__", init)


@mistake("readers-seed-ignored", OPTIONS, "The order of the images is that of seed 0.",
         "reader", FIRST_IMAGES, seed=7)
def readers_seed_ignored() -> None:
    _reader(lambda options: options.update(randomization_seed=0))


@mistake("weights-seed-ignored", OPTIONS, "The initial weights are those of seed 0.",
         "initial", FIRST_WEIGHT, seed=7)
def weights_seed_ignored() -> None:
    before = dcgan.networks_from_seed
    replace(dcgan.networks_from_seed, lambda seed, *spec: before(0, *spec))


@mistake("latents-seed-ignored", OPTIONS, "The latents are those of seed 0.",
         TRAINING_STAGE, "twin/latents/drawn", seed=7)
def latents_seed_ignored() -> None:
    before = Latents
    replace(Latents, lambda seed, *size: before(0, *size))


@mistake("seed-in-31-bits", OPTIONS, "Of the seed the lower 31 bits are used.",
         "initial", FIRST_WEIGHT, seed=2**31 + 5)
def seed_in_31_bits() -> None:
    before = dcgan.networks_from_seed
    replace(dcgan.networks_from_seed, lambda seed, *spec: before(seed % 2**31, *spec))


@mistake("augmentation-by-the-seed", OPTIONS,
         "The augmentation's generators are seeded by position + seed: right at seed 0.",
         "reader", FIRST_IMAGES, seed=7)
def augmentation_by_the_seed() -> None:
    def draws(self: ImageReader, step: int) -> list[Draws]:
        return [augmentation_draws(position + self.randomization_seed, step, self.color_radii)
                for position in range(self.minibatch_size)]
    method(ImageReader, "draws", draws)


@mistake("unit-gain-ignored", OPTIONS, "unit_gain is taken for False.",
         "optimizer", FIRST_STEP, unit_gain=1)
def unit_gain_ignored() -> None:
    before = steps.create_optimizer
    replace(steps.create_optimizer,
            lambda parameters, minibatch_size, unit_gain=False: before(parameters, minibatch_size))


@mistake("clipping-for-16-samples", OPTIONS,
         "The clipping threshold is that of the article's 16 samples, whatever N is.",
         "optimizer", FIRST_CLIPPED)
def clipping_for_16_samples() -> None:
    before = steps.create_optimizer
    replace(steps.create_optimizer, lambda parameters, minibatch_size, unit_gain=False: before(
        parameters, 16, unit_gain))


@mistake("rate-for-16-samples", OPTIONS, "The learning rate is divided by 16, whatever N is.",
         "optimizer", FIRST_STEP)
def rate_for_16_samples() -> None:
    method(CNTKAdam, "rate", lambda self, group, samples: group["lr"] / 16)


@mistake("variance-momentum-for-16-samples", OPTIONS,
         "Adam's second decay is that of 16 samples, whatever N is.",
         "optimizer", FIRST_STEP)
def variance_momentum_for_16_samples() -> None:
    method(CNTKAdam, "variance_momentum",
           lambda self, group, samples: group["variance_momentum"] ** 16)


@mistake("statistics-for-16-samples", OPTIONS,
         "The statistics move as for 16 samples, whatever N is.",
         "normalisation", "minibatch01/running_mean")
def statistics_for_16_samples() -> None:
    before = method(BatchNormalization, "update_factor", lambda self, samples: before(self, 16))
