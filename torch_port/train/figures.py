"""The article's figures of a run, from what the run wrote; for CNTK's program and the port alike.

    python -m torch_port.train.figures FOLDER

    dcgan_logging.png   both losses over the iterations, from dcgan.csv
    dcgan_image.png     the last grid of samples
    dcgan.gif           the grids one after the other, at most FRAMES of them

Each is drawn where there is something to draw it from, written whole, and under SIDE pixels.
"""
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError

from captures.errors import ParityError, TrainingError
from captures.files import written_whole
from captures.process import ended
from captures.training.folder import FIGURES, SAMPLES, read_run
from captures.training.log import LOG, Row, read_log

LOSSES, IMAGE, ANIMATION = FIGURES
FRAMES, SIDE, SHOWN_MS, LAST_MS = 60, 384, 120, 2000
SMOOTHED_FROM = 200  # iterations; below, the curves are clear as they are


def draw(folder: Path, say: Callable[[str], None]) -> list[Path]:
    """All that can be drawn; the files. What cannot be drawn is said, and stops nothing."""
    made = []
    for figure in (losses, image, animation):
        try:
            path = figure(folder)
        except (OSError, ParityError) as error:
            say(f"a figure was not drawn: {error}")
            continue
        if path is not None:
            made.append(path)
    return made


def losses(folder: Path) -> Path | None:
    """dcgan_logging.png, as in the article: the discriminator's and the generator's loss."""
    if not (folder / LOG).exists():
        return None
    rows = read_log(folder / LOG)
    if not rows:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    step, g_loss, d_loss = (np.array(column) for column in zip(*rows, strict=True))
    for values, label, colour in ((d_loss, "discriminator", "tab:blue"),
                                  (g_loss, "generator", "tab:orange")):
        if len(rows) < SMOOTHED_FROM:
            axes.plot(step, values, color=colour, label=label, marker="." * (len(rows) < 3))
        else:
            axes.plot(step, values, color=colour, alpha=0.25, linewidth=0.6)
            axes.plot(*smoothed(step, values), color=colour, label=f"{label}, mean of "
                      f"{len(rows) // 100} iterations")
    axes.set(xlabel="iteration", ylabel="loss", title=_title(folder, rows))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    axes.grid(alpha=0.3)
    with written_whole(folder / LOSSES) as part:
        FigureCanvasAgg(figure).print_png(str(part))
    return folder / LOSSES


def smoothed(step: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of a hundredth of the run, each at its last iteration."""
    size = len(values) // 100
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return step[size - 1:], (sums[size:] - sums[:-size]) / size


def _title(folder: Path, rows: Sequence[Row]) -> str:
    run = read_run(folder) or {}
    who = {"cntk": "CNTK 2.7", "port": "the PyTorch port"}.get(run.get("program", ""), "a run")
    size = run.get("settings", {}).get("minibatch_size", "?")
    seed = run.get("settings", {}).get("seed", "?")
    said = f"{who}: {len(rows)} iterations, minibatch {size}, seed {seed}"
    changes = run.get("changes", [])
    return said + (f"\nchanged on the way: {', '.join(c['what'] for c in changes)}"
                   if changes else "")


def _grids(folder: Path) -> list[Path]:
    return sorted((folder / SAMPLES).glob("iteration*.png"))


def image(folder: Path) -> Path | None:
    """dcgan_image.png: the last grid, as it is."""
    grids = _grids(folder)
    if not grids:
        return None
    with written_whole(folder / IMAGE) as part:
        part.write_bytes(grids[-1].read_bytes())
    return folder / IMAGE


def animation(folder: Path) -> Path | None:
    """dcgan.gif: the iteration's number above its grid; the last one stays for a while."""
    grids = _grids(folder)
    if not grids:
        return None
    try:
        frames = [_frame(Image.open(grids[i]).convert("RGB"), grids[i].stem)
                  for i in chosen(len(grids))]
    except (UnidentifiedImageError, SyntaxError) as error:
        raise TrainingError(f"a grid in {folder / SAMPLES} is damaged ({error}): delete it"
                            ) from error
    with written_whole(folder / ANIMATION) as part:
        frames[0].save(part, save_all=True, append_images=frames[1:], loop=0, optimize=True,
                       duration=[SHOWN_MS] * (len(frames) - 1) + [LAST_MS])
    return folder / ANIMATION


def chosen(count: int) -> list[int]:
    """Which of so many grids: all, or FRAMES of them evenly, the first and the last among them."""
    if count <= FRAMES:
        return list(range(count))
    return [int(at) for at in np.linspace(0, count - 1, FRAMES).round()]


def _frame(grid: Image.Image, name: str) -> Image.Image:
    height = round(grid.height * SIDE / grid.width)
    frame = Image.new("RGB", (SIDE, height + 20), "white")
    frame.paste(grid.resize((SIDE, height), Image.Resampling.LANCZOS), (0, 20))
    ImageDraw.Draw(frame).text((6, 4), f"iteration {int(name.removeprefix('iteration'))}",
                               fill="black")
    return frame.quantize(128)


def main(arguments: Sequence[str]) -> int:
    def run() -> None:
        if len(arguments) != 1 or not Path(arguments[0]).is_dir():
            raise TrainingError("give the output folder of one training")
        draw(Path(arguments[0]), lambda text: print(text, file=sys.stderr))
    return int(ended(run))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
