"""The only place where a number becomes pass or fail: every tolerance, and where it came from.

Three kinds of judgement, from the sharpest down:

exact    the same bits. Where the port does the same arithmetic there is nothing to tolerate.
ratio    two float32 programs round differently, so neither is the truth; the float64 oracle is.
         The port may be at most a stated factor farther from it than CNTK is.
floor    a difference that no ratio bounds, measured: once, or in the run itself.

Each is applied to a layer on its own inputs first (``local``), where an error is born, and then in
the chain, where it may be inherited.
"""
import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from parity import metrics
from parity.metrics import Array
from parity.results import Check


@dataclass(frozen=True)
class Policy:
    """value: the allowance. unit: of what is measured. source: why this number and no other."""

    value: float
    unit: str
    source: str


POLICIES = {
    "exact": Policy(
        0, "differing values",
        "the port does CNTK's arithmetic in CNTK's order; measured 0 over every case of the tests"),
    "present": Policy(
        0, "arrays or facts that are not on both sides",
        "what only one side has was not compared, and what is not compared does not pass"),
    "error_ratio": Policy(
        1.5, "times CNTK's error against float64",
        "with PyTorch's own convolutions, which add float32 products up in another order, the "
        "largest of a layer on its own inputs was 1.29; with CNTK's order (convolution.py) it is "
        "1. Or under one ULP"),
    "error_ratio_onednn": Policy(
        3.0, "times CNTK's error against float64",
        "oneDNN adds up in blocks: the largest ratio measured at minibatch 4 was 2.5, in the "
        "generator's second layer (at minibatch 2 it is 3.9, which fails). Or under one ULP"),
    "one_ulp": Policy(
        1.0, "units in the last place, root mean square",
        "two correctly rounded results of one value may be neighbours"),
    "formula": Policy(
        2e-5, "of the layer's size, CNTK's distance from the port's formula in float64",
        "float32's rounding: the largest of a layer on its own inputs was 3.6e-6 at minibatch 4 "
        "(CNTK adds the squares of batch normalisation up in float32). A wrong formula is off by "
        "1e-3 and more. Above minibatch 4, in training mode and backwards, times N / 4: the error "
        "of such a sum grows with its length (a variance over 64 x 64 places is off by 6e-6, "
        "2e-5, 9e-5 and 3e-4 of itself for N of 1, 4, 16 and 64, and a gradient of a scale at "
        "minibatch 16 was by 2.2e-5). Asked only where the port has not CNTK's bits"),
    "formula_chain": Policy(
        2e-4, "of the layer's size, CNTK's distance from the port's formula in float64",
        "the same, grown through up to 20 layers: the largest measured was 4.4e-6 at minibatch 4"),
    "nudge": Policy(
        4.0, "times what CNTK's own output moves when every pixel and latent is moved by one ULP",
        "what an output is allowed where it is so ill-conditioned that its ordinary allowance is "
        "less than this (weights times 8: tanh's inputs are 500,000 times larger, and so are their "
        "roundings). Measured with weights times 1, 2, 4 and 8: CNTK's distance from float64 was "
        "at most 1.3 nudges, onnxruntime's from CNTK and from the port at most 2.6"),
    "folded": Policy(
        2.0 ** -20, "of the largest value",
        "a weight that holds its normalisation is w * (scale / root(variance + epsilon)): four "
        "roundings of 2**-24 each, and the bias is a difference of such numbers"),
    "kink": Policy(
        0.1, "of the gradient's size, where a unit lies on the other side of a rectifier's kink",
        "a unit that rounding moves over 0 has another gradient: with minibatch 4 one such unit "
        "changes a layer's gradient by 2e-3, in CNTK against float64 too. Gradients on their own "
        "inputs have no kinks and are judged sharply"),
    "output": Policy(
        2e-6, "largest absolute error at scale 1",
        "the generator's output after training: rounding grown through seven layers measured "
        "6.9e-7 between CNTK and the port"),
    "pointwise": Policy(
        1.2e-7, "relative",
        "one rounding, 2**-23: log, sigmoid and rectifiers are good to about one unit in the last "
        "place on both sides"),
    "pointwise_gradient": Policy(
        4e-6, "relative",
        "the gradient of log is exp of a rounded logarithm: half a unit of |log z| up to 88"),
    "loss": Policy(
        4e-7, "relative", "a sigmoid and a logarithm, each good to one rounding, twice"),
    "loss_gradient": Policy(
        2e-6, "relative", "the exponential of a rounded logarithm where both are normal numbers"),
    "standard_deviation": Policy(
        1.0, "half-widths of the 99.9999 % confidence interval about 0.02",
        "a sample's standard deviation is within sigma * z / sqrt(2 (n - 1)) of sigma"),
    "mean": Policy(
        1.0, "half-widths of the 99.9999 % confidence interval about 0",
        "a sample's mean is within sigma * z / sqrt(n) of 0"),
    "kolmogorov_smirnov": Policy(
        1.0, "critical values at 1e-6 of the Kolmogorov-Smirnov distance from normal(0, 0.02)",
        "Smirnov's distribution of the distance of n values"),
    "structure": Policy(
        0, "entries that are not the article's", "a layer table is right or wrong"),
    "ledger": Policy(
        0, "events that are not the same", "a list of events is right or wrong"),
    "onnx": Policy(
        2e-6, "largest absolute error at scale 1, onnxruntime against the exporter's framework",
        "the same float32 network by another program: 9.2e-7 measured with CNTK's exports"),
    "onnx_layer": Policy(
        2e-5, "largest absolute error over the layer's size (at least 1), onnxruntime against the "
              "exporter's framework",
        "the same inside the network, where activations reach ten times their root mean square: "
        "1.0e-5 measured in the discriminator's last normalisation; an export in bfloat16 is 2e-3 "
        "away"),
    "first_loss": Policy(
        5e-6, "relative",
        "one forward pass of both networks in float32: 1e-6 and less measured"),
    "horizon": Policy(
        3.0, "times the largest distance of CNTK from its own one-ULP reruns, up to that iteration",
        "GAN training is chaotic: the port must part from CNTK no faster than CNTK parts from "
        "itself when its starting weights are moved by one ULP. 3 for one run against the largest "
        "of five"),
    "score": Policy(
        3.0, "times the score's own unsteadiness",
        "the score of CNTK's images moves when each pixel is moved by one ULP, and when CNTK's "
        "images are replaced by the float64 ones: the largest of these, measured in the run"),
    "rerun": Policy(
        0, "differing values",
        "the same program, versions, threads and plan: CNTK's and the port's CPU results repeat "
        "bit for bit (measured)"),
}


def policies() -> dict[str, dict[str, object]]:
    """For report.json: a changed tolerance shows in a diff."""
    return {name: asdict(policy) for name, policy in POLICIES.items()}


# -------------------------------------------------------------------------------------- the checks


def same_bits(place: str, value: Array, reference: Array, policy: str = "exact",
              local: bool | None = None, figures: dict[str, float] | None = None) -> Check:
    """Passes if no value differs; an array of another shape fails."""
    if np.shape(value) != np.shape(reference):
        return other_shape(place, value, reference)
    count = metrics.differing(np.asarray(value), np.asarray(reference))
    detail, figures = "", figures or {}
    if count:
        worst = metrics.first_differing(value, reference)
        figures = {"largest_absolute": metrics.largest_absolute(value, reference),
                   "ulp": metrics.ulp(value, reference)}
        detail = (f"{count:,} of {np.size(value):,} values differ, most at {list(worst)}: "
                  f"{np.asarray(reference)[worst]:.9g} in the reference, "
                  f"{np.asarray(value)[worst]:.9g} here")
    return Check(place, float(count), POLICIES[policy].value, POLICIES[policy].unit, policy,
                 figures, detail, local)


def other_shape(place: str, value: Array, reference: Array) -> Check:
    return missing(place, f"the shape is {np.shape(value)}, the reference's is "
                          f"{np.shape(reference)}")


def missing(place: str, detail: str) -> Check:
    """An array that is not on both sides, or cannot be read: a failure, never a skip."""
    return Check(place, math.inf, 0, POLICIES["present"].unit, "present", {}, detail)


def within(place: str, measured: float, policy: str, detail: str = "", factor: float = 1.0,
           figures: dict[str, float] | None = None, local: bool | None = None) -> Check:
    """measured <= policy's value * factor."""
    chosen = POLICIES[policy]
    return Check(place, float(measured), chosen.value * factor, chosen.unit, policy,
                 figures or {}, "" if measured <= chosen.value * factor else detail, local)


@cache
def few_values(count: int) -> float:
    """How much larger the ratio of two root mean squares of so many errors may be by chance.

    sqrt of the 1 - 1e-6 quantile of Fisher's F(count, count): 1.004 for a million values, 1.9 for
    64, 42 for 4. A layer with one value a sample has few errors, and their ratio is mostly luck.
    """
    return math.sqrt(float(stats.f.ppf(1 - 1e-6, count, count))) if count else 1.0


def within_nudges(place: str, measured: float, nudge: float, policy: str, **more: Any) -> Check:
    """measured <= policy's value, or 4 nudges if they are more.

    nudge: what CNTK's own output moves, in the unit of ``measured``. It is CNTK's alone, so no
    mistake of the port's widens it.
    """
    if nudge * POLICIES["nudge"].value > POLICIES[policy].value * more.get("factor", 1.0):
        return within(place, measured / nudge, "nudge", **{**more, "factor": 1.0})
    return within(place, measured, policy, **more)


def nearness(place: str, port: Array, cntk: Array, oracle: Array, onednn: bool, local: bool,
             kinks: int = 0, distinct: int | None = None, loose: float = 1.0,
             nudge: float = 0.0) -> list[Check]:
    """The two judgements of a layer: is the formula CNTK's, and is the port as near to it as CNTK.

    kinks: units that lie on other sides of a rectifier's kink in two of the runs; where there are
        any, gradients in the chain are judged by the policy "kink".
    distinct: how many independent errors the array holds, if fewer than values.
    loose: factor on what is allowed, where float32 itself is coarser than its last place.
    nudge: CNTK's distance from itself with the inputs moved by one ULP, as a part of the layer's
        size.
    """
    for other in (port, oracle):
        if np.shape(other) != np.shape(cntk):
            return [other_shape(place, other, cntk)]
    cntk_error = metrics.error(cntk, oracle)
    same = metrics.differing(port, cntk) == 0
    port_error = cntk_error if same else metrics.error(port, oracle)
    figures = {
        **(metrics.NO_DIFFERENCE if same else metrics.figures(port, cntk)),
        "cntk_error": cntk_error, "port_error": port_error,
        "ratio": port_error / cntk_error if cntk_error else (1.0 if not port_error else math.inf),
    }
    # A port with CNTK's bits computes CNTK's formula, however far both are from float64.
    formula = same_bits(place, port, cntk, local=local, figures=figures) if same else within_nudges(
        place, cntk_error, nudge, "kink" if kinks else "formula" if local else "formula_chain",
        factor=loose, figures=figures, local=local,
        detail=f"CNTK is {cntk_error:.3g} of the layer's size away from what the port's formula "
               "gives in float64, far beyond rounding: it is another formula")
    policy = "error_ratio_onednn" if onednn else "error_ratio"
    size = metrics.rms(oracle)
    ulps = port_error * size / float(np.spacing(np.float32(size))) if size else port_error
    chance = few_values(distinct or int(np.size(cntk)))
    # Either is enough; where both pass, the one with more room is reported.
    ratio_margin = figures["ratio"] / (POLICIES[policy].value * chance)
    if ulps / POLICIES["one_ulp"].value <= min(1.0, ratio_margin):
        ratio = within(place, ulps, "one_ulp", figures=figures, local=local)
    elif ratio_margin > 1 and kinks and port_error <= POLICIES["kink"].value * loose:
        ratio = within(place, port_error, "kink", factor=loose, figures=figures, local=local)
    else:
        ratio = within(place, figures["ratio"], policy, factor=chance, figures=figures,
                       local=local,
                       detail=f"the port is {port_error:.3g} of the layer's size away from "
                              f"float64, CNTK {cntk_error:.3g}; largest difference "
                              f"{figures['largest_absolute']:.3g} at "
                              f"{list(metrics.first_differing(port, cntk))}")
    return [formula, ratio]
