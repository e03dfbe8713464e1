"""The gradient of a convolution's weight, after a trainer has set CNTK's threads.

    cntk_threads.py OUTPUT.npz THREADS

Run as on a machine of THREADS processors: "threads" as CNTK has them; "N/hash" of minibatches of N.
"""
import hashlib
import os
import sys

import numpy as np

from environment import processors

MINIBATCHES = (5, 16, 17)
INPUT, FILTERS = (8, 16, 16), (16, 8, 3, 3)
os.environ["MKL_DEBUG_CPU_TYPE"] = "0"


def values(seed, shape):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def main(path):
    from cntk_impl import dcgan_training as program
    C = program.C
    x = C.input_variable(INPUT, needs_gradient=True)
    with C.layers.default_options(bias=False, use_cntk_engine=True):
        y = program.Convolution2D((3, 3), FILTERS[0], strides=2, pad=True)(x)
    y.W.value = values(0, FILTERS)
    w = C.input_variable(y.shape)
    loss = C.reduce_sum(y * w)
    C.Trainer(y, (loss, None), [C.sgd(y.parameters, C.learning_parameter_schedule(1.0))])
    output = {"threads": C.cntk_py.get_max_num_cputhreads()}
    for n in MINIBATCHES:
        gradient = loss.grad({x: values(1, (n,) + INPUT), w: values(2, (n,) + y.shape)}, wrt=[y.W])
        gradient = np.ascontiguousarray(gradient, np.float32)
        output["%d/hash" % n] = hashlib.sha256(gradient.tobytes()).hexdigest()
    np.savez(path, **output)


if __name__ == "__main__":
    if os.environ.get(processors.VARIABLE) != sys.argv[2]:
        sys.exit(processors.main([sys.argv[2], "-m", "tests.cntk_probes.cntk_threads"]
                                 + sys.argv[1:]))
    main(sys.argv[1])
