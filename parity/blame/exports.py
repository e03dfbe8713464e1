"""Whose a difference between exports is: the four corners, out of captures."""
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from parity.blame.corners import blame
from parity.blame.finding import Blame, Corners, measured_floor
from parity.blame.reproduction import write_reproduction
from parity.judge.policies import NUDGE
from parity.onnx.capture import exported_file, input_name
from parity.onnx.names import GraphError
from parity.stages.common import Captures
from parity.stages.export import native, of_runtime, state_of


@dataclass
class Exports:
    """Of each network: who is at fault (no findings where nobody is), and what was looked at."""

    blames: dict[str, Blame] = field(default_factory=dict)
    corners: dict[str, Corners] = field(default_factory=dict)
    graphs: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    states: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = field(
        default_factory=lambda: ({}, {}))

    @property
    def word(self) -> str:
        return next((found.word for found in self.blames.values() if found.word), "")

    def reproduction(self, folder: Path) -> Path | None:
        """The first failing case as a small folder, or None where there is none."""
        for network, found in self.blames.items():
            if found.findings:
                return write_reproduction(folder, found, self.corners[network],
                                          *self.graphs[network], *self.states)
        return None


def of_exports(captures: Captures) -> Exports:
    """Both networks. One whose file cannot be read at all has no blame."""
    made = Exports(states=(state_of(captures.cntk), state_of(captures.port)))
    for network in (one.name for one in captures.spec.networks):
        made.graphs[network] = (exported_file(captures.cntk, network),
                                exported_file(captures.port, network))
        made.corners[network] = Corners(
            captures.cntk[input_name(captures.spec, network)],
            native(captures.cntk, network), native(captures.port, network),
            of_runtime(captures, network, "cntk"), of_runtime(captures, network, "port"),
            native(captures.oracle, network), captures.spec)
        try:
            made.blames[network] = blame(network, made.corners[network], *made.graphs[network],
                                         *made.states, tolerance=tolerance(captures))
        except GraphError:
            continue  # the stage says so
    return made


def tolerance(captures: Captures) -> Callable[[str, np.ndarray], float]:
    """``blame``'s own floor, and four nudges where an output is ill-conditioned."""
    def allowed(place: str, right: np.ndarray) -> float:
        network, layer = place.split("/")
        nudge = captures.nudge(f"{captures.spec.branch_of(network)}/{layer}/output")["largest"]
        return max(measured_floor(place, right, captures.spec), NUDGE.value * nudge)
    return allowed
