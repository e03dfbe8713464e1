"""Groups of options that more than one command has."""
import functools
import inspect
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from captures.output import LOCK, OutputError, alone, refuse_foreign
from captures.plan import FIELDS, Plan
from parity.producers.jobs import ROOT
from parity.producers.progress import shown
from parity.report.facts import plain
from parity.stages import registry
from parity.stages.common import TWIN, WHO

IMAGES = ROOT / "data" / "train_dcgan_map.txt"
RUNS = ROOT / "runs"
# What a command may write into its output folder, or patterns of it: never over somebody's own.
REPORTS = ("report.json", "report.html", "report.md", "junit.xml", "badge.json")
WRITTEN = (*REPORTS, "reproduction", "plan.json", "classifier.json", "second", "twin-meeting", *WHO,
           *(f"{role}.failed" for role in WHO), f"{TWIN}rerun[0-9]*")
EVIDENCE = ("results", "scratch", "correct", "reference", "reference-*", "images.txt", "cntk",
            "certificate", "certified-defects.md", "matrix.json", "false-alarms.json",
            "detection-limits.json", "diagnoses.json")
NAMES = {"twin_iterations": "--iterations"}  # of options that are not called as the plan's value

Output = Annotated[Path, typer.Option(metavar="FOLDER", resolve_path=True,
                                        help="where captures and reports go")]
Quiet = Annotated[bool, typer.Option("--quiet", help="print nothing but errors",
                                       show_default="off")]
MapFile = Annotated[Path, typer.Option(metavar="FILE", help=(
    "one `image<TAB>0` per line; the default is what `make data` makes"))]
Recorded = Annotated[Path, typer.Option(metavar="FOLDER", help="of the recorded runs")]
Only = Annotated[str, typer.Option(metavar="A,B", help="only these, by name", show_default="all")]
Stages = Annotated[str, typer.Option(metavar="A,B", show_default="all", help=(
    "only these: " + ", ".join(registry.names())))]
Layers = Annotated[bool, typer.Option("--layers", show_default="off", help=(
    "a row for each layer in the terminal too, as report.html has it"))]
Restart = Annotated[bool, typer.Option("--restart", show_default="off", help=(
    "forget what was done before; otherwise the run is resumed"))]
MOST_THREADS = 64  # as of a plan
Threads = Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="of the classifier")]
Part = Annotated[str, typer.Option("--shard", metavar="3/8", show_default="all of it", help=(
    "only this part, so that several machines share the work"))]
Merge = Annotated[list[Path] | None, typer.Option(metavar="FOLDER", show_default="none", help=(
    "take the results of a part from its output folder; may be given several times"))]


def console_of(quiet: bool) -> Console:
    return Console(quiet=quiet)


@contextmanager
def counting(console: Console, what: str, total: float | None) -> Iterator[Callable[[int], None]]:
    """Gives what is told how many more are done; total: None where it is not known."""
    with shown(console, counted=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.update(task, advance=more)


def for_output(folder: Path, writes: Sequence[str]) -> None:
    """Before the work: these files can be written there. Leaves nothing behind.

    Raises OutputError: one of them is there, and somebody else's; no file can be written; another
    run is at work there."""
    refuse_foreign(folder, writes)
    if (folder / LOCK).is_file():
        with alone(folder):
            pass
    made: list[Path] = []
    try:
        made += [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}): free space there or "
                          "choose another folder with --output") from error
    finally:
        for one in made:
            with suppress(OSError):
                one.rmdir()


def text(content: object, style: str = "") -> Text:
    """As it stands, for a name may hold what a console would take for markup; with an escape for
    what standard output has no character for."""
    encoding = sys.stdout.encoding or "utf-8"
    said = plain(content).encode(encoding, "backslashreplace").decode(encoding)
    return Text(said, style, overflow="fold")


def listed(text: str) -> tuple[str, ...]:
    """``A,B`` as names; none where the option was not given."""
    return tuple(text.split(",")) if text else ()


def option_of(name: str) -> str:
    """The option of one value of a plan."""
    return NAMES.get(name, "--" + name.replace("_", "-"))


def with_plan(**defaults: int) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A decorator: the command's first parameter, ``plan``, is made from one option for each of the
    plan's FIELDS, and from ``--map-file``. defaults: where they differ from a plan's own.
    """
    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def whole(map_file: Path, **given: Any) -> int:
            values = {field[0]: int(given.pop(field[0])) for field in FIELDS}
            return command(Plan.make(map_file, **values), **given)

        others = list(inspect.signature(command).parameters.values())[1:]
        whole.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*_plan_parameters(defaults), *others])
        whole.__annotations__ = {"return": int, **{
            one.name: one.annotation for one in whole.__signature__.parameters.values()}}  # type: ignore[attr-defined]
        del whole.__wrapped__
        return whole
    return decorate


def _plan_parameters(defaults: dict[str, int]) -> list[inspect.Parameter]:
    made = []
    for name, default, lowest, highest, what in FIELDS:
        if (lowest, highest) == (0, 1):
            kind: Any = Annotated[bool, typer.Option(option_of(name), help=what,
                                                     show_default="off")]
        else:
            kind = Annotated[int, typer.Option(option_of(name), metavar="N",
                                               help=f"{what} ({lowest} .. {highest})")]
        value = defaults.get(name, default)
        made.append(_parameter(name, kind, bool(value) if (lowest, highest) == (0, 1) else value))
    return [*made, _parameter("map_file", MapFile, IMAGES)]


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default,
                             annotation=kind)
