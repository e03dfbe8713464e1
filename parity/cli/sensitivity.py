"""``parity sensitivity IMAGES|MODEL``: what moves a score, by how much, on the same pictures."""
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from captures.files import written_whole
from captures.output import refuse_foreign, replacing
from parity.cli.options import RUNS, Quiet, console_of, counting, listed
from parity.producers.jobs import ROOT
from scores.classifiers import registry
from scores.generators import open_source
from scores.sensitivity import KINDS, looks, sensitivity, table

FILES = ("sensitivity.json", "sensitivity.md")


def command(
    source: Annotated[Path, typer.Argument(metavar="IMAGES|MODEL", help=(
        "as for `bin/parity score`"))],
    classifiers: Annotated[str, typer.Option(metavar="A,B", help=(
        "the first is compared with itself under every change, then with the others"))
        ] = registry.DEFAULT,
    weights: Annotated[str, typer.Option(metavar="A,B", show_default="their own", help=(
        "files of weights, one for each classifier; nothing between two commas: its own"))] = "",
    only: Annotated[str, typer.Option(metavar="A,B", show_default="all", help=(
        f"only these: {', '.join(KINDS)}; order, splits and count take one look at the pictures"))
        ] = "",
    count: Annotated[int, typer.Option(min=100, help="pictures of a model")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=2 ** 32 - 1, help=(
        "of a model's latents, and of the shuffled orders"))] = 0,
    offline: Annotated[bool, typer.Option("--offline", show_default="off", help=(
        "download nothing"))] = False,
    threads: Annotated[int, typer.Option(min=1, help="of the classifier")] = 2,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help=(
        "where sensitivity.json and sensitivity.md go"))] = RUNS / "sensitivity",
    quiet: Quiet = False,
) -> int:
    refuse_foreign(output, FILES)  # before the work
    names = listed(classifiers) or (registry.DEFAULT,)
    files = [Path(file) if file else None for file in weights.split(",")]
    files += [None] * (len(names) - len(files))
    chosen = [registry.load(name, file, cache=ROOT / "build" / "classifier", offline=offline,
                            threads=threads) for name, file in zip(names, files, strict=False)]
    pictures = open_source(source, count, seed, threads, eight_bits=False)
    kinds = listed(only) or KINDS
    console = console_of(quiet)
    with counting(console, "pictures", pictures.count * looks(kinds, len(chosen))) as told:
        rows = sensitivity(pictures, chosen, seed, told, kinds)
    with replacing(output, FILES):
        for name, text in zip(FILES, (json.dumps([vars(row) for row in rows], indent=1) + "\n",
                                      table(rows)), strict=True):
            with written_whole(output / name) as part:
                part.write_text(text, encoding="utf-8")
    shown = Table("what", "choice", "score", "moved by", title=f"{source}")
    for row in rows:
        shown.add_row(row.what, row.choice, f"{row.value:.5g}", f"{row.moved:+.2%}")
    console.print(shown)
    console.print(f"{' and '.join(FILES)} are in {output}", highlight=False)
    return 0
