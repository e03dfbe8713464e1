"""The report of a comparison: in the terminal, report.json, report.html and junit.xml.

Each format is one module, and a function of the report (and of pictures and policies) alone.
"""
from pathlib import Path

from rich.console import Console

from parity.judge.results import Report
from parity.report.facts import Policies
from parity.report.files import ReportError
from parity.report.html import write_html
from parity.report.json_report import write_json
from parity.report.junit import write_junit
from parity.report.pictures import Pictures
from parity.report.terminal import print_report

__all__ = ["Pictures", "ReportError", "write_all"]


def write_all(report: Report, pictures: Pictures, policies: Policies, folder: Path,
              console: Console, layers: bool = True) -> dict[str, Path]:
    """Prints the report and writes its files; returns format -> path.

    The verdict is printed first: it is there even where nothing can be written. layers: the
    terminal's tables with a row per layer.

    Raises ReportError: a file cannot be written.
    """
    folder = Path(folder)
    print_report(report, console, policies, layers)
    paths = {"json": folder / "report.json", "junit": folder / "junit.xml",
             "html": folder / "report.html"}
    write_json(report, policies, paths["json"])
    write_junit(report, policies, paths["junit"])
    write_html(report, pictures, policies, paths["html"])
    console.print()
    for path in paths.values():
        console.print(str(path), markup=False, highlight=False, emoji=False, soft_wrap=True)
    return paths
