"""Pictures of a generator: a CNTK ``.model``, an ONNX file, a run of either trainer, or what
``torch_port.fitted`` wrote.

    z N x 100, standard normal, drawn in float64 by RandomState(seed), rounded to float32
        -> images N x 3 x 256 x 256 in [-1, 1], B, G, R  ->  pixels of 0..255, R, G, B

The same latents whatever the file, so that two scores by one seed are of the same pictures. An ONNX
file does not say which channels and what range its pictures have; ``PIXELS`` are the choices.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captures.process import printable
from scores.classifiers.base import pixels_of
from scores.errors import ScoreError
from scores.images import (
    ARRAYS,
    ENDINGS,
    Pictures,
    Pixels,
    arrays_of,
    headers,
    open_pictures,
)

LATENT_SIZE = 100
AT_ONCE = 8
COUNT = 1000  # pictures, where it is not said
PIXELS = {"bgr[-1,1]": "B, G, R in [-1, 1]", "rgb[-1,1]": "R, G, B in [-1, 1]",
          "bgr[0,1]": "B, G, R in [0, 1]", "rgb[0,1]": "R, G, B in [0, 1]"}
DEFAULT_PIXELS = "bgr[-1,1]"  # the article's
WITHIN = 1e-4  # beyond the range: more than tanh can round
TYPES: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
MODELS = (".model", ".onnx")
MISSING = "{} is not there: give a CNTK .model, an ONNX file or a run's folder"
Generate = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # z -> images


@dataclass
class Generated(Pictures):
    """``count`` pictures of a generator. eight_bits: rounded as a written file has them. pixels:
    of ``PIXELS``, as which an ONNX file's are taken; "": B, G, R in [-1, 1], as is known."""

    generate: Generate = field(default=lambda z: z)
    seed: int = 0
    eight_bits: bool = True
    pixels: str = ""

    def batches(self, size: int) -> Iterator[Pixels]:
        self.notes.clear()
        latents = np.random.RandomState(self.seed)
        lowest = np.inf
        for start in range(0, self.count, size):
            z = latents.normal(size=(min(size, self.count - start), LATENT_SIZE)
                               ).astype(np.float32)
            images = np.concatenate([self.generate(z[i:i + AT_ONCE])
                                     for i in range(0, len(z), AT_ONCE)])
            try:
                pixels = pixels_of(as_taken(images, self.pixels, start), start)
            except ScoreError as error:
                raise ScoreError(f"{self.name}: {error}") from error
            lowest = min(lowest, images.min())
            yield np.rint(pixels) if self.eight_bits else pixels
        if self.pixels:
            self.notes["of an ONNX generator, which does not say what they are; taken as "
                       + PIXELS[self.pixels]] = self.count
        if self.pixels.endswith("[-1,1]") and lowest >= 0:
            self.notes["no value is below 0, as if they were in [0, 1]; then --pixels "
                       f"'{self.pixels[:3]}[0,1]' is right"] = self.count


def as_taken(images: NDArray[Any], pixels: str, first: int = 0) -> NDArray[Any]:
    """A generator's pictures as B, G, R in [-1, 1]. pixels: as what they are taken, of ``PIXELS``;
    "": as that. first: the number of the first, for messages.

    Raises ScoreError: values outside that range. Pictures that are none are left to ``pixels_of``.
    """
    x = np.asarray(images)
    if not pixels or x.ndim != 4 or 0 in x.shape or x.dtype.kind != "f":
        return x
    low, high = x.min((1, 2, 3)), x.max((1, 2, 3))
    least = -1 if pixels.endswith("[-1,1]") else 0
    beyond = (low < least - WITHIN) | (high > 1 + WITHIN)
    if beyond.any():
        n = int(np.argmax(beyond))
        raise ScoreError(f"image {first + n} has values from {low[n]:.6g} to {high[n]:.6g}, but "
                         f"they are taken as {PIXELS[pixels]}: say with --pixels what they are, "
                         f"one of {', '.join(PIXELS)}")
    if pixels.startswith("rgb"):
        x = x[:, ::-1]
    return x if least else 2 * np.clip(x, 0, 1) - 1


def open_source(path: Path, count: int | None = None, seed: int = 0, threads: int = 2,
                broken: str = "refuse", eight_bits: bool = True, pixels: str = "") -> Pictures:
    """Pictures or a generator, whichever ``path`` is.

    count, pixels: of a generator's pictures, of an ONNX generator's.

    Raises ScoreError: neither; count or pixels given where they mean nothing."""
    if (path.suffix.lower() in MODELS and not path.is_dir()) or is_run(path) or is_fitted(path):
        return open_generator(path, COUNT if count is None else count, seed, threads, eight_bits,
                              pixels)
    if path.is_file() and path.suffix.lower() not in ARRAYS:
        raise ScoreError(f"{path} is neither pictures (a folder, {', '.join(ARRAYS)}) nor a model "
                         f"({', '.join(MODELS)}, a run's folder): of a run's other files give the "
                         "folder")
    made = open_pictures(path, broken)
    for option, given in (("--count", count is not None), ("--pixels", pixels)):
        if given:
            raise ScoreError(f"{option} is for a model, and {path} holds pictures, all of which "
                             "are taken as they are: leave it out")
    return made


def is_run(path: Path) -> bool:
    """Whether a folder is what a trainer wrote, or one of its checkpoints; a folder of pictures may
    have one of that name."""
    home = path / "checkpoints"
    return (path / "state.npz").is_file() or (home.is_dir() and not any(
        file.suffix.lower() in ENDINGS for file in home.iterdir()))


def is_fitted(path: Path) -> bool:
    """Whether it is an .npz of a generator's arrays by the captures' names."""
    from captures.article import DCGAN
    return path.suffix == ".npz" and path.is_file() and set(DCGAN.maker.arrays) <= set(
        headers(path))


def open_generator(path: Path, count: int, seed: int = 0, threads: int = 2,
                   eight_bits: bool = True, pixels: str = "") -> Generated:
    """pixels: of ``PIXELS``, of an ONNX file; "": the default.

    Raises ScoreError: not there, of another kind, or no generator of pictures; unknown pixels, or
    of another file than ONNX."""
    if not path.is_file() and not is_run(path):
        raise ScoreError(MISSING.format(path))
    if pixels and pixels not in PIXELS:
        raise ScoreError(f"there is no --pixels {pixels}: give one of {', '.join(PIXELS)}")
    onnx = path.suffix.lower() == ".onnx"
    if pixels and not onnx:
        raise ScoreError(f"--pixels is for an ONNX generator, and {path} makes "
                         f"{PIXELS[DEFAULT_PIXELS]}: leave it out")
    generate = _onnx(path, threads) if onnx else model_of(captured_arrays(path))
    return Generated(printable(path), count, generate=generate, seed=seed, eight_bits=eight_bits,
                     pixels=(pixels or DEFAULT_PIXELS) if onnx else "")


def _onnx(path: Path, threads: int) -> Generate:
    from scores.classifiers.runtimes import load_session

    session = load_session(path, threads)
    name, shape, dtype = _latent(session, path)
    output, fixed = session.get_outputs()[0].name, shape[0]

    def run(z: NDArray[np.float32]) -> NDArray[Any]:
        given = z if not fixed else np.concatenate([z, np.repeat(z[-1:], fixed - len(z), 0)])
        try:
            made = np.asarray(session.run([output], {
                name: given.reshape((len(given), *shape[1:])).astype(dtype)})[0])
        except Exception as error:  # onnxruntime has no class that all its errors share
            said = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise ScoreError(f"onnxruntime does not run {path} on {len(given)} latents ({said}): "
                             "export it again") from error
        if made.shape[:1] != (len(given),):
            raise ScoreError(f"{path} makes the shape {made.shape} of {len(given)} latents: a "
                             "generator makes a picture of each")
        return made[:len(z)]

    def each(z: NDArray[np.float32], size: int) -> NDArray[Any]:
        return np.concatenate([run(z[i:i + size]) for i in range(0, len(z), size)])

    def generate(z: NDArray[np.float32]) -> NDArray[Any]:
        try:
            return each(z, fixed or len(z))
        except ScoreError:
            if fixed or len(z) == 1:
                raise
            return each(z, 1)  # it says that it takes any number, and was made for one

    return generate


def _latent(session: Any, path: Path) -> tuple[str, list[int], type[np.floating]]:
    """Name, shape and type of an ONNX generator's input; the shape begins with how many latents it
    takes at once, 0: any number."""
    ports = session.get_inputs()
    shapes = [(port.name, port.shape, port.type) for port in ports]
    name, shape, kind = shapes[0] if len(shapes) == 1 else ("", [], "")
    open_to = [n if isinstance(n, int) else 1 for n in shape[1:]]
    if kind not in TYPES or len(shape) < 2 or math.prod(open_to) != LATENT_SIZE:
        raise ScoreError(f"{path} takes {shapes}: a generator takes one latent of {LATENT_SIZE} "
                         "floating point values. Is it a classifier? Give that with --classifier")
    return name, [shape[0] if isinstance(shape[0], int) else 0, *open_to], TYPES[kind]


def latents_of(count: int, seed: int) -> NDArray[np.float32]:
    """The first ``count`` latents of a seed."""
    return np.random.RandomState(seed).normal(size=(count, LATENT_SIZE)).astype(np.float32)


def model_of(arrays: Mapping[str, Any]) -> Generate:
    """The port's, of arrays by the captures' names, in evaluation mode."""
    import torch

    from torch_port.dcgan import Generator

    network = Generator()
    network.load_state_dict({name.partition("/")[2].replace("/", "."):
                             torch.from_numpy(np.array(value))
                             for name, value in arrays.items()})
    network.eval()

    def generate(z: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(z)).numpy())

    return generate


def captured_arrays(path: Path) -> dict[str, Any]:
    """The generator's arrays by the captures' names, ``generator/conv1/weight``.

    Raises ScoreError: not there, or another file's.
    """
    from torch_port.files.message import ModelFileError
    from torch_port.files.model import read_model

    if is_fitted(path):
        from captures.article import DCGAN
        return _wanted(path, arrays_of(path, list(DCGAN.maker.arrays)))
    if not path.exists():
        raise ScoreError(MISSING.format(path))
    if not is_run(path):
        try:
            return dict(read_model(path, "generator"))
        except ModelFileError as error:
            raise ScoreError(str(error)) from error
    from captures.errors import TrainingError
    from captures.training.checkpoint import read_checkpoint, read_newest

    try:
        held = (read_checkpoint(path) if (path / "state.npz").is_file() else read_newest(path))
    except TrainingError as error:
        said = str(error).replace(", or begin anew with --overwrite", "")  # not of a score
        raise ScoreError(f"{path} holds no checkpoint that is whole ({said}): give the folder of "
                         "a run that has written one") from error
    return _wanted(path, held.arrays)


def _wanted(path: Path, arrays: Mapping[str, Any]) -> dict[str, Any]:
    from captures.article import DCGAN

    wanted = DCGAN.maker.arrays
    for name, shape in wanted.items():
        if (name not in arrays or tuple(arrays[name].shape) != tuple(shape)
                or (shape and arrays[name].dtype.kind != "f")):
            raise ScoreError(f"{path}: {name} is not there or of another shape, or of no floating "
                             "point: give a run of the article's networks")
    return {name: arrays[name] for name in wanted}
