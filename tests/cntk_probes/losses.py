"""CNTK's log, sigmoid, rectifiers and the article's losses at given points, with gradients.

    losses.py OUTPUT.npz

Each function runs as a minibatch of scalars; its gradient is that of the sum with upstream values
of 1 (or "upstream").
"""
import sys

import numpy as np

from environment.quiet import select_device

select_device()
import cntk as C  # noqa: E402


def points():
    random = np.random.RandomState(3)
    tiny = np.float32([0, -0.0, 1e-45, 1e-42, 1e-38, 1.17549435e-38, 9.9e-38, 1e-37, 1.01e-37])
    edges = np.nextafter(np.float32(1e-37), np.float32([0, 1]), dtype=np.float32)
    spread = 10.0 ** random.uniform(-37, 38, 20000)
    unit = random.uniform(0, 1, 20000)
    logs = np.concatenate([tiny, edges, [-1, -1e-40, np.nan, np.inf, 1, 1 - 2.0 ** -24], spread,
                           unit]).astype(np.float32)
    wide = np.concatenate([np.linspace(-30, 30, 100001), np.linspace(-110, 110, 20001),
                           [0, -0.0, 16.635, 16.636, 16.64, -87.3, -88, -90, -100, -103.9, -104,
                            1e30, -1e30, np.inf, -np.inf, 1e-45, -1e-45]]).astype(np.float32)
    return logs, wide


def run(output, name, function, values, upstream=None):
    x = C.input_variable((1,), needs_gradient=True)
    w = C.input_variable((1,))
    y = function(x)
    batch = values.reshape(-1, 1)
    weights = np.ones_like(batch) if upstream is None else upstream.reshape(-1, 1)
    output[name + "/input"] = values
    output[name + "/output"] = y.eval({x: batch}).ravel()
    gradient = C.reduce_sum(y * w).grad({x: batch, w: weights}, wrt=[x])
    output[name + "/gradient"] = np.asarray(gradient).ravel()


def averages(output):
    """previous_minibatch_loss_average of minibatches whose losses are given."""
    x, one = C.input_variable((1,)), C.parameter((1,), init=1.0)
    loss = x * one
    trainer = C.Trainer(loss, (loss, None), [C.sgd(
        [one], C.learning_parameter_schedule_per_sample(0.0))])
    random = np.random.RandomState(5)
    for samples in (1, 2, 3, 4, 5, 8, 16, 48):
        losses = random.uniform(0.2, 3, (60, samples, 1)).astype(np.float32)
        made = []
        for minibatch in losses:
            trainer.train_minibatch({x: minibatch})
            made.append(trainer.previous_minibatch_loss_average)
        output["average/losses%d" % samples] = losses[:, :, 0]
        output["average/of%d" % samples] = np.array(made, np.float64)


def main(path):
    output = {}
    averages(output)
    logs, wide = points()
    run(output, "log", C.log, logs)
    random = np.random.RandomState(4)
    output["log_upstream/upstream"] = random.randn(len(logs)).astype(np.float32)
    run(output, "log_upstream", C.log, logs, output["log_upstream/upstream"])
    run(output, "sigmoid", C.sigmoid, wide)
    run(output, "leaky_relu", lambda x: C.leaky_relu(x, 0.2), wide)
    run(output, "relu", C.relu, wide)
    run(output, "tanh", C.tanh, wide)
    # The two terms of the losses from D's last layer on: where the sigmoid saturates.
    run(output, "loss_of_real", lambda x: -C.log(C.sigmoid(x)), wide)
    run(output, "loss_of_fake", lambda x: -C.log(1 - C.sigmoid(x)), wide)
    np.savez(path, **output)


if __name__ == "__main__":
    main(sys.argv[1])
