"""What a score's page shows: the number first, what it depends on, the pictures."""
from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray

from scores.evaluate import Scored

THUMB, ACROSS = 96, 8


def contact_sheet(pictures: Sequence[NDArray[np.uint8]], across: int = ACROSS) -> bytes:
    """A PNG of the pictures, H x W x 3 each, in reading order, 96 pixels a side.

    Raises ValueError: no pictures."""
    from PIL import Image

    if not pictures:
        raise ValueError("there are no pictures to show")
    rows = -(-len(pictures) // across)
    sheet = Image.new("RGB", (across * THUMB, rows * THUMB), (255, 255, 255))
    for i, picture in enumerate(pictures):
        small = Image.fromarray(picture)
        small.thumbnail((THUMB - 2, THUMB - 2))
        sheet.paste(small, (i % across * THUMB + 1, i // across * THUMB + 1))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def page(found: Scored, pictures: Sequence[NDArray[np.uint8]]) -> str:
    """One HTML page that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    sheet = base64.b64encode(contact_sheet(pictures)).decode()
    return environment.get_template("page.html.j2").render(
        found=found, score=found.score, sheet=sheet, shown=len(pictures))
