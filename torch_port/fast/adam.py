"""CNTK's Adam (torch_port/adam.py) on a GPU, a few kernels for all parameters together.

What changes from step to step, bc * rate, lies on the device, so that a recorded graph of kernels
can be run again: ``advance`` before each step, ``update`` in the graph.
"""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_port.adam import CNTKAdam


class GraphAdam(CNTKAdam):
    """One group, clipping with truncation or none: the article's."""

    def __init__(self, params: Any, lr: float, **options: Any) -> None:
        super().__init__(params, lr, **options)
        (group,) = self.param_groups
        self.parameters: list[Tensor] = group["params"]
        self.factor = torch.zeros((), device=self.parameters[0].device)
        for p in self.parameters:
            self.state[p] = {"m": torch.zeros_like(p), "v": torch.zeros_like(p)}

    def advance(self, samples: int) -> None:
        """Counts a minibatch."""
        (group,) = self.param_groups
        group["minibatches"] += 1
        k = self.coefficients(group, samples, torch.float32)
        self.factor.fill_(-k.correction * k.rate)

    @torch.no_grad()
    def update(self, gradients: Sequence[Tensor], samples: int) -> None:
        """From gradients summed over the minibatch, in the order of the parameters."""
        (group,) = self.param_groups
        k = self.coefficients({**group, "minibatches": 1}, samples, torch.float32)
        g = list(gradients)
        m, v = ([self.state[p][name] for p in self.parameters] for name in ("m", "v"))
        torch._foreach_clamp_min_(g, -k.threshold)
        torch._foreach_clamp_max_(g, k.threshold)
        torch._foreach_mul_(v, k.b2)
        torch._foreach_addcmul_(v, g, g, 1 - k.b2)
        torch._foreach_mul_(m, k.b1)
        torch._foreach_add_(m, g, alpha=k.gain)
        step = torch._foreach_sqrt(v)
        torch._foreach_add_(step, k.epsilon)
        torch._foreach_reciprocal_(step)
        torch._foreach_mul_(step, m)
        torch._foreach_mul_(step, self.factor)
        torch._foreach_add_(self.parameters, step)
