"""``python -m torch_port.fitted``: fits the generator and writes its arrays as an .npz."""
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from captures.errors import ParityError
from captures.files import written_whole
from captures.map_file import read_map_file
from captures.system import keep_memory
from torch_port.fitted.fit import IMAGES, ITERATIONS, MINIBATCH, fitted


def main(
    output_file: Annotated[Path, typer.Option("--output", help="the .npz to write")],
    map_file: Annotated[Path, typer.Option(help="one `image<TAB>0` a line")] = Path(
        "data/train_dcgan_map.txt"),
    iterations: Annotated[int, typer.Option(min=1, help="updates")] = ITERATIONS,
    images: Annotated[int, typer.Option(min=1, help="images that are fitted")] = IMAGES,
    minibatch_size: Annotated[int, typer.Option(min=1, help="images in an update")] = MINIBATCH,
    seed: Annotated[int, typer.Option(min=0, help="of weights, latents and images")] = 0,
) -> None:
    """Fits the article's generator to some images of the data set."""
    keep_memory()
    try:
        read_map_file(map_file)
        arrays, _ = fitted(map_file, iterations, images, minibatch_size, seed)
        with written_whole(output_file) as part, part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except (ParityError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
