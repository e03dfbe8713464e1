"""``python -m datasets COMMAND``: makes data sets; ``bin/parity photos`` is one of its commands."""
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer.exceptions import TyperException

from captures.errors import DataError
from captures.given import checked
from captures.process import AGREE, INTERRUPTED, ended
from datasets import dataset, photos
from datasets.contact_sheet import PICTURES, contact_sheet

ROOT = Path(__file__).resolve().parent.parent
app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=False)
# click adds the command's name.
PROGRAMS = {"photos": "bin/parity"}
Quiet = Annotated[bool, typer.Option("--quiet", help="print nothing but errors",
                                       show_default="off")]


@app.callback()
def _all() -> None:
    """Makes data sets: images as BMP files, and the map file that CNTK's reader takes."""


@app.command("faces")
def faces_command(
    output: Annotated[Path, typer.Option(metavar="FOLDER", help=(
        "where faces/ and train_dcgan_map.txt go"))] = Path("data"),
    count: Annotated[int, typer.Option(metavar="N", help="how many faces")] = dataset.COUNT,
    seed: Annotated[int, typer.Option(metavar="N", help="another seed draws other faces")] = 0,
    sheet: Annotated[Path | None, typer.Option(
        "--contact-sheet", metavar="PNG", show_default="none",
        help=f"also write a picture of the first {PICTURES} faces")] = None,
    quiet: Quiet = False,
) -> int:
    """The default data set, made without a network: drawn portraits of faces."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
    try:
        if dataset.make(output, count, seed, quiet=quiet):
            console.print(f"{count} faces in {output / dataset.FACES}, listed in "
                          f"{output / dataset.MAP_FILE}", markup=False)
        else:
            console.print(f"{output / dataset.FACES} is complete already ({count} faces of seed "
                          f"{seed}): left alone", markup=False)
        if sheet:
            names = dataset.file_names(count)
            shown = contact_sheet([output / dataset.FACES / name for name in names], sheet)
            console.print(f"the first {shown} faces are in {sheet}", markup=False)
    except OSError as error:
        raise DataError(dataset.explain(error, output)) from error
    except BrokenProcessPool as error:
        raise DataError("a drawing process died, perhaps killed for want of memory: free about "
                        "500 MB of memory and run again") from error
    return AGREE


@app.command("photos")
def photos_command(
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
        "pixels of a face's side, or of a picture's shorter one"))] = photos.Settings.smallest,
    scale: Annotated[float, typer.Option(metavar="X", help=(
        "from one size of face that is looked for to the next"))] = photos.Settings.scale,
    neighbours: Annotated[int, typer.Option(metavar="N", help=(
        "boxes that have to agree on a face"))] = photos.Settings.neighbours,
    quiet: Quiet = False,
) -> int:
    """A folder of photos becomes a data set, as the article prepared its own: faces cut out."""
    settings = photos.Settings(folder, output, whole, mirror, smallest, scale, neighbours)
    done = photos.prepare(settings, quiet=quiet)
    console = Console(quiet=quiet, highlight=False, markup=False, soft_wrap=True)
    if done.went_on:
        console.print(f"{done.went_on} of {done.photos} files were prepared before")
    if done.skipped:
        table = Table("skipped, because it", "files")
        for why, count in done.skipped.most_common():
            table.add_row(why, str(count))
        console.print(table)
        console.print(f"each of them is in {output / photos.SKIPPED}", markup=False)
    console.print(f"{done.images} images are in {output / photos.FACES}; look at "
                  f"{output / photos.SHEET}; train with MAP_FILE={output / photos.MAP_FILE}",
                  markup=False)
    return AGREE


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def run() -> int:
        try:
            name = PROGRAMS.get(next(iter(given), ""), "python -m datasets")
            command = checked(typer.main.get_command(app), typer.BadParameter)
            code = int(command(given, prog_name=name, standalone_mode=False) or AGREE)
        except typer.Exit as end:
            code = end.exit_code
        except TyperException as error:  # what is wrong with the words of the command
            raise DataError(f"{error.format_message().rstrip('.')}: --help lists what there "
                            "is") from error
        if code == INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        return code
    return ended(run)


if __name__ == "__main__":
    sys.exit(main())
