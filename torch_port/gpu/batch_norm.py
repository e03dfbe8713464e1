"""Batch normalisation on a GPU with CNTK's roundings: native/cntk_batch_norm.c says what they are.

The sums by a kernel, a channel's values one after the other; the rest value by value in PyTorch,
each operation rounded by itself. x, y, g: N x C x H x W; the rest C.
"""
import torch
from torch import Tensor

from torch_port.gpu import kernels

VALUE, SQUARE, PRODUCT = 0, 1, 2
CHANNELS = 16  # of a program: a warp, two lanes for each


def _sum(term: int, x: Tensor, g: Tensor, mean: Tensor) -> Tensor:
    samples, channels, rows, columns = x.shape
    sums = torch.empty_like(mean)
    kernels.channel_sums[(-(-channels // CHANNELS),)](
        x, g, mean, sums, channels, samples, rows, columns, TERM=term, CHANNELS=CHANNELS,
        UNROLL=min(16, 1 << max(1, columns // 2).bit_length() - 1), num_warps=1,
        enable_fp_fusion=False)
    return sums


def _values(x: Tensor) -> Tensor:
    """Of a channel, on the device: PyTorch multiplies by the reciprocal of a number that is not."""
    return torch.full((), x.numel() // x.shape[1], dtype=x.dtype, device=x.device)


def _inverse_root(x: Tensor) -> Tensor:
    """1 / sqrt(x), two roundings: the root through double, which is exact in every build."""
    return 1 / x.double().sqrt().to(x.dtype)


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]


def forward(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float
            ) -> tuple[Tensor, Tensor, Tensor]:
    """y, and the minibatch's mean and biased variance."""
    values = _values(x)
    mean = _sum(VALUE, x, x, scale) / values
    variance = _sum(SQUARE, x, x, mean) / values
    factor = scale * _inverse_root(variance + epsilon)
    y = x - _wide(mean)
    return y.mul_(_wide(factor)).add_(_wide(bias)), mean, variance


def backward(x: Tensor, g: Tensor, scale: Tensor, mean: Tensor, variance: Tensor, epsilon: float
             ) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, scale and bias from g, that of y."""
    values = _values(x)
    kept = _inverse_root(variance + epsilon)
    inverse = _inverse_root((1 / (kept * kept) - epsilon) + epsilon)
    of_bias = _sum(VALUE, g, g, mean)
    of_scale = _sum(PRODUCT, x, g, mean) * inverse
    part = (x - _wide(mean)).mul_(_wide(of_scale * inverse)).div_(values)
    of_x = (g - _wide(of_bias / values)).sub_(part).mul_(_wide(scale * inverse))
    return of_x, of_scale, of_bias
