"""What CNTK's reader does to one image: the draws of its place, the colours, the scaling.

    image uint8 (H, W, 3), B, G, R
        -> ``augmentation_draws(position, step)``    brightness, contrast, saturation
        -> ``apply_color``                           float32, 0..255
        -> ``scale``                                 (height, width, 3)
        -> ``write_planes``                          (3, height, width), the minibatch's place

CNTK's bits where OpenCV's plain code rounds as its release 3.1 did, which ``bit_exact()`` tells.
What an ordinary colour jitter and resize do instead: ``torch_port/reader/reader.py``, with sources
and measurements.
"""
import hashlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

RADII = (0.2, 0.2, 0.2)  # brightness, contrast, saturation


# ------------------------------------------------------------------------------ the augmentation

class Draws(NamedTuple):
    """What ``color`` draws for one image: each in [-radius, radius).

    ``saturation`` is None where its radius is 0: then there is no way through HSV at all.
    """

    brightness: float
    contrast: float
    saturation: float | None


_STEPS_A_BLOCK = 256


@lru_cache(maxsize=1024)
def _outputs(position: int, block: int, size: int) -> np.ndarray:
    """Outputs block*size .. (block+1)*size - 1 of std::mt19937(position), uint32.

    Reaching one costs the outputs before it (a millisecond at step 100,000), once for 256 steps.
    """
    generator = np.random.RandomState(position)  # seeds as std::mt19937 does; a frozen stream
    left = block * size
    while left:
        part = min(left, 2**16)
        generator.randint(0, 2**32, part, dtype=np.uint32)
        left -= part
    return generator.randint(0, 2**32, size, dtype=np.uint32)


def augmentation_draws(position: int, step: int, radii: Sequence[float] = RADII) -> Draws:
    """What is drawn for place ``position`` of minibatch ``step``, both from 0.

        U(r) = k / 2**32 * 2r - r,  k the next 32-bit output of std::mt19937(position)

    drawn in the order brightness, contrast, saturation; a radius of 0 draws nothing. One output for
    each (as boost::uniform_real; std::uniform_real_distribution would take two). The generator goes
    on from minibatch to minibatch, over sweep ends, whatever the randomisation seed.
    """
    each = sum(radius > 0 for radius in radii)
    block, offset = divmod(step, _STEPS_A_BLOCK)
    outputs = iter(_outputs(position, block, each * _STEPS_A_BLOCK)[offset * each:].tolist())
    brightness, contrast, saturation = (
        next(outputs) / 2**32 * (radius + radius) - radius if radius > 0 else None
        for radius in radii)
    return Draws(brightness or 0.0, contrast or 0.0, saturation)


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.held: dict[tuple[str, type], np.ndarray] = {}


_scratch = _Scratch()


def _memory(name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
    """This thread's own memory of that name, used again: new pages cost more than the sums."""
    size = int(np.prod(shape))
    held = _scratch.held.get((name, kind))
    if held is None or held.size < size:
        held = _scratch.held[name, kind] = np.empty(size, kind)
    return held[:size].reshape(shape)


def _round_as_cntk() -> None:
    """Has this thread's OpenCV take its plain code.

    OpenCV's code for newer processors fuses multiply and add, which rounds once; the OpenCV 3.1 in
    CNTK rounds twice, and so does the plain code. Half of the setting (Intel's library) is the
    thread's, the other half the process's, so it is made for every image; it costs a microsecond.
    """
    cv2.setUseOptimized(False)


def brightness_contrast_table(image: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    """What ``color`` makes of each of the 256 values of a pixel, float32 (256,).

        beta = float32(brightness * mean over all pixels and channels)
        alpha = float32(1 + contrast);   p -> min(max(p * alpha + beta, 0), 255), in float32
    """
    beta = np.float32(brightness * sum(cv2.sumElems(image)) / image.size)
    table = np.arange(256, dtype=np.float32)
    table *= np.float32(1 + contrast)
    table += beta
    return np.clip(table, 0, 255, out=table)


def apply_color(image: np.ndarray, brightness: float, contrast: float,
                saturation: float | None = None) -> np.ndarray:
    """CNTK's ``color`` transform.

        p = min(max(p * (1 + contrast) + brightness * mean, 0), 255)
        h, s, v = hsv(p);   p = bgr(h, min(s * (1 + saturation), 1), v)

    image: uint8 (height, width, 3), channels B, G, R.
    Returns float32 of the same shape, 0..255, in memory that this thread uses again: it holds until
    the thread's next call.

    s * (1 + saturation) is a product in double, rounded to float32. torchvision's ColorJitter
    multiplies for brightness, blends with the mean grey and with each pixel's grey for the others,
    and draws the order.
    """
    _round_as_cntk()
    table = brightness_contrast_table(image, brightness, contrast)
    pixels = cv2.LUT(image, table, _memory("pixels", image.shape, np.float32))
    if saturation is None:
        return pixels
    hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV, _memory("hsv", image.shape, np.float32))
    s = hsv[..., 1]
    np.multiply(s, 1.0 + saturation, out=s, dtype=np.float64, casting="same_kind")
    if saturation > 0:
        rows = hsv.reshape(len(hsv), -1)
        highest = np.tile(np.array([np.inf, 1, np.inf], np.float32), hsv.shape[1])
        np.minimum(rows, highest, out=rows)  # whole rows: three times as quick as s alone
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, pixels)


def scale(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """CNTK's ``scale`` in mode 'fill', 'linear': the aspect ratio is not kept.

        p'[x] = p[i] * (1 - f) + p[i + 1] * f,   i + f = (x + 0.5) * source / width - 0.5

    along the width, then along the height, in float32, without antialiasing; where both are exactly
    half of the source's, the mean of four pixels.

    image: float32 (H, W, 3), or uint8, which stays uint8. Returns (height, width, 3) in memory that
    this thread uses again.
    """
    _round_as_cntk()
    out = _memory("scaled", (height, width, 3), image.dtype.type)
    return cv2.resize(image, (width, height), out, interpolation=cv2.INTER_LINEAR)


def write_planes(image: np.ndarray, out: np.ndarray) -> None:
    """out[c] = image[..., c]: (height, width, 3) into float32 (3, height, width)."""
    if image.dtype == np.float32:
        cv2.split(image, list(out))
    else:
        out[...] = image.transpose(2, 0, 1)


def calibration_image() -> np.ndarray:
    """An image with many hues, greys, and both ends of the range: uint8 (47, 61, 3)."""
    x, y = np.meshgrid(np.arange(61), np.arange(47))
    return np.stack([x * 4, np.minimum(x * y, 255), 255 - y * 5 + x % 7], 2).astype(np.uint8)


_CALIBRATION_BY_CNTK = "07879e896915b976b1f031912e93594b53ee60acc3b68dfa64e9c6570734e012"


def bit_exact() -> bool:
    """Whether OpenCV rounds here as CNTK's does, on what CNTK makes of the calibration image.

    False with a processor or an OpenCV whose plain code fuses multiply and add.
    """
    planes = np.empty((3, 53, 40), np.float32)
    write_planes(scale(apply_color(calibration_image(), *augmentation_draws(0, 0)), 40, 53), planes)
    return hashlib.sha256(planes.tobytes()).hexdigest() == _CALIBRATION_BY_CNTK
