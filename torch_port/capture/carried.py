"""How far rounding moves a layer in the chain: the oracle's networks, in which every layer rounds.

On its own inputs a layer may be off by E (``expected_rounding.py``). In the chain what came before
is handed on, and how much of it arrives is a matter of the networks and their inputs: a
normalisation over four values, a hyperbolic tangent of inputs in the thousands, a unit beside a
rectifier's kink. So the oracle goes through its chain again, and adds to every layer's output, and
to every gradient, AMPLITUDE times E times a normal deviate; how far that moves each array is
written down as a part of the array's size, and the judge allows a port as much. A port's own
rounding is about E or less, so that what happens by chance (one unit on the other side of a kink)
happens here first.
"""
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captures.spec import Spec
from torch_port import losses
from torch_port.capture import expected_rounding as expected
from torch_port.dcgan import Networks
from torch_port.layers import Each

AMPLITUDE = 4.0
DRAWS = 2

Kept = Callable[[str], np.ndarray]


def apart(moved: Tensor, kept: np.ndarray) -> float:
    """Root mean square of the difference over that of ``kept``."""
    own = torch.from_numpy(np.array(kept)).reshape(moved.shape)
    size = float(own.pow(2).mean().sqrt())
    gone = float((moved.detach() - own).pow(2).mean().sqrt())
    return gone / size if size else 0.0


class Rounding:
    """Hooks for one passage through the chain. kept: name of an array to the oracle's own.

    forward, gradient: the stages that the arrays are under; moved: what came of it, a stage's
    "branch/layer/output" or "network/layer/weight" to a part of its size."""

    def __init__(self, spec: Spec, networks: Networks, kept: Kept, forward: str, gradient: str,
                 seed: int) -> None:
        self.spec, self.networks, self.kept = spec, networks, kept
        self.forward, self.gradient = forward, gradient
        self.noise = torch.Generator().manual_seed(seed)
        self.moved: dict[str, float] = {}

    def rounded(self, value: Tensor, size: Tensor) -> Tensor:
        drawn = torch.randn(value.shape, generator=self.noise)  # of float64: seven times the time
        return value + AMPLITUDE * size.to(value.dtype).reshape(value.shape) * drawn

    def branch(self, branch: str, x: Tensor) -> Each:
        """x: what the branch's first layer takes."""
        last = x.detach()

        def each(name: str, h: Tensor) -> Tensor:
            nonlocal last
            place = f"{branch}/{name}/output"
            _, _, layer = expected.layer_of(self.spec, self.networks, place)
            taken = last.reshape(len(last), -1, 1, 1) if last.ndim == 2 else last
            h = self.rounded(h, expected.of_output(name, layer, taken, h))
            self.noted(self.forward, place, h)
            last = h.detach()
            if h.requires_grad:
                h.register_hook(lambda gradient: self._backwards(place, gradient))
            return h
        return each

    def noted(self, stage: str, place: str, value: Tensor) -> None:
        self.moved[f"{stage}/{place}"] = apart(value, self.kept(f"{stage}/{place}"))

    def _backwards(self, place: str, gradient: Tensor) -> Tensor:
        size = self.kept(f"rounding/{self.gradient}/{place}")
        made = self.rounded(gradient, torch.from_numpy(np.array(size)))
        self.noted(self.gradient, place, made)
        return made

    def parameters(self, network: str) -> None:
        """The gradients of what is learnt, behind the backward pass."""
        for name, p in self.networks.get_submodule(network).named_parameters():
            if p.grad is not None:
                place = f"{network}/{name.replace('.', '/')}"
                size = self.kept(f"rounding/{self.gradient}/{place}")
                self.noted(self.gradient, place,
                           self.rounded(p.grad, torch.from_numpy(np.array(size))))


def carried(spec: Spec, made: Callable[[], Networks], kept: Kept, inputs: Mapping[str, Tensor],
            forward: str, step: str = "") -> dict[str, float]:
    """Stage and place to the largest part of its size that an array was moved by.

    made: the networks, new for each passage. inputs: "z" and "x", x in [-1, 1]; without x the real
    branch has no passage. step: "d" or "g", whose gradients are taken; "" for none."""
    moved: dict[str, float] = {}
    for draw in range(DRAWS):
        networks = made()
        hooks = Rounding(spec, networks, kept, forward, f"gradient/{step}", draw)
        with torch.no_grad() if not step else nullcontext():
            _passage(hooks, inputs, step)
        for name, value in hooks.moved.items():
            moved[name] = max(moved.get(name, 0.0), value)
    return moved


def _passage(hooks: Rounding, inputs: Mapping[str, Tensor], step: str) -> None:
    spec, networks = hooks.spec, hooks.networks
    learns: Any = networks.discriminator if step == "d" else networks.generator
    networks.requires_grad_(False)
    if step:
        learns.requires_grad_(True)
    fake = networks.generator(inputs["z"], hooks.branch(spec.maker.name, inputs["z"]))
    d_real = networks.discriminator(inputs["x"], hooks.branch(spec.real, inputs["x"])) \
        if "x" in inputs else None
    d_fake = networks.discriminator(fake, hooks.branch(spec.fake, fake))
    if not step:
        return
    samples = losses.generator_loss(d_fake) if d_real is None \
        else losses.discriminator_loss(d_real, d_fake)
    hooks.noted(hooks.gradient, "loss/samples/value", samples)
    samples.sum().backward()
    hooks.parameters(spec.learns(step).name)
