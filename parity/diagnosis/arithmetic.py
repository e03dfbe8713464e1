"""The layers in float64, forwards and backwards, in numpy: what a hypothesis computes with.

    conv(x, w, stride, pads)               pads: top, left, bottom, right (zeros; or ``mode``)
    transposed(x, w, stride, crop)         crop: the same four, cut off behind
    conv_backward(g, x, w, stride, pads)   (gradient of x, of w); transposed_backward alike
    normalised(x, mean, variance, scale, bias, epsilon)
    normalisation_backward(g, x, scale, epsilon, mean, variance)

Shapes are the captures': x N x C x H x W, Conv (out, in, h, w), ConvTranspose (in, out, h, w). A
result carries float64's rounding, a thousand-millionth of float32's.
"""
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pads = tuple[int, int, int, int]
AXES = (0, 2, 3)


def wide(x: NDArray[np.generic]) -> Floats:
    """The same values in float64."""
    return np.asarray(x, np.float64)


def _taps(kernel: tuple[int, int]) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(kernel[0]) for j in range(kernel[1]))


def _window(size: int, at: int, stride: int) -> slice:
    return slice(at, at + stride * (size - 1) + 1, stride)


def padded(x: Floats, pads: Pads, mode: str = "constant") -> Floats:
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), mode=mode)  # type: ignore[call-overload,no-any-return]


def conv(x: Floats, w: Floats, stride: int, pads: Pads, mode: str = "constant") -> Floats:
    """Cross-correlation, as CNTK and PyTorch have it."""
    x = padded(x, pads, mode)
    n, _, height, width = x.shape
    rows, columns = (height - w.shape[2]) // stride + 1, (width - w.shape[3]) // stride + 1
    y = np.zeros((w.shape[0], n * rows * columns))
    for i, j in _taps(w.shape[2:]):
        seen = x[:, :, _window(rows, i, stride), _window(columns, j, stride)]
        y += w[:, :, i, j] @ seen.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
    return y.reshape(w.shape[0], n, rows, columns).transpose(1, 0, 2, 3)


def spread(x: Floats, w: Floats, stride: int) -> Floats:
    """A transposed convolution with nothing cut off: (n - 1) * stride + kernel."""
    n, _, rows, columns = x.shape
    height, width = (rows - 1) * stride + w.shape[2], (columns - 1) * stride + w.shape[3]
    y = np.zeros((n, w.shape[1], height, width))
    flat = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
    for i, j in _taps(w.shape[2:]):
        part = (w[:, :, i, j].T @ flat).reshape(w.shape[1], n, rows, columns)
        y[:, :, _window(rows, i, stride), _window(columns, j, stride)] += part.transpose(1, 0, 2, 3)
    return y


def cropped(y: Floats, crop: Pads) -> Floats:
    """What is cut off; where it is below 0, rows or columns of zeros are added."""
    more = tuple(max(0, -side) for side in crop)
    top, left, bottom, right = (max(0, side) for side in crop)
    made = y[:, :, top:y.shape[2] - bottom, left:y.shape[3] - right]
    return padded(made, more) if any(more) else made  # type: ignore[arg-type]


def transposed(x: Floats, w: Floats, stride: int, crop: Pads) -> Floats:
    return cropped(spread(x, w, stride), crop)


def conv_backward(g: Floats, x: Floats, w: Floats, stride: int, pads: Pads
                  ) -> tuple[Floats, Floats]:
    """Of x and of w."""
    x = padded(x, pads)
    top, left, _, _ = pads
    of_x, of_w = np.zeros(x.shape), np.zeros(w.shape)
    n, _, rows, columns = g.shape
    flat = g.transpose(1, 0, 2, 3).reshape(g.shape[1], -1)
    for i, j in _taps(w.shape[2:]):
        at = (slice(None), slice(None), _window(rows, i, stride), _window(columns, j, stride))
        seen = x[at].transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
        of_w[:, :, i, j] = flat @ seen.T
        part = (w[:, :, i, j].T @ flat).reshape(x.shape[1], n, rows, columns)
        of_x[at] += part.transpose(1, 0, 2, 3)
    height, width = x.shape[2] - pads[0] - pads[2], x.shape[3] - pads[1] - pads[3]
    return of_x[:, :, top:top + height, left:left + width], of_w


def transposed_backward(g: Floats, x: Floats, w: Floats, stride: int, crop: Pads
                        ) -> tuple[Floats, Floats]:
    """Of x and of w: the convolution of g, and its gradient by w with g and x exchanged."""
    of_x = conv(g, w, stride, crop)
    _, of_w = conv_backward(x, g, w, stride, crop)
    return of_x, of_w


def moments(x: Floats) -> tuple[Floats, Floats]:
    """Mean and biased variance of each channel, over samples and places."""
    mean = x.mean(AXES)
    return mean, np.square(x - column(mean)).mean(AXES)


def column(values: Floats) -> Floats:
    """C values as 1 x C x 1 x 1."""
    return np.asarray(values).reshape(1, -1, 1, 1)


def normalised(x: Floats, mean: Floats, variance: Floats, scale: Floats, bias: Floats,
               epsilon: float) -> Floats:
    return (x - column(mean)) * column(scale / np.sqrt(variance + epsilon)) + column(bias)


def normalisation_backward(g: Floats, x: Floats, scale: Floats, epsilon: float, mean: Floats,
                           variance: Floats, constants: bool = False) -> Floats:
    """Of x, where mean and variance are the minibatch's own. constants: as if they did not depend
    on x."""
    r = 1 / np.sqrt(variance + epsilon)
    if constants:
        return g * column(scale * r)
    n = x.size // x.shape[1]
    centred = (x - column(mean)) * column(r)
    of_bias, of_scale = g.sum(AXES), (g * centred).sum(AXES)
    made: Floats = column(scale * r) * (g - column(of_bias) / n - centred * column(of_scale) / n)
    return made
