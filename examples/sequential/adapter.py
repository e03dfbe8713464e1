"""What the suite needs to know of port.py."""
import torch
from port import d_loss, discriminator, g_loss, generator

__all__ = ["d_loss", "discriminator", "g_loss", "generator", "optimizers"]


def optimizers(g, d, minibatch_size):
    return tuple(torch.optim.Adam(network.parameters(), 1e-4, betas=(0.5, 0.999))
                 for network in (g, d))
