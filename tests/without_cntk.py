"""A reference without CNTK, of any networks: ``python -m tests.without_cntk FOLDER`` makes ``cntk``
(this project's port in its place) and ``oracle`` of the plan that lies there. No model files."""
import sys
from pathlib import Path

import numpy as np
import torch

from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from torch_port.capture.layers import Layers
from torch_port.dcgan import Networks, empty_networks
from torch_port.stand_in.job import make


class Oracle(Layers):
    """As the oracle; its state comes from the arrays, there being no files."""

    def networks(self, stage: str = "state") -> Networks:
        made = empty_networks(self.spec)
        made.load({name: self.reference[self._at(stage, name, "state")] for name in made.arrays()})
        return made.to(self.dtype)


def main(folder: Path) -> None:
    make(folder / "plan.json", folder / "cntk", None)
    plan = Plan.load(str(folder / "plan.json"))
    with CaptureWriter(str(folder / "oracle"), "oracle", plan, {
            "torch": torch.__version__, "numpy": np.__version__}, plan.threads) as writer:
        layers = Oracle(Capture(folder / "cntk"), plan, torch.float64, writer)
        layers.evaluation()
        layers.training_d()
        layers.training_g()
        layers.steps()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
