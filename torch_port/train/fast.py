"""The training in a fast arithmetic (torch_port/fast): the same steps from the same seed.

On a GPU an iteration is a recorded graph of kernels: its first few are run one by one, one is
recorded, and from then on the recording is run again with other images and latents.
"""
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from captures.training.checkpoint import Arrays
from captures.training.finite import finite
from torch_port import losses as losses_of
from torch_port.adam import CNTKAdam
from torch_port.dcgan import normalized
from torch_port.fast import arithmetic as arithmetics
from torch_port.fast.adam import GraphAdam
from torch_port.fast.arithmetic import Arithmetic
from torch_port.fast.networks import laid_out, output, weights_of
from torch_port.layers import Each, unchanged
from torch_port.train.run import Run
from torch_port.train.steps import create_optimizer

BY_HAND = 3  # iterations before one is recorded: batch normalisation's first, cuDNN's choices
Losses = tuple[Tensor, Tensor, Tensor]  # of D, of G, the images


@dataclass
class FastRun(Run):
    """``Run`` in another arithmetic."""

    arithmetic: Arithmetic = field(default_factory=lambda: Arithmetic("float32", "cpu"))
    recorded: "Recorded | None" = None
    by_hand: int = 0

    @classmethod
    def of(cls, run: Run, arithmetic: Arithmetic) -> "FastRun":
        """The run, to go on in that arithmetic."""
        arithmetics.use(arithmetic)
        run.networks.to(arithmetic.device)
        laid_out(run.networks, arithmetic.factors)
        kind = GraphAdam if arithmetic.device == "cuda" else CNTKAdam
        of_maker, of_critic = (
            create_optimizer(network.parameters(), run.minibatch_size, run.unit_gain, kind)
            for network in (run.networks.generator, run.networks.discriminator))
        return cls(run.seed, run.minibatch_size, run.unit_gain, run.reader, run.networks,
                   of_maker, of_critic, run.latents, arithmetic.device, arithmetic)

    def _moved(self, values: np.ndarray | Tensor) -> Tensor:
        """On the device, in memory that a copy can go on from while the program does other things.
        """
        held = torch.as_tensor(values)
        if self.arithmetic.device == "cpu":
            return held
        return held.pin_memory().to(self.arithmetic.device, non_blocking=True)

    def iterations(self) -> Iterator[tuple[float, float, Tensor]]:
        for images in self.reader:
            x = self._moved(images)
            z, of_step = (self._moved(self.latents.next(self.minibatch_size)) for _ in range(2))
            d_loss, g_loss, made = self.iteration(x, z, of_step)
            yield finite(float(g_loss), "G_loss"), finite(float(d_loss), "D_loss"), made

    def iteration(self, x: Tensor, z: Tensor, z_of_step: Tensor) -> Losses:
        """One of each network's steps; the means of the losses, and the images."""
        for _, optimizer in self.optimizers():
            if isinstance(optimizer, GraphAdam):
                optimizer.advance(len(x))
        if self.arithmetic.device == "cpu":
            return self.both_steps(x, z, z_of_step)
        if self.recorded is None and self.by_hand < BY_HAND:
            self.by_hand += 1
            aside = torch.cuda.Stream()  # as a recording will: cuDNN chooses its kernels there
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                made = self.both_steps(x, z, z_of_step)
            torch.cuda.synchronize()
            return made
        if self.recorded is None:
            self.recorded = Recorded(self.both_steps, x, z, z_of_step)
        return self.recorded(x, z, z_of_step)

    # -------------------------------------------------------------------------------- the two steps

    def both_steps(self, x: Tensor, z: Tensor, z_of_step: Tensor) -> Losses:
        d_loss = self.discriminator_step(x, z)
        return d_loss, *self.generator_step(z_of_step)

    def discriminator_losses(self, x: Tensor, z: Tensor, each_real: Each = unchanged,
                             each_fake: Each = unchanged) -> Tensor:
        networks, factors = self.networks, self.arithmetic.factors
        with torch.no_grad():
            fake = output(networks.generator, weights_of(networks.generator, factors), z)
        weights = weights_of(networks.discriminator, factors)
        real = normalized(x, networks.spec.middle).contiguous(memory_format=torch.channels_last)
        d_real = output(networks.discriminator, weights, real, each_real)
        d_fake = output(networks.discriminator, weights, fake, each_fake)
        return losses_of.discriminator_loss(d_real, d_fake)

    def generator_losses(self, z: Tensor, each: Each = unchanged, each_fake: Each = unchanged
                         ) -> tuple[Tensor, Tensor]:
        networks, factors = self.networks, self.arithmetic.factors
        fake = output(networks.generator, weights_of(networks.generator, factors), z, each)
        frozen = {name: weight.detach() for name, weight in
                  weights_of(networks.discriminator, factors).items()}
        d_fake = output(networks.discriminator, frozen, fake, each_fake)
        return losses_of.generator_loss(d_fake), fake

    def discriminator_step(self, x: Tensor, z: Tensor) -> Tensor:
        return self._learnt(self.discriminator_losses(x, z), self.discriminator_optimizer)

    def generator_step(self, z: Tensor) -> tuple[Tensor, Tensor]:
        losses, fake = self.generator_losses(z)
        return self._learnt(losses, self.generator_optimizer), fake.detach()

    @staticmethod
    def _learnt(losses: Tensor, optimizer: CNTKAdam) -> Tensor:
        """One update from the sum of the losses; their mean."""
        parameters: list[Tensor] = optimizer.param_groups[0]["params"]
        gradients = torch.autograd.grad(losses.sum(), parameters)
        if isinstance(optimizer, GraphAdam):
            optimizer.update(gradients, len(losses))
        else:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step(samples=len(losses))
        return losses.detach().sum(dtype=torch.float64).float() / len(losses)

    # ------------------------------------------------------------------------- what is kept of it

    def restore(self, arrays: Arrays, iteration: int, say: Callable[[str], None]) -> None:
        super().restore(arrays, iteration, say)
        self.recorded, self.by_hand = None, 0

    def generate(self, z: np.ndarray) -> np.ndarray:
        generator = self.networks.generator
        generator.eval()
        try:
            with torch.no_grad():
                weights = weights_of(generator, self.arithmetic.factors)
                made = [output(generator, weights, self._moved(one)).cpu() for one in
                        np.array_split(z, -(-len(z) // self.minibatch_size))]
        finally:
            generator.train()
        return torch.cat(made).contiguous().numpy()


class Recorded:
    """The graph of one iteration's kernels, with places for what goes in."""

    def __init__(self, steps: Callable[..., Losses], *given: Tensor) -> None:
        self.given = [one.clone() for one in given]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.made = steps(*self.given)

    def __call__(self, *given: Tensor) -> Losses:
        for place, values in zip(self.given, given, strict=True):
            place.copy_(values, non_blocking=True)
        self.graph.replay()
        return self.made
