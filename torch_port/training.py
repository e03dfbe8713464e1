"""The article's training in PyTorch: from the same seed, the steps that CNTK takes.

    python -m torch_port.training --seed 7 --iterations 5

One iteration, beside CNTK's program:

    x = next minibatch; z = fresh              D step: D(x), D(G(z)), both with gradients for D only
    z = fresh                                  G step: D(G(z)), gradients for G only

What each step moves, N samples in the minibatch (measured on CNTK):

    D step   D's weights, m, v, counter; D's running statistics twice (x first, then G(z): count
             + 2N); G's running statistics once (+ N)
    G step   G's weights, m, v, counter; G's running statistics (+ N), and D's too (+ N): a
             discriminator whose weights stand still goes on updating its statistics

Gradients are summed over the minibatch; the losses that are printed are means. An ordinary port
averages the gradient, detaches or freezes D's statistics in the G step, or runs one batch
normalisation over real and fake images together.

On the CPU, with MKL's branch of CNTK, the whole of it is CNTK's arithmetic: from the same seed the
losses and weights of 20 iterations at minibatch 2 are CNTK's bit for bit (20 losses each of D and
G, 7,524 places of the weights after each iteration: 0 differing).

Written to the output folder: ``dcgan.csv`` (step, G_loss, D_loss), ``dcgan_image/step<N>/fake.png``
(the first image of a generator of N updates) and ``checkpoint.pt``, from which ``--resume`` goes on
as if the run had never stopped.
"""
import argparse
import contextlib
import csv
import errno
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from parity.plan import LARGEST_SEED, Latents
from torch_port.adam import CNTKAdam
from torch_port.image_reader import ImageReader
from torch_port.losses import discriminator_loss, generator_loss, minibatch_average
from torch_port.native import CompilerError
from torch_port.networks import Each, Networks, networks_from_seed, normalized, unchanged

ROOT = Path(__file__).resolve().parent.parent
LEARNING_RATE, MOMENTUM = 1e-4, 0.5
ITERATIONS, MINIBATCH_SIZE, IMAGE_INTERVAL = 50_000, 16, 10
CHECKPOINT, LOG = "checkpoint.pt", "dcgan.csv"


class TrainingError(ValueError):
    """What was wrong, where, and how to mend it, in one line."""


# ---------------------------------------------------------------------------------- the two steps


def discriminator_losses(networks: Networks, x: Tensor, z: Tensor, each_real: Each = unchanged,
                         each_fake: Each = unchanged) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) of each sample, N values; x in pixels, 0..255.

    G runs in the networks' mode, without gradients: nothing of it is learnt in this step.
    """
    with torch.no_grad():
        fake = networks.generator(z)
    d_real = networks.discriminator(normalized(x), each_real)
    d_fake = networks.discriminator(fake, each_fake)
    return discriminator_loss(d_real, d_fake)


def generator_losses(networks: Networks, z: Tensor, each: Each = unchanged,
                     each_fake: Each = unchanged) -> tuple[Tensor, Tensor]:
    """-log D(G(z)) of each sample, N values, and the images G(z)."""
    fake = networks.generator(z, each)
    return generator_loss(networks.discriminator(fake, each_fake)), fake


def backward(losses: Tensor, learnt: torch.nn.Module) -> None:
    """Leaves in ``learnt`` the gradients of the SUM over the minibatch, as CNTK's learner has."""
    learnt.zero_grad(set_to_none=True)
    losses.sum().backward(inputs=list(learnt.parameters()))


def discriminator_step(networks: Networks, optimizer: CNTKAdam, x: Tensor, z: Tensor) -> float:
    """One update of the discriminator; returns the mean loss before it."""
    losses = discriminator_losses(networks, x, z)
    backward(losses, networks.discriminator)
    optimizer.step(samples=len(z))
    return minibatch_average(losses)


def generator_step(networks: Networks, optimizer: CNTKAdam, z: Tensor) -> tuple[float, Tensor]:
    """One update of the generator; returns the mean loss before it and the images."""
    losses, fake = generator_losses(networks, z)
    backward(losses, networks.generator)
    optimizer.step(samples=len(z))
    return minibatch_average(losses), fake.detach()


def create_optimizer(parameters: Iterable[Tensor], minibatch_size: int, unit_gain: bool = False
                     ) -> CNTKAdam:
    """The article's: a plain learning rate, which is divided by the minibatch size, and that size
    as the clipping threshold per sample."""
    return CNTKAdam(parameters, LEARNING_RATE, momentum=MOMENTUM, unit_gain=unit_gain,
                    clip_per_sample=float(minibatch_size))


def create_optimizers(networks: Networks, minibatch_size: int, unit_gain: bool = False
                      ) -> tuple[CNTKAdam, CNTKAdam]:
    """The generator's and the discriminator's."""
    return (create_optimizer(networks.generator.parameters(), minibatch_size, unit_gain),
            create_optimizer(networks.discriminator.parameters(), minibatch_size, unit_gain))


# --------------------------------------------------------------------------------- the whole run


@dataclass
class Run:
    """A run: networks, optimizers, reader and latents, all from one seed; and what it did."""

    seed: int
    minibatch_size: int
    unit_gain: bool
    reader: ImageReader
    networks: Networks
    generator_optimizer: CNTKAdam
    discriminator_optimizer: CNTKAdam
    latents: Latents
    rows: list[tuple[int, float, float]]

    @classmethod
    def from_seed(cls, seed: int, map_file: str | os.PathLike[str],
                  minibatch_size: int = MINIBATCH_SIZE, unit_gain: bool = False,
                  threads: int | None = None) -> "Run":
        """Raises ReaderError or TrainingError for bad input, before anything is drawn."""
        if not 0 <= seed <= LARGEST_SEED:
            raise TrainingError(f"the seed is {seed}: give one of 0 .. {LARGEST_SEED}")
        reader = ImageReader(map_file, minibatch_size, randomization_seed=seed, threads=threads)
        networks = networks_from_seed(seed)
        return cls(seed, minibatch_size, unit_gain, reader, networks,
                   *create_optimizers(networks, minibatch_size, unit_gain), Latents(seed), [])

    def _latents(self) -> Tensor:
        return torch.from_numpy(self.latents.next(self.minibatch_size))

    def iterations(self) -> Iterator[tuple[float, float, Tensor]]:
        """Endless: (G_loss, D_loss, generated images) after each iteration."""
        for x in self.reader:
            D_loss = discriminator_step(
                self.networks, self.discriminator_optimizer, x, self._latents())
            G_loss, fake = generator_step(self.networks, self.generator_optimizer, self._latents())
            self.rows.append((len(self.rows) + 1, G_loss, D_loss))
            yield G_loss, D_loss, fake

    def state_dict(self) -> dict[str, Any]:
        """All that the next iteration depends on: tensors, numbers and text."""
        _, keys, place, has_gauss, gauss = self.latents.random.get_state(legacy=True)
        return {
            "seed": self.seed, "minibatch_size": self.minibatch_size, "unit_gain": self.unit_gain,
            "networks": self.networks.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "reader": self.reader.state_dict(len(self.rows)),
            "latents": {"keys": torch.from_numpy(np.asarray(keys, np.int64)), "place": int(place),
                        "has_gauss": int(has_gauss), "gauss": float(gauss)},
            "rows": [list(row) for row in self.rows],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where ``state`` was saved. Raises TrainingError or ReaderError, and changes
        nothing, where it is of another seed, minibatch size, unit gain or data set."""
        for name in ("seed", "minibatch_size", "unit_gain"):
            if name not in state:
                raise TrainingError(f"the checkpoint has no {name!r}: give one that this program "
                                    "wrote")
            if state[name] != getattr(self, name):
                option = "--" + name.replace("_", "-")
                raise TrainingError(f"the checkpoint was written with {name} {state[name]}, this "
                                    f"run has {getattr(self, name)}: resume with {option} of that "
                                    "run, or begin without --resume")
        ours, theirs = self.networks.state_dict(), state.get("networks")
        if not isinstance(theirs, dict):
            raise TrainingError("the checkpoint has no 'networks': give one that this program "
                                "wrote")
        for name in [*ours, *theirs]:
            if name not in theirs or name not in ours or not isinstance(theirs[name], Tensor) \
                    or ours[name].shape != theirs[name].shape:
                raise TrainingError(f"the checkpoint's networks do not fit at {name}: give one "
                                    "that this program wrote")
        latents = Latents(self.seed)
        try:
            place = state["latents"]
            latents.random.set_state((
                "MT19937", place["keys"].numpy().astype(np.uint32), place["place"],
                place["has_gauss"], place["gauss"]))
            rows = [(int(step), float(g), float(d)) for step, g, d in state["rows"]]
            parts = [state[name] for name in ("reader", *self._optimizer_names)]
            if not all(isinstance(part, dict) for part in parts):
                raise TypeError("a part is of another kind")
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            raise TrainingError(f"the checkpoint is not whole ({error}): give one that this "
                                "program wrote") from error
        held: list[Any] = [self.reader, *self._optimizers]
        before = [part.state_dict() for part in held]
        try:
            for part, saved in zip(held, parts, strict=True):
                part.load_state_dict(saved)
        except ValueError:
            for part, old in zip(held, before, strict=True):
                part.load_state_dict(old)
            raise
        self.networks.load_state_dict(theirs)
        self.latents, self.rows = latents, rows

    _optimizer_names = ("generator_optimizer", "discriminator_optimizer")

    @property
    def _optimizers(self) -> list[CNTKAdam]:
        return [getattr(self, name) for name in self._optimizer_names]


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it when all went well and removed when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.stem + ".part" + path.suffix)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_image(path: Path, image: Tensor) -> None:
    """(image / 2 + 0.5) * 255 as PNG; image 3 x H x W in [-1, 1], channels B, G, R."""
    pixels = ((image / 2 + 0.5) * 255).numpy().transpose(1, 2, 0)
    done, encoded = cv2.imencode(".png", np.rint(pixels).astype(np.uint8))
    if not done:
        raise OSError(errno.EIO, "OpenCV could not encode the image", str(path))
    with written_whole(path) as part:
        part.write_bytes(encoded.tobytes())


def save(run: Run, folder: Path) -> None:
    """The checkpoint and the log."""
    with written_whole(folder / CHECKPOINT) as part:
        try:
            torch.save(run.state_dict(), part)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            raise OSError(errno.EIO, "not all of it was taken: the disk is full", str(part)
                          ) from error
    with written_whole(folder / LOG) as part, part.open("w", newline="") as file:
        log = csv.writer(file, lineterminator="\n")
        log.writerow(["step", "G_loss", "D_loss"])
        log.writerows(run.rows)


def load_checkpoint(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise TrainingError(f"checkpoint {path} cannot be read ({error.strerror}): begin without "
                            "--resume") from error
    except Exception as error:  # torch.load has no class that all its errors share
        raise TrainingError(f"{path} is not a checkpoint of this program: begin without --resume"
                            ) from error
    if not isinstance(state, dict):
        raise TrainingError(f"{path} is not a checkpoint of this program: begin without --resume")
    return state


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


def _number(lowest: int, highest: int | None = None):
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < lowest or (highest is not None and value > highest):
            bound = f"at least {lowest}" + ("" if highest is None else f" and at most {highest}")
            raise argparse.ArgumentTypeError(f"{value} is out of range: give {bound}")
        return value
    return parse


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m torch_port.training",
        description="Trains the article's DCGAN in PyTorch as CNTK 2.7 trains it, without CNTK.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--iterations", type=_number(1), default=ITERATIONS, help="updates of each")
    made.add_argument("--minibatch-size", type=_number(1), default=MINIBATCH_SIZE,
                      help="images in a minibatch; also the clipping threshold per sample")
    made.add_argument("--map-file", type=Path, default=ROOT / "data" / "train_dcgan_map.txt",
                      help="one `image<TAB>0` per line; the default is what `make data` makes")
    made.add_argument("--output-dir", type=Path, default=ROOT / "runs" / "port",
                      help="where the checkpoint, images and dcgan.csv go")
    made.add_argument("--unit-gain", action="store_true",
                      help="the paper's Adam, as the program had it from March 2020 on")
    made.add_argument("--seed", type=_number(0, LARGEST_SEED), default=0,
                      help="of the weights, the latents and the order of the images")
    made.add_argument("--image-interval", type=_number(1), default=IMAGE_INTERVAL,
                      help="iterations from one written image to the next")
    made.add_argument("--threads", type=_number(1), default=None, help="of PyTorch and the reader; "
                      "left out: as many as there are processors")
    made.add_argument("--resume", action="store_true",
                      help="go on from the output folder's checkpoint")
    return made


def as_cntk_rounds() -> None:
    """oneDNN off, so that convolutions have CNTK's bits (torch_port/convolution.py). oneDNN's are
    up to 2.5 times as far from float64 as CNTK's (measured)."""
    torch.backends.mkldnn.set_flags(False)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    as_cntk_rounds()
    if options.threads:
        torch.set_num_threads(options.threads)
    run = None
    try:
        run = Run.from_seed(options.seed, options.map_file, options.minibatch_size,
                            options.unit_gain, options.threads)
        if options.resume:
            run.load_state_dict(load_checkpoint(options.output_dir / CHECKPOINT))
        train(run, options.output_dir, options.iterations, options.image_interval)
    except (ValueError, CompilerError) as error:  # TrainingError and ReaderError are ValueErrors
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or options.output_dir} cannot be written "
              f"({error.strerror or error}): free space there or choose another place with "
              "--output-dir", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        done = 0 if run is None else len(run.rows)
        print(f"interrupted after {done} iterations" + (
            f", which are kept in {options.output_dir}: go on with --resume"
            if (options.output_dir / CHECKPOINT).exists() else ""), file=sys.stderr)
        return 130
    print(f"checkpoint, images and {LOG} are in {options.output_dir}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
