"""``parity compare``: two captures of one plan."""
from pathlib import Path
from typing import Annotated

import typer

from captures.output import replacing
from captures.process import AGREE, DIFFER
from parity.cli.options import REPORTS, RUNS, Output, Quiet, Recorded, console_of
from parity.history import compare as history
from parity.history.sides import side
from parity.history.store import RECORDED
from parity.judge.policies import policies
from parity.producers.progress import shown
from parity.report import Pictures, write_all


def command(
    reference: Annotated[Path, typer.Argument(help=(
        "the first: a capture's folder, a certificate, or the name of a recorded run"))],
    other: Annotated[Path, typer.Argument(help="the second")],
    role: Annotated[str, typer.Option(metavar="NAME", help=(
        "which capture of a recorded run: port, cntk, oracle, twin-port, ..."))] = "port",
    recorded: Recorded = RECORDED,
    output: Output = RUNS / "compare",
    quiet: Quiet = False,
) -> int:
    console = console_of(quiet)
    ours, theirs = (side(one, recorded, role) for one in (reference, other))
    history.same_plan(ours, theirs)
    with replacing(output, REPORTS):
        with shown(console) as progress:
            task = progress.add_task("comparing")
            found = history.compared(ours, theirs, lambda done, total: progress.update(
                task, completed=done, total=total))
        write_all(found.report, Pictures(), policies(), output, console, layers=False,
                  closing=found.sentence)
    return AGREE if found.report.passed else DIFFER
