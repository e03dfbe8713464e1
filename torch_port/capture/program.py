"""The training program itself, a few iterations of it, and once more stopped on the way: its log,
events, pictures, models and checkpoints.

The other parts look at networks and steps; this one at what a user gets. The run goes through the
program's own loop (``torch_port.train.loop``) and session, files and all, in a folder that is
removed again. Beside it the same iterations of the steps alone (``Run.iterations``, as the twin run
takes them): the program around them may change nothing.
"""
import contextlib
import io
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tensorboardX.proto.event_pb2 import Event

from captures import observe
from captures.errors import TrainingError
from captures.format import CaptureWriter
from captures.plan import Latents, Plan
from captures.spec import Spec
from captures.training.checkpoint import Checkpoint, read_newest
from captures.training.folder import EVENTS, IMAGES, SAMPLES
from captures.training.log import LOG, read_log
from captures.training.options import Settings
from captures.training.pictures import GRID_SAMPLES
from captures.training.session import Session, Trained
from captures.training.shapes import KEYS
from torch_port.capture.recorder import numbers
from torch_port.train import __main__ as command
from torch_port.train.loop import train
from torch_port.train.run import Run, model_file

ITERATIONS = 3
TAGS = ("D_loss", "G_loss")


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


def _losses(folder: Path) -> np.ndarray:
    """Of the log, as a user reads it; none where it cannot be read."""
    try:
        rows = read_log(folder / LOG)
    except TrainingError:
        rows = []
    return np.array([[d, g] for _, g, d in rows], np.float64).reshape(-1, 2)


def _events(folder: Path) -> np.ndarray:
    """Both losses of TensorBoard's events. A file is records: the length in 8 bytes, its CRC in 4,
    an event, its CRC in 4 (TFRecord, as tensorboardX writes it)."""
    losses = np.full((ITERATIONS, 2), np.nan, np.float32)
    for path in sorted((folder / EVENTS).glob("*tfevents*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            size = int.from_bytes(content[at:at + 8], "little")
            event = Event.FromString(content[at + 12:at + 12 + size])
            at += size + 16
            for value in event.summary.value:
                if value.tag in TAGS and 1 <= event.step <= ITERATIONS:
                    losses[event.step - 1, TAGS.index(value.tag)] = value.simple_value
    return losses


def _picture(writer: CaptureWriter, name: str, path: Path) -> None:
    written = cv2.imread(str(path))
    if written is not None:
        writer.add(f"program/run/{name}/written", written)


def _steps(writer: CaptureWriter, plan: Plan) -> None:
    """The same iterations, and the program's samples, without the program."""
    run = Run.from_seed(plan.seed, plan.map_file, plan.twin_minibatch_size, bool(plan.unit_gain),
                        spec=plan.spec)
    writer.add("program/steps/losses/d_and_g", np.array(
        [[d, g] for g, d, _ in itertools.islice(run.iterations(), ITERATIONS)], np.float64))
    writer.fact("program_steps", observe.hashes(run.arrays()))
    z = torch.from_numpy(Latents(plan.seed, plan.spec.maker.input[0]).next(GRID_SAMPLES))
    generator = run.networks.generator.eval()
    with torch.no_grad():
        writer.add("program/run/samples/images", np.concatenate(
            [numbers(generator(one)) for one in z.split(plan.twin_minibatch_size)]))


def program_part(writer: CaptureWriter, plan: Plan) -> None:
    with tempfile.TemporaryDirectory(prefix="training-") as home:
        whole, stopped = Path(home) / "whole", Path(home) / "stopped"
        session = _ran(plan, whole, ITERATIONS)
        writer.add("program/run/losses/d_and_g", _losses(whole))
        writer.add("program/run/events/d_and_g", _events(whole))
        writer.add("program/run/picture/image", session.image)
        _picture(writer, "picture", whole / IMAGES / f"step{ITERATIONS - 1}" / "fake.png")
        _picture(writer, "samples", whole / SAMPLES / f"iteration{ITERATIONS:07d}.png")
        writer.fact("program_state", _state(read_newest(whole)))
        writer.fact("program_models", _models(whole, plan.spec))
        _ran(plan, stopped, ITERATIONS - 1)
        _ran(plan, stopped, ITERATIONS, resume=True)
        writer.add("program/resumed/losses/d_and_g", _losses(stopped))
        writer.fact("program_resumed", _state(read_newest(stopped)))
    _steps(writer, plan)
