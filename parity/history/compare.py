"""Two captures of one plan, made on different days: did anything change?

    bin/parity compare LAST_MONTH TODAY        capture folders, certificates, or recorded runs

The same program, with the same versions on as many processors (CNTK's gradients of weights depend
on their number), repeats bit for bit, so every array has to be the same. Where one of these
differs, what is drawn and read still has to be the same bits, and what is computed has to lie
what other versions may round otherwise: the policies that begin with "history".
"""
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from captures.certificate import places
from captures.errors import CaptureError, short
from captures.format import Capture
from parity.history.causes import HOW, Cause, causes
from parity.history.sides import OfCapture, Side
from parity.judge import judgements, metrics
from parity.judge.policies import (
    EXACT,
    HISTORY_ARITHMETIC,
    HISTORY_CHAIN,
    HISTORY_GRADIENT,
    HISTORY_OPTIMIZER,
    HISTORY_STATE,
    HISTORY_VALUE,
    LEDGER,
    RERUN,
    Policy,
)
from parity.judge.results import Check, Report, Stage

# First part, or parts, of a name to the policy of what another version may round otherwise; the
# first that fits. What is drawn and read has to be the same bits whatever computes.
POLICY_OF: tuple[tuple[str, Policy], ...] = (
    ("initial", EXACT), ("reader", EXACT), ("input", EXACT),
    ("local/step", HISTORY_ARITHMETIC), ("local", HISTORY_CHAIN),
    ("optimizer/probe", HISTORY_ARITHMETIC), ("normalisation", HISTORY_ARITHMETIC),
    ("pointwise", HISTORY_ARITHMETIC),
    ("optimizer", HISTORY_OPTIMIZER), ("state", HISTORY_STATE),
    ("forward", HISTORY_CHAIN), ("score", HISTORY_CHAIN), ("onnx", HISTORY_CHAIN),
    ("rounding", HISTORY_CHAIN), ("classifier", HISTORY_CHAIN), ("program", HISTORY_GRADIENT),
    ("gradient", HISTORY_GRADIENT), ("step", HISTORY_GRADIENT), ("twin", HISTORY_GRADIENT))
FACTS = ("ledger", "warmup_minibatches", "minibatch_sha256", "initial_sha256", "parameters",
         "evaluation_changes", "initial_ledger", "latents_hashes")
# Hashes of what was computed: they repeat where everything has to, and say nothing where not.
COMPUTED = ("program_state", "program_models", "program_steps", "program_resumed")
# Of a training that was held against a reference's own state, iteration by iteration: of no meaning
# for one that was not.
BESIDE = "twin/step/"

ITERATION = "twin/iteration"
# What comes first in a run: the first difference in time is where to look.
IN_TIME = ("initial", "reader", "normalisation", "optimizer/probe", "pointwise", "input", "state",
           "optimizer", "forward/evaluation", "local/forward/evaluation", "score",
           "local/forward/training", "forward/training", "local/gradient/d", "gradient/d",
           "local/step/0001/after_d", "step/0001/after_d", "local/gradient/g", "forward/g_step",
           "gradient/g", "local/step", "step", ITERATION, "twin", "facts")


TITLES = {"facts": "lists of events, hashes and counts",
          ITERATION: "the training, iteration by iteration: where its bits part"}


@dataclass(frozen=True)
class Comparison:
    """word: "identical bits", "rounding" or "drifted". first: the first array in time that is not
    as it was allowed to be; of "rounding", the first that differs; "" where none does. causes: what
    may be why, of the two manifests. how: what is the matter with the first."""

    report: Report
    word: str
    first: str
    causes: tuple[Cause, ...]
    how: str = ""

    @property
    def sentence(self) -> str:
        """For the end of a report."""
        if not self.report.stages:
            return "Neither holds an array or a fact that can be compared."
        if self.word == "identical bits":
            return "Identical bits."
        why = "; ".join(cause.what for cause in self.causes[:4]) or (
            "the two manifests say the same, so nothing that they know of is why")
        if self.word == "rounding":
            return (f"Rounding: the first that differs in time is {self.first}. "
                    f"Candidate causes: {why}.")
        return (f"The first difference in time is {self.first}: {self.how}. Candidate causes: "
                f"{why}.")


@dataclass(frozen=True)
class _One:
    """One array or fact, under its whole name."""

    name: str
    stage: str
    check: Check
    differs: bool

    @property
    def how(self) -> str:
        if math.isinf(self.check.measured):
            return self.check.detail  # missing on one side, or of another shape
        return "drifted"


def compare(reference: Capture | Side, other: Capture | Side) -> Report:
    """The report alone; see ``compared``."""
    return compared(reference, other).report


def compared(reference: Capture | Side, other: Capture | Side,
             tell: Callable[[int, int], None] = lambda done, total: None) -> Comparison:
    """tell: called before each array, with how many are done and how many there are.

    Raises CaptureError: the two are of different plans or jobs."""
    sides: list[Side] = [OfCapture(one) if isinstance(one, Capture) else one
                         for one in (reference, other)]
    ours, theirs = sides
    same_plan(ours, theirs)
    found = tuple(causes(ours.manifest, theirs.manifest))
    report = Report(dict(ours.manifest["plan"]), {
        role: {key: value for key, value in one.manifest.items()
               if key not in ("arrays", "facts", "plan")}
        for role, one in (("reference", ours), ("other", theirs))})
    note = ("the same program, versions and machine: every bit has to repeat" if not found else
            "not the same: " + "; ".join(cause.what for cause in found))
    started = time.monotonic()
    one_by_one: list[_One] = []
    modes = {one.manifest["facts"].get("mode") for one in sides}
    names = sorted((name for name in dict.fromkeys([*ours, *theirs])
                    if len(modes) == 1 or not name.startswith(BESIDE)), key=in_time)
    for done, name in enumerate(names):
        tell(done, len(names))
        stage, place = placed(name)
        maker = ours.maker(name)
        repeats = not (found if maker is ours.manifest else causes(maker, theirs.manifest))
        check = replace(one_array(name, ours, theirs, repeats), place=place)
        one_by_one.append(_One(name, stage, check, bool(check.measured)))
    lost = first_lost(ours, theirs)
    if lost is not None:
        one_by_one.append(_One(lost or ITERATION, ITERATION, judgements.within(
            lost or "twin/state/bits", bool(lost) and not found, RERUN,
            "the first array of the training that has other bits"), bool(lost)))
    wrong = unmatched(ours, theirs)
    if wrong:
        one_by_one.append(_One(lost or ITERATION, ITERATION, judgements.missing(
            "twin/state/length", f"missing on one side: {wrong}"), True))
    for name in FACTS:
        a, b = (one.manifest["facts"].get(name) for one in (ours, theirs))
        if a is not None or b is not None:
            one_by_one.append(_One(f"facts/{name}", "facts", judgements.within(
                f"facts/{name}/value", 0 if a == b else 1, LEDGER,
                f"{name} is not the same on both sides"), a != b))
    for name in COMPUTED:
        a, b = (one.manifest["facts"].get(name) for one in (ours, theirs))
        if (a is None) != (b is None) or (a != b and not found):
            one_by_one.append(_One(f"facts/{name}", "facts", judgements.within(
                f"facts/{name}/value", 1, RERUN,
                f"{name} is not the same on both sides"), True))
    one_by_one.sort(key=lambda one: in_time(one.name))
    stages: dict[str, Stage] = {}
    for one in one_by_one:
        stages.setdefault(one.stage, Stage(one.stage, TITLES.get(
            one.stage, f"every array of {one.stage}"), notes=[note])).checks.append(one.check)
    report.stages = list(stages.values())
    report.seconds = time.monotonic() - started
    differing = [one for one in one_by_one if one.differs]
    failed = [one for one in differing if not one.check.passed]
    first = next(iter(failed or differing), None)
    return Comparison(
        report, "drifted" if not report.passed else "rounding" if differing else "identical bits",
        first.name if first else "", found, first.how if first else "")


def first_lost(ours: Side, theirs: Side) -> str | None:
    """Of two trainings, ``twin/iteration0007/NETWORK/LAYER/QUANTITY``: the first iteration behind
    which an array has other bits; "" where none has, None where a side's hashes are not there."""
    sides = [one.manifest["facts"].get("state_hashes") for one in (ours, theirs)]
    if None in sides:
        return None
    for i, (a, b) in enumerate(itertools.zip_longest(*sides, fillvalue={}), 1):
        for name in {**a, **b}:
            if a.get(name) != b.get(name):
                return f"twin/iteration{i:04d}/{name}"
    return ""


def unmatched(ours: Side, theirs: Side) -> str:
    """What of the hashes of two trainings only one side has, whatever they are; "" for nothing."""
    a, b = (one.manifest["facts"].get("state_hashes") for one in (ours, theirs))
    if a is None or b is None:
        return "" if a is b else "hashes behind each iteration are on one side alone"
    if len(a) != len(b):
        return f"{len(a)} iterations and {len(b)}"
    other = next((i for i, (x, y) in enumerate(zip(a, b, strict=True), 1) if set(x) != set(y)), 0)
    return f"other arrays behind iteration {other}" if other else ""


def in_time(name: str) -> int:
    """Where the array stands in a run: by the longest prefix. A fact comes where it happens: of the
    training last of all but its hashes, iteration by iteration."""
    fitting = [(len(prefix), at) for at, prefix in enumerate(IN_TIME)
               if name.startswith(prefix if prefix == ITERATION else prefix + "/")]
    return max(fitting)[1] if fitting else len(IN_TIME)


def placed(name: str) -> tuple[str, str]:
    """An array's stage, in which all is of one moment of a run, and its place in it."""
    at = in_time(name)
    stage = IN_TIME[at] if at < len(IN_TIME) else name.partition("/")[0]
    return stage, name.partition("/")[2] if stage == ITERATION else name[len(stage) + 1:]


def same_plan(ours: Side, theirs: Side) -> None:
    """Raises CaptureError."""
    a, b = ours.manifest["plan"], theirs.manifest["plan"]
    wrong = [f"{name} {a.get(name)} and {b.get(name)}" for name in {**a, **b}
             if a.get(name) != b.get(name) and name not in HOW]
    if wrong:
        raise CaptureError(f"{ours.name} and {theirs.name} are of different plans "
                           f"({', '.join(wrong)}): compare two of one plan")
    jobs = [one.manifest["facts"].get("job") for one in (ours, theirs)]
    if None not in jobs and jobs[0] != jobs[1]:
        raise CaptureError(f"{ours.name} is of job {short(jobs[0])}, {theirs.name} of "
                           f"{short(jobs[1])}: compare captures of one job")


def one_array(name: str, ours: Side, theirs: Side, repeats: bool) -> Check:
    """Whole where both sides have it whole; else by hash, kept values and moments."""
    place = name.partition("/")[2]
    for one, another in ((ours, theirs), (theirs, ours)):
        if name not in another:
            return judgements.missing(place, f"missing on one side: {another.name} has no {name}, "
                                             f"{one.name} has")
    if ours.shape(name) != theirs.shape(name):
        return judgements.missing(place, f"{name} is {ours.shape(name)} and {theirs.shape(name)}")
    a, b = ours.array(name), theirs.array(name)
    if a is not None and b is not None:
        return judged(name, a, b, repeats, int(ours.manifest["plan"].get("warmup_iterations", 1)))
    policy = policy_of(name)
    if ours.sha256(name) == theirs.sha256(name):
        return judgements.within(place, 0, RERUN if repeats else policy)
    (kept_a, moments_a), (kept_b, moments_b) = both_kept(name, ours, theirs)
    gaps = differences(kept_a, kept_b)
    differing = int(np.count_nonzero(gaps))
    if repeats or policy is EXACT or kept_a.dtype.kind not in ROUNDED:
        return judgements.within(place, max(differing, 1), RERUN if repeats else EXACT,
                                 f"its hash is another; {differing} of {kept_a.size} values that "
                                 "are kept differ")
    size = moments_a[1] or 1.0
    apart = metrics.rms(gaps) / size
    gone = max(abs(x - y) for x, y in zip(moments_a, moments_b, strict=True)) / size
    return judgements.within(place, max(apart, gone, TINY), policy,
                             "the two are farther apart than rounding explains")


def both_kept(name: str, ours: Side, theirs: Side) -> list[tuple[np.ndarray, list[float]]]:
    """Values of both at the same places, and the moments. Two certificates may keep more and fewer:
    the places of the fewer are the first of the more."""
    values = min(one.values for one in (ours, theirs) if one.values)
    seed, size = int(ours.manifest["plan"]["seed"]), math.prod(ours.shape(name)[1])
    made = []
    for one in (ours, theirs):
        kept, moments = one.kept(name, seed, values)
        at = places(name, size, seed, values)
        made.append((kept[at] if len(kept) == size else kept[:len(at)], moments))
    return made


def differences(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sizes, in float64: 0 where the bits are the same, infinite where one is no number."""
    unsigned = f"u{reference.itemsize}"
    same = reference.view(unsigned) == other.view(unsigned)
    gone = np.abs(np.where(same, 0.0, other.astype(np.float64) - reference))
    return np.where(np.isnan(gone), np.inf, gone)


ROUNDED = "fu"  # kinds of numbers: what is computed, and the bytes of a picture of it
PIECE = 2 ** 20  # values that are looked at together
TINY = float(np.finfo(np.float64).tiny)  # it differs, be it in none of the values that are kept


def policy_of(name: str) -> Policy:
    return next((policy for prefix, policy in POLICY_OF if name.startswith(prefix + "/")), EXACT)


@dataclass(frozen=True)
class Apart:
    """Of two arrays: how many values have other bits; the root mean square of their difference as a
    part of the first's; the largest difference, as a part of it too; its flat index."""

    differing: int
    error: float
    largest: float
    at: int


def apart(reference: np.ndarray, other: np.ndarray) -> Apart:
    """In pieces, in float64, so that memory does not grow with the arrays."""
    a, b = np.ravel(reference), np.ravel(other)
    count, squares, size, largest, at = 0, 0.0, 0.0, -1.0, 0
    for begin in range(0, a.size, PIECE):
        x, y = (np.ascontiguousarray(one[begin:begin + PIECE]) for one in (a, b))
        unsigned = f"u{x.itemsize}"
        other_bits = np.flatnonzero(x.view(unsigned) != y.view(unsigned))
        numbers = np.nan_to_num(x.astype(np.float64), copy=False)
        size += float(np.dot(numbers, numbers))
        if other_bits.size:
            gone = differences(x[other_bits], y[other_bits])
            count, squares = count + other_bits.size, squares + float(np.dot(gone, gone))
            if gone.max() > largest:
                largest, at = float(gone.max()), begin + int(other_bits[np.argmax(gone)])
    rms = math.sqrt(size / a.size) if a.size else 0.0
    whole = rms or 1.0
    return Apart(count, math.sqrt(squares / max(a.size, 1)) / whole, max(largest, 0.0) / whole, at)


def judged(name: str, reference: np.ndarray, other: np.ndarray, repeats: bool, warmup: int = 1
           ) -> Check:
    """name: whole, with its stage. warmup: iterations before the state."""
    place, policy = name.partition("/")[2], policy_of(name)
    if np.shape(reference) != np.shape(other):
        return judgements.other_shape(place, other, reference)
    found = apart(reference, other)
    at = [int(i) for i in np.unravel_index(found.at, np.shape(reference))] if reference.size else []
    said = (f"{found.differing:,} of {reference.size:,} values differ, most at {at}: "
            f"{np.ravel(reference)[found.at]:.9g} and {np.ravel(other)[found.at]:.9g}"
            if found.differing else "")
    figures = {"largest": found.largest, "differing": float(found.differing)}
    if repeats or policy is EXACT or reference.dtype.kind not in ROUNDED:
        return judgements.within(place, found.differing, RERUN if repeats else EXACT, said,
                                 figures=figures)
    factor = {HISTORY_CHAIN: 1.0, HISTORY_ARITHMETIC: 1.0, HISTORY_STATE: float(warmup)}.get(policy)
    lone = factor and judgements.within(place, found.largest, HISTORY_VALUE, said, factor,
                                        figures=figures)
    return lone if lone and not lone.passed else judgements.within(
        place, found.error, policy, said, figures=figures)
