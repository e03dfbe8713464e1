"""``python -m torch_port.convert convert | sample``: see ``bin/parity convert --help``."""
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from captures.given import checked
from captures.plan import LARGEST_SEED
from captures.process import ERROR, ended, say
from captures.training.options import ROOT
from torch_port import rounding


class Target(Enum):
    pytorch = "pytorch"
    safetensors = "safetensors"
    onnx = "onnx"
    port = "port"
    cntk = "cntk"


Model = Annotated[Path, typer.Argument(metavar="MODEL", help=(
    "a run's folder, one of its checkpoints, or a .model, .onnx, .safetensors or .pt file"))]
app = typer.Typer(add_completion=False, rich_markup_mode=None)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@app.command()
def convert(
    model: Model,
    to: Annotated[list[Target] | None, typer.Option(
        show_default="pytorch, safetensors, onnx", help=(
            "the form (may be repeated); port and cntk: a run's folder that goes on with --resume"))
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="where it goes")] = (
        ROOT / "runs" / "converted"),
) -> None:
    """CNTK's models and checkpoints to PyTorch, safetensors and ONNX, and back."""
    from torch_port.convert import sources, targets

    asked = [one.value for one in to or ()] or ["pytorch", "safetensors", "onnx"]
    source = sources.read(model, note)
    for target in asked:
        for path in targets.write(source, target, output, model):
            print(path)


@app.command()
def sample(
    model: Model,
    count: Annotated[int, typer.Option(min=1, max=4096, help="pictures")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="of the latents")] = 0,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="where the pictures go")] = (
        ROOT / "runs" / "samples"),
) -> None:
    """Pictures, a grid and an interpolation out of a trained model."""
    from torch_port.convert import sample as sampling
    from torch_port.convert import sources

    rounding.as_cntk_rounds()
    source = sources.read(model, note)
    written = sampling.write(source, str(model), output, count, seed)
    note(f"{count} pictures, {written[-2].name} and {written[-1].name} are in {output}")


def main(arguments: list[str]) -> int:
    def run() -> int:
        try:
            command = checked(typer.main.get_command(app), typer.BadParameter)
            return int(command(arguments, prog_name="bin/parity", standalone_mode=False) or 0)
        except typer.Exit as end:
            return end.exit_code
        except TyperException as error:
            say(f"{error.format_message().rstrip('.')}: --help lists the options")
            return ERROR
    return int(ended(run))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
