"""A whole training run from the seed alone: what it read, drew and moved, iteration by iteration.

Free, and in step. While the run has the reference's bits, hashes say so and nothing else is needed.
Where it has not had them behind the first iteration, every iteration begins at the reference's
state, and is compared with the reference's behind it (``captures/lockstep.py``).
"""
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from captures import movement, observe
from captures.article import MOMENTUM
from captures.format import CaptureWriter
from captures.lockstep import BITS, FREE, STEP, Follower
from captures.plan import Plan
from torch_port.capture.layers import load_optimizers, optimizer_values, values
from torch_port.capture.recorder import Note
from torch_port.train.run import Run

Arrays = dict[str, np.ndarray]


@dataclass
class Observed:
    """What is kept of a run, an entry for each iteration."""

    losses: list[list[float]] = field(default_factory=list)
    samples: list[np.ndarray] = field(default_factory=list)
    states: list[dict[str, str]] = field(default_factory=list)
    apart: list[list[tuple[float, ...]]] = field(default_factory=list)
    own: list[list[float]] = field(default_factory=list)
    minibatches: list[str] = field(default_factory=list)

    def add(self, D_loss: float, G_loss: float, arrays: Arrays) -> None:
        """Behind an iteration."""
        self.losses.append([D_loss, G_loss])
        self.samples.append(np.concatenate([
            observe.sampled(array) for name, array in arrays.items()
            if name.endswith(("/weight", "/scale", "/bias"))]))
        self.states.append(observe.hashes(arrays))

    def write(self, writer: CaptureWriter) -> None:
        writer.add("twin/run/losses/d_and_g", np.array(self.losses, np.float64))
        writer.add("twin/run/weights/sampled", np.array(self.samples, np.float32))
        # The reader reads ahead: one of these may be of an iteration that was not done.
        writer.fact("minibatch_sha256", self.minibatches[:len(self.losses)])
        writer.fact("state_hashes", self.states)


def state_of(run: Run) -> Arrays:
    """All that an iteration moves, under the captures' names."""
    optimizers = (run.generator_optimizer, run.discriminator_optimizer)
    return {**values(run.networks), **optimizer_values(run.networks, optimizers)}


def initial_state(held: Arrays, moved: Iterable[str]) -> Arrays:
    """Behind no iteration: the optimizers remember nothing yet. held: the networks' arrays then;
    moved: names of the state."""
    return {name: held[name] if name in held else np.zeros_like(
        held[name[:-2]]) if name.endswith(("_m", "_v")) else np.array(0, np.int64)
        for name in moved}


def set_state(run: Run, arrays: Arrays) -> None:
    """The reference's: the next iteration begins there."""
    shaped = {name: arrays[name].reshape(tuple(tensor.shape))
              for name, tensor in run.networks.arrays().items()}
    run.networks.load(shaped)
    load_optimizers(run.networks, (run.generator_optimizer, run.discriminator_optimizer),
                    {f"at/{name}": array for name, array in arrays.items()}, "at")


def _mode(first: dict[str, object], hashes: dict[str, str]) -> str:
    if not first:
        return FREE
    return BITS if all(first.get(name) == value for name, value in hashes.items()) else STEP


def observed_run(plan: Plan, seen: Observed) -> tuple[Run, observe.Watched]:
    """The run, whose minibatches' hashes go into ``seen``, and its latents, which keep theirs."""
    run = Run.from_seed(plan.seed, plan.map_file, plan.twin_minibatch_size, bool(plan.unit_gain),
                        spec=plan.spec)
    read = run.reader.minibatch

    def watched(step: int) -> Tensor:
        x = read(step)
        seen.minibatches.append(hashlib.sha256(x.numpy().tobytes()).hexdigest())
        return x

    run.reader.minibatch = watched  # type: ignore[method-assign]
    latents = observe.Watched(run.latents)
    run.latents = latents  # type: ignore[assignment]
    return run, latents


def _kept(before: Arrays, name: str) -> np.ndarray:
    """What would stand behind an iteration without a gradient, so that m moves by its gradient."""
    return before[name] * np.float32(MOMENTUM) if name.endswith("_m") else before[name]


def initial_hashes(begun: Arrays) -> dict[str, str]:
    return {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in begun.items()}


def twin_job(writer: CaptureWriter, plan: Plan, note: Note, beside: str | None = None) -> None:
    seen = Observed()
    run, latents = observed_run(plan, seen)
    begun = values(run.networks)
    writer.fact("initial_sha256", initial_hashes(begun))
    names: list[str] = []
    mode, before = "", {}
    follower, steps = Follower(beside), run.iterations()
    for i in range(plan.twin_iterations):
        note(f"port: twin run, iteration {i + 1} of {plan.twin_iterations}", i,
             plan.twin_iterations)
        G_loss, D_loss, _ = next(steps)
        arrays = state_of(run)
        if not names:
            names = list(arrays)
            before = initial_state(begun, names)
        seen.add(D_loss, G_loss, arrays)
        if not mode:
            mode = _mode(follower.first(), seen.states[0])
            if mode != FREE:
                follower.answer(mode)
        if mode == STEP:
            theirs = follower.behind(i + 1)
            if theirs is None:
                writer.fact("stopped", f"the reference's run ended behind iteration {i}")
                break
            seen.apart.append([observe.apart(arrays[name], theirs[name], _kept(before, name))
                               if name in theirs and theirs[name].size == arrays[name].size
                               else (np.nan,) * len(observe.APART) for name in names])
            by_m = movement.each_consistent(before, arrays, plan.twin_minibatch_size,
                                            bool(plan.unit_gain))
            seen.own.append([by_m.get(name, np.nan) for name in names])
            set_state(run, theirs)
            before = theirs
    seen.write(writer)
    if seen.apart:
        writer.add("twin/step/state/apart", np.array(seen.apart, np.float64))
        writer.add("twin/step/state/own", np.array(seen.own, np.float64))
        writer.fact("step_names", names)
    writer.fact("latents_hashes", latents.hashes)
    writer.fact("mode", mode or FREE)
