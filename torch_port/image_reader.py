"""CNTK's image reader, bit for bit: order of samples, augmentation, scaling, layout.

    minibatch[t][j] = scale(apply_color(decode(image[order[t*N + j]]), draws(j, t)))

It is CNTK 2.7's MinibatchSource over an ImageDeserializer with the transforms ``color`` and then
``scale(..., 'linear')``, randomised, endless: float32, (N, 3, height, width), channels B, G, R,
values 0..255. The network normalises, not the reader.

Differences that matter, next to a shuffling DataLoader with a colour jitter and a resize:

* The order is two shuffles of a 64-bit twister seeded anew for each sweep; the second one keeps an
  image within 128 places of where the first one put it.
* Minibatches are always full: the last one of a sweep goes on into the next sweep.
* The augmentation does not depend on the seed or the image: position j of a minibatch has a
  generator of its own, seeded j, that goes on from minibatch to minibatch.
* Brightness moves by a part of the image's mean, contrast scales about 0 (not about the mean), both
  in one step with one clamp; saturation scales S of HSV. The order is fixed, not drawn.
* Scaling comes after colour, on float32, without antialiasing; exactly half size is a mean of four.

Measured against CNTK 2.7 on BMP images: 0 differing values, with images from 64x96 to 512x512.
CNTK's result does not depend on its threads, nor does this one on threads or worker processes.

That holds where OpenCV's plain code rounds as its release 3.1 did; ``bit_exact()`` tells. Otherwise
the values differ by up to 2.5e-4 of 255.

Sources: microsoft/CNTK Source/Readers (ImageReader/ImageTransformers.cpp, ReaderLib's
ChunkRandomizer and SequenceRandomizer); opencv/opencv modules/imgproc/src, color.cpp (RGB2HSV_f,
HSV2RGB_f) and imgwarp.cpp (resize); measurements.
"""
import hashlib
import itertools
import operator
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from torch_port.mersenne import LARGEST_SEED, Mersenne64

# An image that does not decode is a ReaderError, not lines of OpenCV's on stderr.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

WINDOW = 128  # chunks that CNTK's second shuffle looks at; a chunk is one image
RADII = (0.2, 0.2, 0.2)  # brightness, contrast, saturation

Order = Callable[[int, int, int], np.ndarray]


class ReaderError(ValueError):
    """Bad input. One line that says what is wrong, where, and how to mend it."""

    def __init__(self, message: str) -> None:
        # A DataLoader hands a worker's error over as one string with its traceback: the last line
        # of that is this class's name and the message.
        if message.startswith("Caught ReaderError in DataLoader worker"):
            message = message.rstrip().rsplit("ReaderError: ", 1)[-1]
        super().__init__(message)


# ---------------------------------------------------------------------------------- the map file

@dataclass(frozen=True)
class MapEntry:
    """One line of a map file.

    ``written``: the path as it stands there. ``path``: the file it means. ``line``: from 1.
    """

    written: str
    path: Path
    label: int
    line: int


def read_map_file(path: str | os.PathLike[str], classes: int = 1) -> list[MapEntry]:
    """The images of a map file, in its order; every one of them exists.

        line = path TAB label            or        number TAB path TAB label

    A path that begins with ``...`` has these three dots replaced by the map file's folder, so
    ``.../faces/1.bmp`` stays right when the folder moves; any other relative path is relative to
    the WORKING directory. Both are CNTK's rules, measured. (CNTK itself expands the dots only when
    it was given the map file's name with a folder: ``./map.txt``, not ``map.txt``.)

    classes: a label is at least 0 and below this; CNTK's program has one dummy class.

    Raises ReaderError: the map file is missing or empty, a line has another form, a label is out
    of range, an image is missing. CNTK finds a missing image only when its turn comes.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise ReaderError(f"map file {path} cannot be read ({error.strerror}): give the path of a "
                          "file with one `image<TAB>label` a line") from error
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise ReaderError(f"map file {path} is empty: write one `image<TAB>label` a line")
    folder = os.path.dirname(os.path.abspath(path))
    entries = [_map_entry(line, f"{path}, line {number}", number, folder, classes)
               for number, line in enumerate(lines, 1)]
    missing = [entry for entry in entries if not entry.path.is_file()]
    if missing:
        others = f" ({len(missing) - 1} more are missing too)" if len(missing) > 1 else ""
        raise ReaderError(
            f"{path}, line {missing[0].line}: there is no file {missing[0].path}{others}: restore "
            "it or delete the line; a relative path counts from the working directory, one that "
            "begins with .../ from the map file's folder")
    return entries


def _map_entry(line: str, where: str, number: int, folder: str, classes: int) -> MapEntry:
    columns = line.split("\t")
    if len(columns) > 2 and columns[2]:
        key = columns.pop(0)
        if not key.isdecimal():
            raise ReaderError(f"{where}: the first of three columns is {key!r}, not a number: "
                              "write `image<TAB>label`, without spaces around the tab")
    if len(columns) < 2 or not columns[0]:
        raise ReaderError(f"{where}: {line!r} is not of the form `image<TAB>label`: separate the "
                          "two with one tab, and leave no line blank")
    written, label = columns[:2]
    digits = re.match(r"\s*\+?(\d+)", label)
    if digits is None or int(digits[1]) >= classes:
        raise ReaderError(f"{where}: label {label!r} is not a whole number from 0 to "
                          f"{classes - 1}: write one, or read the file with more classes")
    if "@" in written:
        raise ReaderError(f"{where}: CNTK takes {written!r} with its @ for an image inside a zip "
                          "file, which is not supported here: rename the file")
    found = folder + written[3:] if written.startswith("...") else written
    return MapEntry(written, Path(os.path.abspath(found)), int(digits[1]), number)


def map_hash(entries: Sequence[MapEntry]) -> str:
    """SHA-256 of the paths as written and the labels, in order. Not of the images."""
    text = "".join(f"{entry.written}\t{entry.label}\n" for entry in entries)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


# ------------------------------------------------------------------------------------- the order

def sample_order(count: int, sweep: int, seed: int = 0) -> np.ndarray:
    """The order in which sweep number ``sweep`` (from 0) goes through ``count`` images.

    With o[0], o[1], ... the outputs of std::mt19937_64(seed + sweep):

    1. p = 0..count-1; for every i: swap p[i] and p[o[i] mod count].
    2. From a fresh generator of the same seed, for every t: with [b, e) the window of 128 places
       about t, moved inwards at both ends, j = b + o mod (e - b), drawn again until what stands at
       j belongs into t's window and what stands at t into j's; swap places t and j.

    Returns int64 (count,). PyTorch's RandomSampler is one uniform permutation of another generator.
    """
    seed = (seed + sweep) % 2**64
    chunks = list(range(count))
    for i, other in enumerate((Mersenne64(seed).outputs(count) % np.uint64(count)).tolist()):
        chunks[i], chunks[other] = chunks[other], chunks[i]
    size = min(WINDOW, count)
    begin = [min(max(0, place - WINDOW // 2), count - size) for place in range(count)]
    draws = _endless(Mersenne64(seed), count, size)
    places = list(range(count))  # which place of stage 1 now stands here
    for t in range(count):
        while True:
            j = begin[t] + next(draws)
            if (begin[t] <= places[j] < begin[t] + size
                    and begin[j] <= places[t] < begin[j] + size):
                break
        places[t], places[j] = places[j], places[t]
    return np.array(chunks, dtype=np.int64)[places]


def _endless(generator: Mersenne64, block: int, modulus: int) -> Iterator[int]:
    while True:
        yield from (generator.outputs(block) % np.uint64(modulus)).tolist()


def sample_indices(step: int, minibatch_size: int, count: int, seed: int = 0,
                   order: Order = sample_order) -> np.ndarray:
    """Which images minibatch number ``step`` (from 0) holds: int64 (minibatch_size,).

        sample s = step * minibatch_size + j;  index[j] = order(sweep s // count)[s mod count]

    Always full: a minibatch that reaches the end of a sweep goes on with the next one.
    """
    samples = range(step * minibatch_size, (step + 1) * minibatch_size)
    return np.array([order(count, s // count, seed)[s % count] for s in samples], dtype=np.int64)


def ends_sweep(step: int, minibatch_size: int, count: int) -> bool:
    """CNTK's ``end_of_sweep`` flag: whether minibatch ``step`` holds the last sample of a sweep."""
    return (step + 1) * minibatch_size // count > step * minibatch_size // count


# ------------------------------------------------------------------------------ the augmentation

class Draws(NamedTuple):
    """What ``color`` draws for one image: each in [-radius, radius).

    ``saturation`` is None where its radius is 0: then there is no way through HSV at all.
    """

    brightness: float
    contrast: float
    saturation: float | None


_STEPS_A_BLOCK = 256


@lru_cache(maxsize=1024)
def _outputs(position: int, block: int, size: int) -> np.ndarray:
    """Outputs block*size .. (block+1)*size - 1 of std::mt19937(position), uint32.

    Reaching one costs the outputs before it (a millisecond at step 100,000), once for 256 steps.
    """
    generator = np.random.RandomState(position)  # seeds as std::mt19937 does; a frozen stream
    left = block * size
    while left:
        part = min(left, 2**16)
        generator.randint(0, 2**32, part, dtype=np.uint32)
        left -= part
    return generator.randint(0, 2**32, size, dtype=np.uint32)


def augmentation_draws(position: int, step: int, radii: Sequence[float] = RADII) -> Draws:
    """What is drawn for place ``position`` of minibatch ``step``, both from 0.

        U(r) = k / 2**32 * 2r - r,  k the next 32-bit output of std::mt19937(position)

    drawn in the order brightness, contrast, saturation; a radius of 0 draws nothing. One output for
    each (as boost::uniform_real; std::uniform_real_distribution would take two). The generator goes
    on from minibatch to minibatch, over sweep ends, whatever the randomisation seed.
    """
    each = sum(radius > 0 for radius in radii)
    block, offset = divmod(step, _STEPS_A_BLOCK)
    outputs = iter(_outputs(position, block, each * _STEPS_A_BLOCK)[offset * each:].tolist())
    brightness, contrast, saturation = (
        next(outputs) / 2**32 * (radius + radius) - radius if radius > 0 else None
        for radius in radii)
    return Draws(brightness or 0.0, contrast or 0.0, saturation)


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.held: dict[tuple[str, type], np.ndarray] = {}


_scratch = _Scratch()


def _memory(name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
    """This thread's own memory of that name, used again: new pages cost more than the sums."""
    size = int(np.prod(shape))
    held = _scratch.held.get((name, kind))
    if held is None or held.size < size:
        held = _scratch.held[name, kind] = np.empty(size, kind)
    return held[:size].reshape(shape)


def _round_as_cntk() -> None:
    """Has this thread's OpenCV take its plain code.

    OpenCV's code for newer processors fuses multiply and add, which rounds once; the OpenCV 3.1 in
    CNTK rounds twice, and so does the plain code. Half of the setting (Intel's library) is the
    thread's, the other half the process's, so it is made for every image; it costs a microsecond.
    """
    cv2.setUseOptimized(False)


def brightness_contrast_table(image: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    """What ``color`` makes of each of the 256 values of a pixel, float32 (256,).

        beta = float32(brightness * mean over all pixels and channels)
        alpha = float32(1 + contrast);   p -> min(max(p * alpha + beta, 0), 255), in float32
    """
    beta = np.float32(brightness * sum(cv2.sumElems(image)) / image.size)
    table = np.arange(256, dtype=np.float32)
    table *= np.float32(1 + contrast)
    table += beta
    return np.clip(table, 0, 255, out=table)


def apply_color(image: np.ndarray, brightness: float, contrast: float,
                saturation: float | None = None) -> np.ndarray:
    """CNTK's ``color`` transform.

        p = min(max(p * (1 + contrast) + brightness * mean, 0), 255)
        h, s, v = hsv(p);   p = bgr(h, min(s * (1 + saturation), 1), v)

    image: uint8 (height, width, 3), channels B, G, R.
    Returns float32 of the same shape, 0..255, in memory that this thread uses again: it holds until
    the thread's next call.

    s * (1 + saturation) is a product in double, rounded to float32. torchvision's ColorJitter
    multiplies for brightness, blends with the mean grey and with each pixel's grey for the others,
    and draws the order.
    """
    _round_as_cntk()
    table = brightness_contrast_table(image, brightness, contrast)
    pixels = cv2.LUT(image, table, _memory("pixels", image.shape, np.float32))
    if saturation is None:
        return pixels
    hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV, _memory("hsv", image.shape, np.float32))
    s = hsv[..., 1]
    np.multiply(s, 1.0 + saturation, out=s, dtype=np.float64, casting="same_kind")
    if saturation > 0:
        rows = hsv.reshape(len(hsv), -1)
        highest = np.tile(np.array([np.inf, 1, np.inf], np.float32), hsv.shape[1])
        np.minimum(rows, highest, out=rows)  # whole rows: three times as quick as s alone
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, pixels)


def scale(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """CNTK's ``scale`` in mode 'fill', 'linear': the aspect ratio is not kept.

        p'[x] = p[i] * (1 - f) + p[i + 1] * f,   i + f = (x + 0.5) * source / width - 0.5

    along the width, then along the height, in float32, without antialiasing; where both are exactly
    half of the source's, the mean of four pixels.

    image: float32 (H, W, 3), or uint8, which stays uint8. Returns (height, width, 3) in memory that
    this thread uses again.
    """
    _round_as_cntk()
    out = _memory("scaled", (height, width, 3), image.dtype.type)
    return cv2.resize(image, (width, height), out, interpolation=cv2.INTER_LINEAR)


def write_planes(image: np.ndarray, out: np.ndarray) -> None:
    """out[c] = image[..., c]: (height, width, 3) into float32 (3, height, width)."""
    if image.dtype == np.float32:
        cv2.split(image, list(out))
    else:
        out[...] = image.transpose(2, 0, 1)


def calibration_image() -> np.ndarray:
    """An image with many hues, greys, and both ends of the range: uint8 (47, 61, 3)."""
    x, y = np.meshgrid(np.arange(61), np.arange(47))
    return np.stack([x * 4, np.minimum(x * y, 255), 255 - y * 5 + x % 7], 2).astype(np.uint8)


_CALIBRATION_BY_CNTK = "07879e896915b976b1f031912e93594b53ee60acc3b68dfa64e9c6570734e012"


def bit_exact() -> bool:
    """Whether OpenCV rounds here as CNTK's does, on what CNTK makes of the calibration image.

    False with a processor or an OpenCV whose plain code fuses multiply and add.
    """
    planes = np.empty((3, 53, 40), np.float32)
    write_planes(scale(apply_color(calibration_image(), *augmentation_draws(0, 0)), 40, 53), planes)
    return hashlib.sha256(planes.tobytes()).hexdigest() == _CALIBRATION_BY_CNTK


# ------------------------------------------------------------------------------------ the reader

def decode(path: Path, where: str) -> np.ndarray:
    """The image in a file: uint8 (height, width, 3), channels B, G, R.

    where: named in the message of the ReaderError that an unreadable file raises.
    """
    try:
        content = np.fromfile(path, np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except (OSError, cv2.error):
        image = None
    if image is None:
        raise ReaderError(f"{where}: {path} cannot be decoded as an image: replace the file or "
                          "delete the line")
    return image


def _whole(name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    """``value`` as an int in lowest .. highest, or a ReaderError."""
    asked = f"at least {lowest}" if highest is None else f"in {lowest} .. {highest}"
    try:
        number = operator.index(value)
    except TypeError:
        raise ReaderError(f"{name} is {value!r}: give a whole number {asked}") from None
    if isinstance(value, bool) or number < lowest or (highest is not None and number > highest):
        raise ReaderError(f"{name} is {value!r}: give a whole number {asked}")
    return number


def _processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ImageReader(IterableDataset[torch.Tensor]):
    """The minibatches that CNTK's reader gives, from any of them on.

        minibatch[t]: float32 (minibatch_size, 3, height, width), channels B, G, R, 0..255

    map_file: see ``read_map_file``.
    minibatch_size: images in a minibatch, from 1; may exceed the number of images.
    randomization_seed: 0 .. 2**64 - 1; only the order depends on it. Seed 1 begins with the order
        of seed 0's second sweep.
    width, height: of the minibatches, in pixels.
    color_radii: of brightness, contrast, saturation; each 0 .. 1. All 0: no colour, and the scaling
        is of bytes.
    start_step, stop_step: the first minibatch given, and the one before which the reader stops
        (None: never). Both count from the beginning of the run, so a resumed run stops where the
        whole run would.
    threads: that read images side by side; None: one for each processor. In a DataLoader's worker
        process always 1.

    Iterating goes on from ``step``, the number of the next minibatch, and moves it; when an image
    fails, ``step`` stays, and iterating again tries the same minibatch. Memory of a minibatch that
    nothing holds any more is used again.

    With worker processes, ``DataLoader(reader, batch_size=None, num_workers=k)``, the result and
    its order are the same. The workers are copies: ``step`` of this object does not move, so give
    ``state_dict`` the number of minibatches taken.

    Raises ReaderError.
    """

    def __init__(self, map_file: str | os.PathLike[str], minibatch_size: int = 16, *,
                 randomization_seed: int = 0, width: int = 256, height: int = 256,
                 color_radii: Sequence[float] = RADII, start_step: int = 0,
                 stop_step: int | None = None, threads: int | None = None) -> None:
        self.minibatch_size = _whole("minibatch_size", minibatch_size, 1)
        self.randomization_seed = _whole("randomization_seed", randomization_seed, 0, LARGEST_SEED)
        self.width, self.height = _whole("width", width, 1), _whole("height", height, 1)
        self.color_radii = tuple(float(radius) for radius in color_radii)
        if (len(self.color_radii) != 3
                or not all(0 <= radius <= 1 for radius in self.color_radii)):
            raise ReaderError(f"color_radii is {tuple(color_radii)}: give three numbers in 0 .. 1: "
                              "brightness, contrast, saturation")
        self.step = _whole("start_step", start_step, 0)
        self.stop_step = None if stop_step is None else _whole("stop_step", stop_step, 0)
        self.threads = _processors() if threads is None else _whole("threads", threads, 1)
        self.map_file = Path(map_file)
        self.entries = read_map_file(map_file)
        self._map_hash = map_hash(self.entries)
        self._forget_process()

    def _forget_process(self) -> None:
        """Drops what belongs to one process: threads, buffers."""
        self._pool: ThreadPoolExecutor | None = None
        self._buffers: list[tuple[np.ndarray, weakref.ref[np.ndarray]]] = []
        self._orders: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None, "_buffers": [], "_orders": {}}

    @property
    def images(self) -> int:
        """How many images a sweep has."""
        return len(self.entries)

    def indices(self, step: int) -> np.ndarray:
        """Which entries of the map file (from 0) minibatch ``step`` holds: int64 (N,)."""
        return sample_indices(step, self.minibatch_size, self.images, self.randomization_seed,
                              self._order)

    def _order(self, count: int, sweep: int, seed: int) -> np.ndarray:
        if sweep not in self._orders:
            if len(self._orders) > 2:
                self._orders.clear()
            self._orders[sweep] = sample_order(count, sweep, seed)
        return self._orders[sweep]

    def end_of_sweep(self, step: int) -> bool:
        """CNTK's flag of minibatch ``step``."""
        return ends_sweep(step, self.minibatch_size, self.images)

    def minibatch(self, step: int) -> torch.Tensor:
        """Minibatch number ``step``, from 0, whatever was read before; moves nothing."""
        size = self.minibatch_size
        batch = self._buffer()
        draws = [augmentation_draws(position, step, self.color_radii) for position in range(size)]
        work = list(zip(self.indices(step).tolist(), draws, batch, strict=True))
        if self.threads == 1 or size == 1:
            for one in work:
                self._read(*one)
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, "image_reader")
            futures = [self._pool.submit(self._read, *one) for one in work]
            wait(futures)  # also when one failed: none may go on writing into the buffer
            for future in futures:
                future.result()
        return torch.from_numpy(batch)

    def _read(self, index: int, draws: Draws, out: np.ndarray) -> None:
        entry = self.entries[index]
        image = decode(entry.path, f"{self.map_file}, line {entry.line}")
        if any(self.color_radii):
            image = apply_color(image, *draws)
        write_planes(scale(image, self.width, self.height), out)

    def _buffer(self) -> np.ndarray:
        """Memory for a minibatch that no tensor holds: a tensor holds the view given out here."""
        free = [place for place, (_, lent) in enumerate(self._buffers) if lent() is None]
        place = free[0] if free else len(self._buffers)
        memory = self._buffers[place][0] if free else np.empty(
            (self.minibatch_size, 3, self.height, self.width), np.float32)
        view = memory.view()
        if place < 4:  # a consumer that keeps more than this keeps them all: nothing to use again
            self._buffers[place:place + 1] = [(memory, weakref.ref(view))]
        return view

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        if worker is not None:
            self._forget_process()
            self.threads = 1
            cv2.setNumThreads(0)
            steps = itertools.count(self.step + worker.id, worker.num_workers)
            yield from (self.minibatch(step) for step in itertools.takewhile(self._wanted, steps))
            return
        while self._wanted(self.step):
            batch = self.minibatch(self.step)
            self.step += 1
            yield batch
            del batch

    def _wanted(self, step: int) -> bool:
        return self.stop_step is None or step < self.stop_step

    def _identity(self) -> dict[str, Any]:
        """What a resumed run must have in common with the run that it goes on with."""
        return {"minibatch_size": self.minibatch_size,
                "randomization_seed": self.randomization_seed,
                "width": self.width, "height": self.height,
                "color_radii": list(self.color_radii),
                "images": self.images, "map_hash": self._map_hash}

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Where the reader stands, ready for JSON: numbers, text and a list.

        step: minibatches taken since the beginning of the run; needed with worker processes.
        """
        return {"step": self.step if step is None else _whole("step", step, 0), **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where ``state`` was saved; costs no image.

        Raises ReaderError, changing nothing, for a state of another minibatch size, seed, data set,
        size of image or colour, and for one that is not a reader's.
        """
        for name, ours in self._identity().items():
            if name not in state:
                raise ReaderError(f"the state has no {name!r}: give what ImageReader.state_dict "
                                  "returned")
            theirs = state[name]
            if (list(theirs) if isinstance(theirs, tuple) else theirs) == ours:
                continue
            if name in ("images", "map_hash"):
                raise ReaderError(
                    f"the state was saved with another data set ({state['images']} images; "
                    f"{self.map_file} has {self.images} and other lines or another order): resume "
                    "with the map file of that run, or begin at step 0")
            raise ReaderError(f"the state was saved with {name}={theirs}, this reader has {ours}: "
                              f"make the reader with {name}={theirs}, or begin at step 0")
        if "step" not in state:
            raise ReaderError("the state has no 'step': give what ImageReader.state_dict returned")
        self.step = _whole("the state's step", state["step"], 0)
