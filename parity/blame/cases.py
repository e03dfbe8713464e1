"""TODO."""
from pathlib import Path

import numpy as np

from captures.errors import CaptureError
from parity.blame.reproduction import write_array_reproduction, write_layer_reproduction
from parity.judge.results import Check, Report, Stage
from parity.onnx.names import GraphError
from parity.stages import common, export
from parity.stages.registry import PREFIX


def reproduction(report: Report, captures: common.Captures,
                 exports: export.Exports | None, folder: Path) -> str:
    """The first failure as a small folder with a script that shows it; "" where there is none."""
    found = report.first_failure
    if found is None:
        return ""
    stage, check = found
    try:
        if stage.name == "onnx" and exports is not None:
            made = exports.reproduction(folder)
            return str(made) if made else ""
        return str(_case(stage, check, captures, folder) or "")
    except (CaptureError, GraphError, ValueError, KeyError, OSError) as error:
        return f"(no folder: {error})"


def _case(stage: Stage, check: Check, captures: common.Captures, folder: Path) -> Path | None:
    prefix = PREFIX.get(stage.name, stage.name)
    place = check.place
    if stage.name.startswith("forward/") and check.local:
        branch, layer, _ = place.split("/")
        return _layer_case(prefix, branch, layer, captures, folder, check)
    for ours in ([f"local/{prefix}/{place}"] if check.local else []) + [f"{prefix}/{place}"]:
        for theirs in (f"{prefix}/{place}", f"input/reader/{place}"):
            if theirs in captures.cntk and ours in captures.port:
                return write_array_reproduction(folder, place, captures.cntk[theirs],
                                                captures.port[ours], 0.0, what=check.detail)
    if f"input/reader/{place}" in captures.cntk and f"input/reader/{place}" in captures.port:
        name = f"input/reader/{place}"
        return write_array_reproduction(folder, place, captures.cntk[name], captures.port[name],
                                        0.0, what=check.detail)
    return None


def _layer_case(prefix: str, branch: str, layer: str, captures: common.Captures, folder: Path,
                check: Check) -> Path:
    """The layer on CNTK's own input, made anew from CNTK's weights, as judge."""
    network = branch.split("_")[0]
    order = [name.split("/")[1] for name in captures.cntk.names(prefix)
             if name.startswith(f"{branch}/")]
    at = order.index(layer)
    pixels = False
    if at:
        taken = captures.cntk[f"{prefix}/{branch}/{order[at - 1]}/output"]
    elif branch == "generator":
        taken = captures.cntk["input/d_step/latents"]
    elif branch == "discriminator_real":
        taken, pixels = captures.cntk["input/reader/images"], True
    else:
        taken = captures.cntk[f"{prefix}/generator/tanh7/output"]
    theirs = captures.cntk[f"{prefix}/{branch}/{layer}/output"]
    ours = captures.port[f"local/{prefix}/{branch}/{layer}/output"]
    oracle_error = float(np.max(np.abs(theirs - captures.oracle[
        f"local/{prefix}/{branch}/{layer}/output"])))
    allowed = max(oracle_error, float(np.max(np.abs(theirs))) * 1e-6)
    return write_layer_reproduction(
        folder, network, layer, taken, ours, theirs, export.state_of(captures.cntk), allowed,
        training=prefix.endswith("training"), pixels=pixels, what=check.detail)
