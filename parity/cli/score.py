"""``parity score IMAGES|MODEL``: the Inception Score of pictures; FID and KID with a reference."""
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from captures.files import written_whole
from captures.output import replacing
from captures.process import printable
from parity.cli.options import RUNS, Quiet, Threads, console_of, counting, for_output, text
from parity.producers.jobs import ROOT
from scores.classifiers import registry
from scores.evaluate import Scored, add_reference, evaluate, open_reference, scored
from scores.generators import COUNT, DEFAULT_PIXELS, PIXELS, open_source
from scores.images import refuse_unused
from scores.inception_score import SPLITS, enough
from scores.page import page

FILES = ("score.json", "score.html")
Count = Annotated[int | None, typer.Option(min=2, show_default=str(COUNT), help=(
    "pictures of a model"))]
Made = Annotated[str, typer.Option("--pixels", metavar="NAME", show_default=DEFAULT_PIXELS, help=(
    "what an ONNX model makes, which its file does not say: " + ", ".join(PIXELS)
    + "; values outside are refused"))]
Skipped = Annotated[str, typer.Option(metavar="refuse|skip", help=(
    "what is done about a picture, or a folder in a folder, that cannot be read"))]
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
    count: Count = None,
    pixels: Made = "",
    seed: Annotated[int, typer.Option(min=0, max=2 ** 32 - 1, help=(
        "of a model's latents, the interval and the shuffled order"))] = 0,
    broken: Skipped = "refuse",
    normalisation: Annotated[str, typer.Option(metavar="NAME", help=(
        "how an ONNX classifier takes its pictures: [-1,1], [0,1], imagenet, pixels"))] = "[-1,1]",
    runtime: Annotated[str, typer.Option(metavar="NAME", help=(
        "what runs the classifier: " + " or ".join(registry.RUNTIMES)))] = "onnxruntime",
    offline: Annotated[bool, typer.Option("--offline", show_default="off", help=(
        "download nothing"))] = False,
    cache: Annotated[Path, typer.Option(metavar="FOLDER", help=(
        "where downloads and converted networks are kept"))] = ROOT / "build" / "classifier",
    threads: Threads = 2,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help=(
        "where score.json and score.html go"))] = RUNS / "score",
    quiet: Quiet = False,
) -> int:
    for_output(output, FILES)  # before the work
    pictures = open_source(source, count, seed, threads, broken, pixels=pixels)
    enough(pictures.count, splits)
    chosen = registry.load(classifier, weights, sha256, runtime, cache, offline, threads,
                           normalisation=normalisation)
    against = reference and open_reference(reference, pictures.count, chosen.spec, broken)
    refuse_unused(broken, pictures, against)
    console = console_of(quiet)
    with counting(console, "pictures", pictures.count) as told:
        made = evaluate(pictures, chosen, told, features=reference is not None)
    found = scored(pictures, made, chosen, splits, seed)
    if against:
        with counting(console, "pictures of the reference", against.count) as told:
            add_reference(found, made, against, printable(reference), chosen, told)
    with replacing(output, FILES):
        with written_whole(output / "score.html") as part:
            part.write_text(page(found, made.shown), encoding="utf-8", errors="backslashreplace")
        with written_whole(output / "score.json") as part:
            part.write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    show(found, console, output)
    return 0


def show(found: Scored, console: Console, output: Path) -> None:
    s = found.score
    table = Table("", "", title=text(f"{found.pictures}: {s.pictures:,} pictures", "table.title"),
                  show_header=False)

    def row(what: str, value: str) -> None:
        table.add_row(text(what), text(value))

    row(f"score, mean over {s.splits} splits", f"{s.value:.6g} ± {s.deviation:.3g}")
    row("all pictures as one split", f"{s.one_split:.6g}")
    row("its interval (95 %, pictures drawn again)", f"{s.low:.6g} to {s.high:.6g}")
    row(f"{s.splits} splits, shuffled", f"{s.shuffled:.6g} ± {s.shuffled_deviation:.3g}")
    for name, value in found.distances.items():
        row(f"{name} against {found.reference}", f"{value:.6g}")
    row("classifier", f"{found.classifier}, by {found.runtime}")
    row("its output", found.output)
    row("weights", found.weights)
    row("classes that carry it (numbers)", ", ".join(
        f"{one['class']} ({100 * one['share']:.0f} %)" for one in found.classes[:5]))
    console.print(table)
    for note in found.notes:
        console.print(text(f"note: {note}"))
    console.print(text(f"score.json and score.html are in {output}"), soft_wrap=True)
