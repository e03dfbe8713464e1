"""The figures of ``benchmarks/compare_memory``, printed."""
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.compare_memory import measure
from benchmarks.figures import written


def main(
        megabytes: Annotated[int, typer.Option(min=1, help="of each of the two captures")] = 500,
        map_file: Annotated[Path, typer.Option(help="of the plan's images")] = Path(
            "data/train_dcgan_map.txt"),
        json: Annotated[Path | None, typer.Option(
            metavar="PATH", show_default="not written", help="write the figures here")] = None,
        ) -> None:
    """Compares two captures in a process of its own, and reads its largest memory."""
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(megabytes, map_file, Path(folder))
    print(f"two captures of {figures['capture_mb']:.0f} MB: {figures['word']}, "
          f"{figures['seconds']:.1f} s, at most {figures['largest_memory_mb']:.0f} MB of memory")
    written(figures, json)


if __name__ == "__main__":
    typer.run(main)
