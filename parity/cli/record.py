"""``parity record``: keeps a run under a name, for a comparison on another day."""
from pathlib import Path
from typing import Annotated

import typer

from captures.process import AGREE
from parity.cli.options import RUNS, Quiet, Recorded, console_of
from parity.history.store import RECORDED, record
from parity.producers.progress import shown


def command(
    name: Annotated[str, typer.Argument(help="under which it is kept")],
    run: Annotated[Path, typer.Option(metavar="FOLDER", help="of the run that is kept")] = (
        RUNS / "parity"),
    whole: Annotated[bool, typer.Option("--whole", show_default="off", help=(
        "keep the captures themselves, not their hashes and some values"))] = False,
    recorded: Recorded = RECORDED,
    quiet: Quiet = False,
) -> int:
    console = console_of(quiet)
    with shown(console) as progress:
        task = progress.add_task(f"recording {run}")
        made = record(name, run, whole, recorded, lambda done, total: progress.update(
            task, completed=done, total=total))
    for path in made:
        console.print(f"kept {path}", soft_wrap=True, highlight=False, markup=False)
    return AGREE
