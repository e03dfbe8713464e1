"""Every planted mistake is made in a copy of the port, and the suite has to find it and name it.

    python -m parity defects [--only A,B] [--restart]

CNTK runs the plan once. Then each entry of ``defect_catalogue`` becomes a folder with a changed
``torch_port``, whose capture is made part by part, as ``make parity`` makes it, and compared stage
by stage, in the suite's order, until a stage fails. The oracle comes from the same changed copy: in
real use it is the port in float64, and carries the mistake too. A changed graph or a runtime at
fault begins at the captures of the correct port, which is run first, and has to pass everything.

Each defect has a process of its own, forked from one that has PyTorch imported; as many at a time
as there are processors. A result is a small JSON file named after the defect and keyed by all that
it depends on, so an interrupted run goes on where it stopped.
"""
import argparse
import contextlib
import hashlib
import importlib
import inspect
import json
import math
import multiprocessing
import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from parity import defect_catalogue, onnx_stage, producers, stages, verdict
from parity.blame import PORT
from parity.capture_format import FORMAT, Capture
from parity.defect_catalogue import DEFECTS, KINDS, Defect
from parity.onnx_graphs import LAYERS
from parity.plan import Plan, PlanError
from parity.producers import ROOT
from parity.results import Check, Stage

DOCS = ROOT / "docs" / "defects.md"
MATRIX = "matrix.json"
CORRECT = "correct-port"
NAMED_RIGHT = 0.95  # at least so many of the defects at the right place
MOST_AT_ONCE = 4
SECONDS = 900  # a changed port may also never end
STOPPED = "(it stops)"
PRELOADED = ("torch", "torch.onnx", "cv2", "scipy.stats", "onnx.reference", "onnxruntime",
             "parity.defects")

# What is made, and the stages that then have all they need. A stage that is not named here is one
# of "seed". The port's onnx stage comes last, as in `make parity`.
SCHEDULE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("seed", "float32", ()),
    ("evaluation", "float32", ("state",)),
    ("evaluation", "float64", ("forward_evaluation",)),
    ("training", "float32", ()),
    ("training", "float64", ("forward_training", "gradient_d")),
    ("generator", "float32", ()),
    ("generator", "float64", ("forward_g_step", "gradient_g")),
    ("steps", "float32", ()),
    ("steps", "float64", ("step", "ledger")),
)
JUDGES = ("stages", "verdict", "metrics", "results", "onnx_stage", "onnx_graphs", "blame")
ELSEWHERE = {name for _, _, names in SCHEDULE for name in names}


def stages_after(part: str, dtype: str) -> list[Any]:
    """The stage functions that can run once this was made, in the suite's order."""
    for one, kind, names in SCHEDULE:
        if (one, kind) == (part, dtype):
            return [stage for stage in stages.ALL if stage.__name__ in names or (
                one == "seed" and stage.__name__ not in ELSEWHERE)]
    raise KeyError((part, dtype))


@dataclass
class Result:
    """What the suite said of one defect. stage "" if nothing failed. local: True, the error was
    found where it is born; False, in the chain. margin: measured / allowed. error: why there is no
    result, for example that the process died."""

    name: str
    key: str
    stage: str = ""
    place: str = ""
    local: bool | None = None
    margin: float = 0.0
    policy: str = ""
    detail: str = ""
    blame: str = ""
    error: str = ""
    seconds: float = 0.0
    processor_seconds: float = 0.0

    @property
    def caught(self) -> bool:
        return bool(self.stage)

    def right(self, defect: Defect) -> bool:
        """Whether stage, place and blame are those that the catalogue asks for."""
        return (self.caught and bool(re.fullmatch(defect.stage, self.stage))
                and bool(re.fullmatch(defect.place, self.place)) and self.blame == defect.blame)


class Parts(Capture):
    """Captures of single parts, as one. ``folder`` is where the ONNX files lie."""

    def __init__(self, folder: Path, *parts: Path) -> None:
        self.folder, self.producer, self.plan_hash = str(folder), "", ""
        self.manifest: dict[str, Any] = {"format": FORMAT}
        self.entries: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}
        for part in parts:
            self.add(part)

    def add(self, part: Path) -> None:
        made = Capture(part)
        self.manifest = {**made.manifest, **self.manifest}
        self.producer, self.plan_hash = made.producer, made.plan_hash
        self.facts.update(made.facts)
        for name, entry in made.entries.items():
            self.entries[name] = {**entry, "file": os.path.join(made.folder, entry["file"])}


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
    sources = [*_files(ROOT / "cntk_impl"), *(ROOT / "parity" / name for name in (
        "plan.py", "probes.py", "capture_format.py"))]
    return _digest(plan.hash, *(path.read_bytes() for path in sources))


def suite_key(plan: Plan, port: Path) -> str:
    """Of the suite, the port and the reference: what every result depends on."""
    judges = [ROOT / "parity" / f"{name}.py" for name in JUDGES]
    return _digest(reference_key(plan), json.dumps(verdict.policies()), repr(SCHEDULE),
                   *(path.read_bytes() for path in judges),
                   *(path.read_bytes() for path in _files(port, "*") if path.suffix != ".pyc"))


def defect_key(defect: Defect, suite: str) -> str:
    given = {name: value for name, value in asdict(defect).items()
             if name not in ("graph", "perturb", "stage", "place", "blame", "what", "kind")}
    code = inspect.getsource(defect_catalogue) if defect.graph or defect.perturb else ""
    return _digest(suite, json.dumps(given), code)


def make_reference(plan: Plan, folder: Path, console: Console) -> Path:
    """CNTK's capture of the plan, made where it is not there yet. Raises ProducerError."""
    key, note = reference_key(plan), folder / "key.txt"
    if not (note.exists() and note.read_text() == key and (folder / "cntk").is_dir()):
        shutil.rmtree(folder, ignore_errors=True)
        producers.run_jobs([producers.cntk_job(plan, folder)], plan, folder, console)
        note.write_text(key)
    return folder


# -------------------------------------------------------------------------- one defect, one process


@dataclass(frozen=True)
class Task:
    """defect: None for the correct port. source: the torch_port to copy. correct: where the correct
    port's captures are, or are to be kept."""

    defect: Defect | None
    key: str
    source: Path
    reference: Path
    scratch: Path
    correct: Path
    result: Path
    policies: Mapping[str, verdict.Policy] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.defect.name if self.defect else CORRECT


def apply(defect: Defect, port: Path) -> None:
    """The edits, in the files of ``port``. Raises PlanError, as ``check_edits``."""
    check_edits(defect, port)
    for edit in defect.edits:
        path = port / edit.file
        path.write_text(path.read_text().replace(edit.old, edit.new))


def check_edits(defect: Defect, port: Path) -> None:
    """Raises PlanError where a text is not there as often as the entry says."""
    for edit in defect.edits:
        path = port / edit.file
        found = path.read_text().count(edit.old) if path.exists() else 0
        if found != edit.times:
            raise PlanError(f"defect {defect.name}: its text stands {found} times in "
                            f"torch_port/{edit.file}, not {edit.times}: bring the entry in "
                            "parity/defect_catalogue.py up to date")


def work(task: Task) -> None:
    """In the process of a defect: examines it and writes the result."""
    task.scratch.mkdir(parents=True, exist_ok=True)
    with open(task.scratch / "log.txt", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    verdict.POLICIES.update(task.policies)
    started = time.monotonic()
    result = Result(task.name, task.key)
    try:
        found = _examine(task)
        if found is not None:
            stage, check, result.blame = found
            result.stage, result.place, result.local = stage.name, check.place, check.local
            result.margin, result.policy, result.detail = (check.margin, check.policy,
                                                           check.detail)
    except _Stopped as stopped:
        result.stage, result.place, result.blame = STOPPED, str(stopped), PORT
        result.detail, result.margin = str(stopped), math.inf
    except (Exception, SystemExit) as error:  # anything a changed port does
        traceback.print_exc()
        result.error = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]
    result.seconds, result.processor_seconds = time.monotonic() - started, time.process_time()
    write_json(task.result, asdict(result))


class _Stopped(Exception):
    """The port said in one line what is wrong, and exited."""


def _examine(task: Task) -> tuple[Stage, Check, str] | None:
    """The first failure and who is blamed; None where every stage passes."""
    reference = Capture(task.reference / "cntk")
    defect = task.defect
    if defect is not None and not defect.edits:
        return _onnx(_with_fault(task, defect), defect.perturb, defect.export, defect.network)
    port = task.scratch / "torch_port"
    shutil.copytree(task.source, port, ignore=shutil.ignore_patterns("__pycache__"))
    os.symlink(ROOT / "build", task.scratch / "build")
    if defect is not None:
        apply(defect, port)
    sys.path.insert(0, str(task.scratch))
    capture = importlib.import_module("torch_port.capture")
    assert Path(capture.__file__ or "").parent == port
    home = task.scratch if defect else task.correct
    made = stages.Captures(reference, Parts(home / "evaluation-float32"), Parts(home))
    schedule = [step for step in SCHEDULE
                if defect is None or defect.kind != "ONNX" or step[0] == "evaluation"]
    for part, dtype, _ in schedule:
        folder = home / f"{part}-{dtype}"
        if (part, dtype) != ("seed", "float64"):
            _make(capture, task, part, dtype, folder)
        (made.port if dtype == "float32" else made.oracle).add(folder)  # type: ignore[attr-defined]
        for compare in stages_after(part, dtype):
            stage = compare(made)
            if stage.first_failure is not None:
                return stage, stage.first_failure, PORT
    found = _onnx(made)
    if defect is None:
        for made_part in home.iterdir():
            if not made_part.name.startswith("evaluation"):
                shutil.rmtree(made_part)
    return found


def _make(capture: Any, task: Task, part: str, dtype: str, folder: Path) -> None:
    """The port's capture of one part, by its own command. Raises _Stopped where it exits 2."""
    said = (task.scratch / "log.txt").stat().st_size
    code = capture.main(["--plan", str(producers.plan_file(task.reference)), "--reference",
                         str(task.reference / "cntk"), "--output", str(folder), "--parts", part,
                         "--dtype", dtype])
    sys.stdout.flush(), sys.stderr.flush()
    if code:
        with open(task.scratch / "log.txt", encoding="utf-8", errors="replace") as log:
            log.seek(said)
            raise _Stopped(producers.explanation(part, code, log.read().splitlines()))


def _with_fault(task: Task, defect: Defect) -> stages.Captures:
    """The correct port's captures, one export of them a changed copy."""
    whole = {"cntk": task.reference / "cntk", "port": task.correct / "evaluation-float32"}
    folders = dict(whole)
    if defect.graph is not None:
        import onnx
        changed = folders[defect.export] = task.scratch / defect.export
        changed.mkdir()
        for path in whole[defect.export].glob("*.onnx"):
            if path.stem == defect.network:
                model = onnx.load(path)
                defect.graph(model)
                (changed / path.name).write_bytes(model.SerializeToString())
            else:
                os.symlink(path, changed / path.name)
    return stages.Captures(
        Parts(folders["cntk"], whole["cntk"]), Parts(folders["port"], whole["port"]),
        Parts(task.correct, task.correct / "evaluation-float64"))


def _onnx(captures: stages.Captures, perturb: Any = None, export: str = "", network: str = ""
          ) -> tuple[Stage, Check, str] | None:
    """perturb: of one export of one network, which is known by the shapes of its layers."""
    shapes = {layer.name: layer.shape for layer in LAYERS.get(network, ())}

    def perturbed(name: str, array: Any) -> Any:
        return perturb(name, array) if array.shape[1:] == shapes.get(name) else array

    exports = onnx_stage.compare(captures, {export: perturbed} if perturb else None)
    check = exports.stage.first_failure
    return None if check is None else (exports.stage, check, exports.word or PORT)


# -------------------------------------------------------------------------------------- all of them


def main(options: argparse.Namespace, console: Console) -> int:
    """0: all caught, nearly all at the right place, and the correct port passes. 1: not so.

    Raises PlanError, CaptureError, ProducerError.
    """
    chosen = _chosen(options.only)
    plan = plan_of(options.map_file)
    output = options.output.resolve()
    if options.restart:
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


def _chosen(only: str) -> list[Defect]:
    names = [name for name in only.split(",") if name]
    known = {defect.name: defect for defect in DEFECTS}
    for name in names:
        if name not in known:
            near = [one for one in known if name in one][:4] or list(known)[:4]
            raise PlanError(f"there is no defect {name!r}: give names of "
                            f"parity/defect_catalogue.py, {', '.join(near)} for example")
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
                    scratch / name, correct, results / f"{name}.json", verdict.POLICIES)

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
    return all((correct / f"evaluation-{dtype}" / "manifest.json").exists()
               for dtype in ("float32", "float64"))


def _run_all(left: list[Task], done: dict[str, Result], total: int, console: Console) -> None:
    """As many at a time as there are processors; a graph's defect after the correct port."""
    context = multiprocessing.get_context("forkserver")
    at_once = min(MOST_AT_ONCE, len(os.sched_getaffinity(0)))
    waiting, running = list(left), {}  # type: ignore[var-annotated]
    columns = (TextColumn("defects"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total, completed=len(done))
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
                progress.update(bar, completed=len(done), description=", ".join(
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
            progress.update(bar, completed=len(done), description="")
        finally:
            for process, _, _ in running.values():
                process.terminate()
                process.join()


def _how_it_ended(code: int | None) -> str:
    return producers.explanation("the changed port", code if code is not None else -15, [])


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


def write_json(path: Path, value: Any) -> None:
    """Infinity as text, since JSON has none."""
    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: plain(one) for name, one in item.items()}
        if isinstance(item, list | tuple):
            return [plain(one) for one in item]
        return str(item) if isinstance(item, float) and not math.isfinite(item) else item
    _write(path, json.dumps(plain(value), indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


# -------------------------------------------------------------------------------------- the matrix


def matrix(correct: Result, lines: Sequence[tuple[Defect, Result]], plan: Plan) -> dict[str, Any]:
    import onnx
    import onnxruntime
    import torch
    return {
        "plan": dict(plan.inputs),
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__,
                     "onnxruntime": onnxruntime.__version__, "cntk": "2.7"},
        "correct_port_passes": not correct.caught and not correct.error,
        "defects": len(lines), "caught": sum(result.caught for _, result in lines),
        "right_place": sum(result.right(defect) for defect, result in lines),
        "processor_seconds": round(correct.processor_seconds + sum(
            result.processor_seconds for _, result in lines)),
        "matrix": [{
            "name": defect.name, "kind": defect.kind, "what": defect.what,
            "caught": result.caught, "stage": result.stage, "place": result.place,
            "born": {True: "local", False: "inherited", None: ""}[result.local],
            "margin": result.margin, "policy": result.policy, "blame": result.blame,
            "right": result.right(defect),
            "asked_for": {"stage": defect.stage, "place": defect.place, "blame": defect.blame},
            "detail": result.detail, "error": result.error, "seconds": round(result.seconds, 1),
        } for defect, result in lines],
    }


def shown_margin(margin: float) -> str:
    if not math.isfinite(margin):
        return "exact"
    return f"{margin:.3g}" if margin < 1e5 else f"{margin:.1e}"


def table(lines: Sequence[tuple[Defect, Result]]) -> Table:
    made = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("defect", "caught by", "margin", "blame", "right"):
        made.add_column(name, overflow="fold", justify="right" if name == "margin" else "left")
    kind = ""
    for defect, result in lines:
        if defect.kind != kind:
            kind = defect.kind
            made.add_row(f"[bold]{kind}[/]")
        born = {True: " (local)", False: " (in the chain)", None: ""}[result.local]
        made.add_row(
            f"  {defect.name}", escape(f"{result.stage}: {result.place}{born}") if result.caught
            else f"[red]{escape(result.error) or 'nothing'}[/]",
            shown_margin(result.margin) if result.caught else "", result.blame,
            "[green]yes[/]" if result.right(defect)
            else f"[red]no: {escape(defect.stage)}: {escape(defect.place)}, {defect.blame}[/]")
    return made


def print_summary(correct: Result, lines: Sequence[tuple[Defect, Result]],
                  console: Console) -> None:
    total = len(lines)
    caught = sum(result.caught for _, result in lines)
    right = sum(result.right(defect) for defect, result in lines)
    if correct.error:
        console.print(f"the correct port did not run: {correct.error}", markup=False)
    elif correct.caught:
        console.print(f"the correct port fails: {correct.stage}, {correct.place}: "
                      f"{correct.detail}", markup=False)
    else:
        console.print("the correct port passes")
    console.print(f"{caught} of {total} caught, {right} of {total} at the right place")
    missed = [defect.name for defect, result in lines if not result.caught]
    if missed:
        console.print(f"missed: {', '.join(missed)}", markup=False)


def documentation(made: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    text = [
        "# Planted defects", "",
        "Made by `make defects`, which runs all of this; not written by hand. "
        f"Versions: {versions}.", "",
        f"**{made['caught']} of {made['defects']} caught "
        f"({100 * made['caught'] / made['defects']:.0f} %), {made['right_place']} of "
        f"{made['defects']} at the right place "
        f"({100 * made['right_place'] / made['defects']:.0f} %). The correct port "
        f"{'passes' if made['correct_port_passes'] else 'FAILS'}.**", "",
        "Each mistake is made in a copy of `torch_port`, or in a copy of an exported graph, and "
        "the suite is run on it, stage by stage, against CNTK's capture of minibatch "
        f"{made['plan']['minibatch_size']} after {made['plan']['warmup_iterations']} iterations, "
        "until a stage fails. The float64 oracle comes from the same changed copy.", "",
        "- **caught by**: the first stage that failed",
        "- **place**: what the suite named: `network/layer/quantity`",
        "- **local** or **chain**: whether the error was found on CNTK's own inputs, where it is "
        "born, or behind other layers",
        "- **margin**: how many times the allowance; *exact*: nothing was allowed",
        "- **blame**: whose mistake it is, as the report says it",
        "- **right**: whether stage, place and blame are what the catalogue asks for", ""]
    for kind, what in KINDS.items():
        lines = [line for line in made["matrix"] if line["kind"] == kind]
        if not lines:
            continue
        text += [f"## {kind[0].upper()}{kind[1:]}", "", f"{what[0].upper()}{what[1:]}.", "",
                 "| defect | what was done wrong | caught by | place | | margin | blame | right |",
                 "| --- | --- | --- | --- | --- | ---: | --- | --- |"]
        for line in lines:
            margin = float(line["margin"])
            born = {"local": "local", "inherited": "chain", "": ""}[line["born"]]
            text.append(
                f"| {line['name']} | {line['what']} | {line['stage'] or '**nothing**'} | "
                f"{'`' + line['place'] + '`' if line['place'] else ''} | {born} | "
                f"{shown_margin(margin) if line['caught'] else ''} | {line['blame']} | "
                f"{'yes' if line['right'] else '**no**'} |")
        text.append("")
    return "\n".join([*text, *_HOW_TO_ADD.splitlines(), ""])


_HOW_TO_ADD = '''\
## Adding a defect

One entry in `DEFECTS` of `parity/defect_catalogue.py`:

```python
Defect("momentum-0.9", "optimizer",
       "Adam's usual momentum.",
       "optimizer", "matrix/step01",          # stage and place that must be named, in full
       (Edit("training.py", "LEARNING_RATE, MOMENTUM = 1e-4, 0.5",
             "LEARNING_RATE, MOMENTUM = 1e-4, 0.9"),)),
```

`Edit` exchanges a text in a copy of a file of `torch_port`; the text has to stand there exactly
once, or as often as its fourth argument says. Instead of edits an entry may have `graph`, a
function that changes an `onnx.ModelProto`, with `export` ("cntk" or "port") and `network`; or
`perturb`, what a runtime at fault does to a layer's output; then `blame` says who has to be blamed.
Afterwards

    .venv-torch/bin/python -m parity defects --only momentum-0.9

runs that one, and `make defects` all that are not done yet, and writes this page.
'''
