"""What a checkpoint of a pair of networks holds. Plain Python 3.6 and numpy."""
from typing import Dict, List, Tuple

import numpy as np

from captures.spec import Spec

Shapes = Dict[str, Tuple[int, ...]]
KEYS = "latents/keys"


def weight_shapes(spec: Spec) -> Shapes:
    """Name to shape of weights and statistics, first layer first."""
    made: Shapes = {}
    for network in spec.networks:
        made.update(network.arrays)
    return made


def shapes(spec: Spec) -> Shapes:
    """Those, Adam's m, v and counters, and numpy's stream."""
    made = weight_shapes(spec)
    for network in spec.networks:
        for name, shape in network.parameters.items():
            made[name + "_m"] = made[name + "_v"] = shape
        made[network.name + "/learner/minibatches"] = ()
    made[KEYS] = (624,)
    return made


def dtype(name: str) -> np.dtype:
    """Of an array of a checkpoint."""
    if name == KEYS:
        return np.dtype(np.uint32)
    counts = name.endswith(("/sample_count", "/learner/minibatches"))
    return np.dtype(np.int64 if counts else np.float32)


def layers(spec: Spec) -> Dict[str, List[str]]:
    return {network.name: [layer.name for layer in network.layers] for network in spec.networks}


def identity(spec: Spec) -> str:
    return "%s (%s)" % (spec.name, spec.sha256[:12])
