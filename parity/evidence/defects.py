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
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from captures.errors import PlanError
from captures.files import write_json, write_text
from captures.format import MANIFEST
from captures.plan import Plan
from parity.evidence.defect import BASES, OURS, Defect, catalogue
from parity.evidence.examine import (
    CORRECT,
    KEPT,
    Result,
    Task,
    correct_port,
    work,
)
from parity.evidence.keys import digest, suite_key
from parity.evidence.matrix import documentation, matrix, print_summary, table
from parity.evidence.plans import plan_of
from parity.evidence.pool import run_all
from parity.evidence.reference import make_reference, some_images
from parity.evidence.shards import RESULTS, WHOLE_LIST, Shard, merged
from parity.judge import policies
from parity.producers import jobs
from parity.producers.jobs import ROOT

DOCS = ROOT / "docs" / "defects.md"
MATRIX = "matrix.json"
Make = Callable[[Plan, Path, Console], Path]
NAMED_RIGHT = 0.95  # at least so many of the defects at the right place


# ----------------------------------------------------------------------------- what depends on what


def defect_key(defect: Defect, suite: str) -> str:
    """What is expected of it is none of it: a result can be looked at again."""
    given = {name: value for name, value in asdict(defect).items()
             if name not in ("stage", "place", "blame", "what", "kind", "diagnosis")}
    return digest(suite, json.dumps(given), catalogue().sources.get(defect.base, ""))


# -------------------------------------------------------------------------------------- all of them


@dataclass(frozen=True)
class Wanted:
    """What is asked for. only: names; all if empty. restart: forget what was done before. whole: of
    the article's own networks, not the narrow ones."""

    only: Sequence[str] = ()
    bases: Sequence[str] = BASES
    shard: Shard = WHOLE_LIST
    merge: Sequence[Path] = ()
    restart: bool = False
    whole: bool = False

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
    output = output.resolve()
    plan = plan_of(some_images(map_file, output), wanted.whole)
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
        write_text(DOCS, documentation(made))
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


def run(chosen: Sequence[Defect], plan: Plan, output: Path, console: Console,
        make: Make = make_reference) -> dict[str, Result]:
    """The results of the correct ports and of every chosen defect; those that are there are kept.
    make: how the captures that they are held against are made.

    The processes are forked from one that has loaded the sources: who goes on editing them
    meanwhile disturbs nothing."""
    scratch, results, correct = output / "scratch", output / RESULTS, output / "correct"
    results.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)
    references = References(plan, output, make)
    allowances = {name: policy.value for name, policy in policies.POLICIES.items()}

    def task(base: str, defect: Defect | None = None) -> Task:
        reference = references.folder(defect)
        suite = suite_key(references.plan(defect))
        key = defect_key(defect, suite) if defect else digest(
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
        correct.mkdir(parents=True)
    references.make([one.defect for one in left], console)
    _run_all(left, done, len(wanted), console)
    shutil.rmtree(scratch, ignore_errors=True)
    return done


class References:
    """CNTK's and the oracle's captures of the ordinary plan and of those that some mistakes need;
    made when something is left to be judged by them."""

    def __init__(self, plan: Plan, output: Path, make: Make = make_reference) -> None:
        self.ordinary, self.output, self.made = plan, output, make

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
            self.made(plan, folder, console)


def _captures_kept(correct: Path) -> bool:
    return all((correct / name / MANIFEST).exists() for name in KEPT)


def _run_all(left: list[Task], done: dict[str, Result], total: int, console: Console) -> None:
    for one, code in run_all("defects", left, work, total, console):
        done[one.name] = load_result(one) or Result(
            one.name, one.key, error=jobs.explanation("the examination", code, []))
        shutil.rmtree(one.scratch, ignore_errors=True)


def load_result(task: Task) -> Result | None:
    """The result that is there, if it is of the same key."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        kept = json.loads(task.result.read_text())
        if kept["key"] == task.key:
            return Result(**{**kept, "margin": float(kept["margin"])})
    return None
