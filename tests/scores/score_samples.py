"""Pictures that the tests of the scores share."""
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def noise(count: int, seed: int = 0, height: int = 40, width: int = 52) -> NDArray[np.float32]:
    """Pixels 0..255, whole numbers, as float32."""
    pixels = np.random.RandomState(seed).randint(0, 256, (count, 3, height, width))
    return pixels.astype(np.float32)
