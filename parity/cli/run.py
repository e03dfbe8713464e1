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
    NoLayers,
    Output,
    Quiet,
    Stages,
    console_of,
    listed,
    with_plan,
)
from parity.judge.policies import policies
from parity.producers.jobs import ROOT
from parity.report import write_all
from parity.stages import registry


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
    registry.chosen(wanted)  # before anything is made
    if not (port / "torch_port").is_dir():
        raise PlanError(f"{port} holds no torch_port: give the folder that holds one")
    console = console_of(quiet)
    with made_whole(output) as making:
        report, pictures = comparison.run(plan, Path(making), console, port.resolve(), wanted)
        if report.reproduction:
            report.reproduction = os.fspath(output / Path(report.reproduction).relative_to(making))
        write_all(report, pictures, policies(), Path(making), console, layers=not no_layers,
                  final=output)
    return AGREE if report.passed else DIFFER
