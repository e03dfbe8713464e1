"""Runs the article's networks on real CNTK for a plan, and writes what they did as a capture.

    python cntk_impl/capture.py --plan PLAN.json --output FOLDER [--job layers|twin] [--nudge K]

layers   initial weights, reader, optimizer, pointwise functions; some iterations of the article's
         program; from that state every layer's output in both modes, every gradient, one D step and
         one G step with all the state that they move, both ONNX files, images for the score
twin     from the seed alone: the losses and minibatches of the twin run. ``--nudge K``, K from 1:
         from initial weights moved by one ULP each, up or down by a coin of seed K

How a gradient of a layer's OUTPUT is had. CNTK gives gradients of parameters and inputs only, so
every layer's output has an input variable added to it that is fed zeros. x + 0 is x, and the
gradient of that variable is the gradient of the output. The trainers' own networks are not touched.
Python 3.6.
"""
import argparse
import hashlib
import os
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from cntk_impl import dcgan_training as program  # noqa: E402
from cntk_impl.learner_state import learner_state  # noqa: E402
from cntk_impl.map_file import BadInput, checked_map_file  # noqa: E402
from parity import probes  # noqa: E402
from parity.capture_format import CaptureError, CaptureWriter  # noqa: E402
from parity.plan import LARGEST_SEED, Latents, Plan, PlanError  # noqa: E402

C = program.C

# CNTK's name of what a layer holds, and the captures'.
QUANTITY = {"W": "weight", "b": "bias", "scale": "scale", "bias": "bias",
            "aggregate_mean": "running_mean", "aggregate_variance": "running_variance",
            "aggregate_count": "sample_count"}

NUDGES = 3  # of the inputs in evaluation mode


class Observed:
    """The program's networks, and every layer of them by name.

    layers: "generator", "discriminator_real", "discriminator_fake" to {layer: Function}
    state: name of the captures to the Parameter or Constant that holds it
    taps: (branch, layer) to the input variable that is added to the layer's output
    """

    def __init__(self, seed, tapped=False):
        self.tapped = tapped
        self.layers = {"generator": {}, "discriminator_real": {}, "discriminator_fake": {}}
        self.taps = {}
        self.state = {}

        def watch(branch, network):
            def each(name, h):
                self.layers[branch][name] = h
                for held in h.root_function.inputs:
                    if held.is_parameter or (held.is_constant and held.name in QUANTITY):
                        self.state["%s/%s/%s" % (network, name, QUANTITY[held.name])] = (
                            held.as_parameter() if held.is_parameter else held.as_constant())
                return h + self._tap(branch, name, h.shape) if tapped else h
            return each

        substitutions = {}

        def discriminator(h):
            made = program.dcgan_discriminator(h, watch("discriminator_real", "discriminator"))
            for (branch, name), tap in list(self.taps.items()):
                if branch == "discriminator_real":
                    substitutions[tap] = self._tap("discriminator_fake", name, tap.shape)
            return made

        self.networks = program.build_networks(
            seed, lambda z: program.dcgan_generator(z, watch("generator", "generator")),
            discriminator, substitutions)
        self._find_fake_branch()

    def _tap(self, branch, name, shape):
        tap = C.input_variable(shape, needs_gradient=True, name="%s/%s" % (branch, name))
        self.taps[branch, name] = tap
        return tap

    def _find_fake_branch(self):
        """The clone's layers have the names of the original's, and so have the generator's, which
        the clone's graph holds too: what is not the generator's own is the clone's."""
        generator = {h.root_function.uid for h in self.layers["generator"].values()}
        for name in self.layers["discriminator_real"]:
            found = [f for f in self.networks.D_fake.find_all_with_name(name)
                     if f.root_function.uid not in generator]
            assert len(found) == 1, (name, found)
            self.layers["discriminator_fake"][name] = found[0]

    def values(self):
        """Every parameter and statistic as it stands now: name to array. Counts are whole."""
        made = {}
        for name, held in self.state.items():
            value = np.array(held.value)
            if name.endswith("/sample_count"):
                value = np.array(int(value), np.int64)
            elif name.endswith("/bias"):
                value = value.ravel()
            made[name] = value
        return made

    def set_values(self, values):
        for name, held in self.state.items():
            held.value = np.asarray(values[name], np.float32).reshape(held.shape)

    def fed(self, root, arguments, *branches):
        """The arguments, and zeros for every tap that ``root`` has."""
        samples, needed = len(next(iter(arguments.values()))), set(root.arguments)
        made = dict(arguments)
        made.update((tap, np.zeros((samples,) + tap.shape, np.float32))
                    for (branch, _), tap in self.taps.items()
                    if branch in branches and tap in needed)
        return made

    def outputs(self, *branches):
        return {(branch, name): h.output for branch in branches
                for name, h in self.layers[branch].items()}


def as_array(value):
    """As float32."""
    return np.asarray(value, np.float32)


def evaluated(observed, arguments, *branches):
    """Every layer's output in evaluation mode: "branch/layer/output" to array."""
    wanted = observed.outputs(*branches)
    root = C.combine(list(wanted.values()))
    got = root.eval(observed.fed(root, arguments, *branches))
    return {"%s/%s/output" % place: as_array(got[variable]) for place, variable in wanted.items()}


def forward(observed, loss, arguments, *branches):
    """Every layer's output in training mode: (outputs "branch/layer/output", what ``trained`` goes
    on with)."""
    wanted = observed.outputs(*branches)
    root = C.combine([loss] + list(wanted.values()))
    state, got = root.forward(observed.fed(root, arguments, *branches), root.outputs,
                              keep_for_backward={loss.output})
    return ({"%s/%s/output" % place: as_array(got[variable])
             for place, variable in wanted.items()}, (root, state, as_array(got[loss.output])))


def trained(observed, loss, arguments, *branches):
    """Every layer's output and gradient in training mode, and the gradient of every parameter.

    Returns three dicts: outputs "branch/layer/output"; gradients of outputs, the same names;
    gradients of parameters "network/layer/quantity"; then the loss of each sample.
    """
    outputs, (root, state, losses) = forward(observed, loss, arguments, *branches)
    parameters = {name: held for name, held in observed.state.items()
                  if held.is_parameter and held in set(loss.parameters)}
    taps = {place: tap for place, tap in observed.taps.items() if place[0] in branches}
    gradients = root.backward(state, {loss.output: np.ones_like(losses)},
                              set(parameters.values()) | set(taps.values()))
    return (outputs,
            {"%s/%s/output" % place: as_array(gradients[tap]) for place, tap in taps.items()},
            {name: np.array(gradients[held], np.float32).reshape(observed_shape(name, held))
             for name, held in parameters.items()},
            losses.ravel())


def observed_shape(name, held):
    return (held.shape[0],) if name.endswith("/bias") else held.shape


def optimizer_values(observed, trainers):
    """m, v and the counter of both learners: name to array."""
    made = {}
    by_uid = {held.uid: name for name, held in observed.state.items() if held.is_parameter}
    for network, trainer in zip(("generator", "discriminator"), trainers):
        counter, moments = learner_state(trainer.parameter_learners[0])
        for uid, (m, v) in moments.items():
            name, shape = by_uid[uid], observed.state
            held = shape[name]
            made[name + "_m"] = m.reshape(observed_shape(name, held))
            made[name + "_v"] = v.reshape(observed_shape(name, held))
        made[network + "/learner/minibatches"] = np.array(counter, np.int64)
    return made


# ------------------------------------------------------------------------------------- the probes


def probe_reader(writer, plan):
    with tempfile.TemporaryDirectory() as folder:
        reader = program.create_reader(probes.reader_probe(plan, folder), True, plan.seed)
        for i in range(probes.READER_MINIBATCHES):
            batch = reader.next_minibatch(plan.minibatch_size)[reader.streams.images]
            writer.add("reader/probe/minibatch%02d/images" % i, pixels(batch))


def pixels(batch):
    return batch.data.asarray().reshape((-1, program.img_channel, program.img_height,
                                         program.img_width))


def probe_optimizer(writer, plan):
    """The program's learner on given gradients: the loss is sum(parameter * input)."""
    initial, gradients = probes.optimizer_probe(plan)
    parameters = {name: C.parameter(value.shape, init=value) for name, value in initial.items()}
    inputs = {name: C.input_variable(value.shape) for name, value in initial.items()}
    loss = sum((C.reduce_sum(parameters[name] * inputs[name]) for name in sorted(initial)),
               C.constant(0.0))
    learner = program.create_learner(loss.parameters, plan.minibatch_size, bool(plan.unit_gain))
    trainer = C.Trainer(loss, (loss, None), [learner])
    for step in range(probes.OPTIMIZER_STEPS):
        batch = {}
        for name in initial:  # one sample carries the whole gradient: the sum is exact
            value = np.zeros((plan.minibatch_size,) + initial[name].shape, np.float32)
            value[step % plan.minibatch_size] = gradients[name][step]
            batch[inputs[name]] = value
        trainer.train_minibatch(batch)
        for name, parameter in parameters.items():
            writer.add("optimizer/probe/%s/step%02d" % (name, step + 1), parameter.value)


def probe_normalisation(writer, plan):
    """A layer as the program makes it, from its start."""
    x = C.input_variable(probes.NORMALISATION_SHAPE)
    with C.layers.default_options(map_rank=1, use_cntk_engine=True):
        y = program.BatchNormalization()(x)
    held = {QUANTITY[c.name]: c.as_constant() for c in y.root_function.inputs
            if c.is_constant and c.name in QUANTITY}
    for i, values in enumerate(probes.normalisation_probe(plan)):
        y.forward({x: values}, [y.output], keep_for_backward={y.output})
        for quantity in ("running_mean", "running_variance", "sample_count"):
            value = np.array(held[quantity].value, np.float32)
            writer.add("normalisation/probe/minibatch%02d/%s" % (i, quantity),
                       np.int64(value) if quantity == "sample_count" else value)


def probe_pointwise(writer):
    logits, logarithms = probes.logits_probe(), probes.logarithms_probe()
    functions = [
        ("sigmoid", C.sigmoid, logits), ("relu", C.relu, logits),
        ("leaky_relu", lambda x: C.leaky_relu(x, 0.2), logits), ("log", C.log, logarithms),
        ("loss_of_real", lambda x: -C.log(C.sigmoid(x)), logits),
        ("loss_of_fake", lambda x: -C.log(1.0 - C.sigmoid(x)), logits),
    ]
    for name, function, values in functions:
        x = C.input_variable((1,), needs_gradient=True)
        y = function(x)
        batch = values.reshape(-1, 1)
        writer.add("pointwise/probe/%s/output" % name, np.ravel(y.eval({x: batch})))
        writer.add("pointwise/probe/%s/gradient" % name,
                   np.ravel(y.grad({x: batch}, wrt=[x])))


# --------------------------------------------------------------------------------------- the jobs


def layers_job(writer, plan, note):
    note("CNTK: reader, optimizer and pointwise functions")
    probe_reader(writer, plan)
    probe_optimizer(writer, plan)
    probe_normalisation(writer, plan)
    probe_pointwise(writer)

    note("CNTK: initial weights")
    observed = Observed(plan.seed)
    for name, value in observed.values().items():
        writer.add("initial/" + name, value)
    writer.fact("parameters", facts_of_parameters(observed))

    reader = program.create_reader(plan.map_file, True, plan.seed)
    latents = Latents(plan.seed)
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
    for name, function in (("generator", networks.G_fake), ("discriminator", networks.D_real)):
        path = os.path.join(writer.folder, name)
        program.save_function(function, path + ".model")
        with program.quiet_stderr():  # the exporter's remarks
            program.save_function(function, path + ".onnx", C.ModelFormat.ONNX)

    batch = reader.next_minibatch(plan.minibatch_size)[reader.streams.images]
    x = pixels(batch)
    z_d, z_g = latents.next(plan.minibatch_size), latents.next(plan.minibatch_size)
    z_score = Latents((plan.seed + 1) % (LARGEST_SEED + 1)).next(plan.score_images)
    for name, value in (("reader/images", x), ("d_step/latents", z_d), ("g_step/latents", z_g),
                        ("score/latents", z_score)):
        writer.add("input/" + name, value)

    note("CNTK: every layer in evaluation mode")
    tapped = Observed(plan.seed, tapped=True)
    tapped.set_values(state)
    got = every_layer_evaluated(tapped, x, z_d)
    for name, value in got.items():
        writer.add("forward/evaluation/" + name, value)
    writer.fact("evaluation_nudged", moved_by_a_nudge(tapped, got, x, z_d))
    writer.fact("evaluation_changes", probes.changed(state, tapped.values()))
    writer.add("score/generator/tanh7/images", np.concatenate([
        as_array(networks.G_fake.eval({networks.z: part}))
        for part in np.array_split(z_score, -(-len(z_score) // 8))]))

    note("CNTK: every layer in training mode, and its gradients")
    both = ("generator", "discriminator_real", "discriminator_fake")
    outputs, gradients, parameters, losses = trained(
        tapped, tapped.networks.D_loss, {tapped.networks.x: x, tapped.networks.z: z_d}, *both)
    for name, value in outputs.items():
        writer.add("forward/training/" + name, value)
    record_gradients(writer, "gradient/d", gradients, parameters, losses, "discriminator")
    writer.fact("unsteadiness", unsteadiness(tapped, outputs, x, z_d, state, both))
    del got, outputs, gradients, parameters

    note("CNTK: one step of the discriminator, one of the generator")
    trainers[1].train_minibatch({networks.x: batch.data, networks.z: z_d})
    after_d = observed.values(), optimizer_values(observed, trainers)
    for values in after_d:
        for name, value in probes.of_step(values, "discriminator"):
            writer.add("step/0001/after_d/" + name, value)
    writer.add("step/0001/after_d/loss/d/mean",
               np.float32(trainers[1].previous_minibatch_loss_average))
    between = dict(after_d[0], **after_d[1])
    events = probes.events("d_step", dict(state, **moments), between)
    tapped.set_values(after_d[0])
    del state, moments, after_d
    outputs, gradients, parameters, losses = trained(
        tapped, tapped.networks.G_loss, {tapped.networks.z: z_g}, "generator", "discriminator_fake")
    for name, value in outputs.items():
        writer.add("forward/g_step/" + name, value)
    record_gradients(writer, "gradient/g", gradients, parameters, losses, "generator")
    del tapped, outputs, gradients, parameters

    trainers[0].train_minibatch({networks.z: z_g})
    after_g = observed.values(), optimizer_values(observed, trainers)
    for values in after_g:
        for name, value in probes.of_step(values, "generator"):
            writer.add("step/0001/after_g/" + name, value)
    writer.add("step/0001/after_g/loss/g/mean",
               np.float32(trainers[0].previous_minibatch_loss_average))
    events += probes.events("g_step", between, dict(after_g[0], **after_g[1]))
    writer.fact("ledger", events)


def every_layer_evaluated(observed, x, z):
    got = evaluated(observed, {observed.networks.z: z}, "generator", "discriminator_fake")
    got.update(evaluated(observed, {observed.networks.x: x}, "discriminator_real"))
    return got


def moved_by_a_nudge(observed, outputs, x, z):
    """How far each layer's output in evaluation mode moves when every pixel and latent is moved by
    one ULP, the largest of NUDGES times: place to {"error": root mean square as a part of the
    layer's own, "largest": absolute}. (Several, for the logits: there is one a sample, and one
    number may stay where it was by chance.)"""
    made = {name: {"error": 0.0, "largest": 0.0} for name in outputs}
    for seed in range(NUDGES):
        moved = every_layer_evaluated(observed, probes.moved_by_one_ulp(x, 2 * seed + 1),
                                      probes.moved_by_one_ulp(z, 2 * seed + 2))
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
        "nudged": again(probes.moved_by_one_ulp(x, 1), probes.moved_by_one_ulp(z, 2), everything)}


def record_gradients(writer, stage, of_outputs, of_parameters, losses, network):
    for name, value in of_outputs.items():
        if not name.startswith("generator") or network == "generator":
            writer.add("%s/%s" % (stage, name), value)
    for name, value in of_parameters.items():
        if name.startswith(network + "/"):
            writer.add("%s/%s" % (stage, name), value)
    writer.add("%s/loss/samples/value" % stage, losses)


def warm_up(writer, plan, observed, trainers, reader, latents, note):
    """Some iterations of the article's program; the minibatches are recorded by their hashes."""
    note("CNTK: %d iterations of the article's program" % plan.warmup_iterations)
    networks, hashes, losses = observed.networks, [], []
    watched = _Watched(reader, hashes)
    for i, (G_loss, D_loss, _) in enumerate(program.iterate(
            networks, trainers, watched, latents, plan.minibatch_size), 1):
        losses.append([D_loss, G_loss])
        if i == plan.warmup_iterations:
            break
    writer.fact("warmup_minibatches", hashes)
    writer.fact("warmup_losses", losses)


class _Watched:
    """A reader whose minibatches' hashes are kept."""

    def __init__(self, reader, hashes):
        self.reader, self.streams, self.hashes = reader, reader.streams, hashes

    def next_minibatch(self, *arguments, **named):
        batch = self.reader.next_minibatch(*arguments, **named)
        (data,) = batch.values()
        self.hashes.append(hashlib.sha256(pixels(data).tobytes()).hexdigest())
        return batch


def scaled(observed, factor):
    """Every weight of a convolution times a power of two: larger or smaller activations."""
    for name, held in observed.state.items():
        if name.endswith("/weight"):
            held.value = held.value * np.float32(factor)


def facts_of_parameters(observed):
    """Counts, and which parameters the fake branch shares with the real one."""
    networks = observed.networks
    real = {p.uid for p in networks.D_real.parameters}
    fake = {p.uid for p in networks.D_fake.parameters}
    generator = {p.uid for p in networks.G_fake.parameters}
    constants = ({c.uid for c in networks.D_real.constants if c.name in QUANTITY},
                 {c.uid for c in networks.D_fake.constants if c.name in QUANTITY})
    return {
        "generator": int(sum(np.prod(p.shape) for p in networks.G_fake.parameters)),
        "discriminator": int(sum(np.prod(p.shape) for p in networks.D_real.parameters)),
        "shared_parameters": len(real & fake), "discriminator_parameters": len(real),
        "fake_branch_parameters_of_its_own": len(fake - real - generator),
        "shared_statistics": len(constants[0] & constants[1]),
        "discriminator_statistics": len(constants[0]),
        "layers": [[branch, name, list(h.shape)] for branch in sorted(observed.layers)
                   for name, h in observed.layers[branch].items()],
    }


def twin_job(writer, plan, note, nudge):
    observed = Observed(plan.seed)
    if nudge:
        for name, held in observed.state.items():
            if name.endswith("/weight"):
                held.value = probes.moved_by_one_ulp(held.value, nudge)
    writer.fact("initial_sha256", {
        name: hashlib.sha256(value.tobytes()).hexdigest()
        for name, value in observed.values().items()})
    size = plan.twin_minibatch_size
    reader, hashes = program.create_reader(plan.map_file, True, plan.seed), []
    trainers = program.create_trainers(observed.networks, size, bool(plan.unit_gain))
    steps = program.iterate(observed.networks, trainers, _Watched(reader, hashes),
                            Latents(plan.seed), size)
    losses, samples = [], []
    weights = [name for name in observed.state if name.endswith(("/weight", "/scale", "/bias"))]
    for i in range(plan.twin_iterations):
        note("CNTK: twin run%s, iteration %d of %d" % (
            " from weights moved by one ULP (%d)" % nudge if nudge else "", i + 1,
            plan.twin_iterations), i, plan.twin_iterations)
        G_loss, D_loss, _ = next(steps)
        losses.append([D_loss, G_loss])
        samples.append(np.concatenate([probes.sampled(observed.state[name].value)
                                       for name in weights]))
    writer.add("twin/run/losses/d_and_g", np.array(losses, np.float64))
    writer.add("twin/run/weights/sampled", np.array(samples, np.float32))
    writer.fact("minibatch_sha256", hashes)
    writer.fact("sampled", weights)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", required=True, help="what to run, as `parity` wrote it")
    parser.add_argument("--output", required=True, help="folder of the capture; replaced")
    parser.add_argument("--job", choices=("layers", "twin"), default="layers")
    parser.add_argument("--nudge", type=int, default=0,
                        help="twin: move the initial weights by one ULP, by a coin of this seed")
    options = parser.parse_args(arguments)
    started = time.time()

    def note(text, done=0, total=0):
        sys.stdout.write("progress\t%d\t%d\t%s\n" % (done, total, text))
        sys.stdout.flush()

    try:
        plan = Plan.load(options.plan)
        checked_map_file(plan.map_file)
        versions = {"cntk": C.__version__, "numpy": np.__version__}
        with CaptureWriter(options.output, "cntk", plan, versions, plan.threads) as writer:
            if options.job == "layers":
                layers_job(writer, plan, note)
            else:
                twin_job(writer, plan, note, options.nudge)
            writer.fact("seconds", time.time() - started)
            writer.fact("job", options.job)
    except (BadInput, PlanError, CaptureError) as error:
        sys.stderr.write("error: %s\n" % error)
        return 2
    except (OSError, IOError) as error:
        sys.stderr.write("error: %s cannot be written (%s): free space there or choose another "
                         "folder\n" % (error.filename or options.output, error.strerror or error))
        return 2
    except RuntimeError as error:
        sys.stderr.write("error: CNTK stopped: %s\n" % program.first_line(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
