"""Runs of a training small enough for hundreds of them: what ``torch_port.fitted`` does, in small.

A generator z -> relu -> tanh is fitted to pictures of ten kinds, one latent a picture, by Adam on
the mean absolute difference, and stopped long before it is done, so that its learning rate shows
in what it makes. All runs of a call are trained side by side, each from its own seed's weights.
"""
from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scores.inception_score import score, softmax

KINDS, PIXELS, LATENT, WIDE = 10, 24, 8, 24
FITTED, ITERATIONS, RATE, SPREAD = 40, 60, 4e-3, 0.3


def trained_scores(runs: int, pictures: int, seed: int, rate: float = RATE, kinds: int = KINDS
                   ) -> NDArray[np.float64]:
    """The score of each of ``runs`` runs, of as many pictures. kinds: of the pictures fitted to."""
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draws)

    fixed = np.random.RandomState(0)
    modes = np.sign(fixed.normal(size=(KINDS, PIXELS)))
    classifier = modes.T * 8 / PIXELS
    centres = torch.from_numpy(fixed.normal(size=(KINDS, LATENT))).float()
    wanted = torch.from_numpy(modes[np.arange(FITTED) % kinds]).float()
    weights = [(normal(runs, LATENT, WIDE) * LATENT ** -0.5).requires_grad_(),
               (normal(runs, WIDE, PIXELS) * WIDE ** -0.5).requires_grad_()]

    def made(z: Tensor) -> Tensor:
        return torch.tanh(torch.relu(z @ weights[0]) @ weights[1])

    def latents(count: int) -> Tensor:
        """Those of a kind lie together."""
        return centres[torch.arange(count) % KINDS] + SPREAD * normal(runs, count, LATENT)

    z = latents(FITTED)
    optimizer = torch.optim.Adam(weights, rate, (0.5, 0.999))
    for _ in range(ITERATIONS):
        optimizer.zero_grad()
        # each run's own mean, summed: no run feels another
        (made(z) - wanted).abs().mean((1, 2)).sum().backward()
        optimizer.step()
    with torch.no_grad():
        logits = made(latents(pictures)).double().numpy() @ classifier
    return np.array([score(softmax(rows)) for rows in logits])
