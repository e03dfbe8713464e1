"""The report of a comparison: terminal, report.json, .html and .md, junit.xml, badge.json.

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
from parity.report.markdown import write_badge, write_markdown
from parity.report.pictures import Pictures
from parity.report.terminal import print_report, print_verdict

__all__ = ["Pictures", "ReportError", "write_all"]


def write_all(report: Report, pictures: Pictures, policies: Policies, folder: Path,
              console: Console, layers: bool = True, final: Path | None = None,
              closing: str = "") -> dict[str, Path]:
    """Prints the report and writes its files; returns format -> path.

    final: where the folder will be moved to, and is said to be. closing: printed before the
    verdict that ends it.

    The verdict is printed first, where it is even if nothing can be written, and last. layers: the
    terminal's tables with a row per layer.

    Raises ReportError: a file cannot be written.
    """
    folder = Path(folder)
    print_report(report, console, policies, layers)
    paths = {"json": folder / "report.json", "junit": folder / "junit.xml",
             "html": folder / "report.html", "markdown": folder / "report.md",
             "badge": folder / "badge.json"}
    write_json(report, policies, paths["json"])
    write_junit(report, policies, paths["junit"])
    write_html(report, pictures, policies, paths["html"])
    write_markdown(report, policies, paths["markdown"])
    write_badge(report, paths["badge"])
    console.print()
    for path in paths.values():
        console.print(str((final or folder) / path.name), markup=False, highlight=False,
                      emoji=False, soft_wrap=True)
    console.print(f"\n{closing}" if closing else "", markup=False, highlight=False)
    print_verdict(report, console)
    return paths
