"""The stages, in the order in which a mistake would spread: one line each.

What a later stage finds may be the consequence of what an earlier one found, not the other way
round. Everything else that depends on the list is derived from it, here.
"""
from collections.abc import Iterable

from captures.errors import PlanError
from parity.stages import (
    export,
    initial,
    layers,
    ledger,
    probes,
    program,
    reader,
    reference,
    score,
    second,
    step,
    structure,
    twin,
    whole,
)
from parity.stages.definition import PARTS, Definition

STAGES: list[Definition] = [
    reference.REFERENCE,
    structure.STRUCTURE,
    initial.INITIAL,
    reader.READER,
    probes.OPTIMIZER,
    probes.NORMALISATION,
    probes.POINTWISE_FUNCTIONS,
    probes.STATE,
    layers.EVALUATION,
    layers.TRAINING,
    layers.GRADIENT_D,
    layers.G_STEP,
    layers.GRADIENT_G,
    step.STEP,
    ledger.LEDGER,
    export.ONNX,
    twin.TWIN_RUN,
    program.PROGRAM,
    score.SCORE,
    second.SECOND,
    whole.WHOLE,
]


def names() -> tuple[str, ...]:
    """What may be asked for, in order."""
    return tuple(stage.name for stage in STAGES)


def chosen(wanted: Iterable[str] | None = None) -> list[Definition]:
    """The stages of these names, in order; all if none are given.

    Raises PlanError: there is no such stage.
    """
    if wanted is None:
        return list(STAGES)
    asked = set(wanted)
    for name in sorted(asked):
        if name not in names():
            raise PlanError(f"there is no stage {name!r}: give some of {', '.join(names())}")
    return [stage for stage in STAGES if stage.name in asked]


def parts(stages: Iterable[Definition]) -> tuple[str, ...]:
    """What of the port's capture these stages need; its first part where they need none."""
    needed = {part for stage in stages for part in stage.parts}
    return tuple(part for part in PARTS if part in needed) or PARTS[:1]


Schedule = tuple[tuple[str, tuple[Definition, ...]], ...]


def schedule(stages: Iterable[Definition] | None = None) -> Schedule:
    """Part by part of the port's capture, the stages that can be judged once it is made: a stage
    comes after all those before it in the order, and after every part that it needs."""
    made: dict[str, list[Definition]] = {part: [] for part in PARTS}
    reached = 0
    for stage in STAGES if stages is None else stages:
        reached = max([reached, *(PARTS.index(part) for part in stage.parts)])
        made[PARTS[reached]].append(stage)
    return tuple((part, tuple(found)) for part, found in made.items())


def table() -> str:
    """The README's table, in Markdown."""
    rows = [f"| {stage.name} | {stage.title} | {stage.how} |" for stage in STAGES]
    return "\n".join(["| stage | what is compared | how |", "| --- | --- | --- |", *rows])
