"""TODO."""
import argparse
from pathlib import Path

from captures.plan import FIELDS, Plan
from parity.producers.jobs import ROOT

OPTIONS = {"twin_iterations": "--iterations"}
AGREE, DIFFER, ERROR = 0, 1, 2


def plan_options(parser: argparse.ArgumentParser) -> None:
    """One option for each value of a plan."""
    for name, default, lowest, highest, what in FIELDS:
        option = OPTIONS.get(name, "--" + name.replace("_", "-"))
        if (lowest, highest) == (0, 1):
            parser.add_argument(option, dest=name, action="store_const", const=1, default=default,
                                help=what)
        else:
            parser.add_argument(option, dest=name, type=int, default=default, metavar="N",
                                help=f"{what} ({lowest} .. {highest})")
    parser.add_argument("--map-file", type=Path, default=ROOT / "data" / "train_dcgan_map.txt",
                        metavar="FILE", help="one `image<TAB>0` per line; the default is what "
                                             "`make data` makes")


def plan_of(options: argparse.Namespace) -> Plan:
    return Plan.make(options.map_file, **{field[0]: getattr(options, field[0])
                                          for field in FIELDS})
