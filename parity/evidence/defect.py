"""TODO."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx

from parity.blame.finding import PORT

KINDS = {
    "geometry": "convolutions: padding, cropping, kernels, biases",
    "batch normalisation": "statistics, their update, and what shares them",
    "optimizer": "Adam, its rates, and clipping",
    "losses and activations": "what is non-linear, and what is learnt from",
    "initialisation": "the initial weights",
    "data": "the reader, and what the network makes of a pixel",
    "weights": "arrays that come in wrong",
    "ONNX": "exported files",
    "runtime": "a runtime that computes something else",
}


class Edit(NamedTuple):
    """``old`` becomes ``new`` in a file of torch_port, where it stands ``times`` times."""

    file: str
    old: str
    new: str
    times: int = 1


@dataclass(frozen=True)
class Defect:
    """name: of words and hyphens. what: one sentence, what was done wrong. stage, place: regular
    expressions for where it has to be named. blame: who has to be."""

    name: str
    kind: str
    what: str
    stage: str
    place: str
    edits: tuple[Edit, ...] = ()
    export: str = ""
    network: str = ""
    graph: Callable[[onnx.ModelProto], None] | None = None
    perturb: Callable[[str, np.ndarray], np.ndarray] | None = None
    blame: str = PORT

    def __reduce_ex__(self, protocol: Any) -> Any:
        """To the process that examines it: functions do not travel, names do."""
        if not (self.graph or self.perturb):
            return super().__reduce_ex__(protocol)
        from parity.evidence.catalogue.port import named
        return named, (self.name,)
