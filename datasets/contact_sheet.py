"""Many small pictures on one."""
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from captures.errors import DataError
from captures.files import written_whole

PICTURES, TILE, COLUMNS = 60, 160, 10


def contact_sheet(images: Sequence[Path], picture: Path) -> int:
    """Writes the first images, each scaled to a square tile, as one PNG: how many.

    Raises DataError where one does not decode.
    """
    shown = list(images[:PICTURES])
    columns = min(len(shown), COLUMNS)
    rows = -(-len(shown) // columns)
    sheet = np.full((rows * TILE, columns * TILE, 3), 255, np.uint8)
    for i, path in enumerate(shown):
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{path} does not decode: delete it and run again")
        y, x = i // columns * TILE, i % columns * TILE
        sheet[y:y + TILE, x:x + TILE] = cv2.resize(image, (TILE, TILE),
                                                   interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".png", sheet)
    with written_whole(picture) as part:
        part.write_bytes(encoded.tobytes())
    return len(shown)
