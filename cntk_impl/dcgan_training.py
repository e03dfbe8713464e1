"""The article's program: a DCGAN of 256x256 faces on real CNTK 2.7.

    bin/parity train-cntk [--iterations 50000] [--minibatch-size 16] ...

Run bare it is the article's run. Written to the output folder: ``dcgan_generator.model``,
``dcgan_discriminator.model``, ``dcgan.csv`` (step, G_loss, D_loss), and every ten iterations
``dcgan_image/step<N>/fake.png``, the first image of a minibatch that a generator of N updates made.

    G_loss = -log D(G(z))        D_loss = -log D(x) - log(1 - D(G(z)))

One iteration is one update of the discriminator, with a fresh z and the next minibatch of x, then
one of the generator, with a fresh z. The fake branch is the discriminator cloned with shared
parameters, so both branches and both updates move the same running statistics.

What a run depends on is its seed: the initial weights take seed, seed + 1, ... in order of
creation, the latents come from ``numpy.random.RandomState(seed)``, and it is the reader's
randomisation seed. With seed 0 weights and order are those of CNTK where no seed is given, as in
the article; the article's latents came from the clock.

Importing this module builds nothing. Python 3.6; the layers' names are those of the captures.
"""
import argparse
import collections
import contextlib
import errno
import os
import shutil
import signal
import sys

import cntk as C
import cntk.io.transforms as xforms
import numpy as np
from cntk import cntk_py
from cntk.layers import BatchNormalization, Convolution2D, ConvolutionTranspose2D

from captures.check import check_data
from captures.errors import ParityError
from captures.map_file import name_for_cntk
from captures.plan import IMAGE_SIZE, LARGEST_SEED, LATENT_SIZE, Latents
from environment.quiet import select_device

img_channel, img_height, img_width = 3, IMAGE_SIZE, IMAGE_SIZE
z_dim = LATENT_SIZE
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ITERATIONS, MINIBATCH_SIZE, IMAGE_INTERVAL = 50000, 16, 10
LEARNING_RATE, MOMENTUM = 1e-4, 0.5
GENERATOR_MODEL, DISCRIMINATOR_MODEL = "dcgan_generator.model", "dcgan_discriminator.model"
LOG = "dcgan.csv"


# ----------------------------------------------------------------------------------- the networks


def create_reader(map_file, train, seed=0):
    """The minibatches of a map file's images: colour changed, then scaled to 256 x 256.

    train: randomised and endless; otherwise one sweep in the file's order.
    """
    transforms = [
        xforms.color(brightness_radius=0.2, contrast_radius=0.2, saturation_radius=0.2),
        xforms.scale(width=img_width, height=img_height, channels=img_channel,
                     interpolations="linear"),
    ]
    with name_for_cntk(map_file) as name:
        return C.io.MinibatchSource(
            C.io.ImageDeserializer(name, C.io.StreamDefs(
                images=C.io.StreamDef(field="image", transforms=transforms),
                labels=C.io.StreamDef(field="label", shape=1))),
            randomize=train, max_sweeps=C.io.INFINITELY_REPEAT if train else 1,
            randomization_seed=seed)


def _unchanged(name, h):
    return h


def dcgan_generator(h, each=_unchanged):
    """100 latents to a 3 x 256 x 256 image in [-1, 1].

    each(name, h): called with every layer's name and output; what it returns goes on. By default
    that is the output itself.
    """
    with C.layers.default_options(init=C.normal(0.02), pad=True, bias=False, map_rank=1,
                                  use_cntk_engine=True):
        h = C.reshape(h, (z_dim, 1, 1))

        h = each("conv1", ConvolutionTranspose2D(
            (4, 4), 1024, pad=False, strides=1, output_shape=(4, 4), name="conv1")(h))
        h = each("bn1", BatchNormalization(name="bn1")(h))
        h = each("relu1", C.relu(h, name="relu1"))

        for i, channels in enumerate((512, 256, 128, 64, 32), 2):
            size = 4 * 2 ** (i - 1)
            h = each("conv%d" % i, ConvolutionTranspose2D(
                (5, 5), channels, strides=2, output_shape=(size, size), name="conv%d" % i)(h))
            h = each("bn%d" % i, BatchNormalization(name="bn%d" % i)(h))
            h = each("relu%d" % i, C.relu(h, name="relu%d" % i))

        h = each("conv7", ConvolutionTranspose2D(
            (5, 5), img_channel, strides=2, bias=True, output_shape=(img_height, img_width),
            name="conv7")(h))
        return each("tanh7", C.tanh(h, name="tanh7"))


def dcgan_discriminator(h, each=_unchanged):
    """An image in [-1, 1] to the probability, 1 x 1 x 1, that it is a real one. each: as above."""
    with C.layers.default_options(init=C.normal(0.02), pad=True, bias=False, map_rank=1,
                                  use_cntk_engine=True):
        h = each("conv1", Convolution2D((3, 3), 32, strides=2, bias=True, name="conv1")(h))
        h = each("leaky_relu1", C.leaky_relu(h, 0.2, name="leaky_relu1"))

        for i, channels in enumerate((64, 128, 256, 512, 1024), 2):
            h = each("conv%d" % i, Convolution2D(
                (3, 3), channels, strides=2, name="conv%d" % i)(h))
            h = each("bn%d" % i, BatchNormalization(name="bn%d" % i)(h))
            h = each("leaky_relu%d" % i, C.leaky_relu(h, 0.2, name="leaky_relu%d" % i))

        h = each("conv7", Convolution2D(
            (4, 4), 1, pad=False, strides=1, bias=True, name="conv7")(h))
        return each("sigmoid7", C.sigmoid(h, name="sigmoid7"))


Networks = collections.namedtuple(
    "Networks", "x z x_real G_fake D_real D_fake G_loss D_loss")


def build_networks(seed=0, generator=dcgan_generator, discriminator=dcgan_discriminator,
                   substitutions=None):
    """Both networks, the fake branch and the losses; the weights are drawn from seed, seed + 1, ...

    substitutions: of input variables in the fake branch, next to x_real's.
    """
    cntk_py.reset_random_seed(seed)
    x = C.input_variable((img_channel, img_height, img_width), needs_gradient=True, name="x")
    z = C.input_variable((z_dim,), needs_gradient=True, name="z")

    x_real = (x - 127.5) / 127.5
    G_fake = generator(z)
    D_real = discriminator(x_real)
    replaced = {x_real.output: G_fake.output}
    replaced.update(substitutions or {})
    D_fake = D_real.clone(method="share", substitutions=replaced)

    G_loss = -C.log(D_fake)
    D_loss = -C.log(D_real) - C.log(1.0 - D_fake)
    return Networks(x, z, x_real, G_fake, D_real, D_fake, G_loss, D_loss)


def create_learner(parameters, minibatch_size, unit_gain=False):
    """The article's Adam: a plain float, so CNTK divides it by the minibatch's size."""
    return C.adam(parameters, LEARNING_RATE, momentum=MOMENTUM, unit_gain=unit_gain,
                  gradient_clipping_threshold_per_sample=minibatch_size,
                  gradient_clipping_with_truncation=True)


def create_trainers(networks, minibatch_size, unit_gain=False, writers=(None, None)):
    """The generator's and the discriminator's."""
    trainers = []
    for output, loss, writer in ((networks.G_fake, networks.G_loss, writers[0]),
                                 (networks.D_real, networks.D_loss, writers[1])):
        learner = create_learner(output.parameters, minibatch_size, unit_gain)
        with quiet_stderr():  # it warns that the other network's parameters have no learner here
            trainers.append(C.Trainer(output, (loss, None), [learner], [writer] if writer else []))
    return trainers


@contextlib.contextmanager
def quiet_stderr():
    """File descriptor 2 set aside: what C++ writes there cannot be filtered otherwise."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


# ------------------------------------------------------------------------------------ the training


def iterate(networks, trainers, reader, latents, minibatch_size):
    """Endless iterations: yields (G_loss, D_loss, generated images) after each."""
    G_trainer, D_trainer = trainers
    input_map = {networks.x: reader.streams.images}
    while True:
        batch = reader.next_minibatch(minibatch_size, input_map=input_map)
        D_trainer.train_minibatch({networks.x: batch[networks.x].data,
                                   networks.z: latents.next(minibatch_size)})
        _, outputs = G_trainer.train_minibatch({networks.z: latents.next(minibatch_size)},
                                               outputs=[networks.G_fake.output])
        yield (G_trainer.previous_minibatch_loss_average,
               D_trainer.previous_minibatch_loss_average, outputs[networks.G_fake.output])


class Results:
    """The files of a run. Each is written under a temporary name and renamed: never half of one."""

    def __init__(self, folder):
        self.folder = folder
        self.rows = []
        os.makedirs(folder, exist_ok=True)

    @contextlib.contextmanager
    def _whole(self, *names):
        path = os.path.join(self.folder, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        stem, extension = os.path.splitext(path)
        part = stem + ".part" + extension
        try:
            yield part
            os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.unlink(part)

    def image(self, step, image):
        import cv2
        with self._whole("dcgan_image", "step%d" % step, "fake.png") as path:
            pixels = (image / 2 + 0.5) * 255
            if not cv2.imwrite(path, np.ascontiguousarray(pixels.transpose(1, 2, 0))):
                raise OSError("OpenCV could not write it")

    def save(self, networks):
        """The log and the models."""
        import pandas
        with self._whole(LOG) as path:
            pandas.DataFrame(self.rows, columns=["step", "G_loss", "D_loss"]).to_csv(
                path, index=False)
        for name, function in ((GENERATOR_MODEL, networks.G_fake),
                               (DISCRIMINATOR_MODEL, networks.D_real)):
            with self._whole(name) as path:
                save_function(function, path)


def save_function(function, path, format=C.ModelFormat.CNTKv2):
    """``function.save``. Where the disk is full CNTK aborts the whole process ("double free or
    corruption", measured), so the free space is looked at first.

    Raises OSError.
    """
    values = sum(int(np.prod(held.shape)) for held in function.parameters + function.constants)
    if shutil.disk_usage(os.path.dirname(path)).free < 4 * values + 2 ** 20:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    function.save(path, format=format)


class _AboveTheBar:
    """What CNTK's ProgressPrinter prints goes above the progress bar, not through it."""

    def __init__(self, bar):
        self.bar = bar

    def write(self, text):
        if text.strip():
            self.bar.write(text.rstrip("\n"), file=sys.__stdout__)

    def flush(self):
        sys.__stdout__.flush()


@contextlib.contextmanager
def interrupts_noted():
    """Ctrl-C is noted in the list that is given, to be heard between two iterations: after half of
    one the discriminator is a step ahead, and an exception inside a callback of CNTK's ends up as
    one of C++."""
    noted = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def train(map_file, output_dir, iterations=ITERATIONS, minibatch_size=MINIBATCH_SIZE,
          unit_gain=False, seed=0, image_interval=IMAGE_INTERVAL):
    """The article's run. Returns how many iterations were done; fewer after Ctrl-C.

    What was done until then is kept, also when CNTK fails on the way.
    """
    from tqdm import tqdm

    results = Results(output_dir)
    reader = create_reader(map_file, train=True, seed=seed)
    networks = build_networks(seed)
    latents = Latents(seed)
    frequency = max(1, iterations // 100)
    with tqdm(total=iterations, unit="iteration", file=sys.stderr) as bar, \
            contextlib.redirect_stdout(_AboveTheBar(bar)), interrupts_noted() as interrupts:
        # freq=None: no lines of single minibatches, which carry no tag; summaries do.
        with quiet_stderr():  # each writes the banner of CNTK's build
            writers = [C.logging.ProgressPrinter(freq=None, tag=tag)
                       for tag in ("Generator", "Discriminator")]
        trainers = create_trainers(networks, minibatch_size, unit_gain, writers)
        steps = iterate(networks, trainers, reader, latents, minibatch_size)
        try:
            while len(results.rows) < iterations and not interrupts:
                step = len(results.rows)
                G_loss, D_loss, images = next(steps)
                results.rows.append((step + 1, G_loss, D_loss))
                if step % image_interval == 0:
                    results.image(step, images[0])
                bar.update()
                bar.set_postfix(G_loss="%.4f" % G_loss, D_loss="%.4f" % D_loss)
                if (step + 1) % frequency == 0:
                    print("iteration %d: D_loss %.7g  G_loss %.7g" % (step + 1, D_loss, G_loss))
                    for trainer in trainers:
                        trainer.summarize_training_progress()
        finally:
            results.save(networks)
    return len(results.rows)


def _number(lowest, highest=None):
    def parse(text):
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError("%r is not a whole number" % text)
        if value < lowest or (highest is not None and value > highest):
            raise argparse.ArgumentTypeError(
                "%d is out of range: give at least %d" % (value, lowest)
                + ("" if highest is None else " and at most %d" % highest))
        return value
    return parse


def parser():
    made = argparse.ArgumentParser(
        description="Trains the article's DCGAN on real CNTK 2.7. Bare, it is the article's run.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--iterations", type=_number(1), default=ITERATIONS, help="updates of each")
    made.add_argument("--minibatch-size", type=_number(1), default=MINIBATCH_SIZE,
                      help="images in a minibatch; also the clipping threshold per sample")
    made.add_argument("--map-file", default=os.path.join(ROOT, "data", "train_dcgan_map.txt"),
                      help="one `image<TAB>0` per line; the default is what `make data` makes")
    made.add_argument("--output-dir", default=os.path.join(ROOT, "runs", "article"),
                      help="where models, images and dcgan.csv go")
    made.add_argument("--unit-gain", action="store_true",
                      help="the paper's Adam, as the program had it from March 2020 on")
    made.add_argument("--seed", type=_number(0, LARGEST_SEED), default=0,
                      help="of the weights, the latents and the order of the images")
    made.add_argument("--image-interval", type=_number(1), default=IMAGE_INTERVAL,
                      help="iterations from one written image to the next")
    return made


def main(arguments=None):
    options = parser().parse_args(arguments)
    select_device()
    try:
        check_data(options.map_file)
        done = train(options.map_file, options.output_dir, options.iterations,
                     options.minibatch_size, options.unit_gain, options.seed,
                     options.image_interval)
    except ParityError as error:
        sys.stderr.write("error: %s\n" % error)
        return 2
    except OSError as error:
        sys.stderr.write("error: %s cannot be written (%s): free space there or choose another "
                         "place with --output-dir\n" % (error.filename or options.output_dir,
                                                        error.strerror or error))
        return 2
    except RuntimeError as error:
        sys.stderr.write("error: CNTK stopped: %s. What was done before is in %s\n"
                         % (first_line(error), options.output_dir))
        return 2
    if done < options.iterations:
        sys.stderr.write("interrupted after %d iterations; models and log of those are in %s\n"
                         % (done, options.output_dir))
        return 130
    sys.stderr.write("models, images and %s are in %s\n" % (LOG, options.output_dir))
    return 0


def first_line(error):
    """CNTK's messages carry a call stack; the first line says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0].rstrip(".") if lines else type(error).__name__
    if said.startswith("Cannot open file"):  # CNTK's words for any image that it cannot decode
        said += " does not decode: replace the file or delete its line in the map file"
    return said


if __name__ == "__main__":
    sys.exit(main())
