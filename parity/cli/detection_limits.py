"""``parity detection-limits``: how small a mistake of each kind is seen, stage by stage."""
from typing import Annotated

import typer

from captures.output import resumed
from parity.cli.defects import ALL_BASES, Bases
from parity.cli.options import (
    EVIDENCE,
    IMAGES,
    RUNS,
    MapFile,
    Output,
    Quiet,
    Restart,
    console_of,
    listed,
)
from parity.evidence import detection_limits

Kinds = Annotated[str, typer.Option("--only", metavar="A,B", show_default="all",
                                    help="only these kinds of mistakes")]


def command(output: Output = RUNS / "detection-limits", map_file: MapFile = IMAGES,
            only: Kinds = "", bases: Bases = ALL_BASES, restart: Restart = False,
            quiet: Quiet = False) -> int:
    with resumed(output, EVIDENCE):
        return detection_limits.main(map_file, output, listed(only), listed(bases), restart,
                                     console_of(quiet))
