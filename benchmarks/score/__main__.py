"""The figures of ``benchmarks/score``, printed."""
import sys
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks.figures import written
from benchmarks.score import measure
from captures.errors import ParityError
from scores.classifiers import registry
from scores.fid import LEAST


def main(
        count: Annotated[int, typer.Option(min=LEAST, help="made pictures")] = 500,
        classifier: Annotated[str, typer.Option(
            metavar="NAME", help=", ".join(registry.REGISTRY))] = registry.DEFAULT,
        weights: Annotated[Path | None, typer.Option(
            metavar="FILE", show_default="its own", help="of the classifier")] = None,
        cache: Annotated[Path, typer.Option(
            metavar="FOLDER", help="where converted networks are kept")
            ] = Path("build/classifier"),
        threads: Annotated[int, typer.Option(min=1, help="of the classifier")] = 2,
        json: Annotated[Path | None, typer.Option(
            metavar="PATH", show_default="not written", help="write the figures here")] = None,
        ) -> None:
    """Streams made pictures to a score: pictures a second, as a share of the classifier's bound,
    and the largest memory."""
    try:
        with tqdm(total=count, unit="picture", disable=None) as bar:
            figures = measure(count, classifier, weights, cache, threads, bar.update)
    except ParityError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    print(f"score of {count:,} pictures of 256 x 256 by {classifier}, onnxruntime, "
          f"{threads} thread(s):")
    print(f"  bound          {figures['operations_of_a_picture'] / 1e9:.2f} GFLOP a picture at "
          f"{figures['product_rate'] / 1e9:.0f} GFLOP/s, a product of float32 matrices")
    print(f"  pictures       {figures['pictures_per_second']:.1f} a second, {figures['share']:.0%} "
          "of the bound")
    print(f"  classifier     {figures['classifier_alone_per_second']:.1f} a second alone, "
          f"{figures['classifier_alone_share']:.0%}")
    print(f"  score and FID  {figures['seconds']['score']:.1f} s after the last picture")
    print(f"  memory         {figures['peak_bytes'] / 1e9:.2f} GB at most (bound: 2)")
    written(figures, json)


if __name__ == "__main__":
    typer.run(main)
