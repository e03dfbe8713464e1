"""TODO."""
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from torch_port.train.checkpoint import save
from torch_port.train.outputs import write_image
from torch_port.train.run import Run


@contextlib.contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """Ctrl-C is noted in the list that is given, to be heard between two iterations: after half of
    one the discriminator is a step ahead, and a resumed run would not be the same run."""
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def train(run: Run, folder: Path, iterations: int, image_interval: int) -> None:
    """Goes on until ``iterations`` are done, printing the losses; what was done is always kept.

    Raises KeyboardInterrupt after the iteration in which Ctrl-C was pressed."""
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    with tqdm(total=iterations, initial=len(run.rows), unit="iteration", file=sys.stderr) as bar, \
            interrupts_noted() as interrupts:
        try:
            steps = run.iterations()
            while len(run.rows) < iterations:
                if interrupts:
                    raise KeyboardInterrupt
                G_loss, D_loss, fake = next(steps)
                step = len(run.rows)
                bar.update()
                bar.set_postfix(G_loss=f"{G_loss:.4f}", D_loss=f"{D_loss:.4f}")
                if step % max(1, iterations // 100) == 0:
                    bar.write(f"iteration {step}: D_loss {D_loss:.7g}  G_loss {G_loss:.7g}",
                              file=sys.stdout)
                if (step - 1) % image_interval == 0:
                    write_image(folder / "dcgan_image" / f"step{step - 1}" / "fake.png", fake[0])
        finally:
            save(run, folder)
