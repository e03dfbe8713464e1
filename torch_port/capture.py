"""Runs the port for a plan, beside a reference capture, and writes what it did as a capture.

    python -m torch_port.capture --plan PLAN.json --reference CNTK_CAPTURE --output FOLDER
                                 [--job layers|twin] [--dtype float32|float64]

float64 is the oracle: the same code in double precision from the same float32 inputs.

What the port does from the seed alone (initial weights, reader, twin run) it does without looking
at the reference. Layers, gradients and steps begin at the reference's state, which comes in from
CNTK's model files, and take the reference's images, so that a difference there is not inherited
from somewhere else. Each layer is run twice:

* in the chain: on what the port's own layer before it gave;
* on its own (``local/...``): on the reference's tensor, so what differs was born in this layer. The
  same backwards: the reference's gradient of the layer's output goes in.
"""
import argparse
import contextlib
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parity import probes
from parity.capture_format import Capture, CaptureError, CaptureWriter
from parity.plan import Plan, PlanError
from torch_port import losses
from torch_port.adam import CNTKAdam
from torch_port.batch_norm import BatchNormalization
from torch_port.cntk_model import read_model
from torch_port.convolution import ask_mkl
from torch_port.image_reader import ImageReader
from torch_port.native import CompilerError
from torch_port.networks import (
    Each,
    Networks,
    empty_networks,
    networks_from_seed,
    normalized,
)
from torch_port.normal_initializer import CREATION_ORDER, draw_with_ledger, seeds_for
from torch_port.onnx_export import export
from torch_port.training import (
    Run,
    as_cntk_rounds,
    backward,
    create_optimizer,
    create_optimizers,
    discriminator_losses,
    discriminator_step,
    generator_losses,
    generator_step,
)

BOTH = ("discriminator_real", "discriminator_fake")
Note = Callable[[str, int, int], None]


def values(networks: Networks) -> dict[str, np.ndarray]:
    """Every parameter and statistic, copied: name of the captures to array."""
    return {name: tensor.detach().numpy().copy() for name, tensor in networks.arrays().items()}


def optimizer_values(networks: Networks, optimizers: Sequence[CNTKAdam]) -> dict[str, np.ndarray]:
    """m and v of every parameter, and each optimizer's counter."""
    made = {}
    for network, optimizer in zip(("generator", "discriminator"), optimizers, strict=True):
        for name, p in networks.get_submodule(network).named_parameters():
            state = optimizer.state[p]
            for key in ("m", "v"):
                made[f"{network}/{name.replace('.', '/')}_{key}"] = state[key].numpy().copy()
        made[f"{network}/learner/minibatches"] = np.array(
            optimizer.param_groups[0]["minibatches"], np.int64)
    return made


def load_optimizers(networks: Networks, optimizers: Sequence[CNTKAdam], reference: Capture,
                    stage: str) -> None:
    """m, v and the counters from the reference's arrays."""
    for network, optimizer in zip(("generator", "discriminator"), optimizers, strict=True):
        for name, p in networks.get_submodule(network).named_parameters():
            place = f"{stage}/{network}/{name.replace('.', '/')}"
            optimizer.state[p] = {key: torch.from_numpy(reference[f"{place}_{key}"]).to(p.dtype)
                                  for key in ("m", "v")}
        optimizer.param_groups[0]["minibatches"] = int(reference[f"{stage}/{network}/learner/"
                                                                 "minibatches"])


class Recorder:
    """Keeps every layer's output by ``branch/layer/output``, and its gradient if there is one."""

    def __init__(self) -> None:
        self.outputs: dict[str, Tensor] = {}

    def branch(self, branch: str) -> Each:
        def each(name: str, h: Tensor) -> Tensor:
            self.outputs[f"{branch}/{name}/output"] = h
            if h.requires_grad:
                h.retain_grad()
            return h
        return each

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: h.detach().numpy() for name, h in self.outputs.items()}

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: h.grad.numpy() for name, h in self.outputs.items() if h.grad is not None}


class Replacer(Recorder):
    """Keeps every layer's output, and has the reference's go on in its place.

    given: ``branch/layer/output`` to the reference's array.
    """

    def __init__(self, given: Callable[[str], np.ndarray], dtype: torch.dtype) -> None:
        super().__init__()
        self.given, self.dtype = given, dtype
        self.replaced: dict[str, Tensor] = {}

    def branch(self, branch: str) -> Each:
        def each(name: str, h: Tensor) -> Tensor:
            place = f"{branch}/{name}/output"
            self.outputs[place] = h
            leaf = torch.from_numpy(self.given(place)).to(self.dtype)
            self.replaced[place] = leaf.requires_grad_(torch.is_grad_enabled())
            return leaf
        return each

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: leaf.grad.numpy() for name, leaf in self.replaced.items()
                if leaf.grad is not None}


class Layers:
    """The comparison's part that begins at the reference's state."""

    def __init__(self, reference: Capture, plan: Plan, dtype: torch.dtype,
                 writer: CaptureWriter) -> None:
        self.reference, self.plan, self.dtype, self.writer = reference, plan, dtype, writer
        self.x = self.given("input/reader/images")
        self.z_d, self.z_g = (self.given(f"input/{step}/latents") for step in ("d_step", "g_step"))

    def given(self, name: str) -> Tensor:
        return torch.from_numpy(self.reference[name]).to(self.dtype)

    def networks(self, stage: str = "state") -> Networks:
        """In the reference's state; its model files' where that is the state."""
        made = empty_networks()
        made.load(self._state if stage == "state" else {
            name: self.reference[self._at(stage, name, "state")] for name in made.arrays()})
        return made.to(self.dtype)

    @cached_property
    def _state(self) -> dict[str, np.ndarray]:
        folder = Path(self.reference.folder)
        return {name: array for network in ("generator", "discriminator")
                for name, array in read_model(folder / f"{network}.model", network).items()}

    def _at(self, stage: str, name: str, otherwise: str) -> str:
        """A step's array, or that of before where the step cannot move it."""
        place = f"{stage}/{name}"
        return place if place in self.reference else f"{otherwise}/{name}"

    def add(self, stage: str, arrays: dict[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            self.writer.add(f"{stage}/{name}", array)

    @torch.no_grad()
    def evaluation(self) -> None:
        networks = self.networks().eval()
        before = values(networks)
        if self.dtype == torch.float32:
            self.add("state", before)
        chain = Recorder()
        fake = networks.generator(self.z_d, chain.branch("generator"))
        networks.discriminator(fake, chain.branch("discriminator_fake"))
        networks.discriminator(normalized(self.x), chain.branch("discriminator_real"))
        self.add("forward/evaluation", chain.arrays())
        self.writer.fact("evaluation_changes", probes.changed(before, values(networks)))
        self._local(networks, "forward/evaluation")
        if self.dtype == torch.float32:
            export(networks, Path(self.writer.folder), self.plan.minibatch_size)
        z = torch.split(self.given("input/score/latents"), 8)
        self.writer.add("score/generator/tanh7/images", np.concatenate(
            [networks.generator(part).to(torch.float32).numpy() for part in z]))

    def _local(self, networks: Networks, stage: str) -> None:
        local = Replacer(lambda place: self.reference[f"{stage}/{place}"], self.dtype)
        fake = networks.generator(self.z_d, local.branch("generator"))
        networks.discriminator(fake, local.branch("discriminator_fake"))
        networks.discriminator(normalized(self.x), local.branch("discriminator_real"))
        self.add(f"local/{stage}", local.arrays())

    def training_d(self) -> None:
        """The D step's forward and backward: every layer's output and every gradient of D."""
        networks = self.networks().train()
        chain = Recorder()
        with torch.no_grad():
            networks.generator(self.z_d, chain.branch("generator"))
            self.add("forward/training", chain.arrays())
        networks = self.networks().train()
        chain = Recorder()
        samples = discriminator_losses(networks, self.x, self.z_d,
                                       *(chain.branch(branch) for branch in BOTH))
        backward(samples, networks.discriminator)
        self.add("forward/training", chain.arrays())
        self._gradients("gradient/d", chain, networks, "discriminator", samples)
        with torch.no_grad():
            self._local(self.networks().train(), "forward/training")
        self._local_gradients("gradient/d", "forward/training")

    def training_g(self) -> None:
        """The G step's, from the reference's state after its D step."""
        networks = self.networks("step/0001/after_d").train()
        chain = Recorder()
        samples, _ = generator_losses(networks, self.z_g, chain.branch("generator"),
                                      chain.branch("discriminator_fake"))
        backward(samples, networks.generator)
        self.add("forward/g_step", chain.arrays())
        self._gradients("gradient/g", chain, networks, "generator", samples)
        self._local_gradients("gradient/g", "forward/g_step")

    def _gradients(self, stage: str, chain: Recorder, networks: Networks, network: str,
                   samples: Tensor) -> None:
        self.add(stage, chain.gradients())
        self.add(stage, parameter_gradients(networks, network))
        self.writer.add(f"{stage}/loss/samples/value", samples.detach().numpy())

    def _local_gradients(self, stage: str, forward: str) -> None:
        """Each layer's vector-Jacobian product on the reference's tensors: its input from the
        forward pass, the gradient of its output from the backward pass."""
        d_step = stage == "gradient/d"
        networks = self.networks("state" if d_step else "step/0001/after_d").train()
        local = Replacer(lambda place: self.reference[f"{forward}/{place}"], self.dtype)
        each = local.branch
        if d_step:
            with torch.no_grad():
                fake = self.given(f"{forward}/generator/tanh7/output")
            real = networks.discriminator(normalized(self.x), each("discriminator_real"))
            fake = networks.discriminator(fake, each("discriminator_fake"))
            samples = losses.discriminator_loss(real, fake)
        else:
            fake = networks.generator(self.z_g, each("generator"))
            samples = losses.generator_loss(
                networks.discriminator(fake, each("discriminator_fake")))
        given = [torch.from_numpy(self.reference[f"{stage}/{place}"]).to(self.dtype)
                 for place in local.outputs]
        torch.autograd.backward([*local.outputs.values(), samples.sum()],
                                [*given, torch.ones((), dtype=self.dtype)])
        self.add(f"local/{stage}", local.gradients())
        self.add(f"local/{stage}", parameter_gradients(
            networks, "discriminator" if d_step else "generator"))
        self.writer.add(f"local/{stage}/loss/samples/value", samples.detach().numpy())

    def steps(self) -> None:
        """One D step and one G step with the program's own functions; then the optimizers alone on
        the reference's gradients."""
        networks = self.networks().train()
        optimizers = create_optimizers(networks, self.plan.minibatch_size,
                                       bool(self.plan.unit_gain))
        load_optimizers(networks, optimizers, self.reference, "optimizer/state")
        states = [{**values(networks), **optimizer_values(networks, optimizers)}]
        mean = discriminator_step(networks, optimizers[1], self.x, self.z_d)
        states.append({**values(networks), **optimizer_values(networks, optimizers)})
        self.add("step/0001/after_d", dict(probes.of_step(states[-1], "discriminator")))
        self.writer.add("step/0001/after_d/loss/d/mean", np.float32(mean))
        mean, _ = generator_step(networks, optimizers[0], self.z_g)
        states.append({**values(networks), **optimizer_values(networks, optimizers)})
        self.add("step/0001/after_g", dict(probes.of_step(states[-1], "generator")))
        self.writer.add("step/0001/after_g/loss/g/mean", np.float32(mean))
        self.writer.fact("ledger", probes.ledger(states))
        if self.dtype == torch.float32:
            self._optimizer_alone()

    def _optimizer_alone(self) -> None:
        for place, network, before in ((1, "discriminator", "state"),
                                       (0, "generator", "step/0001/after_d")):
            step = ("g", "d")[place]
            networks = self.networks(before)
            optimizers = create_optimizers(networks, self.plan.minibatch_size,
                                           bool(self.plan.unit_gain))
            load_optimizers(networks, optimizers, self.reference, "optimizer/state")
            for name, p in networks.get_submodule(network).named_parameters():
                p.grad = self.given(f"gradient/{step}/{network}/{name.replace('.', '/')}")
            optimizers[place].step(samples=self.plan.minibatch_size)
            moved = {**values(networks), **optimizer_values(networks, optimizers)}
            self.add(f"local/step/0001/after_{step}", {
                name: value for name, value in moved.items()
                if name.startswith(f"{network}/") and "/running_" not in name
                and not name.endswith("/sample_count")})


def parameter_gradients(networks: Networks, network: str) -> dict[str, np.ndarray]:
    return {f"{network}/{name.replace('.', '/')}": p.grad.numpy()
            for name, p in networks.get_submodule(network).named_parameters()
            if p.grad is not None}


# --------------------------------------------------------------------------- from the seed alone


def from_the_seed(writer: CaptureWriter, plan: Plan) -> None:
    networks = networks_from_seed(plan.seed)
    for name, value in values(networks).items():
        writer.add(f"initial/{name}", value)
    writer.fact("parameters", facts_of_parameters(networks))


def probe_reader(writer: CaptureWriter, plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        reader = ImageReader(probes.reader_probe(plan, folder), plan.minibatch_size,
                             randomization_seed=plan.seed, stop_step=probes.READER_MINIBATCHES)
        for i, x in enumerate(reader):
            writer.add(f"reader/probe/minibatch{i:02d}/images", x.numpy())
    reader = ImageReader(plan.map_file, plan.minibatch_size, randomization_seed=plan.seed,
                         stop_step=plan.warmup_iterations + 1)
    hashes = []
    for x in reader:
        images = x.numpy().copy()
        hashes.append(hashlib.sha256(images.tobytes()).hexdigest())
    writer.fact("warmup_minibatches", hashes[:-1])
    writer.add("input/reader/images", images)


def probe_optimizer(writer: CaptureWriter, plan: Plan) -> None:
    initial, gradients = probes.optimizer_probe(plan)
    parameters = {name: torch.nn.Parameter(torch.from_numpy(value))
                  for name, value in initial.items()}
    optimizer = create_optimizer(parameters.values(), plan.minibatch_size, bool(plan.unit_gain))
    for step in range(probes.OPTIMIZER_STEPS):
        for name, p in parameters.items():
            p.grad = torch.from_numpy(gradients[name][step])
        optimizer.step(samples=plan.minibatch_size)
        for name, p in parameters.items():
            writer.add(f"optimizer/probe/{name}/step{step + 1:02d}", p.detach().numpy())


def probe_normalisation(writer: CaptureWriter, plan: Plan) -> None:
    layer = BatchNormalization(probes.NORMALISATION_SHAPE[0]).train()
    for i, x in enumerate(probes.normalisation_probe(plan)):
        with torch.no_grad():
            layer(torch.from_numpy(x))
        for quantity, value in layer.named_buffers():
            writer.add(f"normalisation/probe/minibatch{i:02d}/{quantity}", value.numpy())


def probe_pointwise(writer: CaptureWriter) -> None:
    logits, logarithms = probes.logits_probe(), probes.logarithms_probe()
    one = torch.ones(len(logits))  # log 1 is 0: the other term of the discriminator's loss
    functions: list[tuple[str, Callable[[Tensor], Tensor], np.ndarray]] = [
        ("sigmoid", losses.sigmoid, logits), ("relu", losses.relu, logits),
        ("leaky_relu", lambda x: losses.leaky_relu(x, 0.2), logits),
        ("log", losses.cntk_log, logarithms),
        ("loss_of_real", lambda x: losses.generator_loss(losses.sigmoid(x)), logits),
        ("loss_of_fake", lambda x: losses.discriminator_loss(one, losses.sigmoid(x)), logits),
    ]
    for name, function, points in functions:
        x = torch.from_numpy(points).requires_grad_()
        y = function(x)
        y.sum().backward()
        assert x.grad is not None
        writer.add(f"pointwise/probe/{name}/output", y.detach().numpy())
        writer.add(f"pointwise/probe/{name}/gradient", x.grad.numpy())


def facts_of_parameters(networks: Networks) -> dict[str, object]:
    shapes: list[list[object]] = []

    def watch(branch: str) -> Each:
        def each(name: str, h: Tensor) -> Tensor:
            shapes.append([branch, name, list(h.shape[1:])])
            return h
        return each

    # A layer that does not take its input ends the table: the structure stage names it.
    with torch.no_grad(), contextlib.suppress(RuntimeError):
        copy = Networks().eval()
        real = copy.discriminator(torch.zeros(1, 3, 256, 256), watch("discriminator_real"))
        del real
        fake = copy.generator(torch.zeros(1, 100), watch("generator"))
        copy.discriminator(fake, watch("discriminator_fake"))
    parameters = list(networks.discriminator.parameters())
    in_all = sum(1 for _ in networks.buffers()) - sum(1 for _ in networks.generator.buffers())
    return {
        "generator": sum(p.numel() for p in networks.generator.parameters()),
        "discriminator": sum(p.numel() for p in parameters),
        # One module is called for both branches: what it holds is shared, there is nothing else.
        "shared_parameters": len(parameters), "discriminator_parameters": len(parameters),
        "fake_branch_parameters_of_its_own":
            sum(1 for _ in networks.parameters()) - len(parameters)
            - sum(1 for _ in networks.generator.parameters()),
        "shared_statistics": sum(1 for _ in networks.discriminator.buffers()),
        "discriminator_statistics": in_all,
        "layers": shapes,
    }


def twin_job(writer: CaptureWriter, plan: Plan, note: Note) -> None:
    run = Run.from_seed(plan.seed, plan.map_file, plan.twin_minibatch_size, bool(plan.unit_gain))
    writer.fact("initial_sha256", {name: hashlib.sha256(value.tobytes()).hexdigest()
                                   for name, value in values(run.networks).items()})
    hashes: list[str] = []
    read = run.reader.minibatch

    def watched(step: int) -> Tensor:
        x = read(step)
        hashes.append(hashlib.sha256(x.numpy().tobytes()).hexdigest())
        return x

    run.reader.minibatch = watched  # type: ignore[method-assign]
    pairs, samples = [], []
    names = [name for name in run.networks.arrays()
             if name.endswith(("/weight", "/scale", "/bias"))]
    steps = run.iterations()
    for i in range(plan.twin_iterations):
        note(f"port: twin run, iteration {i + 1} of {plan.twin_iterations}", i,
             plan.twin_iterations)
        G_loss, D_loss, _ = next(steps)
        pairs.append([D_loss, G_loss])
        arrays = run.networks.arrays()
        samples.append(np.concatenate([probes.sampled(arrays[name].detach().numpy())
                                       for name in names]))
    writer.add("twin/run/losses/d_and_g", np.array(pairs, np.float64))
    writer.add("twin/run/weights/sampled", np.array(samples, np.float32))
    writer.fact("minibatch_sha256", hashes)
    writer.fact("sampled", names)


def seed_part(writer: CaptureWriter, plan: Plan) -> None:
    """What the port does from the seed and the plan alone."""
    from_the_seed(writer, plan)
    _, ledger = draw_with_ledger(CREATION_ORDER, seeds_for(plan.seed, len(CREATION_ORDER)))
    writer.fact("initial_ledger", [[entry.name, entry.seed, list(entry.shape), entry.drawn,
                                    entry.sha256] for entry in ledger])
    probe_reader(writer, plan)
    probe_optimizer(writer, plan)
    probe_normalisation(writer, plan)
    probe_pointwise(writer)


PARTS = {
    "seed": "initial weights, reader, optimizer and pointwise functions",
    "evaluation": "every layer in evaluation mode",
    "training": "every layer in training mode, and the discriminator's gradients",
    "generator": "the generator's gradients",
    "steps": "one step of the discriminator, one of the generator",
}


def layers_job(writer: CaptureWriter, plan: Plan, reference: Capture, dtype: torch.dtype,
               note: Note, parts: Sequence[str]) -> None:
    who = "port" if dtype == torch.float32 else "oracle"
    layers = Layers(reference, plan, dtype, writer)
    work: dict[str, Callable[[], None]] = {
        "seed": lambda: seed_part(writer, plan), "evaluation": layers.evaluation,
        "training": layers.training_d, "generator": layers.training_g, "steps": layers.steps}
    for i, part in enumerate(parts):
        if part == "seed" and dtype != torch.float32:
            continue  # integers and hashes: nothing to be had in double
        note(f"{who}: {PARTS[part]}", i, len(parts))
        try:
            work[part]()
        except CaptureError:
            raise
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            if part == parts[0]:
                raise
            # What a wrong port raises. What was captured so far already says where it is wrong.
            writer.fact("stopped", f"{part}: {type(error).__name__}: {str(error).splitlines()[0]}"
                        if str(error) else f"{part}: {type(error).__name__}")
            break


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m torch_port.capture",
                                     description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", required=True, help="what to run, as `parity` wrote it")
    parser.add_argument("--reference", help="CNTK's capture of the same plan; for --job layers")
    parser.add_argument("--output", required=True, help="folder of the capture; replaced")
    parser.add_argument("--job", choices=("layers", "twin"), default="layers")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--parts", default=",".join(PARTS), help="of --job layers")
    options = parser.parse_args(arguments)
    started = time.time()

    def note(text: str, done: int, total: int) -> None:
        print("progress", done, total, text, sep="\t", flush=True)

    try:
        plan = Plan.load(options.plan)
        torch.set_num_threads(plan.threads)
        if not plan.onednn:
            as_cntk_rounds()
        if plan.onednn or options.dtype == "float64":
            ask_mkl(False)  # nothing here is to have CNTK's bits
        producer = {"float32": "port", "float64": "oracle"}[options.dtype]
        with CaptureWriter(options.output, producer, plan,
                           {"torch": torch.__version__, "numpy": np.__version__},
                           plan.threads) as writer:
            if options.job == "twin":
                twin_job(writer, plan, note)
            else:
                reference = Capture(options.reference)
                layers_job(writer, plan, reference, getattr(torch, options.dtype), note,
                           options.parts.split(","))
            writer.fact("seconds", time.time() - started)
            writer.fact("job", options.job)
    except (PlanError, CaptureError, ValueError, CompilerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or options.output} cannot be written "
              f"({error.strerror or error}): free space there or choose another folder",
              file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
