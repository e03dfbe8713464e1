"""Pictures for the score, by the port's own hands: generator, reader, normalisation, writer.

The names and shapes are those of ``cntk_impl/capture/pictures.py``; the classifier is not run here.
"""
from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from captures.format import CaptureWriter
from captures.plan import Plan
from captures.training.pictures import pixels
from torch_port.dcgan import Chain, Generator, normalized
from torch_port.reader.reader import ImageReader
from torch_port.train.outputs import encode

AT_ONCE = 8


def score_pictures(writer: CaptureWriter, plan: Plan, generator: Chain, z: Tensor,
                   trained: Path | None) -> None:
    """trained: an .npz of a generator's arrays, or None."""
    made = {plan.spec.images: generated(generator, z)}
    if trained is not None:
        made[f"score/trained/{plan.spec.maker.last}/images"] = generated(load_trained(trained), z)
    made["score/faces/normalised/images"] = faces(plan, len(z))
    for name, images in made.items():
        writer.add(name, images.numpy())
        writer.add(f"score/{name.split('/')[1]}/written/pictures", written(images))


@torch.no_grad()
def generated(generator: Chain, z: Tensor) -> Tensor:
    return torch.cat([generator(part) for part in torch.split(z, AT_ONCE)]).to(torch.float32)


def load_trained(path: Path) -> Generator:
    """``generator/conv1/weight`` and so on, in evaluation mode."""
    made = Generator()
    with np.load(path, allow_pickle=False) as arrays:
        made.load_state_dict({name.partition("/")[2].replace("/", "."): torch.from_numpy(value)
                              for name, value in arrays.items()})
    return made.eval()


def faces(plan: Plan, count: int) -> Tensor:
    """The first ``count`` images of the reader, normalised."""
    size, (_, height, width) = plan.minibatch_size, plan.spec.critic.input
    reader = ImageReader(plan.map_file, size, randomization_seed=plan.seed, width=width,
                         height=height, stop_step=-(-count // size))
    return torch.cat([normalized(x.clone(), plan.spec.middle) for x in reader])[:count]


def written(images: Tensor) -> np.ndarray:
    """As the port writes a picture, one file each, and read back: N x H x W x 3, R, G, B, uint8."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fake.png"
        for image in images.numpy():
            path.write_bytes(encode(pixels(image)))
            read = cv2.imread(str(path))
            assert read is not None, "OpenCV does not read what it wrote"
            made.append(read[..., ::-1])
    return np.ascontiguousarray(made)
