"""The article's DCGAN, and every number of it, once. Plain Python 3.6.

    100 latents -> 3 x 256 x 256 in [-1, 1] -> the probability that the image is a real one

The tables are the article's own, row by row. (It prints stride 2 for the generator's first layer,
the program has 1: from 1 x 1 to 4 x 4 either gives the same.)

Sources: the article's layer tables and its program; CNTK 2.7's defaults for what the program leaves
open (time constant, epsilon), measured.
"""
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from captures.spec import (
    CONVOLUTION,
    LEAKY_RELU,
    NORMALISATION,
    RELU,
    SIGMOID,
    TANH,
    TRANSPOSED,
    Layer,
    Spec,
    checked,
    network,
    numbered,
)

IMAGE_SIZE, IMAGE_CHANNELS, LATENT_SIZE = 256, 3, 100
MIDDLE = 127.5  # pixels go into the discriminator as (x - 127.5) / 127.5
DEVIATION = 0.02  # of the initial weights; the article's prose calls it a variance
SLOPE = 0.2  # of the discriminator's leaky rectifiers
EPSILON, TIME_CONSTANT = 1e-5, 5000  # of batch normalisation; the constant in samples

LEARNING_RATE, MOMENTUM = 1e-4, 0.5
ITERATIONS, MINIBATCH_SIZE, IMAGE_INTERVAL = 50000, 16, 10
COLOUR_RADIUS = 0.2  # of the reader's changes of brightness, contrast and saturation

# kernel, channels, stride, padded, bias, normalised
Row = Tuple[int, int, int, bool, bool, bool]
GENERATOR: Sequence[Row] = (
    (4, 1024, 1, False, False, True),
    (5, 512, 2, True, False, True),
    (5, 256, 2, True, False, True),
    (5, 128, 2, True, False, True),
    (5, 64, 2, True, False, True),
    (5, 32, 2, True, False, True),
    (5, IMAGE_CHANNELS, 2, True, True, False),
)
DISCRIMINATOR: Sequence[Row] = (
    (3, 32, 2, True, True, False),
    (3, 64, 2, True, False, True),
    (3, 128, 2, True, False, True),
    (3, 256, 2, True, False, True),
    (3, 512, 2, True, False, True),
    (3, 1024, 2, True, False, True),
    (4, 1, 1, False, True, False),
)


def _layers(table: Sequence[Row], kind: str, between: str, last: str
            ) -> Iterator[Tuple[str, Layer]]:
    for i, (kernel, channels, stride, padded, bias, normalised) in enumerate(table, 1):
        yield "conv", Layer("", kind, channels, kernel, stride, padded, bias)
        if normalised:
            yield "bn", Layer("", NORMALISATION)
        activation = last if i == len(table) else between
        yield activation, Layer("", activation)


DCGAN = checked(Spec(
    "the article's DCGAN",
    network("generator", (LATENT_SIZE,), numbered(_layers(GENERATOR, TRANSPOSED, RELU, TANH))),
    network("discriminator", (IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE),
            numbered(_layers(DISCRIMINATOR, CONVOLUTION, LEAKY_RELU, SIGMOID))),
    "discriminator_real", "discriminator_fake", MIDDLE, DEVIATION, EPSILON, TIME_CONSTANT, SLOPE))


# ---------------------------------------------------- the old tables, until nothing asks for them

ALPHA = float(np.float32(SLOPE))
ACTIVATIONS = {"Relu": "relu", "LeakyRelu": "leaky_relu", "Tanh": "tanh", "Sigmoid": "sigmoid"}


# ------------------------------------------------------------------------------ the article's table


class Expected(NamedTuple):
    """One layer: its operator, what of it is fixed, and the shape of one sample's output."""

    name: str
    op: str
    facts: Mapping[str, Any]
    shape: Tuple[int, ...]


def _convolution(op: str, before: int, after: int, geometry: Tuple[int, int, List[int]],
                 bias: bool) -> Dict[str, Any]:
    kernel, stride, pads = geometry
    weight = (after, before) if op == "Conv" else (before, after)
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads,
            "dilations": [1, 1], "group": 1, "weight": [*weight, kernel, kernel],
            "bias": [after] if bias else None}


def _table(network: str) -> Iterator[Expected]:
    if network == "generator":
        op, channels, activation = "ConvTranspose", (100, 1024, 512, 256, 128, 64, 32, 3), "Relu"
        last, sizes = "Tanh", (4, 8, 16, 32, 64, 128, 256)
    else:
        op, channels, activation = "Conv", (3, 32, 64, 128, 256, 512, 1024, 1), "LeakyRelu"
        last, sizes = "Sigmoid", (128, 64, 32, 16, 8, 4, 1)
    for i, size in enumerate(sizes, 1):
        shape = (channels[i], size, size)
        if (network, i) in (("generator", 1), ("discriminator", 7)):
            geometry = (4, 1, [0, 0, 0, 0])
        else:
            geometry = (5, 2, [2, 2, 1, 1]) if network == "generator" else (3, 2, [1, 1, 0, 0])
        bias = i == 7 or (network, i) == ("discriminator", 1)
        facts = _convolution(op, channels[i - 1], channels[i], geometry, bias)
        if (network, i) == ("discriminator", 1):
            facts["normalisation"] = [["Sub", MIDDLE], ["Div", MIDDLE]]
        yield Expected(f"conv{i}", op, facts, shape)
        if i < 7 and (network, i) != ("discriminator", 1):
            yield Expected(f"bn{i}", "BatchNormalization",
                           {"epsilon": EPSILON, "channels": [channels[i]] * 4}, shape)
        chosen = last if i == 7 else activation
        yield Expected(f"{ACTIVATIONS[chosen]}{i}", chosen,
                       {"alpha": ALPHA} if chosen == "LeakyRelu" else {}, shape)


LAYERS = {network: tuple(_table(network)) for network in ("generator", "discriminator")}
INPUT = {"generator": [100], "discriminator": [3, 256, 256]}


# The article's two tables: layer, kernel, channels, stride, and the size that comes out. (The
# article prints stride 2 for the generator's first layer; 1 x 1 to 4 x 4 is the same with either.)
GENERATOR_TABLE = [("conv1", 4, 1024, 4), ("conv2", 5, 512, 8), ("conv3", 5, 256, 16),
                   ("conv4", 5, 128, 32), ("conv5", 5, 64, 64), ("conv6", 5, 32, 128),
                   ("conv7", 5, 3, 256)]
DISCRIMINATOR_TABLE = [("conv1", 3, 32, 128), ("conv2", 3, 64, 64), ("conv3", 3, 128, 32),
                       ("conv4", 3, 256, 16), ("conv5", 3, 512, 8), ("conv6", 3, 1024, 4),
                       ("conv7", 4, 1, 1)]


def expected_parameters(network: str) -> int:
    """From the article's table: weights; scale and bias of each normalisation; the biases."""
    table = GENERATOR_TABLE if network == "generator" else DISCRIMINATOR_TABLE
    total, before = 0, 100 if network == "generator" else 3
    for i, (_, kernel, channels, _) in enumerate(table, 1):
        total += before * channels * kernel * kernel
        if i == len(table) or (network == "discriminator" and i == 1):
            total += channels
        else:
            total += 2 * channels
        before = channels
    return total
