"""A pair of networks with fewer channels, for plans that need not cost what the article's do. Plain
Python 3.6."""
from captures.article import DCGAN
from captures.spec import Spec

NARROWER = 8


def narrow(spec: Spec = DCGAN, by: int = NARROWER) -> Spec:
    """The same pair of networks with 1/by of the channels between their ends."""
    data = spec.data
    data["name"] = "%s, 1/%d of its channels" % (spec.name, by)
    for network in (data["maker"], data["critic"]):
        layers = [dict(layer) for layer in network["layers"]]
        last = max(i for i, layer in enumerate(layers) if layer["channels"])
        for i, layer in enumerate(layers):
            if layer["channels"] and i != last:
                layer["channels"] = max(1, layer["channels"] // by)
        network["layers"] = layers
    return Spec.of_data(data)
