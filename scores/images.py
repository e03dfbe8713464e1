"""Pictures from a folder or an array file, a few at a time, as R, G, B of 0..255.

Memory is that of one batch, however many there are and however large. What was done to a picture on
the way (grey, 16 bits, transparency, a turn by EXIF, the first of many frames) is counted and told,
because each moves a score. Order is that of the names, and of the rows of an array: splits depend
on it.
"""
from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from scores.classifiers.base import PIXELS_WITHIN
from scores.errors import ScoreError

Pixels = NDArray[np.float32]

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".gif", ".tif", ".tiff", ".webp")
ARRAYS = (".npz", ".npy")
NAMED = 5  # broken pictures named in a message
AT_ONCE = 1 << 24  # values of a batch, 64 MB in float32, or one picture, if that is larger


@dataclass
class Pictures:
    """A source of pictures. notes: what was done to how many; filled while they are read. broken:
    those that could not be read."""

    name: str
    count: int
    notes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def batches(self, size: int) -> Iterator[Pixels]:
        """N x 3 x H x W float32, at most ``size`` at once, all of one size in a batch."""
        raise NotImplementedError


def open_pictures(path: Path, broken: str = "refuse") -> Pictures:
    """A folder, an .npz or an .npy.

    broken: "refuse", the first picture that cannot be read is an error; "skip", they are counted.

    Raises ScoreError: nothing there, no picture in it, no array of pictures, another kind of file.
    """
    if broken not in ("refuse", "skip"):
        raise ScoreError(f"--broken {broken}: give refuse or skip")
    if path.is_dir():
        return Folder.of(path, broken)
    if not path.exists():
        raise ScoreError(f"{path} is not there: give a folder of pictures, an .npz, or a model")
    if path.suffix.lower() in ARRAYS:
        return ArrayFile.of(path)
    raise ScoreError(f"{path} is neither a folder of pictures nor one of {', '.join(ARRAYS)}")


# ------------------------------------------------------------------------------------ folders


@dataclass
class Folder(Pictures):
    paths: list[Path] = field(default_factory=list)
    on_broken: str = "refuse"

    @classmethod
    def of(cls, path: Path, on_broken: str) -> Folder:
        paths = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS
                       and not any(part.startswith(".") for part in file.relative_to(path).parts)
                       and file.is_file())
        if not paths:
            raise ScoreError(f"{path} holds no picture: give a folder with "
                             + ", ".join(ending[1:] for ending in ENDINGS) + " files")
        return cls(str(path), len(paths), paths=paths, on_broken=on_broken)

    def batches(self, size: int) -> Iterator[Pixels]:
        held: list[Pixels] = []
        sizes: Counter[tuple[int, ...]] = Counter()
        for path in self.paths:
            try:
                picture = read_picture(path, self.notes)
            except ScoreError as error:
                if self.on_broken == "refuse":
                    raise ScoreError(f"{error}. Take it away, or leave such pictures out with "
                                     "--broken skip") from error
                self.broken.append(path.name)
                continue
            sizes[picture.shape] += 1
            if held and (len(held) == at_most(size, picture.size)
                         or held[0].shape != picture.shape):
                yield np.stack(held)
                held = []
            held.append(picture)
        if held:
            yield np.stack(held)
        if not sizes:
            raise ScoreError(f"none of the {len(self.paths)} pictures in {self.name} can be read, "
                             f"first {self.broken[0]}")
        if len(sizes) > 1:
            most = ", ".join(f"{s[2]} x {s[1]} ({n})" for s, n in sizes.most_common(NAMED))
            self.notes[f"mixed sizes, {len(sizes)} of them, each scaled by itself; the most are "
                       f"{most}"] = sum(sizes.values())


def at_most(size: int, values: int) -> int:
    """Pictures of a batch, each of so many values."""
    return max(1, min(size, AT_ONCE // values))


def read_picture(path: Path, notes: Counter[str]) -> Pixels:
    """3 x H x W, R, G, B, 0..255; 16-bit grey keeps what lies between two 8-bit steps. Of 16-bit
    colour Pillow has the upper 8 bits and no more, which is told.

    Raises ScoreError: no picture, broken or cut off.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            if getattr(opened, "n_frames", 1) > 1:
                notes["animated, the first frame was taken"] += 1
                opened.seek(0)
            if not opened.mode.startswith("I") and ";16" in str(getattr(opened, "tile", "")):
                notes["16-bit colour, cut to its upper 8 bits (not rounded)"] += 1
            opened.load()
            picture: Any = opened
            if picture.getexif().get(0x0112, 1) != 1:  # Orientation
                notes["turned upright as their EXIF says"] += 1
                picture = ImageOps.exif_transpose(picture)
            return _rgb(picture, notes)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct's
        if isinstance(error, MemoryError):
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ScoreError(f"{path} cannot be read as a picture ({said[:120]})") from error


def _rgb(picture: Any, notes: Counter[str]) -> Pixels:
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        deep = np.asarray(picture, np.float32)
        if mode != "F" and (deep.min() < 0 or deep.max() > 65535):
            raise ValueError("its values are not those of 16 bits")
        if mode == "F" and not (deep.min() >= 0 and deep.max() <= 255):  # NaN is neither
            raise ValueError(f"its values are {deep.min():.6g} to {deep.max():.6g}, not 0..255")
        notes["16-bit grey, divided by 257, taken as R = G = B" if mode != "F"
              else "floating point grey, taken as 0..255 and as R = G = B"] += 1
        grey = deep / np.float32(257) if mode != "F" else deep
        return np.asarray(np.repeat(grey[None], 3, 0), np.float32)
    if "transparency" in picture.info or mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        from PIL import Image
        layered = picture.convert("RGBA")
        if layered.getextrema()[3][0] < 255:
            notes["transparent, laid over white"] += 1
        below = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(below, layered)
    if mode in ("L", "LA", "1"):
        notes["grey, taken as R = G = B"] += 1
    elif mode not in ("RGB", "RGBA", "P", "PA"):
        notes[f"{mode}, turned to R, G, B by Pillow"] += 1
    return np.asarray(np.asarray(picture.convert("RGB")).transpose(2, 0, 1), np.float32)


# ------------------------------------------------------------------------------------- arrays


@dataclass
class ArrayFile(Pictures):
    """An array N x H x W x 3 or N x 3 x H x W, of whole numbers or floating point; read in pieces,
    so that a file larger than the memory is no trouble."""

    path: Path = Path()
    member: str = ""
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    taken: str = "0..255"
    first: int = 0  # pictures that ``taken`` was read from

    @classmethod
    def of(cls, path: Path) -> ArrayFile:
        found = {name: header for name, header in headers(path).items() if len(header[0]) == 4}
        if not found:
            raise ScoreError(f"{path} holds no array of pictures (N x H x W x 3 or N x 3 x H x W)")
        if len(found) > 1 and "images" not in found and "arr_0" not in found:
            raise ScoreError(f"{path} holds several arrays, {', '.join(sorted(found))}: name the "
                             "pictures 'images' or 'arr_0'")
        member = next((name for name in ("images", "arr_0") if name in found), next(iter(found)))
        shape, fortran, dtype = found[member]
        if 3 not in (shape[1], shape[3]) or 0 in shape:
            raise ScoreError(f"{path}: {member or 'the array'} has the shape {shape}: give "
                             "N x H x W x 3 or N x 3 x H x W, R, G, B")
        if fortran or dtype.kind not in "uf" or dtype.hasobject:
            raise ScoreError(f"{path}: {member or 'the array'} is {dtype}"
                             f"{' in Fortran order' if fortran else ''}: give unsigned whole "
                             "numbers or floating point in C order")
        return cls(str(path), shape[0], path=path, member=member, shape=shape, dtype=dtype)

    def batches(self, size: int) -> Iterator[Pixels]:
        values = int(np.prod(self.shape[1:]))
        row, size = values * self.dtype.itemsize, at_most(size, values)
        last = self.shape[3] == 3
        scale = None
        with _opened(self.path, self.member) as file:
            _header(file)
            for start in range(0, self.count, size):
                n = min(size, self.count - start)
                data = _exactly(file, n * row, self.path)
                x = np.frombuffer(data, self.dtype).reshape((n, *self.shape[1:]))
                if last:
                    x = x.transpose(0, 3, 1, 2)
                if scale is None:
                    scale = self._scale(x)
                pixels = (x.astype(np.float32) + scale[0]) * scale[1]
                yield np.ascontiguousarray(self._checked(pixels, x, start))

    def _checked(self, pixels: Pixels, x: NDArray[Any], start: int) -> Pixels:
        """x: as they stand in the file. start: the number of the first."""
        low, high = pixels.min((1, 2, 3)), pixels.max((1, 2, 3))
        bad = ~((low >= -PIXELS_WITHIN) & (high <= 255 + PIXELS_WITHIN))  # NaN is neither
        if not bad.any():
            return pixels
        n = int(np.argmax(bad))
        if not np.isfinite(x[n]).all():
            raise ScoreError(f"{self.path}: picture {start + n} holds NaN or infinity: look at "
                             "what made it")
        raise ScoreError(
            f"{self.path}: picture {start + n} has values from {x[n].min():.6g} to "
            f"{x[n].max():.6g}, but by the first {self.first} they are taken as {self.taken}: look "
            "at what made it, or save all of them as uint8")

    def _scale(self, x: NDArray[Any]) -> tuple[np.float32, np.float32]:
        """(add, multiply) that bring the values to 0..255; of floating point by its first batch."""
        if self.dtype.kind == "u":
            bits = 8 * self.dtype.itemsize
            if bits > 16:
                raise ScoreError(f"{self.path}: {self.dtype} pixels: give 8 or 16 bits, or floats")
            if bits == 16:
                self.notes["16-bit, divided by 257"] = self.count
            return np.float32(0), np.float32(1 if bits == 8 else 1 / 257)
        self.first = len(x)
        for holds, why, taken, add, times in (
                (x.min() < 0, "with values below 0", "[-1, 1]", 1, 127.5),
                (x.max() <= 1, "with no value above 1", "[0, 1]", 0, 255),
                (True, "with values above 1", "0..255", 0, 1)):
            if holds:
                self.taken = taken
                self.notes[f"floating point {why}, taken as {taken}"] = self.count
                return np.float32(add), np.float32(times)
        raise AssertionError("the last holds")


Header = tuple[tuple[int, ...], bool, "np.dtype[Any]"]


def headers(path: Path) -> dict[str, Header]:
    """Name of each array to its shape, order and type, without reading any.

    Raises ScoreError: no array file, or a broken one.
    """
    found = {}
    try:
        if path.suffix.lower() == ".npy":
            names = [""]
        else:
            with zipfile.ZipFile(path) as archive:
                names = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
        for name in names:
            with _opened(path, name) as file:
                found[name] = _header(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ScoreError(f"{path} cannot be read as numpy arrays ({error}): save it with "
                         "numpy.savez, without pickled objects") from error
    return found


def _header(file: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _opened(path: Path, member: str) -> IO[bytes]:
    if path.suffix.lower() == ".npy":
        return path.open("rb")
    return zipfile.ZipFile(path).open(f"{member}.npy")


def _exactly(file: IO[bytes], size: int, path: Path) -> bytes:
    parts, got = [], 0
    try:
        while got < size:
            part = file.read(size - got)
            if not part:
                break
            parts.append(part)
            got += len(part)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ScoreError(f"{path} is broken ({error}): write it again") from error
    if got < size:
        raise ScoreError(f"{path} is cut off: write it again")
    return b"".join(parts)
