"""The training program itself: what it writes, and whether a run that was stopped goes on as if it
had not been.

The program's own run of a few iterations is held against itself: the picture against the image that
it was made of, the models against the last state, the run that was stopped against the one that was
not. Where real CNTK's training from the same seed is there, the log is held against that: bits
where the port has them, the first iteration's losses where it has not.
"""
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from parity.judge import judgements
from parity.judge.policies import EXACT, FIRST_LOSS, STEP_G_LOSS, WRITTEN
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, array_or_failure, arrays_or_failure
from parity.stages.definition import Definition, only
from parity.stages.in_step import LOSSES, order
from parity.stages.twin import differing

RUN, RESUMED = "program/run/losses/d_and_g", "program/resumed/losses/d_and_g"
PICTURE = "program/run/picture"


def judge(stage: Stage, captures: Captures) -> None:
    stage.checks.append(picture(captures))
    facts, critic = captures.port.facts, captures.spec.critic.name
    if "program_resumed" not in facts:
        stage.notes.append("The picture alone: no run of the training program is there, with its "
                           "log, its models and a stop on the way.")
        return
    stage.checks += log(captures)
    state = facts["program_state"]
    # A model file holds what is learnt and counted, not what the optimizer remembers.
    models = {name: value for name, value in state.items()
              if not name.endswith(("_m", "_v", "/learner/minibatches"))}
    stage.checks.append(_same("models", critic, facts["program_models"], models,
                              "the model files have not the run's last state"))
    stage.checks.append(_same("resumed", critic, facts["program_resumed"], state,
                              "a run that was stopped and goes on is not the run that was not"))
    both = arrays_or_failure("resumed/log/losses", (captures.port, RUN), (captures.port, RESUMED))
    stage.checks.append(both if isinstance(both, Check)
                        else judgements.same_bits("resumed/log/losses", both[1], both[0]))
    stage.notes.append("A few iterations of the training program, and once more with a stop before "
                       "the last.")


def _same(where: str, critic: str, ours: Mapping[str, str], wanted: Mapping[str, str], said: str
          ) -> Check:
    """Every array's hash; the first in order is named."""
    wrong = sorted((name for name in {**wanted, **ours} if ours.get(name) != wanted.get(name)),
                   key=partial(order, critic))
    return judgements.within(
        f"{where}/{wrong[0]}" if wrong else f"{where}/state/bits", len(wrong), EXACT,
        f"{said}: {len(wrong)} of {len(wanted)} arrays, the first in order {', '.join(wrong[:3])}")


def picture(captures: Captures) -> Check:
    """Bytes B, G, R of an image in [-1, 1]: (x + 1) * 127.5, to the nearest."""
    place = "run/picture/written"
    image, written = (array_or_failure(captures.port, f"{PICTURE}/{name}")
                      for name in ("image", "written"))
    if isinstance(image, Check) or isinstance(written, Check):
        return judgements.missing(place, "the program's picture is not there, or cannot be read")
    wanted = np.clip((image.astype(np.float64).transpose(1, 2, 0) + 1) * 127.5, 0, 255)
    if written.shape != wanted.shape:
        return judgements.other_shape(place, written, wanted)
    off = float(np.abs(written - wanted).max())
    return judgements.within(
        place, off, WRITTEN, f"a pixel of the written picture is {off:.3g} steps of its 255 from "
        "the image that it was made of")


def log(captures: Captures) -> Iterator[Check]:
    """The log's losses against CNTK's training, where that is there."""
    ours, cntk = array_or_failure(captures.port, RUN), captures.twins.get("cntk")
    if isinstance(ours, Check):
        yield ours
        return
    theirs = array_or_failure(cntk, LOSSES) if cntk is not None else None
    if theirs is None or isinstance(theirs, Check) or not len(theirs):
        return
    port = captures.twins.get("port")
    if port is not None and not differing(cntk, port, 0):  # type: ignore[arg-type]
        count = min(len(ours), len(theirs))
        yield judgements.same_bits("run/log/losses", ours[:count], theirs[:count])
        return
    for column, (name, policy) in enumerate((("D_loss", FIRST_LOSS), ("G_loss", STEP_G_LOSS))):
        apart = abs(float(ours[0, column]) / float(theirs[0, column]) - 1)
        yield judgements.within(f"run/log/{name}", apart, policy,
                                f"the log's first {name} is {ours[0, column]:.9g}, CNTK's "
                                f"{theirs[0, column]:.9g}")


PROGRAM = Definition(
    "program", "the training program: its log, picture and models, and a run that was stopped and "
               "goes on", "exact; the picture to the nearest byte", judge,
    only("port", arrays=(PICTURE,)), ("program",))
