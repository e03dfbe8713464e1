"""TODO."""
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from captures.errors import CaptureError
from captures.format import Capture
from parity.judge import judgements
from parity.judge.results import Check


@dataclass
class Captures:
    """What is compared. ``cntk`` is the reference, ``oracle`` the port in float64.

    twins: "cntk", "port" and "rerun1" .. of the twin run; empty where it was not asked for.
    """

    cntk: Capture
    port: Capture
    oracle: Capture
    twins: dict[str, Capture] = field(default_factory=dict)
    kinks: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)  # counted so far

    @property
    def onednn(self) -> bool:
        return bool(self.cntk.manifest["plan"]["onednn"])

    def nudge(self, place: str) -> dict[str, float]:
        """How far CNTK's layer in evaluation mode moves with its inputs moved by one ULP: "error",
        a part of its size, and "largest", absolute. place: ``branch/layer/output``."""
        nothing = {"error": 0.0, "largest": 0.0}
        return self.cntk.facts.get("evaluation_nudged", {}).get(place, nothing)


def array_or_failure(capture: Capture, name: str) -> np.ndarray | Check:
    try:
        return capture[name]
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
