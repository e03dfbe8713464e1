"""What stages share: the captures that are compared, and arrays out of them or the failed check."""
import fnmatch
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from captures.article import DCGAN
from captures.errors import CaptureError, DamageError
from captures.format import Capture
from captures.spec import Spec
from parity.judge import judgements
from parity.judge.results import Check

TWIN = "twin-"
RUNTIME = "onnx-"  # and whose export it ran
CLASSIFIER = "classifier"
WHO = {"cntk": "CNTK", "port": "the port", "oracle": "the float64 oracle",
       f"{RUNTIME}cntk": "onnxruntime on CNTK's export",
       f"{RUNTIME}port": "onnxruntime on the port's export",
       CLASSIFIER: "the classifier",
       f"{TWIN}cntk": "CNTK's twin run", f"{TWIN}port": "the port's twin run"}
# Role to the producers of its capture.
MADE_BY = {"cntk": ("cntk", "stand-in"), "port": ("port",), "oracle": ("oracle",),
           f"{RUNTIME}cntk": ("onnxruntime",), f"{RUNTIME}port": ("onnxruntime",),
           CLASSIFIER: (CLASSIFIER,),
           f"{TWIN}cntk": ("cntk", "stand-in"), f"{TWIN}port": ("port",)}


@dataclass(frozen=True)
class Lack:
    """Why something cannot be judged. role: whose capture lacks what is needed. fault: it was asked
    for, so that it is not there is that side's failure; False: it was not to be made."""

    role: str
    reason: str
    fault: bool = False


class Nothing(Capture):
    """In place of a capture that is not there: no arrays, no facts. like: one of the same plan."""

    def __init__(self, like: Capture | None = None) -> None:
        self.folder, self.producer, self.plan_hash = "", "", ""
        self.entries, self.facts, self.attached = {}, {}, {}
        self.spec = like.spec if like else DCGAN
        self.manifest = {"plan": like.manifest["plan"] if like else {}, "facts": {}, "arrays": {}}


class Shown(Capture):
    """A capture without the arrays that the other side says it cannot show: what a stage does not
    see it does not compare, and the report says how many that were and why."""

    def __init__(self, whole: Capture, absent: Mapping[str, str]) -> None:
        self.__dict__.update(whole.__dict__)
        self.whole = whole
        self.hidden = {name: why for name in whole for pattern, why in absent.items()
                       if fnmatch.fnmatchcase(name, pattern)}
        self.entries = {name: entry for name, entry in whole.entries.items()
                        if name not in self.hidden}

    def checksum(self, name: str) -> str:
        return self.whole.checksum(name)

    @property
    def lines(self) -> list[str]:
        """For the coverage, a line for each reason."""
        counts = Counter(self.hidden.values())
        return [f"{count} of CNTK's arrays were not compared: {why}"
                for why, count in counts.items()]


@dataclass
class Captures:
    """What is compared. ``cntk`` is the reference; ``oracle`` is this project's own model of CNTK's
    program in float64, whoever's port is judged.

    twins: "cntk", "port" and "rerun1" .. of the twin run; empty where it was not asked for. made:
    role to what was made of these captures: "onnx-cntk", "onnx-port", "classifier".
    absent: role to why its capture is not there. lacks: stage to why it could not be judged, as far
    as the stages before have come; judged: those that could. found: what a stage found besides its
    checks, by the stage's name. second: those of the second plan.
    """

    cntk: Capture
    port: Capture
    oracle: Capture
    twins: dict[str, Capture] = field(default_factory=dict)
    kinks: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)  # counted so far
    absent: dict[str, Lack] = field(default_factory=dict)
    lacks: dict[str, Lack] = field(default_factory=dict)
    judged: list[str] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Capture] = field(default_factory=dict)
    second: "Captures | None" = None  # of the second plan

    def of(self, role: str) -> Capture | None:
        """The capture of a role, ``twin-port`` say; None where there is none."""
        if role in self.absent:
            return None
        if role.startswith(TWIN):
            return self.twins.get(role.removeprefix(TWIN))
        return {"cntk": self.cntk, "port": self.port, "oracle": self.oracle, **self.made}.get(role)

    @property
    def all_of_cntk(self) -> Capture:
        """CNTK's capture with what the port cannot show too: to compute with, not to compare."""
        return self.cntk.whole if isinstance(self.cntk, Shown) else self.cntk

    @property
    def plan(self) -> Mapping[str, Any]:
        """The plan's inputs: of one plan all captures are."""
        found: Mapping[str, Any] = self.cntk.manifest["plan"]
        return found

    @property
    def spec(self) -> Spec:
        """The networks that the captures are of."""
        return self.cntk.spec

    def outdated(self, role: str) -> str:
        """What a capture was made from that is no longer there as it was; "" if all is."""
        capture = self.of(role)
        for source, names in capture.facts.get("made_from", {}).items() if capture else ():
            held = self.of(source)
            for name, checksum in names.items():
                if held is None or held.checksum(name) != checksum:
                    return f"{name} of {WHO.get(source, source)}"
        return ""

    def everything(self) -> Iterator[Capture]:
        """Every capture, those of the second plan too."""
        yield from (self.cntk, self.all_of_cntk, self.port, self.oracle, *self.twins.values(),
                    *self.made.values())
        if self.second is not None:
            yield from self.second.everything()

    def nudge(self, place: str) -> dict[str, float]:
        """How far CNTK's layer in evaluation mode moves with its inputs moved by one ULP: "error",
        a part of its size, and "largest", absolute. place: ``branch/layer/output``."""
        nothing = {"error": 0.0, "largest": 0.0}
        moved: dict[str, dict[str, float]] = self.cntk.facts.get("evaluation_nudged", {})
        return moved.get(place, nothing)

    def carried(self, place: str) -> float:
        """How far rounding moves an array of the oracle's own chain, as a part of its size; 0 where
        the oracle does not say. place: ``stage/branch/layer/output``, say."""
        moved: dict[str, float] = self.oracle.facts.get("carried_rounding", {})
        return moved.get(place, 0.0)


def has_file(capture: Capture, name: str) -> bool:
    """Whether the capture has an attached file of this name, or pattern of names."""
    return bool(fnmatch.filter(capture.attached, name))


def array_or_failure(capture: Capture, name: str, finite: bool = True) -> np.ndarray | Check:
    """finite: NaN and infinity are a failure too. Raises DamageError, which is nobody's failure."""
    try:
        return capture[name] if finite else capture.as_it_is(name)
    except DamageError:
        raise
    except CaptureError as error:
        return judgements.missing(name, str(error))


def arrays_or_failure(place: str, *wanted: tuple[Capture, str]) -> list[np.ndarray] | Check:
    """All of the arrays, or the failed check of the first that cannot be had, at ``place``."""
    arrays = []
    for capture, name in wanted:
        found = array_or_failure(capture, name)
        if isinstance(found, Check):
            return judgements.missing(place, found.detail)
        arrays.append(found)
    return arrays


def pairs(reference: Capture, other: Capture, prefix: str, place: str = ""
          ) -> Iterator[tuple[str, np.ndarray, np.ndarray] | Check]:
    """(name without the prefix, the reference's array, the other's); a Check for what one lacks.

    place: the other's prefix, if it is another."""
    place = place or prefix
    ours, theirs = reference.names(prefix), other.names(place)
    for name in [*ours, *(name for name in theirs if name not in set(ours))]:
        found = arrays_or_failure(name, (reference, f"{prefix}/{name}"),
                                  (other, f"{place}/{name}"))
        yield found if isinstance(found, Check) else (name, found[0], found[1])


def compared_bits(reference: Capture, other: Capture, prefix: str, local: bool | None = None
                  ) -> list[Check]:
    """Every array under a prefix has the reference's bits."""
    return [pair if isinstance(pair, Check) else
            judgements.same_bits(pair[0], pair[2], pair[1], local=local)
            for pair in pairs(reference, other, prefix)]
