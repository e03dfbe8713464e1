"""Every layer, gradient and step of both networks on CNTK, from a warmed-up state. Python 3.6."""
import hashlib
import os

import numpy as np

from captures import observe
from captures.plan import LARGEST_SEED, Latents
from cntk_impl import dcgan_training as program
from cntk_impl.capture import model
from cntk_impl.capture.observed import (
    C,
    Observed,
    evaluated,
    facts_of_parameters,
    forward,
    optimizer_values,
    trained,
)
from cntk_impl.capture.pictures import score_pictures
from cntk_impl.capture.probes import (
    probe_normalisation,
    probe_optimizer,
    probe_pointwise,
    probe_reader,
)
from cntk_impl.training_state import save_function
from environment.quiet import quiet_stderr

NUDGES = 3  # of the inputs in evaluation mode


# --------------------------------------------------------------------------------------- the jobs


def layers_job(writer, plan, note, trained_generator=None, classifier=None):
    """trained_generator, classifier: files, or None (``pictures.score_pictures``)."""
    spec = plan.spec
    note("CNTK: reader, optimizer and pointwise functions")
    probe_reader(writer, plan)
    probe_optimizer(writer, plan)
    probe_normalisation(writer, plan)
    probe_pointwise(writer, plan)

    note("CNTK: initial weights")
    observed = Observed(spec, plan.seed)
    for name, value in observed.values().items():
        writer.add("initial/" + name, value)
    writer.fact("parameters", facts_of_parameters(observed))

    reader = model.reader(spec, plan.map_file, plan.seed)
    latents = Latents(plan.seed, spec.maker.input[0])
    trainers = program.create_trainers(observed.networks, plan.minibatch_size,
                                       bool(plan.unit_gain))
    networks = observed.networks
    warm_up(writer, plan, observed, trainers, reader, latents, note)
    if plan.weight_scale_exponent:
        scaled(observed, 2.0 ** plan.weight_scale_exponent)
    state, moments = observed.values(), optimizer_values(observed, trainers)
    for name, value in state.items():
        writer.add("state/" + name, value)
    for name, value in moments.items():
        writer.add("optimizer/state/" + name, value)
    for network, function in zip(spec.networks, (networks.G_fake, networks.D_real)):
        path = os.path.join(writer.folder, network.name)
        save_function(function, path + ".model")
        writer.attach(path + ".model")
        with quiet_stderr():  # the exporter's remarks
            save_function(function, path + ".onnx", C.ModelFormat.ONNX)
        writer.attach(path + ".onnx")

    batch = reader.next_minibatch(plan.minibatch_size)[reader.streams.images]
    x = model.pixels(spec, batch)
    z_d, z_g = latents.next(plan.minibatch_size), latents.next(plan.minibatch_size)
    z_score = Latents((plan.seed + 1) % (LARGEST_SEED + 1),
                      spec.maker.input[0]).next(plan.score_images)
    for name, value in (("reader/images", x), ("d_step/latents", z_d), ("g_step/latents", z_g),
                        ("score/latents", z_score)):
        writer.add("input/" + name, value)

    note("CNTK: every layer in evaluation mode")
    tapped = Observed(spec, plan.seed, tapped=True)
    tapped.set_values(state)
    got = every_layer_evaluated(tapped, x, z_d)
    for name, value in got.items():
        writer.add("forward/evaluation/" + name, value)
    writer.fact("evaluation_nudged", moved_by_a_nudge(tapped, got, x, z_d))
    writer.fact("evaluation_changes", observe.changed(state, tapped.values()))
    note("CNTK: pictures for the score")
    score_pictures(writer, plan, networks, z_score, trained_generator, classifier)

    note("CNTK: every layer in training mode, and its gradients")
    everything = tuple(branch.name for branch in spec.branches)
    outputs, gradients, parameters, losses = trained(
        tapped, tapped.networks.D_loss, {tapped.networks.x: x, tapped.networks.z: z_d},
        *everything)
    for name, value in outputs.items():
        writer.add("forward/training/" + name, value)
    record_gradients(writer, "gradient/d", gradients, parameters, losses, spec, "d")
    writer.fact("unsteadiness", unsteadiness(tapped, outputs, x, z_d, state, everything))
    del got, outputs, gradients, parameters

    note("CNTK: one step of the discriminator, one of the generator")
    trainers[1].train_minibatch({networks.x: batch.data, networks.z: z_d})
    after_d = observed.values(), optimizer_values(observed, trainers)
    for values in after_d:
        for name, value in observe.of_step(values, spec.critic.name):
            writer.add("step/0001/after_d/" + name, value)
    writer.add("step/0001/after_d/loss/d/mean",
               np.float32(trainers[1].previous_minibatch_loss_average))
    between = dict(after_d[0], **after_d[1])
    events = observe.events("d_step", dict(state, **moments), between)
    tapped.set_values(after_d[0])
    del state, moments, after_d
    outputs, gradients, parameters, losses = trained(
        tapped, tapped.networks.G_loss, {tapped.networks.z: z_g}, spec.maker.name,
        spec.fake)
    for name, value in outputs.items():
        writer.add("forward/g_step/" + name, value)
    record_gradients(writer, "gradient/g", gradients, parameters, losses, spec, "g")
    del tapped, outputs, gradients, parameters

    trainers[0].train_minibatch({networks.z: z_g})
    after_g = observed.values(), optimizer_values(observed, trainers)
    for values in after_g:
        for name, value in observe.of_step(values, spec.maker.name):
            writer.add("step/0001/after_g/" + name, value)
    writer.add("step/0001/after_g/loss/g/mean",
               np.float32(trainers[0].previous_minibatch_loss_average))
    events += observe.events("g_step", between, dict(after_g[0], **after_g[1]))
    writer.fact("ledger", events)


def every_layer_evaluated(observed, x, z):
    spec = observed.spec
    got = evaluated(observed, {observed.networks.z: z}, spec.maker.name, spec.fake)
    got.update(evaluated(observed, {observed.networks.x: x}, spec.real))
    return got


def moved_by_a_nudge(observed, outputs, x, z):
    """How far each layer's output in evaluation mode moves when every pixel and latent is moved by
    one ULP, the largest of NUDGES times: place to {"error": root mean square as a part of the
    layer's own, "largest": absolute}. (Several, for the logits: there is one a sample, and one
    number may stay where it was by chance.)"""
    made = {name: {"error": 0.0, "largest": 0.0} for name in outputs}
    for seed in range(NUDGES):
        moved = every_layer_evaluated(observed, observe.moved_by_one_ulp(x, 2 * seed + 1),
                                      observe.moved_by_one_ulp(z, 2 * seed + 2))
        for name, value in outputs.items():
            apart = np.abs(moved[name] - value).ravel()
            size = np.sqrt(np.dot(value.ravel(), value.ravel()))
            found = {"error": float(np.sqrt(np.dot(apart, apart)) / size) if size else 0.0,
                     "largest": float(apart.max())}
            made[name] = {key: max(found[key], made[name][key]) for key in found}
    return made


def unsteadiness(observed, outputs, x, z, state, branches):
    """How far CNTK is from itself, per layer in training mode, as a part of the layer's size: with
    the samples of the minibatch in reverse order, and with every pixel and latent moved by one ULP.
    """
    def again(x, z, order):
        observed.set_values(state)
        got = forward(observed, observed.networks.D_loss,
                      {observed.networks.x: x, observed.networks.z: z}, *branches)[0]
        return {name: float(np.sqrt(np.mean((got[name][order] - value) ** 2)
                                    / max(np.mean(value ** 2), 1e-30)))
                for name, value in outputs.items()}

    everything, reverse = slice(None), slice(None, None, -1)
    return {
        "reversed": again(np.ascontiguousarray(x[::-1]), np.ascontiguousarray(z[::-1]), reverse),
        "nudged": again(observe.moved_by_one_ulp(x, 1), observe.moved_by_one_ulp(z, 2), everything)}


def record_gradients(writer, stage, of_outputs, of_parameters, losses, spec, step):
    """In the D step the images that the maker made are given: nothing of it has a gradient."""
    for name, value in of_outputs.items():
        if not name.startswith(spec.maker.name + "/") or step == "g":
            writer.add("%s/%s" % (stage, name), value)
    for name, value in of_parameters.items():
        if name.startswith(spec.learns(step).name + "/"):
            writer.add("%s/%s" % (stage, name), value)
    writer.add("%s/loss/samples/value" % stage, losses)


def warm_up(writer, plan, observed, trainers, reader, latents, note):
    """Some iterations of the article's program; the minibatches are recorded by their hashes."""
    note("CNTK: %d iterations of the article's program" % plan.warmup_iterations)
    hashes = []
    watched = _Watched(reader, hashes, plan.spec)
    for i, _ in enumerate(program.iterate(
            observed.networks, trainers, watched, latents, plan.minibatch_size), 1):
        if i == plan.warmup_iterations:
            break
    writer.fact("warmup_minibatches", hashes)


class _Watched:
    """A reader whose minibatches' hashes are kept."""

    def __init__(self, reader, hashes, spec):
        self.reader, self.streams, self.hashes, self.spec = reader, reader.streams, hashes, spec

    def next_minibatch(self, *arguments, **named):
        batch = self.reader.next_minibatch(*arguments, **named)
        (data,) = batch.values()
        self.hashes.append(hashlib.sha256(model.pixels(self.spec, data).tobytes()).hexdigest())
        return batch


def scaled(observed, factor):
    """Every weight of a convolution times a power of two: larger or smaller activations."""
    for name, held in observed.state.items():
        if name.endswith("/weight"):
            held.value = held.value * np.float32(factor)
