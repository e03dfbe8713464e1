"""The command line: ``bin/parity COMMAND``, or ``python -m parity COMMAND``.

A command is one file and one line. The file, ``parity/cli/NAME.py``, has a function ``command``,
whose parameters are the options (groups that return are in ``parity/cli/options.py``) and which
returns its exit code; the line stands in ``COMMANDS``. A hyphen in the name is an underscore in
the file's. What a command raises becomes a message and an exit code here and nowhere else.
"""
import importlib
import sys
from collections.abc import Callable, Sequence

import typer
from typer.exceptions import TyperException

from captures.errors import ParityError
from captures.given import checked
from captures.process import ended, ending, ending_signals

PROGRAM = "bin/parity"
COMMANDS = {
    "run": "real CNTK and the port do one plan and are compared",
    "judge": "the captures of a run are compared again, in seconds",
    "compare": "two captures of one plan, made on different days, say",
    "record": "keeps a run under a name, for a comparison on another day",
    "history": "all recorded runs, one figure a stage: since which one something drifted",
    "horizon": "a long twin run: up to where can the port not be told from CNTK's own rerun",
    "explain-port": "which of a port's layers and tensors is which of CNTK's",
    "golden": "what real CNTK does with a table of plans, kept as certificates",
    "score": "the Inception Score of pictures or of a model; FID and KID with a reference",
    "sensitivity": "what moves a score, and by how much, on the same pictures",
    "score-limits": "how small a change of a model's layer the stage score would have seen",
    "equivalent": "two sets of scores: equivalent, different, or cannot be told",
    "defects": "every planted mistake, and what the suite says of it",
    "certified-defects": "planted mistakes, found with certificates where real CNTK finds them?",
    "false-alarms": "the correct port over many plans: none may fail",
    "convert": "a trained model in another form, and a run from one program to the other",
    "sample": "pictures, a grid and an interpolation out of a trained model",
    "article": "one page that follows the article: its figures, CNTK's run and the port's",
    "detection-limits": "how small a mistake of each kind is seen, stage by stage",
    "diagnoses": "how many planted mistakes the diagnosis calls by their name",
    "docs": "the tables of the docs, made from measurements",
}
# What bin/parity runs itself, other programs than this one.
TOOLS = {
    "photos": "your photos become a data set",
    "train": "the port trains; needs no CNTK",
    "train-cntk": "the article's program on real CNTK",
    "bench": "every benchmark",
    "test": "the tests; takes pytest's options",
    "lint": "ruff and mypy",
    "setup": "both environments: real CNTK 2.7 and the port's",
    "setup-torch": "only the port's environment",
    "data": "the drawn faces, in data/",
}


class UsageError(ParityError):
    """A command or an option that there is not."""


def loaded(name: str) -> Callable[..., int]:
    """The command's function; it raises nothing."""
    module = importlib.import_module("parity.cli." + name.replace("-", "_"))
    return ending()(module.command)


def _not_loaded() -> None:
    """Stands in for the commands that were not asked for: what they import takes seconds."""


def _tools() -> str:
    """With what keeps click from filling the lines."""
    return "\b\nBeside them:\n" + "\n".join(
        f"{name:<18} {what}" for name, what in TOOLS.items())


def application(wanted: str) -> typer.Typer:
    """wanted: the command whose options are needed; of the others only the names are."""
    made = typer.Typer(
        add_completion=False, rich_markup_mode=None, no_args_is_help=False,
        help="Is the PyTorch port the same model as CNTK's? Exit codes: 0 agree, 1 differ or not "
             "judged, 2 could not run, 130 interrupted, 129 and 143 ended by a signal.",
        epilog=_tools())
    made.callback()(_not_loaded)
    for name, what in COMMANDS.items():
        stop = "" if what.endswith("?") else "."
        made.command(name, help=what[0].upper() + what[1:] + stop, short_help=what)(
            loaded(name) if name == wanted else _not_loaded)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with ending_signals():
        return ended(lambda: _run(given))


def _run(given: Sequence[str]) -> int:
    wanted = next((one for one in given if not one.startswith("-")), "")
    app = typer.main.get_command(application(wanted if wanted in COMMANDS else ""))
    try:
        return int(checked(app, typer.BadParameter)(
            given, prog_name=PROGRAM, standalone_mode=False) or 0)
    except typer.Exit as end:
        return end.exit_code
    except TyperException as error:  # what is wrong with the words of the command
        named = f"{PROGRAM} {wanted}" if wanted in COMMANDS else PROGRAM
        raise UsageError(f"{error.format_message().rstrip('.')}: `{named} --help` lists what there "
                         "is") from error
