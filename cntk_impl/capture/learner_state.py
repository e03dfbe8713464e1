"""What CNTK's Adam remembers, read in the process: m, v and the counter. Python 3.6.

A learner's checkpoint is a dictionary. ``smoothed_gradients`` holds one array for each of the
learner's parameters, in their order, of twice the parameter's size: v, then m. ``smoothed_count``
is the number of updates. (Measured: with these the formula of ``torch_port.adam`` has CNTK's bits.)
"""
from typing import Any, Dict, Tuple

import numpy as np


def learner_state(learner: Any) -> Tuple[int, Dict[str, Tuple[np.ndarray, np.ndarray]]]:
    """(counter, {uid of a parameter: (m, v)}), the arrays of the parameter's shape."""
    checkpoint = learner.create_checkpoint()
    moments = {}
    for parameter, both in zip(learner.parameters, checkpoint["smoothed_gradients"]):
        v, m = np.asarray(both, np.float32).reshape((2,) + parameter.shape)
        moments[parameter.uid] = (m, v)
    return int(checkpoint["smoothed_count"]), moments
