"""One planted mistake, in a process of its own: the port's capture is made part by part, and each
stage judges as soon as it has what it needs, until one fails."""
import os
import re
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from captures.files import write_json
from captures.format import FORMAT, MANIFEST, ArrayEntry, AttachedEntry, Capture, hashed
from captures.spec import Network
from parity.blame.exports import of_exports
from parity.blame.finding import PORT
from parity.evidence import reference
from parity.evidence.child import captured, plants, said_to, trained
from parity.evidence.defect import OURS, Defect
from parity.evidence.runtime import ran
from parity.judge import policies
from parity.judge.results import Check, Stage
from parity.onnx.names import Perturb
from parity.stages import common, registry
from parity.stages.definition import Definition
from parity.stages.export import ONNX
from parity.stages.program import PROGRAM
from parity.stages.score import SCORE
from parity.stages.second import SECOND
from parity.stages.twin import TWIN_RUN
from parity.stages.whole import WHOLE

RUNTIME_CNTK, RUNTIME_PORT = f"{common.RUNTIME}cntk", f"{common.RUNTIME}port"
CORRECT = "correct-port"
# Of its captures, what is kept: the exported files are changed in copies.
KEPT = ("evaluation", RUNTIME_PORT)

# What is made of the port's capture, and the stages that then have all they need.
# What the training program leaves is looked at last, beside the training.
SCHEDULE = tuple((part, stages) for part, stages in registry.schedule(
    stage for stage in registry.STAGES
    if stage not in (WHOLE, SCORE, PROGRAM, SECOND) and not stage.twins) if stages)
# The same for a mistake that shows in an exported file alone.
EXPORTS = tuple((part, stages) for part, stages in registry.schedule(
    stage for stage in registry.STAGES
    if stage.parts == ("evaluation",) and stage is not SCORE) if stages)


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
                and bool(re.fullmatch(defect.place, self.place))
                and bool(re.fullmatch(defect.blame, self.blame)))


class Parts(Capture):
    """Captures of single parts, as one. folder: where the ONNX files lie; a capture, or no more
    than changed copies."""

    def __init__(self, folder: Path, *parts: Path) -> None:
        self.folder, self.producer, self.plan_hash = str(folder), "", ""
        self.manifest: dict[str, Any] = {"format": FORMAT}
        self.entries: dict[str, ArrayEntry] = {}
        self.facts: dict[str, Any] = {}
        self.homes: dict[str, Capture] = {}
        self.attached: dict[str, AttachedEntry] = {
            path.name: hashed(path) for path in folder.glob("*.onnx")}
        for part in parts:
            self.add(part)

    def add(self, part: Path) -> None:
        made = Capture(part)
        self.manifest = {**made.manifest, **self.manifest}
        self.producer, self.plan_hash, self.spec = made.producer, made.plan_hash, made.spec
        self.facts.update(made.facts)
        self.entries.update(made.entries)
        if str(part) == self.folder:
            self.attached = made.attached
        self.homes.update(dict.fromkeys(made.entries, made))

    def as_it_is(self, name: str) -> np.ndarray:
        self._entry(name)
        return self.homes[name].as_it_is(name)

    def attachment(self, name: str) -> Path:
        folder = Path(self.folder)
        if (folder / MANIFEST).exists():
            return Capture(folder).attachment(name)
        return folder / name


# -------------------------------------------------------------------------- one defect, one process


@dataclass(frozen=True)
class Task:
    """defect: None for a correct port, which base says. correct: where our own port's captures are,
    or are to be kept."""

    defect: Defect | None
    base: str
    key: str
    reference: Path
    scratch: Path
    correct: Path
    result: Path
    allowances: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.defect.title if self.defect else correct_port(self.base)

    @property
    def after(self) -> str:
        """The exported files are changed in copies of our correct port's."""
        return CORRECT if self.defect and self.defect.export else ""

    @property
    def log(self) -> Path:
        return self.scratch / "log.txt"


def correct_port(base: str) -> str:
    """What the base port is called among the results."""
    return CORRECT if base == OURS else f"{CORRECT}@{base}"


def work(task: Task) -> None:
    """In the process of a defect: examines it and writes the result."""
    task.scratch.mkdir(parents=True, exist_ok=True)
    said_to(task.log)
    started = time.monotonic()
    result = Result(task.name, task.key)
    try:
        with policies.changed(task.allowances):
            found = _examine(task)
        if found is not None:
            stage, check, result.blame = found
            result.stage, result.place, result.local = stage.name, check.place, check.local
            result.margin, result.policy, result.detail = (check.margin, check.policy,
                                                           check.detail)
    except (Exception, SystemExit) as error:  # anything a changed port does
        traceback.print_exc()
        result.error = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]
    result.seconds, result.processor_seconds = time.monotonic() - started, sum(
        os.times()[:4])
    write_json(task.result, asdict(result))


def _examine(task: Task) -> tuple[Stage, Check, str] | None:
    """The first failure and who is blamed; None where every stage passes."""
    cntk = Capture(task.reference / "cntk")
    defect = task.defect
    if defect is not None and defect.export:
        fault = plants().mistakes()[defect.name].exported
        return _judged(ONNX, _with_fault(task, defect, fault), task.reference, task.scratch)
    planted = defect.plants if defect else [] if task.base == OURS else [task.base]
    ours = defect is None and task.base == OURS
    home = task.correct if ours else task.scratch
    made = common.Captures(cntk, Parts(home / "evaluation"),
                           Capture(task.reference / "oracle"), made={
                               RUNTIME_CNTK: Capture(task.reference / RUNTIME_CNTK)})
    exported = defect is not None and defect.kind == "ONNX"
    for part, stages in EXPORTS if exported else SCHEDULE:
        stopped = captured(planted, task.reference, home / part, [part], task.log)
        if stopped:
            made.port.facts["stopped"] = stopped
            break
        made.port.add(home / part)  # type: ignore[attr-defined]
        for compare in stages:
            found = _judged(compare, made, task.reference, home)
            if found is not None:
                return found
    for last in ([] if exported else _training(task, planted, made)), [WHOLE(made)]:
        for stage in last:
            if stage.first_failure is not None:
                return stage, stage.first_failure, PORT
    if ours:
        for made_part in home.iterdir():
            if made_part.name not in KEPT:
                shutil.rmtree(made_part)
    return None


def _training(task: Task, planted: list[str], made: common.Captures) -> list[Stage]:
    """The twin run, iteration by iteration, and the training program beside it; the program
    alone where the plan has no training; none where the port is dead."""
    if made.port.facts.get("stopped"):
        return []
    if not reference.trained(task.reference):
        return _program(task, planted, made)
    twin = TWIN_RUN(beside(made, planted, task.reference, task.scratch, task.log))
    return [twin, *_program(task, planted, made)] if twin.passed else [twin]


def beside(made: common.Captures, planted: list[str], of: Path, scratch: Path, log: Path
           ) -> common.Captures:
    """The port's training beside CNTK's, which is played back from the reference's folder ``of``.
    scratch: where the port's capture and the meeting place go, in the last port's place."""
    folder, meeting = scratch / "twin-port", scratch / reference.MEETING
    for last in (folder, meeting):
        shutil.rmtree(last, ignore_errors=True)
    stopped = trained(planted, of, folder, reference.replayed(of, meeting), log)
    made.twins["cntk"] = Capture(of / "twin-cntk")
    if stopped:
        made.absent[common.TWIN + "port"] = common.Lack(common.TWIN + "port", stopped, True)
    else:
        made.twins["port"] = Capture(folder)
    return made


def _program(task: Task, planted: list[str], made: common.Captures) -> list[Stage]:
    """The training program; none where it stops, which the stage ``whole`` says."""
    (part,) = PROGRAM.parts
    stopped = captured(planted, task.reference, task.scratch / part, [part], task.log)
    if stopped:
        made.port.facts["stopped"] = stopped
        return []
    made.port.add(task.scratch / part)  # type: ignore[attr-defined]
    return [PROGRAM(made)]


def _judged(compare: Definition, captures: common.Captures, reference: Path, home: Path
            ) -> tuple[Stage, Check, str] | None:
    """The first failure of one stage and who is blamed; None where it passes. home: where what it
    needs of onnxruntime is written, if it is not there."""
    if RUNTIME_PORT in compare.needs and RUNTIME_PORT not in captures.made:
        captures.made[RUNTIME_PORT] = ran(reference, home / RUNTIME_PORT, "port", captures.port)
    stage = compare(captures)
    if stage.first_failure is None:
        return None
    word = of_exports(captures).word if compare is ONNX else ""
    return stage, stage.first_failure, word or PORT


def _with_fault(task: Task, defect: Defect, fault: Any) -> common.Captures:
    """The correct port's captures, one export of them a changed copy, or run by a runtime that is
    at fault."""
    whole = {"cntk": task.reference / "cntk", "port": task.correct / "evaluation"}
    folders = dict(whole)
    if fault.change is not None:
        import onnx
        changed = folders[defect.export] = task.scratch / defect.export
        changed.mkdir()
        for path in whole[defect.export].glob("*.onnx"):
            if path.stem == defect.network:
                model = onnx.load(path)
                fault.change(model)
                (changed / path.name).write_bytes(model.SerializeToString())
            else:
                os.symlink(path, changed / path.name)
    made = common.Captures(
        Parts(folders["cntk"], whole["cntk"]), Parts(folders["port"], whole["port"]),
        Capture(task.reference / "oracle"), made={
            RUNTIME_CNTK: Capture(task.reference / RUNTIME_CNTK),
            RUNTIME_PORT: Capture(task.correct / RUNTIME_PORT)})
    side = made.of(defect.export)
    assert side is not None
    made.made[common.RUNTIME + defect.export] = ran(
        task.reference, task.scratch / "ran", defect.export, side,
        _of_network(fault.perturb, made.spec.network(defect.network)) if fault.perturb else None)
    return made


def _of_network(perturb: Perturb, network: Network) -> Perturb:
    """A fault in one network alone, which is known by the shapes of its layers."""
    shapes = {layer.name: layer.output for layer in network.layers}

    def perturbed(name: str, array: np.ndarray) -> np.ndarray:
        return perturb(name, array) if array.shape[1:] == shapes.get(name) else array
    return perturbed
