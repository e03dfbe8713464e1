"""``parity false-alarms``: correct plans, none of which may fail."""
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
from parity.evidence import false_alarms


def command(output: Output = RUNS / "false-alarms", map_file: MapFile = IMAGES, only: Only = "",
            restart: Restart = False, quiet: Quiet = False) -> int:
    with alone(output):
        return false_alarms.main(map_file, output, listed(only), restart, console_of(quiet))
