"""report.md, a summary for a pull request, and badge.json for a README's badge.

The badge is what https://shields.io/badges/endpoint-badge reads: schemaVersion, label, message,
color.
"""
import json
import math
from pathlib import Path

from parity.judge.results import Check, Report
from parity.report import facts
from parity.report.facts import Policies
from parity.report.files import write

MOST = 10  # failed checks that are listed


def cell(text: object) -> str:
    """In a table: no character that ends a cell, a line or a piece of code."""
    return facts.plain(text).replace("|", "\\|").replace("`", "'")


def as_markdown(report: Report, policies: Policies) -> str:
    lines = [f"## {facts.verdict(report)}: {facts.subject(report)}", "",
             cell(facts.summary(report)) + ".", "", "| stage | checks | failed | |",
             "| --- | ---: | ---: | --- |"]
    for stage in report.stages:
        failed = sum(not check.passed for check in stage.checks)
        said = (f"does not apply: {stage.not_judged}" if stage not in report.applying
                else f"not judged: {stage.not_judged}" if stage.not_judged
                else "ok" if stage.passed else "**FAIL**")
        lines.append(f"| {cell(stage.name)} | {len(stage.checks)} | {failed} | {cell(said)} |")
    found = report.first_failure
    if found is not None:
        stage, check = found
        lines += ["", f"**First difference**: `{cell(stage.name)}`, `{cell(check.place)}`: "
                      f"{cell(check.detail or check.unit)}", ""]
        if not facts.of_two_captures(report):
            lines += [f"Whose: {facts.blame(report)}", ""]
        for one in report.diagnoses:
            lines += [f"**{cell(label)}**: {cell(text)}  " if i == 0 else
                      f"{cell(label)}: {cell(text)}  "
                      for i, (label, text) in enumerate(facts.diagnosis_facts(one))] + [""]
        failures = [(one.name, each) for one in report.stages for each in one.checks
                    if not each.passed]
        lines += [f"- `{cell(name)}` `{cell(each.place)}`: {cell(_measured(each))}"
                  for name, each in failures[:MOST]]
        if len(failures) > MOST:
            lines.append(f"- and {len(failures) - MOST} more")
    return "\n".join(lines) + "\n"


def _measured(check: Check) -> str:
    if not math.isfinite(check.measured) and check.detail:
        return check.detail  # missing, or of another shape: there is no number
    measured, allowed = facts.pair(check.measured, check.allowed, 4)
    return f"{facts.quantity(measured, check.unit)}, {allowed} allowed"


def as_badge(report: Report) -> dict[str, object]:
    judged = f"{len(report.judged)} of {len(report.applying)} stages"
    return {"schemaVersion": 1, "label": "CNTK parity",
            "message": f"{'agrees' if report.passed else 'differs'}, {judged}",
            "color": "brightgreen" if report.passed else "red"}


def write_markdown(report: Report, policies: Policies, path: Path) -> None:
    """Raises ReportError."""
    write(path, as_markdown(report, policies).encode("utf-8"))


def write_badge(report: Report, path: Path) -> None:
    """Raises ReportError."""
    write(path, (json.dumps(as_badge(report)) + "\n").encode("ascii"))
