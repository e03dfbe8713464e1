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
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cntk as C
import cntk.io.transforms as xforms
import numpy as np
from cntk import cntk_py
from cntk.layers import BatchNormalization, Convolution2D, ConvolutionTranspose2D

from captures.article import (
    COLOUR_RADIUS,
    DEVIATION,
    IMAGE_CHANNELS,
    IMAGE_SIZE,
    LATENT_SIZE,
    LEARNING_RATE,
    MIDDLE,
    MOMENTUM,
    SLOPE,
)
from captures.errors import ReaderError
from captures.map_file import name_for_cntk
from captures.plan import Latents
from captures.training.finite import finite
from captures.training.session import Session
from cntk_impl.training_state import State
from environment.quiet import quiet_stderr

img_channel, img_height, img_width = IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE
z_dim = LATENT_SIZE
Each = Callable[[str, Any], Any]  # CNTK has no types: its functions, variables, readers are Any


# ----------------------------------------------------------------------------------- the networks


def create_reader(map_file: str, train: bool, seed: int = 0,
                  image: Tuple[int, ...] = (img_channel, img_height, img_width)) -> Any:
    """The minibatches of a map file's images: colour changed, then scaled to 256 x 256.

    train: randomised and endless; otherwise one sweep in the file's order. image: the shape of one.
    """
    transforms = [
        xforms.color(brightness_radius=COLOUR_RADIUS, contrast_radius=COLOUR_RADIUS,
                     saturation_radius=COLOUR_RADIUS),
        xforms.scale(width=image[2], height=image[1], channels=image[0], interpolations="linear"),
    ]
    with name_for_cntk(map_file) as name:
        return C.io.MinibatchSource(
            C.io.ImageDeserializer(name, C.io.StreamDefs(
                images=C.io.StreamDef(field="image", transforms=transforms),
                labels=C.io.StreamDef(field="label", shape=1))),
            randomize=train, max_sweeps=C.io.INFINITELY_REPEAT if train else 1,
            randomization_seed=seed)


def unchanged(name: str, h: Any) -> Any:
    return h


def dcgan_generator(h: Any, each: Each = unchanged) -> Any:
    """100 latents to a 3 x 256 x 256 image in [-1, 1].

    each(name, h): called with every layer's name and output; what it returns goes on. By default
    that is the output itself.
    """
    with C.layers.default_options(init=C.normal(DEVIATION), pad=True, bias=False, map_rank=1,
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


def dcgan_discriminator(h: Any, each: Each = unchanged) -> Any:
    """An image in [-1, 1] to the probability, 1 x 1 x 1, that it is a real one. each: as above."""
    with C.layers.default_options(init=C.normal(DEVIATION), pad=True, bias=False, map_rank=1,
                                  use_cntk_engine=True):
        h = each("conv1", Convolution2D((3, 3), 32, strides=2, bias=True, name="conv1")(h))
        h = each("leaky_relu1", C.leaky_relu(h, SLOPE, name="leaky_relu1"))

        for i, channels in enumerate((64, 128, 256, 512, 1024), 2):
            h = each("conv%d" % i, Convolution2D(
                (3, 3), channels, strides=2, name="conv%d" % i)(h))
            h = each("bn%d" % i, BatchNormalization(name="bn%d" % i)(h))
            h = each("leaky_relu%d" % i, C.leaky_relu(h, SLOPE, name="leaky_relu%d" % i))

        h = each("conv7", Convolution2D(
            (4, 4), 1, pad=False, strides=1, bias=True, name="conv7")(h))
        return each("sigmoid7", C.sigmoid(h, name="sigmoid7"))


class Networks(NamedTuple):
    x: Any
    z: Any
    x_real: Any
    G_fake: Any
    D_real: Any
    D_fake: Any
    G_loss: Any
    D_loss: Any


def build_networks(seed: int = 0, generator: Callable[..., Any] = dcgan_generator,
                   discriminator: Callable[..., Any] = dcgan_discriminator,
                   substitutions: Optional[Dict[Any, Any]] = None,
                   image: Tuple[int, ...] = (img_channel, img_height, img_width),
                   latents: int = z_dim, middle: float = MIDDLE) -> Networks:
    """Both networks, the fake branch and the losses; the weights are drawn from seed, seed + 1, ...

    substitutions: of input variables in the fake branch, next to x_real's. image, latents: shape of
    an image, number of latents. middle: pixels go in as (x - middle) / middle.
    """
    cntk_py.reset_random_seed(seed)
    x = C.input_variable(image, needs_gradient=True, name="x")
    z = C.input_variable((latents,), needs_gradient=True, name="z")

    x_real = (x - middle) / middle
    G_fake = generator(z)
    D_real = discriminator(x_real)
    replaced = {x_real.output: G_fake.output}
    replaced.update(substitutions or {})
    D_fake = D_real.clone(method="share", substitutions=replaced)

    G_loss = -C.log(D_fake)
    D_loss = -C.log(D_real) - C.log(1.0 - D_fake)
    return Networks(x, z, x_real, G_fake, D_real, D_fake, G_loss, D_loss)


def create_learner(parameters: Sequence[Any], minibatch_size: int, unit_gain: bool = False) -> Any:
    """The article's Adam: a plain float, so CNTK divides it by the minibatch's size."""
    return C.adam(parameters, LEARNING_RATE, momentum=MOMENTUM, unit_gain=unit_gain,
                  gradient_clipping_threshold_per_sample=minibatch_size,
                  gradient_clipping_with_truncation=True)


def create_trainers(networks: Networks, minibatch_size: int, unit_gain: bool = False,
                    writers: Sequence[Any] = (None, None)) -> List[Any]:
    """The generator's and the discriminator's."""
    trainers = []
    for output, loss, writer in ((networks.G_fake, networks.G_loss, writers[0]),
                                 (networks.D_real, networks.D_loss, writers[1])):
        learner = create_learner(output.parameters, minibatch_size, unit_gain)
        with quiet_stderr():  # it warns that the other network's parameters have no learner here
            trainers.append(C.Trainer(output, (loss, None), [learner], [writer] if writer else []))
    return trainers


# ------------------------------------------------------------------------------------ the training


def iterate(networks: Networks, trainers: Sequence[Any], reader: Any, latents: Any,
            minibatch_size: int) -> Iterator[Tuple[float, float, np.ndarray]]:
    """Endless iterations: yields (G_loss, D_loss, generated images) after each.

    Raises ReaderError: an image cannot be read; nothing was learnt from that minibatch.
    """
    G_trainer, D_trainer = trainers
    input_map = {networks.x: reader.streams.images}
    while True:
        try:
            batch = reader.next_minibatch(minibatch_size, input_map=input_map)
        except RuntimeError as error:
            raise ReaderError("CNTK's reader stopped: " + first_line(error))
        D_trainer.train_minibatch({networks.x: batch[networks.x].data,
                                   networks.z: latents.next(minibatch_size)})
        D_loss = finite(D_trainer.previous_minibatch_loss_average, "D_loss")

        _, outputs = G_trainer.train_minibatch({networks.z: latents.next(minibatch_size)},
                                               outputs=[networks.G_fake.output])
        G_loss = finite(G_trainer.previous_minibatch_loss_average, "G_loss")
        yield G_loss, D_loss, outputs[networks.G_fake.output]


def train(session: Session) -> None:
    """The article's run, or the rest of it; the session keeps what it does."""
    settings = session.settings
    reader = create_reader(settings.map_file, train=True, seed=settings.seed)
    networks = build_networks(settings.seed)
    latents = Latents(settings.seed)

    # freq=None: no lines of single minibatches, which carry no tag; summaries do.
    with quiet_stderr():  # each writes the banner of CNTK's build
        writers = [C.logging.ProgressPrinter(freq=None, tag=tag)
                   for tag in ("Generator", "Discriminator")]
    trainers = create_trainers(networks, settings.minibatch_size, settings.unit_gain, writers)

    trained = State(networks, trainers, reader, latents, settings.minibatch_size)
    steps = iterate(networks, trainers, reader, latents, settings.minibatch_size)
    for step, images in session.run(trained, steps):
        if step % settings.image_interval == 0:
            session.write_image(step, images[0])
        if (step + 1) % settings.summarised_every == 0:
            with session.printing():
                for trainer in trainers:
                    trainer.summarize_training_progress()


def first_line(error: BaseException) -> str:
    """CNTK's messages carry a call stack; the first line says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0].rstrip(".") if lines else type(error).__name__
    if said.startswith("Cannot open file"):  # CNTK's words for any image that it cannot decode
        said += " does not decode: replace the file or delete its line in the map file"
    return said


if __name__ == "__main__":
    from cntk_impl.console import main

    main()
