"""One run of the port: networks, optimizers, reader and latents, all from one seed."""
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captures.article import DCGAN, FILES, MINIBATCH_SIZE
from captures.errors import TrainingError
from captures.files import written_whole
from captures.plan import LARGEST_SEED, Latents
from captures.spec import Spec
from captures.training.checkpoint import Arrays
from captures.training.finite import finite
from captures.training.session import Trained
from torch_port import ranks
from torch_port.adam import CNTKAdam
from torch_port.dcgan import Networks, networks_from_seed
from torch_port.reader.reader import ImageReader
from torch_port.train.steps import create_optimizers, discriminator_step, generator_step

MODELS = {network: f"{name}.pt" for network, name in FILES.items()}


def model_file(network: str) -> str:
    """What a network's file is called that a run leaves; the article's have the article's names."""
    return MODELS.get(network, f"{network}.pt")


@dataclass
class Run(Trained):
    """``iterations`` is the training; the rest is what a checkpoint needs (see ``Trained``)."""

    seed: int
    minibatch_size: int
    unit_gain: bool
    reader: ImageReader
    networks: Networks
    generator_optimizer: CNTKAdam
    discriminator_optimizer: CNTKAdam
    latents: Latents
    device: str = "cpu"

    @classmethod
    def from_seed(cls, seed: int, map_file: str | os.PathLike[str],
                  minibatch_size: int = MINIBATCH_SIZE, unit_gain: bool = False,
                  threads: int | None = None, spec: Spec = DCGAN, device: str = "cpu") -> "Run":
        """Raises DataError or TrainingError for bad input, before anything is drawn."""
        if not 0 <= seed <= LARGEST_SEED:
            raise TrainingError(f"the seed is {seed}: give one of 0 .. {LARGEST_SEED}")
        _, height, width = spec.critic.input
        reader = ImageReader(map_file, minibatch_size, randomization_seed=seed, width=width,
                             height=height, threads=threads)
        networks = networks_from_seed(seed, spec).to(device)
        return cls(seed, minibatch_size, unit_gain, reader, networks,
                   *create_optimizers(networks, minibatch_size, unit_gain),
                   Latents(seed, spec.maker.input[0]), device)

    def _latents(self) -> Tensor:
        """This rank's of the minibatch's; every rank draws them all, so the streams stay alike."""
        return ranks.own(torch.from_numpy(self.latents.next(self.minibatch_size))).to(self.device)

    def iterations(self) -> Iterator[tuple[float, float, Tensor]]:
        """Endless: (G_loss, D_loss, generated images) after each iteration."""
        for images in self.reader:
            x, z = ranks.own(images).to(self.device), self._latents()
            D_loss = finite(discriminator_step(
                self.networks, self.discriminator_optimizer, x, z), "D_loss")
            G_loss, fake = generator_step(self.networks, self.generator_optimizer, self._latents())
            yield finite(G_loss, "G_loss"), D_loss, fake

    # ------------------------------------------------------------------------- what is kept of it

    def optimizers(self) -> Iterator[tuple[str, CNTKAdam]]:
        optimizers = (self.generator_optimizer, self.discriminator_optimizer)
        yield from zip(self.networks.names, optimizers, strict=True)

    def arrays(self) -> Arrays:
        made = self.networks.arrays()
        for network, optimizer in self.optimizers():
            (group,) = optimizer.param_groups
            made[network + "/learner/minibatches"] = torch.tensor(group["minibatches"])
            names = {parameter: name for name, parameter in made.items()}
            for parameter in group["params"]:
                for moment in ("m", "v"):
                    state = optimizer.state[parameter]
                    made[f"{names[parameter]}_{moment}"] = (
                        state[moment] if state else torch.zeros_like(parameter))
        return {name: np.ascontiguousarray(tensor.detach().cpu().numpy()).reshape(tensor.shape)
                for name, tensor in made.items()}

    def restore(self, arrays: Arrays, iteration: int, say: Callable[[str], None]) -> None:
        held = self.networks.arrays()
        self.networks.load({name: arrays[name] for name in held})
        for network, optimizer in self.optimizers():
            (group,) = optimizer.param_groups
            names = {parameter: name for name, parameter in held.items()}
            group["minibatches"] = int(arrays[network + "/learner/minibatches"])
            for parameter in group["params"]:
                optimizer.state[parameter] = {
                    moment: torch.empty_like(parameter).copy_(
                        torch.from_numpy(arrays[f"{names[parameter]}_{moment}"]))
                    for moment in ("m", "v")}
        self.reader.step = iteration

    def generate(self, z: np.ndarray) -> np.ndarray:
        generator = self.networks.generator
        training = generator.training
        generator.eval()
        try:
            with torch.no_grad():
                made = [generator(torch.from_numpy(one).to(self.device)) for one in np.array_split(
                    z, -(-len(z) // self.minibatch_size))]  # no more memory than a step takes
        finally:
            generator.train(training)
        return torch.cat(made).cpu().numpy()

    def save_models(self, folder: Path) -> None:
        for network in self.networks.names:
            state = self.networks.get_submodule(network).state_dict()
            with written_whole(folder / model_file(network)) as part:
                torch.save(state, part)
