"""A graph in onnx's own reference evaluator, where an export and its framework differ."""
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from parity.onnx.names import Array


class BatchNormalization(OpRun):
    """ONNX's text for opset 9: by the running statistics with one output, as CNTK evaluates; by the
    input's own with more."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, bias: Array, mean: Array, variance: Array,
             epsilon: float | None = None, **ignored: Any) -> tuple[Array, ...]:
        def along(a: Array) -> Array:
            return a.reshape(-1, *[1] * (x.ndim - 2))
        training = len(self.onnx_node.output) > 1
        if training:
            axes = tuple(i for i in range(x.ndim) if i != 1)
            mean, variance = x.mean(axes), x.var(axes)
        root = np.sqrt(along(variance) + (1e-5 if epsilon is None else epsilon))
        y = (along(scale) * (x - along(mean)) / root + along(bias)).astype(x.dtype)
        return (y, *[mean] * (len(self.onnx_node.output) - 1))  # nobody looks at the others


def _reference(model: onnx.ModelProto, taken: Array) -> Array:
    old = all(opset.version < 14 for opset in model.opset_import if not opset.domain)
    evaluator = ReferenceEvaluator(model, new_ops=[BatchNormalization] if old else None)
    return np.asarray(*evaluator.run(None, {"input": taken}))
