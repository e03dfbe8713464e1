"""What a plant is, and the list of all.

A mistake says beside its code what is expected of the suite:

    @mistake("momentum-0.9", OPTIMIZER, "Adam's usual momentum.", "optimizer", "matrix/step01")
    def momentum() -> None:
        number("MOMENTUM", 0.5, 0.9)

stage and place are regular expressions that have to match in full what the suite names first. A
mistake in a layer must be named at that layer. One in what all layers share (the normalisation's
arithmetic, the seeds, the optimizer) must be named at the first layer or parameter that it spoils,
in the order of the network; backwards, where gradients are concerned. A pattern is not wider than
that: naming another layer counts as wrong.
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

Apply = Callable[[], None]
Decorated = Callable[[Apply], Apply]

# Kinds, in the order of the page that lists them, and what is in each.
GEOMETRY = "geometry"
NORMALISATION = "batch normalisation"
OPTIMIZER = "optimizer"
LOSSES = "losses and activations"
INITIAL = "initialisation"
DATA = "data"
WEIGHTS = "weights"
ONNX = "ONNX"
RUNTIME = "runtime"
BEHAVIOUR = "behaviour"
ONE_LAYER = "one layer"
BETWEEN = "between backward and step"
LATE = "late in training"
OPTIONS = "options"
FILES = "files"
RESUMED = "resumed runs"
KINDS = {
    GEOMETRY: "convolutions: padding, cropping, kernels, biases",
    NORMALISATION: "statistics, their update, and what shares them",
    OPTIMIZER: "Adam, its rates, and clipping",
    LOSSES: "what is non-linear, and what is learnt from",
    INITIAL: "the initial weights",
    DATA: "the reader, and what the network makes of a pixel",
    WEIGHTS: "arrays that come in wrong",
    ONE_LAYER: "one layer, one channel, one filter, one sample",
    BETWEEN: "gradients that something happens to, and parameters that are left out",
    LATE: "what goes wrong from some iteration on",
    OPTIONS: "options that are ignored, or used for something else",
    FILES: "what a run writes: pictures and models",
    RESUMED: "runs that were stopped and go on",
    ONNX: "exported files",
    RUNTIME: "a runtime that computes something else",
    BEHAVIOUR: "a port that raises, is killed, or leaves something out",
}
TRAINING_STAGE = "twin"  # iteration by iteration


def at(iteration: int, place: str) -> str:
    """The pattern of a place in a training run: the iteration, from 1, and what of it."""
    return f"iteration{iteration:04d}/({place})"


# Who may be blamed: the report's words.
PORT, PORT_EXPORTER, CNTK_EXPORTER, RUNTIME_AT_FAULT = (
    "port", "the port's exporter", "CNTK's exporter", "runtime")


@dataclass(frozen=True)
class Plant:
    """name: of words and hyphens. what: one sentence. apply: replaces the parts."""

    name: str
    what: str
    apply: Apply


@dataclass(frozen=True)
class Export:
    """A mistake in a copy of an exported file, or in what runs it, that is none of the port's.

    export: "cntk" or "port", whose file; network: which of the two. change: of the graph; perturb:
    ``(layer, array) -> array``, what the runtime makes of a layer's output."""

    export: str
    network: str
    change: Callable[[onnx.ModelProto], None] | None = None
    perturb: Callable[[str, np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Mistake(Plant):
    """stage, place: where it has to be named; blame: who has to be. plan: values of the plan that
    it needs, where they are not the ordinary ones. limit: why it cannot be seen in a port without
    CNTK's bits, and what was measured; "" where it can. exported: in place of ``apply``."""

    kind: str
    stage: str
    place: str
    blame: str = PORT
    plan: Mapping[str, int] = field(default_factory=dict)
    limit: str = ""
    exported: Export | None = None


CORRECT: dict[str, Plant] = {}
MISTAKES: dict[str, Mistake] = {}


def correct(name: str, what: str) -> Decorated:
    """Registers a correct port: other roundings, no other formula."""
    def register(apply: Apply) -> Apply:
        CORRECT[name] = Plant(name, what, apply)
        return apply
    return register


def mistake(name: str, kind: str, what: str, stage: str, place: str, *, blame: str = PORT,
            limit: str = "", **plan: int) -> Decorated:
    """Registers a mistake; limit: as in ``Mistake``. Raises ValueError where the name is taken."""
    def register(apply: Apply) -> Apply:
        if name in MISTAKES:
            raise ValueError(f"there are two mistakes called {name}")
        MISTAKES[name] = Mistake(name, what, apply, kind, stage, place, blame, plan, limit)
        return apply
    return register


def exported(name: str, kind: str, what: str, place: str, blame: str, export: Export) -> Mistake:
    """A mistake in an exported file or its runtime; ``EXPORTED`` of its module lists it."""
    return Mistake(name, what, lambda: None, kind, "onnx", place, blame, exported=export)
