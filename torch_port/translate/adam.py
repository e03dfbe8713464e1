"""CNTK's Adam in stock ``torch.optim.Adam``'s words, and back: what can be said, and what is left.

CNTK (g summed over N samples, b2 = variance_momentum^N, u = 1 - b1 with unit_gain, else 1):

    v <- b2 v + (1 - b2) g^2,   m <- b1 m + u g,   w <- w - lr/N m bc / (sqrt(v) + e)
    bc = sqrt(1 - b2^c) / (1 - b1^c),   g clamped to [-N t, N t] first

torch.optim.Adam on the MEAN gradient g/N has m_t = (1 - b1) m / (N u), v_t = v / N^2, and so

    w <- w - L (1 - b1)/u m bc / (sqrt(v) + N E sqrt(1 - b2^c))

The two are one step if L = lr u / (N (1 - b1)) and N E sqrt(1 - b2^c) = e. The second depends on c:
CNTK's epsilon is added to the uncorrected root, and no stock Adam has that. ``epsilon`` here is
right at the end of ``steps``. CNTK takes 1 - b2 from b2 in float32, which makes its steps
sqrt((1 - b2) / (1 - float32(b2))) times as long (1.0065 for N = 1): ``lr`` has that factor.

Source: torch_port/adam.py (CNTK's formula, with its sources); ``distance`` measures what is left.
"""
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from captures.article import DEVIATION, LEARNING_RATE
from captures.errors import ParityError
from torch_port.adam import CNTKAdam


class TranslationError(ParityError):
    """A setting that has no counterpart."""


@dataclass(frozen=True)
class CNTKLearner:
    """As given to ``C.adam``: a plain learning rate, momentum, unit_gain, variance momentum per
    sample, clipping threshold per sample (infinite: none, with truncation), minibatch size N."""

    learning_rate: float = 1e-4
    momentum: float = 0.5
    unit_gain: bool = False
    variance_momentum: float = 0.9999986111120757
    clip_per_sample: float = math.inf
    minibatch_size: int = 16


@dataclass(frozen=True)
class StockAdam:
    """For ``torch.optim.Adam`` fed with the MEAN gradient. clip_value: of
    ``torch.nn.utils.clip_grad_value_``, before the step. left: what cannot be said."""

    lr: float
    betas: tuple[float, float]
    eps: float
    clip_value: float = math.inf
    left: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        clip = "" if math.isinf(self.clip_value) else (
            f"torch.nn.utils.clip_grad_value_(parameters, {self.clip_value:g})  # before a step\n")
        return (f"{clip}torch.optim.Adam(parameters, lr={self.lr:.9g}, betas=({self.betas[0]:g}, "
                f"{self.betas[1]:.12g}), eps={self.eps:.6g})  # of the mean gradient")


def to_stock(learner: CNTKLearner, steps: int = 300) -> StockAdam:
    """The nearest stock Adam for a run of ``steps``. Raises TranslationError."""
    n, b1 = learner.minibatch_size, learner.momentum
    if n < 1 or not 0 <= b1 < 1 or not 0 < learner.variance_momentum < 1 or steps < 1:
        raise TranslationError(f"{learner} has a minibatch size below 1 or momenta beyond [0, 1): "
                               "give those of the CNTK program")
    b2 = learner.variance_momentum ** n
    gain = 1 - b1 if learner.unit_gain else 1.0
    left = (f"epsilon: CNTK adds 1e-8 to the uncorrected root; eps is right after {steps} steps, "
            f"{math.sqrt((1 - b2) / (1 - b2 ** steps)):.3g} of what it should be in the first",
            "bits: the order of the operations is another")
    rounded = math.sqrt((1 - b2) / (1 - float(np.float32(b2))))
    return StockAdam(learner.learning_rate * gain / (n * (1 - b1)) * rounded, (b1, b2),
                     1e-8 / (n * math.sqrt(1 - b2 ** steps)), learner.clip_per_sample, left)


def from_stock(adam: StockAdam, minibatch_size: int, unit_gain: bool = False) -> CNTKLearner:
    """The CNTK learner whose steps are those of a stock Adam on the mean gradient."""
    if minibatch_size < 1:
        raise TranslationError(f"the minibatch size is {minibatch_size}: give at least 1")
    b1, b2 = adam.betas
    gain = 1 - b1 if unit_gain else 1.0
    rounded = math.sqrt((1 - b2) / (1 - float(np.float32(b2)))) if np.float32(b2) < 1 else 1.0
    return CNTKLearner(adam.lr * minibatch_size * (1 - b1) / gain / rounded, b1, unit_gain,
                       b2 ** (1 / minibatch_size), adam.clip_value, minibatch_size)


class CNTKAdamOfMeans(CNTKAdam):
    """CNTK's update for a loop that was written for ``torch.optim.Adam``: ``.grad`` holds gradients
    of the MEAN over a minibatch of ``minibatch_size``, and ``step()`` takes nothing more.

    The defaults are the article's: learning rate 1e-4, momentum 0.5, no unit gain, gradients of one
    sample clipped at the minibatch size.
    """

    def __init__(self, params: Iterable[Any], minibatch_size: int, lr: float = LEARNING_RATE,
                 clip_per_sample: float | None = None, **options: Any) -> None:
        if minibatch_size < 1:
            raise TranslationError(f"the minibatch size is {minibatch_size}: give at least 1")
        super().__init__(params, lr, clip_per_sample=float(minibatch_size)
                         if clip_per_sample is None else clip_per_sample, **options)
        self.samples = minibatch_size

    @torch.no_grad()
    def step(self, closure: None = None, *, samples: int | None = None) -> None:  # type: ignore[override]
        """One update. samples: where this minibatch has another size."""
        n = samples or self.samples
        means = [p.grad for group in self.param_groups for p in group["params"]
                 if p.grad is not None]
        for gradient in means:
            gradient.mul_(n)
        try:
            super().step(closure, samples=n)
        finally:
            for gradient in means:
                gradient.div_(n)


def distance(learner: CNTKLearner, stock: StockAdam, steps: int = 300, seed: int = 0,
             size: float = 1.0) -> float:
    """|w - w'| / |w - w_0| after ``steps`` of the same random gradients, normal times ``size`` for
    one sample: how far the two optimizers' movements are apart. Weights begin at normal(0, 0.02),
    as the article's, so that their own rounding does not hide it."""
    random = torch.Generator().manual_seed(seed)
    start = torch.randn(1000, generator=random) * DEVIATION
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    cntk = CNTKAdam([ours], learner.learning_rate, momentum=learner.momentum,
                    unit_gain=learner.unit_gain, variance_momentum=learner.variance_momentum,
                    clip_per_sample=learner.clip_per_sample)
    adam = torch.optim.Adam([theirs], stock.lr, stock.betas, stock.eps)
    n = learner.minibatch_size
    for _ in range(steps):
        gradient = torch.randn(1000, generator=random) * (n * size)
        ours.grad, theirs.grad = gradient.clone(), gradient / n
        if not math.isinf(stock.clip_value):
            torch.nn.utils.clip_grad_value_([theirs], stock.clip_value)
        cntk.step(samples=n)
        adam.step()
    moved = torch.linalg.vector_norm(ours.detach() - start)
    return float(torch.linalg.vector_norm(ours.detach() - theirs.detach()) / moved)
