"""Both ONNX exports as a stage, and whose a difference is.

Each file is checked in full, its graph and weights are compared with the article's and with its own
framework's, and onnxruntime's layers with the framework's own. ``blame`` reads the four corners.
"""
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captures.errors import CaptureError
from captures.format import Capture
from parity.blame.corners import blame
from parity.blame.finding import Blame, Corners, measured_floor
from parity.blame.reproduction import write_reproduction
from parity.judge import judgements, metrics
from parity.judge.policies import NUDGE, ONNX_LAYER
from parity.judge.policies import ONNX as POLICY
from parity.judge.results import Check, Stage
from parity.onnx.names import GraphError, Perturb
from parity.onnx.runtime import Run, run
from parity.onnx.structure import compare_state, compare_structure
from parity.stages.common import Captures
from parity.stages.definition import Case, Definition, ExportCase, Needs


def input_of(captures: Captures, network: str) -> np.ndarray:
    """What both frameworks evaluated: latents or pixels."""
    made = captures.spec.maker.name == network
    return captures.cntk["input/d_step/latents" if made else "input/reader/images"]


@dataclass
class Exports:
    """stage: the checks. blames: per network, who is at fault; empty where nobody is."""

    stage: Stage
    blames: dict[str, Blame]
    corners: dict[str, Corners]
    graphs: dict[str, tuple[Path, Path]]
    states: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]

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


def compare(captures: Captures, perturb: dict[str, Perturb] | None = None) -> Exports:
    """perturb: a runtime at fault, for tests: "cntk" or "port" to a function of an output."""
    stage = ONNX.made()
    states = (state_of(captures.cntk), state_of(captures.port))
    made = Exports(stage, {}, {}, {}, states)
    for network in (one.name for one in captures.spec.networks):
        graphs = (_file(captures.cntk, network), _file(captures.port, network))
        made.graphs[network] = graphs
        layers: list[dict[str, np.ndarray]] = []
        for who, capture, path, state in zip(("cntk", "port"), (captures.cntk, captures.port),
                                             graphs, states, strict=True):
            layers.append(_one_export(stage, captures, network, who, capture, path, state,
                                      (perturb or {}).get(who)))
        corners = Corners(input_of(captures, network),
                          native(captures.cntk, network), native(captures.port, network),
                          layers[0], layers[1], native(captures.oracle, network), captures.spec)
        made.corners[network] = corners
        try:
            made.blames[network] = blame(network, corners, graphs[0], graphs[1], *states,
                                         tolerance=tolerance(captures))
        except GraphError as error:
            stage.checks.append(judgements.missing(f"{network}/blame/graph", str(error)))
    return made


def _file(capture: Capture, network: str) -> Path:
    """The exported file, which is checked; where there is none, a path that nothing lies at."""
    name = f"{network}.onnx"
    if name in capture.attached:
        return capture.attachment(name)
    return Path(capture.folder) / f"no {name} was attached"


def tolerance(captures: Captures) -> Callable[[str, np.ndarray], float]:
    """For ``blame``: its own floor, and four nudges where an output is ill-conditioned."""
    def allowed(place: str, right: np.ndarray) -> float:
        network, layer = place.split("/")
        nudge = captures.nudge(f"{captures.spec.branch_of(network)}/{layer}/output")["largest"]
        return max(measured_floor(place, right, captures.spec), NUDGE.value * nudge)
    return allowed


def _one_export(stage: Stage, captures: Captures, network: str, who: str, capture: Capture,
                path: Path, state: dict[str, np.ndarray], perturb: Perturb | None
                ) -> dict[str, np.ndarray]:
    """Adds the checks of one file; returns its layers, none where it does not run."""
    name = {"cntk": "CNTK's export", "port": "the port's export"}[who]
    try:
        if capture.facts.get("export_failed"):
            raise GraphError(f"the export failed: {capture.facts['export_failed']}")
        checks, notes = compare_structure(path, network, captures.spec,
                                          int(captures.plan["minibatch_size"]))
        stage.checks += [_named(one, who) for one in checks]
        stage.notes += [f"{name} of the {network}: {note}" for note in notes]
        stage.checks += [_named(one, who) for one in compare_state(path, network, state,
                                                                     captures.spec)]
        done: Run = run(path, input_of(captures, network), int(captures.plan["threads"]), perturb,
                        captures.spec)
    except GraphError as error:
        stage.checks.append(judgements.missing(f"{network}/{who}_export/graph", str(error)))
        return {}
    stage.notes += [f"{name} of the {network}: {note}" for note in done.notes]
    own = native(capture, network)
    for layer, array in done.layers.items():
        place = f"{network}/{layer}/{who}_export"
        if layer not in own or own[layer].shape != array.shape:
            stage.checks.append(judgements.missing(place, "the framework has no such output"))
            continue
        size = max(1.0, metrics.rms(own[layer]))
        nudge = captures.nudge(f"{captures.spec.branch_of(network)}/{layer}/output")["largest"]
        stage.checks.append(judgements.within_nudges(
            place, metrics.largest_absolute(array, own[layer]) / size, nudge / size,
            POLICY if array is done.output else ONNX_LAYER,
            detail=f"onnxruntime on {name} differs from the framework itself",
            figures={"largest_absolute": metrics.largest_absolute(array, own[layer]),
                     "ulp": metrics.ulp(array, own[layer])}))
    return done.layers


def _named(one: Check, who: str) -> Check:
    return Check(f"{one.place}_{who}_export", **{key: value for key, value in vars(one).items()
                                                if key != "place"})


def native(capture: Capture, network: str) -> dict[str, np.ndarray]:
    """Layer to output in evaluation mode, as the framework itself computes it."""
    prefix, made = f"forward/evaluation/{capture.spec.branch_of(network)}", {}
    for name in capture.names(prefix):
        try:
            made[name.split("/")[0]] = capture[f"{prefix}/{name}"]
        except CaptureError:
            continue  # the forward stage names it
    return made


def state_of(capture: Capture) -> dict[str, np.ndarray]:
    return {name: capture[f"state/{name}"] for name in capture.names("state")}


def judge(stage: Stage, captures: Captures) -> None:
    made = compare(captures)
    stage.checks, stage.notes = made.stage.checks, made.stage.notes
    captures.found["onnx"] = made


def _case(check: Check) -> Case:
    return ExportCase()


ONNX = Definition(
    "onnx", "both exports: graph, weights, and every layer in onnxruntime",
    "exact; 2e-6 at the output, or nudges", judge,
    {"cntk": Needs(("state", "forward/evaluation"), (), ("*.onnx",)),
     "port": Needs(("state", "forward/evaluation")), "oracle": Needs(("forward/evaluation",))},
    ("evaluation",), _case)
