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
import itertools
import operator
import os
import threading
import weakref
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from captures.check import check_data
from captures.errors import ReaderError
from captures.map_file import MapEntry
from captures.system import processors
from torch_port.mersenne import LARGEST_SEED
from torch_port.reader.augmentation import (
    RADII,
    Draws,
    apply_color,
    augmentation_draws,
    scale,
    write_planes,
)
from torch_port.reader.order import ends_sweep, sample_indices, sample_order

# ------------------------------------------------------------------------------------ the reader

def decode(entry: MapEntry, where: str) -> np.ndarray:
    """The image of an entry: uint8 (height, width, 3), channels B, G, R.

    where: named in the message of the ReaderError that an unreadable file raises.
    """
    # An image that does not decode is a ReaderError, not lines of OpenCV's on stderr.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        content = np.frombuffer(entry.read(), np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except (OSError, KeyError, zipfile.BadZipFile, cv2.error):
        image = None
    if image is None:
        raise ReaderError(f"{where}: {entry.name} cannot be decoded as an image: replace the file "
                          "or delete the line")
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


class ImageReader(IterableDataset[torch.Tensor]):
    """The minibatches that CNTK's reader gives, from any of them on.

        minibatch[t]: float32 (minibatch_size, 3, height, width), channels B, G, R, 0..255

    map_file: see ``captures.check.check_data``, which has looked at every image before the first
        minibatch.
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
    fails, ``step`` stays, and iterating again tries the same minibatch. While a minibatch is used
    the next one is read, by a thread beside; that changes nothing but the time. Memory of a
    minibatch that nothing holds any more is used again.

    With worker processes, ``DataLoader(reader, batch_size=None, num_workers=k)``, the result and
    its order are the same. The workers are copies: ``step`` of this object does not move, so give
    ``state_dict`` the number of minibatches taken.

    Raises ReaderError; DataError for a map file or an image that cannot be used.
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
        self.threads = processors() if threads is None else _whole("threads", threads, 1)
        self.map_file = Path(map_file)
        data = check_data(map_file)
        self.entries, self.images_sha256 = data.entries, data.sha256
        self._forget_process()

    def _forget_process(self) -> None:
        """Drops what belongs to one process: threads, buffers."""
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._buffers: list[tuple[np.ndarray, weakref.ref[np.ndarray]]] = []
        self._orders: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in (
            "_pool", "_ahead", "_lock", "_buffers", "_orders")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_process()

    @property
    def images(self) -> int:
        """How many images a sweep has."""
        return len(self.entries)

    def indices(self, step: int) -> np.ndarray:
        """Which entries of the map file (from 0) minibatch ``step`` holds: int64 (N,)."""
        return sample_indices(step, self.minibatch_size, self.images, self.randomization_seed,
                              self._order)

    def _order(self, count: int, sweep: int, seed: int) -> np.ndarray:
        with self._lock:
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
        with self._lock:
            batch = self._buffer()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, "image_reader")
        work = list(zip(self.indices(step).tolist(), self.draws(step), batch, strict=True))
        if self.threads == 1 or size == 1:
            for one in work:
                self._read(*one)
        else:
            futures = [self._pool.submit(self._read, *one) for one in work]
            wait(futures)  # also when one failed: none may go on writing into the buffer
            for future in futures:
                future.result()
        return torch.from_numpy(batch)

    def draws(self, step: int) -> list[Draws]:
        """What the augmentation draws for each place of minibatch ``step``."""
        return [augmentation_draws(position, step, self.color_radii)
                for position in range(self.minibatch_size)]

    def _read(self, index: int, draws: Draws, out: np.ndarray) -> None:
        entry = self.entries[index]
        image = decode(entry, f"{self.map_file}, line {entry.line}")
        self.transform(image, draws, out)

    def transform(self, image: np.ndarray, draws: Draws, out: np.ndarray) -> None:
        """The decoded image coloured, scaled, and laid out in planes."""
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
        next_step, coming = -1, None
        while self._wanted(self.step):
            if coming is None or next_step != self.step:  # the first, or ``step`` was moved
                coming = self._read_ahead(self.step)
            held, coming = coming, None
            batch = held.result()
            del held
            self.step += 1
            next_step = self.step
            if self._wanted(next_step):
                coming = self._read_ahead(next_step)
            yield batch
            del batch

    def _read_ahead(self, step: int) -> "Future[torch.Tensor]":
        if self._ahead is None:
            self._ahead = ThreadPoolExecutor(1, "image_reader_ahead")
        return self._ahead.submit(self.minibatch, step)

    def _wanted(self, step: int) -> bool:
        return self.stop_step is None or step < self.stop_step

    def _identity(self) -> dict[str, Any]:
        """What a resumed run must have in common with the run that it goes on with."""
        return {"minibatch_size": self.minibatch_size,
                "randomization_seed": self.randomization_seed,
                "width": self.width, "height": self.height,
                "color_radii": list(self.color_radii),
                "images": self.images, "images_sha256": self.images_sha256}

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
            if name in ("images", "images_sha256"):
                raise ReaderError(
                    f"the state was saved with another data set ({state['images']} images; "
                    f"{self.map_file} has {self.images}, other ones or in another order): "
                    "resume with the map file of that run, or begin at step 0")
            raise ReaderError(f"the state was saved with {name}={theirs}, this reader has {ours}: "
                              f"make the reader with {name}={theirs}, or begin at step 0")
        if "step" not in state:
            raise ReaderError("the state has no 'step': give what ImageReader.state_dict returned")
        self.step = _whole("the state's step", state["step"], 0)
