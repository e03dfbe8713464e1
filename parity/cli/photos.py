"""``parity photos``: a folder of photos becomes a data set, as the article prepared its own."""
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from captures.process import AGREE
from datasets.photos import FACES, MAP_FILE, SHEET, SKIPPED, Settings, prepare
from parity.cli.options import Quiet, console_of
from parity.producers.jobs import ROOT


def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help=(
        "photos of any kind; folders in it are searched too"))],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help=(
        "where the images and their map file go; a run that was stopped goes on there"))]
    = ROOT / "data" / "photos",
    whole: Annotated[bool, typer.Option("--whole", show_default="off", help=(
        "take the whole pictures, and look for no faces"))] = False,
    mirror: Annotated[bool, typer.Option("--mirror", show_default="off", help=(
        "add a mirror image of each"))] = False,
    smallest: Annotated[int, typer.Option(metavar="N", help=(
        "pixels of a face's side, or of a picture's shorter one"))] = Settings.smallest,
    scale: Annotated[float, typer.Option(metavar="X", help=(
        "from one size of face that is looked for to the next"))] = Settings.scale,
    neighbours: Annotated[int, typer.Option(metavar="N", help=(
        "boxes that have to agree on a face"))] = Settings.neighbours,
    quiet: Quiet = False,
) -> int:
    settings = Settings(folder, output, whole, mirror, smallest, scale, neighbours)
    done = prepare(settings, quiet=quiet)
    console = console_of(quiet)
    if done.went_on:
        console.print(f"{done.went_on} of {done.photos} files were prepared before")
    if done.skipped:
        table = Table("skipped, because it", "files")
        for why, count in done.skipped.most_common():
            table.add_row(why, str(count))
        console.print(table)
        console.print(f"each of them is in {output / SKIPPED}", soft_wrap=True)
    console.print(f"{done.images} images are in {output / FACES}; look at {output / SHEET}; train "
                  f"with MAP_FILE={output / MAP_FILE}", soft_wrap=True, highlight=False)
    return AGREE
