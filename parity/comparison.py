"""Making captures, and judging captures that are there: two functions that share a folder.

    make(plan, folder, ...)       runs real CNTK, the port and the oracle, then onnxruntime on what
                                  the two exported and a classifier on their pictures
    judge(folder, ...)            reads the folder, and nothing else
    run(plan, folder, ...)        the one and then the other

A folder holds ``plan.json`` and one folder for each capture: ``cntk``, ``port``, ``oracle``,
``onnx-cntk``, ``onnx-port``, ``classifier``, ``twin-cntk``, ``twin-port``, ``twin-rerun1`` and so
on. What is not there is not judged, and the report says so.
"""
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from captures.errors import CaptureError
from captures.files import plan_file
from captures.format import MANIFEST, Capture, require_same_plan
from captures.plan import Plan
from parity.blame.cases import reproduction
from parity.blame.exports import of_exports
from parity.blame.finding import PORT
from parity.diagnosis.diagnose import diagnose
from parity.golden.store import stand_in
from parity.judge import policies
from parity.judge.results import Report
from parity.producers import jobs, recipes
from parity.producers.for_score import NOTHING
from parity.producers.recipes import Sources
from parity.producers.second_plan import second_plan
from parity.report import Pictures
from parity.report.gather import curves, manifest_of, pictures_of
from parity.stages import registry
from parity.stages.common import (
    CLASSIFIER,
    MADE_BY,
    RUNTIME,
    TWIN,
    WHO,
    Captures,
    Lack,
    Nothing,
    Shown,
)
from parity.stages.definition import Definition
from parity.stages.export import ONNX
from parity.stages.reference import REFERENCE
from parity.stages.second import SECOND, SECOND_STAGES
from parity.stages.whole import WHOLE

REPRODUCTION = "reproduction"


def make(plan: Plan, folder: Path, console: Console, sources: Sources = Sources(),  # noqa: B008
         stages: Sequence[str] | None = None, at_once: int = jobs.MOST_AT_ONCE) -> None:
    """Makes the captures that these stages need. sources: whose port, and who is the reference.

    Raises PlanError: no such stage. ProducerError: CNTK or the oracle could not be run.
    """
    wanted = registry.chosen(stages)
    if not any(stage.twins for stage in wanted):
        plan = plan.with_values(twin_iterations=0)
    _made(plan, folder, console, sources, wanted, at_once)
    if SECOND not in wanted or sources.is_adapter:  # a user's networks have their own widths
        return
    second = second_plan(plan, folder / SECOND.name)
    if second is not None:
        _made(second, folder / SECOND.name, console, replace(sources, for_score=NOTHING),
              SECOND_STAGES, at_once)


def _made(plan: Plan, folder: Path, console: Console, sources: Sources,
          stages: Sequence[Definition], at_once: int) -> None:
    parts = ",".join(registry.parts(stages))
    roles = {role for stage in stages for role in stage.needs}
    jobs.run_jobs(recipes.main_jobs(plan, folder, sources, parts, roles), plan, folder, console,
                  at_once)


def load(folder: Path) -> Captures:
    """Every capture that is in the folder; why the others are not.

    Raises CaptureError: none is there, one was changed, or two are of different plans. PlanError:
    the plan's file is there and is none.
    """
    require_captures(folder)
    found: dict[str, Capture] = {}
    absent: dict[str, Lack] = {}
    for role in WHO:
        failure = folder / f"{role}.failed"
        try:
            found[role] = _whole(folder / role, MADE_BY[role])
        except CaptureError as error:
            if os.path.lexists(folder / role / MANIFEST):
                raise
            absent[role] = Lack(role, failure.read_text().strip() if failure.exists()
                                else str(error), failure.exists())
        else:
            facts = found[role].facts
            if failure.exists():
                facts.setdefault("stopped", failure.read_text().strip())
            if facts.get("unfinished"):
                facts.setdefault("stopped", "it was ended before it had done everything")
    reruns = {path.name.removeprefix(TWIN): _whole(path, MADE_BY["cntk"])
              for path in sorted(folder.glob(f"{TWIN}rerun*")) if (path / MANIFEST).exists()}
    twins = {role.removeprefix(TWIN): one for role, one in found.items() if role.startswith(TWIN)}
    require_same_plan(*found.values(), *reruns.values())
    any_of_them = next(iter(found.values()))
    _require_its_plan(folder, any_of_them)
    if not any_of_them.manifest["plan"]["twin_iterations"]:
        absent.update({role: Lack(role, "the plan has no twin run: give --iterations")
                       for role in WHO if role.startswith(TWIN)})
    nothing = Nothing(any_of_them)
    cntk, port, oracle = (found.get(role, nothing) for role in ("cntk", "port", "oracle"))
    if port.facts.get("absent"):
        cntk = Shown(cntk, port.facts["absent"])
    made = {role: one for role, one in found.items()
            if role.startswith(RUNTIME) or role == CLASSIFIER}
    second = folder / SECOND.name
    return Captures(cntk, port, oracle, twins={**twins, **reruns}, absent=absent, made=made,
                    second=load(second) if plan_file(second).exists() or _roles(second) else None)


def require_captures(folder: Path) -> None:
    """Raises CaptureError: none is there."""
    if not _roles(folder):
        raise CaptureError(f"there is no capture in {folder}: give a folder that `parity run` has "
                           "filled")


def _roles(folder: Path) -> list[str]:
    return [role for role in WHO if os.path.lexists(folder / role / MANIFEST)]


def _whole(folder: Path, producers: Sequence[str]) -> Capture:
    """The capture, whose files are all there. Raises CaptureError; DamageError: they are not."""
    capture = Capture(folder)
    if capture.producer not in producers:
        raise CaptureError(f"{folder / MANIFEST} says that {capture.producer!r:.80} made it, and "
                           f"what lies there is made by {' or '.join(producers)}: put the right "
                           "capture there, or make it again")
    capture.require_whole()
    return capture


def _require_its_plan(folder: Path, capture: Capture) -> None:
    """Raises PlanError, CaptureError: the plan's file, if it is there, is not the captures'."""
    path = plan_file(folder)
    if not os.path.lexists(path):
        return
    ours, theirs = Plan.inputs_in(path), capture.manifest["plan"]
    if ours != theirs:
        differing = ", ".join(f"{name} {ours.get(name)} and {theirs.get(name)}"
                              for name in ours if ours.get(name) != theirs.get(name))
        raise CaptureError(f"{path} is not the plan of the captures beside it ({differing}): "
                           "restore it, or remove it")


def judge(folder: Path, stages: Sequence[str] | None = None,
          allowances: Mapping[str, float] | None = None, pictures: bool = True
          ) -> tuple[Report, Pictures]:
    """The report on the captures in a folder: the same captures, the same report.

    stages: names, all if None; ``whole`` too where one of them could not be judged by the port's or
    another side's fault. allowances: name of a policy to what it allows instead. A failure is
    reproduced in ``folder/reproduction``.

    Raises PlanError: no such stage. PolicyError: no such policy. CaptureError: no capture there, or
    one that was changed.
    """
    started = time.monotonic()
    wanted = registry.chosen(stages)
    captures = load(folder)
    with policies.changed(allowances or {}):
        report = _report(captures, wanted)
        report.diagnoses = diagnose(report, captures)
        if report.first_failure is not None:
            exports = of_exports(captures) \
                if report.first_failure[0].name == ONNX.name else None
            report.blame = exports.word or PORT if exports else PORT
            report.reproduction = reproduction(report, captures, exports, folder / REPRODUCTION)
    shown = pictures_of(captures) if pictures else Pictures()
    for one in captures.everything():
        if one.damage is not None:  # whoever caught it: a damaged file is no side's mistake
            raise one.damage
    report.seconds = time.monotonic() - started
    return report, shown


def _report(captures: Captures, wanted: Sequence[Definition]) -> Report:
    there = {role: captures.of(role) for role in [*WHO, *(
        TWIN + name for name in captures.twins if TWIN + name not in WHO)]}
    report = Report(dict(captures.plan), {
        role: manifest_of(one) for role, one in there.items() if one is not None})
    for stage in wanted:
        report.stages.append(stage(captures))
    if WHOLE not in wanted and any(lack.fault for lack in captures.lacks.values()):
        report.stages.append(WHOLE(captures))  # what was asked for and raised fails the run
    if isinstance(captures.cntk, Shown):
        report.hidden = captures.cntk.lines
    report.hidden += [f"noticed in the port: {line}" for line in captures.port.facts.get(
        "noticed", ())]
    if captures.port.facts.get("device", "CPU") != "CPU":
        report.hidden.append(f"the port ran on {captures.port.facts['device']}")
    report.curves = curves(captures) if captures.twins else {}
    report.score = captures.found.get("score", {})
    whole = captures.cntk.whole if isinstance(captures.cntk, Shown) else captures.cntk
    report.reference = stand_in(whole, captures.found.get(REFERENCE.name), len(whole))
    return report


def run(plan: Plan, folder: Path, console: Console, sources: Sources = Sources(),  # noqa: B008
        stages: Sequence[str] | None = None, pictures: bool = True,
        at_once: int = jobs.MOST_AT_ONCE) -> tuple[Report, Pictures]:
    """Makes every capture and judges them. Raises as ``make`` and ``judge``."""
    started = time.monotonic()
    make(plan, folder, console, sources, stages, at_once)
    with console.status("comparing"):
        report, shown = judge(folder, stages, pictures=pictures)
    report.seconds = time.monotonic() - started
    return report, shown

