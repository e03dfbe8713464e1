"""What may be wrong with a normalisation: its statistics, its epsilon, its scale and bias."""
from collections.abc import Iterator

import numpy as np

from parity.diagnosis.arithmetic import AXES, Floats, column, moments, normalised
from parity.diagnosis.evidence import Case, Hypothesis, nice
from parity.diagnosis.given import Given

PAGE = "docs/behaviours.md#batch-normalisation"


def normalisation(given: Given, case: Case) -> Iterator[Hypothesis]:
    x, arrays, epsilon = given.x, given.arrays, given.epsilon
    scale, bias = arrays["scale"], arrays["bias"]
    own = moments(x)
    kept = arrays["running_mean"], arrays["running_variance"]
    mean, variance = own if given.training else kept
    n = x.size // x.shape[1]
    fitted = _epsilon(given, case, mean, variance)
    if fitted is not None:
        yield Hypothesis("another-epsilon", f"epsilon is {nice(fitted)}, CNTK's is {epsilon:g}",
                         f"eps={epsilon:g}", normalised(x, mean, variance, scale, bias, fitted),
                         PAGE)
    if given.training:
        yield Hypothesis("running-statistics-in-training", "the running statistics normalise in "
                         "training already; CNTK takes the minibatch's own",
                         "network.train() before the step, and no .eval() on this layer",
                         normalised(x, *kept, scale, bias, epsilon), PAGE)
        if given.others:  # the other branch ran before, and moved them
            moved = _behind(given, kept)
            yield Hypothesis("running-statistics-in-training", "the running statistics normalise "
                             "in training already; CNTK takes the minibatch's own",
                             "network.train() before the step, and no .eval() on this layer",
                             normalised(x, *moved, scale, bias, epsilon), PAGE)
            both = moments(np.concatenate([x, *given.others]))
            yield Hypothesis(
                "both-branches-in-one-minibatch", "real and generated images are normalised as one "
                "minibatch; CNTK normalises each by itself",
                "call the network twice, once with the real and once with the generated images",
                normalised(x, *both, scale, bias, epsilon), PAGE)
    else:
        yield Hypothesis("minibatch-statistics-in-evaluation", "the minibatch's own statistics "
                         "normalise in evaluation; CNTK takes the running ones",
                         "track_running_stats=True, and network.eval()",
                         normalised(x, *own, scale, bias, epsilon), PAGE)
    yield Hypothesis("unbiased-variance", "the variance that normalises is the unbiased one",
                     "x.var(correction=0) inside the normalisation", normalised(
                         x, mean, variance * (n / max(n - 1, 1)), scale, bias, epsilon),
                     PAGE)
    each = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    yield Hypothesis("instance-normalisation", "each sample is normalised by itself",
                     "nn.BatchNorm2d in place of nn.InstanceNorm2d",
                     (x - each[0]) / np.sqrt(each[1] + epsilon) * column(scale) + column(bias),
                     PAGE)
    yield Hypothesis("epsilon-outside-the-root", "epsilon is added to the root, not under it",
                     "sqrt(variance + eps)", (x - column(mean)) * column(
                         scale / (np.sqrt(variance) + epsilon)) + column(bias), PAGE)
    for name, what, s, b in (
            ("normalisation-without-scale", "the scale is not applied", np.ones_like(scale), bias),
            ("normalisation-without-bias", "the bias is not added", scale, np.zeros_like(bias)),
            ("normalisation-without-both", "scale and bias are not applied", np.ones_like(scale),
             np.zeros_like(bias))):
        yield Hypothesis(name, what, "affine=True", normalised(x, mean, variance, s, b, epsilon),
                         PAGE)
    yield Hypothesis("normalisation-missing", "the normalisation is left out",
                     "add nn.BatchNorm2d", x, PAGE)


def _behind(given: Given, kept: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """The running statistics behind the other branch's pass."""
    mean, variance = moments(given.others[0])
    n = given.x.size // given.x.shape[1]
    a = given.factor
    return ((1 - a) * kept[0] + a * mean,
            (1 - a) * kept[1] + a * variance * (n / max(n - 1, 1)))


def _epsilon(given: Given, case: Case, mean: Floats, variance: Floats) -> float | None:
    """The one epsilon that gives each channel's size; None where there is none."""
    centred = given.x - column(mean)
    scale, bias = given.arrays["scale"], given.arrays["bias"]
    if case.port.shape != given.x.shape or not np.isfinite(case.port).all():
        return None
    of = np.square(centred).sum(AXES)
    with np.errstate(all="ignore"):
        gain = (centred * (case.port - column(bias))).sum(AXES) / of
        made = np.square(scale / gain) - variance
    # What a rounding of the gain makes of epsilon is the channel's weight.
    weight = np.where(np.isfinite(made), 1 / np.square(variance + given.epsilon), 0)
    if not weight.any():
        return None
    value = float(np.sum(np.where(weight > 0, made, 0) * weight) / weight.sum())
    return value if value > 0 else None
