"""Every planted mistake is made in a copy of the port, and the suite has to find it and name it.

    bin/parity defects [--only A,B] [--restart]

CNTK runs the plan once. Then each entry of ``defect_catalogue`` becomes a folder with a changed
``torch_port``, whose capture is made part by part, as ``make parity`` makes it, and compared stage
by stage, in the suite's order, until a stage fails. The oracle comes from the same changed copy: in
real use it is the port in float64, and carries the mistake too. A changed graph or a runtime at
fault begins at the captures of the correct port, which is run first, and has to pass everything.

Each defect has a process of its own, forked from one that has PyTorch imported; as many at a time
as there are processors. A result is a small JSON file named after the defect and keyed by all that
it depends on, so an interrupted run goes on where it stopped.
"""
import contextlib
import hashlib
import inspect
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any

from rich.console import Console

from captures.errors import PlanError
from captures.plan import Plan
from parity.evidence.catalogue import port
from parity.evidence.catalogue.port import DEFECTS
from parity.evidence.defect import Defect
from parity.evidence.examine import (
    CORRECT,
    SCHEDULE,
    Result,
    Task,
    _write,
    check_edits,
    work,
    write_json,
)
from parity.evidence.matrix import documentation, matrix, print_summary, table
from parity.judge import policies
from parity.producers import jobs, recipes
from parity.producers.jobs import ROOT
from parity.producers.progress import shown

DOCS = ROOT / "docs" / "defects.md"
MATRIX = "matrix.json"
NAMED_RIGHT = 0.95  # at least so many of the defects at the right place
MOST_AT_ONCE = 4
SECONDS = 900  # a changed port may also never end
PRELOADED = ("torch", "torch.onnx", "cv2", "scipy.stats", "onnx.reference", "onnxruntime",
             "parity.evidence.defects")
JUDGES = ("stages", "judge", "onnx", "blame")


# ----------------------------------------------------------------------------- what depends on what


def plan_of(map_file: Path) -> Plan:
    """Small, and trained a little: an untrained normalisation divides by the root of 0."""
    return Plan.make(map_file, minibatch_size=2, warmup_iterations=3, twin_iterations=0, reruns=0,
                     score_images=2)


def _digest(*parts: str | bytes) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(part.encode() if isinstance(part, str) else part)
        made.update(b"\0")
    return made.hexdigest()


def _files(folder: Path, pattern: str = "*.py") -> Iterator[Path]:
    return (path for path in sorted(folder.rglob(pattern))
            if "__pycache__" not in path.parts and path.is_file())


def reference_key(plan: Plan) -> str:
    """Of all that CNTK's capture depends on."""
    sources = [path for name in ("cntk_impl", "captures", "torch_port")
               for path in _files(ROOT / name)]
    return _digest(plan.hash, *(path.read_bytes() for path in sources))


def suite_key(plan: Plan, port: Path) -> str:
    """Of the suite, the port and the reference: what every result depends on."""
    judges = [path for name in JUDGES for path in _files(ROOT / "parity" / name)]
    schedule = [(part, [stage.name for stage in stages]) for part, stages in SCHEDULE]
    return _digest(reference_key(plan), json.dumps(policies.policies()), json.dumps(schedule),
                   *(path.read_bytes() for path in judges),
                   *(path.read_bytes() for path in _files(port, "*") if path.suffix != ".pyc"))


def defect_key(defect: Defect, suite: str) -> str:
    given = {name: value for name, value in asdict(defect).items()
             if name not in ("graph", "perturb", "stage", "place", "blame", "what", "kind")}
    code = inspect.getsource(port) if defect.graph or defect.perturb else ""
    return _digest(suite, json.dumps(given), code)


def make_reference(plan: Plan, folder: Path, console: Console) -> Path:
    """CNTK's capture of the plan, made where it is not there yet. Raises ProducerError."""
    key, note = reference_key(plan), folder / "key.txt"
    if not (note.exists() and note.read_text() == key and (folder / "oracle").is_dir()):
        shutil.rmtree(folder, ignore_errors=True)
        jobs.run_jobs([recipes.cntk_job(plan, folder), recipes.oracle_job(plan, folder)], plan,
                      folder, console)
        note.write_text(key)
    return folder


# -------------------------------------------------------------------------------------- all of them


def main(map_file: Path, output: Path, only: Sequence[str], restart: bool,
         console: Console) -> int:
    """only: names; all if empty. restart: forget what was done before. Returns the exit code.

    0: all caught, nearly all at the right place, and the correct port passes. 1: not so.

    Raises PlanError, CaptureError, ProducerError.
    """
    chosen = _chosen(only)
    plan = plan_of(map_file)
    output = output.resolve()
    if restart:
        shutil.rmtree(output / "results", ignore_errors=True)
    started = time.monotonic()
    reference = make_reference(plan, output / "reference", console)
    try:
        results = run(chosen, plan, reference, output, console)
    except KeyboardInterrupt:
        console.print("what is done is kept: the same command goes on")
        raise
    correct = results.pop(CORRECT)
    lines = [(defect, results[defect.name]) for defect in chosen]
    console.print(table(lines))
    print_summary(correct, lines, console)
    made = matrix(correct, lines, plan)
    write_json(output / MATRIX, made)
    if len(chosen) == len(DEFECTS):
        DOCS.parent.mkdir(exist_ok=True)
        _write(DOCS, documentation(made))
        console.print(f"{DOCS.relative_to(ROOT) if DOCS.is_relative_to(ROOT) else DOCS} is written",
                      highlight=False)
    console.print(f"{time.monotonic() - started:.0f} s; {output / MATRIX}", highlight=False,
                  soft_wrap=True)
    return 0 if passed(correct, lines) else 1


def _chosen(names: Sequence[str]) -> list[Defect]:
    known = {defect.name: defect for defect in DEFECTS}
    for name in names:
        if name not in known:
            near = [one for one in known if name in one][:4] or list(known)[:4]
            raise PlanError(f"there is no defect {name!r}: give names of "
                            f"parity/evidence/catalogue/port.py, {', '.join(near)} for example")
    return [known[name] for name in names] if names else list(DEFECTS)


def passed(correct: Result, lines: Sequence[tuple[Defect, Result]]) -> bool:
    caught = sum(result.caught for _, result in lines)
    right = sum(result.right(defect) for defect, result in lines)
    return (not correct.caught and not correct.error and caught == len(lines)
            and right >= NAMED_RIGHT * len(lines))


def run(chosen: Sequence[Defect], plan: Plan, reference: Path, output: Path, console: Console
        ) -> dict[str, Result]:
    """The results of the correct port and of every chosen defect; those that are there are kept.

    The port is copied once at the start: who goes on editing it meanwhile disturbs nothing.
    """
    source, correct = output / "source" / "torch_port", output / "correct"
    shutil.rmtree(source.parent, ignore_errors=True)
    shutil.copytree(ROOT / "torch_port", source, ignore=shutil.ignore_patterns("__pycache__"))
    for defect in chosen:
        check_edits(defect, source)
    suite = suite_key(plan, source)
    scratch, results = output / "scratch", output / "results"
    results.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)

    def task(defect: Defect | None) -> Task:
        name = defect.name if defect else CORRECT
        return Task(defect, defect_key(defect, suite) if defect else suite, source, reference,
                    scratch / name, correct, results / f"{name}.json",
                    {name: policy.value for name, policy in policies.POLICIES.items()})

    done: dict[str, Result] = {}
    left: list[Task] = []
    for one in [task(None), *map(task, chosen)]:
        kept = load_result(one)
        if kept is not None and not kept.error and (one.defect or _captures_kept(correct)):
            done[one.name] = kept
        else:
            left.append(one)
    if left and left[0].defect is None:
        shutil.rmtree(correct, ignore_errors=True)
        correct.mkdir()
    _run_all(left, done, len(chosen) + 1, console)
    shutil.rmtree(scratch, ignore_errors=True)
    return done


def _captures_kept(correct: Path) -> bool:
    return (correct / "evaluation" / "manifest.json").exists()


def _run_all(left: list[Task], done: dict[str, Result], total: int, console: Console) -> None:
    """As many at a time as there are processors; a graph's defect after the correct port."""
    context = multiprocessing.get_context("forkserver")
    at_once = min(MOST_AT_ONCE, len(os.sched_getaffinity(0)))
    waiting, running = list(left), {}  # type: ignore[var-annotated]
    with shown(console, counted=True) as progress:
        bar = progress.add_task("defects", total=total, completed=len(done))
        if waiting:
            _start_server(context)
        try:
            while waiting or running:
                ready = [one for one in waiting
                         if CORRECT in done or one.defect is None or one.defect.edits]
                for one in ready[:at_once - len(running)]:
                    waiting.remove(one)
                    process = context.Process(target=work, args=(one,), daemon=True)
                    process.start()
                    running[process.sentinel] = process, one, time.monotonic()
                progress.update(bar, completed=len(done), description="defects: " + ", ".join(
                    one.name for _, one, _ in running.values()))
                ended = connection.wait(list(running), timeout=5)
                for sentinel, (process, one, begun) in list(running.items()):
                    if sentinel not in ended:
                        if time.monotonic() - begun < SECONDS:
                            continue
                        process.terminate()
                    process.join()
                    del running[sentinel]
                    done[one.name] = load_result(one) or Result(
                        one.name, one.key, error=_how_it_ended(process.exitcode))
                    shutil.rmtree(one.scratch, ignore_errors=True)
            progress.update(bar, completed=len(done), description="defects")
        finally:
            for process, _, _ in running.values():
                process.terminate()
                process.join()


def _how_it_ended(code: int | None) -> str:
    return jobs.explanation("the changed port", code if code is not None else -15, [])


def _start_server(context: Any) -> None:
    """The process that the others are forked from: imports, and no thread."""
    forkserver.set_forkserver_preload(list(PRELOADED))
    given = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    before = {name: os.environ.get(name) for name in (*given, "PYTHONPATH")}
    os.environ.update(given, PYTHONPATH=str(ROOT))
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def load_result(task: Task) -> Result | None:
    """The result that is there, if it is of the same key."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        kept = json.loads(task.result.read_text())
        if kept["key"] == task.key:
            return Result(**{**kept, "margin": float(kept["margin"])})
    return None
