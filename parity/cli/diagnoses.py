"""``parity diagnoses``: planted mistakes, alone and in pairs, and what the diagnosis calls them."""
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
    Restart,
    console_of,
    listed,
)
from parity.evidence import diagnoses


def command(output: Output = RUNS / "diagnoses", map_file: MapFile = IMAGES, only: Only = "",
            base: Annotated[str, typer.Option(metavar="PORT", help=(
                "the correct port that they are planted into: ordinary, channels-last or ours"
            ))] = "ordinary",
            pairs: Annotated[int, typer.Option(metavar="N", min=0, help="pairs of mistakes")] = 20,
            restart: Restart = False, quiet: Quiet = False) -> int:
    with resumed(output, EVIDENCE):
        return diagnoses.main(map_file, output, listed(only), base, pairs, restart,
                              console_of(quiet))
