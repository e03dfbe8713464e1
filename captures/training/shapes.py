"""Name to shape of all that a checkpoint of the article's networks holds. Plain Python 3.6."""
import hashlib
from typing import Dict, Tuple

from captures.article import LAYERS

Shapes = Dict[str, Tuple[int, ...]]


def network_shapes() -> Shapes:
    """Of weights and statistics, first layer first."""
    made: Shapes = {}
    for network, layers in LAYERS.items():
        for layer in layers:
            place = "%s/%s/" % (network, layer.name)
            if "weight" in layer.facts:
                made[place + "weight"] = tuple(layer.facts["weight"])
                if layer.facts["bias"]:
                    made[place + "bias"] = tuple(layer.facts["bias"])
            elif layer.op == "BatchNormalization":
                channels = (layer.shape[0],)
                made.update((place + name, channels) for name in (
                    "scale", "bias", "running_mean", "running_variance"))
                made[place + "sample_count"] = ()
    return made


def shapes() -> Shapes:
    """Those, and Adam's m, v and counters."""
    made = network_shapes()
    for name, shape in list(made.items()):
        if name.endswith(("/weight", "/bias", "/scale")):
            made[name + "_m"] = made[name + "_v"] = shape
    made.update((network + "/learner/minibatches", ()) for network in LAYERS)
    return made


NETWORK = "article's DCGAN, " + hashlib.sha256(
    repr(sorted(network_shapes().items())).encode()).hexdigest()[:12]
