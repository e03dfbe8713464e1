"""Mistakes in the initial weights."""
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from captures.article import DCGAN
from planted.parts import PlantError, replace
from planted.plant import INITIAL, mistake
from torch_port import dcgan, normal_initializer
from torch_port.normal_initializer import Shapes

FIRST = "generator/conv1/weight"
Drawn = dict[str, np.ndarray]


@mistake("variance-for-deviation", INITIAL,
         "0.02 read as a variance, as the article's prose calls it.", "initial", FIRST)
def variance_for_deviation() -> None:
    before = normal_initializer.draw_initial_weights
    replace(normal_initializer.draw_initial_weights,
            lambda shapes, seeds, standard_deviation=0.02: before(
                shapes, seeds, standard_deviation ** 0.5))


@mistake("xavier", INITIAL, "Glorot's uniform distribution.", "initial", FIRST)
def xavier() -> None:
    _by_torch(nn.init.xavier_uniform_)


@mistake("torch-normal", INITIAL, "The right distribution from PyTorch's own generator.",
         "initial", FIRST)
def torch_normal() -> None:
    _by_torch(lambda weights: nn.init.normal_(weights, 0, 0.02))


def _by_torch(fill: object) -> None:
    def draw(shapes: Shapes, seeds: Iterable[int], standard_deviation: float = 0.02) -> Drawn:
        torch.manual_seed(next(iter(seeds)))
        return {name: fill(torch.empty(shape)).numpy()  # type: ignore[operator]
                for name, shape in shapes.items()}
    replace(normal_initializer.draw_initial_weights, draw)


@mistake("all-layers-from-one-seed", INITIAL,
         "Every layer from the seed of the run: the first is right.",
         "initial", "generator/conv2/weight")
def all_layers_from_one_seed() -> None:
    before = normal_initializer.draw_initial_weights
    replace(normal_initializer.draw_initial_weights,
            lambda shapes, seeds, standard_deviation=0.02: before(
                shapes, [next(iter(seeds))] * len(shapes), standard_deviation))


@mistake("discriminator-made-first", INITIAL,
         "The discriminator is created before the generator, so seeds go to other layers.",
         "initial", FIRST)
def discriminator_made_first() -> None:
    before = normal_initializer.draw_initial_weights

    def draw(shapes: Shapes, seeds: Iterable[int], standard_deviation: float = 0.02) -> Drawn:
        names = sorted(shapes, key=lambda name: name.startswith("generator/"))
        return before({name: shapes[name] for name in names}, seeds, standard_deviation)
    replace(normal_initializer.draw_initial_weights, draw)


@mistake("two-layers-in-another-order", INITIAL,
         "The discriminator's fifth and sixth layers are created in the other order.",
         "initial", "discriminator/conv5/weight")
def two_layers_in_another_order() -> None:
    before = normal_initializer.draw_initial_weights

    def draw(shapes: Shapes, seeds: Iterable[int], standard_deviation: float = 0.02) -> Drawn:
        seeds = list(seeds)
        seeds[11], seeds[12] = seeds[12], seeds[11]
        return before(shapes, seeds, standard_deviation)
    replace(normal_initializer.draw_initial_weights, draw)


@mistake("truncated-normal", INITIAL, "Values beyond two standard deviations are cut to them.",
         "initial", FIRST)
def truncated_normal() -> None:
    before = normal_initializer.draw_initial_weights
    replace(normal_initializer.draw_initial_weights,
            lambda shapes, seeds, standard_deviation=0.02: {
                name: np.clip(weights, -0.04, 0.04)
                for name, weights in before(shapes, seeds, standard_deviation).items()})


@mistake("scale-normal-1-0.02", INITIAL,
         "PyTorch's DCGAN example: the normalisation's scale from normal(1, 0.02).",
         "initial", "generator/bn1/scale")
def scale_normal() -> None:
    def change(networks: dcgan.Networks) -> None:
        torch.manual_seed(0)
        for name, tensor in networks.arrays().items():
            if name.endswith("/scale"):
                nn.init.normal_(tensor, 1, 0.02)
    _made(change)


def _made(change: Callable[[dcgan.Networks], None]) -> None:
    """Changes the networks once they have their initial values."""
    before = dcgan.networks_from_seed

    def made(*arguments: Any) -> dcgan.Networks:
        networks = before(*arguments)
        change(networks)
        return networks
    replace(dcgan.networks_from_seed, made)


def _nothing(_: object) -> None:
    """For a lambda that is to give nothing."""


@mistake("bias-not-zeroed", INITIAL,
         "nn.Conv2d's own initial bias is left in the discriminator's first layer.",
         "initial", "discriminator/conv1/bias")
def bias_not_zeroed() -> None:
    _made(lambda networks: _nothing(nn.init.uniform_(
        networks.arrays()["discriminator/conv1/bias"], -0.19, 0.19)))


def _drawn(name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Changes the initial values of one weight. Raises PlantError: there is none."""
    if name not in DCGAN.creation_order:
        raise PlantError(f"there is no weight {name}")
    before = normal_initializer.draw_initial_weights

    def draw(shapes: Shapes, seeds: Iterable[int], standard_deviation: float = 0.02) -> Drawn:
        made = before(shapes, seeds, standard_deviation)
        made[name] = np.ascontiguousarray(change(made[name]))
        return made
    replace(normal_initializer.draw_initial_weights, draw)


@mistake("one-draw-too-many", INITIAL, "One layer's generator has given a number before.",
         "initial", "generator/conv4/weight")
def one_draw_too_many() -> None:
    _drawn("generator/conv4/weight", lambda weights: np.roll(weights.ravel(), -1).reshape(
        weights.shape))


@mistake("last-layer-starts-at-zero", INITIAL, "The discriminator's last layer starts at 0.",
         "initial", "discriminator/conv7/weight")
def last_layer_starts_at_zero() -> None:
    _drawn("discriminator/conv7/weight", np.zeros_like)


@mistake("one-layer-drawn-in-float16", INITIAL, "One layer's initial weights are float16.",
         "initial", "generator/conv6/weight")
def one_layer_drawn_in_float16() -> None:
    _drawn("generator/conv6/weight", lambda weights: weights.astype(np.float16).astype(np.float32))


@mistake("one-layers-axes-exchanged", INITIAL,
         "One layer is filled in the order in, out instead of out, in.",
         "initial", "discriminator/conv2/weight")
def one_layers_axes_exchanged() -> None:
    _drawn("discriminator/conv2/weight", lambda weights: weights.reshape(
        weights.shape[1], weights.shape[0], *weights.shape[2:]).swapaxes(0, 1))


@mistake("deviation-in-double", INITIAL,
         "The standard deviation 0.02 in double, not rounded to float32 first.", "initial", FIRST)
def deviation_in_double() -> None:
    replace(normal_initializer._sigma, lambda standard_deviation, where: standard_deviation)
