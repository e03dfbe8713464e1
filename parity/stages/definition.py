"""What a stage is: its name, what it needs, how it is judged, and what reproduces its failures.

A stage is one file with a ``Definition`` in it and one line in ``registry.py``. Everything that
depends on the list of stages is derived from the registry: the order, the command line's choices,
which parts of the port's capture are made, when a planted defect is looked for, and the README's
table.
"""
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain

from captures.format import Capture
from parity.judge.policies import PRESENT
from parity.judge.results import Check, Stage
from parity.stages.common import TWIN, WHO, Captures, Lack, has_file

# What of a port's capture is made by which part of its program, in the order in which they run.
NO_LINE = "no line: "  # what an adapter cannot name
PARTS = ("seed", "evaluation", "training", "g_step", "steps", "program")


@dataclass(frozen=True)
class Needs:
    """What a stage has to find in one capture. arrays: prefixes, of each at least one array.
    facts: names. files: attached to it."""

    arrays: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArrayCase:
    """Two arrays that differ: names in CNTK's capture and in the port's; the first pair that both
    captures have is the case."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class LayerCase:
    """One layer of a forward pass on CNTK's own input, made anew from CNTK's weights."""

    prefix: str
    branch: str
    layer: str


@dataclass(frozen=True)
class ExportCase:
    """A layer of an exported graph, found by the four corners."""


Case = ArrayCase | LayerCase | ExportCase


def array_case(prefix: str, *others: str) -> Callable[[Check], Case]:
    """The failed check's place under ``prefix``, or under one of ``others``; on the layer's own
    inputs first where the check was of that."""
    def case(check: Check) -> Case:
        pairs = [(f"{one}/{check.place}", f"{one}/{check.place}") for one in (prefix, *others)]
        if check.local:
            pairs.insert(0, (f"{prefix}/{check.place}", f"local/{prefix}/{check.place}"))
        return ArrayCase(tuple(pairs))
    return case


@dataclass(frozen=True)
class Definition:
    """One stage.

    name: as the command line and the report have it. title: a line for people. how: how closely it
    compares, for the README. judge: fills in the checks; called where everything needed is there.
    needs: role ("cntk", "port", "oracle", "twin-cntk" ...) to what has to be in that capture.
    parts: of ``PARTS``, what the port's program has to make. case: a failed check to what
    reproduces it.
    """

    name: str
    title: str
    how: str
    judge: Callable[[Stage, Captures], None]
    needs: Mapping[str, Needs]
    parts: tuple[str, ...] = ()
    case: Callable[[Check], Case] | None = None

    @property
    def twins(self) -> bool:
        """Whether the twin run has to be made for it."""
        return any(role.startswith(TWIN) for role in self.needs)

    def made(self) -> Stage:
        """The stage without checks yet."""
        return Stage(self.name, self.title)

    def __call__(self, captures: Captures) -> Stage:
        """The stage of these captures: its checks, or why it is not judged."""
        begun = time.monotonic()
        stage = self.made()
        lack = self.lacking(captures)
        if lack:
            captures.lacks[self.name] = lack
            stage.not_judged = lack.reason
        else:
            self.judge(stage, captures)
            if self.needs:  # that which needs nothing is about what stopped
                self._stopped(stage, captures)
            captures.judged.append(self.name)
        stage.seconds = time.monotonic() - begun
        return stage

    def _stopped(self, stage: Stage, captures: Captures) -> None:
        """What a port that stopped did not come to is no difference: the stage ``whole`` fails, and
        names where it stopped and why."""
        stopped = captures.port.facts.get("stopped")
        own = captures.port.facts.get("stopped_stages", {}).get(self.name)
        lost = [one for one in stage.checks if not one.passed and one.policy == PRESENT.name]
        if own or (stopped and lost):
            captures.lacks[self.name] = Lack("port", f"the port stopped: {own or stopped}", True)
        if not stopped or not lost:
            return
        stage.checks = [one for one in stage.checks if one not in lost]
        said = f"the port stopped before it came to {lost[0].place}"
        stage.notes.append(f"{said} and {len(lost) - 1} more: {stopped}")
        if not stage.checks:
            stage.not_judged = said

    def lacking(self, captures: Captures) -> Lack | None:
        """The first thing that is needed and not there."""
        for role in self.needs:
            found = self._lacking(captures, role)
            if found:
                return found
        return None

    def _lacking(self, captures: Captures, role: str) -> Lack | None:
        capture, who = captures.of(role), WHO.get(role, role)
        line = captures.port.facts.get("not_given", {}).get(self.name)
        gone = self._gone(self.needs[role], capture) if capture is not None else ""
        if line and role not in ("cntk", "oracle") and (capture is None or gone):
            return Lack(role, line.removeprefix(NO_LINE) if line.startswith(NO_LINE) else
                        f"the adapter does not say: add `{line}`")
        if capture is None:
            return captures.absent.get(role) or Lack(role, f"there is no capture of {who}")
        if gone:
            return self._why(role, capture, f"the capture of {who} has no {gone}")
        before = captures.outdated(role)
        return Lack(role, f"{who} was made from another {before}: run the comparison again"
                    ) if before else None

    @staticmethod
    def _gone(needs: Needs, capture: Capture) -> str:
        """The first thing that the capture has not; "" where it has all."""
        return next(chain(
            (f"array {one}/..." for one in needs.arrays if not capture.names(one)),
            (f"fact {one}" for one in needs.facts if one not in capture.facts),
            (f"file {one}" for one in needs.files if not has_file(capture, one))), "")

    def _why(self, role: str, capture: Capture, reason: str) -> Lack:
        if capture.facts.get("stopped"):
            own = capture.facts.get("stopped_stages", {}).get(self.name)
            return Lack(role, f"{reason}: {WHO.get(role, role)} stopped: "
                              f"{own or capture.facts['stopped']}", True)
        made = capture.facts.get("parts", PARTS)
        left = [part for part in self.parts if part not in made] if role != "cntk" else []
        if left:
            return Lack(role, f"{reason}: it was made without its part {left[0]!r}")
        return Lack(role, reason, role != "cntk")


def only(*roles: str, **needs: tuple[str, ...]) -> dict[str, Needs]:
    """The same needs of several captures."""
    return dict.fromkeys(roles, Needs(**needs))

