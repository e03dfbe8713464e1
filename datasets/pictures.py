"""Pictures of any kind that a folder of photos may hold, as 8-bit B, G, R."""
import io
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

# By content, whatever the name says. Not among them: EPS and the like, which other programs draw.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
LARGEST_FILE = 2**30  # bytes
LARGEST_AREA = 10**8  # pixels


class SkippedError(Exception):
    """A file that gives no picture. why: one of a few; detail: what of this file."""

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(why, detail)
        self.why, self.detail = why, detail


def content_of(path: Path) -> bytes:
    """The file's bytes. Raises SkippedError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SkippedError("is no file", "a link to a folder: give that folder itself" if
                               stat.S_ISDIR(status.st_mode) else "")
        if status.st_size > LARGEST_FILE:
            raise SkippedError("is too large", f"{status.st_size} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise SkippedError("cannot be read", error.strerror or str(error)) from error
    if not content:
        raise SkippedError("is empty")
    return content


def decoded(content: bytes) -> tuple[NDArray[np.uint8], str]:
    """The picture upright, uint8 (height, width, 3), channels B, G, R; and what was done to it.

    EXIF's turn is made; of an animation the first picture is taken; transparency is laid on white;
    16 bits lose the lower 8; CMYK, grey and palettes become colours. A colour profile is ignored,
    as OpenCV ignores it.

    Raises SkippedError for everything that does not decode whole.
    """
    Image.init()  # names every format once
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > LARGEST_AREA:
                raise SkippedError("is too large", f"{width} x {height} pixels")
            picture.load()
            note = _note(picture)
            rgb = np.asarray(_colours(_upright(picture)))
    except SkippedError:
        raise
    except UnidentifiedImageError as error:
        raise SkippedError("is no picture", f"begins with {content[:8]!r}") from error
    except Image.DecompressionBombError as error:
        raise SkippedError("is too large", str(error)) from error
    except Exception as error:  # a decoder may raise anything on a broken file
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise SkippedError("cannot be decoded", said) from error
    return np.ascontiguousarray(rgb[..., ::-1]), note


def _note(picture: Image.Image) -> str:
    frames = getattr(picture, "n_frames", 1)
    return f"the first of {frames} pictures" if frames > 1 else ""


def _upright(picture: Image.Image) -> Image.Image:
    try:
        turned = ImageOps.exif_transpose(picture)
    except Exception:  # broken EXIF says nothing of how the camera was held
        return picture
    return picture if turned is None else turned


def _colours(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise SkippedError("cannot be decoded", f"its values are not 8 or 16 bits "
                                                    f"({picture.mode})")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert(
            "RGB")
    return picture.convert("RGB")
