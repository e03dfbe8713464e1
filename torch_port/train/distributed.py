"""Training by torchrun: rank 0 has the session, the others take the same steps and write nothing.

Before every iteration rank 0 tells the others to go on or to end; before the first, from which
checkpoint. A rank that dies closes its connections, so the others end with a message.
"""
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from captures.errors import DataError, TrainingError
from captures.training import checkpoint as checkpoints
from captures.training.finite import NotFiniteError
from captures.training.options import Settings
from captures.training.session import Session
from captures.training.signals import Signals
from torch_port import ranks
from torch_port.train.run import Run

END, GO_ON = 0, 1


def begin(settings: Settings) -> None:
    """Joins the other ranks, where torchrun started this process.

    Raises TrainingError: the minibatch cannot be divided among them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return
    if settings.minibatch_size % size:
        raise TrainingError(
            f"a minibatch of {settings.minibatch_size} is not to be divided among {size} "
            "processes: give --minibatch-size a multiple of --nproc_per_node")
    if not dist.is_initialized():
        dist.init_process_group("gloo")


def leading(session: Session, run: Run) -> Iterator[tuple[float, float, Tensor]]:
    """Rank 0's iterations: the others are told before each, and at the end."""
    steps = run.iterations()
    ranks.told(session.done)
    try:
        while True:
            ranks.told(GO_ON)
            yield next(steps)
    except GeneratorExit:  # what goes wrong inside an iteration goes wrong on every rank
        ranks.told(END)
        raise


def follow(settings: Settings, threads: int | None) -> None:
    """Every other rank's whole training. Signals are rank 0's to hear: it tells."""
    with Signals() as signals, signals.held():
        run = Run.from_seed(settings.seed, settings.map_file, settings.minibatch_size,
                            settings.unit_gain, threads)
        iteration = ranks.told(0)
        if iteration:
            folder = Path(settings.output_dir)
            path = next(one for one in checkpoints.found(folder)
                        if one.name.endswith(f"{iteration:07d}"))
            checkpoint = checkpoints.read_checkpoint(path)
            run.restore(checkpoint.arrays, iteration, print)
            checkpoints.restore_latents(run.latents, checkpoint)
        steps = run.iterations()
        with contextlib.suppress(NotFiniteError, DataError):  # rank 0 says it
            while ranks.told(0) == GO_ON:
                next(steps)
        signals.hear()
