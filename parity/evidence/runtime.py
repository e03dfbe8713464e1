"""onnxruntime on the files that a changed port exported, in this process."""
from pathlib import Path

from captures.files import plan_file
from captures.format import Capture
from captures.plan import Plan
from parity.onnx.capture import write
from parity.onnx.names import Perturb
from parity.stages.common import RUNTIME, Captures


def ran(reference: Path, folder: Path, side: str, exported: Capture,
        perturb: Perturb | None = None) -> Capture:
    """The capture of onnxruntime on one side's exports, written into ``folder``. reference: where
    the plan and CNTK's capture are."""
    write(folder, Plan.load(str(plan_file(reference))), side, exported,
          Capture(reference / "cntk"), perturb=perturb)
    return Capture(folder)


def captures_with(reference: Path, port: Path) -> Captures:
    """A port's capture beside the reference's, and what onnxruntime makes of both exports."""
    ours, name = Capture(port), f"{RUNTIME}port"
    return Captures(Capture(reference / "cntk"), ours, Capture(reference / "oracle"), made={
        f"{RUNTIME}cntk": Capture(reference / f"{RUNTIME}cntk"),
        name: ran(reference, port.with_name(name), "port", ours)})
