"""Two captures of one plan, made on different days: did anything change?

    bin/parity compare LAST_MONTH TODAY

The same program, with the same versions on as many processors (CNTK's gradients of weights depend
on their number), repeats bit for bit, so every array has to be the same. Where one of these
differs, what is drawn and read still has to be the same bits, and what is computed has to lie
what other versions may round otherwise: the policies that begin with "history".
"""
from typing import Any

import numpy as np

from captures.errors import CaptureError
from captures.format import Capture, require_same_plan
from parity.judge import judgements, metrics
from parity.judge.policies import (
    EXACT,
    HISTORY_ARITHMETIC,
    HISTORY_CHAIN,
    HISTORY_GRADIENT,
    HISTORY_OPTIMIZER,
    HISTORY_STATE,
    LEDGER,
    RERUN,
    Policy,
)
from parity.judge.results import Check, Report, Stage
from parity.stages.common import pairs

# First part, or parts, of a name to the policy of what another version may round otherwise; the
# first that fits. What is drawn and read has to be the same bits whatever computes.
POLICY_OF: tuple[tuple[str, Policy], ...] = (
    ("initial", EXACT), ("reader", EXACT), ("input", EXACT),
    ("local/step", HISTORY_ARITHMETIC), ("local", HISTORY_CHAIN),
    ("optimizer/probe", HISTORY_ARITHMETIC), ("normalisation", HISTORY_ARITHMETIC),
    ("pointwise", HISTORY_ARITHMETIC),
    ("optimizer", HISTORY_OPTIMIZER), ("state", HISTORY_STATE),
    ("forward", HISTORY_CHAIN), ("score", HISTORY_CHAIN),
    ("gradient", HISTORY_GRADIENT), ("step", HISTORY_GRADIENT), ("twin", HISTORY_GRADIENT))
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
                                judged(f"{first}/{pair[0]}", pair[1], pair[2], repeats))
    facts = Stage("facts", "lists of events, hashes and counts")
    for name in FACTS:
        if name in reference.facts or name in other.facts:
            same = reference.facts.get(name) == other.facts.get(name)
            facts.checks.append(judgements.within(f"facts/{name}/value", 0 if same else 1, LEDGER,
                                               f"{name} is not the same on both sides"))
    report.stages = [stage for stage in (*by_stage.values(), facts) if stage.checks]
    return report


def judged(name: str, reference: np.ndarray, other: np.ndarray, repeats: bool) -> Check:
    """name: whole, with its stage."""
    place = name.partition("/")[2]
    policy = next((policy for prefix, policy in POLICY_OF
                   if name.startswith(prefix + "/")), EXACT)
    exact = repeats or policy is EXACT or reference.dtype.kind != "f"
    if exact or np.shape(reference) != np.shape(other):
        return judgements.same_bits(place, other, reference, RERUN if repeats else EXACT)
    return judgements.within(
        place, metrics.error(other, reference), policy,
        "the two are farther apart than rounding explains",
        figures={"largest_absolute": metrics.largest_absolute(other, reference)})
