"""``parity false-alarms``: correct ports over many plans, none of which may fail."""
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
from parity.evidence import false_alarms
from parity.evidence.shards import Shard

Ports = Annotated[str, typer.Option(metavar="A,B", show_default="all", help=(
    "only these correct ports: `ours`, and those of `python -m planted --list`"))]


def command(output: Output = RUNS / "false-alarms", map_file: MapFile = IMAGES, only: Only = "",
            ports: Ports = "", shard: Part = "", merge: Merge = None, restart: Restart = False,
            quiet: Quiet = False) -> int:
    wanted = false_alarms.Wanted(listed(only), listed(ports), Shard.parse(shard),
                                 tuple(merge or ()), restart)
    with resumed(output, EVIDENCE):
        return false_alarms.main(map_file, output, wanted, console_of(quiet))
