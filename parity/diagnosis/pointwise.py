"""What may be wrong with a function of one number, on the points that the probe has."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from parity.diagnosis.arithmetic import Floats
from parity.diagnosis.evidence import SHARE, Found

PAGE = "docs/behaviours.md#losses-and-activations"
TINY, CLAMP, GRAIN = 1e-37, -85.1, 1e-3


def _log(z: Floats, clamp: float = CLAMP, more: float = 0.0) -> Floats:
    z = z + more
    made: Floats = np.where(z < TINY, clamp, np.log(np.maximum(z, TINY)))
    return made


def _natural(p: Floats) -> Floats:
    """Without a clamp: of 0 it is -infinite."""
    with np.errstate(divide="ignore"):
        made: Floats = np.log(p)
    return made


def _slope_of_log(z: Floats, clamp: float) -> Floats:
    made: Floats = np.exp(-_log(z, clamp))
    return made


def _over(z: Floats, more: float) -> Floats:
    return 1 / (z + more)


def _leaky(x: Floats, slope: float) -> Floats:
    return np.where(x >= 0, x, slope * x)


def _leaky_slope(x: Floats, slope: float) -> Floats:
    return np.where(x >= 0, 1.0, slope)


def _sigmoid(x: Floats) -> Floats:
    q = np.exp(-np.abs(x))
    exact: Floats = np.asarray(np.where(x > 0, 1.0, q) / (1 + q), np.float32).astype(np.float64)
    return exact


@dataclass(frozen=True)
class Formula:
    """Of points and a count of them: the output and its gradient."""

    name: str
    what: str
    mend: str
    output: Callable[[Floats], Floats]
    gradient: Callable[[Floats], Floats]


def formulas(function: str, slope: float) -> Iterator[Formula]:
    if function == "log":
        for clamp in (-100.0, -87.3, -103.0):
            yield Formula("clamp-of-the-log", f"log is clamped at {clamp:g}; CNTK's at {CLAMP:g}",
                          "torch_port.losses: cntk_log", partial(_log, clamp=clamp),
                          partial(_slope_of_log, clamp=clamp))
        for more in (1e-8, 1e-7, 1e-6, 1e-10, 1e-12):
            yield Formula("epsilon-in-the-log", f"it is log(p + {more:g})", "log(p), clamped",
                          partial(_log, more=more), partial(_over, more=more))
    if function == "leaky_relu":
        yield Formula("slope-at-zero", "at exactly 0 the gradient is the slope; CNTK's is 1",
                      "from torch_port.activations import leaky_relu",
                      lambda x: np.where(x >= 0, x, slope * x),
                      lambda x: np.where(x > 0, 1.0, slope))
        for other in (0.01, 0.1, 0.3, 0.0):
            yield Formula("another-slope", f"its slope is {other:g}, CNTK's {slope:g}",
                          f"F.leaky_relu(x, {slope:g})",
                          partial(_leaky, slope=other), partial(_leaky_slope, slope=other))
    if function == "sigmoid":
        yield Formula("stock-sigmoid", "it rounds as torch.sigmoid does, whose smallest values are "
                      "0", "from torch_port.activations import sigmoid",
                      _sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x)))
    if function.startswith("loss_of_"):
        yield from _losses(function == "loss_of_real")


def _losses(real: bool) -> Iterator[Formula]:
    def right(x: Floats, clamp: float = CLAMP, more: float = 0.0) -> Floats:
        p = _sigmoid(x)
        return -_log(p if real else 1 - p, clamp, more)

    sign = -1.0 if real else 1.0

    def of(p: Floats) -> Floats:
        return sign * (1 - p if real else p)

    yield Formula("clamp-of-the-log", f"the loss is clamped at 100, as binary_cross_entropy's; "
                  f"CNTK's at {-CLAMP:g}", "torch_port.losses has both losses",
                  lambda x: np.minimum(-_natural(_sigmoid(x) if real else 1 - _sigmoid(x)), 100),
                  lambda x: of(_sigmoid(x)))
    for clamp in (-100.0,):
        yield Formula("clamp-of-the-log", f"the loss of a D(G(z)) of 0 is {-clamp:g}; CNTK's is "
                      f"{-CLAMP:g}", "torch_port.losses has both losses",
                      partial(right, clamp=clamp), lambda x: of(_sigmoid(x)))
    yield Formula("softplus-loss", "the loss is softplus of the logit: its gradient stays where "
                  "CNTK's is 0", "a sigmoid and -log of it, each by itself",
                  lambda x: np.logaddexp(0, sign * x), lambda x: sign * _exact(sign * x))
    yield Formula("minimax-loss", "the loss is log(1 - D(G(z))), minimised",
                  "-log(D(G(z)))", lambda x: _log(1 - _sigmoid(x)), lambda x: -_sigmoid(x))
    yield Formula("loss-without-log", "the loss has no logarithm", "-log(D(G(z)))",
                  lambda x: 1 - _sigmoid(x), lambda x: -_sigmoid(x) * (1 - _sigmoid(x)))
    for more in (1e-8, 1e-7, 1e-6):
        yield Formula("epsilon-in-the-log", f"it is log(p + {more:g})", "log(p), clamped",
                      partial(right, more=more), lambda x: of(_sigmoid(x)))


def _exact(x: Floats) -> Floats:
    made: Floats = np.where(x >= 0, 1.0, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))
    return made


def explained(function: str, x: Floats, output: tuple[Floats, Floats],
              gradient: tuple[Floats, Floats], slope: float) -> Found | None:
    """output, gradient: the port's and CNTK's."""
    port, cntk = output
    if port.shape == cntk.shape and np.any(cntk):
        with np.errstate(all="ignore"):
            ratio = port / cntk
        ratio = ratio[np.isfinite(ratio) & (np.abs(cntk) > 1e-6)]
        if len(ratio) and np.ptp(ratio) < 1e-4 * np.abs(ratio).max() and abs(ratio[0] - 1) > 1e-4:
            n = len(x)
            if abs(ratio[0] * n - 1) < 1e-3:
                return Found("mean-for-sum", f"it is divided by the {n} samples: the mean, where "
                             "CNTK takes the sum", "sum the gradient over the minibatch", PAGE)
            return Found("loss-scaled", f"it is {ratio[0]:.4g} times CNTK's", "take the factor off",
                         PAGE)
    best: tuple[float, Formula] | None = None
    # Which of the two differs says which has to be explained.
    of_output = _apart(port, cntk) > 0
    before = _apart(port, cntk) if of_output else _apart(*gradient)
    with np.errstate(all="ignore"):
        for one in formulas(function, slope):
            left = _apart(port, one.output(x)) if of_output else _apart(
                gradient[0], one.gradient(x))
            if best is None or left < best[0]:
                best = left, one
    if best is None or (best[0] > SHARE * 5 * before and best[1].name != "stock-sigmoid"):
        return None
    return Found(best[1].name, best[1].what, best[1].mend, PAGE, best[0] / (before or 1.0))


def _apart(port: Floats, wanted: Floats) -> float:
    """The mean of how far apart two numbers are, each as a part of itself, at most 1. Below GRAIN
    it is nothing: log p has few digits where p is nearly 1."""
    with np.errstate(all="ignore"):
        apart = np.abs(port - wanted) / np.maximum(np.maximum(np.abs(port), np.abs(wanted)), GRAIN)
    close = apart < 1e-6
    return float(np.mean(np.where(close, 0, np.minimum(np.nan_to_num(apart, nan=1.0), 1.0))))
