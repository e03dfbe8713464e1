"""What CNTK's Adam learner makes of given gradients.

    adam.py OUTPUT.npz STEPS SAMPLES [name=value ...]

The loss is sum(parameter * input), so a parameter's gradient is its input summed over the
minibatch. One sample carries the whole gradient and the others are zero: the sum is exact. Each
parameter has its own scale of gradients, and "sleeper" has none after step 3. Written: initial/*,
gradient/* (one per step) and STEP/* (parameters).

    unit_gain=0|1  lr=FLOAT  momentum=FLOAT  minibatch_size=INT  clip=FLOAT  truncate=0|1
    still=INT      before all that, so many steps at learning rate 0 with gradients of 1
    every=INT      write the parameters after each so many steps (default: only after the last)
"""
import sys

import numpy as np

from environment.quiet import select_device

select_device()
import cntk as C  # noqa: E402

SEED = 11
# name: (shape, scale of the gradient)
PARAMETERS = {
    "matrix": ((37, 53), 1.0), "kernel": ((8, 5, 3, 3), 30.0), "vector": ((101,), 1e-3),
    "tiny": ((64,), 1e-9), "tiniest": ((64,), 1e-20), "scalar": ((1,), 300.0),
    "sleeper": ((50,), 1.0),
}


def gradient_of(name, random, step):
    shape, scale = PARAMETERS[name]
    gradient = (random.randn(*shape) * scale).astype(np.float32)
    return gradient * np.float32(0) if name == "sleeper" and step >= 3 else gradient


def main(path, steps, samples, options):
    parameters, inputs, terms = {}, {}, []
    random = np.random.RandomState(SEED - 1)
    output = {}
    for name, (shape, _) in PARAMETERS.items():
        output["initial/" + name] = (random.randn(*shape) * 0.02).astype(np.float32)
        parameters[name] = C.parameter(shape, init=output["initial/" + name], name=name)
        inputs[name] = C.input_variable(shape)
        terms.append(C.reduce_sum(parameters[name] * inputs[name]))
    loss = terms[0]
    for term in terms[1:]:
        loss = loss + term
    more = {}
    if "minibatch_size" in options:
        more["minibatch_size"] = int(options["minibatch_size"])
    if "clip" in options:
        more["gradient_clipping_threshold_per_sample"] = float(options["clip"])
        more["gradient_clipping_with_truncation"] = options.get("truncate", "1") == "1"
    learner = C.adam(loss.parameters, float(options.get("lr", 1e-4)),
                     momentum=float(options.get("momentum", 0.5)),
                     unit_gain=options.get("unit_gain", "0") == "1", **more)
    trainer = C.Trainer(loss, (loss, None), [learner])
    if "still" in options:
        learner.reset_learning_rate(C.learning_parameter_schedule(0.0))
        ones = {inputs[name]: np.ones((samples,) + PARAMETERS[name][0], dtype=np.float32)
                for name in PARAMETERS}
        for _ in range(int(options["still"])):
            trainer.train_minibatch(ones)
        learner.reset_learning_rate(C.learning_parameter_schedule(float(options.get("lr", 1e-4))))
    random = np.random.RandomState(SEED)
    for name, (shape, _) in PARAMETERS.items():
        output["gradient/" + name] = np.zeros((steps,) + shape, dtype=np.float32)
    for step in range(steps):
        batch = {}
        for name in PARAMETERS:
            value = np.zeros((samples,) + PARAMETERS[name][0], dtype=np.float32)
            value[step % samples] = gradient_of(name, random, step)
            output["gradient/" + name][step] = value[step % samples]
            batch[inputs[name]] = value
        trainer.train_minibatch(batch)
        if step + 1 == steps or (step + 1) % int(options.get("every", steps)) == 0:
            for name, parameter in parameters.items():
                output["%d/%s" % (step + 1, name)] = parameter.value
    np.savez(path, **output)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]),
         dict(argument.split("=") for argument in sys.argv[4:]))
