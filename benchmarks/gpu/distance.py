"""How far a training in a fast arithmetic is from the twin, which has CNTK's bits.

    losses      of each iteration from the seed, relative
    weights     distance of all weights from the twin's, over the way that the twin's have gone
    layers      root mean square of the difference of a layer's output over the output's own, in one
                forward pass from one state on one minibatch
"""
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captures.training.checkpoint import Arrays
from torch_port import rounding
from torch_port.fast import arithmetic
from torch_port.train.fast import FastRun
from torch_port.train.run import Run
from torch_port.train.steps import discriminator_losses, generator_losses

Losses = list[tuple[float, float]]
PARTED = 0.01


def weights_of(run: Run) -> Arrays:
    """Copies of what is learnt."""
    return {name: t.detach().cpu().contiguous().numpy().copy()
            for name, t in run.networks.arrays().items() if t.requires_grad}


def trained(run: Run, iterations: int, say: Callable[[str], None] = lambda text: None
            ) -> tuple[Losses, dict[int, Arrays]]:
    """Losses of each iteration; the weights behind some of them (0: the first ones)."""
    kept, losses, steps = {0: weights_of(run)}, [], run.iterations()
    for i in range(1, iterations + 1):
        losses.append(next(steps)[:2])
        if i in (1, 2, 5, 10, 20, 50) or i == iterations:
            kept[i] = weights_of(run)
            say(f"iteration {i} of {iterations}: losses {losses[-1][0]:.6f} {losses[-1][1]:.6f}")
    return losses, kept


def length(arrays: Arrays, without: Arrays) -> float:
    return float(np.sqrt(sum(np.square(arrays[name].astype(np.float64) - without[name]).sum()
                             for name in arrays)))


def compared(ours: tuple[Losses, dict[int, Arrays]], twin: tuple[Losses, dict[int, Arrays]]
             ) -> dict[str, Any]:
    apart = [max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(mine, theirs, strict=True))
             for mine, theirs in zip(ours[0], twin[0], strict=True)]
    start = twin[1][0]
    return {
        "losses_apart": apart,
        "parted_by_1_percent_in_iteration": next(
            (i for i, one in enumerate(apart, 1) if one > PARTED), None),
        "weights_apart": {str(i): length(ours[1][i], twin[1][i]) / length(twin[1][i], start)
                          for i in ours[1] if i}}


def layers(twin: Run, fast: FastRun, x: Tensor, z: Tensor) -> dict[str, float]:
    """The generator's layers, and the discriminator's on x. fast takes the twin's state; behind it
    PyTorch's switches are fast's."""
    fast.restore(twin.arrays(), twin.reader.step, lambda text: None)
    names = [network.name for network in twin.networks.spec.networks]
    made: list[dict[str, Tensor]] = []
    for run in (twin, fast):
        outputs: dict[str, Tensor] = {}

        def keep(network: str, outputs: dict[str, Tensor] = outputs) -> Callable[..., Tensor]:
            def each(name: str, h: Tensor) -> Tensor:
                outputs[f"{network}/{name}"] = h.detach().double().cpu()
                return h
            return each

        on_device = x.to(run.device), z.to(run.device)
        with torch.no_grad():
            if isinstance(run, FastRun):
                arithmetic.use(run.arithmetic)
                run.generator_losses(on_device[1], keep(names[0]))
                run.discriminator_losses(*on_device, keep(names[1]))
            else:
                rounding.as_cntk_rounds()
                generator_losses(run.networks, on_device[1], keep(names[0]))
                discriminator_losses(run.networks, *on_device, keep(names[1]))
        made.append(outputs)
    theirs, ours = made
    return {name: float((ours[name] - theirs[name]).norm() / theirs[name].norm())
            for name in theirs}
