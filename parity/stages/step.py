"""One D step and one G step: all that they move; and the optimizers alone on CNTK's gradients.

What a parameter's gradient has, its movement has too: where the port's gradient has CNTK's bits,
and its optimizer alone moves CNTK's gradient to CNTK's bits, weight, m and v have to have them;
where either has not, they have to be what CNTK's Adam makes of the port's own gradient. So nothing
can be done to a gradient between the backward pass and the update.
"""
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from captures.format import Capture
from captures.movement import UNIT, Moments, parameter_of, update
from parity.judge import judgements, metrics
from parity.judge.policies import CARRIED, FEW_ROUNDINGS
from parity.judge.results import Check, Stage
from parity.judge.rounding import Verdict
from parity.stages.common import Captures, array_or_failure, arrays_or_failure, pairs
from parity.stages.definition import Definition, array_case, only
from parity.stages.layers import FEW
from parity.stages.rectifiers import coarse, kinks, loosened, saturation

STEPS = ("d", "g")
STATISTICS = ("running_mean", "running_variance")
NOT_ITS = "its gradient has CNTK's bits, but what the step made of it has not"
OTHER = ("from the port's own gradient CNTK's Adam makes something else: the gradient was changed "
         "behind the backward pass, or the update is another")


def judge(stage: Stage, captures: Captures) -> None:
    spec = captures.spec
    for which in STEPS:
        stage.checks += optimizer_alone(captures, which, spec.learns(which).name)
    count = kinks(captures, "forward/training", (spec.real, spec.fake))
    count += kinks(captures, "forward/g_step", (spec.maker.name, spec.fake))
    grain = max(saturation(captures, "forward/training", (spec.real, spec.fake)),
                saturation(captures, "forward/g_step", (spec.fake,)))
    for which in STEPS:
        own = own_movement(captures, which, spec.learns(which).name)
        stage.checks += own.values()
        for pair in pairs(captures.cntk, captures.port, f"step/0001/after_{which}"):
            # What its own gradient moves is judged sharply above, and the gradient by its stage.
            judged = not isinstance(pair, Check) and parameter_of(pair[0]) in own
            stage.checks.append(pair if isinstance(pair, Check) else _moved(
                captures, which, *pair, count + coarse(grain) + judged, loosened(grain)))


def _moved(captures: Captures, which: str, name: str, theirs: np.ndarray, ours: np.ndarray,
           count: int, loose: float) -> Check:
    """One array behind a step, in the chain."""
    place, after = f"after_{which}/{name}", f"step/0001/after_{which}"
    oracle = array_or_failure(captures.oracle, f"{after}/{name}")
    if theirs.dtype.kind == "i" or (ours.shape == theirs.shape
                                    and metrics.differing(ours, theirs) == 0):
        return judgements.same_bits(place, ours, theirs, local=theirs.dtype.kind == "i")
    if isinstance(oracle, Check):
        return oracle
    if not theirs.shape == ours.shape == oracle.shape:
        return judgements.other_shape(place, ours if ours.shape != theirs.shape else oracle, theirs)
    if name.rpartition("/")[2] in STATISTICS:
        return _statistic(captures, place, f"{after}/{name}", ours, theirs, oracle)
    if _bits_asked(captures, which, name):
        return replace(judgements.same_bits(place, ours, theirs, local=False),
                       detail=NOT_ITS, verdict=Verdict.ANOTHER)
    samples = int(captures.plan["minibatch_size"])
    few = samples if np.size(theirs) <= FEW * samples else None
    # In float64 nothing is rounded to float32, 1 - beta2 neither: what that moves is the same on
    # both sides, so CNTK's distance from the oracle says nothing here.
    loss = name.startswith("loss/")
    carried = captures.carried(f"gradient/{which}/loss/samples/value") if loss else 0.0
    judged = [judgements.in_the_chain(place, ours, theirs, oracle, count, few, loose,
                                      carried=carried).port]
    if loss and f"gradient/{which}/loss/samples/value" in captures.port:  # a user's may be unknown
        judged.append(_mean(captures, which, place, ours, carried))
    return max(judged, key=lambda check: check.margin)


def _mean(captures: Captures, which: str, place: str, ours: np.ndarray, carried: float) -> Check:
    """The mean loss of a step against the port's own samples, which its gradients came with: the
    chance that few samples' errors have in the chain would hide another mean."""
    samples = array_or_failure(captures.port, f"gradient/{which}/loss/samples/value")
    if isinstance(samples, Check):
        return samples
    of = np.asarray(samples, np.float64)
    twice = CARRIED.value * carried / (FEW_ROUNDINGS.value * UNIT)
    return judgements.rounded_few_times(
        place, ours, np.asarray(np.mean(of)), np.asarray(np.mean(np.abs(of)) * (1 + twice)),
        "the loss of the step is not the mean of the port's own samples")


def _statistic(captures: Captures, place: str, name: str, ours: np.ndarray, theirs: np.ndarray,
               oracle: np.ndarray) -> Check:
    """A running statistic moves by a thousandth of the minibatch's: all but a few roundings of it
    is given. The mean's scale is the deviation, and CNTK's own distance is allowed twice."""
    variance = array_or_failure(captures.oracle, name.rpartition("/")[0] + "/running_variance")
    terms = np.abs(oracle)
    if name.endswith("mean") and not isinstance(variance, Check):
        terms = terms + np.sqrt(np.maximum(variance, 0))
    own = np.abs(theirs.astype(np.float64) - oracle).max(initial=0.0)
    return judgements.rounded_few_times(
        place, ours, oracle, terms + 2 * own / (FEW_ROUNDINGS.value * UNIT),
        f"the statistic is not CNTK's: it is up to {metrics.largest_absolute(ours, theirs):.3g} "
        "away", local=False)


def _bits_of_gradient(captures: Captures, which: str, name: str) -> bool:
    found = arrays_or_failure(name, (captures.cntk, f"gradient/{which}/{name}"),
                              (captures.port, f"gradient/{which}/{name}"))
    return not isinstance(found, Check) and metrics.differing(found[0], found[1]) == 0


def _bits_asked(captures: Captures, which: str, name: str) -> bool:
    """name: a weight, its m or its v."""
    after = f"step/0001/after_{which}/{name}"
    alone = arrays_or_failure(name, (captures.cntk, after), (captures.port, f"local/{after}"))
    return _bits_of_gradient(captures, which, parameter_of(name)) and not isinstance(
        alone, Check) and metrics.differing(alone[0], alone[1]) == 0


def own_movement(captures: Captures, which: str, network: str) -> dict[str, Check]:
    """What the port's step moved against what its own gradient has to move, where that gradient has
    not CNTK's bits. Parameters' names to checks. m and v are compared where the port shows them."""
    after, before = f"step/0001/after_{which}", captures.all_of_cntk
    made = {}
    for name in [one for one in before.names(after) if one.startswith(f"{network}/")
                 and one == parameter_of(one) and f"gradient/{which}/{one}" in before]:
        shown = [suffix for suffix in ("", "_m", "_v") if f"{after}/{name}{suffix}"
                 in captures.cntk]
        if all(_bits_asked(captures, which, name + suffix) for suffix in shown):
            continue
        found = arrays_or_failure(
            f"after_{which}/{name}", (before, f"state/{name}"),
            (before, f"optimizer/state/{name}_m"), (before, f"optimizer/state/{name}_v"),
            (captures.port, f"gradient/{which}/{name}"),
            *((captures.port, f"{after}/{name}{suffix}") for suffix in shown))
        place = f"after_{which}/{name}"
        if isinstance(found, Check):
            made[name] = found
            continue
        if found[3].shape != found[0].shape:
            made[name] = judgements.other_shape(place, found[3], found[0])
            continue
        count = int(before[f"optimizer/state/{network}/learner/minibatches"]) + 1
        wanted = update(Moments(*found[:3]), found[3], count,
                        int(captures.plan["minibatch_size"]), bool(captures.plan["unit_gain"]))
        checks = [judgements.rounded_few_times(place, ours, right, terms, OTHER, local=True)
                  for ours, right, terms in zip(found[4:], wanted.after, wanted.terms,
                                                strict=False)]
        if found[4].shape == found[0].shape:
            checks.append(judgements.not_decayed(place, found[4], wanted.after.weight, found[0],
                                                 local=True))
        made[name] = max(checks, key=lambda check: check.margin)
    return made


def optimizer_alone(captures: Captures, which: str, network: str) -> Iterator[Check]:
    """The port's optimizer on CNTK's gradients: all that the learner of ``network`` moves."""
    after = f"step/0001/after_{which}"
    moved = [name for name in captures.cntk.names(after) if name.startswith(f"{network}/")
             and "/running_" not in name and not name.endswith("/sample_count")]
    extra = [name for name in captures.port.names(f"local/{after}") if name not in set(moved)]
    for name in [*moved, *extra]:
        yield from _alone(captures.port, captures, which, network, name)


def _alone(port: Capture, captures: Captures, which: str, network: str, name: str
           ) -> Iterator[Check]:
    after, place = f"step/0001/after_{which}", f"after_{which}/{name}"
    found = arrays_or_failure(place, (port, f"local/{after}/{name}"),
                              (captures.cntk, f"{after}/{name}"))
    if isinstance(found, Check):
        yield found
        return
    ours, theirs = found
    same = ours.shape == theirs.shape and metrics.differing(ours, theirs) == 0
    parameter = parameter_of(name)
    if same or theirs.dtype.kind == "i" or ours.shape != theirs.shape:
        yield judgements.same_bits(place, ours, theirs, local=True)
        return
    cntk = captures.all_of_cntk
    given = arrays_or_failure(place, (cntk, f"state/{parameter}"),
                              (cntk, f"optimizer/state/{parameter}_m"),
                              (cntk, f"optimizer/state/{parameter}_v"),
                              (cntk, f"gradient/{which}/{parameter}"))
    if isinstance(given, Check):
        yield given
        return
    count = int(cntk[f"optimizer/state/{network}/learner/minibatches"]) + 1
    wanted = update(Moments(*given[:3]), given[3], count, int(captures.plan["minibatch_size"]),
                    bool(captures.plan["unit_gain"]))
    at = {"m": 1, "v": 2}.get(name.removeprefix(parameter).removeprefix("_"), 0)
    yield judgements.rounded_few_times(
        place, ours, wanted.after[at], wanted.terms[at],
        "the port's optimizer, from CNTK's gradient, "
        f"moves it up to {metrics.largest_absolute(ours, theirs):.3g} elsewhere than CNTK's",
        local=True)
    if not at:
        yield judgements.not_decayed(place, ours, wanted.after.weight, given[0], local=True)


STEP = Definition(
    "step", "one D step, one G step: parameters, m, v, counter, running statistics",
    "bits where the gradient has them; else a few roundings of CNTK's Adam", judge,
    only("cntk", "port", "oracle", arrays=("step/0001",)), ("training", "g_step", "steps"),
    array_case("step/0001"))
