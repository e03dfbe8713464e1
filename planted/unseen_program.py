"""Mistakes in the training program, its files and its stops, by an author who had read the port and
none of the checks."""
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from captures.training.log import Log
from captures.training.session import Session
from planted.parts import method, replace
from planted.plant import (
    FILES,
    NORMALISATION,
    ONNX,
    OPTIONS,
    RESUMED,
    mistake,
)
from planted.program import restored
from torch_port import dcgan, onnx_export
from torch_port.batch_norm import BatchNormalization
from torch_port.reader.augmentation import augmentation_draws
from torch_port.reader.reader import ImageReader
from torch_port.train import outputs
from torch_port.train.run import Run


def _none(_: object) -> None:
    """For a lambda that is to give nothing."""


# --------------------------------------------------------------------- the program, and its files


@mistake("threshold-lost-on-going-on", RESUMED, "A run that goes on does not clip any more.",
         "program", "resumed/discriminator/.*")
def threshold_lost() -> None:
    restored(lambda run: [optimizer.param_groups[0].update(clip_per_sample=float("inf"))
                          for _, optimizer in run.optimizers()].clear())


@mistake("colours-begin-anew-on-going-on", RESUMED,
         "The augmentation's generators begin anew when a run goes on.",
         "program", "resumed/discriminator/.*")
def colours_begin_anew() -> None:
    from_step: WeakKeyDictionary[ImageReader, int] = WeakKeyDictionary()
    method(ImageReader, "draws", lambda self, step: [
        augmentation_draws(position, step - from_step.get(self, 0), self.color_radii)
        for position in range(self.minibatch_size)])

    def change(run: Run) -> None:
        from_step[run.reader] = run.reader.step
    restored(change)


def _generate(change: Callable[[nn.Module], None], after: Callable[[nn.Module], None]) -> None:
    def generate(self: Run, z: np.ndarray) -> np.ndarray:
        generator = self.networks.generator
        change(generator)
        with torch.no_grad():
            made = generator(torch.from_numpy(z))
        after(generator)
        return np.array(made.numpy())
    method(Run, "generate", generate)


@mistake("samples-move-the-statistics", FILES,
         "The grid of samples is made in training mode, and so moves the running statistics.",
         "program", "run/generator/bn1/.*")
def samples_move_the_statistics() -> None:
    _generate(lambda generator: _none(generator.train()), _none)


@mistake("evaluation-mode-behind-the-samples", FILES,
         "The grid of samples leaves the generator in evaluation mode.",
         "program", "run/.*")
def evaluation_mode_behind() -> None:
    _generate(lambda generator: _none(generator.eval()), _none)


@mistake("samples-by-the-minibatchs-statistics", FILES,
         "The grid of samples is normalised by its own statistics; nothing else moves.",
         "program", "run/samples/written")
def samples_by_the_minibatch() -> None:
    kept: dict[str, Tensor] = {}

    def begin(generator: nn.Module) -> None:
        kept.update({name: value.clone() for name, value in generator.state_dict().items()})
        generator.train()
    _generate(begin, lambda generator: _none(generator.load_state_dict(kept)))


@mistake("log-of-six-digits", FILES, "dcgan.csv has six digits of each loss; checkpoints have all.",
         "program", "run/log/.*")
def log_of_six_digits() -> None:
    def add(self: Log, g_loss: float, d_loss: float) -> None:
        self.rows.append((len(self.rows) + 1, float(g_loss), float(d_loss)))
        if self._file is not None:
            self._file.write(f"{len(self.rows)},{g_loss:.6g},{d_loss:.6g}\n")
            self._file.flush()
    method(Log, "add", add)


@mistake("events-exchanged", FILES, "TensorBoard's events have D's loss as G's.", "program",
         "run/events/losses")
def events_exchanged() -> None:
    before = outputs.events

    def events(folder: str, step: int) -> Any:
        made: Any = before(folder, step)
        add, other = made.add_scalar, {"G_loss": "D_loss", "D_loss": "G_loss"}
        made.add_scalar = lambda name, value, at_step: add(other[name], value, at_step)
        return made
    replace(outputs.events, events)


@mistake("export-leaves-evaluation-mode", ONNX,
         "Behind an export both networks are in evaluation mode.",
         "onnx", "networks/left/port_export")
def export_leaves_evaluation_mode() -> None:
    before = onnx_export.export

    def export(networks: dcgan.Networks, *others: Any, **options: Any) -> Any:
        made = before(networks, *others, **options)
        networks.eval()
        return made
    replace(onnx_export.export, export)


@mistake("warm-up-pass-moves-the-statistics", FILES,
         "Before the training program trains, the generator is run once, for a summary of it.",
         "program", "run/generator/bn1/.*")
def warm_up_pass() -> None:
    def begin(self: Any, trained: Any) -> None:
        if self.resumed is None and isinstance(trained, Run):
            with torch.no_grad():
                trained.networks.generator(torch.ones(
                    trained.minibatch_size, trained.networks.spec.maker.input[0]))
        before(self, trained)
    before = method(Session, "_begin", begin)


# ------------------------------------------- what the training program does, and its parts do not


def _begun(change: Callable[[Run], None]) -> None:
    """``change(run)`` where the training program begins, or goes on."""
    def begin(self: Session, trained: Any) -> None:
        before(self, trained)
        change(trained)
    before = method(Session, "_begin", begin)


@mistake("programs-rate-too-large", OPTIONS, "The training program's learning rate is 1 % more.",
         "program", "run/.*")
def programs_rate() -> None:
    def change(run: Run) -> None:
        for _, optimizer in run.optimizers():
            optimizer.param_groups[0]["lr"] *= 1.01
    _begun(change)


@mistake("program-leaves-out-every-third-update", OPTIONS,
         "The training program updates the generator in two of three iterations.",
         "program", "run/generator/.*")
def every_third_update() -> None:
    def change(run: Run) -> None:
        optimizer = run.generator_optimizer
        before = optimizer.step

        def step(*arguments: Any, **options: Any) -> None:
            (group,) = optimizer.param_groups
            if group["minibatches"] % 3 == 2:
                group["minibatches"] += 1
            else:
                before(*arguments, **options)
        optimizer.step = step  # type: ignore[method-assign]
    _begun(change)


@mistake("programs-statistics-stand", NORMALISATION,
         "In the training program the discriminator's running statistics do not move.",
         "program", "run/discriminator/bn2/.*")
def programs_statistics_stand() -> None:
    def change(run: Run) -> None:
        for module in run.networks.discriminator.modules():
            if isinstance(module, BatchNormalization):
                module._update_statistics = (  # type: ignore[method-assign]
                    lambda *arguments: None)
    _begun(change)
