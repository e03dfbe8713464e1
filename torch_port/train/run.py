"""TODO."""
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captures.article import MINIBATCH_SIZE
from captures.errors import TrainingError
from captures.plan import LARGEST_SEED, Latents
from torch_port.adam import CNTKAdam
from torch_port.dcgan import Networks, networks_from_seed
from torch_port.reader.reader import ImageReader
from torch_port.train.steps import create_optimizers, discriminator_step, generator_step

# --------------------------------------------------------------------------------- the whole run


@dataclass
class Run:
    """A run: networks, optimizers, reader and latents, all from one seed; and what it did."""

    seed: int
    minibatch_size: int
    unit_gain: bool
    reader: ImageReader
    networks: Networks
    generator_optimizer: CNTKAdam
    discriminator_optimizer: CNTKAdam
    latents: Latents
    rows: list[tuple[int, float, float]]

    @classmethod
    def from_seed(cls, seed: int, map_file: str | os.PathLike[str],
                  minibatch_size: int = MINIBATCH_SIZE, unit_gain: bool = False,
                  threads: int | None = None) -> "Run":
        """Raises ReaderError or TrainingError for bad input, before anything is drawn."""
        if not 0 <= seed <= LARGEST_SEED:
            raise TrainingError(f"the seed is {seed}: give one of 0 .. {LARGEST_SEED}")
        reader = ImageReader(map_file, minibatch_size, randomization_seed=seed, threads=threads)
        networks = networks_from_seed(seed)
        return cls(seed, minibatch_size, unit_gain, reader, networks,
                   *create_optimizers(networks, minibatch_size, unit_gain), Latents(seed), [])

    def _latents(self) -> Tensor:
        return torch.from_numpy(self.latents.next(self.minibatch_size))

    def iterations(self) -> Iterator[tuple[float, float, Tensor]]:
        """Endless: (G_loss, D_loss, generated images) after each iteration."""
        for x in self.reader:
            D_loss = discriminator_step(
                self.networks, self.discriminator_optimizer, x, self._latents())
            G_loss, fake = generator_step(self.networks, self.generator_optimizer, self._latents())
            self.rows.append((len(self.rows) + 1, G_loss, D_loss))
            yield G_loss, D_loss, fake

    def state_dict(self) -> dict[str, Any]:
        """All that the next iteration depends on: tensors, numbers and text."""
        _, keys, place, has_gauss, gauss = self.latents.random.get_state(legacy=True)
        return {
            "seed": self.seed, "minibatch_size": self.minibatch_size, "unit_gain": self.unit_gain,
            "networks": self.networks.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "reader": self.reader.state_dict(len(self.rows)),
            "latents": {"keys": torch.from_numpy(np.asarray(keys, np.int64)), "place": int(place),
                        "has_gauss": int(has_gauss), "gauss": float(gauss)},
            "rows": [list(row) for row in self.rows],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where ``state`` was saved. Raises TrainingError or ReaderError, and changes
        nothing, where it is of another seed, minibatch size, unit gain or data set."""
        for name in ("seed", "minibatch_size", "unit_gain"):
            if name not in state:
                raise TrainingError(f"the checkpoint has no {name!r}: give one that this program "
                                    "wrote")
            if state[name] != getattr(self, name):
                option = "--" + name.replace("_", "-")
                raise TrainingError(f"the checkpoint was written with {name} {state[name]}, this "
                                    f"run has {getattr(self, name)}: resume with {option} of that "
                                    "run, or begin without --resume")
        ours, theirs = self.networks.state_dict(), state.get("networks")
        if not isinstance(theirs, dict):
            raise TrainingError("the checkpoint has no 'networks': give one that this program "
                                "wrote")
        for name in [*ours, *theirs]:
            if name not in theirs or name not in ours or not isinstance(theirs[name], Tensor) \
                    or ours[name].shape != theirs[name].shape:
                raise TrainingError(f"the checkpoint's networks do not fit at {name}: give one "
                                    "that this program wrote")
        latents = Latents(self.seed)
        try:
            place = state["latents"]
            latents.random.set_state((
                "MT19937", place["keys"].numpy().astype(np.uint32), place["place"],
                place["has_gauss"], place["gauss"]))
            rows = [(int(step), float(g), float(d)) for step, g, d in state["rows"]]
            parts = [state[name] for name in ("reader", *self._optimizer_names)]
            if not all(isinstance(part, dict) for part in parts):
                raise TypeError("a part is of another kind")
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            raise TrainingError(f"the checkpoint is not whole ({error}): give one that this "
                                "program wrote") from error
        held: list[Any] = [self.reader, *self._optimizers]
        before = [part.state_dict() for part in held]
        try:
            for part, saved in zip(held, parts, strict=True):
                part.load_state_dict(saved)
        except ValueError:
            for part, old in zip(held, before, strict=True):
                part.load_state_dict(old)
            raise
        self.networks.load_state_dict(theirs)
        self.latents, self.rows = latents, rows

    _optimizer_names = ("generator_optimizer", "discriminator_optimizer")

    @property
    def _optimizers(self) -> list[CNTKAdam]:
        return [getattr(self, name) for name in self._optimizer_names]
