"""The training program itself: what it writes, and whether a run that was stopped goes on as if it
had not been.

The program's own run of a few iterations is held against itself: its state and log against those of
the port's steps alone (which the twin run judges), each picture against the images that it was made
of, the models against the last state, the run that was stopped against the one that was not. Where
real CNTK's training from the same seed is there, log and state are held against that: bits where
the port has them, the first iteration's losses where it has not.
"""
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from captures.format import Capture
from captures.training.pictures import GRID_COLUMNS
from parity.judge import judgements
from parity.judge.policies import EXACT, FIRST_LOSS, STEP_G_LOSS, WRITTEN
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, array_or_failure, arrays_or_failure
from parity.stages.definition import Definition, only
from parity.stages.in_step import LOSSES, order
from parity.stages.twin import differing

RUN, RESUMED = "program/run/losses/d_and_g", "program/resumed/losses/d_and_g"
STEPS, EVENTS = "program/steps/losses/d_and_g", "program/run/events/d_and_g"
PICTURE, SAMPLES = "program/run/picture", "program/run/samples"
APART = "program/resumed/state/apart"
SHRINK = 2  # each side of the grid's pictures


def judge(stage: Stage, captures: Captures) -> None:
    facts, critic = captures.port.facts, captures.spec.critic.name
    if APART in captures.port:
        stage.checks += went_on(captures)
        if not captures.port.names(PICTURE):
            return
    stage.checks.append(picture(captures))
    if "program_resumed" not in facts:
        stage.notes.append("The picture alone: no run of the training program is there, with its "
                           "log, its models and a stop on the way.")
        return
    state = facts["program_state"]
    cntk = _of_cntk(captures)
    theirs = cntk.facts["state_hashes"][_iterations(captures) - 1:][:1] if cntk else []
    stage.checks.append(_same(
        "run", critic, state, theirs[0] if theirs else facts.get("program_steps", {}),
        "behind the program's run is not CNTK's state" if theirs
        else "behind the program's run is not what the port's steps make alone"))
    stage.checks += log(captures, cntk)
    stage.checks.append(samples(captures))
    # A model file holds what is learnt and counted, not what the optimizer remembers.
    models = {name: value for name, value in state.items()
              if not name.endswith(("_m", "_v", "/learner/minibatches"))}
    stage.checks.append(_same("models", critic, facts["program_models"], models,
                              "the model files have not the run's last state"))
    stage.checks.append(_same("resumed", critic, facts["program_resumed"], state,
                              "a run that was stopped and goes on is not the run that was not"))
    stage.checks.append(_bits("resumed/log/losses", captures, RESUMED, RUN))
    stage.notes.append("A few iterations of the training program, and once more with a stop before "
                       "the last.")


def _iterations(captures: Captures) -> int:
    return captures.port.shape(STEPS)[0] if STEPS in captures.port else 0


def _of_cntk(captures: Captures) -> Capture | None:
    """CNTK's training from the same seed, where it is there and the port has its bits."""
    cntk, port = (captures.twins.get(who) for who in ("cntk", "port"))
    if cntk is None or port is None or differing(cntk, port, 0):
        return None
    return cntk if cntk.facts.get("state_hashes") and _iterations(captures) else None


def _bits(place: str, captures: Captures, ours: str, theirs: str) -> Check:
    both = arrays_or_failure(place, (captures.port, theirs), (captures.port, ours))
    return both if isinstance(both, Check) else judgements.same_bits(place, both[1], both[0])


def _same(where: str, critic: str, ours: Mapping[str, str], wanted: Mapping[str, str], said: str
          ) -> Check:
    """Every array's hash; the first in order is named."""
    wrong = sorted((name for name in {**wanted, **ours} if ours.get(name) != wanted.get(name)),
                   key=partial(order, critic))
    return judgements.within(
        f"{where}/{wrong[0]}" if wrong else f"{where}/state/bits", len(wrong), EXACT,
        f"{said}: {len(wrong)} of {len(wanted)} arrays, the first in order {', '.join(wrong[:3])}")


def went_on(captures: Captures) -> Iterator[Check]:
    """A user's training that was saved and loaded: one iteration later, every array's bits."""
    names = [name for network in captures.spec.networks for name in network.arrays]
    apart = array_or_failure(captures.port, APART)
    if isinstance(apart, Check) or len(apart) != len(names):
        yield apart if isinstance(apart, Check) else judgements.missing(
            "resumed/state/bits", f"{len(apart)} arrays of {len(names)}")
        return
    wrong = [name for name, one in zip(names, apart, strict=True) if one]
    yield judgements.within(
        f"resumed/{wrong[0]}" if wrong else "resumed/state/bits", len(wrong), EXACT,
        f"a training that was saved, loaded and went on is not the one that was not stopped: "
        f"{len(wrong)} of {len(names)} arrays: save what the optimizers and networks hold, "
        "state_dict() of each")


def picture(captures: Captures) -> Check:
    """Bytes B, G, R of an image in [-1, 1]: (x + 1) * 127.5, to the nearest."""
    return _written(captures, "picture", f"{PICTURE}/image", lambda image: image)


def samples(captures: Captures) -> Check:
    """The same of the grid: row by row, each side halved."""
    def grid(images: np.ndarray) -> np.ndarray:
        n, channels, height, width = images.shape
        small = images.reshape(
            n, channels, height // SHRINK, SHRINK, width // SHRINK, SHRINK).mean((3, 5))
        rows = n // GRID_COLUMNS
        made: np.ndarray = small.reshape((rows, GRID_COLUMNS, *small.shape[1:])).transpose(
            2, 0, 3, 1, 4).reshape(channels, rows * small.shape[2], -1)
        return made
    return _written(captures, "samples", f"{SAMPLES}/images", grid)


def _written(captures: Captures, what: str, name: str,
             arranged: Callable[[np.ndarray], np.ndarray]) -> Check:
    place = f"run/{what}/written"
    image, written = (array_or_failure(captures.port, one)
                      for one in (name, f"program/run/{what}/written"))
    if isinstance(image, Check) or isinstance(written, Check):
        return judgements.missing(place, f"the program's {what} is not there, or cannot be read")
    bytes_ = (arranged(image.astype(np.float64)).transpose(1, 2, 0) + 1) * 127.5
    wanted = np.clip(bytes_, 0, 255)
    if written.shape != wanted.shape:
        return judgements.other_shape(place, written, wanted)
    off = float(np.abs(written - wanted).max())
    return judgements.within(
        place, max(0.0, off - 0.5), WRITTEN, f"a pixel of the written {what} is {off:.3g} steps of "
        "its 255 from what it was made of")


def log(captures: Captures, cntk: Capture | None) -> Iterator[Check]:
    """The log's losses against CNTK's, where the port has their bits and as far as they go; else
    against those of the port's steps, and the first iteration's against CNTK's. The events hold the
    log's in float32."""
    both = arrays_or_failure("run/log/losses", (captures.port, RUN), (captures.port, STEPS))
    if isinstance(both, Check):
        yield both
        return
    ours, wanted = both
    other = captures.twins.get("cntk")
    theirs = array_or_failure(other, LOSSES) if other is not None else wanted[:0]
    if isinstance(theirs, Check):
        theirs = wanted[:0]  # the twin run's stage names it
    if cntk is not None:
        wanted = np.concatenate([theirs[:len(wanted)], wanted[len(theirs):]])
    yield judgements.same_bits("run/log/losses", ours, wanted)
    if cntk is None and len(theirs) and len(ours):
        yield from _first(ours[0], theirs[0])
    events = array_or_failure(captures.port, EVENTS, finite=False)
    yield events if isinstance(events, Check) else judgements.same_bits(
        "run/events/losses", events, ours.astype(np.float32))


def _first(ours: np.ndarray, theirs: np.ndarray) -> Iterator[Check]:
    for column, (name, policy) in enumerate((("D_loss", FIRST_LOSS), ("G_loss", STEP_G_LOSS))):
        apart = abs(float(ours[column]) / float(theirs[column]) - 1)
        yield judgements.within(f"run/log/{name}", apart, policy,
                                f"the log's first {name} is {ours[column]:.9g}, CNTK's "
                                f"{theirs[column]:.9g}")


PROGRAM = Definition(
    "program", "the training program: its state, log, events, pictures and models, and a run that "
               "was stopped and goes on", "exact; the picture to the nearest byte", judge,
    only("port", arrays=("program",)), ("program",))
