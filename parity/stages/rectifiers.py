"""Where float32 itself is coarse: units that rounding moves over a rectifier's kink, and a
discriminator so sure of itself that 1 - D has few digits left."""
from collections.abc import Iterable

import numpy as np

from parity.judge.policies import FORMULA_CHAIN, GRAINS, KINK
from parity.judge.results import Check
from parity.stages.common import Captures, array_or_failure

# A float32 number just below 1 is a multiple of this away from it.
GRAIN = 2.0 ** -24


def saturation(captures: Captures, prefix: str, branches: Iterable[str]) -> float:
    """The largest relative grain of 1 - y over the outputs y of the last sigmoid: how much a
    gradient that holds 1 - y changes when y is rounded the other way; 1 where y is 1."""
    grain = 0.0
    for branch in branches:
        y = array_or_failure(captures.cntk, f"{prefix}/{branch}/{captures.spec.critic.last}/output")
        if not isinstance(y, Check):
            apart = float(np.min(1.0 - y.astype(np.float64)))
            grain = max(grain, min(1.0, GRAIN / apart if apart else 1.0))
    return grain


def coarse(grain: float) -> bool:
    """Whether the grain shows beside what the chain is allowed anyway."""
    return grain > FORMULA_CHAIN.value / GRAINS.value


def loosened(grain: float) -> float:
    """The factor on the policy "kink" that a grain of 1 - y asks for: eight grains."""
    return max(1.0, GRAINS.value * grain / KINK.value)


def kinks(captures: Captures, prefix: str, branches: tuple[str, ...]) -> int:
    """Units whose rectifier's input has another sign in CNTK or the port than in float64. Two
    stages ask for the same, so it is kept."""
    if (prefix, branches) not in captures.kinks:
        captures.kinks[prefix, branches] = _counted_kinks(captures, prefix, branches)
    return captures.kinks[prefix, branches]


def _counted_kinks(captures: Captures, prefix: str, branches: tuple[str, ...]) -> int:
    count = 0
    for name in captures.oracle.names(prefix):
        branch, layer, _ = name.split("/")
        if branch not in branches or layer not in captures.spec.network(branch).rectified:
            continue
        sides = []
        for capture in (captures.cntk, captures.port, captures.oracle):
            found = array_or_failure(capture, f"{prefix}/{name}")
            if isinstance(found, Check):
                return 0  # the forward stage says so
            sides.append(found > 0)
        if sides[0].shape == sides[1].shape == sides[2].shape:
            count += int(np.count_nonzero((sides[0] != sides[2]) | (sides[1] != sides[2])))
    return count
