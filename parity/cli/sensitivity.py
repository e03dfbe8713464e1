"""``parity sensitivity IMAGES|MODEL``: what moves a score, by how much, on the same pictures."""
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from captures.files import written_whole
from captures.output import replacing
from parity.cli.options import (
    RUNS,
    Quiet,
    Threads,
    console_of,
    counting,
    for_output,
    listed,
    text,
)
from parity.cli.score import Count, Made, Skipped
from parity.producers.jobs import ROOT
from scores.classifiers import registry
from scores.errors import ScoreError
from scores.evaluate import notes_of
from scores.generators import open_source
from scores.images import refuse_unused
from scores.inception_score import SPLITS
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
    count: Count = None,
    pixels: Made = "",
    seed: Annotated[int, typer.Option(min=0, max=2 ** 32 - 1, help=(
        "of a model's latents, and of the shuffled orders"))] = 0,
    broken: Skipped = "refuse",
    offline: Annotated[bool, typer.Option("--offline", show_default="off", help=(
        "download nothing"))] = False,
    threads: Threads = 2,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help=(
        "where sensitivity.json and sensitivity.md go"))] = RUNS / "sensitivity",
    quiet: Quiet = False,
) -> int:
    for_output(output, FILES)  # before the work
    names = listed(classifiers) or (registry.DEFAULT,)
    files = [Path(file) if file else None for file in weights.split(",")]
    if len(files) > len(names):
        raise ScoreError(f"--weights names {len(files)} files for {len(names)} of --classifiers: "
                         "give one for each, or nothing between two commas")
    files += [None] * (len(names) - len(files))
    kinds = tuple(dict.fromkeys(listed(only))) or KINDS
    if only and "classifier" in kinds and len(names) == 1:
        raise ScoreError("--only classifier compares several: give --classifiers A,B")
    chosen = [registry.load(name, file, cache=ROOT / "build" / "classifier", offline=offline,
                            threads=threads) for name, file in zip(names, files, strict=True)]
    pictures = open_source(source, count, seed, threads, broken, eight_bits=False, pixels=pixels)
    refuse_unused(broken, pictures)
    console = console_of(quiet)
    with counting(console, "pictures", pictures.count * looks(kinds, len(chosen))) as told:
        rows = sensitivity(pictures, chosen, seed, told, kinds)
    notes = notes_of(pictures)
    listing: list[dict[str, object]] = [dict(vars(row)) for row in rows]
    listing[0].update(  # the row of nothing changed says of what
        pictures=pictures.name, count=pictures.count - len(pictures.broken), seed=seed,
        splits=SPLITS, kernel=chosen[0].spec.kernel,
        classifiers=[one.spec.title for one in chosen], weights=[one.weights for one in chosen],
        output=[f"taken as {one.reading.taken}" for one in chosen],
        notes=notes, broken=pictures.broken, left_out=pictures.left_out)
    with replacing(output, FILES):
        for name, content in zip(FILES, (json.dumps(listing, indent=1) + "\n", table(rows)),
                                 strict=True):
            with written_whole(output / name) as part:
                part.write_text(content, encoding="utf-8", errors="backslashreplace")
    shown = Table("what", "choice", "score", "moved by", title=text(source, "table.title"))
    for row in rows:
        shown.add_row(row.what, text(row.choice), f"{row.value:.5g}", f"{row.moved:+.2%}")
    console.print(shown)
    for note in notes:
        console.print(text(f"note: {note}"))
    console.print(text(f"{' and '.join(FILES)} are in {output}"), soft_wrap=True)
    return 0
