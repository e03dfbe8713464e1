"""What may be wrong with a gradient: the loss's own, or a layer's backward pass.

Every gradient is judged on the port's own: of its own activations, and of its own gradient of the
layer behind. So the first that is wrong is where the mistake is. The loss comes first:

    D step   of D(x): -1 / p          of D(G(z)): 1 / (1 - p)         G step   of D(G(z)): -1 / p

with p the port's own probabilities, or p - 1, p, p - 1 of the logits, where a port ends in those.
"""
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from captures.spec import LEAKY_RELU, NORMALISATION, RELU, SIGMOID, TANH, TRANSPOSED, Layer
from parity.diagnosis.arithmetic import (
    AXES,
    Floats,
    column,
    conv_backward,
    moments,
    normalisation_backward,
    transposed_backward,
)
from parity.diagnosis.evidence import SHARE, Case, Hypothesis, listed, mixed, nice

LOSSES = "docs/behaviours.md#losses-and-activations"


# ---------------------------------------------------------------------------------------- the loss


@dataclass(frozen=True)
class Judged:
    """A branch of the critic: p, its probabilities, and the port's gradient of them. real: its
    label is 1 in the loss that is learnt from."""

    branch: str
    p: Floats
    gradient: Floats
    real: bool

    @property
    def right(self) -> Floats:
        return -1 / self.p if self.real else 1 / (1 - self.p)


Slope = Callable[[Floats], Floats]
# Name, what, mend, the gradient of a real image's probability, that of a generated one's.
OTHERS: tuple[tuple[str, str, str, Slope, Slope], ...] = (
    ("minimax-loss", "the loss is log(1 - D(G(z))), minimised",
     "-log(D(G(z)))", lambda p: -1 / (1 - p), lambda p: 1 / (1 - p)),
    ("loss-without-log", "the loss is 1 - D(G(z)), without its logarithm",
     "-log(D(G(z)))", lambda p: -np.ones_like(p), np.ones_like),
    ("least-squares-loss", "the loss is the least squares'", "binary cross-entropy",
     lambda p: 2 * (p - 1), lambda p: 2 * p),
    ("least-squares-loss", "the loss is half the least squares'", "binary cross-entropy",
     lambda p: p - 1, lambda p: p),
    ("gradient-of-the-logit", "the gradient is that of the logit: the sigmoid is applied "
     "twice, or not at all", "one sigmoid, and F.binary_cross_entropy",
     lambda p: p - 1, lambda p: p),
    ("labels-exchanged", "real and generated images have each other's label",
     "1 for real ones, 0 for generated ones", lambda p: 1 / (1 - p), lambda p: -1 / p))


def losses(branches: Sequence[Judged], samples: int) -> Iterator[tuple[Hypothesis, list[Floats]]]:
    """Hypotheses of all branches at once: with each branch's prediction."""
    ratios = [np.ravel(one.gradient / one.right) for one in branches]
    together = np.concatenate(ratios)
    factor = float(np.median(together))
    said = {nice(1 / samples, 3): ("mean-for-sum", "it is the mean over the minibatch, CNTK's is "
                                   "the sum", 'reduction = "mean" in the adapter says so, or sum '
                                   "it"),
            nice(float(samples), 3): ("sum-for-mean", "it is taken for a mean and is a sum",
                                      'reduction = "sum" in the adapter'),
            "0.5": ("loss-scaled", "the loss is halved: the mean of its two terms" + (
                ", or of the two samples" if samples == 2 else ""),
                    "real + fake, not (real + fake) / 2")}
    name, what, mend = said.get(nice(factor, 3), (
        "loss-scaled", f"the loss is {nice(factor)} times CNTK's", "take the factor off"))
    if factor > 0 and abs(factor - 1) > 1e-5:
        yield (Hypothesis(name, f"{what} (its gradient is {nice(factor, 4)} times CNTK's)", mend,
                          np.empty(0), LOSSES), [factor * one.right for one in branches])
    each = [float(np.median(ratio)) for ratio in ratios]
    if len(branches) > 1:
        which = [i for i, one in enumerate(each) if abs(one - 1) > 1e-5]
        if which:
            at = which[0]
            yield (Hypothesis(
                "branch-scaled", f"the {'real' if branches[at].real else 'generated'} images' "
                f"loss counts {nice(each[at], 4)} times", "give both terms the weight 1",
                np.empty(0), LOSSES),
                [one.right * ratio for one, ratio in zip(branches, each, strict=True)])
    yield from _labels(branches)
    for name, what, mend, of_real, of_fake in OTHERS:
        for by, more in ((1.0, ""), (1 / samples, ", and the mean over the minibatch"),
                         (0.5, ", halved")):
            yield (Hypothesis(name, what + more, mend, np.empty(0), LOSSES),
                   [by * (of_real if one.real else of_fake)(one.p) for one in branches])


def _labels(branches: Sequence[Judged]) -> Iterator[tuple[Hypothesis, list[Floats]]]:
    """Smoothed labels: -a / p + (1 - a) / (1 - p), a fitted to each branch."""
    for common in (1.0, 0.5):
        made, said, names, turned = [], [], 0, 0
        for one in branches:
            p, g = np.ravel(one.p), np.ravel(one.gradient) / common
            slope = -1 / p - 1 / (1 - p)
            label = float(np.median((g - 1 / (1 - p)) / slope))
            made.append(common * (-label / one.p + (1 - label) / (1 - one.p)))
            wanted = 1.0 if one.real else 0.0
            turned += abs(label + wanted - 1) < 1e-6
            if abs(label - wanted) > 1e-6:
                names += 1
                said.append(f"the label of {'real' if one.real else 'generated'} images is "
                            f"{nice(label, 5)}, CNTK's {wanted:g}")
        if names and turned < len(branches):
            yield (Hypothesis("label-smoothing", "; ".join(said) + ("" if common == 1 else
                                                                 ", and the loss is halved"),
                              "torch.ones_like and torch.zeros_like for labels", np.empty(0),
                              LOSSES), made)


# ------------------------------------------------------------------------------- a layer, backwards


@dataclass(frozen=True)
class Back:
    """A layer going backwards: x, what went in; y, what came out; g, the port's gradient of y.
    arrays: its own. training: whether a normalisation takes the minibatch's statistics."""

    layer: Layer
    x: Floats
    y: Floats
    g: Floats
    arrays: Mapping[str, Floats]
    epsilon: float
    slope: float


def of_input(b: Back) -> Floats:
    """The gradient of x."""
    layer, w = b.layer, b.arrays.get("weight")
    if layer.weight:
        assert w is not None
        return (transposed_backward if layer.kind == TRANSPOSED else conv_backward)(
            b.g, b.x, w, layer.stride, layer.pads)[0]
    if layer.kind == NORMALISATION:
        return normalisation_backward(b.g, b.x, b.arrays["scale"], b.epsilon, *moments(b.x))
    return b.g * derivative(b, b.slope)


def derivative(b: Back, slope: float) -> Floats:
    kind = b.layer.kind
    if kind == RELU:
        return (b.x > 0).astype(np.float64)
    if kind == LEAKY_RELU:
        return np.where(b.x >= 0, 1.0, slope)
    if kind == TANH:
        return 1 - b.y * b.y
    assert kind == SIGMOID
    return b.y * (1 - b.y)


def of_parameters(b: Back) -> dict[str, Floats]:
    """Quantity to gradient."""
    layer = b.layer
    if layer.kind == NORMALISATION:
        mean, variance = moments(b.x)
        centred = (b.x - column(mean)) / np.sqrt(column(variance) + b.epsilon)
        return {"scale": (b.g * centred).sum(AXES), "bias": b.g.sum(AXES)}
    if not layer.weight:
        return {}
    backward = transposed_backward if layer.kind == TRANSPOSED else conv_backward
    made = {"weight": backward(b.g, b.x, b.arrays["weight"], layer.stride, layer.pads)[1]}
    if layer.bias:
        made["bias"] = b.g.sum(AXES)
    return made


def backwards(b: Back, case: Case) -> Iterator[Hypothesis]:
    """Of the gradient of x."""
    for one in _backwards(b, case):
        yield one
        for axis, what in ((1, "channel"), (0, "sample")):
            part = mixed(case, one, axis, what)
            if part is not None:
                yield part
    yield from factors(case)


def _backwards(b: Back, case: Case) -> Iterator[Hypothesis]:
    kind = b.layer.kind
    if kind in (RELU, LEAKY_RELU):
        below = b.x < 0
        size = float(np.square(b.g[below]).sum())
        if size and case.port.shape == b.g.shape:
            slope = float((case.port[below] * b.g[below]).sum()) / size
            yield Hypothesis("slope-backwards", f"backwards the slope is {nice(slope)}, forwards "
                             f"{b.slope if kind == LEAKY_RELU else 0:g}", "the same slope in both",
                             b.g * np.where(b.x >= 0, 1.0, slope), LOSSES)
        yield Hypothesis("slope-at-zero", "at exactly 0 the gradient is the slope; CNTK's is 1",
                         "from torch_port.activations import leaky_relu",
                         b.g * np.where(b.x > 0, 1.0, b.slope if kind == LEAKY_RELU else 0.0),
                         LOSSES)
    if kind == NORMALISATION:
        mean, variance = moments(b.x)
        scale = b.arrays["scale"]
        page = "docs/behaviours.md#batch-normalisation"
        yield Hypothesis("statistics-as-constants", "backwards the minibatch's statistics are "
                         "taken for constants", "no .detach() on mean and variance",
                         normalisation_backward(b.g, b.x, scale, b.epsilon, mean, variance, True),
                         page)
        running = b.arrays.get("running_mean"), b.arrays.get("running_variance")
        if running[0] is not None and running[1] is not None:
            yield Hypothesis("evaluation-backwards", "backwards the layer is in evaluation mode",
                             "network.train() before the step", normalisation_backward(
                                 b.g, b.x, scale, b.epsilon, running[0], running[1], True), page)
    if kind == SIGMOID:
        yield Hypothesis("sigmoid-passed-through", "the sigmoid's gradient is left out",
                         "torch.sigmoid", b.g, LOSSES)


def factors(case: Case, samples: int = 0) -> Iterator[Hypothesis]:
    """The right gradient times something, of all or of some."""
    port, right = case.port, case.right
    if port.shape != right.shape or not np.isfinite(port).all():
        return
    if not port.any():
        yield Hypothesis("no-gradient", "its gradient is 0: something is detached",
                         "take .detach() or torch.no_grad() off", port)
        return
    size = float(np.square(right).sum())
    if size:
        by = float((port * right).sum()) / size
        if samples > 1 and nice(by, 4) == nice(1 / samples, 4):
            yield Hypothesis("mean-for-sum", "its gradient is the mean over the minibatch, "
                             "CNTK's is the sum", "sum it", by * right)
        yield Hypothesis("gradient-scaled", f"its gradient is {nice(by)} times CNTK's",
                         "take the factor off", by * right)
    for axis, what in ((0, "filter"), (1, "channel")):
        if port.ndim <= axis:
            continue
        others = tuple(i for i in range(port.ndim) if i != axis)
        with np.errstate(all="ignore"):
            each = (port * right).sum(others) / np.square(right).sum(others)
        each = np.where(np.isfinite(each), each, 1.0)
        which = np.nonzero(np.abs(each - 1) > 1e-5)[0]
        if 0 < len(which) <= max(1, SHARE * 5 * len(each)):
            shape = [1] * port.ndim
            shape[axis] = -1
            by = float(each[which[0]])
            yield Hypothesis("gradient-scaled", f"the gradient of {listed(what, which)} is "
                             f"{nice(by) if abs(by) > 1e-9 else '0'} times CNTK's",
                             "look for a mask or a factor", right * np.where(
                                 np.abs(each - 1) > 1e-5, each, 1.0).reshape(shape))
