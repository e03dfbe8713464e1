"""Two captures of one plan, made on different days: did anything change?

    bin/parity compare LAST_MONTH TODAY

The same program, with the same versions on as many processors (CNTK's gradients of weights depend
on their number), repeats bit for bit, so every array has to be the same. Where one of these
differs, what is drawn and read still has to be the same bits, and what is computed has to lie
within float32's rounding, as CNTK's distance from float64 does (policies "formula_chain" and, for
gradients in the chain and what they have moved, "kink").
"""
from typing import Any

import numpy as np

from captures.errors import CaptureError
from captures.format import Capture, require_same_plan
from parity.judge import judgements, metrics
from parity.judge.results import Check, Report, Stage
from parity.stages.common import pairs

DRAWN = ("initial", "reader", "input")
CHAOTIC = ("gradient", "step", "twin", "state", "optimizer")  # moved by gradients in the chain
FACTS = ("ledger", "warmup_minibatches", "minibatch_sha256", "initial_sha256", "parameters",
         "evaluation_changes")


def identity(capture: Capture) -> dict[str, Any]:
    """What must be equal for a run to repeat bit for bit."""
    return {key: capture.manifest[key] for key in ("producer", "versions")} | {
        key: capture.manifest["machine"].get(key) for key in ("processor", "processors")}


def compare(reference: Capture, other: Capture) -> Report:
    """Raises CaptureError: the captures are of different plans or jobs."""
    require_same_plan(reference, other)
    if reference.facts.get("job") != other.facts.get("job"):
        raise CaptureError(f"{reference.folder} is of job {reference.facts.get('job')}, "
                           f"{other.folder} of {other.facts.get('job')}: compare captures of one "
                           "job")
    ours, theirs = identity(reference), identity(other)
    repeats = ours == theirs
    report = Report(reference.manifest["plan"], {
        "reference": {**reference.manifest, "arrays": {}, "facts": {}},
        "other": {**other.manifest, "arrays": {}, "facts": {}}})
    by_stage: dict[str, Stage] = {}
    note = ("the same program, versions and processors: every bit has to repeat" if repeats else
            "not the same program, versions or processors (" + ", ".join(
                f"{key}: {ours[key]} and {theirs[key]}" for key in ours
                if ours[key] != theirs[key]) + "): what is computed may differ by rounding")
    for first in dict.fromkeys(name.split("/")[0] for name in [*reference, *other]):
        stage = by_stage[first] = Stage(first, f"every array of {first}", notes=[note])
        for pair in pairs(reference, other, first):
            stage.checks.append(pair if isinstance(pair, Check) else
                                judged(first, *pair, repeats=repeats))
    facts = Stage("facts", "lists of events, hashes and counts")
    for name in FACTS:
        if name in reference.facts or name in other.facts:
            same = reference.facts.get(name) == other.facts.get(name)
            facts.checks.append(judgements.within(f"facts/{name}/value", 0 if same else 1, "ledger",
                                               f"{name} is not the same on both sides"))
    report.stages = [stage for stage in (*by_stage.values(), facts) if stage.checks]
    return report


def judged(stage: str, name: str, reference: np.ndarray, other: np.ndarray, repeats: bool) -> Check:
    exact = repeats or stage in DRAWN or reference.dtype.kind != "f"
    if exact or np.shape(reference) != np.shape(other):
        return judgements.same_bits(name, other, reference, "rerun" if repeats else "exact")
    return judgements.within(name, metrics.error(other, reference),
                          "kink" if stage in CHAOTIC else "formula_chain",
                          "the two are farther apart than rounding explains",
                          figures={"largest_absolute": metrics.largest_absolute(other, reference)})
