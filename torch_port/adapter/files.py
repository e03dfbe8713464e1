"""What a user's port reads and writes: minibatches of images, and pictures."""
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from captures import probes as probe_inputs
from torch_port.adapter.isolation import AdapterError
from torch_port.adapter.updates import UserState
from torch_port.capture.recorder import numbers


class Files(UserState):
    def reader(self) -> None:
        """Its minibatches of the probe's images, which reach the end of a sweep, and of the plan's.
        """
        with tempfile.TemporaryDirectory() as folder:
            probe = probe_inputs.reader_probe(self.plan, folder)
            for i, images in enumerate(self._read(probe, probe_inputs.READER_MINIBATCHES)):
                self.writer.add(f"reader/probe/minibatch{i:02d}/images", images)
        hashes = []
        for images in self._read(self.plan.map_file, self.plan.warmup_iterations + 1):
            hashes.append(hashlib.sha256(images.tobytes()).hexdigest())
        self.writer.fact("warmup_minibatches", hashes[:-1])
        self.writer.add("input/reader/images", images)

    def _read(self, map_file: str, count: int) -> Iterator[np.ndarray]:
        """As CNTK's: N x 3 x H x W, B, G, R, float32 of 0 .. 255."""
        with self.adapter.theirs("reader"):
            read = iter(self.adapter.reader(str(map_file), self.plan.minibatch_size,
                                            self.plan.seed))
        for i in range(count):
            with self.adapter.theirs("reader"):
                given = next(read, None)
            if given is None:
                raise AdapterError(f"{self.adapter.path}: `reader` ends after {i} minibatches: "
                                   "begin the images anew when all were read, as a training does")
            yield self._pixels(given)

    def _pixels(self, given: Any) -> np.ndarray:
        made = given[0] if isinstance(given, tuple | list) and len(given) else given
        try:
            x = torch.as_tensor(made).detach().to("cpu", torch.float32)
        except (TypeError, ValueError, RuntimeError):
            raise AdapterError(f"{self.adapter.path}: `reader` gives a {type(made).__name__}: give "
                               "images, an array or tensor N x 3 x H x W of 0 .. 255") from None
        if x.dim() != 4:
            raise AdapterError(f"{self.adapter.path}: `reader` gives {tuple(x.shape)}: give N x 3 "
                               "x H x W, or N x H x W x 3 with images = {\"layout\": \"NHWC\"}")
        x = x.permute(0, 3, 1, 2) if self.adapter.layout == "NHWC" else x
        return np.ascontiguousarray(numbers(x if self.adapter.channels == "BGR" else x.flip(1)))

    @torch.no_grad()
    def picture(self) -> None:
        """One generated image, as their networks give it, through their writer and read back."""
        assert self.maker is not None
        self.load()
        self.train(False)
        image = self.maker(self.z_d)[:1]
        with tempfile.TemporaryDirectory(prefix="picture-") as folder:
            path = Path(folder) / "picture.png"
            with self.adapter.theirs("write_picture"):
                self.adapter.write_picture(str(path), self.conversion.images(image)[0])
            written = cv2.imread(str(path)) if path.exists() else None
        if written is None:
            raise AdapterError(f"{self.adapter.path}: `write_picture` wrote no picture to the path "
                               "that it was given: write a PNG there")
        self.writer.add("program/run/picture/image", numbers(image[0]))
        self.writer.add("program/run/picture/written", written)
