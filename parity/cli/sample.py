"""``parity sample``: pictures out of a trained model. The work is ``torch_port.convert``'s."""
from pathlib import Path
from typing import Annotated

import typer

from captures.plan import LARGEST_SEED
from parity.cli.convert import Model
from parity.cli.options import RUNS
from parity.producers.training import in_the_port


def command(
    model: Model,
    count: Annotated[int, typer.Option(min=1, max=4096, help="pictures")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="of the latents")] = 0,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="where the pictures go")] = (
        RUNS / "samples"),
) -> int:
    return in_the_port("torch_port.convert", "sample", model, "--count", count, "--seed", seed,
                       "--output", output)
