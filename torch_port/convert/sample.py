"""Pictures out of a trained generator, whatever it is kept in: the same bytes from each.

    sample000.png ...   G(z) of each latent, in evaluation mode; (image / 2 + 0.5) * 255
    grid.png            all of them
    interpolation.png   on the great circle from the first latent to the second, in STEPS steps

The weights are read and run through the port, so an ONNX file, CNTK's model and a checkpoint with
the same weights give the same pictures. Latents are numpy's of the seed, as in training.
"""
from pathlib import Path

import numpy as np
import torch

from captures.article import DCGAN
from captures.files import written_whole
from captures.output import replacing
from captures.plan import Latents
from captures.training.pictures import grid, pixels
from torch_port.convert.sources import Source
from torch_port.convert.targets import ConversionError
from torch_port.dcgan import Generator, empty_networks
from torch_port.train.outputs import encode

OF_ALL = ("grid.png", "interpolation.png")
STEPS, AT_ONCE, COLUMNS = 8, 16, 8


def generator_of(source: Source, where: str) -> Generator:
    """In evaluation mode. Raises ConversionError: there is none."""
    if DCGAN.maker.name not in source.networks:
        raise ConversionError(f"{where} holds no {DCGAN.maker.name}, which alone makes pictures: "
                              "give its file")
    made = empty_networks()
    with torch.no_grad():
        for name, tensor in made.arrays().items():
            if name in source.arrays:
                tensor.copy_(torch.from_numpy(np.require(source.arrays[name], requirements="W")))
    return made.generator.eval()


def generate(generator: Generator, z: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return torch.cat([generator(torch.from_numpy(z[i:i + AT_ONCE]))
                          for i in range(0, len(z), AT_ONCE)]).numpy()


def between(first: np.ndarray, last: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """Latents on the great circle between two, both ends among them: (steps, 100) float32.

        (sin((1 - t) * a) * first + sin(t * a) * last) / sin(a),  a the angle between the two
    """
    cosine = np.dot(first, last) / (np.linalg.norm(first) * np.linalg.norm(last))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:
        return np.repeat(first[None], steps, 0)
    t = np.linspace(0, 1, steps)[:, None]
    between = (np.sin((1 - t) * angle) * first + np.sin(t * angle) * last) / np.sin(angle)
    return np.asarray(between, np.float32)


def write(source: Source, where: str, output: Path, count: int, seed: int) -> list[Path]:
    """The files. Raises ConversionError."""
    generator = generator_of(source, where)
    with replacing(output, [f"sample{i:03d}.png" for i in range(count)] + [*OF_ALL]):
        return _written(generator, output, count, seed)


def _written(generator: Generator, output: Path, count: int, seed: int) -> list[Path]:
    z = Latents(seed).next(max(count, 2))
    images = generate(generator, z[:count])
    pictures = {f"sample{i:03d}.png": pixels(image) for i, image in enumerate(images)}
    pictures[OF_ALL[0]] = grid(images, min(count, COLUMNS))
    pictures[OF_ALL[1]] = grid(generate(generator, between(z[0], z[1])), STEPS)
    for name, picture in pictures.items():
        with written_whole(output / name) as part:
            part.write_bytes(encode(picture))
    return [output / name for name in pictures]
