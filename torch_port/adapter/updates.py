"""A user's optimizers, and a step of each network by their own code or the usual one."""
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captures import observe
from captures import probes as probe_inputs
from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from captures.spec import Spec
from torch_port.adam import CNTKAdam
from torch_port.adapter.conversion import Conversion, user_networks
from torch_port.adapter.load import Adapter
from torch_port.capture.recorder import numbers


class UserState:
    """The user's networks, and the reference's state and inputs that they are given."""

    def __init__(self, adapter: Adapter, spec: Spec, plan: Plan, reference: Capture,
                 writer: CaptureWriter, mapping: Mapping[str, str] | None = None) -> None:
        self.adapter, self.spec, self.plan = adapter, spec, plan
        self.reference, self.writer, self.mapping = reference, writer, mapping
        self.conversion = Conversion(adapter)
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
                    made[name] = np.array(numbers(tensor), order="C")
        return made


class Updates(UserState):
    """What their optimizers make of given gradients, and of their own."""

    def optimizer(self) -> None:
        """Their optimizer on given gradients."""
        initial, gradients = probe_inputs.optimizer_probe(self.plan)
        device = self.adapter.device
        holders = [nn.ParameterDict({name: nn.Parameter(torch.from_numpy(value.copy()).to(device))
                                     for name, value in initial.items()}) for _ in range(2)]
        with self.adapter.theirs("optimizers"):
            chosen = self.adapter.call("optimizers", *holders, self.plan.minibatch_size)
            optimizer = chosen[0]
        factor = 1 / self.plan.minibatch_size if self.adapter.reduction == "mean" else 1
        for step in range(probe_inputs.OPTIMIZER_STEPS):
            for name, p in holders[0].items():
                p.grad = torch.from_numpy(gradients[name][step]).to(device) * factor
            with self.adapter.theirs("optimizers"):
                optimizer.step()
            for name, p in holders[0].items():
                self.writer.add(f"optimizer/probe/{name}/step{step + 1:02d}",
                                numbers(p))

    def steps(self) -> None:
        """One D step and one G step, from the reference's state."""
        assert self.maker is not None and self.critic is not None
        self.load()
        self.train()
        g, d = self.maker.module, self.critic.module
        with self.adapter.theirs("optimizers"):
            g_optimizer, d_optimizer = self.adapter.call("optimizers", g, d,
                                                         self.plan.minibatch_size)
        self._remember(g_optimizer, d_optimizer)
        states = [self.values()]
        loss = self._step("d", g, d, d_optimizer)
        states.append(self.values())
        self._after("d", states[-1], loss)
        self.load("step/0001/after_d")  # what the first step made otherwise would grow here
        loss = self._step("g", g, d, g_optimizer)
        states.append(self.values())
        self._after("g", states[-1], loss)
        for step, before, optimizer in (("d", "state", 1), ("g", "step/0001/after_d", 0)):
            self._optimizer_alone(step, before, optimizer)

    def _step(self, which: str, g: nn.Module, d: nn.Module, optimizer: Any) -> Any:
        """Theirs, or the usual one with their loss; what it returns."""
        own, given = f"{which}_step", (self.x, self.z_d) if which == "d" else (self.z_g,)
        usual = self._d_step if which == "d" else self._g_step
        step = getattr(self.adapter, own) if self.adapter.has(own) else usual
        with self.adapter.theirs(own if self.adapter.has(own) else f"{which}_loss"):
            return step(g, d, optimizer, *map(self.conversion.into, given))

    def resume(self) -> None:
        """One iteration, saved and loaded into new networks and optimizers, and the next one: how
        far each array is from that of a training that was not stopped."""
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
            path = str(Path(folder) / "checkpoint.pt")
            g, d, optimizers, values = self._training()
            self._iteration(g, d, optimizers)
            with self.adapter.theirs("save"):
                self.adapter.save(path, g, d, optimizers)
            self._iteration(g, d, optimizers)
            wanted = values()
            g, d, optimizers, values = self._training()
            with self.adapter.theirs("load"):
                self.adapter.load(path, g, d, optimizers)
            self._iteration(g, d, optimizers)
        got = values()
        self.writer.add("program/resumed/state/apart", np.array(
            [float(np.abs(got[name].astype(np.float64) - wanted[name]).max()) if name in got else 0
             for network in self.spec.networks for name in network.arrays]))

    def _training(self) -> tuple[nn.Module, nn.Module, Any, Callable[[], dict[str, np.ndarray]]]:
        """New networks as the user makes them, their optimizers, and what reads their values."""
        networks = user_networks(self.adapter, self.spec, self.mapping)
        g, d = (networks[one.name].train().module for one in (self.spec.maker, self.spec.critic))
        with self.adapter.theirs("optimizers"):
            optimizers = self.adapter.call("optimizers", g, d, self.plan.minibatch_size)
        return g, d, optimizers, lambda: {
            name: numbers(tensor).copy() for network in networks.values()
            for name, tensor in network.arrays().items()}

    def _iteration(self, g: nn.Module, d: nn.Module, optimizers: Any) -> None:
        for which, optimizer in (("d", optimizers[1]), ("g", optimizers[0])):
            self._step(which, g, d, optimizer)

    def _optimizer_alone(self, step: str, before: str, which: int) -> None:
        """Their optimizer on CNTK's own gradients of a step."""
        learns = self.spec.learns(step).name
        self.load(before)
        networks = [self.networks[network.name] for network in self.spec.networks]
        with self.adapter.theirs("optimizers"):
            optimizers = self.adapter.call("optimizers", *(network.module for network in networks),
                                                 self.plan.minibatch_size)
        self._remember(*optimizers)
        factor = 1 / self.plan.minibatch_size if self.adapter.reduction == "mean" else 1.0
        network = self.networks[learns]
        tensors = network.tensors()
        for name in network.network.parameters:
            held = network.matched.held[name]
            gradient = held.to_tensor(self.given(f"gradient/{step}/{name}")) * factor
            tensor = tensors[held.path]
            tensor.grad = gradient.reshape(tensor.shape).to(tensor.device)
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
        loss: Tensor = self.adapter.call("d_loss", d(x), d(fake))
        loss.backward()
        optimizer.step()
        return loss

    def _g_step(self, g: nn.Module, d: nn.Module, optimizer: Any, z: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = self.adapter.call("g_loss", d(g(z)))
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
            stock = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
            if network is None or not (stock or isinstance(optimizer, CNTKAdam)):
                continue
            place = f"optimizer/state/{network.network.name}/learner/minibatches"
            count = float(self.reference[place])
            tensors = network.tensors()
            gain = 1 if self.plan.unit_gain or not stock else \
                1 - optimizer.param_groups[0]["betas"][0]
            if not stock:
                optimizer.param_groups[0]["minibatches"] = int(count)
            for name in network.network.parameters:
                held = network.matched.held[name]
                p = tensors[held.path]
                m, v = (held.to_tensor(self.given(f"optimizer/state/{name}_{key}")).reshape(
                    p.shape).to(p.device) for key in ("m", "v"))
                if not stock:
                    optimizer.state[p] = {"m": m.clone(), "v": v.clone()}
                    continue
                optimizer.state[p] = {"step": torch.tensor(count), "exp_avg": m * gain / n,
                                      "exp_avg_sq": v / n ** 2}
