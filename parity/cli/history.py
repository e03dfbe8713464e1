"""``parity history``: all recorded runs, and since which one something drifted."""
from typing import Annotated

import typer
from rich.table import Table

from captures.output import refuse_foreign, replacing
from captures.process import AGREE, DIFFER
from parity.cli.options import RUNS, Output, Quiet, Recorded, console_of
from parity.history.store import RECORDED
from parity.history.timeline import rows, timeline, write_page
from parity.producers.progress import shown

PAGE = "history.html"


def command(
    recorded: Recorded = RECORDED,
    like: Annotated[str, typer.Option(metavar="NAME", show_default="the last plan with two runs",
                                      help="a recorded run: show the runs of its plan")] = "",
    role: Annotated[str, typer.Option(metavar="NAME", help=(
        "which capture of each run: port, cntk, oracle, twin-port, ..."))] = "port",
    output: Output = RUNS / "history",
    quiet: Quiet = False,
) -> int:
    console = console_of(quiet)
    refuse_foreign(output, (PAGE,))  # before the work
    with shown(console) as progress:
        task = progress.add_task("comparing recorded runs")
        found = timeline(recorded, role, lambda done, total: progress.update(
            task, completed=done, total=total), like)
    table = Table("stage", *(run.name for run in found.runs), box=None)
    for row in rows(found):
        table.add_row(*row)
    console.print(table)
    with replacing(output, (PAGE,)):
        write_page(found, output / PAGE)
    console.print(str(output / PAGE), soft_wrap=True, highlight=False, markup=False)
    for name in found.others:
        console.print(f"{name} is of another plan (`--like {name}` shows those of it), or has no "
                      f"{role}", markup=False, highlight=False)
    console.print(found.sentence, markup=False, highlight=False)
    return AGREE if found.drifted is None else DIFFER
