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
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_port.native import single_library

LOG_OF_TINY = -85.1
SMALLEST_IN_LOG = 1e-37


def _by_the_c_library(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """expf, logf or tanhf of float32 on the CPU; elsewhere PyTorch's, in double and rounded."""
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return function(x.double()).to(x.dtype)
    x = x.contiguous()
    y = torch.empty_like(x)
    getattr(single_library(), f"{name}_all")(x.data_ptr(), y.data_ptr(), x.numel())
    return y


def _exp(x: Tensor) -> Tensor:
    return _by_the_c_library("exp", torch.exp, x)


def _log(x: Tensor) -> Tensor:
    return _by_the_c_library("log", torch.log, x)


class _Log(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        output = torch.where(z < SMALLEST_IN_LOG, LOG_OF_TINY, _log(z))
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:  # type: ignore[override]
        (output,) = ctx.saved_tensors
        return upstream * _exp(-output)


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        q = _exp(-x.abs()).float()
        output = (torch.where(x > 0, 1.0, q) / (1 + q)).to(x.dtype)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:  # type: ignore[override]
        (output,) = ctx.saved_tensors
        return upstream * (output * (1 - output))


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        output = _by_the_c_library("tanh", torch.tanh, x).float().to(x.dtype)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:  # type: ignore[override]
        (output,) = ctx.saved_tensors
        return upstream * (1 - output * output)


class _LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return F.leaky_relu(x, slope)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return torch.where(x < 0, upstream * ctx.slope, upstream), None


def cntk_log(z: Tensor) -> Tensor:
    return _Log.apply(z)


def sigmoid(x: Tensor) -> Tensor:
    if torch.onnx.is_in_onnx_export():
        return torch.sigmoid(x)  # one Sigmoid node
    return _Sigmoid.apply(x)


def tanh(x: Tensor) -> Tensor:
    if torch.onnx.is_in_onnx_export():
        return torch.tanh(x)  # one Tanh node
    return _Tanh.apply(x)


def relu(x: Tensor) -> Tensor:
    return F.relu(x)


def leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    if torch.onnx.is_in_onnx_export() or not (torch.is_grad_enabled() and x.requires_grad):
        return F.leaky_relu(x, slope)  # the same numbers, and one LeakyRelu node when exported
    return _LeakyReLU.apply(x, slope)


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
