"""What the article's program trains, as a checkpoint holds it: out of CNTK and back. Python 3.6.

Everything goes through CNTK's own interfaces: ``Parameter.value`` for weights and statistics,
``Learner.create_checkpoint`` and ``restore_from_checkpoint`` for Adam. (A learner's checkpoint is a
dictionary; ``smoothed_gradients`` holds for each parameter an array of twice its size, v then m,
and ``smoothed_count`` the number of updates.)

CNTK's reader can be restored to a place in the order, but its augmentation begins anew then: each
place of a minibatch has a generator of its own, which no checkpoint of CNTK's holds (measured). So
the reader is brought to its place by reading what was read before.
"""
import errno
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Sequence, Tuple

import cntk as C
import numpy as np
from cntk.internal.utils import _to_cntk_dict_value

from captures.article import DCGAN, FILES
from captures.files import written_whole
from captures.plan import Latents
from captures.training.checkpoint import Arrays
from captures.training.session import Trained

# CNTK's name of what a layer holds, and the captures'.
QUANTITY = {"W": "weight", "b": "bias", "scale": "scale", "bias": "bias",
            "aggregate_mean": "running_mean", "aggregate_variance": "running_variance",
            "aggregate_count": "sample_count"}


def held_by(networks: Any) -> Dict[str, Any]:
    """Name of the captures to the Parameter or Constant that holds it, of both networks."""
    found = {}
    for network, function in zip(DCGAN.networks, (networks.G_fake, networks.D_real)):
        for layer in network.layers:
            for held in function.find_by_name(layer.name).root_function.inputs:
                if held.is_parameter or (held.is_constant and held.name in QUANTITY):
                    found["%s/%s/%s" % (network.name, layer.name, QUANTITY[held.name])] = (
                        held.as_parameter() if held.is_parameter else held.as_constant())
    return found


class State(Trained):
    """networks, trainers (the generator's first), reader, latents: those of ``iterate``."""

    def __init__(self, networks: Any, trainers: Sequence[Any], reader: Any, latents: Latents,
                 minibatch_size: int) -> None:
        self.networks, self.trainers, self.reader = networks, trainers, reader
        self.latents, self.minibatch_size = latents, minibatch_size
        self.held = held_by(networks)
        self._names = {held.uid: name for name, held in self.held.items() if held.is_parameter}

    def arrays(self) -> Arrays:
        made: Dict[str, np.ndarray] = {}
        for name, held in self.held.items():
            value = np.array(held.value)
            if name.endswith("/sample_count"):
                value = np.array(int(value), np.int64)
            made[name] = value.ravel() if name.endswith("/bias") else value
        for network, learner in self._learners():
            kept = learner.create_checkpoint()
            made[network + "/learner/minibatches"] = np.array(int(kept["smoothed_count"]), np.int64)
            for parameter, both in zip(learner.parameters, kept["smoothed_gradients"]):
                name = self._names[parameter.uid]
                v, m = np.array(both, np.float32).reshape((2,) + made[name].shape)
                made[name + "_m"], made[name + "_v"] = m, v
        return made

    def restore(self, arrays: Arrays, iteration: int, say: Callable[[str], None]) -> None:
        for name, held in self.held.items():
            held.value = np.asarray(arrays[name], np.float32).reshape(held.shape)
        for network, learner in self._learners():
            both = []
            kept = learner.create_checkpoint()
            for parameter, shaped in zip(learner.parameters, kept["smoothed_gradients"]):
                name = self._names[parameter.uid]
                both.append(np.ascontiguousarray(np.concatenate(
                    [arrays[name + "_v"].ravel(), arrays[name + "_m"].ravel()]
                ).reshape(np.shape(shaped)), np.float32))
            kept["smoothed_gradients"] = _to_cntk_dict_value(both)
            kept["smoothed_count"] = _to_cntk_dict_value(
                float(arrays[network + "/learner/minibatches"]))
            learner.restore_from_checkpoint(kept)
        read_again(self.reader, iteration, self.minibatch_size, say)

    def _learners(self) -> Iterator[Tuple[str, Any]]:
        for network, trainer in zip(("generator", "discriminator"), self.trainers):
            yield network, trainer.parameter_learners[0]

    def generate(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(self.networks.G_fake.eval({self.networks.z: z}), np.float32)

    def save_models(self, folder: Path) -> None:
        for name, function in zip(FILES.values(), (self.networks.G_fake, self.networks.D_real)):
            with written_whole(folder / (name + ".model")) as part:
                save_function(function, str(part))


def read_again(reader: Any, minibatches: int, minibatch_size: int, say: Callable[[str], None]
               ) -> None:
    """Has the reader give so many minibatches, which nobody takes."""
    from tqdm import tqdm

    if not minibatches:
        return
    say("bringing CNTK's reader to minibatch %d, by reading what was read before" % minibatches)
    streams = {reader.streams.images: reader.streams.images}
    for _ in tqdm(range(minibatches), unit="minibatch", mininterval=1, leave=False):
        reader.next_minibatch(minibatch_size, input_map=streams)


def save_function(function: Any, path: str, format: Any = C.ModelFormat.CNTKv2) -> None:
    """``function.save``. Where the disk is full CNTK aborts the whole process ("double free or
    corruption", measured), so the free space is looked at first.

    Raises OSError.
    """
    values = sum(int(np.prod(held.shape)) for held in function.parameters + function.constants)
    if shutil.disk_usage(os.path.dirname(path)).free < 4 * values + 2 ** 20:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    function.save(path, format=format)
