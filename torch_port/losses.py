"""The two losses of the GAN, made of CNTK's log (``torch_port/activations.py``).

    discriminator   -log D(x) - log(1 - D(G(z)))
    generator       -log D(G(z))

of each sample, N values; float32 on the CPU: CNTK's bits from the logit on, at 120,019 points.

Saturation. sigmoid(x) is exactly 1 from x = 16.636 on, so -log(1 - sigmoid(x)) is 85.1 with
gradient 0; -log(sigmoid(x)) has the gradient -1 at -20, -0.0074 at -90, 0 at -104. A sample's
loss never exceeds 85.195, the logarithm of 1e-37.

An ordinary PyTorch loss differs. binary_cross_entropy clamps at -100 (loss 100, not 85.1); the
softplus forms keep a gradient of 1 where CNTK's is 0; a mean reduction gives 1/N of the gradient.

Source: microsoft/CNTK, Source/Math/TensorOps.h; figures from tests/torch_port/test_losses.py.
"""
import torch
from torch import Tensor

from torch_port.activations import cntk_log


def discriminator_loss(d_real: Tensor, d_fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) of each sample: N values, from N outputs of D in (0, 1) each.

    ``.sum().backward()`` gives the gradients that CNTK gives its learner; ``minibatch_average`` is
    the loss that CNTK prints.
    """
    return -cntk_log(d_real).flatten() - cntk_log(1 - d_fake).flatten()


def generator_loss(d_fake: Tensor) -> Tensor:
    """-log D(G(z)) of each sample; sum it for the gradient, average it to print, as above."""
    return -cntk_log(d_fake).flatten()


def minibatch_average(losses: Tensor) -> float:
    """CNTK's ``previous_minibatch_loss_average``: N losses added up in double, the sum rounded to
    the losses' own precision, divided by N in double. ``.mean()``, in float32, prints another last
    digit in a fifth of the minibatches of 4 (measured by tests/torch_port/test_losses.py)."""
    total = losses.detach().sum(dtype=torch.float64).to(losses.dtype)
    return float(total) / losses.numel()
