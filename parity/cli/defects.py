"""``parity defects``: the planted mistakes, all of which have to be found and placed."""
from captures.output import alone
from parity.cli.options import (
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
from parity.evidence import defects


def command(output: Output = RUNS / "defects", map_file: MapFile = IMAGES, only: Only = "",
            restart: Restart = False, quiet: Quiet = False) -> int:
    with alone(output):
        return defects.main(map_file, output, listed(only), restart, console_of(quiet))
