"""What blame looks at and what it says: four corners, findings, a verdict."""
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from captures.article import DCGAN
from captures.spec import Spec
from parity.judge.policies import CORNER
from parity.onnx.graph import Graph
from parity.onnx.names import Array

Layers = Mapping[str, Array]
State = Mapping[str, Array]
# Place, "network/layer", and the array that is right, to the largest absolute difference allowed.
Tolerance = Callable[[str, Array], float]

PORT, RUNTIME = "port", "runtime"
CNTK_EXPORTER, PORT_EXPORTER = "CNTK's exporter", "the port's exporter"
CHANNELS = 2


def measured_floor(place: str, right: Array, spec: Spec = DCGAN) -> float:
    """The tolerance where none is given: four times what float32 corners were measured apart."""
    size = float(np.max(np.abs(right))) if right.size else 0.0
    network, layer = place.split("/")[:2]
    if layer in spec.network(network).unbounded:
        size = max(size, 1.0)  # a logit or a pixel may be near 0, the terms of its sum are not
    return CORNER.value * size


@dataclass(frozen=True)
class Corners:
    """One network's layers in evaluation, layer -> N x C x H x W, and what went in: z or pixels.

    A run that failed is an empty mapping; a layer that an export has folded away is missing.
    """

    input: Array
    cntk: Layers
    port: Layers
    cntk_onnx: Layers
    port_onnx: Layers
    oracle: Layers = field(default_factory=dict)
    spec: Spec = DCGAN


@dataclass(frozen=True)
class Finding:
    """One fault.

    word: who. layer: where, "graph" if in no one layer. detail: why, one sentence. measured,
    allowed: in that layer, 0 where only the graph was looked at. place: of the check that failed.
    export: whose export was looked at, in the same words.
    """

    word: str
    layer: str
    detail: str
    measured: float = 0.0
    allowed: float = 0.0
    place: str = ""
    export: str = ""


@dataclass(frozen=True)
class Blame:
    """The verdict. word: "port", "CNTK's exporter", "the port's exporter", "runtime", or "" where
    nothing disagrees."""

    network: str
    findings: tuple[Finding, ...] = ()

    @property
    def word(self) -> str:
        return self.findings[0].word if self.findings else ""

    @property
    def layer(self) -> str:
        return self.findings[0].layer if self.findings else ""

    @property
    def detail(self) -> str:
        return self.findings[0].detail if self.findings else ""

    def __str__(self) -> str:
        return f"{self.word}: {self.network}/{self.layer}: {self.detail}" if self.findings else ""


@dataclass(frozen=True)
class _Outside:
    layer: str
    measured: float
    allowed: float


def distance(a: Array, b: Array) -> float:
    """Largest absolute difference; infinite between different shapes, and where one is NaN."""
    if a.shape != b.shape:
        return math.inf
    apart = float(np.max(np.abs(np.asarray(a, np.float64) - b))) if a.size else 0.0
    return math.inf if math.isnan(apart) else apart


def _worst(right: Array, other: Array) -> tuple[int, list[int]]:
    """The sample and the two channels in which two arrays differ most."""
    if right.shape != other.shape:
        return 0, list(range(min(CHANNELS, other.shape[1] if other.ndim > 1 else 1)))
    apart = np.abs(np.asarray(right, np.float64) - other)
    apart = np.where(np.isnan(apart), np.inf, apart).reshape(*right.shape[:2], -1).max(axis=2)
    sample = int(np.argmax(apart.max(axis=1)))
    return sample, sorted(np.argsort(apart[sample])[::-1][:CHANNELS].tolist())


def _one(graph: Graph, array: Array, sample: int) -> Array:
    """One sample, as often as the file's minibatch asks for."""
    return array[[sample] * (graph.batch or 1)]


def _input_of(graph: Graph, i: int, first_input: Array, layers: Layers) -> Array:
    return first_input if i == 0 else layers[graph.layers[i - 1].name]
