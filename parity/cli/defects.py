"""``parity defects``: the planted mistakes, all of which have to be found and placed."""
from typing import Annotated

import typer

from captures.output import resumed
from parity.cli.options import (
    EVIDENCE,
    IMAGES,
    RUNS,
    MapFile,
    Merge,
    Only,
    Output,
    Part,
    Quiet,
    Restart,
    console_of,
    listed,
)
from parity.evidence import defects
from parity.evidence.defect import BASES
from parity.evidence.shards import Shard

ALL_BASES = ",".join(BASES)
Bases = Annotated[str, typer.Option(metavar="A,B", help="the ports that they are planted into")]
Whole = Annotated[bool, typer.Option("--whole", show_default="off", help=(
    "with the article's own networks, not with narrow ones: ten times as long"))]


def command(output: Output = RUNS / "defects", map_file: MapFile = IMAGES, only: Only = "",
            bases: Bases = ALL_BASES, shard: Part = "", merge: Merge = None,
            whole: Whole = False, restart: Restart = False, quiet: Quiet = False) -> int:
    wanted = defects.Wanted(listed(only), listed(bases), Shard.parse(shard), tuple(merge or ()),
                            restart, whole)
    with resumed(output, EVIDENCE):
        return defects.main(map_file, output, wanted, console_of(quiet))
