"""The figures of ``benchmarks/image_reader``, printed."""
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.figures import written
from benchmarks.image_reader import ROOT, make_images, measure


def main(json: Annotated[Path | None, typer.Option(
             metavar="PATH", show_default="not written", help="write the figures here")] = None,
         given: Annotated[Path | None, typer.Option(
             "--map", show_default="the drawn faces", help="map file of BMP images")] = None,
         rounds: Annotated[int, typer.Option(min=1, help="of both, in turn")] = 5,
         threads: Annotated[int, typer.Option(min=1, help="of each", show_default="all")] = len(
             os.sched_getaffinity(0))) -> None:
    """Images per second of the port's reader against CNTK's own."""
    with tempfile.TemporaryDirectory() as folder:
        faces = ROOT / "data" / "train_dcgan_map.txt"
        map_file = given or (faces if faces.exists() else make_images(Path(folder)))
        figures = measure(map_file, rounds, threads)
    print(f"image reader, {figures['threads']} threads: "
          f"port {figures['port_images_per_second']} images/s, "
          f"CNTK {figures['cntk_images_per_second']} images/s, ratio {figures['ratio']} "
          f"({figures['smallest_ratio']} .. {figures['largest_ratio']})")
    written(figures, json)


if __name__ == "__main__":
    typer.run(main)
