"""Pictures and TensorBoard's events, as ``captures.training.session`` asks for them."""
import errno
from typing import Any

import cv2
import numpy as np


def encode(picture: np.ndarray) -> bytes:
    """Bytes H x W x 3, channels B, G, R, as a PNG. Raises OSError where OpenCV cannot."""
    done, encoded = cv2.imencode(".png", picture)
    if not done:
        raise OSError(errno.EIO, "OpenCV could not encode a picture")
    return encoded.tobytes()


def events(folder: str, step: int) -> Any:
    """A writer of TensorBoard's events; those from ``step`` on that are there do not count."""
    from tensorboardX import SummaryWriter
    return SummaryWriter(folder, purge_step=step)
