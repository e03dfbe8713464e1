"""onnxruntime as a producer: what it computes of one side's exported graphs, as a capture.

    onnx/NETWORK/LAYER/output    every layer, from what both frameworks evaluated

The graphs are files that CNTK's or the port's capture holds. What cannot be run is no error of this
program: the fact ``graphs`` says why.
"""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from captures.spec import Spec
from parity.onnx.names import AnyPath, GraphError, Perturb
from parity.onnx.runtime import Run, run

PRODUCER, JOB = "onnxruntime", "export"
Note = Callable[[str, int, int], None]


def input_name(spec: Spec, network: str) -> str:
    """The array of CNTK's capture that both frameworks evaluated: latents or pixels."""
    return "input/d_step/latents" if spec.maker.name == network else "input/reader/images"


def exported_file(capture: Capture, network: str) -> Path:
    """The exported file, which is checked; where there is none, a path that nothing lies at."""
    name = f"{network}.onnx"
    if name in capture.attached:
        return capture.attachment(name)
    return Path(capture.folder) / f"no {name} was attached"


def write(folder: AnyPath, plan: Plan, side: str, exported: Capture, reference: Capture,
          note: Note = lambda text, done, total: None, perturb: Perturb | None = None) -> None:
    """The capture. side: "cntk" or "port", whose files ``exported`` holds. reference: CNTK's.
    perturb: a runtime at fault, for tests.

    Raises CaptureError: one of the two was changed or is not whole. OSError.
    """
    import onnxruntime

    versions = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__,
                "numpy": np.__version__}
    made_from: dict[str, dict[str, str]] = {"cntk": {}, side: {}}
    graphs: dict[str, dict[str, object]] = {}
    with CaptureWriter(folder, PRODUCER, plan, versions, plan.threads, JOB) as writer:
        networks = exported.spec.networks
        for at, network in enumerate(one.name for one in networks):
            note(f"onnxruntime: {network} of {side}", at, len(networks))
            taken = input_name(exported.spec, network)
            made_from["cntk"][taken] = reference.checksum(taken)
            made_from[side][f"{network}.onnx"] = exported.checksum(f"{network}.onnx")
            try:
                done = _ran(exported, network, reference[taken], plan.threads, perturb)
            except GraphError as error:
                graphs[network] = {"error": str(error), "notes": []}
                continue
            graphs[network] = {"error": "", "notes": done.notes}
            for layer, array in done.layers.items():
                writer.add(f"onnx/{network}/{layer}/output", array)
        writer.fact("graphs", graphs)
        writer.fact("made_from", made_from)


def _ran(exported: Capture, network: str, taken: np.ndarray, threads: int,
         perturb: Perturb | None) -> Run:
    if exported.facts.get("export_failed"):
        raise GraphError(f"the export failed: {exported.facts['export_failed']}")
    return run(exported_file(exported, network), taken, threads, perturb, exported.spec)
