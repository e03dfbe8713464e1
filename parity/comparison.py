"""The main job: captures made, stages compared, report filled."""
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from parity import onnx_stage, producers, score, stages
from parity.blame import PORT, write_array_reproduction, write_layer_reproduction
from parity.capture_format import Capture, CaptureError, require_same_plan
from parity.classifier_score import ClassifierError
from parity.onnx_graphs import GraphError
from parity.plan import Plan
from parity.report import Pictures
from parity.results import Check, Report, Stage

STAGES = ("structure", "initial", "reader", "optimizer", "normalisation", "pointwise", "state",
          "forward/evaluation", "forward/training", "gradient/d", "forward/g_step", "gradient/g",
          "step", "ledger", "onnx", "twin", "score")
# What of the port's capture a stage needs; the other stages need what is made from the seed.
PARTS = {
    "state": ("evaluation",), "forward/evaluation": ("evaluation",), "onnx": ("evaluation",),
    "score": ("evaluation",), "forward/training": ("training",), "gradient/d": ("training",),
    "forward/g_step": ("generator",), "gradient/g": ("generator",),
    "step": ("training", "generator", "steps"), "ledger": ("steps",), "twin": (),
}
ORDER = ("seed", "evaluation", "training", "generator", "steps")
HISTOGRAM_SAMPLE = 20_000
REPRODUCTION = "reproduction"


def load(folder: Path, plan: Plan) -> stages.Captures:
    """Raises CaptureError: one is missing, not finished, or of another plan."""
    captures = stages.Captures(Capture(folder / "cntk"), Capture(folder / "port"),
                               Capture(folder / "oracle"))
    if plan.twin_iterations:
        names = ["cntk", "port", *(f"rerun{i}" for i in range(1, plan.reruns + 1))]
        captures.twins = {name: Capture(folder / f"twin-{name}") for name in names}
    for capture in (captures.port, captures.oracle, *captures.twins.values()):
        require_same_plan(captures.cntk, capture)
    return captures


def run(plan: Plan, folder: Path, console: Console, port: Path = producers.ROOT,
        wanted: Sequence[str] = STAGES, cache: Path = producers.ROOT / "build" / "classifier",
        pictures: bool = True, at_once: int = producers.MOST_AT_ONCE) -> tuple[Report, Pictures]:
    """Makes every capture and compares them.

    Raises ProducerError, CaptureError, ClassifierError.
    """
    started = time.monotonic()
    if "twin" not in wanted:
        plan = plan.with_values(twin_iterations=0)
    needed = {part for stage in wanted for part in PARTS.get(stage, ("seed",))}
    parts = ",".join(part for part in ORDER if part in needed) or "seed"
    producers.run_jobs(producers.main_jobs(plan, folder, port, parts), plan, folder, console,
                       at_once)
    with console.status("comparing"):
        report, shown = compare(plan, folder, wanted, cache, pictures)
    report.seconds = time.monotonic() - started
    return report, shown


def compare(plan: Plan, folder: Path, wanted: Sequence[str] = STAGES,
            cache: Path = producers.ROOT / "build" / "classifier", pictures: bool = True
            ) -> tuple[Report, Pictures]:
    """Compares captures that are there."""
    captures = load(folder, plan)
    report = Report(dict(plan.inputs), {
        capture.producer if name is None else name: manifest_of(capture)
        for name, capture in [(None, captures.cntk), (None, captures.port),
                              (None, captures.oracle),
                              *((f"twin-{key}", one) for key, one in captures.twins.items())]})
    exports = None
    for compare_stage in stages.ALL:
        _add(report, captures, compare_stage, wanted)
    if "onnx" in wanted:
        begun = time.monotonic()
        exports = onnx_stage.compare(captures)
        exports.stage.seconds = time.monotonic() - begun
        report.stages.append(exports.stage)
    if captures.twins and "twin" in wanted:
        _add(report, captures, stages.twin, wanted)
        if not stages.incomparable(captures.twins):
            report.curves = curves(captures)
    if "score" in wanted:
        begun = time.monotonic()
        stage, report.score = score.stage(captures, cache, plan.threads)
        stage.seconds = time.monotonic() - begun
        report.stages.append(stage)
    if report.first_failure is not None:
        # CNTK is what is to be ported: only of the exports can it be at fault.
        report.blame = (exports.word if exports and report.first_failure[0].name == "onnx"
                        else PORT)
        report.reproduction = reproduction(report, captures, exports, folder / REPRODUCTION)
    return report, _pictures(captures) if pictures else Pictures()


def _add(report: Report, captures: stages.Captures, compare_stage: object,
         wanted: Sequence[str]) -> None:
    begun = time.monotonic()
    name = getattr(compare_stage, "__name__", "")
    if name not in [one.replace("/", "_") for one in wanted]:
        return
    stage: Stage = compare_stage(captures)  # type: ignore[operator]
    stage.seconds = time.monotonic() - begun
    report.stages.append(stage)


def manifest_of(capture: Capture) -> dict[str, object]:
    """A capture's manifest without its arrays and facts."""
    return {key: value for key, value in capture.manifest.items()
            if key not in ("arrays", "facts", "plan")} | {
                "seconds": capture.facts.get("seconds")}


def curves(captures: stages.Captures) -> dict[str, list[float]]:
    """The twin run's losses and the horizon's distances, for the pictures."""
    made = {}
    for who in ("cntk", "port"):
        losses = captures.twins[who]["twin/run/losses/d_and_g"]
        made[f"twin/{who}/D_loss"] = losses[:, 0].tolist()
        made[f"twin/{who}/G_loss"] = losses[:, 1].tolist()
    for name, values in stages.horizon(captures.twins)["weights"].items():
        made[f"horizon/{name}"] = values.tolist()
    return made


def _pictures(captures: stages.Captures) -> Pictures:
    made = Pictures()
    for name in captures.cntk.names("initial"):
        if not name.endswith("/weight"):
            continue
        pair = []
        for capture in (captures.cntk, captures.port):
            values = stages.array_or_failure(capture, f"initial/{name}")
            if not isinstance(values, Check):
                pair.append(np.ravel(values)[:HISTOGRAM_SAMPLE])
        if len(pair) == 2:
            made.initial[name] = (pair[0], pair[1])
    images = [stages.array_or_failure(capture, score.IMAGES)
              for capture in (captures.cntk, captures.port)]
    if not any(isinstance(one, Check) for one in images):
        made.images = (images[0], images[1])  # type: ignore[assignment]
    return made


def reproduction(report: Report, captures: stages.Captures,
                 exports: onnx_stage.Exports | None, folder: Path) -> str:
    """The first failure as a small folder with a script that shows it; "" where there is none."""
    found = report.first_failure
    if found is None:
        return ""
    stage, check = found
    try:
        if stage.name == "onnx" and exports is not None:
            made = exports.reproduction(folder)
            return str(made) if made else ""
        return str(_case(stage, check, captures, folder) or "")
    except (CaptureError, GraphError, ValueError, KeyError, OSError) as error:
        return f"(no folder: {error})"


PREFIX = {"initial": "initial", "reader": "reader/probe", "optimizer": "optimizer/probe",
          "normalisation": "normalisation/probe", "pointwise": "pointwise/probe",
          "state": "state", "step": "step/0001"}


def _case(stage: Stage, check: Check, captures: stages.Captures, folder: Path) -> Path | None:
    prefix = PREFIX.get(stage.name, stage.name)
    place = check.place
    if stage.name.startswith("forward/") and check.local:
        branch, layer, _ = place.split("/")
        return _layer_case(prefix, branch, layer, captures, folder, check)
    for ours in ([f"local/{prefix}/{place}"] if check.local else []) + [f"{prefix}/{place}"]:
        for theirs in (f"{prefix}/{place}", f"input/reader/{place}"):
            if theirs in captures.cntk and ours in captures.port:
                return write_array_reproduction(folder, place, captures.cntk[theirs],
                                                captures.port[ours], 0.0, what=check.detail)
    if f"input/reader/{place}" in captures.cntk and f"input/reader/{place}" in captures.port:
        name = f"input/reader/{place}"
        return write_array_reproduction(folder, place, captures.cntk[name], captures.port[name],
                                        0.0, what=check.detail)
    return None


def _layer_case(prefix: str, branch: str, layer: str, captures: stages.Captures, folder: Path,
                check: Check) -> Path:
    """The layer on CNTK's own input, made anew from CNTK's weights, as judge."""
    network = branch.split("_")[0]
    order = [name.split("/")[1] for name in captures.cntk.names(prefix)
             if name.startswith(f"{branch}/")]
    at = order.index(layer)
    pixels = False
    if at:
        taken = captures.cntk[f"{prefix}/{branch}/{order[at - 1]}/output"]
    elif branch == "generator":
        taken = captures.cntk["input/d_step/latents"]
    elif branch == "discriminator_real":
        taken, pixels = captures.cntk["input/reader/images"], True
    else:
        taken = captures.cntk[f"{prefix}/generator/tanh7/output"]
    theirs = captures.cntk[f"{prefix}/{branch}/{layer}/output"]
    ours = captures.port[f"local/{prefix}/{branch}/{layer}/output"]
    oracle_error = float(np.max(np.abs(theirs - captures.oracle[
        f"local/{prefix}/{branch}/{layer}/output"])))
    allowed = max(oracle_error, float(np.max(np.abs(theirs))) * 1e-6)
    return write_layer_reproduction(
        folder, network, layer, taken, ours, theirs, onnx_stage.state_of(captures.cntk), allowed,
        training=prefix.endswith("training"), pixels=pixels, what=check.detail)


__all__ = ["STAGES", "ClassifierError", "compare", "load", "run"]
