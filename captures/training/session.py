"""One training in one folder: what both programs do around their steps. Plain Python 3.6.

    with Session(settings, program) as session:           # lock, data, what to go on from
        for step, images in session.run(trained, steps):  # log, checkpoints, signals, grids
            ...                                           # what the program does with images

``trained`` is what learns (see ``Trained``); ``steps`` yields (G_loss, D_loss, images) after
each iteration. Whatever ends the run, the folder holds its last whole iteration, or one not older
than the last checkpoint where the process was killed.
"""
import contextlib
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from captures.errors import DataError, TrainingError
from captures.files import written_whole
from captures.plan import Latents
from captures.spec import Spec
from captures.training import checkpoint as checkpoints
from captures.training import folder as run_folder
from captures.training.checkpoint import Arrays, Checkpoint
from captures.training.data import data_identity
from captures.training.finite import NotFiniteError, spoilt_layer
from captures.training.identity import changed, refuse_changes
from captures.training.log import LOG, Log
from captures.training.options import OF_THE_CALL, Settings
from captures.training.pictures import GRID_SAMPLES, grid, pixels
from captures.training.progress import Progress
from captures.training.shapes import KEYS, identity, layers, shapes
from captures.training.signals import Signals, Stopped

Images = np.ndarray


class Trained:
    """What a program trains: the interface that the session needs. Networks, optimizers, reader and
    stream of latents, all made from the settings alone."""

    latents: Latents

    def arrays(self) -> Arrays:
        """Weights, statistics, Adam's m, v and counters under the checkpoint's names."""
        raise NotImplementedError

    def restore(self, arrays: Arrays, iteration: int, say: Callable[[str], None]) -> None:
        """Takes them, and moves the reader to the minibatch behind that iteration."""
        raise NotImplementedError

    def generate(self, z: np.ndarray) -> Images:
        """G(z) in evaluation mode; moves nothing."""
        raise NotImplementedError

    def save_models(self, folder: Path) -> None:
        """What the program leaves at the end."""
        raise NotImplementedError


class Program(NamedTuple):
    """identity: what of this program decides a run's bits, next to the settings; encode: bytes
    H x W x 3 (B, G, R) as a PNG; events: a TensorBoard writer for a folder, from a step on."""

    name: str
    spec: Spec
    identity: Dict[str, Any]
    versions: Dict[str, str]
    encode: Callable[[np.ndarray], bytes]
    events: Callable[[str, int], Any]


class Session:
    def __init__(self, settings: Settings, program: Program,
                 say: Optional[Callable[[str], None]] = None) -> None:
        self.settings, self.program = settings, program
        self.folder = Path(settings.output_dir)
        self.signals = Signals()
        self.log = Log(self.folder / LOG)
        self.resumed: Optional[Checkpoint] = None
        self.record: Dict[str, Any] = {}
        self.changes: List[Dict[str, Any]] = []
        self.progress: Optional[Progress] = None
        self._say = (lambda text: None) if settings.quiet or say is None else say
        self._stack = contextlib.ExitStack()
        self._identity: Dict[str, Any] = {}

    @property
    def done(self) -> int:
        return len(self.log.rows)

    def say(self, text: str) -> None:
        if self.progress is None:
            self._say(text)
        else:
            self.progress.say(text)

    @contextlib.contextmanager
    def printing(self) -> Iterator[None]:
        """Something else prints to stdout: not through the progress on a terminal."""
        if self.progress is not None:
            self.progress.clear()
        yield
        sys.stdout.flush()

    # ----------------------------------------------------------------- before anything is trained

    def __enter__(self) -> "Session":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.signals)
            stack.enter_context(run_folder.locked(self.folder))
            self._prepare()
            self._stack = stack.pop_all()
        return self

    def _prepare(self) -> None:
        if self.settings.resume:
            checkpoints.clear_up(self.folder)
            self._check_what_is_there()
        elif not self.settings.overwrite:
            run_folder.refuse_a_run(self.folder, self.program.name)
        self._identity = {
            "program": self.program.name, "seed": self.settings.seed,
            "minibatch_size": self.settings.minibatch_size, "unit_gain": self.settings.unit_gain,
            "data": data_identity(self.settings.map_file),
            "network": identity(self.program.spec), **self.program.identity}
        count = self._identity["data"]["images"]
        if count < self.settings.minibatch_size:
            raise TrainingError(
                "%s names %d images, fewer than the %d of one minibatch: add images, or give a "
                "smaller --minibatch-size" % (self.settings.map_file, count,
                                              self.settings.minibatch_size))
        if self.settings.resume:
            self._find_checkpoint()
        self._check_room()
        if self.settings.overwrite:
            run_folder.delete_run(self.folder)

    def _check_what_is_there(self) -> None:
        run = run_folder.read_run(self.folder)
        if run is None and not checkpoints.found(self.folder):
            raise TrainingError("output folder %s holds no run to go on with: begin without "
                                "--resume" % self.folder)
        done = run_folder.iterations_in(self.folder) or 0
        if run is not None and run["iterations"] > self.settings.iterations:
            raise TrainingError("the run in %s has done %d iterations, %d are asked for: give "
                                "--iterations of at least that" % (
                                    self.folder, max(done, run["iterations"]),
                                    self.settings.iterations))

    def _find_checkpoint(self) -> None:
        if not checkpoints.found(self.folder):
            self.say("no checkpoint was written before the run ended: it begins anew")
            return
        checkpoint = checkpoints.read_newest(self.folder, self.say)
        differing = changed(checkpoint.identity, self._identity)
        refuse_changes(differing, self.settings.accept, checkpoint)
        checkpoints.check_arrays(checkpoint, shapes(self.program.spec))
        if checkpoint.iteration > self.settings.iterations:
            raise TrainingError("the run in %s has done %d iterations, %d are asked for: give "
                                "--iterations of at least that" % (
                                    self.folder, checkpoint.iteration, self.settings.iterations))
        self.changes = [*checkpoint.changes, *(
            {"what": one.what, "from": one.theirs, "to": one.ours,
             "behind iteration": checkpoint.iteration, "time": run_folder.now()}
            for one in differing)]
        for change in self.changes:
            self.say("this run was changed behind iteration %d: %s is %s, it was %s" % (
                change["behind iteration"], change["what"], change["to"], change["from"]))
        self.resumed = checkpoint

    def _check_room(self) -> None:
        floats = sum(int(np.prod(shape)) for shape in shapes(self.program.spec).values())
        left = self.settings.iterations - (self.resumed.iteration if self.resumed else 0)
        run_folder.check_room(self.folder, 4 * floats + 2 ** 20, 2 * floats,
                              left // self.settings.image_interval,
                              left // self.settings.samples_every)

    # --------------------------------------------------------------------------------- the training

    def run(self, trained: Trained, iterations: Iterator[Tuple[float, float, Any]]
            ) -> Iterator[Tuple[int, Any]]:
        """Goes on until all iterations are done: yields (step from 0, images) after each.

        Raises Stopped after a signal, TrainingError where a loss is not finite."""
        self._begin(trained)
        self.progress = Progress(self.settings.iterations, self.done, self.settings.minibatch_size,
                                 quiet=self.settings.quiet)
        due = _Due(self.settings, self.done)
        try:
            while self.done < self.settings.iterations:
                self.signals.hear()
                with self.signals.held():
                    g_loss, d_loss, images = self._next(trained, iterations)
                    self.log.add(g_loss, d_loss)
                    self._events.add_scalar("G_loss", g_loss, self.done)
                    self._events.add_scalar("D_loss", d_loss, self.done)
                    self.progress.update(self.done, d_loss, g_loss)
                    yield self.done - 1, images
                    if self.done == 1 or self.done % self.settings.samples_every == 0 \
                            or self.done == self.settings.iterations:
                        self.write_samples(trained)
                    if due.now(self.done) and self.done < self.settings.iterations:
                        self.keep(trained, "running")
                        self.progress.restart()
            self._end(trained, "finished")
        except (Stopped, DataError) as reason:  # an image is read before anything else is done
            self._end(trained, "stopped by %s" % getattr(reason, "name", reason))
            raise
        finally:
            self.progress.close()

    def _begin(self, trained: Trained) -> None:
        if self.resumed is not None:
            trained.restore(self.resumed.arrays, self.resumed.iteration, self.say)
            checkpoints.restore_latents(trained.latents, self.resumed)
        rows = self.resumed.rows if self.resumed else []
        self.log.begin(rows)
        self._stack.callback(self.log.close)
        self._events = self.program.events(str(self.folder / run_folder.EVENTS), len(rows) + 1)
        self._stack.callback(self._events.close)
        before = run_folder.read_run(self.folder) if self.settings.resume else None
        settings = {name: value for name, value in self.settings._asdict().items()
                    if name not in OF_THE_CALL}
        self.record = {
            "program": self.program.name, "status": "running", "iterations": self.done,
            "settings": settings, "identity": self._identity, "changes": self.changes,
            "versions": self.program.versions,
            "machine": {"processor": platform.machine(), "system": platform.platform(),
                        "processors": os.cpu_count()},
            "starts": [*(before or {}).get("starts", []),
                       {"time": run_folder.now(), "behind iteration": self.done}]}
        run_folder.write_run(self.folder, self.record)

    def _next(self, trained: Trained, iterations: Iterator[Tuple[float, float, Any]]
              ) -> Tuple[float, float, Any]:
        try:
            return next(iterations)
        except NotFiniteError as error:
            raise self._not_finite(trained.arrays(), "%s in iteration %d" % (
                error.what, self.done + 1))

    def _not_finite(self, arrays: Arrays, what: str) -> TrainingError:
        kept = checkpoints.found(self.folder)
        self.record.update(status="not finite", iterations=self.done)
        run_folder.write_run(self.folder, self.record)
        return TrainingError("%s; it began in %s. %s" % (
            what, spoilt_layer(arrays, layers(self.program.spec)) or "the losses",
            "The last good checkpoint is %s: go on from it with --resume, and look at the data and "
            "the learning rate if it comes again" % kept[0] if kept else
            "There is no checkpoint from before: look at the data and the learning rate"))

    def keep(self, trained: Trained, status: str) -> None:
        """A checkpoint of now. Raises TrainingError: a weight is not finite; OSError: no room."""
        arrays = trained.arrays()
        if spoilt_layer(arrays, layers(self.program.spec)) is not None:
            raise self._not_finite(arrays, "weights are not finite behind iteration %d" % self.done)
        place = checkpoints.latents_state(trained.latents)
        arrays[KEYS] = place.pop("keys")
        if self.done:
            checkpoints.write_checkpoint(self.folder, Checkpoint(
                self.done, self._identity, place, arrays, self.log.rows, self.changes))
        self.record.update(status=status, iterations=self.done, time=run_folder.now(),
                           weights_sha256=checkpoints.weights_sha256(arrays))
        run_folder.write_run(self.folder, self.record)

    def _end(self, trained: Trained, status: str) -> None:
        self.keep(trained, status)
        if self.done:
            trained.save_models(self.folder)

    # --------------------------------------------------------------------------------- the pictures

    def write_image(self, step: int, image: np.ndarray) -> None:
        """``dcgan_image/step<N>/fake.png``; image 3 x H x W in [-1, 1], channels B, G, R."""
        path = self.folder / run_folder.IMAGES / ("step%d" % step) / "fake.png"
        self._write_picture(path, pixels(image))

    def write_samples(self, trained: Trained) -> None:
        """``samples/iteration<N>.png``: G of 16 latents that stay the same."""
        images = trained.generate(
            Latents(self.settings.seed, self.program.spec.maker.input[0]).next(GRID_SAMPLES))
        self._write_picture(
            self.folder / run_folder.SAMPLES / ("iteration%07d.png" % self.done), grid(images))

    def _write_picture(self, path: Path, picture: np.ndarray) -> None:
        with written_whole(path) as part:
            part.write_bytes(self.program.encode(picture))

    def __exit__(self, *_: Any) -> None:
        self._stack.close()


class _Due:
    """Whether a checkpoint is due: every so many iterations or minutes."""

    def __init__(self, settings: Settings, done: int) -> None:
        self._every = settings.checkpoint_iterations or None
        self._seconds = settings.checkpoint_minutes * 60 or None
        self._time = time.time()

    def now(self, done: int) -> bool:
        late = self._seconds is not None and time.time() - self._time >= self._seconds
        if late or (self._every is not None and done % self._every == 0):
            self._time = time.time()
            return True
        return False
