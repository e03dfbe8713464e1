"""Every layer, gradient and step of the port, from the reference's state and on its tensors."""
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captures import observe
from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from torch_port import losses
from torch_port.activations import cntk_log
from torch_port.adam import CNTKAdam
from torch_port.capture import expected_rounding as expected
from torch_port.capture.carried import carried
from torch_port.capture.pictures import generated, score_pictures
from torch_port.capture.recorder import Recorder, Replacer, numbers
from torch_port.dcgan import Networks, empty_networks, normalized
from torch_port.files.model import read_model
from torch_port.onnx_export import export
from torch_port.train.steps import (
    backward,
    create_optimizers,
    discriminator_losses,
    discriminator_step,
    generator_losses,
    generator_step,
)


def values(networks: Networks) -> dict[str, np.ndarray]:
    """Every parameter and statistic, copied: name of the captures to array."""
    return {name: numbers(tensor).copy() for name, tensor in networks.arrays().items()}


def optimizer_values(networks: Networks, optimizers: Sequence[CNTKAdam]) -> dict[str, np.ndarray]:
    """m and v of every parameter, and each optimizer's counter."""
    made = {}
    for network, optimizer in zip(networks.names, optimizers, strict=True):
        for name, p in networks.get_submodule(network).named_parameters():
            state = optimizer.state[p]
            for key in ("m", "v"):
                made[f"{network}/{name.replace('.', '/')}_{key}"] = numbers(state[key]).copy()
        made[f"{network}/learner/minibatches"] = np.array(
            optimizer.param_groups[0]["minibatches"], np.int64)
    return made


def load_optimizers(networks: Networks, optimizers: Sequence[CNTKAdam],
                    reference: Mapping[str, np.ndarray], stage: str) -> None:
    """m, v and the counters from the reference's arrays."""
    for network, optimizer in zip(networks.names, optimizers, strict=True):
        for name, p in networks.get_submodule(network).named_parameters():
            place = f"{stage}/{network}/{name.replace('.', '/')}"
            optimizer.state[p] = {  # laid out as the parameter is
                key: torch.empty_like(p, requires_grad=False).copy_(
                    torch.from_numpy(reference[f"{place}_{key}"])) for key in ("m", "v")}
        optimizer.param_groups[0]["minibatches"] = int(reference[f"{stage}/{network}/learner/"
                                                                 "minibatches"])


class Layers:
    """The comparison's part that begins at the reference's state."""

    def __init__(self, reference: Mapping[str, np.ndarray], plan: Plan, dtype: torch.dtype,
                 writer: CaptureWriter, pictures: bool = False,
                 trained: Path | None = None) -> None:
        """pictures: for the score, those of every source (``pictures.py``)."""
        self.pictures, self.trained = pictures, trained
        self.carried: dict[str, float] = {}
        self.reference, self.plan, self.dtype, self.writer = reference, plan, dtype, writer
        self.spec = plan.spec
        self.x = self.given("input/reader/images")
        self.z_d, self.z_g = (self.given(f"input/{step}/latents") for step in ("d_step", "g_step"))

    def given(self, name: str) -> Tensor:
        return torch.from_numpy(self.reference[name]).to(self.dtype)

    def networks(self, stage: str = "state") -> Networks:
        """In the reference's state; its model files' where that is the state."""
        made = empty_networks(self.spec)
        made.load(self._state if stage == "state" else {
            name: self.reference[self._at(stage, name, "state")] for name in made.arrays()})
        return made.to(self.dtype)

    @cached_property
    def _state(self) -> dict[str, np.ndarray]:
        assert isinstance(self.reference, Capture)
        if self.reference.producer == "stand-in" and not self.reference.attached:
            # Without a certificate nobody has CNTK's own files: the arrays that would be in them.
            return {name: self.reference[f"state/{name}"] for name in
                    empty_networks(self.spec).arrays()}
        return {name: array for network in (one.name for one in self.spec.networks)
                for name, array in read_model(self.reference.attachment(f"{network}.model"),
                                              network, self.spec).items()}

    def _at(self, stage: str, name: str, otherwise: str) -> str:
        """A step's array, or that of before where the step cannot move it."""
        place = f"{stage}/{name}"
        return place if place in self.reference else f"{otherwise}/{name}"

    def add(self, stage: str, arrays: dict[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            self.writer.add(f"{stage}/{name}", array)

    def loaded(self, state: dict[str, np.ndarray], networks: Networks) -> None:
        """What came in from the reference's files, and the port's own files of it."""
        if self.dtype == torch.float32:
            self.add("state", state)
            try:
                paths = self._exported(networks)
            except Exception as error:  # a wrong port's, of any kind; all else is still to be had
                self.writer.fact("export_failed", first_line(error))
                return
            for path in paths.values():
                self.writer.attach(path)

    def _exported(self, networks: Networks) -> dict[str, Path]:
        """Both files, as a program exports that trains on: what the export leaves is kept."""
        networks.train()
        modes = {name: one.training for name, one in networks.named_modules()}
        before = values(networks)
        try:
            paths = export(networks, self.writer.folder, self.plan.minibatch_size)
            self.writer.fact("export_moved", [
                *observe.changed(before, values(networks)),
                *(f"{name}, in another mode" for name, one in networks.named_modules()
                  if name and one.training != modes[name])])
        finally:
            networks.eval()
        return paths

    def on_their_own(self, run: Callable[[], None]) -> None:
        """Each layer, gradient or optimizer on the reference's tensors."""
        run()

    @torch.no_grad()
    def evaluation(self) -> None:
        networks = self.networks().eval()
        before = values(networks)
        self.loaded(before, networks)
        chain = Recorder()
        self._forward(networks, chain)
        self.add("forward/evaluation", chain.arrays())
        self.writer.fact("evaluation_changes", observe.changed(before, values(networks)))
        self.on_their_own(lambda: self._local(networks, "forward/evaluation"))
        self._carried("forward/evaluation", "state", "", {"z": self.z_d, "x": self.pixels()})
        if self.dtype == torch.float64:
            return  # no stage compares pictures with the oracle's
        z = self.given("input/score/latents")
        if self.pictures:
            score_pictures(self.writer, self.plan, networks.generator, z, self.trained)
        else:
            self.writer.add(self.spec.images, numbers(generated(networks.generator, z)))

    @torch.no_grad()
    def _local(self, networks: Networks, stage: str) -> None:
        local = Replacer(lambda place: self.reference[f"{stage}/{place}"], self.dtype)
        self._forward(networks, local)
        self.add(f"local/{stage}", local.arrays())
        if self.dtype == torch.float64:
            first = {self.spec.maker.name: self.z_d, self.spec.real: self.pixels()}
            self._add_expected(stage, expected.outputs(self.spec, networks, local, first))

    @property
    def _images(self) -> str:
        """The place whose output the fake branch takes."""
        return f"{self.spec.maker.name}/{self.spec.maker.last}/output"

    def _add_expected(self, stage: str, made: dict[str, Tensor]) -> None:
        """What a float32 program may be off by, beside each array of the oracle's."""
        for name, tensor in made.items():
            self.writer.add(f"rounding/{stage}/{name}", tensor.float().numpy())

    def _carried(self, forward: str, state: str, step: str, inputs: dict[str, Tensor]) -> None:
        """How far rounding moves the oracle's own chain: the fact "carried_rounding"."""
        if self.dtype != torch.float64:
            return

        def made() -> Networks:
            networks = self.networks(state)
            return networks.train() if step else networks.eval()

        self.carried.update(carried(self.spec, made, self.writer.read_again, inputs, forward, step))
        self.writer.fact("carried_rounding", self.carried)

    def _forward(self, networks: Networks, watched: Recorder) -> None:
        """All three branches."""
        fake = networks.generator(self.z_d, watched.branch(self.spec.maker.name))
        networks.discriminator(fake, watched.branch(self.spec.fake, self._images))
        networks.discriminator(self.pixels(), watched.branch(self.spec.real))

    def pixels(self) -> Tensor:
        return normalized(self.x, self.spec.middle)

    def training_d(self) -> None:
        """The D step's forward and backward: every layer's output and every gradient of D."""
        networks = self.networks().train()
        chain = Recorder()
        with torch.no_grad():
            networks.generator(self.z_d, chain.branch(self.spec.maker.name))
            self.add("forward/training", chain.arrays())
        networks = self.networks().train()
        chain = Recorder()
        samples = discriminator_losses(networks, self.x, self.z_d,
                                       chain.branch(self.spec.real),
                                       chain.branch(self.spec.fake))
        backward(samples, networks.discriminator)
        self.add("forward/training", chain.arrays())
        self._gradients("d", chain, networks, samples)
        self.on_their_own(self._training_on_its_own)

    def _training_on_its_own(self) -> None:
        self._local(self.networks().train(), "forward/training")
        self._local_gradients("gradient/d", "forward/training")
        self._carried("forward/training", "state", "d", {"z": self.z_d, "x": self.pixels()})

    def training_g(self) -> None:
        """The G step's, from the reference's state after its D step."""
        networks = self.networks("step/0001/after_d").train()
        chain = Recorder()
        samples, _ = generator_losses(networks, self.z_g, chain.branch(self.spec.maker.name),
                                      chain.branch(self.spec.fake))
        backward(samples, networks.generator)
        self.add("forward/g_step", chain.arrays())
        self._gradients("g", chain, networks, samples)
        self.on_their_own(lambda: self._local_gradients("gradient/g", "forward/g_step"))
        self._carried("forward/g_step", "step/0001/after_d", "g", {"z": self.z_g})

    def _gradients(self, step: str, chain: Recorder, networks: Networks, samples: Tensor) -> None:
        stage, network = f"gradient/{step}", self.spec.learns(step).name
        self.add(stage, chain.gradients())
        self.add(stage, parameter_gradients(networks, network))
        self.writer.add(f"{stage}/loss/samples/value", numbers(samples))

    def _local_gradients(self, stage: str, forward: str) -> None:
        """Each layer's vector-Jacobian product on the reference's tensors: its input from the
        forward pass, the gradient of its output from the backward pass."""
        d_step = stage == "gradient/d"
        networks = self.networks("state" if d_step else "step/0001/after_d").train()
        local = Replacer(lambda place: self.reference[f"{forward}/{place}"], self.dtype)
        each = local.branch
        if d_step:
            with torch.no_grad():
                fake = self.given(f"{forward}/{self.spec.maker.name}/{self.spec.maker.last}/output")
            real = networks.discriminator(self.pixels(), each(self.spec.real))
            fake = networks.discriminator(fake, each(self.spec.fake))
            samples = losses.discriminator_loss(real, fake)
            terms = [cntk_log(real.flatten()), cntk_log(1 - fake.flatten())]
        else:
            fake = networks.generator(self.z_g, each(self.spec.maker.name))
            fake = networks.discriminator(fake, each(self.spec.fake, self._images))
            samples = losses.generator_loss(fake)
            terms = [cntk_log(fake.flatten())]
        given = [torch.from_numpy(self.reference[f"{stage}/{place}"]).to(self.dtype)
                 for place in local.outputs]
        torch.autograd.backward([*local.outputs.values(), samples.sum()],
                                [*given, torch.ones((), dtype=self.dtype)])
        self.add(f"local/{stage}", local.gradients())
        self.add(f"local/{stage}", parameter_gradients(
            networks, self.spec.learns("d" if d_step else "g").name))
        self.writer.add(f"local/{stage}/loss/samples/value", numbers(samples))
        if self.dtype == torch.float64:
            first = {self.spec.maker.name: self.z_g} if not d_step else {
                self.spec.real: self.pixels(),
                self.spec.fake: self.given(f"{forward}/{self._images}")}
            upstream = dict(zip(local.outputs, given, strict=True))
            made = expected.gradients(self.spec, networks, local, upstream, first,
                                      self.spec.learns("d" if d_step else "g").name)
            made["loss/samples/value"] = expected.of_losses(terms, samples)
            self._add_expected(stage, made)

    def steps(self) -> None:
        """One D step and one G step with the program's own functions, each from the reference's
        state: what the first one rounded otherwise would grow in the second. Then the optimizers
        alone on the reference's gradients."""
        networks = self.networks().train()
        optimizers = create_optimizers(networks, self.plan.minibatch_size,
                                       bool(self.plan.unit_gain))
        load_optimizers(networks, optimizers, self.reference, "optimizer/state")
        def state() -> dict[str, np.ndarray]:
            return {**values(networks), **optimizer_values(networks, optimizers)}

        before = state()
        mean = discriminator_step(networks, optimizers[1], self.x, self.z_d)
        after = state()
        events = observe.events("d_step", before, after)
        self.add("step/0001/after_d", dict(observe.of_step(after, self.spec.critic.name)))
        self.writer.add("step/0001/after_d/loss/d/mean", np.float32(mean))
        networks.load({name: self.reference[self._at("step/0001/after_d", name, "state")]
                       for name in networks.arrays()})
        before = state()
        mean, _ = generator_step(networks, optimizers[0], self.z_g)
        after = state()
        events += observe.events("g_step", before, after)
        self.add("step/0001/after_g", dict(observe.of_step(after, self.spec.maker.name)))
        self.writer.add("step/0001/after_g/loss/g/mean", np.float32(mean))
        self.writer.fact("ledger", events)
        if self.dtype == torch.float32:
            self.on_their_own(self._optimizer_alone)

    def _optimizer_alone(self) -> None:
        for place, network, before in ((1, self.spec.critic.name, "state"),
                                       (0, self.spec.maker.name, "step/0001/after_d")):
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


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def parameter_gradients(networks: Networks, network: str) -> dict[str, np.ndarray]:
    return {f"{network}/{name.replace('.', '/')}": numbers(p.grad)
            for name, p in networks.get_submodule(network).named_parameters()
            if p.grad is not None}
