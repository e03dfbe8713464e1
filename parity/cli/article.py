"""``parity article``: one page that follows the article, beside CNTK's run and the port's."""
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from captures.errors import ParityError
from captures.files import written_whole
from captures.output import replacing
from captures.training.folder import read_run
from parity.cli.options import RUNS, Quiet, console_of
from parity.producers.jobs import ROOT
from parity.producers.training import in_the_port
from parity.report import article

SCORED = 64
PROGRAMS = ("cntk", "port")  # as their runs call them, and as the folders of their pictures


class TrainingFailedError(ParityError):
    """A training that the page needs did not end well."""


def command(
    cntk: Annotated[Path, typer.Option(metavar="FOLDER", help="a run of CNTK's program")] = (
        RUNS / "article"),
    port: Annotated[Path, typer.Option(metavar="FOLDER", help="a run of the port")] = (
        RUNS / "port"),
    iterations: Annotated[int, typer.Option(min=1, help=(
        "of a run that is not there yet, which is trained first"))] = 40,
    minibatch_size: Annotated[int, typer.Option(min=1, help="of such a run")] = 16,
    score: Annotated[bool, typer.Option(help="take a score of generated images")] = True,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="where the page goes")] = (
        RUNS / "article-page"),
    quiet: Quiet = False,
) -> int:
    console = console_of(quiet)
    with replacing(output, (article.PAGE, *PROGRAMS)):
        console.print(str(_page(cntk, port, iterations, minibatch_size, score, output, console)),
                      markup=False, soft_wrap=True)
    return 0


def _page(cntk: Path, port: Path, iterations: int, minibatch_size: int, score: bool, output: Path,
          console: Console) -> Path:
    for program, folder in (("train-cntk", cntk), ("train", port)):
        if read_run(folder) is None:
            console.print(f"there is no run in {folder}: {iterations} iterations of `bin/parity "
                          f"{program}` are trained first", markup=False)
            _train(program, folder, iterations, minibatch_size)
    runs = [article.shown(cntk), article.shown(port)]
    for run in runs if score else ():
        run.score = _score(run.folder, output / run.record["program"])
    return article.write(runs, output)


def _train(program: str, folder: Path, iterations: int, minibatch_size: int) -> None:
    status = subprocess.call([
        str(ROOT / "bin" / "parity"), program, "--iterations", str(iterations),
        "--minibatch-size", str(minibatch_size), "--output-dir", str(folder)])
    if status:
        raise TrainingFailedError(f"`bin/parity {program}` exited {status}: see above, then go on "
                                  f"with it: bin/parity {program} --output-dir {folder} --resume")


def _score(folder: Path, output: Path) -> str:
    """Of SCORED pictures from the run's last checkpoint."""
    pictures = output / "pictures"
    for old in pictures.glob("*.png"):
        old.unlink()
    if in_the_port("torch_port.convert", "sample", folder, "--count", SCORED, "--output", pictures):
        return "not computed: the run has no checkpoint"
    for other in ("grid.png", "interpolation.png"):
        with written_whole(output / other) as part:
            part.write_bytes((pictures / other).read_bytes())
        (pictures / other).unlink()
    if subprocess.call([sys.executable, "-P", "-m", "parity", "score", str(pictures), "--quiet",
                        "--splits", "1", "--output", str(output / "score")]):
        return "not computed"
    return article.read_score(output / "score")
