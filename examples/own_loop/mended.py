"""The same port with the mends that the diagnosis names: it agrees."""
from port import GAN

from torch_port.translate.adam import CNTKAdamOfMeans
from torch_port.translate.batch_norm import as_cntks

latents = (100, 1, 1)
generator, discriminator = (lambda: as_cntks(GAN().generator)), (
    lambda: as_cntks(GAN().discriminator))


def d_loss(real, fake):
    return GAN.adversarial_loss(None, real, 1.0) + GAN.adversarial_loss(None, fake, 0.0)


def g_loss(fake):
    return GAN.adversarial_loss(None, fake, 1.0)


def optimizers(g, d, minibatch_size):
    return tuple(CNTKAdamOfMeans(one.parameters(), minibatch_size) for one in (g, d))
