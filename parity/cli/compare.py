"""``parity compare``: two captures of one plan."""
from pathlib import Path
from typing import Annotated

import typer

from captures.format import Capture
from captures.output import alone
from captures.process import AGREE, DIFFER
from parity.cli.options import RUNS, Output, Quiet, console_of
from parity.history import compare as history
from parity.judge.policies import policies
from parity.report import Pictures, write_all


def command(
    reference: Annotated[Path, typer.Argument(help="folder of the first capture")],
    other: Annotated[Path, typer.Argument(help="folder of the second")],
    output: Output = RUNS / "compare",
    quiet: Quiet = False,
) -> int:
    console = console_of(quiet)
    with console.status("comparing"):
        report = history.compare(Capture(reference), Capture(other))
    with alone(output):
        write_all(report, Pictures(), policies(), output, console, layers=False)
    return AGREE if report.passed else DIFFER
