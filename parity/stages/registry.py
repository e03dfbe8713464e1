"""TODO."""
from collections.abc import Callable

from parity.judge.results import Stage
from parity.stages.common import Captures
from parity.stages.initial import initial
from parity.stages.layers import forward, gradient
from parity.stages.ledger import ledger
from parity.stages.probes import normalisation, optimizer, pointwise, state
from parity.stages.reader import reader
from parity.stages.step import step
from parity.stages.structure import structure

STAGES = ("structure", "initial", "reader", "optimizer", "normalisation", "pointwise", "state",
          "forward/evaluation", "forward/training", "gradient/d", "forward/g_step", "gradient/g",
          "step", "ledger", "onnx", "twin", "score")
# What of the port's capture a stage needs; the other stages need what is made from the seed.
PARTS = {
    "state": ("evaluation",), "forward/evaluation": ("evaluation",), "onnx": ("evaluation",),
    "score": ("evaluation",), "forward/training": ("training",), "gradient/d": ("training",),
    "forward/g_step": ("generator",), "gradient/g": ("generator",),
    "step": ("training", "generator", "steps"), "ledger": ("steps",), "twin": (),
}
ORDER = ("seed", "evaluation", "training", "generator", "steps")


PREFIX = {"initial": "initial", "reader": "reader/probe", "optimizer": "optimizer/probe",
          "normalisation": "normalisation/probe", "pointwise": "pointwise/probe",
          "state": "state", "step": "step/0001"}

ALL: tuple[Callable[[Captures], Stage], ...] = (
    structure, initial, reader, optimizer, normalisation, pointwise, state, forward("evaluation"),
    forward("training"), gradient("d"), forward("g_step"), gradient("g"), step, ledger)
