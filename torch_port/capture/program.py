"""The training program itself, a few iterations of it, and once more stopped on the way: its log,
pictures, models and checkpoints.

The other parts look at networks and steps; this one at what a user gets. The run goes through the
program's own loop (``torch_port.train.loop``) and session, files and all, in a folder that is
removed again.
"""
import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from captures import observe
from captures.format import CaptureWriter
from captures.plan import Plan
from captures.spec import Spec
from captures.training.checkpoint import Checkpoint, read_newest
from captures.training.folder import IMAGES
from captures.training.options import Settings
from captures.training.session import Session, Trained
from captures.training.shapes import KEYS
from torch_port.capture.recorder import numbers
from torch_port.train import __main__ as command
from torch_port.train.loop import train
from torch_port.train.run import model_file

ITERATIONS = 3


class Watched(Session):
    """Keeps the first image of the last iteration, as the loop gets it."""

    image: np.ndarray

    def run(self, trained: Trained, iterations: Iterator[tuple[float, float, Any]]
            ) -> Iterator[tuple[int, Any]]:
        for step, images in super().run(trained, iterations):
            self.image = numbers(images[0]).copy()
            yield step, images


def _ran(plan: Plan, folder: Path, iterations: int, resume: bool = False) -> Watched:
    settings = Settings.make(
        str(folder), iterations=iterations, minibatch_size=plan.twin_minibatch_size,
        map_file=plan.map_file, unit_gain=bool(plan.unit_gain), seed=plan.seed, image_interval=1,
        sample_interval=1000, checkpoint_iterations=1000, checkpoint_minutes=0.0, resume=resume)
    watched = Watched(settings, command.program()._replace(spec=plan.spec))
    with contextlib.redirect_stderr(io.StringIO()), watched as session:
        train(session)
    return watched


def _losses(checkpoint: Checkpoint) -> np.ndarray:
    return np.array([[d, g] for _, g, d in checkpoint.rows], np.float64)


def _state(checkpoint: Checkpoint) -> dict[str, str]:
    return observe.hashes({name: array for name, array in checkpoint.arrays.items()
                           if name != KEYS})


def _models(folder: Path, spec: Spec) -> dict[str, str]:
    """Hashes of what is in the files that the run leaves, under the captures' names."""
    made = {}
    for network in spec.networks:
        held = torch.load(folder / model_file(network.name), weights_only=True)
        made.update({f"{network.name}/{key.replace('.', '/')}": numbers(value)
                     for key, value in held.items()})
    return observe.hashes(made)


def program_part(writer: CaptureWriter, plan: Plan) -> None:
    with tempfile.TemporaryDirectory(prefix="training-") as home:
        whole, stopped = Path(home) / "whole", Path(home) / "stopped"
        session = _ran(plan, whole, ITERATIONS)
        kept = read_newest(whole)
        writer.add("program/run/losses/d_and_g", _losses(kept))
        writer.add("program/run/picture/image", session.image)
        written = cv2.imread(str(whole / IMAGES / f"step{ITERATIONS - 1}" / "fake.png"))
        if written is not None:
            writer.add("program/run/picture/written", written)
        writer.fact("program_state", _state(kept))
        writer.fact("program_models", _models(whole, plan.spec))
        _ran(plan, stopped, ITERATIONS - 1)
        _ran(plan, stopped, ITERATIONS, resume=True)
        resumed = read_newest(stopped)
        writer.add("program/resumed/losses/d_and_g", _losses(resumed))
        writer.fact("program_resumed", _state(resumed))
