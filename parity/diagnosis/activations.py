"""What may be wrong with an activation: another one, another slope, a clamp, dropout."""
from collections.abc import Iterator

import numpy as np

from captures.spec import LEAKY_RELU, RELU, SIGMOID, TANH
from parity.diagnosis.evidence import Case, Hypothesis, nice
from parity.diagnosis.given import Given, sigmoid

PAGE = "docs/behaviours.md#losses-and-activations"


def activation(given: Given, case: Case) -> Iterator[Hypothesis]:
    x, kind, port = given.x, given.layer.kind, case.port
    if port.shape != x.shape:
        return
    below = x < 0
    code = {RELU: "F.relu", LEAKY_RELU: f"F.leaky_relu(x, {given.slope:g})",
            TANH: "torch.tanh (torch.sigmoid(2 * x) for images in 0 .. 1)",
            SIGMOID: "torch.sigmoid"}[kind]
    if kind in (RELU, LEAKY_RELU) and below.any():
        slope = float((port[below] * x[below]).sum() / np.square(x[below]).sum())
        wanted = given.slope if kind == LEAKY_RELU else 0
        known = {"0": "it is a ReLU", "1": "it is left out"}.get(
            nice(slope) if abs(slope) > 1e-6 else "0", f"its slope is {nice(slope)}")
        yield Hypothesis("another-slope", f"{known}; CNTK's slope is {wanted:g}", code,
                         np.where(x >= 0, x, slope * x), PAGE)
    with np.errstate(all="ignore"):
        functions = {
            "no activation": x, "tanh": np.tanh(x), "a sigmoid": sigmoid(x),
            "(tanh + 1) / 2": (np.tanh(x) + 1) / 2,
            "2 sigmoid(x) - 1 (a sigmoid, of images in 0 .. 1)": 2 * sigmoid(x) - 1,
            "ReLU6": np.clip(x, 0, 6), "ELU": np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
            "softplus": np.logaddexp(0, x), "SiLU": x * sigmoid(x),
            "a hard sigmoid": np.clip(x / 6 + 0.5, 0, 1), "a hard tanh": np.clip(x, -1, 1),
            "softsign": x / (1 + np.abs(x)), "a leaky ReLU of 0.01": np.where(x > 0, x, 0.01 * x)}
    for what, made in functions.items():
        yield Hypothesis("another-activation", f"{what} stands where CNTK has {kind}", code, made,
                         PAGE)
    low, high = float(port.min()), float(port.max())
    yield Hypothesis("clipped", f"its output is clipped to {nice(low, 3)} .. {nice(high, 3)}",
                     "take the clamp off", np.clip(case.right, low, high), PAGE)
    dropped = (port == 0) & (case.right != 0)
    if dropped.any():
        rest = ~dropped
        by = float((port[rest] * case.right[rest]).sum() / np.square(case.right[rest]).sum())
        yield Hypothesis("dropout", f"{dropped.mean():.2%} of its output is 0, the rest is "
                         f"{nice(by)} times as large: dropout", "take nn.Dropout out",
                         np.where(dropped, 0, by * case.right), PAGE)
