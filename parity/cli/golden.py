"""``parity golden``: records what real CNTK does with a table of plans, as certificates."""
from pathlib import Path
from typing import Annotated

import typer

from captures.process import AGREE, DIFFER
from parity.cli.options import IMAGES, RUNS, MapFile, Only, Quiet, console_of, listed
from parity.evidence.golden import record
from parity.golden.store import FOLDER

Again = Annotated[bool, typer.Option("--again", show_default="off", help=(
    "record those that are there once more: each has to come out as it is"))]


def command(map_file: MapFile = IMAGES, folder: Annotated[Path, typer.Option(
        metavar="FOLDER", help="where the certificates are kept")] = FOLDER, only: Only = "",
            again: Again = False, quiet: Quiet = False) -> int:
    console = console_of(quiet)
    differing = record(map_file, folder, RUNS / "golden", console, listed(only), again)
    for name in differing:
        console.print(f"{name} came out otherwise than it is kept: look at the .differs file")
    return DIFFER if differing else AGREE
