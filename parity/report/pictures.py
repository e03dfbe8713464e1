"""What a page shows beside its tables: arrays in, PNG bytes out. The plots are in ``plots.py``."""
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

SHOWN_IMAGES = 6
SHOWN_SIDE = 128  # pixels: 18 PNGs of noise, the worst case, are then 0.9 MB


@dataclass
class Pictures:
    """Arrays for the page; each may be absent.

    initial: name of a weight to (a sample of CNTK's values, the port's at the same indices).
    images: (CNTK's, the port's) of the same latents, N x 3 x H x W in [-1, 1], channels B, G, R.
    """

    initial: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    images: tuple[Floats, Floats] | None = None
    sheets: list["Sheet"] = field(default_factory=list)


@dataclass(frozen=True)
class Sheet:
    """Contact sheets of one source of pictures, PNGs. port: None where it is CNTK's, byte for byte.
    count: pictures on it, of ``of``."""

    title: str
    cntk: bytes
    port: bytes | None
    count: int
    of: int


@dataclass(frozen=True)
class ImagePair:
    """Three PNGs of one latent: CNTK's image, the port's, and their difference times a factor."""

    cntk: bytes
    port: bytes
    difference: bytes


@dataclass(frozen=True)
class ImageRows:
    """pairs: the shown ones. count: of all. factor: of the differences' brightness. largest:
    difference anywhere, of a range of 2; NaN where an image holds NaN. differing: the part of all
    values that differ. step: so many pixels a side are shown as one."""

    pairs: list[ImagePair]
    count: int
    factor: int
    largest: float
    differing: float
    step: int


def amplification(difference: Floats) -> int:
    """The largest of 1, 2, 5, 10, 20, ... with which 999 of 1000 values stay below full
    brightness (2, the whole range); 1 where nothing differs."""
    finite = difference[np.isfinite(difference)]
    bright = float(np.quantile(finite, 0.999)) if finite.size else 0.0
    bright = bright or float(finite.max(initial=0.0))
    if bright <= 0:
        return 1
    room = 2 / bright
    decade = 10 ** int(np.floor(np.log10(max(room, 1.0))))
    return max(int(step * decade) for step in (1, 2, 5) if step == 1 or step * decade <= room)


def compare_images(cntk: Floats, port: Floats, shown: int = SHOWN_IMAGES) -> ImageRows:
    """Raises ValueError: the two are not the same shape, or not N x 3 x H x W."""
    if cntk.shape != port.shape or cntk.ndim != 4 or cntk.shape[1] != 3 or 0 in cntk.shape:
        raise ValueError(f"images have the shapes {cntk.shape} and {port.shape}: give N x 3 x H x "
                         "W twice, channels B, G, R")
    step = -(-max(cntk.shape[2:]) // SHOWN_SIDE)
    with np.errstate(invalid="ignore"):  # infinity - infinity is the NaN that it should be
        difference = abs(cntk.astype(np.float64) - port)
        factor = amplification(difference)
        # NaN is shown as the brightest difference: a hole must not look like agreement.
        bright = np.nan_to_num(difference, nan=np.inf) * factor
        pairs = [ImagePair(_png(_mean(theirs, step) / 2 + 0.5), _png(_mean(ours, step) / 2 + 0.5),
                           _png(_most(apart, step) / 2))
                 for theirs, ours, apart in zip(cntk[:shown], port, bright, strict=False)]
    return ImageRows(pairs, len(cntk), factor, float(difference.max()),
                     float(np.mean(~(difference == 0))), step)


def _blocks(image: Floats, step: int) -> Floats:
    """3 x H x W to 3 x h x w x pixels of a block; what does not fill a block is left out."""
    height, width = (max(side // step, 1) for side in image.shape[1:])
    cut = image[:, :height * step, :width * step]
    rows, columns = cut.shape[1] // height, cut.shape[2] // width
    blocks = cut.reshape(3, height, rows, width, columns).swapaxes(2, 3)
    return blocks.reshape(3, height, width, rows * columns)


def _mean(image: Floats, step: int) -> Floats:
    return np.asarray(_blocks(image, step).mean(-1))


def _most(image: Floats, step: int) -> Floats:
    """The largest of a block: one pixel that differs stays visible in the smaller picture."""
    return np.asarray(_blocks(image, step).max(-1))


def _png(bgr: Floats) -> bytes:
    """3 x H x W in [0, 1], channels B, G, R: OpenCV takes that order and writes R, G, B."""
    whole = np.nan_to_num(np.clip(bgr, 0, 1)) * 255
    pixels = np.ascontiguousarray(np.rint(whole).astype(np.uint8).transpose(1, 2, 0))
    return bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])
