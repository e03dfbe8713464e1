"""What CNTK's BatchNormalization layer does with given minibatches.

    batch_norm.py OUTPUT.npz updates TIME_CONSTANT    running statistics over several minibatches
    batch_norm.py OUTPUT.npz gradients                of sum(w * BN(x)), in training mode
    batch_norm.py OUTPUT.npz single                   one value per channel: n = 1
    batch_norm.py OUTPUT.npz cases THREADS            every quantity of one minibatch, for each of
                                                      SHAPES: "i/input", "i/gradient/scale", ...
    batch_norm.py OUTPUT.npz network                  a large map, as in the article's networks

MKL, which computes it, has other code for Intel processors with AVX2 and for those with AVX-512,
with other roundings. Where MKL_DEBUG_CPU_TYPE does not say otherwise, it is told to take the one
that it takes on an AMD processor, so that answers do not depend on the machine.
"""
import os
import sys

import numpy as np

os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "0")
if sys.argv[2] == "cases":
    os.environ["OMP_NUM_THREADS"] = sys.argv[3]

from environment.quiet import select_device

select_device()
import cntk as C  # noqa: E402

CHANNELS, HEIGHT, WIDTH = 7, 6, 5
# Rows of 1 to 5 and 16 columns, 1 to 16 samples, channels that are no multiple of 8, big maps.
SHAPES = ((16, 200, 1, 1), (3, 64, 4, 2), (5, 64, 4, 3), (16, 64, 4, 4), (1, 9, 6, 5),
          (2, 17, 7, 6), (7, 8, 9, 16), (4, 16, 64, 64), (2, 32, 128, 128))


def layer(x, time_constant=5000.0):
    return C.layers.BatchNormalization(map_rank=1, init_scale=1,
                                       normalization_time_constant=time_constant)(x)


def statistics(function):
    named = {p.name: p for p in function.constants}
    mean, variance = named["aggregate_mean"], named["aggregate_variance"]
    return mean.value.ravel(), variance.value.ravel(), float(named["aggregate_count"].value)


def parameters(function):
    named = {p.name: p for p in function.parameters}
    return named["scale"], named["bias"]


def updates(output, time_constant):
    """The i-th minibatch: its input, output, and the statistics after it; then an evaluation."""
    random = np.random.RandomState(5)
    x = C.input_variable((CHANNELS, HEIGHT, WIDTH))
    y = layer(x, time_constant)
    centre = np.linspace(-4, 4, CHANNELS, dtype=np.float32).reshape(-1, 1, 1)
    for i, samples in enumerate([4, 4, 2, 1, 7, 16]):
        batch = (random.randn(samples, CHANNELS, HEIGHT, WIDTH) * (0.3 + i) + centre)
        batch = batch.astype(np.float32)
        output["%d/input" % i] = batch
        output["%d/output" % i] = y.forward({x: batch}, [y.output], {y.output})[1][y.output]
        (output["%d/running_mean" % i], output["%d/running_variance" % i],
         output["%d/sample_count" % i]) = statistics(y)
    output["evaluation/output"] = y.eval({x: batch})
    output["evaluation/sample_count"] = statistics(y)[2]


def gradients(output):
    random = np.random.RandomState(6)
    x = C.input_variable((CHANNELS, HEIGHT, WIDTH), needs_gradient=True)
    w = C.input_variable((CHANNELS, HEIGHT, WIDTH))
    y = layer(x)
    scale, bias = parameters(y)
    scale.value = random.randn(*scale.shape).astype(np.float32)
    bias.value = random.randn(*bias.shape).astype(np.float32)
    output["scale"], output["bias"] = scale.value.ravel(), bias.value.ravel()
    shape = (8, CHANNELS, HEIGHT, WIDTH)
    output["input"] = (random.randn(*shape) * 2 + 1).astype(np.float32)
    output["upstream"] = random.randn(*shape).astype(np.float32)
    loss = C.reduce_sum(y * w)
    got = loss.grad({x: output["input"], w: output["upstream"]}, wrt=[x, scale, bias])
    output["gradient/input"] = got[x]
    output["gradient/scale"], output["gradient/bias"] = got[scale].ravel(), got[bias].ravel()
    output["sample_count"] = statistics(y)[2]


def cases(output):
    """Deviations from 1e-4 to 10, so that epsilon counts in some channels and not in others."""
    for i, shape in enumerate(SHAPES):
        random = np.random.RandomState(8 + i)
        x = C.input_variable(shape[1:], needs_gradient=True)
        w = C.input_variable(shape[1:])
        y = layer(x)
        scale, bias = parameters(y)
        scale.value = random.randn(*scale.shape).astype(np.float32)
        bias.value = random.randn(*bias.shape).astype(np.float32)
        deviation = 10 ** random.uniform(-4, 1, (shape[1], 1, 1))
        centre = random.randn(shape[1], 1, 1)
        batch = (random.randn(*shape) * deviation + centre).astype(np.float32)
        upstream = random.randn(*shape).astype(np.float32)
        got, outputs = C.reduce_sum(y * w).grad({x: batch, w: upstream}, wrt=[x, scale, bias],
                                                outputs=[y.output])
        made = {"input": batch, "upstream": upstream, "scale": scale.value.ravel(),
                "bias": bias.value.ravel(), "output": outputs, "gradient/input": got[x],
                "gradient/scale": got[scale].ravel(), "gradient/bias": got[bias].ravel()}
        made["running_mean"], made["running_variance"], _ = statistics(y)
        made["evaluation/output"] = y.eval({x: batch})
        for name, value in made.items():
            output["%d/%s" % (i, name)] = np.asarray(value).reshape(
                shape if name.endswith("put") or name == "upstream" else -1)


def network(output):
    """4 x 16 x 64 x 64 values of every ratio of mean to deviation up to 10."""
    random = np.random.RandomState(7)
    x = C.input_variable((16, 64, 64))
    y = layer(x)
    centre = np.linspace(-10, 10, 16).reshape(-1, 1, 1)
    batch = (random.randn(4, 16, 64, 64) + centre).astype(np.float32)
    output["input"] = batch
    output["output"] = y.forward({x: batch}, [y.output], {y.output})[1][y.output]
    output["running_mean"], output["running_variance"], output["sample_count"] = statistics(y)


def single(output):
    x = C.input_variable((CHANNELS, 1, 1))
    y = layer(x)
    batch = np.arange(1, CHANNELS + 1, dtype=np.float32).reshape(1, CHANNELS, 1, 1)
    output["input"] = batch
    output["output"] = y.forward({x: batch}, [y.output], {y.output})[1][y.output]
    output["running_mean"], output["running_variance"], output["sample_count"] = statistics(y)


if __name__ == "__main__":
    arrays = {}
    if sys.argv[2] == "updates":
        updates(arrays, float(sys.argv[3]))
    elif sys.argv[2] == "gradients":
        gradients(arrays)
    elif sys.argv[2] == "cases":
        cases(arrays)
    elif sys.argv[2] == "network":
        network(arrays)
    else:
        single(arrays)
    np.savez(sys.argv[1], **arrays)
