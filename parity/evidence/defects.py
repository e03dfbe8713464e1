"""Every planted mistake is made in a running port, and the suite has to find it and name it.

    bin/parity defects [--only A,B] [--bases ours,ordinary] [--shard 3/8] [--merge FOLDER]

CNTK runs the plan once, and so does the float64 oracle, which is ours whoever's port is judged.
Then each mistake of the package ``planted`` is made in a process of its own, in each base port, and
the port's capture is made part by part, as ``make parity`` makes it, and judged stage by stage, in
the suite's order, until a stage fails. A changed graph or a runtime at fault begins at the captures
of our correct port. The base ports themselves are run too, and have to pass everything.

The processes are forked from one that has PyTorch and the port imported; as many at a time as there
are processors. A result is a small JSON file named after the mistake and keyed by all that it
depends on, so an interrupted run goes on where it stopped.
"""
import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any

from rich.console import Console

from captures.errors import PlanError
from captures.plan import Plan
from parity.evidence.defect import BASES, OURS, Defect, catalogue
from parity.evidence.examine import (
    CORRECT,
    SCHEDULE,
    Result,
    Task,
    _write,
    correct_port,
    work,
    write_json,
)
from parity.evidence.matrix import documentation, matrix, print_summary, table
from parity.evidence.shards import RESULTS, WHOLE_LIST, Shard, merged
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
             "parity.evidence.defects", "planted.catalogue")
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


def suite_key(plan: Plan) -> str:
    """Of the suite, the port and the reference: what every result depends on."""
    judges = [path for name in JUDGES for path in _files(ROOT / "parity" / name)]
    schedule = [(part, [stage.name for stage in stages]) for part, stages in SCHEDULE]
    return _digest(reference_key(plan), json.dumps(policies.policies()), json.dumps(schedule),
                   *(path.read_bytes() for path in judges),
                   *(path.read_bytes() for path in _files(ROOT / "torch_port", "*.c")))


def defect_key(defect: Defect, suite: str) -> str:
    """What is expected of it is none of it: a result can be looked at again."""
    given = {name: value for name, value in asdict(defect).items()
             if name not in ("stage", "place", "blame", "what", "kind")}
    return _digest(suite, json.dumps(given), catalogue().sources.get(defect.base, ""))


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


@dataclass(frozen=True)
class Wanted:
    """What is asked for. only: names; all if empty. restart: forget what was done before."""

    only: Sequence[str] = ()
    bases: Sequence[str] = BASES
    shard: Shard = WHOLE_LIST
    merge: Sequence[Path] = ()
    restart: bool = False

    def chosen(self) -> list[Defect]:
        """Raises PlanError: there is no such defect or base port."""
        for base in self.bases:
            if base not in BASES:
                raise PlanError(f"there is no base port {base!r}: give some of {', '.join(BASES)}")
        known = {one.title: one for one in catalogue().everywhere()}
        named = {one.name for one in known.values()}
        for name in self.only:
            if name not in known and name not in named:
                near = [one for one in named if name in one][:4] or list(named)[:4]
                raise PlanError(f"there is no defect {name!r}: `python -m planted --list` has all, "
                                f"{', '.join(near)} for example")
        found = [one for one in known.values() if one.base in self.bases and (
            not self.only or {one.title, one.name} & set(self.only))]
        return self.shard.share(found)

    @property
    def everything(self) -> bool:
        return not self.only and tuple(self.bases) == BASES and self.shard.of == 1


def main(map_file: Path, output: Path, wanted: Wanted, console: Console) -> int:
    """0: all caught, nearly all at the right place, and the correct ports pass. 1: not so.

    Raises PlanError, CaptureError, ProducerError, CatalogueError.
    """
    chosen = wanted.chosen()
    plan = plan_of(map_file)
    output = output.resolve()
    if wanted.restart:
        shutil.rmtree(output / RESULTS, ignore_errors=True)
    merged(wanted.merge, output)
    started = time.monotonic()
    try:
        results = run(chosen, plan, output, console)
    except KeyboardInterrupt:
        console.print("what is done is kept: the same command goes on")
        raise
    correct = {base: results[correct_port(base)] for base in bases_of(chosen)}
    lines = [(defect, results[defect.title]) for defect in chosen]
    console.print(table(lines))
    print_summary(correct, lines, console)
    made = matrix(correct, lines, plan, catalogue().kinds)
    write_json(output / MATRIX, made)
    if wanted.everything:
        DOCS.parent.mkdir(exist_ok=True)
        _write(DOCS, documentation(made))
        console.print(f"{DOCS.relative_to(ROOT) if DOCS.is_relative_to(ROOT) else DOCS} is written",
                      highlight=False)
    console.print(f"{time.monotonic() - started:.0f} s; {output / MATRIX}", highlight=False,
                  soft_wrap=True)
    return 0 if passed(correct, lines) else 1


def bases_of(chosen: Sequence[Defect]) -> list[str]:
    """The base ports that these need; ours, whose captures the exported files come from, always."""
    return [base for base in BASES if base == OURS or any(one.base == base for one in chosen)]


def passed(correct: Mapping[str, Result], lines: Sequence[tuple[Defect, Result]]) -> bool:
    """On each base port by itself."""
    for base, port in correct.items():
        of = [(defect, result) for defect, result in lines if defect.base == base]
        caught = sum(result.caught for _, result in of)
        right = sum(result.right(defect) for defect, result in of)
        if port.caught or port.error or caught < len(of) or right < NAMED_RIGHT * len(of):
            return False
    return True


def run(chosen: Sequence[Defect], plan: Plan, output: Path, console: Console) -> dict[str, Result]:
    """The results of the correct ports and of every chosen defect; those that are there are kept.

    The processes are forked from one that has loaded the sources: who goes on editing them
    meanwhile disturbs nothing."""
    scratch, results, correct = output / "scratch", output / RESULTS, output / "correct"
    results.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)
    references = References(plan, output)
    allowances = {name: policy.value for name, policy in policies.POLICIES.items()}

    def task(base: str, defect: Defect | None = None) -> Task:
        reference = references.folder(defect)
        suite = suite_key(references.plan(defect))
        key = defect_key(defect, suite) if defect else _digest(
            suite, catalogue().sources.get(base, ""))
        name = defect.title if defect else correct_port(base)
        return Task(defect, base, key, reference, scratch / name, correct,
                    results / f"{name}.json", allowances)

    done: dict[str, Result] = {}
    left: list[Task] = []
    wanted = [*map(task, bases_of(chosen)), *(task(one.base, one) for one in chosen)]
    for one in wanted:
        kept = load_result(one)
        if kept is not None and not kept.error:
            done[one.name] = kept
        else:
            left.append(one)
    if any(one.defect and one.defect.export for one in left) and not _captures_kept(correct):
        done.pop(CORRECT, None)
        left = [wanted[0], *(one for one in left if one is not wanted[0])]
    if wanted[0] in left:
        shutil.rmtree(correct, ignore_errors=True)
        correct.mkdir()
    references.make([one.defect for one in left], console)
    _run_all(left, done, len(wanted), console)
    shutil.rmtree(scratch, ignore_errors=True)
    return done


class References:
    """CNTK's and the oracle's captures of the ordinary plan and of those that some mistakes need;
    made when something is left to be judged by them."""

    def __init__(self, plan: Plan, output: Path) -> None:
        self.ordinary, self.output = plan, output

    def plan(self, defect: Defect | None) -> Plan:
        values = dict(defect.plan) if defect else {}
        return self.ordinary.with_values(**values) if values else self.ordinary

    def folder(self, defect: Defect | None) -> Path:
        values = "".join(f"-{name}-{value}" for name, value in sorted(
            defect.plan.items())) if defect else ""
        return self.output / f"reference{values}"

    def make(self, left: Sequence[Defect | None], console: Console) -> None:
        """Raises ProducerError."""
        for folder, plan in {self.folder(one): self.plan(one) for one in left}.items():
            make_reference(plan, folder, console)


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
                         if CORRECT in done or one.defect is None or not one.defect.export]
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
