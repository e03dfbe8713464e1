"""What a classifier is: a description, and something that runs it.

    pixels N x 3 x H x W, R, G, B, 0..255
        -> scaled with the classifier's own kernel to side x side
        -> (x - middle) / scale                                   "prepared"
        -> features N x D and logits N x K

A classifier is described by a ``Spec`` and run by a runner: PyTorch or onnxruntime, from the same
weights; CNTK runs the ONNX file in a process of its own (``cntk_impl/capture/pictures.py``).
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scores.errors import ScoreError
from scores.resize import resize

Array = NDArray[Any]
Floats = NDArray[np.floating]
Runner = Callable[[Floats], tuple[Floats, Floats]]  # prepared -> features, logits
Level = float | tuple[float, float, float]

PIXELS_WITHIN = 0.02  # beyond 0..255: 1e-4 of a generator's [-1, 1], more than tanh can round


@dataclass(frozen=True)
class Spec:
    """side: pixels of the input's height and width. kernel: of ``scores/resize.py``. middle, scale:
    (x - middle) / scale, of each channel R, G, B or of all. classes, features: K and D; D is 0
    where the classifier shows no features. title: with the published weights; otherwise: with
    others."""

    name: str
    title: str
    side: int
    kernel: str
    middle: Level
    scale: Level
    classes: int
    features: int
    otherwise: str = ""


@dataclass
class Reading:
    """How a classifier's output is taken: "logits" or "probabilities", for good from its first
    pictures on; "" before."""

    taken: str = ""


def prepared(pixels: Floats, spec: Spec, kernel: str | None = None) -> Floats:
    """(resize(pixels) - middle) / scale, in the arithmetic of ``pixels``.

    pixels: N x 3 x H x W floating point, R, G, B, 0..255. kernel: another than the classifier's.

    Raises ScoreError: as ``checked``.
    """
    x = resize(checked(pixels), spec.side, spec.side, kernel or spec.kernel)
    middle, scale = (np.reshape(np.asarray(level, x.dtype), (1, -1, 1, 1))
                     for level in (spec.middle, spec.scale))
    return np.ascontiguousarray((x - middle) / scale)


def checked(pixels: Array) -> Floats:
    """The same, or ScoreError: another shape, whole numbers, none at all, NaN, outside 0..255."""
    x = np.asarray(pixels)
    if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
        raise ScoreError(f"pictures have the shape {x.shape}: give N x 3 x H x W, channels R, G, "
                         "B, none of them 0")
    if x.dtype.kind != "f":
        raise ScoreError(f"pictures are {x.dtype}: give float32 pixels of 0..255")
    # min and max carry NaN and infinity: two passes instead of five
    low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.argmin(np.isfinite(x).all((1, 2, 3))))
        raise ScoreError(f"picture {bad} holds NaN or infinity: look at what made it")
    if low < -PIXELS_WITHIN or high > 255 + PIXELS_WITHIN:
        beyond = np.maximum(-x.min((1, 2, 3)), x.max((1, 2, 3)) - 255)
        bad = int(np.argmax(beyond))
        raise ScoreError(f"picture {bad} has values from {x[bad].min():.6g} to {x[bad].max():.6g}: "
                         "give pixels of 0..255")
    return x


def pixels_of(images: Array, first: int = 0) -> NDArray[np.float32]:
    """(x + 1) * 127.5 of a generator's pictures, channels B, G, R turned to R, G, B; not rounded.

    images: N x 3 x H x W in [-1, 1], B, G, R, as CNTK's reader and the article's generator have
    them. first: the number of the first, for messages.

    Raises ScoreError: another shape, whole numbers, NaN, values outside [-1, 1].
    """
    x = np.asarray(images)
    if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
        raise ScoreError(f"images have the shape {x.shape}: give N x 3 x H x W, channels B, G, R, "
                         "none of them 0")
    if x.dtype.kind != "f":
        raise ScoreError(f"images are {x.dtype}: give float32 in [-1, 1], not pixels of 0..255")
    if not np.isfinite(x).all():
        bad = int(np.argmin(np.isfinite(x).all((1, 2, 3))))
        raise ScoreError(f"image {first + bad} holds NaN or infinity: look at what made it")
    if abs(x).max() > 1 + 1e-4:
        bad = int(np.argmax(abs(x).max((1, 2, 3))))
        raise ScoreError(f"image {first + bad} has values up to {abs(x[bad]).max():.6g}: give "
                         "images in [-1, 1], as a tanh makes them")
    whole = (x[:, ::-1].astype(np.float32) + np.float32(1)) * np.float32(127.5)
    return np.asarray(np.clip(whole, 0, 255), np.float32)


def eight_bits(pixels: Floats) -> NDArray[np.float32]:
    """Rounded to whole pixels, halves to even, as ``numpy.rint``; still float32."""
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.float32)


@dataclass(frozen=True)
class Classifier:
    """spec, and what runs it. runtime: "torch" or "onnxruntime". weights: one line that says which
    weights these are, with their SHA-256. path: of the ONNX file, where there is one. reading: how
    its output is taken."""

    spec: Spec
    runner: Runner
    runtime: str
    weights: str
    path: str = ""
    reading: Reading = field(default_factory=lambda: Reading("logits"))

    def __call__(self, pixels: Floats, kernel: str | None = None) -> tuple[Floats, Floats]:
        """Features N x D and logits N x K of pixels 0..255, R, G, B.

        Raises ScoreError: as ``prepared``."""
        return self.of_prepared(prepared(pixels, self.spec, kernel))

    def of_prepared(self, x: Floats) -> tuple[Floats, Floats]:
        return self.runner(x)
