"""The layers of a pass, each on what really went into it: the port's own, or CNTK's.

    for step in forward(captures, "forward/training", local=True): step.case, step.given

``local`` takes the arrays of ``local/...``, where each layer was given CNTK's tensors. Else what
went into a layer is what the port's own layer before it gave, so that a layer that computes rightly
from a wrong input is right.
"""
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from captures.spec import NORMALISATION, Branch, Layer, Spec
from parity.diagnosis.arithmetic import Floats
from parity.diagnosis.evidence import Case, read, rms
from parity.diagnosis.given import Given, right
from parity.stages.common import Captures

EVALUATION, TRAINING, G_STEP = "forward/evaluation", "forward/training", "forward/g_step"


@dataclass(frozen=True)
class Step:
    """One layer of one branch. place: of its output, ``branch/layer/output``."""

    place: str
    network: str
    layer: Layer
    given: Given
    case: Case


@dataclass(frozen=True)
class Pass:
    """A pass of both networks: which arrays of which capture it reads."""

    captures: Captures
    prefix: str
    local: bool

    @property
    def spec(self) -> Spec:
        return self.captures.spec

    def output(self, branch: str, layer: str) -> Floats | None:
        """What the port's layer gave."""
        return read(self.captures.port, f"{'local/' * self.local}{self.prefix}/{branch}/{layer}"
                      "/output")

    def theirs(self, branch: str, layer: str) -> Floats | None:
        return read(self.captures.all_of_cntk, f"{self.prefix}/{branch}/{layer}/output")

    def into(self, branch: Branch, layer: Layer) -> Floats | None:
        """What went into a layer; None where that was not captured."""
        network = self.spec.network(branch.name)
        before = network.before(layer.name)
        if before:
            return (self.theirs if self.local else self.output)(branch.name, before)
        step = "g_step" if self.prefix == G_STEP else "d_step"
        if branch.source == "latents":
            z = read(self.captures.all_of_cntk, f"input/{step}/latents")
            return None if z is None else z.reshape(len(z), *layer.input)
        if branch.source == "pixels":
            pixels = self.pixels()
            return None if pixels is None else (pixels - self.spec.middle) * float(
                np.float32(1 / self.spec.middle))
        maker = self.spec.maker
        own = None if self.local else self.output(branch.source, maker.last)
        return self.theirs(branch.source, maker.last) if own is None else own

    def pixels(self) -> Floats | None:
        return read(self.captures.all_of_cntk, "input/reader/images")

    def branches(self) -> list[Branch]:
        """The branches of this pass, in the order in which they run."""
        there = [branch for branch in self.spec.branches
                 if self.captures.all_of_cntk.names(f"{self.prefix}/{branch.name}")]
        return sorted(there, key=lambda branch: branch.source == "pixels")

    def steps(self) -> Iterator[Step]:
        """Every layer whose input and output are there."""
        for branch in self.branches():
            network = self.spec.network(branch.name)
            for layer in network.layers:
                made = self.step(branch, layer)
                if made is not None:
                    yield made

    def step(self, branch: Branch, layer: Layer) -> Step | None:
        x, port = self.into(branch, layer), self.output(branch.name, layer.name)
        if x is None or port is None or x.shape[1:] != layer.input:
            return None
        given = self.given(branch, layer, x)
        wanted = right(given)
        return Step(f"{branch.name}/{layer.name}/output", self.spec.network(branch.name).name,
                    layer, given, Case(port, wanted, self._own(branch, layer, wanted)))

    def given(self, branch: Branch, layer: Layer, x: Floats) -> Given:
        spec = self.spec
        network = spec.network(branch.name)
        cntk = self.captures.all_of_cntk
        state = "step/0001/after_d" if self.prefix == G_STEP else "state"
        arrays = {}
        for quantity in layer.arrays:
            name = f"{network.name}/{layer.name}/{quantity}"
            value = read(cntk, f"{state}/{name}")
            value = read(cntk, f"state/{name}") if value is None else value
            if value is not None:
                arrays[quantity] = value
        first = not network.before(layer.name) and branch.source == "pixels"
        others = []
        if layer.kind == NORMALISATION and self.prefix == TRAINING:
            others = [other for one in self.branches() if one.network == branch.network
                      and one.name != branch.name
                      and (other := self.into(one, layer)) is not None]
        return Given(layer, x, arrays, self.prefix != EVALUATION, spec.epsilon, spec.slope,
                     others, self.pixels() if first else None, spec.middle,
                     -math.expm1(-len(x) / spec.time_constant))

    def _own(self, branch: Branch, layer: Layer, wanted: Floats) -> float:
        """What CNTK is off by in this layer; on its own inputs, where the port's are others."""
        theirs = self.theirs(branch.name, layer.name)
        if theirs is None or theirs.shape != wanted.shape:
            return 0.0
        if self.local:
            return rms(theirs - wanted)
        before = Pass(self.captures, self.prefix, True)
        x = before.into(branch, layer)
        if x is None:
            return 0.0
        return rms(theirs - right(self.given(branch, layer, x)))
