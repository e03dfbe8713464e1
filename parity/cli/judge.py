"""``bin/parity judge``: a folder of captures is compared again, with other stages or allowances."""
from pathlib import Path
from typing import Annotated

import typer

from captures.errors import CaptureError
from captures.output import alone, note_made, refuse_foreign
from captures.process import AGREE, DIFFER
from parity import comparison
from parity.cli.options import REPORTS, Layers, Quiet, Stages, console_of, listed
from parity.judge import policies
from parity.report import write_all


def command(
    folder: Annotated[Path, typer.Argument(resolve_path=True, help=(
        "what `bin/parity run` has filled; the reports in it are replaced"))],
    stages: Stages = "",
    allow: Annotated[list[str] | None, typer.Option(
        metavar="POLICY=NUMBER", show_default="docs/tolerances.md",
        help="judge by this allowance; may be given more than once")] = None,
    layers: Layers = False,
    quiet: Quiet = False,
) -> int:
    allowances = dict(map(allowance, allow or ()))
    if not folder.is_dir():
        raise CaptureError(f"{folder} is no folder: give one that `bin/parity run` has filled")
    comparison.require_captures(folder)
    console = console_of(quiet)
    with alone(folder), policies.changed(allowances):
        _refuse_foreign_case(folder)
        with console.status("comparing"):
            report, pictures = comparison.judge(folder, listed(stages) or None, allowances)
        write_all(report, pictures, policies.policies(), folder, console, layers=layers)
        note_made(folder, (*REPORTS, comparison.REPRODUCTION))
    return AGREE if report.passed else DIFFER


def _refuse_foreign_case(folder: Path) -> None:
    """Raises OutputError: where a failure's case goes lies something else."""
    if not (folder / comparison.REPRODUCTION / "reproduce.py").is_file():
        refuse_foreign(folder, (comparison.REPRODUCTION,))


def allowance(text: str) -> tuple[str, float]:
    """``POLICY=NUMBER``; raises PolicyError."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise policies.PolicyError(f"--allow {text!r} is not of the form POLICY=NUMBER: write "
                                   "chain=8, for example") from None
