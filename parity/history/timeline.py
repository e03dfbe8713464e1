"""All recorded runs, one after the other: since which one is what no longer as it was?

Each run is compared with the first of its plan (``compare.py``). A stage's value is the largest
part of an allowance that one of its checks used: 0 where every bit is the same, 1 at the limit.
"""
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from captures.errors import CaptureError
from captures.files import read_json
from parity.history.causes import HOW, causes
from parity.history.compare import Comparison, compared
from parity.history.sides import Side, of_run
from parity.history.store import NOTE
from parity.report.files import write
from parity.report.plots import over_runs

LARGEST_NOTE = 2 ** 16  # bytes
STYLE = (":root{--ink:#1b1f24;--grid:#dfe3e8;--cntk:#0072b2;--port:#d55e00;--band:#868e97;"
         "--bad:#c0102a}body{font:15px/1.5 sans-serif;max-width:48rem;margin:2rem auto}")

LEGEND = ("Of each stage, the part of its allowance that each run used, beside the first run: at "
          "the bottom every bit is the same, at 1 all of it is used, and a cross has drifted.")


@dataclass(frozen=True)
class Run:
    """One recorded run. stages: name to (largest margin, whether it passed). since: what may be
    why, of this manifest and that of the run before."""

    name: str
    date: str
    comparison: Comparison
    stages: dict[str, tuple[float, bool]]
    since: tuple[str, ...]

    @property
    def word(self) -> str:
        return self.comparison.word


@dataclass(frozen=True)
class Timeline:
    """runs: those of the last one's plan, in order of their dates. others: names of the rest."""

    runs: list[Run]
    others: list[str]

    @property
    def drifted(self) -> Run | None:
        """Since which run: the first of those at the end that all have drifted."""
        found = None
        for run in reversed(self.runs):
            if run.word != "drifted":
                break
            found = run
        return found

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(name for run in self.runs for name in run.stages))

    @property
    def sentence(self) -> str:
        first, last = self.runs[0], self.runs[-1]
        run = self.drifted
        if run is None:
            return (f"{last.name} is within rounding of {first.name}." if last.word == "rounding"
                    else f"{last.name} has the bits of {first.name}.")
        why = "; ".join(run.since[:4]) or "the manifests say the same"
        return (f"Drifted since {run.name} ({run.date}), first {run.comparison.first}. Candidate "
                f"causes, of it and the run before: {why}.")


def timeline(folder: Path, role: str, note: Callable[[int, int], None]) -> Timeline:
    """role: which capture of each run. note: of how many runs how many are done.

    Raises CaptureError: fewer than two runs, or one that is damaged.
    """
    found: list[tuple[str, str, Side]] = []
    for one in sorted(folder.glob("*")) if folder.is_dir() else []:
        side = of_run(one, role)
        if side is not None:
            found.append((_date(one), one.name, side))
    found.sort(key=lambda one: one[:2])
    plan = found[-1][2].manifest["plan"] if found else {}
    of_plan = [one for one in found if _what(one[2].manifest["plan"]) == _what(plan)]
    if len(of_plan) < 2:
        there = "no recorded run with" if not of_plan else (
            f"only one recorded run, {of_plan[0][1]}, of its plan and with")
        raise CaptureError(f"there is {there} a capture {role} in {folder}: record "
                           "at least two with `bin/parity record NAME`")
    runs = []
    for i, (date, name, side) in enumerate(of_plan):
        note(i, len(of_plan))
        made = compared(of_plan[0][2], side)
        before = of_plan[max(i - 1, 0)][2]
        runs.append(Run(name, date, made, {
            stage.name: (max((check.margin for check in stage.checks), default=0.0), stage.passed)
            for stage in made.report.stages},
            tuple(cause.what for cause in causes(before.manifest, side.manifest))))
    return Timeline(runs, [name for _, name, _ in found
                           if name not in {run.name for run in runs}])


def _what(plan: object) -> dict[str, object]:
    """Of a plan, what is computed and not how."""
    assert isinstance(plan, dict)
    return {name: value for name, value in plan.items() if name not in HOW}


def _date(folder: Path) -> str:
    try:
        return str(read_json(folder / NOTE, LARGEST_NOTE)["date"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # of a run that was put there by hand


def page(found: Timeline) -> str:
    """A page with one figure a stage."""
    names = [run.name for run in found.runs]
    figures = []
    for i, stage in enumerate(found.stages):
        values = [run.stages.get(stage, (float("inf"), False)) for run in found.runs]
        figures.append(f"<h2>{html.escape(stage)}</h2>" + str(over_runs(
            [value for value, _ in values], names, [not passed for _, passed in values],
            f"stage{i}", f"{stage}: part of the allowance that each run used")))
    return ("<!doctype html><html lang=en><meta charset=utf-8><title>Recorded runs</title>"
            f"<style>{STYLE}</style><h1>Recorded runs</h1><p>{html.escape(found.sentence)}</p>"
            f"<p>{LEGEND}</p>"
            + "".join(figures) + "\n")


def write_page(found: Timeline, path: Path) -> None:
    """Raises ReportError."""
    write(path, page(found).encode("utf-8"))


def rows(found: Timeline) -> Sequence[Sequence[str]]:
    """For a terminal: a stage, then of each run how it compares with the first."""
    made = []
    for stage in found.stages:
        cells = []
        for run in found.runs:
            value, passed = run.stages.get(stage, (float("inf"), False))
            cells.append("=" if passed and not value else f"~ {value:.2g}" if passed else "DRIFTED")
        made.append([stage, *cells])
    return made
