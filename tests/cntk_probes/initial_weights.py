"""What real CNTK draws as initial weights.

Called as: initial_weights.py OUTPUT.npz article | explicit SHAPES BASE.. | small [N] | seeds

article   the article's two networks in a fresh process, no seed given anywhere
explicit  one parameter for each shape of the JSON object SHAPES, with seeds BASE, BASE + 1, ..
small     narrow networks of the same layers: the counter, its reset, a fixed seed
seeds     which seeds and standard deviations C.normal takes
"""
import hashlib
import json
import sys
import time

import numpy as np

from environment.quiet import select_device

select_device()

import cntk as C  # noqa: E402
from cntk import cntk_py  # noqa: E402

LATENT, IMAGE = 100, 256
GENERATOR = (1024, 512, 256, 128, 64, 32)
DISCRIMINATOR = (32, 64, 128, 256, 512, 1024)
SMALL = (4, 3, 5, 2, 3, 2)
WHOLE = ("generator/conv5/weight", "discriminator/conv7/weight")  # of these, every value


def networks(latent, generator_channels, discriminator_channels, between=lambda: None):
    """The article's layers at the given widths: name to Parameter, in order of creation.

    ``between`` is called after each layer."""
    made = {}
    with C.layers.default_options(init=C.normal(0.02), pad=True, bias=False, map_rank=1,
                                  use_cntk_engine=True):
        z = C.input_variable(latent, needs_gradient=True)
        h = C.reshape(z, (latent, 1, 1))
        for i, channels in enumerate(generator_channels + (3,), 1):
            if i == 1:
                layer = C.layers.ConvolutionTranspose2D(
                    (4, 4), channels, strides=1, pad=False, output_shape=(4, 4))
            else:
                size = 4 * 2 ** (i - 1)
                layer = C.layers.ConvolutionTranspose2D(
                    (5, 5), channels, strides=2, bias=i == 7, output_shape=(size, size))
            made["generator/conv%d/weight" % i] = layer.W
            h = layer(h)
            between()
            h = C.tanh(h) if i == 7 else C.relu(C.layers.BatchNormalization()(h))
        g_fake = h

        x = C.input_variable((3, IMAGE, IMAGE), needs_gradient=True)
        x_real = (x - 127.5) / 127.5
        h = x_real
        for i, channels in enumerate(discriminator_channels + (1,), 1):
            if i == 7:
                layer = C.layers.Convolution2D((4, 4), channels, strides=1, pad=False, bias=True)
            else:
                layer = C.layers.Convolution2D((3, 3), channels, strides=2, bias=i == 1)
            made["discriminator/conv%d/weight" % i] = layer.W
            h = layer(h)
            between()
            if 1 < i < 7:
                h = C.layers.BatchNormalization()(h)
            h = C.sigmoid(h) if i == 7 else C.leaky_relu(h, 0.2)
    h.clone("share", {x_real.output: g_fake.output})
    return made


def record(arrays, prefix, name, values):
    """The hash of a layer's bytes, its shape, its first values; all of them if in WHOLE."""
    assert values.dtype == np.float32 and values.flags.c_contiguous
    arrays[prefix + "/sha256/" + name] = np.array(hashlib.sha256(values.data).hexdigest())
    arrays[prefix + "/shape/" + name] = np.array(values.shape)
    arrays[prefix + "/first/" + name] = values.ravel()[:1000].copy()
    if name in WHOLE:
        arrays[prefix + "/whole/" + name] = values


def article(arrays):
    for name, parameter in networks(LATENT, GENERATOR, DISCRIMINATOR).items():
        record(arrays, "article", name, parameter.value)


def explicit(arrays, shapes, *bases):
    for base in bases:
        for i, (name, shape) in enumerate(json.loads(shapes).items()):
            parameter = C.parameter(tuple(shape), init=C.normal(0.02, seed=int(base) + i))
            record(arrays, base, name, parameter.value)


def small(arrays, *_):
    def keep(prefix, between=lambda: None):
        for name, parameter in networks(LATENT, SMALL, SMALL, between).items():
            arrays[prefix + "/" + name] = parameter.value

    # A fresh process, so the counter stands at 0. Constants and seeded parameters take no seed.
    keep("counter", lambda: (C.parameter((2,), init=0.5),
                             C.parameter((2,), init=C.normal(0.02, seed=99))))
    after = C.parameter((50,), init=C.normal(0.02))
    arrays["counter/after"] = after.value
    keep("continued")
    cntk_py.reset_random_seed(12345)
    keep("reset to 12345")
    cntk_py.set_fixed_random_seed(7)
    keep("fixed at 7")
    cntk_py.reset_random_seed(0)
    keep("reset to 0")
    # Creation decides, not the first look at the values.
    cntk_py.reset_random_seed(40)
    one, two = (C.parameter((50,), init=C.normal(0.02)) for _ in range(2))
    arrays["made second"] = two.value
    arrays["made first"] = one.value


def seeds(arrays):
    """value/S for each seed S that CNTK takes; taken/S and deviation/SD say whether it does."""
    # No shape with a 0 is tried: it ends the process with SIGFPE.
    for seed in (0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 63, 2 ** 64 - 4, 2 ** 64 - 2,
                 -1, 2 ** 64, 1.0):
        try:
            value = C.parameter((50,), init=C.normal(0.02, seed=seed)).value
        except (NotImplementedError, OverflowError):
            arrays["taken/%r" % seed] = np.array(False)
        else:
            arrays["taken/%r" % seed] = np.array(True)
            arrays["value/%r" % seed] = value
    cntk_py.reset_random_seed(30)
    automatic = C.SentinelValueForAutoSelectRandomSeed
    arrays["automatic"] = np.array(automatic, dtype=np.uint64)
    arrays["automatic/30"] = C.parameter((50,), init=C.normal(0.02, seed=automatic)).value
    for when in ("first", "a second later"):
        arrays["clock/" + when] = C.parameter((50,), init=C.normal(0.02, seed=2 ** 64 - 1)).value
        time.sleep(1.1 if when == "first" else 0)
    for deviation in (1e-40, 0.02, 1.0, 3e38):
        arrays["deviation/%r" % deviation] = C.parameter(
            (50,), init=C.normal(deviation, seed=3)).value


if __name__ == "__main__":
    results = {}
    {"article": article, "explicit": explicit, "small": small,
     "seeds": seeds}[sys.argv[2]](results, *sys.argv[3:])
    np.savez(sys.argv[1], **results)
