"""What a user's port did with a plan, as a capture: the arrays of ``torch_port.capture``, as far as
the adapter names what makes them.

What is not there is written down in the facts: ``not_given`` is the line of adapter that would let
a stage be judged, ``unseen`` the layers whose outputs cannot be watched, ``noticed`` what the
user's code changed behind the suite's back.
"""
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from captures import observe
from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from captures.spec import NORMALISATION, Network, Spec
from torch_port.adapter.conversion import user_networks
from torch_port.adapter.files import Files
from torch_port.adapter.load import Adapter
from torch_port.adapter.network import UserNetwork
from torch_port.adapter.not_given import NEEDS, STAGES, absent, missing, of_stages
from torch_port.adapter.updates import Updates
from torch_port.capture.recorder import Note, Recorder, Replacer, numbers
from torch_port.layers import Each


class UserCapture(Updates, Files):
    """The parts, each beginning at the reference's state and on its inputs."""

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

    @torch.no_grad()
    def normalisation(self) -> None:
        """The running statistics of new networks with CNTK's weights behind each of a few
        minibatches, and what entered them: CNTK copies the first, the others come in at its pace.
        """
        made = self.given(f"forward/training/{self.spec.maker.name}/{self.spec.maker.last}/output")
        for network in user_networks(self.adapter, self.spec, self.mapping).values():
            learnt = set(network.network.parameters)
            network.load({name: self.reference[f"state/{name}"] for name in network.matched.held},
                         learnt)
            network.train()
            latents = network.network.name == self.spec.maker.name
            first, second = (self.z_d, self.z_g) if latents else (self.x, made)
            for i, minibatch in enumerate((first, second, -first)):
                at = f"normalisation/networks/minibatch{i:02d}"
                network(minibatch, self._entering(at, network.network))
                self.add(at, {name: np.array(numbers(tensor), order="C")
                              for name, tensor in network.arrays().items() if "/running_" in name})

    def _entering(self, at: str, network: Network) -> Each:
        """Writes mean and unbiased variance of what goes into each normalisation, in float64."""
        into = {network.before(layer.name): layer.name for layer in network.layers
                if layer.kind == NORMALISATION}

        def each(name: str, h: Tensor) -> Tensor:
            if name in into:
                variance, mean = torch.var_mean(h.double(), (0, 2, 3))
                self.add(f"{at}/{network.name}/{into[name]}",
                         {"mean": numbers(mean), "variance": numbers(variance)})
            return h
        return each

    # ------------------------------------------------------------------------------ training

    def training(self) -> None:
        """The D step's forward pass, and its gradients where there is a loss."""
        self.stage = "forward/training"
        spec = self.spec
        self.load()
        self.train()
        chain = Recorder()
        with torch.no_grad():
            fake = self.maker(self.z_d, chain.branch(spec.maker.name)) if self.maker else \
                self.given(f"{self.stage}/{spec.maker.name}/{spec.maker.last}/output")
        if self.critic is not None:
            real, fake = self._judged(self.x, chain.branch(spec.real)), self._judged(
                fake, chain.branch(spec.fake))
            if self.adapter.has("d_loss"):
                with self.adapter.theirs("d_loss"):
                    loss = self.adapter.call("d_loss", real, fake)
                self._backward("d", self.critic, loss, chain)
        self.add(self.stage, chain.arrays())
        self.load()
        self._local()
        if self.critic is not None and self.adapter.has("d_loss"):
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
        judged = self._judged(fake, chain.branch(spec.fake))
        if self.adapter.has("g_loss"):
            with self.adapter.theirs("g_loss"):
                loss = self.adapter.call("g_loss", judged)
            self._backward("g", self.maker, loss, chain)
        self.add(self.stage, chain.arrays())
        if self.adapter.has("g_loss"):
            self.load("step/0001/after_d")
            self._local_gradients("gradient/g")

    def _backward(self, step: str, learns: UserNetwork, loss: Tensor, chain: Recorder) -> None:
        """From the user's own loss, as their step takes it. A mean's gradients are multiplied by N
        behind the pass: in front of it they would be rounded otherwise than in the step, where N is
        no power of two."""
        learns.module.zero_grad(set_to_none=True)
        (loss.sum() if loss.dim() else loss).backward(inputs=[
            *learns.module.parameters(),
            *(h for h in chain.outputs.values() if h.requires_grad)])
        n = np.float32(self.plan.minibatch_size if self.adapter.reduction == "mean" else 1)
        for made in (chain.gradients(), learns.gradients()):
            self.add(f"gradient/{step}", {name: value * n for name, value in made.items()})

    def _judged(self, x: Tensor, each: Each) -> Tensor:
        """What the user's own discriminator gives, as its losses take it: perhaps logits."""
        assert self.critic is not None
        self.critic(x, each)
        return self.critic.raw

    def _behind_the_logit(self, place: str) -> bool:
        """Of a network that ends in a logit, which its loss takes: no gradient comes through the
        sigmoid."""
        assert self.critic is not None
        return self.critic.matched.logits and place.endswith(f"/{self.spec.critic.last}/output")

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
        losses: list[Tensor] = []  # which the last layer's own gradient is of
        if stage == "gradient/d":
            real = self._judged(self.x, local.branch(spec.real))
            fake = self._judged(self.given(f"{forward}/{spec.maker.name}/{spec.maker.last}/output"),
                                local.branch(spec.fake))
            learns = self.critic
            if self.adapter.has("d_loss"):
                with self.adapter.theirs("d_loss"):
                    losses.append(self._summed(self.adapter.call("d_loss", real, fake)))
        else:
            assert self.maker is not None
            fake = self._judged(self.maker(self.z_g, local.branch(spec.maker.name)),
                                local.branch(spec.fake))
            learns = self.maker
            if self.adapter.has("g_loss"):
                with self.adapter.theirs("g_loss"):
                    losses.append(self._summed(self.adapter.call("g_loss", fake)))
        known = {place: h for place, h in local.outputs.items()
                 if f"{stage}/{place}" in self.reference and h.requires_grad
                 and not (losses and self._behind_the_logit(place))}
        torch.autograd.backward([*known.values(), *losses],
                                [*(self.given(f"{stage}/{place}") for place in known),
                                 *(torch.ones_like(loss) for loss in losses)])
        self.add(f"local/{stage}", local.gradients())
        self.add(f"local/{stage}", learns.gradients())

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
                    self.writer.add(f"initial/{name}",
                                    np.array(numbers(tensor), order="C"))

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
        low, high = self.adapter.range
        if (low, high) != (-1, 1):  # half a last place of the larger numbers, taken back to -1 .. 1
            rounding = float(np.spacing(np.float32(high))) / (high - low)
            self.writer.fact("input_rounding", rounding)
            if self.maker is not None and not self.maker.matched.names[-1].activation:
                self.writer.fact("output_rounding", 2 * rounding)  # of a function, and taken back
        self.writer.fact("device", self.adapter.running_on)


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
    writer.fact("noticed", adapter.noticed)
    if stopped:
        alike = {why: ", ".join(part for part in stopped if stopped[part] == why)
                 for why in stopped.values()}
        writer.fact("stopped", "; ".join(f"{parts}: {why}" for why, parts in alike.items()))
        writer.fact("stopped_stages", {stage: f"{part}: {why}" for part, why in stopped.items()
                                       for stage in STAGES[part]})
