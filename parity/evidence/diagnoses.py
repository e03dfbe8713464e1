"""How often the diagnosis is right: planted mistakes, alone and in pairs, and correct ports.

    bin/parity diagnoses [--only A,B] [--base ordinary] [--pairs 20]

Each mistake of ``planted/explained.py`` is planted into a correct port, the port's capture is made
and judged by every stage of layers and steps, and the diagnosis is asked. It is right where what it
says first is what the catalogue expects. Of a pair both have to be named, in whatever order. Of a
correct port nothing may be. Minibatches are of three, so that a mean over them is no half.
"""
import re
import shutil
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from captures.errors import PlanError
from captures.files import read_json, write_json, write_text
from captures.format import Capture
from parity.diagnosis.diagnose import diagnose
from parity.evidence.child import captured, said_to
from parity.evidence.defect import BASES, OURS, Defect, catalogue
from parity.evidence.keys import digest, suite_key
from parity.evidence.plans import plan_of
from parity.evidence.pool import run_all
from parity.evidence.reference import make_reference, some_images
from parity.judge.results import Report
from parity.producers.jobs import ROOT
from parity.stages import registry
from parity.stages.common import Captures
from parity.stages.export import ONNX
from parity.stages.score import SCORE
from parity.stages.whole import WHOLE

DOCS = ROOT / "docs" / "diagnoses.md"
SAMPLES = 3
STAGES = tuple(stage for stage in registry.STAGES
               if not stage.twins and stage not in (SCORE, ONNX, WHOLE))
PARTS = registry.parts(STAGES)
RIGHT, BOTH = 0.8, 0.5  # of the mistakes, of the pairs
CORRECT_PORT = "correct"


@dataclass(frozen=True)
class Task:
    """planted: names, in the order in which they are made."""

    planted: tuple[str, ...]
    base: str
    key: str
    reference: Path
    scratch: Path
    result: Path
    after: str = ""

    @property
    def name(self) -> str:
        return "+".join(self.planted) or CORRECT_PORT


@dataclass(frozen=True)
class Answer:
    """failed: the first stage that failed, "" if none did. named: what the diagnosis said, by
    name, in its order. error: why there is no capture."""

    failed: str
    named: tuple[str, ...]
    said: tuple[str, ...]
    error: str = ""


def work(task: Task) -> None:
    """In a process of its own."""
    task.scratch.mkdir(parents=True, exist_ok=True)
    log = task.scratch / "log.txt"
    said_to(log)
    try:
        answer = asked(task, log)
    except Exception as error:
        traceback.print_exc()
        answer = Answer("", (), (), f"{type(error).__name__}: {error}"[:300])
    write_json(task.result, {"key": task.key, "failed": answer.failed, "named": answer.named,
                             "said": [in_here(text) for text in answer.said],
                             "error": in_here(answer.error)})


def in_here(text: str) -> str:
    """Without this machine's path to the project."""
    return text.replace(f"{ROOT}/", "")


def asked(task: Task, log: Path) -> Answer:
    base = () if task.base == OURS else (task.base,)
    folder = task.scratch / "port"
    stopped = captured([*base, *task.planted], task.reference, folder, PARTS, log)
    if stopped:
        return Answer("whole", (), (), stopped)
    captures = Captures(Capture(task.reference / "cntk"), Capture(folder),
                        Capture(task.reference / "oracle"))
    report = Report(dict(captures.plan), {}, [stage(captures) for stage in STAGES])
    found = report.first_failure
    said = diagnose(report, captures)
    return Answer(found[0].name if found else "", tuple(one.name for one in said),
                  tuple(one.what for one in said))


def right(answer: Mapping[str, Any], wanted: str, first: bool = False) -> bool:
    """first: it has to be what is said first."""
    named = answer["named"][:1] if first else answer["named"]
    return any(re.fullmatch(wanted, name) for name in named if name)


def pairs_of(defects: Sequence[Defect], count: int) -> list[tuple[Defect, Defect]]:
    """Drawn once and for all; the two of different kinds."""
    random, made = np.random.RandomState(0), list[tuple[Defect, Defect]]()
    while len(made) < count and len({one.kind for one in defects}) > 1:
        a, b = (defects[int(i)] for i in random.choice(len(defects), 2, replace=False))
        if a.kind != b.kind and (a, b) not in made:
            made.append((a, b))
    return made


def main(map_file: Path, output: Path, only: Sequence[str], base: str, pairs: int, restart: bool,
         console: Console) -> int:
    """0: as many are right as have to be. Raises PlanError, ProducerError, CatalogueError."""
    if base not in BASES:
        raise PlanError(f"there is no base port {base!r}: give one of {', '.join(BASES)}")
    known = [one for one in catalogue().defects if one.diagnosis]
    for name in only:
        if name not in {one.name for one in known}:
            raise PlanError(f"{name!r} is none that the diagnosis is asked for: give some of "
                            f"{', '.join(one.name for one in known[:5])}, ...")
    output = output.resolve()
    chosen = [one for one in known if not only or one.name in only]
    both = [] if only else pairs_of(known, pairs)
    if restart:
        shutil.rmtree(output / "results", ignore_errors=True)
    (output / "results").mkdir(parents=True, exist_ok=True)
    plan = plan_of(some_images(map_file, output), twin_iterations=0, minibatch_size=SAMPLES)
    key = digest(suite_key(plan), *(path.read_bytes() for path in sorted(
        (ROOT / "parity" / "diagnosis").glob("*.py"))))
    planted = [(), *((one.name,) for one in chosen), *((a.name, b.name) for a, b in both)]
    sources = {one.name: one.source for one in known}
    tasks = [Task(names, base, digest(key, base, *(sources[name] for name in names)),
                  output / "reference", output / "scratch" / "+".join(names or ("none",)),
                  output / "results" / f"{'+'.join(names) or CORRECT_PORT}@{base}.json")
             for names in planted]
    left = [task for task in tasks if _kept(task) is None]
    if left:
        make_reference(plan, output / "reference", console)
    for task, _ in run_all("mistakes", left, work, len(tasks), console):
        shutil.rmtree(task.scratch, ignore_errors=True)
    answers = {task.planted: answer for task in tasks if (answer := _kept(task)) is not None}
    text, good = page(answers, chosen, both, base)
    _print(answers, chosen, both, console)
    if not only and pairs == 20 and base == "ordinary":
        write_text(DOCS, text)
    return 0 if good else 1


def _kept(task: Task) -> dict[str, Any] | None:
    try:
        kept: dict[str, Any] = read_json(task.result)
    except (OSError, ValueError):
        return None
    return kept if kept.get("key") == task.key else None


Answers = Mapping[tuple[str, ...], Mapping[str, Any]]


def _lines(answers: Answers, chosen: Sequence[Defect], both: Sequence[tuple[Defect, Defect]]
           ) -> list[str]:
    """The figures."""
    seen = [one for one in chosen if answers.get((one.name,), {}).get("failed")]
    named = [one for one in seen if right(answers[one.name,], one.diagnosis, True)]
    pairs = [(a, b) for a, b in both if (a.name, b.name) in answers]
    two = [(a, b) for a, b in pairs if all(
        right(answers[a.name, b.name], one.diagnosis) for one in (a, b))]
    lines = [f"{len(named)} of {len(seen)} mistakes are called by their name, "
             f"{len(named) / max(len(seen), 1):.0%}."]
    if len(seen) < len(chosen):
        lines.append(f"{len(chosen) - len(seen)} more fail no stage of layers and steps: "
                     + ", ".join(one.name for one in chosen if one not in seen) + ".")
    if pairs:
        lines.append(f"Of {len(two)} of {len(pairs)} pairs both are.")
    if () in answers:
        said = answers[()]["named"]
        lines.append("Of the correct port nothing is said." if not said and not answers[()][
            "failed"] else f"Of the correct port it says {', '.join(said)}: wrong.")
    return lines


def page(answers: Answers, chosen: Sequence[Defect], both: Sequence[tuple[Defect, Defect]],
         base: str) -> tuple[str, bool]:
    """docs/diagnoses.md, and whether as many are right as have to be."""
    seen = [one for one in chosen if answers.get((one.name,), {}).get("failed")]
    named = sum(right(answers[one.name,], one.diagnosis, True) for one in seen)
    two = sum(all(right(answers.get((a.name, b.name), {"named": ()}), one.diagnosis)
                  for one in (a, b)) for a, b in both)
    quiet = () not in answers or not (answers[()]["named"] or answers[()]["failed"])
    text = ["# Which mistakes the diagnosis calls by their name", "",
            "Made by `bin/parity diagnoses`; not written by hand. Each mistake is planted into a "
            f"correct port ({base}), with the article's layers at an eighth of their channels and "
            f"minibatches of {SAMPLES}.", "", *_lines(answers, chosen, both), "",
            "| mistake | kind | first stage that fails | the diagnosis says | right |",
            "| --- | --- | --- | --- | --- |"]
    for names, defects in [*(((one.name,), (one,)) for one in chosen),
                           *(((a.name, b.name), (a, b)) for a, b in both)]:
        answer = answers.get(names)
        if answer is None:
            continue
        good = all(right(answer, one.diagnosis, len(defects) == 1) for one in defects)
        said = ", ".join(dict.fromkeys(name or "no known mistake" for name in answer["named"]))
        text.append(f"| {' and '.join(names)} | {' and '.join(one.kind for one in defects)} | "
                    f"{answer['failed'] or 'none'} | {said or answer['error'] or '-'} | "
                    f"{'yes' if good else 'no' if answer['failed'] else '-'} |")
    return "\n".join(text) + "\n", bool(
        named >= RIGHT * len(seen) and two >= BOTH * len(both) and quiet)


def _print(answers: Answers, chosen: Sequence[Defect], both: Sequence[tuple[Defect, Defect]],
           console: Console) -> None:
    table = Table("not called by its name", "first failure", "said", box=None)
    for names, defects in [*(((one.name,), (one,)) for one in chosen),
                           *(((a.name, b.name), (a, b)) for a, b in both)]:
        answer = answers.get(names)
        if answer is not None and not all(right(answer, one.diagnosis, len(defects) == 1)
                                          for one in defects):
            table.add_row(" and ".join(names), answer["failed"], ", ".join(
                name or "-" for name in answer["named"]) or answer["error"])
    console.print(table)
    for line in _lines(answers, chosen, both):
        console.print(line, highlight=False)
