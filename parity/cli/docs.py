"""``parity docs``: the tables of the docs, made again."""
from parity.cli.options import Quiet, console_of
from parity.evidence import documentation


def command(quiet: Quiet = False) -> int:
    return documentation.main(console_of(quiet))
