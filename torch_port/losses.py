"""CNTK's log, sigmoid and rectifiers, and the two losses of the GAN made of them.

    cntk_log(z)    log(z), but -85.1 where z < 1e-37; gradient exp(-output): 1/z, or 9.0878e36
    sigmoid(x)     (1 if x > 0 else q) / (1 + q), q = exp(-|x|);  gradient y * (1 - y)
    leaky_relu(x)  x if x >= 0 else 0.2 * x;  gradient 1 at exactly 0
    relu(x)        max(x, 0);  gradient 0 at exactly 0

    tanh(x)        gradient g * (1 - y * y)

Elementwise over tensors of any shape, in float32 or float64. exp, log and tanh of float32 on the
CPU are the C library's expf, logf and tanhf, as in CNTK. The outputs of sigmoid and tanh are
float32 numbers in float64 too: that they are exactly 1 from some x on, with a gradient of exactly
0, is what CNTK computes, not its rounding error.

float32 on the CPU: CNTK's bits, 0 values differing, in outputs and gradients: log at 40,017 points,
sigmoid, the rectifiers and the losses from the logit on at 120,019 each, subnormal ones among them.
(CNTK's relu makes NaN of -inf and 0 of the smallest subnormal; this one does not.) Exponentials in
double precision, rounded, are off by one rounding in 149 logarithms and 34 sigmoids.

Saturation. sigmoid(x) is exactly 1 from x = 16.636 on, so -log(1 - sigmoid(x)) is 85.1 with
gradient 0; -log(sigmoid(x)) has the gradient -1 at -20, -0.0074 at -90, 0 at -104. A sample's
loss never exceeds 85.195, the logarithm of 1e-37.

An ordinary PyTorch layer differs. binary_cross_entropy clamps at -100 (loss 100, not 85.1); the
softplus forms keep a gradient of 1 where CNTK's is 0; torch.sigmoid differs in 23,682 of 120,019
values and gives 0 below 1.2e-38 on some processors (gradient of -log D at logit -90: 0, CNTK's
-0.0074); leaky_relu's gradient at 0 is the slope, 0.2; a mean reduction gives 1/N of the gradient.

Source: microsoft/CNTK, Source/Math/TensorOps.h and CommonMatrix.h; figures from
tests/torch_port/test_losses.py.
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
