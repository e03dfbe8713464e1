"""What CNTK saves, and the values that were saved.

    cntk_model.py OUTPUT.npz FOLDER

The article's networks after two iterations with minibatches of 2 random images. In the folder:

    generator.model, discriminator.model, generator.ckp, discriminator.ckp
    checkpoint.model      the model that save_checkpoint writes beside the generator's .ckp
    unnamed.model         a discriminator whose convolutions and normalisations have no names
    four_channels.model   a discriminator of images with four channels
    short.model           two layers
    small.ckp, sgd.ckp    parameters of all ranks, by Adam and by SGD, after STEPS given gradients

Written: after/NETWORK/LAYER/VARIABLE and before/... (of the second iteration), found by the layers'
names, not by order; output/NETWORK/LAYER (shapes); initial/*, gradient/*, m/*, v/* and minibatches
of the small problem; resumed/*, its parameters after STEPS more by a learner that was given m, v
and the counter, and unbroken/*, those of the first learner.
"""
import os
import sys

import numpy as np

from environment.quiet import select_device

select_device()
import cntk as C  # noqa: E402
from cntk.internal.utils import _to_cntk_dict_value  # noqa: E402

from cntk_impl import dcgan_training  # noqa: E402

SAMPLES, STEPS = 2, 3
SMALL = {"kernel": (4, 3, 2, 5), "matrix": (5, 3), "vector": (6,), "bias": (3, 1, 1), "scalar": ()}


def adam_state(learner):
    """(m, v) of each of the learner's parameters, and its counter."""
    checkpoint = learner.create_checkpoint()
    arrays = checkpoint["smoothed_gradients"]
    states = []
    for i, parameter in enumerate(learner.parameters):
        v, m = arrays[i].reshape((2,) + parameter.shape)
        states.append((m, v))
    return states, checkpoint["smoothed_count"]


def restore_adam_state(learner, states, minibatches):
    checkpoint = learner.create_checkpoint()
    arrays = checkpoint["smoothed_gradients"]
    checkpoint["smoothed_gradients"] = _to_cntk_dict_value(
        [np.stack([v, m]).reshape(arrays[i].shape) for i, (m, v) in enumerate(states)])
    checkpoint["smoothed_count"] = _to_cntk_dict_value(float(minibatches))
    learner.restore_from_checkpoint(checkpoint)


def values(networks, stage):
    """By the layers' names."""
    found = {}
    for network, function in (("generator", networks.G_fake), ("discriminator", networks.D_real)):
        for layer in ["conv%d" % i for i in range(1, 8)] + ["bn%d" % i for i in range(1, 7)]:
            block = function.find_by_name(layer)
            if block is None:  # the discriminator's first layer is not normalised
                continue
            found["output/%s/%s" % (network, layer)] = np.array(block.output.shape)
            for variable in block.parameters + block.constants:
                name = "%s/%s/%s/%s" % (stage, network, layer, variable.name)
                found[name] = variable.value
    return found


def save_checkpoint(trainer, path, model=None):
    trainer.save_checkpoint(path)
    os.rename(path + ".ckp", path + ".keep")
    if model:
        os.rename(path, model)
    else:
        os.unlink(path)
    os.rename(path + ".keep", path + ".ckp")


def article(folder):
    networks = dcgan_training.build_networks(1)
    trainers = dcgan_training.create_trainers(networks, SAMPLES)
    random = np.random.RandomState(2)
    output = {}
    for step in range(2):
        if step == 1:
            output.update(values(networks, "before"))
        images = (random.rand(SAMPLES, 3, 256, 256) * 255).astype(np.float32)
        for trainer, feeds in ((trainers[1], {networks.x: images}), (trainers[0], {})):
            feeds[networks.z] = random.randn(SAMPLES, 100).astype(np.float32)
            trainer.train_minibatch(feeds)
    output.update(values(networks, "after"))
    networks.G_fake.save(os.path.join(folder, "generator.model"))
    networks.D_real.save(os.path.join(folder, "discriminator.model"))
    save_checkpoint(trainers[0], os.path.join(folder, "generator"),
                    os.path.join(folder, "checkpoint.model"))
    save_checkpoint(trainers[1], os.path.join(folder, "discriminator"))
    return output


def other_models(folder):
    four = dcgan_training.dcgan_discriminator(C.input_variable((4, 256, 256)))
    four.save(os.path.join(folder, "four_channels.model"))

    h = C.layers.Convolution2D((3, 3), 32, pad=True, name="conv1")(C.input_variable((3, 8, 8)))
    C.leaky_relu(h, 0.2, name="leaky_relu1").save(os.path.join(folder, "short.model"))

    def unnamed(layer):
        return lambda *arguments, **options: layer(
            *arguments, **{key: value for key, value in options.items() if key != "name"})

    for name in ("Convolution2D", "BatchNormalization"):
        setattr(dcgan_training, name, unnamed(getattr(dcgan_training, name)))
    nameless = dcgan_training.build_networks(1).D_real
    nameless.save(os.path.join(folder, "unnamed.model"))


def small_problem(learner_of):
    """A parameter's gradient is its input, summed over the minibatch."""
    random = np.random.RandomState(3)
    initial = {name: random.randn(*shape) for name, shape in SMALL.items()}
    parameters = {name: C.parameter(shape, init=np.asarray(initial[name], dtype=np.float32),
                                    name=name) for name, shape in SMALL.items()}
    inputs = {name: C.input_variable(shape) for name, shape in SMALL.items()}
    loss = sum((C.reduce_sum(parameters[name] * inputs[name]) for name in SMALL), C.constant(0))
    learner = learner_of([parameters[name] for name in SMALL])
    return parameters, inputs, learner, C.Trainer(loss, (loss, None), [learner])


def feed(problem, gradients, steps):
    _, inputs, _, trainer = problem
    for step in steps:  # the second sample is nothing: the sum is exact
        trainer.train_minibatch({inputs[name]: np.stack([g[step], np.zeros_like(g[step])])
                                 for name, g in gradients.items()})


def small(folder):
    def adam(parameters):
        return C.adam(parameters, 1e-2, momentum=0.5, unit_gain=False)

    random = np.random.RandomState(4)
    gradients = {name: random.randn(*((2 * STEPS,) + shape)).astype(np.float32)
                 for name, shape in SMALL.items()}
    first, second = small_problem(adam), small_problem(adam)
    output = {"initial/" + name: p.value for name, p in first[0].items()}
    output.update({"gradient/" + name: g for name, g in gradients.items()})
    feed(first, gradients, range(STEPS))
    save_checkpoint(first[3], os.path.join(folder, "small"))
    states, minibatches = adam_state(first[2])
    output["minibatches"] = np.array(minibatches)
    for i, name in enumerate(SMALL):
        output["m/" + name], output["v/" + name] = states[i]
        second[0][name].value = first[0][name].value
    restore_adam_state(second[2], states, minibatches)
    for stage, problem in (("unbroken", first), ("resumed", second)):
        feed(problem, gradients, range(STEPS, 2 * STEPS))
        output.update({"%s/%s" % (stage, name): p.value for name, p in problem[0].items()})

    sgd = small_problem(lambda parameters: C.sgd(parameters, 1e-2))
    feed(sgd, gradients, range(STEPS))
    save_checkpoint(sgd[3], os.path.join(folder, "sgd"))
    return output


if __name__ == "__main__":
    arrays = article(sys.argv[2])
    arrays.update(small(sys.argv[2]))
    other_models(sys.argv[2])
    np.savez(sys.argv[1], **arrays)
