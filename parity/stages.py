"""The comparison: captures in, stages out. Each stage is one function; ``ALL`` is their order.

The order is that in which a mistake would spread: what a later stage finds may be the consequence
of what an earlier one found, not the other way round. A stage compares every array that its
reference has; one that the other side lacks, or has too many, is a failed check.
"""
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from parity import metrics, verdict
from parity.capture_format import Capture, CaptureError
from parity.results import Check, Stage

DEVIATION = 0.02  # of the initial weights; the article's prose calls it a variance

# The article's two tables: layer, kernel, channels, stride, and the size that comes out. (The
# article prints stride 2 for the generator's first layer; 1 x 1 to 4 x 4 is the same with either.)
GENERATOR_TABLE = [("conv1", 4, 1024, 4), ("conv2", 5, 512, 8), ("conv3", 5, 256, 16),
                   ("conv4", 5, 128, 32), ("conv5", 5, 64, 64), ("conv6", 5, 32, 128),
                   ("conv7", 5, 3, 256)]
DISCRIMINATOR_TABLE = [("conv1", 3, 32, 128), ("conv2", 3, 64, 64), ("conv3", 3, 128, 32),
                       ("conv4", 3, 256, 16), ("conv5", 3, 512, 8), ("conv6", 3, 1024, 4),
                       ("conv7", 4, 1, 1)]


@dataclass
class Captures:
    """What is compared. ``cntk`` is the reference, ``oracle`` the port in float64.

    twins: "cntk", "port" and "rerun1" .. of the twin run; empty where it was not asked for.
    """

    cntk: Capture
    port: Capture
    oracle: Capture
    twins: dict[str, Capture] = field(default_factory=dict)
    kinks: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)  # counted so far

    @property
    def onednn(self) -> bool:
        return bool(self.cntk.manifest["plan"]["onednn"])

    def nudge(self, place: str) -> dict[str, float]:
        """How far CNTK's layer in evaluation mode moves with its inputs moved by one ULP: "error",
        a part of its size, and "largest", absolute. place: ``branch/layer/output``."""
        nothing = {"error": 0.0, "largest": 0.0}
        return self.cntk.facts.get("evaluation_nudged", {}).get(place, nothing)


def array_or_failure(capture: Capture, name: str) -> np.ndarray | Check:
    try:
        return capture[name]
    except CaptureError as error:
        return verdict.missing(name, str(error))


def arrays_or_failure(place: str, *wanted: tuple[Capture, str]) -> list[np.ndarray] | Check:
    """All of the arrays, or the failed check of the first that cannot be had, at ``place``."""
    arrays = []
    for capture, name in wanted:
        found = array_or_failure(capture, name)
        if isinstance(found, Check):
            return verdict.missing(place, found.detail)
        arrays.append(found)
    return arrays


def pairs(reference: Capture, other: Capture, prefix: str, place: str = ""
          ) -> Iterator[tuple[str, np.ndarray, np.ndarray] | Check]:
    """(name without the prefix, the reference's array, the other's); a Check for what one lacks.

    place: the other's prefix, if it is another."""
    place = place or prefix
    ours, theirs = reference.names(prefix), other.names(place)
    for name in [*ours, *(name for name in theirs if name not in set(ours))]:
        found = arrays_or_failure(name, (reference, f"{prefix}/{name}"),
                                  (other, f"{place}/{name}"))
        yield found if isinstance(found, Check) else (name, found[0], found[1])


def compared_bits(reference: Capture, other: Capture, prefix: str, local: bool | None = None
                  ) -> list[Check]:
    """Every array under a prefix has the reference's bits."""
    return [pair if isinstance(pair, Check) else
            verdict.same_bits(pair[0], pair[2], pair[1], local=local)
            for pair in pairs(reference, other, prefix)]


# ------------------------------------------------------------------------------------ the stages


def structure(captures: Captures) -> Stage:
    stage = Stage("structure", "layers, shapes, parameter counts and sharing, against the article")
    facts = {"CNTK": captures.cntk.facts.get("parameters"),
             "the port": captures.port.facts.get("parameters")}
    theirs, ours = captures.cntk.names("initial"), captures.port.names("initial")
    for name in [*theirs, *(name for name in ours if name not in set(theirs))]:
        a, b = (capture.shape(f"initial/{name}") if f"initial/{name}" in capture else None
                for capture in (captures.cntk, captures.port))
        stage.checks.append(verdict.within(
            name, 0 if a == b else 1, "structure",
            f"{name} is {a or 'not there'} in CNTK, {b or 'not there'} in the port"))
    for who, found in facts.items():
        if found is None:
            stage.checks.append(verdict.missing("layers", f"{who} gave no layer table"))
            continue
        shapes = {(branch, layer): tuple(shape) for branch, layer, shape in found["layers"]}
        for branch, table in (("generator", GENERATOR_TABLE),
                              ("discriminator_real", DISCRIMINATOR_TABLE),
                              ("discriminator_fake", DISCRIMINATOR_TABLE)):
            for layer, _, channels, size in table:
                expected, got = (channels, size, size), shapes.get((branch, layer))
                stage.checks.append(verdict.within(
                    f"{branch}/{layer}/shape", 0 if got == expected else 1, "structure",
                    f"{who}: the output is {got}, the article's table says {expected}"))
        for name in ("generator", "discriminator"):
            expected_count = expected_parameters(name)
            stage.checks.append(verdict.within(
                f"{name}/parameters/count", abs(found[name] - expected_count), "structure",
                f"{who}: {found[name]:,} parameters, the article's layers have "
                f"{expected_count:,}"))
        own = (found["discriminator_parameters"] - found["shared_parameters"]
               + found["fake_branch_parameters_of_its_own"])
        stage.checks.append(verdict.within(
            "discriminator_fake/parameters/of_its_own", own, "structure",
            f"{who}: {own} parameters are not shared between the real and the fake branch"))
        own = found["discriminator_statistics"] - found["shared_statistics"]
        stage.checks.append(verdict.within(
            "discriminator_fake/statistics/of_its_own", own, "structure",
            f"{who}: {own} running statistics are not shared between the two branches"))
    for who, capture in (("the port", captures.port), ("the port in float64", captures.oracle)):
        stopped = capture.facts.get("stopped")
        if stopped:
            stage.checks.append(verdict.missing("port/capture/whole", f"{who} stopped: {stopped}"))
    stage.notes.append("The article's table prints stride 2 for the generator's first layer; the "
                       "program has stride 1. From 1 x 1 the 4 x 4 output is the same.")
    return stage


def expected_parameters(network: str) -> int:
    """From the article's table: weights; scale and bias of each normalisation; the biases."""
    table = GENERATOR_TABLE if network == "generator" else DISCRIMINATOR_TABLE
    total, before = 0, 100 if network == "generator" else 3
    for i, (_, kernel, channels, _) in enumerate(table, 1):
        total += before * channels * kernel * kernel
        if i == len(table) or (network == "discriminator" and i == 1):
            total += channels
        else:
            total += 2 * channels
        before = channels
    return total


def initial(captures: Captures) -> Stage:
    stage = Stage("initial", "what CNTK draws as initial weights against what the port draws")
    for pair in pairs(captures.cntk, captures.port, "initial"):
        if isinstance(pair, Check):
            stage.checks.append(pair)
            continue
        name, theirs, ours = pair
        check = verdict.same_bits(name, ours, theirs)
        stage.checks.append(check)
        if name.endswith("/weight"):
            found = moments(ours)
            check.metrics.update(found)
            stage.checks += distribution(f"{name}_cntk", theirs,
                                         found if check.passed else moments(theirs))
            stage.checks += distribution(f"{name}_port", ours, found)
    for entry in captures.port.facts.get("initial_ledger", []):
        stage.notes.append(f"{entry[0]}: seed {entry[1]}, {entry[3]:,} numbers drawn, sha256 "
                           f"{entry[4][:16]}...")
    return stage


def moments(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, skewness and excess kurtosis of a layer's weights."""
    z = np.ravel(values).astype(np.float64)
    n, mean = z.size, float(z.mean())
    z -= mean
    squares = z * z
    second = float(squares.sum()) / n
    deviation = math.sqrt(second) or 1.0
    return {"mean": mean, "standard_deviation": math.sqrt(second * n / max(n - 1, 1)),
            "skewness": float(np.dot(squares, z)) / n / deviation ** 3,
            "excess_kurtosis": float(np.dot(squares, squares)) / n / deviation ** 4 - 3}


KS_SAMPLE = 200_000


def distribution(place: str, values: np.ndarray, found: dict[str, float]) -> list[Check]:
    """Mean, standard deviation (``found``, of ``moments``) and shape against normal(0, 0.02)."""
    n, z = np.size(values), float(stats.norm.ppf(1 - 0.5e-6))
    deviation, mean = found["standard_deviation"], found["mean"]
    few = np.ravel(values)[:KS_SAMPLE].astype(np.float64)
    distance = float(stats.kstest(few, "norm", args=(0, DEVIATION)).statistic)
    critical = float(stats.kstwobign.ppf(1 - 1e-6)) / math.sqrt(few.size)
    width = DEVIATION * z / math.sqrt(2 * (n - 1))
    return [
        verdict.within(place + "_deviation", abs(deviation - DEVIATION) / width,
                       "standard_deviation",
                       f"the standard deviation is {deviation:.6g}, not 0.02 +- {width:.2g}",
                       figures={"standard_deviation": deviation, "interval": width}),
        verdict.within(place + "_mean", abs(mean) / (DEVIATION * z / math.sqrt(n)), "mean",
                       f"the mean is {mean:.3g}", figures={"mean": mean}),
        verdict.within(place + "_shape", distance / critical, "kolmogorov_smirnov",
                       f"the Kolmogorov-Smirnov distance from normal(0, 0.02) is {distance:.4g}",
                       figures={"kolmogorov_smirnov": distance}),
    ]


def reader(captures: Captures) -> Stage:
    stage = Stage("reader", "the minibatches: order of the images, colour, scaling, sweep ends")
    stage.checks += compared_bits(captures.cntk, captures.port, "reader/probe")
    stage.checks += compared_bits(captures.cntk, captures.port, "input/reader")
    theirs, ours = (capture.facts.get("warmup_minibatches") for capture in
                    (captures.cntk, captures.port))
    stage.checks.append(same_minibatches("minibatches/of_warm_up/hashes", theirs, ours))
    return stage


def same_minibatches(place: str, theirs: list[str] | None, ours: list[str] | None) -> Check:
    """By their hashes; that a side has none, or fewer, is a failure."""
    if not theirs or not ours:
        return verdict.missing(place, "one side has no hashes of its minibatches")
    wrong = [i for i, (a, b) in enumerate(itertools.zip_longest(theirs, ours), 1) if a != b]
    return verdict.within(place, len(wrong), "exact",
                          f"the minibatches of iterations {wrong[:5]} are others")


def optimizer(captures: Captures) -> Stage:
    return Stage("optimizer", "Adam on given gradients, 12 steps, many of them clipped",
                 compared_bits(captures.cntk, captures.port, "optimizer/probe", local=True))


def normalisation(captures: Captures) -> Stage:
    return Stage("normalisation", "running statistics of a layer from its first minibatch on",
                 compared_bits(captures.cntk, captures.port, "normalisation/probe", local=True))


POINTWISE = {"log": ("pointwise", "pointwise_gradient"), "loss_of_real": ("loss", "loss_gradient"),
             "loss_of_fake": ("loss", "loss_gradient")}


def pointwise(captures: Captures) -> Stage:
    stage = Stage("pointwise", "log, sigmoid, rectifiers and the losses, where they saturate")
    for pair in pairs(captures.cntk, captures.port, "pointwise/probe"):
        if isinstance(pair, Check):
            stage.checks.append(pair)
            continue
        name, theirs, ours = pair
        if theirs.shape != ours.shape:
            stage.checks.append(verdict.other_shape(name, ours, theirs))
            continue
        function, quantity = name.split("/")
        policies = POINTWISE.get(function, ("pointwise", "pointwise"))
        same = (ours == theirs) | ((np.abs(ours) <= 1e-45) & (np.abs(theirs) <= 1e-45))
        with np.errstate(all="ignore"):
            apart = np.where(same, 0.0, np.abs(ours.astype(float) - theirs) / np.abs(
                theirs.astype(float)))
        worst = int(np.argmax(np.nan_to_num(apart, nan=np.inf)))
        stage.checks.append(verdict.within(
            name, float(np.nan_to_num(apart, nan=np.inf)[worst]),
            policies[0] if quantity == "output" else policies[1],
            f"at point {worst}: {theirs[worst]:.9g} in CNTK, {ours[worst]:.9g} in the port",
            local=True))
    return stage


def state(captures: Captures) -> Stage:
    return Stage("state", "the weights as they came in from CNTK's model files",
                 compared_bits(captures.cntk, captures.port, "state"))


def forward(mode: str) -> Callable[[Captures], Stage]:
    def compare(captures: Captures) -> Stage:
        prefix = f"forward/{mode}"
        stage = Stage(prefix, f"every layer's output in {mode} mode, on its own inputs and in the "
                              "chain")
        stage.checks, equal = near(captures, prefix, 0)
        if mode == "g_step":
            stage.title = "every layer's output in the G step, from CNTK's state after its D step"
        if mode == "training":
            stage.notes += unsteadiness(captures.cntk)
        if mode == "evaluation":
            theirs, ours = (array_or_failure(c, f"{prefix}/generator/tanh7/output") for c in
                            (captures.cntk, captures.port))
            if not isinstance(theirs, Check) and not isinstance(ours, Check) \
                    and theirs.shape == ours.shape:  # else near says so
                stage.checks.append(verdict.within_nudges(
                    "generator/tanh7/output", metrics.largest_absolute(ours, theirs),
                    captures.nudge("generator/tanh7/output")["largest"], "output",
                    detail="the images differ", local=False))
            for who, capture in (("CNTK", captures.cntk), ("the port", captures.port)):
                changed = capture.facts.get("evaluation_changes")
                stage.checks.append(verdict.within(
                    "evaluation/changes/nothing", len(changed) if changed is not None
                    else math.inf, "ledger", f"evaluation changes {changed} in {who}"))
        stage.notes.append(equal)
        return stage
    compare.__name__ = f"forward_{mode}"
    return compare


def unsteadiness(cntk: Capture) -> list[str]:
    """How far CNTK is from itself: what any bound on rounding has to leave room for."""
    notes = []
    for name, what in (("reversed", "the samples of the minibatch in reverse order"),
                       ("nudged", "every pixel and latent moved by one ULP")):
        found = cntk.facts.get("unsteadiness", {}).get(name)
        if found:
            worst = max(found, key=found.__getitem__)
            notes.append(f"CNTK against itself with {what}: at most {found[worst]:.3g} of a "
                         f"layer's size ({worst}).")
    return notes


ON_ITS_OWN = ("forward/evaluation", "forward/training", "gradient/d", "gradient/g")


def backwards(name: str) -> tuple[bool, bool, int, int, bool]:
    """The order in which a gradient's error spreads: the loss, then the discriminator's and the
    generator's layers from the last to the first, each layer's output before its parameters."""
    network, layer, quantity = name.split("/")
    kind = {"conv": 0, "bn": 1}.get(layer.rstrip("0123456789"), 2)
    number = int(layer[-1]) if network != "loss" else 0
    return (network != "loss", network == "generator", -number, -kind,
            quantity != "output")


def near(captures: Captures, prefix: str, kinks: int, loose: float = 1.0
         ) -> tuple[list[Check], str]:
    """Each layer on its own inputs (local), then in the chain; and a note of how many of the port's
    arrays have CNTK's bits, which is more than is asked of a port. kinks, loose: see ``gradient``.
    """
    checks: list[Check] = []
    counts, samples = [], captures.cntk.manifest["plan"]["minibatch_size"]
    # Sums over the samples are as much longer than those the policies were measured with.
    sums = 1.0 if prefix == "forward/evaluation" else max(1.0, samples / 4)
    for place, local in (("local/" + prefix, True), (prefix, False)):
        names = captures.cntk.names(prefix)
        if prefix.startswith("gradient/"):
            names.sort(key=backwards)
        extra = [name for name in captures.port.names(place) if name not in set(names)]
        if local and prefix not in ON_ITS_OWN:
            continue
        equal = compared = 0
        for name in [*names, *extra]:
            found = arrays_or_failure(name, (captures.cntk, f"{prefix}/{name}"),
                                      (captures.port, f"{place}/{name}"),
                                      (captures.oracle, f"{place}/{name}"))
            if isinstance(found, Check):
                checks.append(found)
                continue
            cntk, port, oracle = found
            compared += 1
            equal += cntk.shape == port.shape and metrics.differing(port, cntk) == 0
            evaluated = not local and prefix == "forward/evaluation"
            # In the chain the errors of one sample go together: there are as many as samples.
            few = samples if not local and np.size(cntk) <= 4 * samples else None
            checks += verdict.nearness(name, port, cntk, oracle, captures.onednn, local,
                                       0 if local else kinks, few,
                                       sums if local else max(loose, steep(captures, prefix,
                                                                           name)),
                                       captures.nudge(name)["error"] if evaluated else 0.0)
        counts.append(f"{equal} of {compared} arrays "
                      + ("on their own inputs" if local else "in the chain"))
    return checks, f"With CNTK's bits, no value differing: {', '.join(counts)}."


def steep(captures: Captures, prefix: str, name: str) -> float:
    """A sigmoid's relative error in the chain is its logit's absolute one: 1 + largest logit."""
    if not prefix.startswith("forward/") or not name.endswith("/sigmoid7/output"):
        return 1.0
    logits = array_or_failure(captures.cntk, f"{prefix}/{name.replace('sigmoid7', 'conv7')}")
    return 1.0 if isinstance(logits, Check) else 1.0 + float(np.max(np.abs(logits)))


# A float32 number just below 1 is a multiple of this away from it.
GRAIN = 2.0 ** -24


def saturation(captures: Captures, prefix: str, branches: Iterable[str]) -> float:
    """The largest relative grain of 1 - y over the discriminator's outputs y: how much a gradient
    that holds 1 - y changes when y is rounded the other way; 1 where y is 1."""
    grain = 0.0
    for branch in branches:
        y = array_or_failure(captures.cntk, f"{prefix}/{branch}/sigmoid7/output")
        if not isinstance(y, Check):
            apart = float(np.min(1.0 - y.astype(np.float64)))
            grain = max(grain, min(1.0, GRAIN / apart if apart else 1.0))
    return grain


def coarse(grain: float) -> bool:
    """Whether the grain shows beside what the chain is allowed anyway."""
    return grain > verdict.POLICIES["formula_chain"].value / 8


def loosened(grain: float) -> float:
    """The factor on the policy "kink" that a grain of 1 - y asks for: eight grains."""
    return max(1.0, 8 * grain / verdict.POLICIES["kink"].value)


def kinks(captures: Captures, prefix: str, branches: tuple[str, ...]) -> int:
    """Units whose rectifier's input has another sign in CNTK or the port than in float64. Two
    stages ask for the same, so it is kept."""
    if (prefix, branches) not in captures.kinks:
        captures.kinks[prefix, branches] = _counted_kinks(captures, prefix, branches)
    return captures.kinks[prefix, branches]


def _counted_kinks(captures: Captures, prefix: str, branches: tuple[str, ...]) -> int:
    count = 0
    for name in captures.oracle.names(prefix):
        branch, layer, _ = name.split("/")
        rectified = layer.startswith("bn") or (branch != "generator" and layer == "conv1")
        if branch not in branches or not rectified:
            continue
        sides = []
        for capture in (captures.cntk, captures.port, captures.oracle):
            found = array_or_failure(capture, f"{prefix}/{name}")
            if isinstance(found, Check):
                return 0  # the forward stage says so
            sides.append(found > 0)
        if sides[0].shape == sides[1].shape == sides[2].shape:
            count += int(np.count_nonzero((sides[0] != sides[2]) | (sides[1] != sides[2])))
    return count


def gradient(step: str) -> Callable[[Captures], Stage]:
    def compare(captures: Captures) -> Stage:
        loss = {"d": "discriminator", "g": "generator"}[step]
        where = {"d": "forward/training", "g": "forward/g_step"}[step]
        count = kinks(captures, where, ("discriminator_real", "discriminator_fake")
                      if step == "d" else ("generator", "discriminator_fake"))
        grain = saturation(captures, where, ("discriminator_real", "discriminator_fake")
                           if step == "d" else ("discriminator_fake",))
        stage = Stage(f"gradient/{step}", f"gradients of the {loss}'s loss: every parameter and "
                                          "every layer's output")
        stage.checks, equal = near(captures, f"gradient/{step}", count + coarse(grain),
                                   loosened(grain))
        stage.notes.append(f"{count} units lie on other sides of a rectifier's kink in CNTK, the "
                           "port and float64: their gradients in the chain differ, on their own "
                           "inputs they do not.")
        if coarse(grain):
            stage.notes.append("The discriminator is so sure that 1 - D has a grain of "
                               f"{grain:.2g} of itself in float32: gradients in the chain are that "
                               "coarse.")
        stage.notes.append(equal)
        return stage
    compare.__name__ = f"gradient_{step}"
    return compare


def step(captures: Captures) -> Stage:
    stage = Stage("step", "one D step, one G step: parameters, m, v, counter, running statistics")
    for which, network in (("d", "discriminator"), ("g", "generator")):
        stage.checks += optimizer_alone(captures, f"step/0001/after_{which}", network)
    count = kinks(captures, "forward/training", ("discriminator_real", "discriminator_fake"))
    count += kinks(captures, "forward/g_step", ("generator", "discriminator_fake"))
    grain = max(saturation(captures, "forward/training", ("discriminator_real",
                                                          "discriminator_fake")),
                saturation(captures, "forward/g_step", ("discriminator_fake",)))
    count += coarse(grain)
    samples = captures.cntk.manifest["plan"]["minibatch_size"]
    for which in ("d", "g"):
        prefix = f"step/0001/after_{which}"
        for pair in pairs(captures.cntk, captures.port, prefix):
            if isinstance(pair, Check):
                stage.checks.append(pair)
                continue
            name, theirs, ours = pair
            name = f"after_{which}/{name}"
            if theirs.dtype.kind == "i":
                stage.checks.append(verdict.same_bits(name, ours, theirs, local=True))
                continue
            oracle = array_or_failure(captures.oracle, f"{prefix}/{pair[0]}")
            if isinstance(oracle, Check):
                stage.checks.append(oracle)
                continue
            if not theirs.shape == ours.shape == oracle.shape:
                odd = ours if ours.shape != theirs.shape else oracle
                stage.checks.append(verdict.other_shape(name, odd, theirs))
                continue
            few = samples if np.size(theirs) <= 4 * samples else None
            statistic = "/running_" in name
            # In float64 nothing is rounded to float32, 1 - beta2 neither: what that moves is the
            # same on both sides, so the formula's own distance says nothing here.
            stage.checks += verdict.nearness(name, ours, theirs, oracle, captures.onednn, False,
                                             count if not statistic else 0, few,
                                             1.0 if statistic else loosened(grain))[
                                                 0 if statistic else 1:]
    return stage


def optimizer_alone(captures: Captures, after: str, network: str) -> list[Check]:
    """The port's optimizer on CNTK's gradients: all that the learner of ``network`` moves."""
    moved = [name for name in captures.cntk.names(after) if name.startswith(f"{network}/")
             and "/running_" not in name and not name.endswith("/sample_count")]
    extra = [name for name in captures.port.names(f"local/{after}") if name not in set(moved)]
    checks = []
    for name in [*moved, *extra]:
        place = f"{after.removeprefix('step/0001/')}/{name}"
        found = arrays_or_failure(place, (captures.port, f"local/{after}/{name}"),
                                  (captures.cntk, f"{after}/{name}"))
        checks.append(found if isinstance(found, Check) else
                      verdict.same_bits(place, found[0], found[1], local=True))
    return checks


def ledger(captures: Captures) -> Stage:
    stage = Stage("ledger", "everything that a D step and a G step change, as events")
    theirs, ours = ([tuple(event) for event in capture.facts.get("ledger", [])]
                    for capture in (captures.cntk, captures.port))
    if not theirs or not ours:
        stage.checks.append(verdict.missing("ledger", "one side has no ledger"))
        return stage
    counts_of_theirs = {event[:2]: event[2] for event in theirs}
    counts_of_ours = {event[:2]: event[2] for event in ours}
    for key in [*counts_of_theirs, *(k for k in counts_of_ours if k not in counts_of_theirs)]:
        a, b = counts_of_theirs.get(key, "unchanged"), counts_of_ours.get(key, "unchanged")
        stage.checks.append(verdict.within(
            f"{key[0]}/{key[1]}", 0 if a == b else 1, "ledger", f"CNTK: {a}, the port: {b}"))
    stage.checks.append(verdict.within("events/in/order", 0 if theirs == ours else 1, "ledger",
                                       "the two lists are not equal"))
    for who, events in summary(theirs).items():
        stage.notes.append(f"{who}: {events}")
    return stage


def summary(events: list[tuple[Any, ...]]) -> dict[str, str]:
    """By step: how many arrays it changes, and the counts it adds."""
    made = {}
    for name in ("d_step", "g_step"):
        counts: dict[tuple[str, str, int], int] = {}
        arrays = 0
        for event in events:
            if event[0] != name:
                continue
            arrays += 1
            if not isinstance(event[2], str):
                network, _, quantity = event[1].split("/")
                key = (network, quantity, event[2])
                counts[key] = counts.get(key, 0) + 1
        text = ", ".join(f"{network}'s {quantity} +{amount} ({many})"
                         for (network, quantity, amount), many in counts.items())
        made[name] = f"{arrays} arrays change; {text}"
    return made


def twin(captures: Captures) -> Stage:
    stage = Stage("twin", "from the seed alone: initial weights, minibatches, losses; and how fast "
                          "CNTK parts from itself")
    cntk, port = captures.twins["cntk"], captures.twins["port"]
    a, b = (capture.facts.get("initial_sha256") or {} for capture in (cntk, port))
    wrong = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    stage.checks.append(verdict.within(
        "twin/initial/weights", len(wrong), "exact",
        f"other initial values in {', '.join(wrong[:3])}") if a or b else verdict.missing(
            "twin/initial/weights", "neither side has hashes of its initial weights"))
    stage.checks.append(same_minibatches("twin/reader/minibatches", *(
        capture.facts.get("minibatch_sha256") for capture in (cntk, port))))
    unusable = incomparable(captures.twins)
    if unusable:
        stage.checks += unusable
        return stage
    distances = horizon(captures.twins)
    reference = cntk[LOSSES]
    first = abs(float(port[LOSSES][0, 0]) / float(reference[0, 0]) - 1)
    stage.checks.append(verdict.within("iteration0001/twin/D_loss", first, "first_loss",
                                       f"the first D loss differs by {first:.3g}"))
    for quantity, series in distances.items():
        reruns = [values for name, values in series.items() if name.startswith("rerun")]
        if not reruns:
            continue
        bound = np.max(reruns, axis=0)
        for i in range(len(reference)):
            if quantity == "D_loss" and i == 0:
                continue
            ratio = series["port"][i] / bound[i] if bound[i] else (
                0.0 if not series["port"][i] else math.inf)
            stage.checks.append(verdict.within(
                f"iteration{i + 1:04d}/twin/{quantity}", ratio, "horizon",
                f"the port is {series['port'][i]:.3g} away from CNTK, CNTK's own reruns at most "
                f"{bound[i]:.3g}", figures={"port": float(series["port"][i]),
                                            "largest_rerun": float(bound[i])}))
    step_reached = indistinguishable(distances)
    if step_reached is not None:
        stage.notes.append(f"Up to iteration {step_reached} of {len(reference)} the port is no "
                           "farther from CNTK's weights than the farthest of CNTK's own one-ULP "
                           "reruns.")
    return stage


LOSSES, WEIGHTS = "twin/run/losses/d_and_g", "twin/run/weights/sampled"


def incomparable(twins: dict[str, Capture]) -> list[Check]:
    """A failed check for every run that ended early, reached NaN or lacks something."""
    checks = []
    for array in (LOSSES, WEIGHTS):
        reference = array_or_failure(twins["cntk"], array)
        for name, capture in twins.items():
            found = array_or_failure(capture, array)
            if isinstance(found, Check):
                checks.append(found)
            elif not isinstance(reference, Check) and found.shape != reference.shape:
                checks.append(verdict.missing(array, f"the shape is {found.shape} in twin-{name}, "
                                                     f"{reference.shape} in twin-cntk"))
    return checks


def horizon(twins: dict[str, Capture]) -> dict[str, dict[str, np.ndarray]]:
    """Distances from CNTK's run: of its weights (root mean square over 256 places of every
    parameter) and its two losses (largest so far): quantity to run to one value an iteration."""
    reference = twins["cntk"]
    losses = reference[LOSSES]
    weights = reference[WEIGHTS].astype(np.float64)
    made: dict[str, dict[str, np.ndarray]] = {"weights": {}, "D_loss": {}, "G_loss": {}}
    for name, capture in twins.items():
        if name == "cntk":
            continue
        apart = capture[WEIGHTS] - weights
        made["weights"][name] = np.sqrt(np.mean(apart ** 2, axis=1))
        gone = np.maximum.accumulate(np.abs(capture[LOSSES] - losses), axis=0)
        made["D_loss"][name], made["G_loss"][name] = gone[:, 0], gone[:, 1]
    return made


def indistinguishable(distances: dict[str, dict[str, np.ndarray]]) -> int | None:
    """The last iteration up to which the port is no farther away than the farthest rerun."""
    series = distances["weights"]
    reruns = [values for name, values in series.items() if name.startswith("rerun")]
    if not reruns:
        return None
    beyond = np.flatnonzero(series["port"] > np.max(reruns, axis=0))
    return int(beyond[0]) if beyond.size else len(series["port"])


ALL: tuple[Callable[[Captures], Stage], ...] = (
    structure, initial, reader, optimizer, normalisation, pointwise, state, forward("evaluation"),
    forward("training"), gradient("d"), forward("g_step"), gradient("g"), step, ledger)
