"""A training of two tiny networks, around which the session is the real one; also a program.

    python toy.py MAP_FILE FOLDER ITERATIONS [resume] [seconds=0.1] [nan=4] [every=2] ...

Every iteration moves all weights by numbers from the run's latents, so a run that lost or repeated
one ends elsewhere.
"""
import sys
import time
from pathlib import Path

import numpy as np

from captures.article import DCGAN
from captures.plan import Latents
from captures.spec import CONVOLUTION, NORMALISATION, SIGMOID, TANH, TRANSPOSED, Layer, network
from captures.training import ending
from captures.training.finite import finite
from captures.training.options import Settings
from captures.training.session import Program, Session, Trained
from captures.training.shapes import weight_shapes

SPEC = DCGAN._replace(
    name="a toy",
    maker=network("generator", (100,), [
        Layer("conv1", TRANSPOSED, 4, 4), Layer("bn1", NORMALISATION),
        Layer("conv2", TRANSPOSED, 3, 4, 2, True, True), Layer("tanh2", TANH)]),
    critic=network("discriminator", (3, 8, 8), [
        Layer("conv1", CONVOLUTION, 4, 3, 2, True), Layer("bn1", NORMALISATION),
        Layer("conv2", CONVOLUTION, 1, 4, 1, False, True), Layer("sigmoid2", SIGMOID)]))


class NoEvents:
    def __init__(self, folder, step):
        Path(folder).mkdir(exist_ok=True)

    def add_scalar(self, *_):
        pass

    def close(self):
        pass


class Toy(Trained):
    def __init__(self, settings, seconds=0.0, nan=0):
        self.settings, self.seconds, self.nan = settings, seconds, nan
        self.latents, self.step = Latents(settings.seed), 0
        self.held = {name: np.ones(shape, np.int64 if name.endswith("count") else np.float32)
                     for name, shape in weight_shapes(SPEC).items()}
        for one in SPEC.networks:
            for name, shape in one.parameters.items():
                self.held[name + "_m"] = np.zeros(shape, np.float32)
                self.held[name + "_v"] = np.zeros(shape, np.float32)
            self.held[one.name + "/learner/minibatches"] = np.array(0)

    def arrays(self):
        return {name: np.array(value) for name, value in self.held.items()}

    def restore(self, arrays, iteration, say):
        self.held = {name: np.array(arrays[name]) for name in self.held}
        self.step = iteration

    def generate(self, z):
        return np.zeros((len(z), 3, 8, 8), np.float32)

    def save_models(self, folder):
        (folder / "dcgan_generator.model").write_text("toy")

    def iterations(self):
        while True:
            z = self.latents.next(2)
            self.step += 1
            time.sleep(self.seconds)
            for name, value in self.held.items():
                value[...] = value + (1 if value.dtype.kind == "i" else z[0, len(name) % 100])
            if self.step == self.nan:
                self.held["discriminator/conv1/weight"][0] = np.nan
                finite(float("nan"), "D_loss")
            yield float(z.sum()), float(z[1].sum()), self.generate(z)


def program(**identity):
    return Program("toy", SPEC, {"threads": 2, "arithmetic": "exact", **identity}, {"numpy": "1"},
                   lambda picture: picture.tobytes(), NoEvents)


def run(map_file, folder, iterations, seconds=0.0, nan=0, say=lambda text: None, identity=(),
        **given):
    settings = Settings.make(str(folder), map_file=str(map_file), iterations=iterations, **{
        "minibatch_size": 2, "checkpoint_iterations": 2, "checkpoint_minutes": 0.0, **given})
    with Session(settings, program(**dict(identity)), say) as session:
        toy = Toy(settings, seconds, nan)
        for step, images in session.run(toy, toy.iterations()):
            if step % settings.image_interval == 0:
                session.write_image(step, images[0])
    return session


def main(map_file, folder, iterations, *options):
    given = dict(option.partition("=")[::2] for option in options)
    resume = given.pop("resume", None) is not None
    every = int(given.pop("every", 2))
    return ending.run(
        lambda: run(map_file, folder, int(iterations), checkpoint_iterations=every, resume=resume,
                    **{name: float(value) for name, value in given.items()}),
        Path(folder), lambda text: print(text, file=sys.stderr))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
