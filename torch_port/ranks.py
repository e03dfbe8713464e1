"""One minibatch over several processes (ranks), with the bits of one process that has all of it.

    torchrun --nproc_per_node 2 -m torch_port.train ...

Rank r of R has samples r * N/R .. (r + 1) * N/R - 1. What is done sample by sample needs nothing
of the others. What adds over samples, in CNTK's order, is done by every rank on all samples, which
are gathered for it: batch normalisation's statistics and gradients, the gradients of weights and
biases, the losses. So every rank ends a step with the same weights, which need not be exchanged.

Nothing is saved by it in those sums and memory of one layer is that of the whole minibatch: right
first. DistributedDataParallel averages the ranks' gradients, in another order, and leaves batch
normalisation to each rank's own samples.
"""
import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from captures.errors import TrainingError


def several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def count() -> int:
    return dist.get_world_size() if several() else 1


def rank() -> int:
    return dist.get_rank() if several() else 0


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Raises TrainingError: another rank is gone, of which gloo names the connection alone."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            f"another of the {dist.get_world_size()} processes of this training has ended, so "
            f"process {dist.get_rank()} ends too: look for what that one said, and go on from the "
            "last checkpoint with --resume, by as many processes as you like") from error


def whole(own: Tensor) -> Tensor:
    """The samples of all ranks, in order, from each rank's own; without gradients."""
    if not several():
        return own
    parts = [torch.empty_like(own, memory_format=torch.contiguous_format)
             for _ in range(dist.get_world_size())]
    with _together():
        dist.all_gather(parts, own.detach().contiguous())
    return torch.cat(parts)


def own(samples: Tensor) -> Tensor:
    """This rank's part of them."""
    if not several():
        return samples
    size = len(samples) // dist.get_world_size()
    return samples[rank() * size:(rank() + 1) * size].contiguous()


class Gathered(torch.autograd.Function):
    """All samples from this rank's. The gradient that comes back is of all, alike on every rank."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return whole(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return own(g)


class Shared(torch.autograd.Function):
    """This rank's samples of all. The gradient of the others comes from the other ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return own(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return whole(g)


def told(value: int) -> int:
    """Rank 0's value, on every rank."""
    if not several():
        return value
    held = torch.tensor(value)
    with _together():
        dist.broadcast(held, 0)
    return int(held)
