"""The same port with the mends that the diagnosis names: it agrees."""
import math

import port
import torch.nn.functional as F
from port import d_loss, g_loss

from torch_port.translate.adam import CNTKAdamOfMeans

__all__ = ["d_loss", "discriminator", "g_loss", "generator", "images", "optimizers"]
generator = port.generate, port.generator_weights
discriminator = port.discriminate, port.discriminator_weights
images = {"channels": "RGB", "range": (0, 1)}


def normalised(weights, name, h, training):
    mean, var = weights[f"{name}.mean"], weights[f"{name}.var"]
    momentum = -math.expm1(-len(h) / 5000) if mean.any() else 1.0  # the first minibatch is copied
    return F.batch_norm(h, mean, var, weights[f"{name}.gamma"], weights[f"{name}.beta"], training,
                        momentum)


def optimizers(g, d, minibatch_size):
    return tuple(CNTKAdamOfMeans(one.parameters(), minibatch_size) for one in (g, d))


port.normalised = normalised
