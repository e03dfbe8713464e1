"""``parity convert``: a trained model in another form. The work is ``torch_port.convert``'s."""
from pathlib import Path
from typing import Annotated

import typer

from parity.cli.options import RUNS
from parity.producers.training import in_the_port

Model = Annotated[Path, typer.Argument(metavar="MODEL", help=(
    "a run's folder, one of its checkpoints, or a .model, .onnx, .safetensors or .pt file"))]
FORMS = ("pytorch", "safetensors", "onnx", "port", "cntk")


def command(
    model: Model,
    to: Annotated[list[str] | None, typer.Option(
        metavar="|".join(FORMS), show_default="pytorch, safetensors, onnx", help=(
            "the form (may be repeated); port and cntk: a run's folder that goes on with --resume"))
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="where it goes")] = (
        RUNS / "converted"),
) -> int:
    forms = [part for one in to or () for part in ("--to", one)]
    return in_the_port("torch_port.convert", "convert", model, *forms, "--output", output)
