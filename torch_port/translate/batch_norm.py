"""CNTK's batch normalisation in ``nn.BatchNorm2d``'s words, and back.

Both blend running <- (1 - a) running + a batch. CNTK's a is 1 for the first minibatch, then
1 - exp(-N/T), N in samples and T the time constant; PyTorch's a is ``momentum``. So

    momentum = 1 - exp(-N / T)          T = -N / log(1 - momentum)

What stock cannot say: the first minibatch copied (``FirstCopied`` does it), and sums in float32.
What people forget: a critic whose weights stand still goes on updating its statistics.

Source: torch_port/batch_norm.py.
"""
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_port.batch_norm import BatchNormalization
from torch_port.translate.adam import TranslationError


@dataclass(frozen=True)
class StockBatchNorm:
    """Arguments of ``nn.BatchNorm2d``."""

    momentum: float
    eps: float = 1e-5

    @property
    def code(self) -> str:
        return (f"FirstCopied(channels, momentum={self.momentum:.10g}, eps={self.eps:g})  # "
                "nn.BatchNorm2d that copies its first minibatch's statistics")


class FirstCopied(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose first minibatch is copied into the running statistics, as CNTK's.
    time_constant: where there is one, momentum is that of the minibatch that comes, whatever its
    size."""

    time_constant: float | None = None

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        momentum, first = self.momentum, self.num_batches_tracked is not None and bool(
            self.num_batches_tracked == 0)
        if first:
            self.momentum = 1.0
        elif self.time_constant is not None:
            self.momentum = to_stock(self.time_constant, len(input)).momentum
        try:
            return super().forward(input)
        finally:
            self.momentum = momentum


def as_cntks(network: nn.Module, minibatch_size: int | None = None, time_constant: float = 5000
             ) -> nn.Module:
    """The network, each nn.BatchNorm2d of it with CNTK's momentum, first update and epsilon.
    minibatch_size: for which momentum is; where it is left out, of whatever minibatch comes.

    Raises TranslationError: as ``to_stock``."""
    stock = to_stock(time_constant, minibatch_size or 1)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = FirstCopied
            module.momentum, module.eps = stock.momentum, stock.eps
            assert isinstance(module, FirstCopied)
            module.time_constant = None if minibatch_size else time_constant
    return network


def to_stock(time_constant: float, minibatch_size: int, epsilon: float = 1e-5) -> StockBatchNorm:
    """Raises TranslationError: a time constant below 0 (a running mean over all samples)."""
    if time_constant < 0 or minibatch_size < 1:
        raise TranslationError(f"time constant {time_constant} and minibatch size "
                               f"{minibatch_size}: nn.BatchNorm2d has a counterpart for 0 and "
                               "more (momentum=None for less), and at least one sample")
    return StockBatchNorm(-math.expm1(-minibatch_size / time_constant) if time_constant else 1.0,
                          epsilon)


def from_stock(momentum: float, minibatch_size: int) -> float:
    """The time constant in samples. Raises TranslationError."""
    if not 0 <= momentum <= 1 or minibatch_size < 1:
        raise TranslationError(f"momentum {momentum} and minibatch size {minibatch_size}: give a "
                               "momentum of 0 .. 1 and at least one sample")
    if momentum in (0, 1):
        return math.inf if momentum == 0 else 0.0
    return -minibatch_size / math.log1p(-momentum)


def distance(time_constant: float, stock: StockBatchNorm, minibatch_size: int, steps: int = 300,
             copied: bool = True) -> float:
    """The largest relative difference of the running variance after ``steps`` random minibatches
    of 4 x 4 maps. copied: with ``FirstCopied``, else with plain nn.BatchNorm2d."""
    random = torch.Generator().manual_seed(0)
    ours = BatchNormalization(8, time_constant).train()
    kind = FirstCopied if copied else nn.BatchNorm2d
    theirs = kind(8, eps=stock.eps, momentum=stock.momentum).train()
    with torch.no_grad():
        for _ in range(steps):
            x = torch.randn(minibatch_size, 8, 4, 4, generator=random) * 3 + 1
            ours(x)
            theirs(x)
    variance = theirs.running_var
    assert variance is not None
    return float((variance / ours.running_variance - 1).abs().max())
