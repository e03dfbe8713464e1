"""``parity run``: makes the captures of one plan, compares them, and writes the report."""
from pathlib import Path
from typing import Annotated

import typer

from captures.errors import PlanError
from captures.plan import Plan
from captures.process import AGREE, DIFFER
from parity import comparison
from parity.cli.options import RUNS, Output, Quiet, console_of, listed, with_plan
from parity.judge.policies import policies
from parity.producers.jobs import ROOT
from parity.report import write_all
from parity.stages import registry

Stages = Annotated[str, typer.Option(metavar="A,B", show_default="all", help=(
    "only these: " + ", ".join(registry.names())))]
NoLayers = Annotated[bool, typer.Option(
    "--no-layers", show_default="off",
    help="the terminal's table without a row for each layer")]


@with_plan()
def command(
    plan: Plan,
    output: Output = RUNS / "parity",
    port: Annotated[Path, typer.Option(metavar="FOLDER", help=(
        "the folder that holds the torch_port to judge"))] = ROOT,
    stages: Stages = "",
    no_layers: NoLayers = False,
    quiet: Quiet = False,
) -> int:
    wanted = listed(stages) or None
    if not (port / "torch_port").is_dir():
        raise PlanError(f"{port} holds no torch_port: give the folder that holds one")
    console = console_of(quiet)
    report, pictures = comparison.run(plan, output, console, port.resolve(), wanted)
    write_all(report, pictures, policies(), output, console, layers=not no_layers)
    return AGREE if report.passed else DIFFER
