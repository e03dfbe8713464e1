"""``parity run``: makes the captures of one plan, compares them, and writes the report."""
import os
from pathlib import Path
from typing import Annotated

import typer

from captures.errors import PlanError
from captures.output import made_whole
from captures.plan import Plan
from captures.process import AGREE, DIFFER
from parity import comparison
from parity.cli.options import (
    RUNS,
    WRITTEN,
    Layers,
    Output,
    Quiet,
    Stages,
    console_of,
    listed,
    with_plan,
)
from parity.judge.policies import policies
from parity.producers import for_score, recipes
from parity.producers.jobs import ROOT
from parity.report import write_all
from parity.stages import registry
from parity.stages.score import SCORE

TIME_LIMIT = 600.0


@with_plan()
def command(
    plan: Plan,
    output: Output = RUNS / "parity",
    port: Annotated[Path, typer.Option(metavar="FILE.py|FOLDER", show_default="ours", help=(
        "the port to judge: an adapter (docs/judge-your-port.md), or a folder that holds a "
        "torch_port"))] = ROOT,
    mapping: Annotated[Path | None, typer.Option(metavar="FILE", show_default="none", help=(
        "JSON: which tensor of the port is which array, where that cannot be found out"))] = None,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help=(
        "where an adapter's networks run; the reference stays on the CPU"))] = "cpu",
    time_limit: Annotated[float, typer.Option(metavar="SECONDS", min=0, max=1e6, help=(
        "that each call of an adapter's code may take"))] = TIME_LIMIT,
    stages: Stages = "",
    trained: Annotated[bool, typer.Option("--trained/--no-trained", show_default="on", help=(
        "score the pictures of a network fitted to faces too, where real CNTK is the reference; "
        "the first run fits it, which takes up to a minute"))] = True,
    layers: Layers = False,
    reference: Annotated[str, typer.Option(
        metavar="|".join(recipes.REFERENCES), show_default="cntk where it is installed", help=(
            "who makes the reference: " + "; ".join(
                f"{name}, {what}" for name, what in recipes.REFERENCES.items())))] = "",
    quiet: Quiet = False,
) -> int:
    wanted = listed(stages) or None
    chosen = registry.chosen(wanted)  # before anything is made
    if reference and reference not in recipes.REFERENCES:
        raise PlanError(f"--reference is {reference!r}: give one of "
                        f"{', '.join(recipes.REFERENCES)}")
    _check_port(port, mapping, device, time_limit)
    console = console_of(quiet)
    fitted = trained and (reference or recipes.possible_reference()) == recipes.CNTK
    with made_whole(output, WRITTEN) as making:
        files = for_score.prepare(plan, Path(making), console, fitted) \
            if SCORE in chosen else for_score.NOTHING
        sources = recipes.Sources(port.resolve(), reference, mapping, device, time_limit, files)
        report, pictures = comparison.run(plan, Path(making), console, sources, wanted)
        if report.reproduction:
            report.reproduction = os.fspath(output / Path(report.reproduction).relative_to(making))
        write_all(report, pictures, policies(), Path(making), console, layers=layers,
                  final=output)
    return AGREE if report.passed else DIFFER


def _check_port(port: Path, mapping: Path | None, device: str, time_limit: float) -> None:
    """What is to be judged, and the options that are of an adapter, before anything is made. Raises
    PlanError, ProducerError."""
    adapter = port.suffix == ".py" and port.is_file()
    if not adapter and not (port / "torch_port").is_dir():
        raise PlanError(f"{port} holds no torch_port and is no adapter: give the folder that holds "
                        "one, or the .py file that docs/judge-your-port.md describes")
    given = {"--mapping": mapping is not None, "--device": device != "cpu",
             "--time-limit": time_limit != TIME_LIMIT}
    for option in (name for name, one in given.items() if one and not adapter):
        raise PlanError(f"{option} is of an adapter, and {port} is none: give --port FILE.py, or "
                        f"leave {option} out")
    if not time_limit:
        raise PlanError("--time-limit is 0: give the seconds that a call may take")
    if adapter:
        recipes.check_adapter(port, mapping, device, time_limit)
