"""The command line: ``python -m parity run | compare | horizon | defects | false-alarms | docs``.

Exit codes: 0 agree, 1 differ, 2 could not run (bad input, a process that died, a full disk).
"""
import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from captures.errors import CaptureError, PlanError
from parity.classifier_score import ClassifierError
from parity.cli.options import ERROR, plan_of, plan_options
from parity.cli.run import run
from parity.producers.jobs import ROOT, ProducerError
from parity.report import ReportError


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m parity", description="Is the PyTorch port the same model as CNTK's?")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, what: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=what, description=what,
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        one.add_argument("--output", type=Path, default=ROOT / "runs" / name, metavar="FOLDER",
                         help="where captures and reports go")
        return one

    run = command("run", "real CNTK and the port do one plan and are compared")
    plan_options(run)
    run.set_defaults(output=ROOT / "runs" / "parity")
    run.add_argument("--port", type=Path, default=ROOT, metavar="FOLDER",
                     help="the folder that holds the torch_port to judge")
    run.add_argument("--stages", default="", metavar="A,B", help="only these stages")
    run.add_argument("--keep-oracle", action="store_true",
                     help="keep the float64 capture too, the largest, which no later comparison "
                          "needs")
    run.add_argument("--no-layers", action="store_true",
                     help="the terminal's table without a row for each layer")

    compare = command("compare", "two captures of one plan, made on different days, say")
    compare.add_argument("reference", type=Path, help="folder of the first capture")
    compare.add_argument("other", type=Path, help="folder of the second")

    horizon = command("horizon", "a long twin run: up to which step can the port not be told from "
                                 "CNTK's own rerun")
    plan_options(horizon)
    horizon.set_defaults(twin_iterations=100)
    for name, module in (("defects", "every planted mistake, and what the suite says of it"),
                         ("false-alarms", "the correct port over many plans: none may fail")):
        one = command(name, module)
        one.add_argument("--map-file", type=Path, default=ROOT / "data" / "train_dcgan_map.txt",
                         metavar="FILE", help="the images")
        one.add_argument("--only", default="", metavar="A,B", help="only these, by name")
        one.add_argument("--restart", action="store_true",
                         help="forget what was done before; otherwise the run is resumed")
    what = "the tables of the docs, made from measurements"
    commands.add_parser("docs", help=what, description=what)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    console = Console()
    try:
        return COMMANDS[options.command](options, console)
    except (PlanError, CaptureError, ProducerError, ClassifierError, ReportError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False,
                                   soft_wrap=True)
        return ERROR
    except OSError as error:
        print(f"error: {error.filename or getattr(options, 'output', 'docs')} cannot be used "
              f"({error.strerror or error}): free space there or choose another folder with "
              "--output", file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception:  # a mistake of this program's: Python would exit 1, which says "differ"
        traceback.print_exc()
        return ERROR


def compare(options: argparse.Namespace, console: Console) -> int:
    from parity.history import compare as regression
    return regression.main(options, console)


def horizon(options: argparse.Namespace, console: Console) -> int:
    from parity.cli import horizon as long_run
    return long_run.main(plan_of(options), options.output, console)


def defects(options: argparse.Namespace, console: Console) -> int:
    from parity.evidence import defects as planted
    return planted.main(options, console)


def false_alarms(options: argparse.Namespace, console: Console) -> int:
    from parity.evidence import false_alarms as alarms
    return alarms.main(options, console)


def docs(options: argparse.Namespace, console: Console) -> int:
    from parity.evidence import documentation
    return documentation.main(console)


COMMANDS = {"run": run, "compare": compare, "horizon": horizon, "defects": defects,
            "false-alarms": false_alarms, "docs": docs}


if __name__ == "__main__":
    sys.exit(main())
