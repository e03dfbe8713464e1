"""CNTK's convolutions of given values, with the gradients of input, weight and bias.

    convolution.py OUTPUT.npz THREADS SAMPLES...

Every geometry of the article's layers and some small ones; for each number of samples N the arrays
"N/layer/output", ".../input" (its gradient), ".../weight" and ".../bias", each as every STRIDE-th
value and the SHA-256 of all. The values that go in are those of ``values``.
"""
import hashlib
import os
import sys

import numpy as np

os.environ["OMP_NUM_THREADS"] = sys.argv[2]
os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "0")

from cntk_impl import dcgan_training as program  # noqa: E402
from environment.quiet import select_device  # noqa: E402

select_device()

C = program.C
STRIDE = 61
# name: (input, channels of the output, kernel, stride, padded)
CONVOLUTIONS = {
    "discriminator/conv1": ((3, 256, 256), 32, 3, 2, True),
    "discriminator/conv2": ((32, 128, 128), 64, 3, 2, True),
    "discriminator/conv3": ((64, 64, 64), 128, 3, 2, True),
    "discriminator/conv4": ((128, 32, 32), 256, 3, 2, True),
    "discriminator/conv5": ((256, 16, 16), 512, 3, 2, True),
    "discriminator/conv6": ((512, 8, 8), 1024, 3, 2, True),
    "discriminator/conv7": ((1024, 4, 4), 1, 4, 1, False),
    "small/strided": ((8, 16, 16), 16, 3, 2, True),
    "small/nine_places": ((16, 5, 5), 24, 3, 1, False),
    "small/odd_both_ways": ((16, 5, 5), 23, 3, 1, False),
    "small/one_channel": ((7, 31, 31), 1, 3, 1, False),  # its bias has a sum of its own
}
# name: (input, channels of the output, kernel, stride, output's size)
TRANSPOSED = {
    "generator/conv1": ((100, 1, 1), 1024, 4, 1, 4),
    "generator/conv2": ((1024, 4, 4), 512, 5, 2, 8),
    "generator/conv3": ((512, 8, 8), 256, 5, 2, 16),
    "generator/conv4": ((256, 16, 16), 128, 5, 2, 32),
    "generator/conv5": ((128, 32, 32), 64, 5, 2, 64),
    "generator/conv6": ((64, 64, 64), 32, 5, 2, 128),
    "generator/conv7": ((32, 128, 128), 3, 5, 2, 256),
    "small/transposed": ((6, 8, 8), 5, 5, 2, 16),
}


def values(seed, shape, scale):
    """Normal numbers; a hundred thousand of them, again and again."""
    numbers = np.random.RandomState(seed).standard_normal(99991) * scale
    return np.resize(numbers.astype(np.float32), shape)


def layer(name):
    if name in CONVOLUTIONS:
        shape, channels, kernel, stride, padded = CONVOLUTIONS[name]
        return shape, program.Convolution2D((kernel, kernel), channels, strides=stride, pad=padded)
    shape, channels, kernel, stride, size = TRANSPOSED[name]
    return shape, program.ConvolutionTranspose2D(
        (kernel, kernel), channels, strides=stride, pad=stride > 1, output_shape=(size, size))


def main(path, samples):
    output = {}
    for place, name in enumerate([*CONVOLUTIONS, *TRANSPOSED]):
        with C.layers.default_options(bias=True, use_cntk_engine=True):
            shape, make = layer(name)
        x = C.input_variable(shape, needs_gradient=True)
        y = make(x)
        w = C.input_variable(y.shape)
        weight, bias = y.W, y.b
        weight.value = values(place, weight.shape, 0.02)
        loss = C.reduce_sum(y * w)
        for n in samples:
            given = {x: values(100 + place, (n,) + shape, 1), w: values(200 + place, (n,) + y.shape,
                                                                        1)}
            got, made = loss.grad(given, wrt=[x, weight, bias], outputs=[y.output])
            for quantity, array in (("output", made), ("input", got[x]), ("weight", got[weight]),
                                    ("bias", got[bias])):
                array = np.ascontiguousarray(array, dtype=np.float32)
                whole = "%d/%s/%s" % (n, name, quantity)
                output[whole] = array.ravel()[::STRIDE]
                output[whole + "/sha256"] = np.array(hashlib.sha256(array.tobytes()).hexdigest())
    np.savez(path, **output)


if __name__ == "__main__":
    main(sys.argv[1], [int(n) for n in sys.argv[3:]])
