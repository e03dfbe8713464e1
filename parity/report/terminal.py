"""The report in a terminal: verdict, stages, layers, and last, where the eye is, what failed."""
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity.judge.results import Check, Report, Stage
from parity.report.facts import (
    Layer,
    Policies,
    blame,
    brief,
    diagnosis_facts,
    failing,
    failure_facts,
    has_layer_errors,
    layers,
    number,
    of_two_captures,
    plain,
    seconds,
    several,
    summary,
    verdict,
    worst,
)

GOOD, BAD, QUIET = "green", "bold red", "dim"
EXACT = "exact"
# Left to the page where a diagnosis says more: a failed run is one screen.
OF_THE_TOLERANCE = ("tolerance's name", "where it came from",
                    "smallest tolerance that would have passed")


class _Printer:
    """Text as a console takes it: never markup, since names may hold brackets, and never a
    character that its encoding lacks."""

    def __init__(self, console: Console):
        self.console = console

    def text(self, content: object, style: str = "") -> Text:
        shown = plain(content).encode(self.console.encoding, "backslashreplace")
        return Text(shown.decode(self.console.encoding), style, overflow="fold")

    def mark(self, passed: bool) -> Text:
        return self.text("ok" if passed else "FAIL", GOOD if passed else BAD)

    def line(self, *parts: Text, whole: bool = False) -> None:
        """whole: a path, which a person copies: not broken at the edge."""
        self.console.print(Text().join(parts), soft_wrap=whole)


def _table(*columns: str, numbers: int) -> Table:
    """The last ``numbers`` columns stand to the right."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i, column in enumerate(columns):
        right = i >= len(columns) - numbers
        table.add_column(column, justify="right" if right else "left", overflow="fold",
                         vertical="top")
    return table


def _margin(check: Check) -> str:
    return EXACT if check.passed and not check.measured else number(check.margin, 2)


def _stages(out: _Printer, report: Report) -> None:
    table = _table("", "stage", "where the margin is largest", "checks", "margin", "s", numbers=3)
    for stage in report.judged:
        check = worst(stage)
        failed = sum(not one.passed for one in stage.checks)
        count = f"{failed}/{len(stage.checks)}" if failed else str(len(stage.checks))
        where = "nothing was checked" if check is None else check.place
        if check is not None and _margin(check) == EXACT:
            where = ""  # everywhere
        style = "" if stage.passed else BAD
        table.add_row(
            out.mark(stage.passed), out.text(stage.name, style), out.text(where, style),
            out.text(count, style), out.text(_margin(check) if check else "-", style),
            out.text(seconds(stage.seconds)))
    out.console.print(table)
    left = [stage.name for stage in report.applying if stage.not_judged]
    if left:
        out.line(out.text("not judged: " + ", ".join(left), QUIET))
    out.line(out.text("checks: failed / all; margin: measured / allowed, above 1 fails, exact is "
                      "no difference at all; s: seconds", QUIET))


def _coverage(out: _Printer, report: Report) -> None:
    """What was not judged: of a difference, behind it; in one line where there is more to read."""
    if report.diagnoses and report.coverage:
        out.line(out.text(f"What was not judged or compared, and what it would take: report.md, "
                          f"{several(len(report.coverage), 'line')}", "yellow"))
        return
    for line in report.coverage:
        out.line(out.text(line, "yellow"))


def _layer_row(out: _Printer, table: Table, row: Layer, wide: bool) -> None:
    check = row.chain or row.own
    assert check is not None
    figures = ["cntk_error", "port_error", "ratio", "ulp"] + ["largest_absolute", "cosine"] * wide
    cells = [number(check.metrics[name]) if name in check.metrics else "-" for name in figures]
    cells += [_margin(one) if one else "-" for one in (row.chain, row.own)]
    style = "" if row.passed else BAD
    table.add_row(out.mark(row.passed), out.text("  " + row.label, style),
                  *(out.text(cell, style) for cell in cells))


def _layers(out: _Printer, stage: Stage) -> None:
    wide = out.console.width >= 110
    columns = ["", "layer", "CNTK", "port", "ratio", "ULP"]
    columns += ["largest difference", "1 - cosine"] * wide + ["margin", "alone"]
    table = _table(*columns, numbers=len(columns) - 2)
    for network, rows in layers(stage).items():
        table.add_row(Text(), out.text(network, "bold"))
        for row in rows:
            _layer_row(out, table, row, wide)
    out.console.print()
    out.line(out.text(stage.name, "bold"), out.text(f"  {stage.title}" if stage.title else ""))
    out.console.print(table)


def _facts(out: _Printer, facts: list[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(max_width=22, overflow="fold")
    grid.add_column(overflow="fold")
    for label, text in facts:
        grid.add_row(out.text(label, QUIET), out.text(text))
    out.console.print(grid)


def _failures(out: _Printer, report: Report, policies: Policies) -> None:
    failed = failing(report)
    out.console.print()
    for stage, check in failed:
        if check is None:
            out.line(out.text("Empty stage", BAD), out.text(f"  {stage.name}: {brief(None)}"))
    checked = [(stage, check) for stage, check in failed if check is not None]
    for i, (stage, check) in enumerate(checked):
        if i == 0:
            out.line(out.text("First difference", BAD))
            _facts(out, [(label, text) for label, text in failure_facts(stage, check, policies)
                         if not report.diagnoses or label not in OF_THE_TOLERANCE])
        else:
            if i == 1:
                out.console.print()
                out.line(out.text("After it", BAD), out.text(
                    f" ({several(len(checked) - 1, 'stage')}, the first of each; they may follow "
                    "from it)"))
            out.line(out.text("  " + stage.name, "bold"), out.text("  " + brief(check)))
    out.console.print()
    if not of_two_captures(report):
        out.line(out.text("whose it is:     ", QUIET), out.text(blame(report)))
    if report.reproduction:
        out.line(out.text("reproduce with:  ", QUIET), out.text(report.reproduction), whole=True)
    if report.diagnoses:
        out.console.print()
        out.line(out.text("What explains it", BAD))
    for one in report.diagnoses:
        _facts(out, diagnosis_facts(one, 1))


def print_verdict(report: Report, console: Console) -> None:
    """One line: AGREE or DIFFER, and of what."""
    out = _Printer(console)
    out.line(out.text(verdict(report), "bold white on dark_green" if report.passed
                      else "bold white on red"),
             out.text("  " + summary(report)), out.text(f"  ({seconds(report.seconds)} s)", QUIET))


def print_report(report: Report, console: Console, policies: Policies | None = None,
                 layers: bool = True) -> None:
    """Prints the report. layers: with the tables of the forward stages, a row per layer."""
    out = _Printer(console)
    print_verdict(report, console)
    console.print()
    if report.stages:
        _stages(out, report)
    if report.passed:
        _coverage(out, report)
    forward = [stage for stage in report.stages
               if stage.name.startswith("forward") and has_layer_errors(stage)]
    for stage in forward if layers else []:
        _layers(out, stage)
    if layers and forward:
        out.line(out.text("CNTK, port: error against float64 as a part of the layer's RMS; ratio: "
                          "port / CNTK; margin: in the chain, where errors are handed on; alone: "
                          "margin on CNTK's own inputs to the layer", QUIET))
    if not report.passed:
        _failures(out, report, policies or {})
        if report.coverage:
            out.console.print()
        _coverage(out, report)
