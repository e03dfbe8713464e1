"""The article's two steps and its optimizers: what one iteration does to the networks.

    D step    losses -log D(x) - log(1 - D(G(z))), G without gradients; D's learner moves D
    G step    losses -log D(G(z)), through D; G's learner moves G

The learner takes the gradient of the SUM over the minibatch, and divides by its size itself
(``torch_port/adam.py``); an ordinary loop takes the mean. Both networks normalise by the minibatch
in both steps, so a D step moves G's running statistics too, and a G step D's.

Source: the article's program, ``cntk_impl/dcgan_training.py``.
"""
from collections.abc import Iterable

import torch
from torch import Tensor

from captures.article import LEARNING_RATE, MOMENTUM
from torch_port import ranks
from torch_port.adam import CNTKAdam
from torch_port.dcgan import Networks, normalized
from torch_port.layers import Each, unchanged
from torch_port.losses import discriminator_loss, generator_loss, minibatch_average

# ---------------------------------------------------------------------------------- the two steps


def discriminator_losses(networks: Networks, x: Tensor, z: Tensor, each_real: Each = unchanged,
                         each_fake: Each = unchanged) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) of each sample, N values; x in pixels, 0..255.

    G runs in the networks' mode, without gradients: nothing of it is learnt in this step.
    """
    with torch.no_grad():
        fake = networks.generator(z)
    d_real = networks.discriminator(normalized(x, networks.spec.middle), each_real)
    d_fake = networks.discriminator(fake, each_fake)
    return discriminator_loss(d_real, d_fake)


def generator_losses(networks: Networks, z: Tensor, each: Each = unchanged,
                     each_fake: Each = unchanged) -> tuple[Tensor, Tensor]:
    """-log D(G(z)) of each sample, N values, and the images G(z)."""
    fake = networks.generator(z, each)
    return generator_loss(networks.discriminator(fake, each_fake)), fake


def backward(losses: Tensor, learnt: torch.nn.Module) -> None:
    """Leaves in ``learnt`` the gradients of the SUM over the minibatch, as CNTK's learner has."""
    learnt.zero_grad(set_to_none=True)
    losses.sum().backward(inputs=list(learnt.parameters()))


def discriminator_step(networks: Networks, optimizer: CNTKAdam, x: Tensor, z: Tensor) -> float:
    """One update of the discriminator; returns the mean loss before it."""
    losses = discriminator_losses(networks, x, z)
    backward(losses, networks.discriminator)
    optimizer.step(samples=len(z) * ranks.count())
    networks.discriminator.zero_grad(set_to_none=True)
    return minibatch_average(ranks.whole(losses))


def generator_step(networks: Networks, optimizer: CNTKAdam, z: Tensor) -> tuple[float, Tensor]:
    """One update of the generator; returns the mean loss before it and the images."""
    losses, fake = generator_losses(networks, z)
    backward(losses, networks.generator)
    optimizer.step(samples=len(z) * ranks.count())
    networks.generator.zero_grad(set_to_none=True)
    return minibatch_average(ranks.whole(losses)), fake.detach()


def create_optimizer(parameters: Iterable[Tensor], minibatch_size: int, unit_gain: bool = False,
                     kind: type[CNTKAdam] = CNTKAdam) -> CNTKAdam:
    """The article's: a plain learning rate, which is divided by the minibatch size, and that size
    as the clipping threshold per sample."""
    return kind(parameters, LEARNING_RATE, momentum=MOMENTUM, unit_gain=unit_gain,
                clip_per_sample=float(minibatch_size))


def create_optimizers(networks: Networks, minibatch_size: int, unit_gain: bool = False
                      ) -> tuple[CNTKAdam, CNTKAdam]:
    """The generator's and the discriminator's."""
    return (create_optimizer(networks.generator.parameters(), minibatch_size, unit_gain),
            create_optimizer(networks.discriminator.parameters(), minibatch_size, unit_gain))
