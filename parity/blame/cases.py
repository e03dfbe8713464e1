"""The first failure of a report as a small folder with a script that shows it."""
from pathlib import Path

import numpy as np

from captures.errors import CaptureError, DamageError
from parity.blame.exports import Exports
from parity.blame.reproduction import (
    OnItsOwn,
    write_array_reproduction,
    write_layer_reproduction,
)
from parity.judge.policies import REPRODUCED
from parity.judge.results import Check, Report
from parity.onnx.names import GraphError
from parity.stages import common, export
from parity.stages.definition import Case, ExportCase, LayerCase
from parity.stages.registry import STAGES


def reproduction(report: Report, captures: common.Captures, exports: Exports | None, folder: Path
                 ) -> str:
    """Where the folder is; "" where there is nothing to show. exports: where one of these failed.
    Raises DamageError."""
    found = report.first_failure
    if found is None:
        return ""
    stage, check = found
    definition = next((one for one in STAGES if one.name == stage.name), None)
    if definition is None or definition.case is None:
        return ""
    try:
        return str(_written(definition.case(check), check, captures, exports, folder) or "")
    except DamageError:
        raise
    except (CaptureError, GraphError, ValueError, KeyError, OSError) as error:
        return f"(no folder: {error})"


def _written(case: Case, check: Check, captures: common.Captures, exports: Exports | None,
             folder: Path) -> Path | None:
    if isinstance(case, ExportCase):
        return exports.reproduction(folder) if exports is not None else None
    if isinstance(case, LayerCase):
        return _layer_case(case.prefix, case.branch, case.layer, captures, folder, check)
    for theirs, ours in case.pairs:
        if theirs in captures.cntk and ours in captures.port:
            return write_array_reproduction(folder, check.place, captures.cntk[theirs],
                                            captures.port[ours], 0.0, what=check.detail)
    return None


def _layer_case(prefix: str, branch: str, layer: str, captures: common.Captures, folder: Path,
                check: Check) -> Path:
    """The layer on CNTK's own input, made anew from CNTK's weights, as judge."""
    spec = captures.spec
    network = spec.network(branch).name
    order = [name.split("/")[1] for name in captures.cntk.names(prefix)
             if name.startswith(f"{branch}/")]
    at = order.index(layer)
    pixels = False
    if at:
        taken = captures.cntk[f"{prefix}/{branch}/{order[at - 1]}/output"]
    elif branch == spec.maker.name:
        taken = captures.cntk["input/d_step/latents"]
    elif branch == spec.real:
        taken, pixels = captures.cntk["input/reader/images"], True
    else:
        taken = captures.cntk[f"{prefix}/{spec.maker.name}/{spec.maker.last}/output"]
    theirs = captures.cntk[f"{prefix}/{branch}/{layer}/output"]
    ours = captures.port[f"local/{prefix}/{branch}/{layer}/output"]
    oracle_error = float(np.max(np.abs(theirs - captures.oracle[
        f"local/{prefix}/{branch}/{layer}/output"])))
    allowed = max(oracle_error, float(np.max(np.abs(theirs))) * REPRODUCED.value)
    return write_layer_reproduction(
        folder, OnItsOwn(network, layer, taken, ours, theirs, allowed,
                         training=prefix.endswith("training"), pixels=pixels),
        export.state_of(captures.cntk), check.detail, spec)
