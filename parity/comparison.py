"""The main job: captures made, stages compared, report filled."""
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from captures.format import Capture, require_same_plan
from captures.plan import Plan
from parity.blame.cases import reproduction
from parity.blame.finding import PORT
from parity.judge.results import Report, Stage
from parity.producers import jobs, recipes
from parity.report import Pictures
from parity.report.gather import _pictures, curves, manifest_of
from parity.stages import common, export, registry
from parity.stages import score as score_stage
from parity.stages import twin as twin_stage
from parity.stages.registry import ORDER, PARTS, STAGES

REPRODUCTION = "reproduction"


def load(folder: Path, plan: Plan) -> common.Captures:
    """Raises CaptureError: one is missing, not finished, or of another plan."""
    captures = common.Captures(Capture(folder / "cntk"), Capture(folder / "port"),
                               Capture(folder / "oracle"))
    if plan.twin_iterations:
        names = ["cntk", "port", *(f"rerun{i}" for i in range(1, plan.reruns + 1))]
        captures.twins = {name: Capture(folder / f"twin-{name}") for name in names}
    for capture in (captures.port, captures.oracle, *captures.twins.values()):
        require_same_plan(captures.cntk, capture)
    return captures


def run(plan: Plan, folder: Path, console: Console, port: Path = jobs.ROOT,
        wanted: Sequence[str] = STAGES, cache: Path = jobs.ROOT / "build" / "classifier",
        pictures: bool = True, at_once: int = jobs.MOST_AT_ONCE) -> tuple[Report, Pictures]:
    """Makes every capture and compares them.

    Raises ProducerError, CaptureError, ClassifierError.
    """
    started = time.monotonic()
    if "twin" not in wanted:
        plan = plan.with_values(twin_iterations=0)
    needed = {part for stage in wanted for part in PARTS.get(stage, ("seed",))}
    parts = ",".join(part for part in ORDER if part in needed) or "seed"
    jobs.run_jobs(recipes.main_jobs(plan, folder, port, parts), plan, folder, console,
                       at_once)
    with console.status("comparing"):
        report, shown = compare(plan, folder, wanted, cache, pictures)
    report.seconds = time.monotonic() - started
    return report, shown


def compare(plan: Plan, folder: Path, wanted: Sequence[str] = STAGES,
            cache: Path = jobs.ROOT / "build" / "classifier", pictures: bool = True
            ) -> tuple[Report, Pictures]:
    """Compares captures that are there."""
    captures = load(folder, plan)
    report = Report(dict(plan.inputs), {
        capture.producer if name is None else name: manifest_of(capture)
        for name, capture in [(None, captures.cntk), (None, captures.port),
                              (None, captures.oracle),
                              *((f"twin-{key}", one) for key, one in captures.twins.items())]})
    exports = None
    for compare_stage in registry.ALL:
        _add(report, captures, compare_stage, wanted)
    if "onnx" in wanted:
        begun = time.monotonic()
        exports = export.compare(captures)
        exports.stage.seconds = time.monotonic() - begun
        report.stages.append(exports.stage)
    if captures.twins and "twin" in wanted:
        _add(report, captures, twin_stage.twin, wanted)
        if not twin_stage.incomparable(captures.twins):
            report.curves = curves(captures)
    if "score" in wanted:
        begun = time.monotonic()
        stage, report.score = score_stage.stage(captures, cache, plan.threads)
        stage.seconds = time.monotonic() - begun
        report.stages.append(stage)
    if report.first_failure is not None:
        # CNTK is what is to be ported: only of the exports can it be at fault.
        report.blame = (exports.word if exports and report.first_failure[0].name == "onnx"
                        else PORT)
        report.reproduction = reproduction(report, captures, exports, folder / REPRODUCTION)
    return report, _pictures(captures) if pictures else Pictures()


def _add(report: Report, captures: common.Captures, compare_stage: object,
         wanted: Sequence[str]) -> None:
    begun = time.monotonic()
    name = getattr(compare_stage, "__name__", "")
    if name not in [one.replace("/", "_") for one in wanted]:
        return
    stage: Stage = compare_stage(captures)  # type: ignore[operator]
    stage.seconds = time.monotonic() - begun
    report.stages.append(stage)


__all__ = ["STAGES", "compare", "load", "run"]
