"""What all of parity/onnx names: types, the error, the opset, operators that change shapes only."""
import os
from collections.abc import Callable

import numpy as np

from captures.errors import ParityError

Array = np.ndarray
Perturb = Callable[[str, Array], Array]
AnyPath = str | os.PathLike[str]

OPSET = 9
RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")  # no value moves or changes
STATISTICS = ("scale", "bias", "running_mean", "running_variance")  # inputs 1..4 of the node


class GraphError(ParityError):
    """What was wrong with a graph or its run, where, and how to mend it, in one line."""
