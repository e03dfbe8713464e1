"""Pictures from a folder or an array file, a few at a time, as R, G, B of 0..255.

Memory is that of one batch, however many there are and however large. What was done to a picture on
the way (grey, 16 bits, transparency, a turn by EXIF, the first of many frames) is counted and told,
because each moves a score; so is what a folder holds beside its pictures. Order is that of the
names, and of the rows of an array: splits depend on it.
"""
from __future__ import annotations

import os
import stat
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from captures.process import printable
from scores.classifiers.base import PIXELS_WITHIN
from scores.errors import ScoreError

Pixels = NDArray[np.float32]

ENDINGS = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".ppm", ".pgm",
           ".pbm", ".pnm", ".gif", ".tif", ".tiff", ".webp", ".tga", ".avif", ".jp2")
ARRAYS = (".npz", ".npy")
NAMED = 5  # broken pictures, or what is left out, named in a message
AT_ONCE = 1 << 24  # values of a batch, 64 MB in float32, or one picture, if that is larger
PIECE = 1 << 26  # bytes read at once, so that a header that is not true takes no memory


@dataclass
class Pictures:
    """A source of pictures. notes: what was done to how many; filled while they are read, anew each
    time. broken: those that could not be read. left_out: why, to the names of what was not taken
    for a picture. Names are printable."""

    name: str
    count: int
    notes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def batches(self, size: int) -> Iterator[Pixels]:
        """N x 3 x H x W float32, at most ``size`` at once, all of one size in a batch."""
        raise NotImplementedError


def refuse_unused(broken: str, *sources: object) -> None:
    """Raises ScoreError: pictures are to be skipped, and none of the sources is a folder."""
    if broken != "refuse" and not any(isinstance(source, Folder) for source in sources):
        raise ScoreError(f"--broken {broken} is for a folder of pictures, and there is none: leave "
                         "it out")


def first_of(names: Sequence[str]) -> str:
    """How many, and the first of them."""
    return f"{len(names):,}, {', '.join(names[:NAMED])}" + (", ..." if len(names) > NAMED else "")


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
    root: Path = Path()
    paths: list[Path] = field(default_factory=list)
    on_broken: str = "refuse"

    @classmethod
    def of(cls, path: Path, on_broken: str) -> Folder:
        """Raises ScoreError: no picture; a folder in it that cannot be read, unless such are
        skipped."""
        made = cls(printable(path), 0, root=path, on_broken=on_broken)
        made._find()
        made.paths.sort()
        made.left_out = {why: sorted(names) for why, names in sorted(made.left_out.items())}
        made.count = len(made.paths)
        if not made.paths:
            raise ScoreError("; ".join([f"{path} holds no picture: give a folder with "
                             + ", ".join(ending[1:] for ending in ENDINGS) + " files",
                             *told_left_out(made)]))
        return made

    def _find(self) -> None:
        def leave(path: Path, why: str) -> None:
            self.left_out.setdefault(why, []).append(printable(path.relative_to(self.root)))

        def unreadable(error: OSError) -> None:
            if self.on_broken == "refuse":
                raise ScoreError(f"{error.filename} cannot be read ({error.strerror}). Let it be "
                                 "read, or leave such folders out with --broken skip") from error
            leave(Path(error.filename), "cannot be read")

        for at, folders, files in os.walk(self.root, onerror=unreadable):
            folders.sort()
            for name in [*folders]:
                path = Path(at, name)
                if name.startswith("."):
                    folders.remove(name)
                    leave(path, "hidden")
                elif path.is_symlink():  # os.walk does not follow it: it may lead back here
                    leave(path, "a link to a folder")
            for name in sorted(files):
                path = Path(at, name)
                if name.startswith("."):
                    leave(path, "hidden")
                elif path.suffix.lower() not in ENDINGS:
                    leave(path, "no picture by its ending")
                elif _no_file(path):
                    leave(path, "neither a file nor a folder")
                else:  # a link to nothing is a picture that cannot be read
                    self.paths.append(path)

    def batches(self, size: int) -> Iterator[Pixels]:
        self.notes.clear()
        self.broken.clear()
        held: list[Pixels] = []
        sizes: Counter[tuple[int, ...]] = Counter()
        for path in self.paths:
            try:
                picture = read_picture(path, self.notes)
            except ScoreError as error:
                if self.on_broken == "refuse":
                    raise ScoreError(f"{error}. Take it away, or leave such pictures out with "
                                     "--broken skip") from error
                self.broken.append(printable(path.relative_to(self.root)))
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
            self.notes[f"of {len(sizes)} sizes, most often {most} (mixed sizes are scaled each by "
                       "itself)"] = sum(sizes.values())


def _no_file(path: Path) -> bool:
    """Whether it is there, and a pipe, a socket or a device, which reading might wait for."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # reading it says why
        return False


def told_left_out(pictures: Pictures) -> list[str]:
    """A note for each reason why something was left out."""
    return [f"left out ({why}): {first_of(names)}"
            for why, names in pictures.left_out.items()]


def at_most(size: int, values: int) -> int:
    """Pictures of a batch, each of so many values."""
    return max(1, min(size, AT_ONCE // values))


def read_picture(path: Path, notes: Counter[str]) -> Pixels:
    """3 x H x W, R, G, B, 0..255; 16-bit grey keeps what lies between two 8-bit steps. Of 16-bit
    colour Pillow has 8 bits and no more, which is told, as are its warnings.

    Raises ScoreError: no picture, broken or cut off.
    """
    from PIL import Image

    noted: Counter[str] = Counter()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, but read
            made = _opened_picture(path, noted)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct's
        if isinstance(error, MemoryError):
            raise
        raise ScoreError(f"{path} cannot be read as a picture ({_said(error)[:120]})") from error
    noted.update({f"Pillow warned, {printable(one.message)[:80]}" for one in warned})
    notes.update(noted)
    return made


def _opened_picture(path: Path, notes: Counter[str]) -> Pixels:
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        if getattr(opened, "n_frames", 1) > 1:
            notes["animated, the first frame was taken"] += 1
            opened.seek(0)
        stored = str(getattr(opened, "tile", ""))
        if not opened.mode.startswith("I"):
            notes.update(_cut(opened, stored))
        opened.load()
        picture: Any = opened
        if picture.getexif().get(0x0112) in range(2, 9):  # Orientation; 1 is upright
            notes["turned upright as their EXIF says"] += 1
            picture = ImageOps.exif_transpose(picture)
        return _rgb(picture, notes, ";32" in stored)


def _cut(opened: Any, stored: str) -> list[str]:
    """What has to be said of colour of more than 8 bits. stored: Pillow's words for the file's."""
    if ";16" in stored:
        return ["16-bit colour, cut to its upper 8 bits (not rounded)"]
    if opened.format == "PPM" and opened.tile[0].codec_name.startswith("ppm"):
        return ["16-bit colour, rounded to 8 bits"] if opened.tile[0].args[-1] > 255 else []
    if opened.format in ("AVIF", "JPEG2000"):  # Pillow does not say
        return [f"{opened.format}, of which 8 bits were taken, however many there are"]
    return []


def _rgb(picture: Any, notes: Counter[str], of_32_bits: bool = False) -> Pixels:
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return _deep(np.asarray(picture, np.float32), picture, notes, of_32_bits)
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


def _deep(grey: Pixels, picture: Any, notes: Counter[str], of_32_bits: bool) -> Pixels:
    """Of grey with more than 8 bits."""
    low, high = grey.min(), grey.max()
    if picture.mode == "F":
        if not (low >= 0 and high <= 255):  # NaN is neither
            raise ValueError(f"its values are {low:.6g} to {high:.6g}, not 0..255")
        small = " with no value above 1" if high <= 1 else ""
        notes[f"floating point grey{small}, taken as 0..255 and as R = G = B"] += 1
    else:
        if low < 0 or high > 65535:
            raise ValueError("its values are not those of 16 bits")
        wide = "32-bit grey, taken as " if of_32_bits else ""
        notes[f"{wide}16-bit grey, divided by 257, taken as R = G = B"] += 1
        if isinstance(picture.info.get("transparency"), int):
            clear = grey == picture.info["transparency"]
            if clear.any():
                notes["transparent, laid over white"] += 1
            grey = np.where(clear, np.float32(65535), grey)
        grey = grey / np.float32(257)
    return np.asarray(np.repeat(grey[None], 3, 0), np.float32)


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
        return cls(printable(path), shape[0], path=path, member=member, shape=shape, dtype=dtype)

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
                with np.errstate(over="ignore", invalid="ignore"):  # refused below
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
    except Exception as error:  # zipfile, its decoders and numpy share no class
        raise ScoreError(f"{path} cannot be read as numpy arrays ({_said(error)}): save it with "
                         "numpy.savez, without pickled objects") from error
    return found


def arrays_of(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """These arrays of an .npz, whole.

    Raises ScoreError: broken, or anything but finite real numbers.
    """
    found = {}
    for name in names:
        try:
            with _opened(path, name) as file:
                found[name] = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # as above; MemoryError too, of a header that is not true
            raise ScoreError(f"{path}: {name} cannot be read ({_said(error)}): write it again, "
                             "without pickled objects") from error
        if found[name].dtype.kind not in "fiu":
            raise ScoreError(f"{path}: {name} is {found[name].dtype}: give real numbers")
        if not np.isfinite(found[name]).all():
            raise ScoreError(f"{path}: {name} holds NaN or infinity: look at what made it")
    return found


def _said(error: Exception) -> str:
    """The first line of an error, or its class where it says nothing."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


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
            part = file.read(min(size - got, PIECE))
            if not part:
                break
            parts.append(part)
            got += len(part)
    except Exception as error:  # as in ``headers``
        raise ScoreError(f"{path} is broken ({_said(error)}): write it again") from error
    if got < size:
        raise ScoreError(f"{path} is cut off: write it again")
    return b"".join(parts)
