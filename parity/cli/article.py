"""``parity article``: one page that follows the article, beside CNTK's run and the port's."""
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from captures.errors import ParityError
from captures.files import written_whole
from captures.output import replacing
from captures.plan import LARGEST_SEED
from captures.training.folder import read_run
from parity.cli.options import IMAGES, RUNS, MapFile, Quiet, console_of
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
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="of such a run")] = 0,
    map_file: MapFile = IMAGES,
    score: Annotated[bool, typer.Option(help="take a score of generated images")] = True,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="where the page goes")] = (
        RUNS / "article-page"),
    quiet: Quiet = False,
) -> int:
    console = console_of(quiet)
    def tell(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    settings = ["--iterations", iterations, "--minibatch-size", minibatch_size, "--seed", seed,
                "--map-file", map_file.absolute()]
    with replacing(output, (article.PAGE, *PROGRAMS)):
        tell(str(_page(cntk, port, [str(one) for one in settings], score, output, tell)))
    return 0


def _page(cntk: Path, port: Path, settings: list[str], score: bool, output: Path,
          tell: Callable[[str], None]) -> Path:
    for program, folder in (("train-cntk", cntk), ("train", port)):
        record = read_run(folder)
        if record is None:
            tell(f"there is no run in {folder}: `bin/parity {program} {' '.join(settings)}` comes "
                 "first")
            _train(program, folder, settings)
        else:
            tell(f"the run in {folder} is shown as it is, of {record['iterations']} iterations: "
                 "remove it, or name another folder, for another one")
    runs = [article.shown(cntk), article.shown(port)]
    for run in runs if score else ():
        run.score = _score(run.folder, output / run.record["program"])
    return article.write(runs, output)


def _train(program: str, folder: Path, settings: list[str]) -> None:
    status = subprocess.call([
        str(ROOT / "bin" / "parity"), program, *settings, "--output-dir", str(folder)])
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
