"""The article's networks after two iterations: state, every layer's output, CNTK's ONNX exports.

    onnx_export.py OUTPUT.npz

    state/<network>/<layer>/<quantity>    parameters and statistics, names of the captures
    input/z, input/x                      2 latents; 2 images of pixels 0..255
    generator/<layer>                     evaluation, of CNTK itself
    discriminator/<layer>                 evaluation, of CNTK itself: the real branch
    onnx/<network>                        bytes of the exported file
"""
import os
import sys
import tempfile

import numpy as np

from captures.article import IMAGE_SIZE
from captures.plan import Latents
from cntk_impl import dcgan_training as program
from environment.quiet import select_device

select_device()

C = program.C

MINIBATCH_SIZE, ITERATIONS = 2, 2
STATISTICS = {"aggregate_mean": "running_mean", "aggregate_variance": "running_variance",
              "aggregate_count": "sample_count"}
PARAMETERS = {"W": "weight", "b": "bias", "scale": "scale", "bias": "bias"}


class Layers:
    """Collects every layer's function while the networks are built."""

    def __init__(self):
        self.functions = []

    def __call__(self, name, h):
        self.functions.append((name, h))
        return h

    def outputs(self, variable, value):
        combined = C.combine([h for _, h in self.functions])
        got = combined.eval({variable: value})
        return [(name, got[h.output]) for name, h in self.functions]

    def state(self):
        """Of each layer, what no layer before it has."""
        seen = set()
        for layer, h in self.functions:
            for kind, names in ((h.parameters, PARAMETERS), (h.constants, STATISTICS)):
                for p in kind:
                    if p.name in names and p.uid not in seen:
                        seen.add(p.uid)
                        yield layer + "/" + names[p.name], p


def pixels(random):
    shape = (MINIBATCH_SIZE, 3, IMAGE_SIZE, IMAGE_SIZE)
    return random.randint(0, 256, size=shape).astype(np.float32)


def main():
    generator, discriminator = Layers(), Layers()
    networks = program.build_networks(
        generator=lambda h: program.dcgan_generator(h, generator),
        discriminator=lambda h: program.dcgan_discriminator(h, discriminator))
    G_trainer, D_trainer = program.create_trainers(networks, MINIBATCH_SIZE)
    latents, random = Latents(0), np.random.RandomState(0)
    for _ in range(ITERATIONS):
        D_trainer.train_minibatch({networks.x: pixels(random),
                                   networks.z: latents.next(MINIBATCH_SIZE)})
        G_trainer.train_minibatch({networks.z: latents.next(MINIBATCH_SIZE)})

    arrays = {"input/z": latents.next(2), "input/x": pixels(random)}
    for network, layers, function, variable, value in (
            ("generator", generator, networks.G_fake, networks.z, arrays["input/z"]),
            ("discriminator", discriminator, networks.D_real, networks.x, arrays["input/x"])):
        for name, array in layers.outputs(variable, value):
            arrays["%s/%s" % (network, name)] = array
        for name, parameter in layers.state():
            value, shape = parameter.value, parameter.shape
            if name.startswith("bn") or name.endswith("bias"):
                value = value.ravel() if shape else value.astype(np.int64)
            arrays["state/%s/%s" % (network, name)] = value
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "network.onnx")
            function.save(path, format=C.ModelFormat.ONNX)
            arrays["onnx/" + network] = np.fromfile(path, dtype=np.uint8)
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
