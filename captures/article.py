"""The article's DCGAN, and every number of it, once. Plain Python 3.6.

    100 latents -> 3 x 256 x 256 in [-1, 1] -> the probability that the image is a real one

The tables are the article's own, row by row. (It prints stride 2 for the generator's first layer,
the program has 1: from 1 x 1 to 4 x 4 either gives the same.)

Sources: the article's layer tables and its program; CNTK 2.7's defaults for what the program leaves
open (time constant, epsilon), measured.
"""
from typing import Iterator, Sequence, Tuple

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

# What the program calls the files that it leaves of each network, without the suffix.
FILES = {DCGAN.maker.name: "dcgan_generator", DCGAN.critic.name: "dcgan_discriminator"}
