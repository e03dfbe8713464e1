"""Inputs made for the edges that a training run seldom reaches. Plain Python 3.6 and numpy.

Both sides make them from the plan, so nothing is exchanged. Four kinds:

* the optimizer's: gradients of every size, many of them beyond the clipping threshold, for a few
  small parameters. In the article's run clipping is rarely active, so a wrong threshold would hide.
* the pointwise functions': where log is clamped, where the sigmoid is exactly 1, exact zeros.
* the normalisation's: a layer from its first minibatch on, of several sizes. Its running statistics
  enter no training loss, so a training run does not show how they are made.
* the reader's: a map file of 13 images, so that a few minibatches cross the end of a sweep.
"""
import os
from typing import Dict, List, Tuple

import numpy as np

from captures.map_file import read_map_file, write_map_file
from captures.plan import Plan

Arrays = Dict[str, np.ndarray]

OPTIMIZER_STEPS = 12
# name: (shape, scale of the gradients)
OPTIMIZER_PARAMETERS = (
    ("matrix", (37, 53), 1.0), ("kernel", (8, 5, 3, 3), 30.0), ("vector", (101,), 1e-3),
    ("tiny", (64,), 1e-9), ("scalar", (1,), 3000.0), ("sleeper", (50,), 1.0),
)
NORMALISATION_SAMPLES, NORMALISATION_SHAPE = (3, 2, 1, 4), (5, 3, 4)
READER_IMAGES, READER_MINIBATCHES = 13, 8


def optimizer_probe(plan: Plan) -> Tuple[Arrays, Arrays]:
    """(initial values, gradients of each step): two dicts by name, float32.

    The gradients are sums over a minibatch. "sleeper" has none after step 3.
    """
    random = np.random.RandomState(plan.seed)
    initial, gradients = {}, {}
    for name, shape, scale in OPTIMIZER_PARAMETERS:
        initial[name] = (random.standard_normal(shape) * 0.02).astype(np.float32)
        values = random.standard_normal((OPTIMIZER_STEPS,) + shape) * scale * plan.minibatch_size
        gradients[name] = values.astype(np.float32)
        if name == "sleeper":
            gradients[name][3:] = 0
    return initial, gradients


def normalisation_probe(plan: Plan) -> List[np.ndarray]:
    """Minibatches for one normalisation layer: float32 N x 5 x 3 x 4, each channel of its own mean
    and deviation."""
    random, (channels, _, _) = np.random.RandomState(plan.seed), NORMALISATION_SHAPE
    deviation = np.array([0.01, 0.3, 1, 7, 100]).reshape(channels, 1, 1)
    mean = np.array([0, 2, -1, 0.5, 30]).reshape(channels, 1, 1)
    return [(random.standard_normal((samples,) + NORMALISATION_SHAPE) * deviation + mean
             ).astype(np.float32) for samples in NORMALISATION_SAMPLES]


def logits_probe() -> np.ndarray:
    """Logits for sigmoid, the rectifiers and the two losses: float32 (2463,)."""
    return np.concatenate([
        np.linspace(-30, 30, 1201), np.linspace(-110, 110, 1101), np.linspace(-104, -86, 145),
        [0, -0.0, 16.635, 16.636, 16.64, -87.3, -88, -90, -100, -103.9, -104, 17, 40, 1e30, -1e30,
         1.0]]).astype(np.float32)


def logarithms_probe() -> np.ndarray:
    """Arguments of log: about 1, over all magnitudes, and where it is clamped: float32."""
    return np.concatenate([
        np.linspace(1e-3, 2, 801), 10.0 ** np.linspace(-44, 38, 1231),
        [0, -0.0, -1, 1e-37, 9.9e-38, 1.1e-37, 1, 1 - 2.0 ** -24, 1 + 2.0 ** -23],
    ]).astype(np.float32)


def reader_probe(plan: Plan, folder: str) -> str:
    """Writes a map file of the plan's first images into ``folder`` and returns its path."""
    path = os.path.join(folder, "reader_probe_map.txt")
    write_map_file(path, read_map_file(plan.map_file)[:READER_IMAGES],
                   os.path.dirname(plan.map_file))
    return path
