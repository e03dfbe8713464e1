"""What the port does from the plan alone: initial weights, reader, and the probes."""
import contextlib
import hashlib
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from captures import probes as probe_inputs
from captures.format import CaptureWriter
from captures.plan import Plan
from torch_port import activations, losses
from torch_port.batch_norm import BatchNormalization
from torch_port.capture.layers import values
from torch_port.capture.recorder import numbers
from torch_port.dcgan import Networks, networks_from_seed
from torch_port.layers import Each
from torch_port.normal_initializer import draw_with_ledger, seeds_for
from torch_port.reader.reader import ImageReader
from torch_port.train.steps import create_optimizer


def from_the_seed(writer: CaptureWriter, plan: Plan) -> None:
    networks = networks_from_seed(plan.seed, plan.spec)
    for name, value in values(networks).items():
        writer.add(f"initial/{name}", value)
    writer.fact("parameters", facts_of_parameters(networks))


def image_reader(plan: Plan, map_file: str, minibatches: int) -> ImageReader:
    _, height, width = plan.spec.critic.input
    return ImageReader(map_file, plan.minibatch_size, randomization_seed=plan.seed, width=width,
                       height=height, stop_step=minibatches)


def probe_reader(writer: CaptureWriter, plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        reader = image_reader(plan, probe_inputs.reader_probe(plan, folder),
                              probe_inputs.READER_MINIBATCHES)
        for i, x in enumerate(reader):
            writer.add(f"reader/probe/minibatch{i:02d}/images", x.numpy())
    reader = image_reader(plan, plan.map_file, plan.warmup_iterations + 1)
    hashes = []
    for x in reader:
        images = x.numpy().copy()
        hashes.append(hashlib.sha256(images.tobytes()).hexdigest())
    writer.fact("warmup_minibatches", hashes[:-1])
    writer.add("input/reader/images", images)


def probe_optimizer(writer: CaptureWriter, plan: Plan) -> None:
    initial, gradients = probe_inputs.optimizer_probe(plan)
    parameters = {name: torch.nn.Parameter(torch.from_numpy(value))
                  for name, value in initial.items()}
    optimizer = create_optimizer(parameters.values(), plan.minibatch_size, bool(plan.unit_gain))
    for step in range(probe_inputs.OPTIMIZER_STEPS):
        for name, p in parameters.items():
            p.grad = torch.from_numpy(gradients[name][step])
        optimizer.step(samples=plan.minibatch_size)
        for name, p in parameters.items():
            writer.add(f"optimizer/probe/{name}/step{step + 1:02d}", numbers(p))


def probe_normalisation(writer: CaptureWriter, plan: Plan) -> None:
    layer = BatchNormalization(probe_inputs.NORMALISATION_SHAPE[0], plan.spec.time_constant,
                               plan.spec.epsilon).train()
    for i, x in enumerate(probe_inputs.normalisation_probe(plan)):
        with torch.no_grad():
            layer(torch.from_numpy(x))
        for quantity, value in layer.named_buffers():
            writer.add(f"normalisation/probe/minibatch{i:02d}/{quantity}", numbers(value))


def probe_pointwise(writer: CaptureWriter, plan: Plan) -> None:
    logits, logarithms = probe_inputs.logits_probe(), probe_inputs.logarithms_probe()
    one = torch.ones(len(logits))  # log 1 is 0: the other term of the discriminator's loss
    functions: list[tuple[str, Callable[[Tensor], Tensor], np.ndarray]] = [
        ("sigmoid", activations.sigmoid, logits), ("relu", activations.relu, logits),
        ("leaky_relu", lambda x: activations.leaky_relu(x, plan.spec.slope), logits),
        ("log", activations.cntk_log, logarithms),
        ("loss_of_real", lambda x: losses.generator_loss(activations.sigmoid(x)), logits),
        ("loss_of_fake", lambda x: losses.discriminator_loss(one, activations.sigmoid(x)), logits),
    ]
    for name, function, points in functions:
        x = torch.from_numpy(points).requires_grad_()
        y = function(x)
        y.sum().backward()
        assert x.grad is not None
        writer.add(f"pointwise/probe/{name}/output", numbers(y))
        writer.add(f"pointwise/probe/{name}/gradient", numbers(x.grad))


def facts_of_parameters(networks: Networks) -> dict[str, object]:
    spec, shapes = networks.spec, list[list[object]]()

    def watch(branch: str) -> Each:
        def each(name: str, h: Tensor) -> Tensor:
            shapes.append([branch, name, list(h.shape[1:])])
            return h
        return each

    # A layer that does not take its input ends the table: the structure stage names it.
    with torch.no_grad(), contextlib.suppress(RuntimeError):
        copy = Networks(spec).eval()
        copy.discriminator(torch.zeros(1, *spec.critic.input), watch(spec.real))
        fake = copy.generator(torch.zeros(1, *spec.maker.input), watch(spec.maker.name))
        copy.discriminator(fake, watch(spec.fake))
    parameters = list(networks.discriminator.parameters())
    in_all = sum(1 for _ in networks.buffers()) - sum(1 for _ in networks.generator.buffers())
    return {
        "counts": {network.name: sum(p.numel() for p in networks.get_submodule(
            network.name).parameters()) for network in spec.networks},
        # One module is called for both branches: what it holds is shared, there is nothing else.
        "shared_parameters": len(parameters), "critics_parameters": len(parameters),
        "fake_branch_parameters_of_its_own":
            sum(1 for _ in networks.parameters()) - len(parameters)
            - sum(1 for _ in networks.generator.parameters()),
        "shared_statistics": sum(1 for _ in networks.discriminator.buffers()),
        "critics_statistics": in_all,
        "layers": shapes,
    }


def seed_part(writer: CaptureWriter, plan: Plan) -> None:
    """What the port does from the seed and the plan alone."""
    from_the_seed(writer, plan)
    order = plan.spec.creation_order
    _, ledger = draw_with_ledger(order, seeds_for(plan.seed, len(order)), plan.spec.deviation)
    writer.fact("initial_ledger", [[entry.name, entry.seed, list(entry.shape), entry.drawn,
                                    entry.sha256] for entry in ledger])
    probe_reader(writer, plan)
    probe_optimizer(writer, plan)
    probe_normalisation(writer, plan)
    probe_pointwise(writer, plan)
