"""Forward passes and gradients: every layer on CNTK's own inputs, and in the chain.

A stage compares every array that its reference has; one that the other side lacks, or has too many,
is a failed check.
"""
import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from captures.format import Capture
from captures.spec import Spec
from parity.judge import judgements, metrics
from parity.judge.policies import LEDGER, LONGER_SUMS, OUTPUT
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, array_or_failure, arrays_or_failure
from parity.stages.definition import Case, Definition, LayerCase, Needs, array_case, only
from parity.stages.rectifiers import coarse, kinks, loosened, saturation


def forward(mode: str, stage: Stage, captures: Captures) -> None:
    prefix = f"forward/{mode}"
    stage.checks, equal = near(captures, prefix, 0)
    if mode == "training":
        stage.notes += unsteadiness(captures.cntk)
    if mode == "evaluation":
        last = f"{captures.spec.maker.name}/{captures.spec.maker.last}/output"
        theirs, ours = (array_or_failure(c, f"{prefix}/{last}") for c in
                        (captures.cntk, captures.port))
        if not isinstance(theirs, Check) and not isinstance(ours, Check) \
                and theirs.shape == ours.shape:  # else near says so
            stage.checks.append(judgements.within_nudges(
                last, metrics.largest_absolute(ours, theirs),
                captures.nudge(last)["largest"], OUTPUT,
                detail="the images differ", local=False))
        for who, capture in (("CNTK", captures.cntk), ("the port", captures.port)):
            changed = capture.facts.get("evaluation_changes")
            stage.checks.append(judgements.within(
                "evaluation/changes/nothing", len(changed) if changed is not None
                else math.inf, LEDGER, f"evaluation changes {changed} in {who}"))
    stage.notes.append(equal)


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


# With at most so many values a sample, the errors of a sample go together.
FEW = 4
HOW = "bits, or rounding without a pattern; in the chain, what rounding carries there"
ON_ITS_OWN = ("forward/evaluation", "forward/training", "gradient/d", "gradient/g")


def backwards(spec: Spec, name: str) -> tuple[bool, bool, int, bool]:
    """The order in which a gradient's error spreads: the loss, then the critic's and the maker's
    layers from the last to the first, each layer's output before its parameters."""
    place, layer, quantity = name.split("/")
    if place == "loss":
        return (False, False, 0, False)
    network = spec.network(place)
    at = [one.name for one in network.layers].index(layer)
    return (True, network == spec.maker, -at, quantity != "output")


def near(captures: Captures, prefix: str, kinks: int, loose: float = 1.0
         ) -> tuple[list[Check], str]:
    """Each layer on its own inputs (local), then in the chain; and a note of how many of the port's
    arrays have CNTK's bits, which is more than is asked of a port. kinks, loose: see ``gradient``.
    """
    checks: list[Check] = []
    counts, samples = [], captures.cntk.manifest["plan"]["minibatch_size"]
    # Sums over the samples are as much longer than those the policies were measured with.
    sums = 1.0 if prefix == "forward/evaluation" else max(1.0, samples / LONGER_SUMS.value)
    for place, local in (("local/" + prefix, True), (prefix, False)):
        names = captures.cntk.names(prefix)
        if prefix.startswith("gradient/"):
            names.sort(key=partial(backwards, captures.spec))
        extra = [name for name in captures.port.names(place) if name not in set(names)]
        if local and prefix not in ON_ITS_OWN:
            continue
        equal = compared = 0
        for name in [*names, *extra]:
            wanted = [(captures.cntk, f"{prefix}/{name}"), (captures.port, f"{place}/{name}"),
                      (captures.oracle, f"{place}/{name}")]
            if local:
                wanted.append((captures.oracle, f"rounding/{prefix}/{name}"))
            found = arrays_or_failure(name, *wanted)
            if isinstance(found, Check):
                checks.append(found)
                continue
            cntk, port, oracle = found[:3]
            compared += 1
            equal += cntk.shape == port.shape and metrics.differing(port, cntk) == 0
            if local:
                checks += judgements.on_its_own(name, port, cntk, oracle, found[3] + of_images(
                    captures, prefix, name), sums)
                continue
            # In the chain the errors of one sample go together: there are as many as samples.
            few = samples if np.size(cntk) <= FEW * samples else None
            checks += judgements.in_the_chain(
                name, port, cntk, oracle, kinks, few, max(loose, steep(captures, prefix, name)),
                captures.nudge(name)["error"] if prefix == "forward/evaluation" else 0.0,
                captures.carried(f"{prefix}/{name}")).checks
        counts.append(f"{equal} of {compared} arrays "
                      + ("on their own inputs" if local else "in the chain"))
    return checks, f"With CNTK's bits, no value differing: {', '.join(counts)}."


def of_images(captures: Captures, prefix: str, name: str) -> NDArray[np.floating] | float:
    """What the rounding of an image makes of the first layer that takes it, where a user's port
    takes images in another range: as many terms as a window has, of random signs; and of the layer
    that gives it."""
    rounding = captures.port.facts.get("input_rounding", 0.0)
    critic, maker = captures.spec.critic, captures.spec.maker
    branch, layer, _ = name.split("/")
    if prefix.startswith("forward/") and (branch, layer) == (maker.name, maker.last):
        return float(captures.port.facts.get("output_rounding", 0.0))
    if not rounding or not prefix.startswith("forward/") or layer != critic.layers[0].name \
            or captures.spec.network(branch) != critic:
        return 0.0
    weight = array_or_failure(captures.all_of_cntk, f"state/{critic.name}/{layer}/weight")
    if isinstance(weight, Check):
        return 0.0
    size = np.sqrt(np.square(weight.astype(np.float64)).sum((1, 2, 3)))
    return (rounding * size).reshape(1, -1, 1, 1)  # type: ignore[no-any-return]


def steep(captures: Captures, prefix: str, name: str) -> float:
    """A sigmoid's relative error in the chain is its logit's absolute one: 1 + largest logit."""
    if not prefix.startswith("forward/"):
        return 1.0
    branch, layer, _ = name.split("/")
    network = captures.spec.network(branch)
    if layer != network.last or not network.logit:
        return 1.0
    logits = array_or_failure(captures.cntk, f"{prefix}/{branch}/{network.logit}/output")
    return 1.0 if isinstance(logits, Check) else 1.0 + float(np.max(np.abs(logits)))


def gradient(step: str, stage: Stage, captures: Captures) -> None:
    spec = captures.spec
    where = {"d": "forward/training", "g": "forward/g_step"}[step]
    count = kinks(captures, where, (spec.real if step == "d" else spec.maker.name, spec.fake))
    grain = saturation(captures, where, (spec.real, spec.fake) if step == "d" else (spec.fake,))
    stage.checks, equal = near(captures, f"gradient/{step}", count + coarse(grain),
                               loosened(grain))
    stage.notes.append(f"{count} units lie on other sides of a rectifier's kink in CNTK, the "
                       "port and float64: their gradients in the chain differ, on their own "
                       "inputs they do not.")
    if coarse(grain):
        stage.notes.append(f"{spec.critic.name} is so sure that 1 - D has a grain of "
                           f"{grain:.2g} of itself in float32: gradients in the chain are that "
                           "coarse.")
    stage.notes.append(equal)


def _case(prefix: str, check: Check) -> Case:
    """A layer on its own inputs is made anew; what is wrong in the chain alone is two arrays."""
    if not check.local or not check.place.endswith("/output"):
        return array_case(prefix)(check)
    branch, layer, _ = check.place.split("/")
    return LayerCase(prefix, branch, layer)


def _needs(prefix: str) -> dict[str, Needs]:
    """The oracle's with what rounding may make of each array, where layers are judged alone."""
    expected = (f"rounding/{prefix}",) if prefix in ON_ITS_OWN else ()
    return {**only("cntk", "port", arrays=(prefix,)), "oracle": Needs((prefix, *expected))}


def _forward(mode: str, title: str, part: str) -> Definition:
    prefix = f"forward/{mode}"
    return Definition(prefix, title, HOW, partial(forward, mode),
                      _needs(prefix), (part,), partial(_case, prefix))


def _gradient(step: str, part: str) -> Definition:
    prefix = f"gradient/{step}"
    return Definition(prefix, f"gradients of the {step.upper()} step's loss: every parameter and "
                              "every layer's output", HOW, partial(gradient, step),
                      _needs(prefix), (part,), array_case(prefix))


EVALUATION = _forward("evaluation", "every layer's output in evaluation mode, on its own inputs "
                                    "and in the chain", "evaluation")
TRAINING = _forward("training", "every layer's output in training mode, on its own inputs and in "
                                "the chain", "training")
G_STEP = _forward("g_step", "every layer's output in the G step, from CNTK's state after its D "
                            "step", "g_step")
GRADIENT_D = _gradient("d", "training")
GRADIENT_G = _gradient("g", "g_step")
