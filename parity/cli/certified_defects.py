"""``parity certified-defects``: planted mistakes, found with certificates where CNTK finds them?"""
from typing import Annotated

import typer

from captures.output import resumed
from parity.cli.options import (
    EVIDENCE,
    IMAGES,
    RUNS,
    MapFile,
    Only,
    Output,
    Quiet,
    console_of,
    listed,
)
from parity.evidence import certified

Each = Annotated[int, typer.Option(metavar="N", min=0, help="mistakes of each kind; 0: all")]


def command(output: Output = RUNS / "certified-defects", map_file: MapFile = IMAGES,
            only: Only = "", each: Each = 0, quiet: Quiet = False) -> int:
    with resumed(output, EVIDENCE):
        return certified.main(map_file, output.resolve(), listed(only), each, console_of(quiet))
