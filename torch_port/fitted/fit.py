"""A generator whose pictures show something, in a minute and without a GPU.

    python -m torch_port.fitted --output fitted.npz

The article's training makes grey pictures for its first 4,000 iterations (docs/long-run.md), and a
score of grey pictures is nearly the lowest there is, whoever made them. So the generator alone is
fitted: K latents that stay the same, K images of the data set, and the mean absolute difference of
G(z) and its image, in float32, by Adam (Bojanowski et al. 2018, "Optimizing the latent space of
generative networks", with the latents left where they are). It is no GAN and not the article's
model: its weights are for comparing what two frameworks, writers and classifiers make of the same
ones.

Its running statistics are at the end those of the K latents together. The same bits come out on no
other machine: the sums are PyTorch's.
"""
import sys
from pathlib import Path

import numpy as np
import torch

from captures.article import DCGAN
from captures.spec import Spec
from torch_port.batch_norm import BatchNormalization
from torch_port.dcgan import Networks, normalized
from torch_port.fast.networks import laid_out, output, weights_of
from torch_port.reader.reader import ImageReader

# With minibatches of 2 it is done in half the time and shows spots, no faces.
IMAGES, MINIBATCH, ITERATIONS = 16, 4, 200
LEARNING_RATE, MOMENTUM, SECOND = 2e-3, 0.5, 0.999
SAID = 25  # iterations from one line of progress to the next

Arrays = dict[str, np.ndarray]


def fitted(map_file: Path, iterations: int = ITERATIONS, images: int = IMAGES,
           minibatch: int = MINIBATCH, seed: int = 0, spec: Spec = DCGAN
           ) -> tuple[Arrays, list[float]]:
    """The generator's arrays by the captures' names, and each iteration's mean absolute difference
    on the scale of [-1, 1].

    Raises MapFileError, ImageError: as the reader does.
    """
    wanted = _images(map_file, images, minibatch, seed, spec)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = Networks(spec)
    laid_out(networks)
    name = networks.spec.maker.name
    maker = getattr(networks, name).train()
    z = torch.from_numpy(np.random.RandomState(seed).uniform(
        -1, 1, (images, *maker.network.layers[0].input)).astype(np.float32))
    optimizer = torch.optim.Adam(maker.parameters(), LEARNING_RATE, (MOMENTUM, SECOND), fused=True)
    differences = []
    for i in range(iterations):
        some = torch.arange(i * minibatch, (i + 1) * minibatch) % images
        made = output(maker, weights_of(maker, torch.float32), z[some])
        difference = (made - wanted[some]).abs().mean()
        optimizer.zero_grad()
        difference.backward()
        optimizer.step()
        differences.append(difference.item())
        if i % SAID == SAID - 1 or i == iterations - 1:
            print(f"fitting the {name}: iteration {i + 1} of {iterations}, mean difference "
                  f"{differences[-1]:.3f}", file=sys.stderr, flush=True)
    for module in maker.modules():
        if isinstance(module, BatchNormalization):
            module.sample_count.zero_()  # then the next minibatch's statistics are copied
    with torch.no_grad():
        output(maker, weights_of(maker, torch.float32), z)
    return {key: tensor.detach().contiguous().numpy() for key, tensor in networks.arrays().items()
            if key.startswith(name + "/")}, differences


def _images(map_file: Path, images: int, minibatch: int, seed: int, spec: Spec) -> torch.Tensor:
    _, height, width = spec.critic.input
    reader = ImageReader(map_file, minibatch, randomization_seed=seed, width=width, height=height,
                         stop_step=-(-images // minibatch))
    return torch.cat([normalized(x.clone(), spec.middle) for x in reader])[:images]
