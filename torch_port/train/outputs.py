"""Pictures and TensorBoard's events, as ``captures.training.session`` asks for them."""
import errno

import cv2
import numpy as np

from captures.training.events import Events


def encode(picture: np.ndarray) -> bytes:
    """Bytes H x W x 3, channels B, G, R, as a PNG. Raises OSError where OpenCV cannot."""
    done, encoded = cv2.imencode(".png", picture)
    if not done:
        raise OSError(errno.EIO, "OpenCV could not encode a picture")
    return encoded.tobytes()


def events(folder: str, step: int) -> Events:
    """A writer of TensorBoard's events."""
    import tensorboardX
    return Events(tensorboardX, folder, step)
