"""Every number that decides, with where it came from: a tolerance is never a bare number.

A policy is imported by its name, ``from parity.judge.policies import EXACT``, so a misspelt one
fails when the module is imported. A check keeps its policy's ``name``. To judge captures again with
other allowances: ``with changed({"onnx": 1e-5}): ...``.
"""
import contextlib
import difflib
import math
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from captures.errors import ParityError

_CHANGED: ContextVar[Mapping[str, float] | None] = ContextVar("changed", default=None)


class PolicyError(ParityError):
    """A policy that there is not, or an allowance that is no number."""


@dataclass(frozen=True)
class Policy:
    """name: of the check that was judged by it. standard: the allowance. unit: of what is measured.
    source: why this number and no other."""

    name: str
    standard: float
    unit: str
    source: str

    @property
    def value(self) -> float:
        """The allowance that holds now: the standard one, outside ``changed``."""
        return (_CHANGED.get() or {}).get(self.name, self.standard)


EXACT = Policy(
    "exact",
    0, "differing values",
    "the port does CNTK's arithmetic in CNTK's order; measured 0 over every case of the tests")

PRESENT = Policy(
    "present",
    0, "arrays or facts that are not on both sides",
    "what only one side has was not compared, and what is not compared does not pass")

CERTIFIED = Policy(
    "certified",
    2e-4, "of the array's size, a kept value or a moment against the certificate of real CNTK",
    "as \"formula_chain\": float32's rounding, grown through up to 20 layers. Asked only on a "
    "machine whose arithmetic has not CNTK's bits")

CHAIN = Policy(
    "chain", 16.0, "times CNTK's error against float64, in the chain",
    "a program that adds one product after the other is at most 12.6 times as far off as CNTK, who "
    "adds in blocks of 112 (the expected rounding of a sum of 6,400 products over CNTK's, in the "
    "generator's second layer); measured for oneDNN in channels_last: 5.3. Or the "
    "policy carried. Mistakes are born in a layer, where they are judged sharply")

CARRIED = Policy(
    "carried", 1.0, "times what rounding does to it in the float64 oracle's own chain",
    "there every layer is off by four times the expected rounding of a float32 program, twice over "
    "(torch_port/capture/carried.py): four, so that what happens by chance, a unit on the other "
    "side of a kink or a saturated pixel that changes its sign, happens there first. Few values "
    "are allowed the quantile of chi-squared at 1e-6 more. Weights times 16, a convolution by "
    "transforms: one pixel of 393,216 was another, and CNTK's error says nothing of that")

FORMULA = Policy(
    "formula",
    2e-5, "of the layer's size, CNTK's distance from the port's formula in float64",
    "float32's rounding: the largest of a layer on its own inputs was 3.6e-6 at minibatch 4 "
    "(CNTK adds the squares of batch normalisation up in float32). A wrong formula is off by "
    "1e-3 and more. Above minibatch 4, in training mode and backwards, times N / 4: the error "
    "of such a sum grows with its length (a variance over 64 x 64 places is off by 6e-6, "
    "2e-5, 9e-5 and 3e-4 of itself for N of 1, 4, 16 and 64, and a gradient of a scale at "
    "minibatch 16 was by 2.2e-5). Asked only where the port has not CNTK's bits")

FORMULA_CHAIN = Policy(
    "formula_chain",
    2e-4, "of the layer's size, CNTK's distance from the port's formula in float64",
    "the same, grown through up to 20 layers: the largest measured was 4.4e-6 at minibatch 4")

NUDGE = Policy(
    "nudge",
    4.0, "times what CNTK's own output moves when every pixel and latent is moved by one ULP",
    "what an output is allowed where it is so ill-conditioned that its ordinary allowance is "
    "less than this (weights times 8: tanh's inputs are 500,000 times larger, and so are their "
    "roundings). Measured with weights times 1, 2, 4 and 8: CNTK's distance from float64 was "
    "at most 1.3 nudges, onnxruntime's from CNTK and from the port at most 2.6")

FOLDED = Policy(
    "folded",
    2.0 ** -20, "of the largest value",
    "a weight that holds its normalisation is w * (scale / root(variance + epsilon)): four "
    "roundings of 2**-24 each, and the bias is a difference of such numbers")

KINK = Policy(
    "kink",
    0.1, "of the gradient's size, where a unit lies on the other side of a rectifier's kink",
    "a unit that rounding moves over 0 has another gradient: with minibatch 4 one such unit "
    "changes a layer's gradient by 2e-3, in CNTK against float64 too. Gradients on their own "
    "inputs have no kinks and are judged sharply")

OUTPUT = Policy(
    "output",
    2e-6, "largest absolute error at scale 1",
    "the generator's output after training: rounding grown through seven layers measured "
    "6.9e-7 between CNTK and the port")

POINTWISE = Policy(
    "pointwise",
    1.2e-7, "relative",
    "one rounding, 2**-23: log, sigmoid and rectifiers are good to about one unit in the last "
    "place on both sides")

POINTWISE_GRADIENT = Policy(
    "pointwise_gradient",
    4e-6, "relative",
    "the gradient of log is exp of a rounded logarithm: half a unit of |log z| up to 88")

LOSS = Policy(
    "loss",
    4e-7, "relative", "a sigmoid and a logarithm, each good to one rounding, twice")

LOSS_GRADIENT = Policy(
    "loss_gradient",
    2e-6, "relative", "the exponential of a rounded logarithm where both are normal numbers")

STANDARD_DEVIATION = Policy(
    "standard_deviation",
    1.0, "half-widths of the 99.9999 % confidence interval about 0.02",
    "a sample's standard deviation is within sigma * z / sqrt(2 (n - 1)) of sigma")

MEAN = Policy(
    "mean",
    1.0, "half-widths of the 99.9999 % confidence interval about 0",
    "a sample's mean is within sigma * z / sqrt(n) of 0")

KOLMOGOROV_SMIRNOV = Policy(
    "kolmogorov_smirnov",
    1.0, "critical values at 1e-6 of the Kolmogorov-Smirnov distance from normal(0, 0.02)",
    "Smirnov's distribution of the distance of n values")

STRUCTURE = Policy(
    "structure",
    0, "entries that are not the article's", "a layer table is right or wrong")

LEDGER = Policy(
    "ledger",
    0, "events that are not the same", "a list of events is right or wrong")

ONNX = Policy(
    "onnx",
    2e-6, "largest absolute error at scale 1, onnxruntime against the exporter's framework",
    "the same float32 network by another program: 9.2e-7 measured with CNTK's exports")

ONNX_LAYER = Policy(
    "onnx_layer",
    2e-5, "largest absolute error over the layer's size (at least 1), onnxruntime against the "
          "exporter's framework",
    "the same inside the network, where activations reach ten times their root mean square: "
    "1.0e-5 measured in the discriminator's last normalisation; an export in bfloat16 is 2e-3 "
    "away")

FIRST_LOSS = Policy(
    "first_loss",
    5e-6, "relative",
    "one forward pass of both networks in float32: 1e-6 and less measured")

HORIZON = Policy(
    "horizon",
    3.0, "times the largest distance of CNTK from its own one-ULP reruns, up to that iteration",
    "GAN training is chaotic: the port must part from CNTK no faster than CNTK parts from "
    "itself when its starting weights are moved by one ULP. 3 for one run against the largest "
    "of five")

PICTURES = Policy(
    "pictures",
    1e-3, "of the values that another whole number came out for (infinite: two steps off)",
    "images that are 2e-6 apart are 2.6e-4 of a pixel's step apart, so that often another whole "
    "number lies between them; times 4. A writer that truncates, or multiplies by 127, is off in a "
    "third of all values and more")

PREPARED = Policy(
    "prepared",
    5e-6, "largest absolute error at scale 1, against float64",
    "a sum of two products in float32, twice, of pixels up to 255, divided by 128: 2 ** -24 times "
    "some 10, 6e-7, and eight times that; measured 2.8e-7 in CNTK's process on a run's pictures, "
    "3.4e-7 on noise of 64 to 512 pixels. Another kernel is off by 0.1 and more")

WRITTEN = Policy(
    "written", 1e-3, "steps of a byte more than the half step to the nearest, a written pixel from "
    "(x + 1) * 127.5 of its image", "float32 computes up to 255 to 3e-5. One that is truncated "
    "is a whole step off, x * 127 half a step more, another order of the channels tens of steps")

LOGITS = Policy(
    "logits",
    1e-5, "of the largest logit",
    "the same float32 network in another program, through 50 layers: 6.5e-7 measured between CNTK "
    "2.7 and onnxruntime, 5.5e-7 between onnxruntime and PyTorch")

LOGITS_CHAIN = Policy(
    "logits_chain",
    2.5e-3, "of the largest logit",
    "the same, of pictures of which a value in a thousand may be rounded the other way: 1.3e-3 "
    "measured on 12 drawn faces with so many values one step off, by EfficientNet-Lite0; times 2")

FEATURES = Policy(
    "features",
    1e-5, "of the largest feature",
    "as for logits: 1.3e-6 measured for onnxruntime and 1.2e-6 for PyTorch against float64")

FEATURES_CHAIN = Policy(
    "features_chain",
    4e-3, "of the largest feature",
    "as for logits: 2.1e-3 measured on the same pictures; times 2")

STEP_LOSS = Policy(
    "step_loss", 2e-5, "relative, an iteration from CNTK's own state",
    "one forward pass of both networks: see first_loss")

STEP_G_LOSS = Policy(
    "step_g_loss", 2.5e-4, "relative, an iteration from CNTK's own state",
    "D's step comes before it, in which a unit on the other side of a kink may go otherwise: "
    "5.5e-5 was the most in 14 correct ports (3 trainings of 20 iterations, minibatches 1 to 3, "
    "narrow networks), and four times that")

STEP_STATISTIC = Policy(
    "step_statistic", 1e-6, "of the array's size, an iteration from CNTK's own state",
    "an iteration moves a running statistic by a thousandth of the minibatch's, whose rounding in "
    "the chain is below 2e-4: 2e-7, and a few roundings of the sum. A first iteration, which takes "
    "the minibatch's whole, is asked by the stage normalisation")

STEP_MOVEMENT = Policy(
    "step_movement", 0.3, "of the gradient that moves m, an iteration from CNTK's own state",
    "gradients in the chain: 3e-6 by rounding, and where a unit lies on the other side of a kink "
    "up to 0.2 in 14 correct ports (6 trainings of 20 iterations, minibatches 1 to 3, narrow "
    "networks; a first bias, whose terms nearly cancel). What all of an array or a filter does "
    "alike is judged by the policy step_scale; what the same update makes of weight and v, to a "
    "few roundings, beside its m; the stages on given inputs judge sharply what a step is made of")

STEP_ALONE_TIMES = Policy(
    "step_alone_times", 30.0, "times as far elsewhere as the farthest other array of its network",
    "rounding is 2e-6 to 8e-6 of every array's gradient; a kink moves the layers before it alike: "
    "the farthest was at most 5.1 times the next in 14 correct ports (6 trainings of 20 "
    "iterations), and six times that")

STEP_ALONE = Policy(
    "step_alone", 1e-3, "of the gradient that moves m, of an array that goes elsewhere alone (see "
    "step_alone_times), an iteration from CNTK's own state",
    "a unit on the other side of a kink changes the gradients of all that lies before it: an array "
    "that leaves CNTK's way by itself was changed behind the backward pass. Not asked of the "
    "critic's first layer, before which nothing lies (its weight went 6e-3 elsewhere alone in a "
    "correct port), nor of fewer than 8 values, whose terms may cancel")

STEP_LAST = Policy(
    "step_last", 1e-4, "of the gradient that moves m, an iteration from CNTK's own state, of what "
    "is learnt behind the critic's last rectifier",
    "no kink lies between it and the loss: 1e-5 was the most in five correct ports, with the "
    "article's networks too, and ten times that. Gradients in bfloat16 are 1e-3 off. The gradient "
    "of a last bias is the sum of two probabilities a sample, which may nearly cancel (5e-3 of the "
    "movement was off in a correct port, 3e-7 of the terms): of fewer than 8 values the movement "
    "counts as large as makes this 16 roundings of one a term")

STEP_SCALE = Policy(
    "step_scale", 0.001, "scale of CNTK's gradient in an iteration from CNTK's own state, of an "
    "array or of one filter or channel of it",
    "another loss scales the gradient of every array, another gradient of a filter that filter's. "
    "A kink scales too, by up to 1.2e-2, but not evenly: see step_scale_noise. Without one the "
    "scale is below 1e-5")

STEP_SCALE_NOISE = Policy(
    "step_scale_noise", 600.0, "standard errors of that scale",
    "where a kink moves a filter, the scale was up to 209 of its standard errors in 14 correct "
    "ports (6 trainings of 20 iterations): three times that. One filter's gradient 1 % off is "
    "80,000: it leaves no more than rounding. A scale fails by both")

DECAY = Policy(
    "decay", 3e-8, "of the weights, taken away or added by one update",
    "half a unit of 2**-24: an update rounds each weight to one side or the other, and its mean "
    "over an array is smaller by the root of its size. AdamW's ordinary decay at the article's "
    "rate is 1e-7 an update at minibatch 16. Fails only where it is also eight standard errors "
    "(see pattern_noise)")

SCORE = Policy(
    "score",
    1e-5, "of the score",
    "the same pictures have the same logits but for rounding, which are good to 1e-5; the score is "
    "a mean over pictures of sums over classes of them")

SCORE_OF_FLIPS = Policy(
    "score_of_flips",
    4.0, "of the score, times the part of the values that another whole number came out for",
    "of 64 pictures of the fitted generator, moved by 3e-7, 7e-7 and 2e-6 at random, 2.3e-5, "
    "4.8e-5 and 1.3e-4 of the values fell the other way; the score moved by 2.9e-5, 6.2e-5 "
    "and 6.5e-5: 1.3 times that part at most; times 3. Where none did, nothing is allowed for it")

RERUN = Policy(
    "rerun",
    0, "differing values",
    "the same program, versions, threads and plan: CNTK's and the port's CPU results repeat "
    "bit for bit (measured)")

# ------------------------------------------------------------ rounding, or a mistake

ROUNDING = Policy(
    "rounding", 1.5, "times what the error analysis of a float32 sum expects, in any order",
    "the expected error of adding one product after the other, which every sane order stays below "
    "(torch_port/capture/expected_rounding.py), and half as much again, since the errors of a "
    "channel are of one filter and go together. In a group of few values times the quantile of "
    "chi-squared at 1e-6. The largest measured in 234 layers and gradients was 0.96 of the "
    "expectation, for oneDNN in channels_last at minibatch 2; CNTK's own 0.51")

OUTLIER = Policy(
    "outlier", 12.0, "times the expected rounding, one value",
    "the largest of a layer's 4 million values was 8.4 times the expected rounding of a sum of 288 "
    "products (oneDNN in channels_last, the discriminator's second layer)")

PATTERN = Policy(
    "pattern", 5e-7, "scale or offset of a whole channel, as a part of it",
    "oneDNN scales CNTK's channels by at most 2e-7, eight roundings of one value are 4.8e-7; an "
    "epsilon of 2e-5 for 1e-5 scales by 1e-6 to 1e-3")

PATTERN_NOISE = Policy(
    "pattern_noise", 8.0, "standard errors of a channel's scale or offset",
    "of 100,000 channels none is beyond 5 by chance; rounding is a little biased, up to 9 where "
    "its size is below the policy pattern: a pattern fails by both")

PATTERN_SHARE = Policy(
    "pattern_share", 0.5, "of the squared difference, explained by a scale, an offset or a slope",
    "coarser rounding is noise: what is mostly a pattern is another formula")

FEW_ROUNDINGS = Policy(
    "few_roundings", 16.0, "units of 2**-24 of the terms, one value",
    "Adam's update is nine roundings and a root, each at most one unit; statistics are three")

COARSE = Policy(
    "coarse", 2.0 ** -7, "of the array's size",
    "bfloat16 keeps 8 bits: its products are rounded by 2**-9 of themselves, and a sum of them by "
    "no more than four times that of its result, unless it cancels")

FAMILY = Policy(
    "family", 2.0, "times CNTK's own distance from float64",
    "CNTK on its other branches is up to 1.5 times as far as on this one; a variance summed in "
    "float32 is off to one side, which an analysis of random signs does not know")

# ------------------------------------------------------------ two versions of one program

HISTORY_ARITHMETIC = Policy(
    "history_arithmetic", 1e-6, "of the array's size, between two versions on the same inputs",
    "a few roundings of 2**-24 in another order")

HISTORY_CHAIN = Policy(
    "history_chain", 2e-4, "of the layer's size, between two versions",
    "rounding grown through up to 20 layers: see formula_chain")

HISTORY_GRADIENT = Policy(
    "history_gradient", 0.1, "of the array's size, between two versions",
    "gradients in the chain, where units lie on other sides of a kink: see kink")

HISTORY_STATE = Policy(
    "history_state", 1e-3, "of the array's size, between two versions",
    "after the warm-up: an iteration moves a weight by at most 2e-4, beside 0.02, and rounding "
    "turns the direction of few of these steps; ten per cent of all movement of three iterations")

HISTORY_OPTIMIZER = Policy(
    "history_optimizer", 1e-2, "of the array's size, between two versions",
    "after the warm-up, m and v are averages of gradients in the chain; of those a unit on the "
    "other side of a kink changes a layer's by 2e-3 (see kink): five such units")

HISTORY_VALUE = Policy(
    "history_value", 0.02, "of the array's size, one value, between two versions",
    "rounding is spread over an array: the largest of a value was 3e-5 of the size (CNTK's order "
    "against oneDNN's, narrow networks). A weight moves by at most 2e-4 an iteration, beside 0.02, "
    "one way or the other: so much for each iteration of the warm-up. Gradients in the chain are "
    "not asked: a unit on the other side of a kink changes single values as a whole")

# ------------------------------------------------------------ factors, not allowances of their own

BORN_INSIDE = Policy(
    "born_inside", 0.1, "of a layer's allowance",
    "an export that looks right in every respect, with a layer that the reference evaluator "
    "computes as the runtime does: the fault was born inside the tolerance, in a layer before, "
    "whose difference is looked for at a tenth of it")

CORNER = Policy(
    "corner", 1e-5, "of the layer's largest value, between two of the four corners",
    "float32 corners of one network are up to 2.4e-6 apart (measured, parity/onnx/graph.py): four "
    "times that; an export in bfloat16 is 2e-3 away")

GRAINS = Policy(
    "grains", 8.0, "times the relative grain of 1 - D",
    "gradients in the chain hold 1 - D, and D just below 1 is a multiple of 2**-24 away from it: "
    "where that grain is coarse, gradients are as coarse, and eight of it are allowed")

CHANCE = Policy(
    "chance", 1e-6, "probability of a false alarm in one ratio of two errors",
    "Fisher's F: the ratio of two root mean squares of few errors is mostly luck")

SUBNORMAL = Policy(
    "subnormal", 1e-45, "absolute, pointwise functions near 0",
    "the smallest subnormal of float32 may be 0 on a machine that flushes it")

REPRODUCED = Policy(
    "reproduced", 1e-6, "of the layer's largest value",
    "what a reproduction folder allows at least: the oracle's own distance from CNTK may be 0 "
    "where a layer only chooses")

LONGER_SUMS = Policy(
    "longer_sums", 4.0, "samples, the minibatch that the policies of sums were measured with",
    "above it an allowance of a sum over the samples grows with their number: see formula")

POLICIES: Mapping[str, Policy] = {
    value.name: value for value in list(globals().values()) if isinstance(value, Policy)}


@contextlib.contextmanager
def changed(allowances: Mapping[str, float]) -> Iterator[None]:
    """Inside, the named policies allow what is given.

    Raises PolicyError: there is no such policy, or the allowance is not a number from 0 on.
    """
    for name, value in allowances.items():
        if name not in POLICIES:
            near = difflib.get_close_matches(name, POLICIES, 4, 0.4) or list(POLICIES)[:4]
            raise PolicyError(f"there is no policy {name!r}: {', '.join(near)} are some; "
                              "docs/tolerances.md has all of them")
        if not 0 <= value < math.inf:
            raise PolicyError(f"the policy {name} is to allow {value!r}: give a number from 0 on")
    before = _CHANGED.get() or {}
    token = _CHANGED.set({**before, **allowances})
    try:
        yield
    finally:
        _CHANGED.reset(token)


def policies() -> dict[str, dict[str, object]]:
    """For report.json: a changed tolerance shows in a diff."""
    return {name: {"value": policy.value, "unit": policy.unit, "source": policy.source}
            for name, policy in POLICIES.items()}
