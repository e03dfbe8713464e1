"""Pictures of a generator: a CNTK ``.model``, an ONNX file, a run of either trainer, or what
``torch_port.fitted`` wrote.

    z N x 100, standard normal, drawn in float64 by RandomState(seed), rounded to float32
        -> images N x 3 x 256 x 256 in [-1, 1], B, G, R  ->  pixels of 0..255, R, G, B

The same latents whatever the file, so that two scores by one seed are of the same pictures.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scores.classifiers.base import pixels_of
from scores.errors import ScoreError
from scores.images import Pictures, Pixels, headers, open_pictures

LATENT_SIZE = 100
AT_ONCE = 8
MODELS = (".model", ".onnx")
MISSING = "{} is not there: give a CNTK .model, an ONNX file or a run's folder"
Generate = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # z -> images


@dataclass
class Generated(Pictures):
    """``count`` pictures of a generator. eight_bits: rounded as a written file has them."""

    generate: Generate = field(default=lambda z: z)
    seed: int = 0
    eight_bits: bool = True

    def batches(self, size: int) -> Iterator[Pixels]:
        latents = np.random.RandomState(self.seed)
        for start in range(0, self.count, size):
            z = latents.normal(size=(min(size, self.count - start), LATENT_SIZE)
                               ).astype(np.float32)
            parts = [self.generate(z[i:i + AT_ONCE]) for i in range(0, len(z), AT_ONCE)]
            pixels = pixels_of(np.concatenate(parts), start)
            yield np.rint(pixels) if self.eight_bits else pixels


def open_source(path: Path, count: int, seed: int = 0, threads: int = 2, broken: str = "refuse",
                eight_bits: bool = True) -> Pictures:
    """Pictures or a generator, whichever ``path`` is. Raises ScoreError: neither."""
    if (path.suffix.lower() in MODELS and not path.is_dir()) or is_run(path) or is_fitted(path):
        return open_generator(path, count, seed, threads, eight_bits)
    return open_pictures(path, broken)


def is_run(path: Path) -> bool:
    """Whether a folder is what a trainer wrote, or one of its checkpoints."""
    return (path / "checkpoints").is_dir() or (path / "state.npz").is_file()


def is_fitted(path: Path) -> bool:
    """Whether it is an .npz of a generator's arrays by the captures' names."""
    from captures.article import DCGAN
    return path.suffix == ".npz" and path.is_file() and set(DCGAN.maker.arrays) <= set(
        headers(path))


def open_generator(path: Path, count: int, seed: int = 0, threads: int = 2,
                   eight_bits: bool = True) -> Generated:
    """Raises ScoreError: not there, of another kind, or no generator of pictures."""
    if not path.is_file() and not is_run(path):
        raise ScoreError(MISSING.format(path))
    generate = (_onnx(path, threads) if path.suffix.lower() == ".onnx"
                else model_of(captured_arrays(path)))
    return Generated(str(path), count, generate=generate, seed=seed, eight_bits=eight_bits)


def _onnx(path: Path, threads: int) -> Generate:
    from scores.classifiers.runtimes import load_session

    session = load_session(path, threads)
    ports = [(port.name, port.shape) for port in session.get_inputs()]
    if len(ports) != 1 or np.prod([n for n in ports[0][1] if isinstance(n, int)]) != LATENT_SIZE:
        raise ScoreError(f"{path} takes {ports}: a generator takes one latent of {LATENT_SIZE} "
                         "values. Is it a classifier? Give that with --classifier")
    (name, shape), output = ports[0], session.get_outputs()[0].name

    def generate(z: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run([output], {name: z.reshape((len(z), *shape[1:]))})[0])

    return generate


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
        with np.load(path, allow_pickle=False) as file:
            return _wanted(path, file)
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
        raise ScoreError(f"{path} holds no checkpoint that is whole ({error}): give the folder of "
                         "a run that has written one") from error
    return _wanted(path, held.arrays)


def _wanted(path: Path, arrays: Mapping[str, Any]) -> dict[str, Any]:
    from captures.article import DCGAN

    wanted = DCGAN.maker.arrays
    for name, shape in wanted.items():
        if name not in arrays or tuple(arrays[name].shape) != tuple(shape):
            raise ScoreError(f"{path}: {name} is not there or of another shape: give a run of the "
                             "article's networks")
    return {name: arrays[name] for name in wanted}
