"""TODO."""
import errno
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from captures.files import written_whole


def write_image(path: Path, image: Tensor) -> None:
    """(image / 2 + 0.5) * 255 as PNG; image 3 x H x W in [-1, 1], channels B, G, R."""
    pixels = ((image / 2 + 0.5) * 255).numpy().transpose(1, 2, 0)
    done, encoded = cv2.imencode(".png", np.rint(pixels).astype(np.uint8))
    if not done:
        raise OSError(errno.EIO, "OpenCV could not encode the image", str(path))
    with written_whole(path) as part:
        part.write_bytes(encoded.tobytes())
