"""The same port with the mends that the diagnosis names: it agrees."""
import port
from port import d_loss, g_loss

from torch_port.translate.adam import CNTKAdamOfMeans
from torch_port.translate.batch_norm import as_cntks

__all__ = ["d_loss", "discriminator", "g_loss", "generator", "optimizers"]


def generator():
    return as_cntks(port.generator())


def discriminator():
    return as_cntks(port.discriminator())


def optimizers(g, d, minibatch_size):
    return tuple(CNTKAdamOfMeans(network.parameters(), minibatch_size) for network in (g, d))
