"""report.json: the whole report for programs. Strict JSON: NaN and infinities are text."""
from pathlib import Path

from captures.files import json_text
from parity.judge.results import Report
from parity.report.facts import Policies
from parity.report.files import write

FORMAT = 1


def as_json(report: Report, policies: Policies) -> str:
    """Keys: ``format``, those of ``Report.as_dict``, ``policies``."""
    whole = {"format": FORMAT, **report.as_dict(), "policies": policies}
    return json_text(whole)


def write_json(report: Report, policies: Policies, path: Path) -> None:
    """Raises ReportError: it cannot be written."""
    write(path, as_json(report, policies).encode("ascii"))
