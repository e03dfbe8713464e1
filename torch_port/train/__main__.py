"""The article's training in PyTorch: from the same seed, the steps that CNTK takes.

    python -m torch_port.train --seed 7 --iterations 5

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

On the CPU the whole of it is CNTK's arithmetic: from the same seed the
losses and weights of 20 iterations at minibatch 2 are CNTK's bit for bit (20 losses each of D and
G, 7,524 places of the weights after each iteration: 0 differing).

Written to the output folder: ``dcgan.csv`` (step, G_loss, D_loss), ``dcgan_image/step<N>/fake.png``
(the first image of a generator of N updates) and ``checkpoint.pt``, from which ``--resume`` goes on
as if the run had never stopped.
"""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from captures.article import IMAGE_INTERVAL, ITERATIONS, MINIBATCH_SIZE
from captures.plan import LARGEST_SEED
from torch_port.native import CompilerError
from torch_port.rounding import as_cntk_rounds
from torch_port.train.checkpoint import CHECKPOINT, LOG, load_checkpoint
from torch_port.train.loop import train
from torch_port.train.run import Run

ROOT = Path(__file__).resolve().parents[2]


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
        prog="python -m torch_port.train",
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
