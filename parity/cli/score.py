"""``parity score IMAGES|MODEL``: the Inception Score of pictures; FID and KID with a reference."""
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from captures.files import written_whole
from captures.output import refuse_foreign, replacing
from parity.cli.options import RUNS, Quiet, console_of, counting
from parity.producers.jobs import ROOT
from scores.classifiers import registry
from scores.evaluate import Scored, add_reference, evaluate, open_reference, scored
from scores.generators import open_source
from scores.inception_score import SPLITS, enough
from scores.page import page

FILES = ("score.json", "score.html")
Classes = Annotated[str, typer.Option(
    metavar="NAME|FILE", help=f"{', '.join(registry.REGISTRY)}, or an ONNX classifier's file")]


def command(
    source: Annotated[Path, typer.Argument(metavar="IMAGES|MODEL", help=(
        "a folder of pictures, an .npz or .npy (N x H x W x 3 or N x 3 x H x W, R, G, B), or a "
        "model: a CNTK .model, an .onnx, the folder of a training run"))],
    classifier: Classes = registry.DEFAULT,
    weights: Annotated[Path | None, typer.Option(metavar="FILE", show_default="its own", help=(
        "the classifier's weights; left out, those of the package, or downloaded"))] = None,
    sha256: Annotated[str, typer.Option(metavar="HEX", show_default="any", help=(
        "what the SHA-256 of the weights has to begin with"))] = "",
    splits: Annotated[int, typer.Option(min=1, help=(
        "parts of the pictures, in their order; the score is the mean over them"))] = SPLITS,
    reference: Annotated[Path | None, typer.Option(metavar="PICTURES", show_default="none", help=(
        "a folder, .npz or .npy for FID and KID; or an .npz with mu and sigma, for FID"))] = None,
    count: Annotated[int, typer.Option(min=2, help="pictures of a model")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=2 ** 32 - 1, help=(
        "of a model's latents, the interval and the shuffled order"))] = 0,
    broken: Annotated[str, typer.Option(metavar="refuse|skip", help=(
        "what is done about a picture that cannot be read"))] = "refuse",
    normalisation: Annotated[str, typer.Option(metavar="NAME", help=(
        "how an ONNX classifier takes its pictures: [-1,1], [0,1], imagenet, pixels"))] = "[-1,1]",
    runtime: Annotated[str, typer.Option(metavar="NAME", help=(
        "what runs the classifier: " + " or ".join(registry.RUNTIMES)))] = "onnxruntime",
    offline: Annotated[bool, typer.Option("--offline", show_default="off", help=(
        "download nothing"))] = False,
    cache: Annotated[Path, typer.Option(metavar="FOLDER", help=(
        "where downloads and converted networks are kept"))] = ROOT / "build" / "classifier",
    threads: Annotated[int, typer.Option(min=1, help="of the classifier")] = 2,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help=(
        "where score.json and score.html go"))] = RUNS / "score",
    quiet: Quiet = False,
) -> int:
    refuse_foreign(output, FILES)  # before the work
    pictures = open_source(source, count, seed, threads, broken)
    enough(pictures.count, splits)
    chosen = registry.load(classifier, weights, sha256, runtime, cache, offline, threads,
                           normalisation=normalisation)
    against = reference and open_reference(reference, pictures.count, chosen.spec, broken)
    console = console_of(quiet)
    with counting(console, "pictures", pictures.count) as told:
        made = evaluate(pictures, chosen, told, features=reference is not None)
    found = scored(pictures, made, chosen, splits, seed)
    if against:
        with counting(console, "pictures of the reference", against.count) as told:
            add_reference(found, made, against, str(reference), chosen, told)
    with replacing(output, FILES):
        with written_whole(output / "score.html") as part:
            part.write_text(page(found, made.shown), encoding="utf-8")
        with written_whole(output / "score.json") as part:
            part.write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    show(found, console, output)
    return 0


def show(found: Scored, console: Console, output: Path) -> None:
    s = found.score
    table = Table("", "", title=f"{found.pictures}: {s.pictures:,} pictures", show_header=False)
    table.columns[1].overflow = "fold"  # the SHA-256 is a long word
    table.add_row(f"score, mean over {s.splits} splits", f"{s.value:.6g} ± {s.deviation:.3g}")
    table.add_row("all pictures as one split", f"{s.one_split:.6g}")
    table.add_row("its interval (95 %, pictures drawn again)", f"{s.low:.6g} to {s.high:.6g}")
    table.add_row(f"{s.splits} splits, shuffled", f"{s.shuffled:.6g} ± {s.shuffled_deviation:.3g}")
    for name, value in found.distances.items():
        table.add_row(f"{name} against {found.reference}", f"{value:.6g}")
    table.add_row("classifier", f"{found.classifier}, by {found.runtime}")
    table.add_row("its output", found.output)
    table.add_row("weights", found.weights)
    table.add_row("classes that carry it", ", ".join(
        f"{row['class']} ({100 * row['share']:.0f} %)" for row in found.classes[:5]))
    console.print(table)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    console.print(f"score.json and score.html are in {output}", highlight=False)


