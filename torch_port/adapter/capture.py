"""What a user's port did with a plan, as a capture: the arrays of ``torch_port.capture``, as far as
the adapter names what makes them.

    python -m torch_port.adapter.capture --adapter FILE.py --plan P --reference C --output FOLDER

What is not there is written down in the facts: ``not_given`` is the line of adapter that would let
a stage be judged, ``unseen`` the layers whose outputs cannot be watched, ``noticed`` what the
user's code changed behind the suite's back.
"""
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captures import observe
from captures import probes as probe_inputs
from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from captures.spec import Spec
from torch_port.adapter.conversion import Conversion, user_networks
from torch_port.adapter.load import Adapter
from torch_port.adapter.not_given import NEEDS, absent, missing, of_stages
from torch_port.capture.recorder import Note, Recorder, Replacer


class UserCapture:
    """The parts, each beginning at the reference's state and on its inputs."""

    def __init__(self, adapter: Adapter, spec: Spec, plan: Plan, reference: Capture,
                 writer: CaptureWriter, mapping: Mapping[str, str] | None = None) -> None:
        self.adapter, self.spec, self.plan = adapter, spec, plan
        self.reference, self.writer, self.mapping = reference, writer, mapping
        self.networks = user_networks(adapter, spec, mapping)
        self.maker = self.networks.get(spec.maker.name)
        self.critic = self.networks.get(spec.critic.name)
        self.x = self._normalised(self.given("input/reader/images"))
        self.z_d, self.z_g = (self.given(f"input/{step}/latents") for step in ("d_step", "g_step"))

    def _normalised(self, pixels: Tensor) -> Tensor:
        """As CNTK does: a multiplication."""
        middle = self.spec.middle
        return (pixels - middle) * float(np.float32(1 / middle))

    def given(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self.reference[name]))

    def load(self, stage: str = "state") -> None:
        """CNTK's state into the user's networks; a step's, or that of before."""
        for network in self.networks.values():
            network.load({name: self.reference[f"{stage}/{name}" if f"{stage}/{name}"
                                               in self.reference else f"state/{name}"]
                          for name in network.matched.held})

    def train(self, mode: bool = True) -> None:
        for network in self.networks.values():
            network.train(mode)

    def add(self, stage: str, arrays: Mapping[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            self.writer.add(f"{stage}/{name}", array)

    def values(self) -> dict[str, np.ndarray]:
        """Every parameter and statistic that is there, copied, in CNTK's layout."""
        made = {}
        for network in self.networks.values():
            for name, tensor in network.arrays().items():
                if not name.endswith("/sample_count"):
                    made[name] = np.array(tensor.detach().numpy(), order="C")
        return made

    # ------------------------------------------------------------------------------- forward

    def _forward(self, recorder: Recorder, z: Tensor, given: Callable[[str], Tensor] | None = None
                 ) -> None:
        """Every branch; given: the reference's images where the user's are not to go on."""
        spec = self.spec
        if self.maker is not None:
            fake = self.maker(z, recorder.branch(spec.maker.name))
        if self.critic is not None:
            if given is not None or self.maker is None:
                fake = self.given(f"{self.stage}/{spec.maker.name}/{spec.maker.last}/output")
            self.critic(self.x, recorder.branch(spec.real))
            self.critic(fake.detach(), recorder.branch(spec.fake))

    @torch.no_grad()
    def evaluation(self) -> None:
        self.stage = "forward/evaluation"
        self.load()
        self.train(False)
        before = self.values()
        self.add("state", before)
        chain = Recorder()
        self._forward(chain, self.z_d)
        self.add(self.stage, chain.arrays())
        self.writer.fact("evaluation_changes", observe.changed(before, self.values()))
        self._local()
        if self.maker is not None:
            z = torch.split(self.given("input/score/latents"), 8)
            self.writer.add(self.spec.images, np.concatenate(
                [self.maker(part).numpy() for part in z]))

    @torch.no_grad()
    def _local(self) -> None:
        local = Replacer(lambda place: self.reference[f"{self.stage}/{place}"], torch.float32)
        self._forward(local, self.z_d, self.given)
        self.add(f"local/{self.stage}", local.arrays())

    # ------------------------------------------------------------------------------ training

    def training(self) -> None:
        """The D step's forward pass, and its gradients."""
        assert self.critic is not None
        self.stage = "forward/training"
        spec = self.spec
        self.load()
        self.train()
        chain = Recorder()
        with torch.no_grad():
            fake = self.maker(self.z_d, chain.branch(spec.maker.name)) if self.maker else \
                self.given(f"{self.stage}/{spec.maker.name}/{spec.maker.last}/output")
        real = self.critic(self.x, chain.branch(spec.real))
        fake = self.critic(fake, chain.branch(spec.fake))
        if self.adapter.has("d_loss"):
            with self.adapter.theirs("d_loss"):
                loss = self._summed(self.adapter.d_loss(real.reshape(-1), fake.reshape(-1)))
                self.critic.module.zero_grad(set_to_none=True)
                loss.backward(inputs=[*self.critic.module.parameters(),
                                      *(h for h in chain.outputs.values() if h.requires_grad)])
            self.add("gradient/d", chain.gradients())
            self.add("gradient/d", self.critic.gradients())
        self.add(self.stage, chain.arrays())
        self.load()
        self._local()
        self._local_gradients("gradient/d")

    def generator(self) -> None:
        """The G step's, from the reference's state after its D step."""
        assert self.maker is not None and self.critic is not None
        self.stage = "forward/g_step"
        spec = self.spec
        self.load("step/0001/after_d")
        self.train()
        chain = Recorder()
        fake = self.maker(self.z_g, chain.branch(spec.maker.name))
        judged = self.critic(fake, chain.branch(spec.fake))
        if self.adapter.has("g_loss"):
            with self.adapter.theirs("g_loss"):
                loss = self._summed(self.adapter.g_loss(judged.reshape(-1)))
                self.maker.module.zero_grad(set_to_none=True)
                loss.backward(inputs=[*self.maker.module.parameters(),
                                      *(h for h in chain.outputs.values() if h.requires_grad)])
            self.add("gradient/g", chain.gradients())
            self.add("gradient/g", self.maker.gradients())
        self.add(self.stage, chain.arrays())
        self.load("step/0001/after_d")
        self._local_gradients("gradient/g")

    def _summed(self, loss: Tensor) -> Tensor:
        """CNTK's learner takes the gradient of the sum over the minibatch."""
        loss = loss.sum() if loss.dim() else loss
        return loss * self.plan.minibatch_size if self.adapter.reduction == "mean" else loss

    def _local_gradients(self, stage: str) -> None:
        """Each layer backwards, from the reference's gradient of its output."""
        assert self.critic is not None
        spec, forward = self.spec, self.stage
        self.train()
        local = Replacer(lambda place: self.reference[f"{forward}/{place}"], torch.float32)
        for network in self.networks.values():
            network.module.zero_grad(set_to_none=True)
        if stage == "gradient/d":
            self.critic(self.x, local.branch(spec.real))
            self.critic(self.given(f"{forward}/{spec.maker.name}/{spec.maker.last}/output"),
                        local.branch(spec.fake))
            learns = self.critic
        else:
            assert self.maker is not None
            fake = self.maker(self.z_g, local.branch(spec.maker.name))
            self.critic(fake, local.branch(spec.fake))
            learns = self.maker
        known = {place: h for place, h in local.outputs.items()
                 if f"{stage}/{place}" in self.reference and h.requires_grad}
        torch.autograd.backward(list(known.values()),
                                [self.given(f"{stage}/{place}") for place in known])
        self.add(f"local/{stage}", local.gradients())
        self.add(f"local/{stage}", learns.gradients())

    # ------------------------------------------------------------------------ optimizer, steps

    def optimizer(self) -> None:
        """Their optimizer on given gradients."""
        initial, gradients = probe_inputs.optimizer_probe(self.plan)
        holders = [nn.ParameterDict({name: nn.Parameter(torch.from_numpy(value.copy()))
                                     for name, value in initial.items()}) for _ in range(2)]
        with self.adapter.theirs("optimizers"):
            chosen = self.adapter.optimizers(*holders, self.plan.minibatch_size)
            optimizer = chosen[0]
        factor = 1 / self.plan.minibatch_size if self.adapter.reduction == "mean" else 1
        for step in range(probe_inputs.OPTIMIZER_STEPS):
            for name, p in holders[0].items():
                p.grad = torch.from_numpy(gradients[name][step]) * factor
            with self.adapter.theirs("optimizers"):
                optimizer.step()
            for name, p in holders[0].items():
                self.writer.add(f"optimizer/probe/{name}/step{step + 1:02d}", p.detach().numpy())

    def steps(self) -> None:
        """One D step and one G step, from the reference's state."""
        assert self.maker is not None and self.critic is not None
        self.load()
        self.train()
        g, d = self.maker.module, self.critic.module
        with self.adapter.theirs("optimizers"):
            g_optimizer, d_optimizer = self.adapter.optimizers(g, d, self.plan.minibatch_size)
        self._remember(g_optimizer, d_optimizer)
        convert = Conversion(self.adapter)
        states = [self.values()]
        with self.adapter.theirs("d_step" if self.adapter.has("d_step") else "d_loss"):
            x, z = convert.images(self.x), convert.latents(self.z_d)
            loss = self.adapter.d_step(g, d, d_optimizer, x, z) if self.adapter.has("d_step") \
                else self._d_step(g, d, d_optimizer, x, z)
        states.append(self.values())
        self._after("d", states[-1], loss)
        with self.adapter.theirs("g_step" if self.adapter.has("g_step") else "g_loss"):
            z = convert.latents(self.z_g)
            loss = self.adapter.g_step(g, d, g_optimizer, z) if self.adapter.has("g_step") \
                else self._g_step(g, d, g_optimizer, z)
        states.append(self.values())
        self._after("g", states[-1], loss)
        for step, before, optimizer in (("d", "state", 1), ("g", "step/0001/after_d", 0)):
            self._optimizer_alone(step, before, optimizer)

    def _optimizer_alone(self, step: str, before: str, which: int) -> None:
        """Their optimizer on CNTK's own gradients of a step."""
        learns = self.spec.learns(step).name
        self.load(before)
        networks = [self.networks[network.name] for network in self.spec.networks]
        with self.adapter.theirs("optimizers"):
            optimizers = self.adapter.optimizers(*(network.module for network in networks),
                                                 self.plan.minibatch_size)
        self._remember(*optimizers)
        factor = 1 / self.plan.minibatch_size if self.adapter.reduction == "mean" else 1.0
        network = self.networks[learns]
        tensors = network.tensors()
        for name in network.network.parameters:
            held = network.matched.held[name]
            gradient = held.to_tensor(self.given(f"gradient/{step}/{name}")) * factor
            tensors[held.path].grad = gradient.reshape(tensors[held.path].shape)
        with self.adapter.theirs("optimizers"):
            optimizers[which].step()
        self.add(f"local/step/0001/after_{step}", {
            name: value for name, value in self.values().items()
            if name.startswith(f"{learns}/") and "/running_" not in name})

    def _after(self, step: str, state: Mapping[str, np.ndarray], loss: Any) -> None:
        network = self.spec.learns(step).name
        self.add(f"step/0001/after_{step}", dict(observe.of_step(state, network)))
        if isinstance(loss, Tensor):
            loss = loss.detach().float().mean().item()
        if isinstance(loss, int | float):
            if self.adapter.reduction == "sum":
                loss = loss / self.plan.minibatch_size
            self.writer.add(f"step/0001/after_{step}/loss/{step}/mean", np.float32(loss))

    def _d_step(self, g: nn.Module, d: nn.Module, optimizer: Any, x: Tensor, z: Tensor) -> Tensor:
        with torch.no_grad():
            fake = g(z)
        optimizer.zero_grad()
        loss: Tensor = self.adapter.d_loss(d(x), d(fake))
        loss.backward()
        optimizer.step()
        return loss

    def _g_step(self, g: nn.Module, d: nn.Module, optimizer: Any, z: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = self.adapter.g_loss(d(g(z)))
        loss.backward()
        optimizer.step()
        return loss

    def _remember(self, g_optimizer: Any, d_optimizer: Any) -> None:
        """CNTK's m, v and counter in a stock Adam's state, as near as they can be said: m is
        (1 - b1) times CNTK's (or the same with unit gain), v as it is; of a mean gradient m / N and
        v / N^2. Another optimizer begins anew."""
        n = self.plan.minibatch_size if self.adapter.reduction == "mean" else 1
        for network, optimizer in zip((self.maker, self.critic), (g_optimizer, d_optimizer),
                                      strict=True):
            if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or network is None:
                continue
            place = f"optimizer/state/{network.network.name}/learner/minibatches"
            count = float(self.reference[place])
            tensors = network.tensors()
            gain = 1 if self.plan.unit_gain else 1 - optimizer.param_groups[0]["betas"][0]
            for name in network.network.parameters:
                held = network.matched.held[name]
                p = tensors[held.path]
                m, v = (held.to_tensor(self.given(f"optimizer/state/{name}_{key}")).reshape(p.shape)
                        for key in ("m", "v"))
                optimizer.state[p] = {"step": torch.tensor(count), "exp_avg": m * gain / n,
                                      "exp_avg_sq": v / n ** 2}

    # ------------------------------------------------------------------------------- the seed

    def initial(self) -> None:
        assert self.maker is not None and self.critic is not None
        fresh = user_networks(self.adapter, self.spec, self.mapping)
        with self.adapter.theirs("initialize"):
            self.adapter.initialize(*(fresh[network.name].module for network in
                                      self.spec.networks), self.plan.seed)
        for network in fresh.values():
            for name, tensor in network.arrays().items():
                if not name.endswith("/sample_count"):
                    self.writer.add(f"initial/{name}", np.array(tensor.detach().numpy(), order="C"))

    def facts(self) -> None:
        """What the structure stage compares, and what could not be seen."""
        shapes: list[list[object]] = []
        counts = {name: sum(p.numel() for p in network.module.parameters())
                  for name, network in self.networks.items()}
        chain = Recorder()
        with torch.no_grad():
            self.train(False)
            if self.maker is not None:
                self.maker(self.z_d[:1], chain.branch(self.spec.maker.name))
            if self.critic is not None:
                self.critic(self.x[:1], chain.branch(self.spec.real))
        for place, h in chain.outputs.items():
            shapes.append([*place.split("/")[:2], list(h.shape[1:])])
        if len(counts) == len(self.spec.networks):
            assert self.critic is not None
            learnt = len(list(self.critic.module.parameters()))
            held = len(list(self.critic.module.buffers()))
            fake = [[self.spec.fake, *row[1:]] for row in shapes if row[0] == self.spec.real]
            self.writer.fact("parameters", {  # one module is called for both branches
                "counts": counts, "shared_parameters": learnt, "critics_parameters": learnt,
                "fake_branch_parameters_of_its_own": 0, "shared_statistics": held,
                "critics_statistics": held, "layers": [*shapes, *fake]})
        self.writer.fact("unseen", [f"{name}/{layer}" for name, network in self.networks.items()
                                    for layer in network.matched.unseen])
        self.writer.fact("extra", [f"{name}: {path}" for name, network in self.networks.items()
                                   for path in network.matched.extra])
        self.writer.fact("noticed", self.adapter.noticed)


def capture(adapter: Adapter, spec: Spec, plan: Plan, reference: Capture, writer: CaptureWriter,
            note: Note, mapping: Mapping[str, str] | None = None) -> None:
    """Every part that the adapter has what it needs for. What raises ends its own part alone."""
    port = UserCapture(adapter, spec, plan, reference, writer, mapping)
    port.facts()
    not_given, stopped = {}, {}
    seconds: dict[str, float] = {}
    for at, part in enumerate(NEEDS):
        lines = missing(adapter, part)
        if lines:
            not_given[part] = lines
            continue
        note(f"{adapter.path.name}: {part}", at, len(NEEDS))
        started = time.time()
        try:
            getattr(port, part)()
        except Exception as error:  # the user's code, or what it gives
            stopped[part] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}" \
                if str(error) else type(error).__name__
        seconds[part] = time.time() - started
    writer.fact("seconds_of_parts", seconds)
    writer.fact("not_given", of_stages(adapter, not_given))
    writer.fact("absent", absent(port.spec, port.networks))
    if stopped:
        part, why = next(iter(stopped.items()))
        writer.fact("stopped", f"{part}: {why}")
