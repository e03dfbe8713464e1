"""How small a mistake is seen: for each kind of mistake and each stage, the smallest size.

    bin/parity detection-limits [--only one-filter,rate] [--bases ours,ordinary]

Each kind of ``planted/sizes.py`` is planted at sizes from 1 down, a decade apart, in each base
port, and the captures are judged by every stage, without stopping at the first that fails. A kind's
ladder ends at the first size that no stage sees, or at 1e-9.
"""
import contextlib
import math
import shutil
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from captures.errors import PlanError
from captures.files import read_json, write_json, write_text
from captures.format import Capture
from parity.evidence.child import captured, said_to
from parity.evidence.defect import BASES, OURS, catalogue
from parity.evidence.false_alarms import JUDGED, PARTS
from parity.evidence.keys import digest, suite_key
from parity.evidence.plans import plan_of
from parity.evidence.pool import run_all
from parity.evidence.reference import make_reference, some_images
from parity.evidence.runtime import captures_with
from parity.evidence.shards import RESULTS
from parity.judge import metrics
from parity.judge.results import Check
from parity.producers.jobs import ROOT
from parity.stages.common import arrays_or_failure

DOCS = ROOT / "docs" / "detection-limits.md"
SMALLEST = -9  # as a power of ten
# What an ordinary parity tool asks, and this suite asked before it knew rounding from a mistake: no
# layer and no gradient is farther from CNTK's than a fixed part of its size.
FIXED, ALLOWED = "fixed", 2e-5


def ladder() -> list[float]:
    """From 1 down."""
    return [float(f"1e{power}") for power in range(0, SMALLEST - 1, -1)]


@dataclass(frozen=True)
class Task:
    """One kind in one base port, the whole ladder."""

    kind: str
    base: str
    key: str
    reference: Path
    scratch: Path
    result: Path
    after: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind}@{self.base}"


def work(task: Task) -> None:
    """Writes {"seen": {size: [stages]}}; size 0 first, the base port itself."""
    task.scratch.mkdir(parents=True, exist_ok=True)
    log = task.scratch / "log.txt"
    said_to(log)
    seen: dict[str, list[str]] = {}
    try:
        base = [] if task.base == OURS else [task.base]
        seen["0"] = _failing(task, base, log)
        for size in ladder():
            seen[f"{size:g}"] = _failing(task, [*base, f"{task.kind}:{size:g}"], log)
            if not set(seen[f"{size:g}"]) - set(seen["0"]) - {FIXED}:
                break
    except Exception:
        traceback.print_exc()
        raise
    write_json(task.result, {"kind": task.kind, "base": task.base, "key": task.key, "seen": seen})


def _failing(task: Task, planted: Sequence[str], log: Path) -> list[str]:
    """The stages that fail, in order."""
    folder = task.scratch / "port"
    shutil.rmtree(folder, ignore_errors=True)
    if captured(planted, task.reference, folder, PARTS, log):
        return ["whole"]
    captures = captures_with(task.reference, folder)
    made = [stage.name for stage in JUDGED if stage(captures).first_failure is not None]
    return [*made, FIXED] if beyond_the_fixed(captures.cntk, captures.port) else made


def beyond_the_fixed(cntk: Capture, port: Capture) -> bool:
    """Whether a layer's output, or a gradient, is farther than ALLOWED of its root mean square."""
    for prefix in ("forward", "gradient"):
        for name in cntk.names(prefix):
            found = arrays_or_failure(name, (port, f"{prefix}/{name}"), (cntk, f"{prefix}/{name}"))
            if isinstance(found, Check) or found[0].shape != found[1].shape \
                    or metrics.error(*found) > ALLOWED:
                return True
    return False


def smallest(seen: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Stage to the smallest size down to which it fails at every one; without those that fail the
    base port itself."""
    made: dict[str, float] = {}
    lost: set[str] = set(seen["0"])
    for size in [one for one in seen if one != "0"]:
        failing = set(seen[size]) - lost
        made.update(dict.fromkeys(failing, float(size)))
        lost |= set(made) - failing
    return made


def main(map_file: Path, output: Path, only: Sequence[str], bases: Sequence[str], restart: bool,
         console: Console) -> int:
    """0. Raises PlanError, ProducerError, CatalogueError."""
    known = catalogue()
    for what, asked, there in (("kind", only, list(known.sized)), ("base port", bases, BASES)):
        for one in asked:
            if one not in there:
                raise PlanError(f"there is no {what} {one!r}: give some of {', '.join(there)}")
    output = output.resolve()
    if restart:
        shutil.rmtree(output / RESULTS, ignore_errors=True)
    (output / RESULTS).mkdir(parents=True, exist_ok=True)
    plan = plan_of(some_images(map_file, output), twin_iterations=0)
    suite = digest(suite_key(plan), known.sizes_source)
    tasks = [Task(kind, base, digest(suite, kind, known.sources.get(base, "")),
                  output / "reference", output / "scratch" / f"{kind}-{base}",
                  output / RESULTS / f"{kind}@{base}.json")
             for base in bases for kind in known.sized if not only or kind in only]
    left = [task for task in tasks if load_result(task) is None]
    if left:
        make_reference(plan, output / "reference", console)
    for task, code in run_all("kinds", left, work, len(tasks), console):
        if code:
            words = (task.scratch / "log.txt").read_text(errors="replace").splitlines()
            raise PlanError(f"{task.name} could not be judged: {(words or ['no word'])[-1]}")
        shutil.rmtree(task.scratch, ignore_errors=True)
    results = [found for task in tasks if (found := load_result(task)) is not None]
    rows = table_of(results)
    _print(rows, console)
    write_json(output / "detection-limits.json", results)
    if not only and tuple(bases) == BASES:
        write_text(DOCS, page(rows, known.sized))
        console.print("docs/detection-limits.md is written", highlight=False)
    return 0


def load_result(task: Task) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        kept: dict[str, Any] = read_json(task.result)
        if kept["key"] == task.key:
            return kept
    return None


@dataclass(frozen=True)
class Row:
    """by: the stages, each with the smallest size that it sees."""

    kind: str
    base: str
    by: Mapping[str, float]

    @property
    def best(self) -> float:
        return min((size for stage, size in self.by.items() if stage != FIXED), default=math.inf)


def table_of(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [Row(one["kind"], one["base"], smallest(one["seen"])) for one in results]


def shown(size: float) -> str:
    return f"{size:g}" if math.isfinite(size) else "not seen"


def _print(rows: Sequence[Row], console: Console) -> None:
    table = Table("mistake", "in", "smallest seen", "by", box=None)
    for row in rows:
        table.add_row(row.kind, row.base, shown(row.best), ", ".join(
            f"{stage} {size:g}" for stage, size in row.by.items()))
    console.print(table)


def page(rows: Sequence[Row], sized: Mapping[str, str]) -> str:
    """docs/detection-limits.md."""
    stages = [stage.name for stage in JUDGED if any(stage.name in row.by for row in rows)]
    text = [
        "# How small a mistake is seen", "",
        "Seen by the stages that look at one iteration, from CNTK's state. The twin run is not "
        "asked here: it compares all that each iteration moves, of a port with CNTK's bits every "
        "bit of it, so a mistake that has to be large to show in these tables (the pace of a "
        "running statistic, say) may show there when it is small.", "",
        "Made by `bin/parity detection-limits`; not written by hand. Each kind of mistake is "
        "planted at sizes from 1 down, a decade apart, and judged by every stage. A number is the "
        "smallest size that the stage still sees; nothing means that it does not see this kind at "
        "all. "
        "*ours* has CNTK's bits, so what a stage compares by its bits shows in the last of them; "
        "what it compares against a formula or to rounding shows from there on. In *ordinary* and "
        "*channels-last* the mistake has to be told from the rounding of another order of "
        "additions. The last column is what "
        f"a fixed allowance sees, {ALLOWED:g} of each layer's and gradient's size, which this "
        "suite had first; it is empty where the base port is beyond that without any mistake.", ""]
    text += ["| kind | what the size is |", "| --- | --- |",
             *(f"| {kind} | {what} |" for kind, what in sized.items()), ""]
    for base in dict.fromkeys(row.base for row in rows):
        text += [f"## In {base}", "", f"| mistake | smallest | {' | '.join(stages)} | fixed |",
                 f"| --- | ---: |{' ---: |' * len(stages)} ---: |"]
        for row in rows:
            if row.base == base:
                cells = [f"{row.by[stage]:g}" if stage in row.by else ""
                         for stage in [*stages, FIXED]]
                text.append(f"| {row.kind} | {shown(row.best)} | {' | '.join(cells)} |")
        text.append("")
    return "\n".join(text)
