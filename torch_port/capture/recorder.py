"""Looks at every layer's output while a network runs, and puts others in their place."""
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from torch_port.layers import Each

Note = Callable[[str, int, int], None]


def numbers(tensor: Tensor) -> np.ndarray:
    """For a capture: half precisions as float32, which has all of their values and NumPy knows."""
    held = tensor.detach().cpu()
    if held.dtype in (torch.bfloat16, torch.float16):
        held = held.float()
    made: np.ndarray = held.numpy()
    return made


class Recorder:
    """Keeps every layer's output by ``branch/layer/output``, and its gradient if there is one."""

    def __init__(self) -> None:
        self.outputs: dict[str, Tensor] = {}

    def branch(self, branch: str, first: str = "") -> Each:
        """first: the place of another branch whose output this one begins with."""
        def each(name: str, h: Tensor) -> Tensor:
            self.outputs[f"{branch}/{name}/output"] = h
            if h.requires_grad:
                h.retain_grad()
            return h
        return each

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: numbers(h) for name, h in self.outputs.items()}

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: numbers(h.grad) for name, h in self.outputs.items() if h.grad is not None}


class Replacer(Recorder):
    """Keeps every layer's output, and has the reference's go on in its place.

    given: ``branch/layer/output`` to the reference's array.
    """

    def __init__(self, given: Callable[[str], np.ndarray], dtype: torch.dtype) -> None:
        super().__init__()
        self.given, self.dtype = given, dtype
        self.replaced: dict[str, Tensor] = {}
        self.before: dict[str, str] = {}  # place to the place whose output the layer took

    def branch(self, branch: str, first: str = "") -> Each:
        """first: the place of another branch whose output this one begins with."""
        last = first

        def each(name: str, h: Tensor) -> Tensor:
            nonlocal last
            place = f"{branch}/{name}/output"
            self.outputs[place] = h
            self.before[place], last = last, place
            leaf = torch.from_numpy(self.given(place)).to(self.dtype)
            self.replaced[place] = leaf.requires_grad_(torch.is_grad_enabled())
            return leaf
        return each

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: numbers(leaf.grad) for name, leaf in self.replaced.items()
                if leaf.grad is not None}
