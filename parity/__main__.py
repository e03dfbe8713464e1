"""The command line: ``python -m parity run | compare | horizon | defects | false-alarms | docs``.

Exit codes: 0 agree, 1 differ, 2 could not run (bad input, a process that died, a full disk).
"""
import argparse
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from parity.capture_format import CaptureError
from parity.classifier_score import ClassifierError
from parity.plan import FIELDS, Plan, PlanError
from parity.producers import ROOT, ProducerError
from parity.report import ReportError

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


def run(options: argparse.Namespace, console: Console) -> int:
    from parity import comparison
    from parity.report import write_all
    from parity.verdict import policies

    wanted = comparison.STAGES
    if options.stages:
        wanted = tuple(options.stages.split(","))
        unknown = [name for name in wanted if name not in comparison.STAGES]
        if unknown:
            raise PlanError(f"there is no stage {unknown[0]!r}: give some of "
                            f"{', '.join(comparison.STAGES)}")
    if not (options.port / "torch_port").is_dir():
        raise PlanError(f"{options.port} holds no torch_port: give the folder that holds one")
    report, pictures = comparison.run(plan_of(options), options.output, console,
                                      options.port.resolve(), wanted)
    write_all(report, pictures, policies(), options.output, console,
              layers=not options.no_layers)
    if not options.keep_oracle:
        shutil.rmtree(options.output / "oracle", ignore_errors=True)
    return AGREE if report.passed else DIFFER


def compare(options: argparse.Namespace, console: Console) -> int:
    from parity import regression
    return regression.main(options, console)


def horizon(options: argparse.Namespace, console: Console) -> int:
    from parity import horizon as long_run
    return long_run.main(plan_of(options), options.output, console)


def defects(options: argparse.Namespace, console: Console) -> int:
    from parity import defects as planted
    return planted.main(options, console)


def false_alarms(options: argparse.Namespace, console: Console) -> int:
    from parity import false_alarms as alarms
    return alarms.main(options, console)


def docs(options: argparse.Namespace, console: Console) -> int:
    from parity import documentation
    return documentation.main(console)


COMMANDS = {"run": run, "compare": compare, "horizon": horizon, "defects": defects,
            "false-alarms": false_alarms, "docs": docs}


if __name__ == "__main__":
    sys.exit(main())
