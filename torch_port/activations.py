"""CNTK's log, sigmoid, tanh and rectifiers.

    cntk_log(z)    log(z), but -85.1 where z < 1e-37; gradient exp(-output): 1/z, or 9.0878e36
    sigmoid(x)     (1 if x > 0 else q) / (1 + q), q = exp(-|x|);  gradient y * (1 - y)
    tanh(x)        gradient 1 - y * y
    leaky_relu(x)  x if x >= 0 else 0.2 * x;  gradient 1 at exactly 0
    relu(x)        max(x, 0);  gradient 0 at exactly 0, and of no number

Elementwise over tensors of any shape, in float32 or float64. exp, log and tanh of float32 on the
CPU are the C library's expf, logf and tanhf, as in CNTK. The outputs of sigmoid and tanh are
float32 numbers in float64 too: that they are exactly 1 from some x on, with a gradient of exactly
0, is what CNTK computes, not its rounding error.

float32 on the CPU: CNTK's bits, 0 values differing, in outputs and gradients: log at 40,017 points,
sigmoid and the rectifiers at 120,019 each, subnormal ones among them. (But CNTK's relu is as of
x / 2 + |x| / 2: NaN of -inf, and below 2.4e-38 without the last bit of every other x, so that the
smallest is 0; this one is not.) Exponentials in double precision, rounded,
are off by one rounding in 149 logarithms and 34 sigmoids.

An ordinary PyTorch layer differs: torch.sigmoid in 23,682 of 120,019 values, and it gives 0 below
1.2e-38 on some processors (gradient of -log D at logit -90: 0, CNTK's -0.0074); leaky_relu's
gradient at 0 is the slope, 0.2.

Source: microsoft/CNTK, Source/Math/TensorOps.h and CommonMatrix.h; figures from
tests/torch_port/test_losses.py.
"""
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_port.native import single_library
from torch_port.rounding import has_the_order

LOG_OF_TINY = -85.1
SMALLEST_IN_LOG = 1e-37


def _by_the_c_library(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """expf, logf or tanhf of float32 where CNTK is followed, of a GPU's values too; elsewhere
    PyTorch's, in double and rounded."""
    if x.dtype != torch.float32 or not has_the_order(x):
        return function(x.double()).to(x.dtype)
    there, x = x.device, x.cpu().contiguous()
    y = torch.empty_like(x)
    getattr(single_library(), f"{name}_all")(x.data_ptr(), y.data_ptr(), x.numel())
    return y.to(there)


def _exp(x: Tensor) -> Tensor:
    return _by_the_c_library("exp", torch.exp, x)


def _log(x: Tensor) -> Tensor:
    return _by_the_c_library("log", torch.log, x)


class _Log(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        output = _log(z).masked_fill(z < SMALLEST_IN_LOG, LOG_OF_TINY)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        return upstream * _exp(-output)


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        q = _exp(-x.abs()).float()
        output = (q.masked_fill(x > 0, 1.0) / (1 + q)).to(x.dtype)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        gradient: Tensor = upstream * (output * (1 - output))
        return gradient


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        output = _by_the_c_library("tanh", torch.tanh, x).float().to(x.dtype)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        gradient: Tensor = upstream * (1 - output * output)
        return gradient


class _LeakyReLU(torch.autograd.Function):
    """Keeps where x < 0, a byte a value, and not x. (The output has no sign of the two smallest
    subnormal x: 0.2 of them is -0.)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x < 0)
        ctx.slope = slope
        return F.leaky_relu(x, slope)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (below,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # of the gradient there will be one: nothing in place
            return torch.where(below, upstream * ctx.slope, upstream), None
        gradient = upstream * ctx.slope
        return torch.where(below, gradient, upstream, out=gradient), None


class _ReLU(torch.autograd.Function):
    """Keeps its output, which the next layer keeps as well, and not x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        output = F.threshold(x, 0.0, 0.0)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        return upstream.masked_fill(~(output > 0), 0.0)


def cntk_log(z: Tensor) -> Tensor:
    y: Tensor = _Log.apply(z)
    return y


def sigmoid(x: Tensor) -> Tensor:
    if torch.onnx.is_in_onnx_export():
        return torch.sigmoid(x)  # one Sigmoid node
    y: Tensor = _Sigmoid.apply(x)
    return y


def tanh(x: Tensor) -> Tensor:
    if torch.onnx.is_in_onnx_export():
        return torch.tanh(x)  # one Tanh node
    y: Tensor = _Tanh.apply(x)
    return y


def relu(x: Tensor) -> Tensor:
    """max(x, 0). Of -0.0 CNTK makes 0.0 (measured), ``F.relu`` leaves it."""
    if torch.onnx.is_in_onnx_export():
        return F.relu(x)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return F.threshold(x, 0.0, 0.0)
    y: Tensor = _ReLU.apply(x)
    return y


def leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    if torch.onnx.is_in_onnx_export() or not (torch.is_grad_enabled() and x.requires_grad):
        return F.leaky_relu(x, slope)  # the same numbers, and one LeakyRelu node when exported
    y: Tensor = _LeakyReLU.apply(x, slope)
    return y
