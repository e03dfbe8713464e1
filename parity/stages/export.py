"""Both ONNX exports as a stage.

Each file is checked in full, its graph and weights are compared with the article's and with its own
framework's, and what onnxruntime made of it (a capture of its own) with the framework's layers.
Whose a difference is, ``parity/blame`` says.
"""

import numpy as np

from captures.errors import CaptureError, DamageError
from captures.format import Capture
from parity.judge import judgements, metrics
from parity.judge.policies import EXACT, ONNX_LAYER
from parity.judge.policies import ONNX as POLICY
from parity.judge.results import Check, Stage
from parity.onnx.capture import exported_file
from parity.onnx.names import GraphError
from parity.onnx.structure import compare_state, compare_structure
from parity.stages.common import RUNTIME, Captures
from parity.stages.definition import Case, Definition, ExportCase, Needs

WHOSE = {"cntk": "CNTK's export", "port": "the port's export"}


def judge(stage: Stage, captures: Captures) -> None:
    moved = captures.port.facts.get("export_moved")
    if moved is not None:
        stage.checks.append(judgements.within(
            "networks/left/port_export", len(moved), EXACT,
            f"behind the export the port's networks are not what they were: {', '.join(moved[:3])}",
            local=True))
    for network in captures.spec.networks:
        for who in WHOSE:
            _one_export(stage, captures, network.name, who)


def _one_export(stage: Stage, captures: Captures, network: str, who: str) -> None:
    """The checks of one file."""
    capture, ran = captures.of(who), captures.of(RUNTIME + who)
    assert capture is not None and ran is not None  # the stage needs them
    try:
        if capture.facts.get("export_failed"):
            raise GraphError(f"the export failed: {capture.facts['export_failed']}")
        path = exported_file(capture, network)
        checks, notes = compare_structure(path, network, captures.spec,
                                          int(captures.plan["minibatch_size"]))
        stage.checks += [_named(one, who) for one in checks]
        stage.notes += [f"{WHOSE[who]} of the {network}: {note}" for note in notes]
        stage.checks += [_named(one, who) for one in compare_state(
            path, network, state_of(capture), captures.spec)]
        run = ran.facts["graphs"][network]
        if run["error"]:
            raise GraphError(run["error"])
    except GraphError as error:
        stage.checks.append(judgements.missing(f"{network}/{who}_export/graph", str(error)))
        return
    stage.notes += [f"{WHOSE[who]} of the {network}: {note}" for note in run["notes"]]
    _layers(stage, captures, network, who, capture)


def _layers(stage: Stage, captures: Captures, network: str, who: str, capture: Capture) -> None:
    """onnxruntime's layers against the framework's own; the last is the plain run's output."""
    own, made = native(capture, network), of_runtime(captures, network, who)
    last = next(reversed(made), "")
    for layer, array in made.items():
        place = f"{network}/{layer}/{who}_export"
        if layer not in own or own[layer].shape != array.shape:
            stage.checks.append(judgements.missing(place, "the framework has no such output"))
            continue
        size = max(1.0, metrics.rms(own[layer]))
        nudge = captures.nudge(f"{captures.spec.branch_of(network)}/{layer}/output")["largest"]
        stage.checks.append(judgements.within_nudges(
            place, metrics.largest_absolute(array, own[layer]) / size, nudge / size,
            POLICY if layer == last else ONNX_LAYER,
            detail=f"onnxruntime on {WHOSE[who]} differs from the framework itself",
            figures={"largest_absolute": metrics.largest_absolute(array, own[layer]),
                     "ulp": metrics.ulp(array, own[layer])}))


def _named(one: Check, who: str) -> Check:
    return Check(f"{one.place}_{who}_export", **{key: value for key, value in vars(one).items()
                                                if key != "place"})


def native(capture: Capture, network: str) -> dict[str, np.ndarray]:
    """Layer to output in evaluation mode, as the framework itself computes it."""
    prefix, made = f"forward/evaluation/{capture.spec.branch_of(network)}", {}
    for name in capture.names(prefix):
        try:
            made[name.split("/")[0]] = capture[f"{prefix}/{name}"]
        except DamageError:
            raise
        except CaptureError:
            continue  # the forward stage names it
    return made


def of_runtime(captures: Captures, network: str, who: str) -> dict[str, np.ndarray]:
    """Layer to what onnxruntime made of one side's export, NaN too; nothing where it did not run.
    """
    ran, prefix = captures.of(RUNTIME + who), f"onnx/{network}"
    return {} if ran is None else {name.split("/")[0]: ran.as_it_is(f"{prefix}/{name}")
                                   for name in ran.names(prefix)}


def state_of(capture: Capture) -> dict[str, np.ndarray]:
    return {name: capture[f"state/{name}"] for name in capture.names("state")}


def _case(check: Check) -> Case:
    return ExportCase()


ONNX = Definition(
    "onnx", "both exports: graph, weights, and every layer in onnxruntime",
    "exact; 2e-6 at the output, or nudges", judge,
    {"cntk": Needs(("state", "forward/evaluation"), (), ("*.onnx",)),
     "port": Needs(("state", "forward/evaluation")), "oracle": Needs(("forward/evaluation",)),
     **{RUNTIME + who: Needs(facts=("graphs",)) for who in WHOSE}},
    ("evaluation",), _case)
