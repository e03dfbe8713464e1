"""Adam's state of CNTK's checkpoints: what a .ckp file holds, by parameter."""
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from captures.article import DCGAN
from captures.spec import Spec
from torch_port.files.message import (
    _NOT_AS_EXPECTED,
    Arrays,
    FilePath,
    ModelFileError,
    Shape,
    _read,
)


@dataclass(frozen=True)
class LearnerState:
    """Of one learner: ``CNTKAdam``'s ``m`` and ``v`` by parameter, and its ``minibatches``."""
    minibatches: int  # c: updates so far
    m: Arrays
    v: Arrays


def learner_parameters(network: str, spec: Spec = DCGAN) -> dict[str, Shape]:
    """Name to shape in the order of a learner of ``network.parameters``: the last layer first."""
    return {f"{network}/{layer.name}/{quantity}": shape
            for layer in reversed(spec.network(network).layers)
            for quantity, shape in layer.parameters.items()}


def read_checkpoint(path: FilePath, parameters: Mapping[str, Shape]) -> LearnerState:
    """The state of a trainer's one Adam learner. path: the ``.ckp`` file that
    ``Trainer.save_checkpoint`` writes beside the model; parameters: name to shape, in the learner's
    order.

    Raises ModelFileError: no such file, cut off, of another kind, or of other parameters.
    """
    checkpoint = _read(path)
    if "root" in checkpoint:
        raise ModelFileError(f"{path} holds a model: give the .ckp file that save_checkpoint wrote "
                             "beside it")
    try:
        learners = [([array.reshape(-1) for array in learner["smoothed_gradients"]],
                     int(learner["smoothed_count"])) for learner in checkpoint["Learners"]]
    except _NOT_AS_EXPECTED as error:
        raise ModelFileError(f"{path} holds no state of Adam's ({error!r}): give the .ckp file of "
                             "a trainer with C.adam") from error
    if len(learners) != 1:
        raise ModelFileError(f"{path} holds {len(learners)} learners: give the .ckp file of a "
                             "trainer with one")
    arrays, minibatches = learners[0]
    mend = "give the checkpoint of the trainer of these parameters"
    if len(arrays) != len(parameters):
        raise ModelFileError(f"{path} holds the state of {len(arrays)} parameters, not of "
                             f"{len(parameters)}: {mend}")
    m, v = {}, {}
    for array, (name, shape) in zip(arrays, parameters.items(), strict=True):
        if array.size != 2 * math.prod(shape):
            raise ModelFileError(f"{path}: {array.size} numbers where {name} of the shape {shape} "
                                 f"needs twice {math.prod(shape)}: {mend}")
        v[name], m[name] = (np.array(half) for half in array.reshape(2, *shape))
    return LearnerState(minibatches, m, v)
