"""All recorded runs, one after the other: since which one is what no longer as it was?

Each run is compared with the first of its plan (``compare.py``), and what that has not with the
first run that has it. A stage's value is the largest part of an allowance that one of its checks
used: 0 where every bit is the same, 1 at the limit.
"""
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from captures.errors import CaptureError
from captures.files import read_json
from parity.history.causes import HOW, causes
from parity.history.compare import Comparison, compared, in_time
from parity.history.sides import Joined, Side, of_run
from parity.history.store import MADE, NOTE
from parity.report.files import write
from parity.report.plots import over_runs

LARGEST_NOTE = 2 ** 16  # bytes
STYLE = (":root{--ink:#1b1f24;--grid:#dfe3e8;--cntk:#0072b2;--port:#d55e00;--band:#868e97;"
         "--bad:#c0102a}body{font:15px/1.5 sans-serif;max-width:48rem;margin:2rem auto}")

LEGEND = ("Of each stage, the part of its allowance that each run used, beside the first that has "
          "it: at "
          "the bottom every bit is the same, at 1 all of it is used, and a cross has drifted.")


@dataclass(frozen=True)
class Run:
    """One recorded run. date: on which it was made. stages: name to (largest margin, whether it
    passed), without those that neither it nor a run before it has. since: what may be why, of this
    manifest and that of the run before."""

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
    """runs: those of one plan, in order of their dates. others: names of the rest."""

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
        """In the order of a run."""
        return sorted(dict.fromkeys(name for run in self.runs for name in run.stages),
                      key=lambda name: in_time(name + "/"))

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


def timeline(folder: Path, role: str, note: Callable[[int, int], None], like: str = ""
             ) -> Timeline:
    """role: which capture of each run. note: of how many runs how many are done. like: a run, whose
    plan is meant; "" for the last plan of which there are two.

    Raises CaptureError: fewer than two runs of a plan, no such run, or one that is damaged.
    """
    found: list[tuple[str, str, Side]] = []
    for one in sorted(folder.glob("*")) if folder.is_dir() else []:
        side = of_run(one, role)
        if side is not None:
            found.append((_date(one), one.name, side))
    found.sort(key=lambda one: one[:2])
    of_plan = _of_one_plan(found, like)
    if len(of_plan) < 2:
        there = (f"no recorded run {like}" if like else "no recorded run") if not of_plan else (
            f"only one recorded run, {of_plan[0][1]}, of its plan and")
        raise CaptureError(f"there is {there} with a capture {role} in {folder}: record "
                           "at least two of a plan with `bin/parity record NAME`")
    runs = []
    for i, (date, name, side) in enumerate(of_plan):
        note(i, len(of_plan))
        made = compared(Joined([one for _, _, one in of_plan[:i + 1]]), side)
        before = of_plan[max(i - 1, 0)][2]
        runs.append(Run(name, date, made, {
            stage.name: (max((check.margin for check in stage.checks), default=0.0), stage.passed)
            for stage in made.report.stages},
            tuple(cause.what for cause in causes(before.manifest, side.manifest))))
    return Timeline(runs, [name for _, name, _ in found
                           if name not in {run.name for run in runs}])


def _of_one_plan(found: list[tuple[str, str, Side]], like: str) -> list[tuple[str, str, Side]]:
    """Those of the plan of the run ``like``; of the last plan of which there are two, or else of
    the last."""
    made: list[tuple[str, str, Side]] = []
    for _, name, last in reversed(found):
        alike = [one for one in found
                 if _what(one[2].manifest["plan"]) == _what(last.manifest["plan"])]
        if name == like or (not like and len(alike) > 1):
            return alike
        made = made or ([] if like else alike)
    return made


def _what(plan: object) -> dict[str, object]:
    """Of a plan, what is computed and not how."""
    assert isinstance(plan, dict)
    return {name: value for name, value in plan.items() if name not in HOW}


def _date(folder: Path) -> str:
    try:
        note = read_json(folder / NOTE, LARGEST_NOTE)
        return str(note[MADE] if MADE in note else note["date"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # of a run that was put there by hand


def page(found: Timeline) -> str:
    """A page with one figure a stage."""
    figures = []
    for i, stage in enumerate(found.stages):
        having = {run.name: run.stages[stage] for run in found.runs if stage in run.stages}
        figures.append(f"<h2>{html.escape(stage)}</h2>" + str(over_runs(
            [value for value, _ in having.values()], list(having),
            [not passed for _, passed in having.values()],
            f"stage{i}", f"{stage}: part of the allowance that each run used")))
    return ("<!doctype html><html lang=en><meta charset=utf-8><title>Recorded runs</title>"
            f"<style>{STYLE}</style><h1>Recorded runs</h1><p>{html.escape(found.sentence)}</p>"
            f"<p>{LEGEND}</p>"
            + "".join(figures) + "\n")


def write_page(found: Timeline, path: Path) -> None:
    """Raises ReportError."""
    write(path, page(found).encode("utf-8"))


def rows(found: Timeline) -> Sequence[Sequence[str]]:
    """For a terminal: a stage, then of each run how it compares with the first that has it; "-"
    where no run before has it either."""
    made = []
    for stage in found.stages:
        cells = []
        for run in found.runs:
            if stage not in run.stages:
                cells.append("-")
                continue
            value, passed = run.stages[stage]
            cells.append("=" if passed and not value else f"~ {value:.2g}" if passed else "DRIFTED")
        made.append([stage, *cells])
    return made
