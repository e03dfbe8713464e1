"""Which known mistakes explain what failed: captures in, diagnoses out.

    diagnose(report, captures)            none for a report that passes

Every failed stage is asked in the order in which a mistake spreads. A layer, a gradient, an update
is held against CNTK's formula on the port's own inputs, so that what is only inherited is right and
each mistake is found by itself, however many there are. What a hypothesis explains is not asked
again by a later stage. Where nothing that is known gives the port's numbers, the pattern of the
difference is said.
"""
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from parity.diagnosis import carried, minibatches, steps
from parity.diagnosis.backward import of_losses, of_pass
from parity.diagnosis.evidence import Found, first, read
from parity.diagnosis.layers import hypotheses
from parity.diagnosis.pattern import described, is_noise
from parity.diagnosis.walk import EVALUATION, G_STEP, TRAINING, Pass, Step
from parity.judge.results import Check, Diagnosis, Report, Stage
from parity.stages.common import Captures

MOST = 8  # places of one finding that are named
UNEXPLAINED = 3  # patterns that are said


@dataclass
class Noted:
    """What was found so far. layers: network and layer that a finding explains. stages: in which
    something was found."""

    captures: Captures
    found: list[tuple[str, str, Found]] = field(default_factory=list)
    patterns: list[tuple[str, str, str]] = field(default_factory=list)
    layers: set[tuple[str, str]] = field(default_factory=set)

    def add(self, stage: str, place: str, one: Found | None) -> bool:
        if one is not None:
            self.found.append((stage, place, one))
        return one is not None

    def names(self) -> set[str]:
        return {one.name for _, _, one in self.found}


def diagnose(report: Report, captures: Captures) -> list[Diagnosis]:
    """One for each mistake, in the order in which they were found; of the same mistake in several
    places one."""
    noted = Noted(captures)
    failed = {stage.name: stage for stage in report.judged if not stage.passed}
    for name, ask in FAMILIES.items():
        if name in failed:
            ask(noted, failed[name])
    if not noted.found and not noted.patterns and report.first_failure is not None:
        stage, check = report.first_failure
        noted.patterns.append((stage.name, check.place, check.detail or check.unit))
    return _merged(noted)


def _merged(noted: Noted) -> list[Diagnosis]:
    """The same mistake in several places is one, with the numbers of the first."""
    places: dict[tuple[str, str], list[str]] = {}
    begun: dict[tuple[str, str], tuple[str, Found]] = {}
    others: dict[tuple[str, str], set[str]] = {}
    for stage, place, one in noted.found:
        key = one.name, one.mend
        begun.setdefault(key, (stage, one))
        places.setdefault(key, []).append(place)
        others.setdefault(key, set()).add(one.what)
    made = []
    for key, (stage, one) in begun.items():
        more = len(others[key]) - 1
        what = one.what + (f"; {more} more alike, with their own numbers" if more else "")
        made.append(Diagnosis(stage, tuple(dict.fromkeys(places[key])), one.name, what, one.mend,
                              one.page, one.left))
    known = {place for one in made for place in one.places}
    most = 1 if made else UNEXPLAINED
    return made + [Diagnosis(stage, (place,), "", what) for stage, place, what
                   in noted.patterns[:most] if place not in known]


def failing(stage: Stage, local: bool | None = None) -> list[Check]:
    """Its failed checks, each place once. local: those on a layer's own inputs alone."""
    there: dict[str, Check] = {}
    for check in stage.checks:
        if not check.passed and (local is None or check.local is local):
            there.setdefault(check.place, check)
    return list(there.values())


# ---------------------------------------------------------------------------------- forward passes


def forward(noted: Noted, stage: Stage) -> None:
    """Each layer that failed on its own inputs; where no layer was judged so, each on the port's
    own."""
    captures = noted.captures
    alone = {check.place for check in failing(stage, True)}
    chain = {check.place for check in failing(stage)}
    local = bool(alone)
    asked = alone or chain
    one = Pass(captures, stage.name, local)
    for branch in one.branches():
        network = captures.spec.network(branch.name)
        for layer in network.layers:
            place = f"{branch.name}/{layer.name}/output"
            if place not in asked or (network.name, layer.name) in noted.layers:
                continue
            if not local and noted.layers and layer.weight:
                continue  # inherited, and it takes seconds to say so
            step = one.step(branch, layer)
            if step is not None and (local or step.case.wrong):
                _layer(noted, stage, step)
    # The two branches of a layer have one finding.
    noted.layers |= {(captures.spec.network(place.split("/")[0]).name, place.split("/")[1])
                     for at, place, _ in noted.found if at == stage.name}


def _layer(noted: Noted, stage: Stage, step: Step) -> None:
    if not np.isfinite(step.given.x).all():
        return  # inherited
    if not np.isfinite(step.case.port).all():
        noted.add(stage.name, step.place, Found(
            "not-finite", "it holds values that are not finite, from finite ones that go in",
            "look for a division by 0 or a log of 0 there"))
        return
    one = first(step.case, [lambda: hypotheses(step.given, step.case)])
    if one is None and stage.name != EVALUATION and is_noise(step.case.port, step.case.right):
        one = Found("noise-in-training", "in training something random is in it: noise on what "
                    "goes in, or a random mask; in evaluation it is right",
                    "take the noise or the dropout out")
    if not noted.add(stage.name, step.place, one):
        noted.patterns.append((stage.name, step.place,
                               described(step.case.port, step.case.right)))


# --------------------------------------------------------------------------------------- gradients


def gradient(noted: Noted, stage: Stage) -> None:
    which = stage.name.rpartition("/")[2]
    asked = {check.place for check in failing(stage)}
    loss = of_losses(noted.captures, which)
    if loss is not None:
        place, one = loss
        noted.add(stage.name, place, one)
    for place, layer, case, family in of_pass(noted.captures, which, asked, noted.layers):
        if noted.add(stage.name, place, first(case, [family])):
            noted.layers.add(layer)
        else:
            noted.patterns.append((stage.name, place, described(case.port, case.right)))


def _all(ask: Callable[[Captures, Stage], Iterator[tuple[str, Found]]], of_layers: bool = False
         ) -> Callable[[Noted, Stage], None]:
    """of_layers: what it finds explains the layer's outputs too."""
    def asked(noted: Noted, stage: Stage) -> None:
        for place, one in ask(noted.captures, stage):
            noted.add(stage.name, place, one)
            branch, _, rest = place.partition("/")
            if of_layers and rest:
                noted.layers.add((noted.captures.spec.network(branch).name, rest.split("/")[0]))
    return asked


def reader(noted: Noted, stage: Stage) -> None:
    place, found, pattern = minibatches.read(noted.captures, stage)
    for one in found:
        noted.add(stage.name, place, one)
    if pattern:
        noted.patterns.append((stage.name, place, pattern))


def program(noted: Noted, stage: Stage) -> None:
    """The picture alone."""
    place = "run/picture/written"
    image, written = (read(noted.captures.port, f"program/{name}")
                      for name in ("run/picture/image", "run/picture/written"))
    if place not in carried.failed(stage) or image is None or written is None:
        return
    found = minibatches.picture(image, written)
    for one in found:
        noted.add(stage.name, place, one)
    if not found:
        check = next(check for check in stage.checks if check.place == place)
        noted.patterns.append((stage.name, place, check.detail))


def optimizer(noted: Noted, stage: Stage) -> None:
    """Where its rule is not known, what it makes of a step's gradient says nothing of those."""
    _all(carried.optimizer)(noted, stage)
    if not any(at == stage.name for at, _, _ in noted.found):
        place = carried.failed(stage)[0]
        noted.patterns.append((stage.name, place, "no optimizer that is known makes these steps; "
                               "what it makes of a step's gradients is not taken apart"))


RANDOM = {"dropout", "noise-in-training"}
# Of the statistics, what their probe has shown already.
SHOWN_BEFORE = ("momentum", "biased-variance", "sample-count")


def step(noted: Noted, stage: Stage) -> None:
    """What an optimizer's probe has shown already is not found again in a step."""
    names = noted.names()
    known = any(at == "optimizer" for at, _, _ in [*noted.found, *noted.patterns])
    if not names & RANDOM:  # else its gradient is of another pass than the step's
        for place, one in steps.parameters(noted.captures, stage, known, noted.layers):
            noted.add(stage.name, place, one)
    for place, one in steps.running(noted.captures, stage):
        if one.name not in names or one.name not in SHOWN_BEFORE:
            noted.add(stage.name, place, one)


def ledger(noted: Noted, stage: Stage) -> None:
    """Only where a step has said nothing: it is the same, told once more."""
    if not any(at == "step" for at, _, _ in noted.found):
        _all(steps.moved_by)(noted, stage)


FAMILIES: dict[str, Callable[[Noted, Stage], None]] = {
    "structure": _all(carried.structure, True),
    "initial": _all(carried.initial),
    "reader": reader,
    "program": program,
    "optimizer": optimizer,
    "normalisation": _all(carried.normalisation),
    "pointwise": _all(carried.pointwise),
    "state": _all(carried.state, True),
    EVALUATION: forward,
    TRAINING: forward,
    "gradient/d": gradient,
    G_STEP: forward,
    "gradient/g": gradient,
    "step": step,
    "ledger": ledger,
}

