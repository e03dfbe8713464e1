"""Scaling of pictures, one kernel at a time, in numpy alone: the same lines in every process.

    out[i] = sum over j of in[j] w(i, j),    sum over j of w(i, j) = 1,    rows first, then columns

Published scores differ by per cents because their programs scale differently, and all of them call
it bilinear. Let s = size of the input / size of the output, and c = s (i + 1/2) - 1/2.

bilinear       w = 1 - |j - c|: PyTorch's and OpenCV's. No filter before making smaller.
tensorflow1    w = 1 - |j - s i|: TensorFlow 1's resize_bilinear, which the 2015 graph of Inception
               holds. It is the other by half a pixel of shift, towards the top left.
antialias      the triangle, s times as wide when making smaller: Pillow's BILINEAR.
bicubic        Keys' cubic with a = -1/2 and the same widening: Pillow's BICUBIC.
nearest        the pixel that lies under i: PyTorch's "nearest-exact".

Arithmetic is that of the input: float32 in, float32 out, float64 in, float64 out. Python 3.6.
"""
from functools import lru_cache
from typing import TYPE_CHECKING, Tuple

import numpy as np

from scores.errors import ScoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

KERNELS = ("bilinear", "tensorflow1", "antialias", "bicubic", "nearest")


def _triangle(x: "Floats") -> "Floats":
    return np.asarray(np.maximum(0.0, 1.0 - abs(x)))


def _cubic(x: "Floats") -> "Floats":
    x = abs(x)
    near = 1.5 * x ** 3 - 2.5 * x ** 2 + 1
    far = -0.5 * x ** 3 + 2.5 * x ** 2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=64)
def taps(before: int, after: int, kernel: str) -> "Tuple[NDArray[np.intp], NDArray[np.float64]]":
    """Which inputs each output is made of, and their weights: two arrays, after x T.

    Raises ScoreError: an unknown kernel.
    """
    if kernel not in KERNELS:
        raise ScoreError("there is no kernel {!r}: give one of {}".format(
            kernel, ", ".join(KERNELS)))
    scale = before / float(after)
    out = np.arange(after)
    centre = scale * (out + 0.5) - 0.5
    if kernel == "tensorflow1":  # its program has the places in float32: 2e-5 of a pixel by 256
        centre = (np.float32(scale) * out.astype(np.float32)).astype(np.float64)
    if kernel == "nearest":
        index = np.asarray((2 * out + 1) * before // (2 * after), np.intp)  # exact where it ties
        return index[:, None], np.ones((after, 1))
    if kernel in ("bilinear", "tensorflow1"):
        centre = np.clip(centre, 0, before - 1)
        low = np.floor(centre).astype(np.intp)
        part = centre - low
        index = np.stack([low, np.minimum(low + 1, before - 1)], 1)
        return index, np.stack([1 - part, part], 1)
    wide = max(scale, 1.0)
    shape, radius = (_cubic, 2.0 * wide) if kernel == "bicubic" else (_triangle, wide)
    first = np.floor(centre - radius).astype(np.intp) + 1
    index = np.asarray(first[:, None] + np.arange(int(np.ceil(2 * radius)) + 1), np.intp)
    weights = np.asarray(shape((index - centre[:, None]) / wide), np.float64)
    weights[(index < 0) | (index >= before)] = 0  # the edge: what is left is scaled up to 1
    weights /= weights.sum(1, keepdims=True)
    return np.asarray(np.clip(index, 0, before - 1), np.intp), weights


def resize(images: "Floats", height: int, width: int, kernel: str) -> "Floats":
    """N x C x H x W to N x C x height x width.

    Raises ScoreError: an unknown kernel, or no N x C x H x W.
    """
    if images.ndim != 4 or 0 in images.shape:
        raise ScoreError("pictures have the shape {}: give N x C x H x W".format(images.shape))
    if images.shape[2:] == (height, width):
        return images
    for axis, after in ((2, height), (3, width)):
        index, weights = taps(images.shape[axis], after, kernel)
        shape = (1, 1, after, 1) if axis == 2 else (1, 1, 1, after)
        columns = weights.astype(images.dtype)
        scaled = np.take(images, index[:, 0], axis) * columns[:, 0].reshape(shape)
        for t in range(1, index.shape[1]):
            scaled += np.take(images, index[:, t], axis) * columns[:, t].reshape(shape)
        images = scaled
    return images
