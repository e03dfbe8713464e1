"""What the suite needs to know of port.py: functions, their weights, and how images go in."""
import torch
from port import (
    d_loss,
    discriminate,
    discriminator_weights,
    g_loss,
    generate,
    generator_weights,
)

__all__ = ["d_loss", "discriminator", "g_loss", "generator", "images", "optimizers"]
generator, discriminator = (generate, generator_weights), (discriminate, discriminator_weights)
images = {"channels": "RGB", "range": (0, 1)}


def optimizers(g, d, minibatch_size):
    return tuple(torch.optim.Adam(one.parameters(), 2e-4, (0.5, 0.999)) for one in (g, d))
