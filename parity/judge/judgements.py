"""The only place where a number becomes pass or fail: every tolerance, and where it came from.

Three kinds of judgement, from the sharpest down:

exact    the same bits. Where the port does the same arithmetic there is nothing to tolerate.
ratio    two float32 programs round differently, so neither is the truth; the float64 oracle is.
         The port may be at most a stated factor farther from it than CNTK is.
floor    a difference that no ratio bounds, measured: once, or in the run itself.

Each is applied to a layer on its own inputs first (``local``), where an error is born, and then in
the chain, where it may be inherited.
"""
import math
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from parity.judge import metrics
from parity.judge.metrics import Array
from parity.judge.policies import (
    CHANCE,
    ERROR_RATIO,
    ERROR_RATIO_ONEDNN,
    EXACT,
    FORMULA,
    FORMULA_CHAIN,
    KINK,
    NUDGE,
    ONE_ULP,
    PRESENT,
    Policy,
)
from parity.judge.results import Check

# -------------------------------------------------------------------------------------- the checks


def same_bits(place: str, value: Array, reference: Array, policy: Policy = EXACT,
              local: bool | None = None, figures: dict[str, float] | None = None) -> Check:
    """Passes if no value differs; an array of another shape fails."""
    if np.shape(value) != np.shape(reference):
        return other_shape(place, value, reference)
    count = metrics.differing(np.asarray(value), np.asarray(reference))
    detail, figures = "", figures or {}
    if count:
        worst = metrics.first_differing(value, reference)
        figures = {"largest_absolute": metrics.largest_absolute(value, reference),
                   "ulp": metrics.ulp(value, reference)}
        detail = (f"{count:,} of {np.size(value):,} values differ, most at {list(worst)}: "
                  f"{np.asarray(reference)[worst]:.9g} in the reference, "
                  f"{np.asarray(value)[worst]:.9g} here")
    return Check(place, float(count), policy.value, policy.unit, policy.name,
                 figures, detail, local)


def other_shape(place: str, value: Array, reference: Array) -> Check:
    return missing(place, f"the shape is {np.shape(value)}, the reference's is "
                          f"{np.shape(reference)}")


def missing(place: str, detail: str) -> Check:
    """An array that is not on both sides, or cannot be read: a failure, never a skip."""
    return Check(place, math.inf, 0, PRESENT.unit, PRESENT.name, {}, detail)


def there(place: str) -> Check:
    """What was to be on both sides is."""
    return Check(place, 0, 0, PRESENT.unit, PRESENT.name)


def within(place: str, measured: float, policy: Policy, detail: str = "", factor: float = 1.0,
           figures: dict[str, float] | None = None, local: bool | None = None) -> Check:
    """measured <= policy's value * factor."""
    allowed = policy.value * factor
    return Check(place, float(measured), allowed, policy.unit, policy.name, figures or {},
                 "" if measured <= allowed else detail, local)


def few_values(count: int) -> float:
    """How much larger the ratio of two root mean squares of so many errors may be by chance.

    sqrt of the 1 - 1e-6 quantile of Fisher's F(count, count): 1.004 for a million values, 1.9 for
    64, 42 for 4. A layer with one value a sample has few errors, and their ratio is mostly luck.
    """
    return _fisher(count, CHANCE.value)


@cache
def _fisher(count: int, chance: float) -> float:
    return math.sqrt(float(stats.f.ppf(1 - chance, count, count))) if count else 1.0


def within_nudges(place: str, measured: float, nudge: float, policy: Policy, **more: Any) -> Check:
    """measured <= policy's value, or 4 nudges if they are more.

    nudge: what CNTK's own output moves, in the unit of ``measured``. It is CNTK's alone, so no
    mistake of the port's widens it.
    """
    if nudge * NUDGE.value > policy.value * more.get("factor", 1.0):
        return within(place, measured / nudge, NUDGE, **{**more, "factor": 1.0})
    return within(place, measured, policy, **more)


def nearness(place: str, port: Array, cntk: Array, oracle: Array, onednn: bool, local: bool,
             kinks: int = 0, distinct: int | None = None, loose: float = 1.0,
             nudge: float = 0.0) -> list[Check]:
    """The two judgements of a layer: is the formula CNTK's, and is the port as near to it as CNTK.

    kinks: units that lie on other sides of a rectifier's kink in two of the runs; where there are
        any, gradients in the chain are judged by the policy "kink".
    distinct: how many independent errors the array holds, if fewer than values.
    loose: factor on what is allowed, where float32 itself is coarser than its last place.
    nudge: CNTK's distance from itself with the inputs moved by one ULP, as a part of the layer's
        size.
    """
    for other in (port, oracle):
        if np.shape(other) != np.shape(cntk):
            return [other_shape(place, other, cntk)]
    cntk_error = metrics.error(cntk, oracle)
    same = metrics.differing(port, cntk) == 0
    port_error = cntk_error if same else metrics.error(port, oracle)
    figures = {
        **(metrics.NO_DIFFERENCE if same else metrics.figures(port, cntk)),
        "cntk_error": cntk_error, "port_error": port_error,
        "ratio": port_error / cntk_error if cntk_error else (1.0 if not port_error else math.inf),
    }
    # A port with CNTK's bits computes CNTK's formula, however far both are from float64.
    formula = same_bits(place, port, cntk, local=local, figures=figures) if same else within_nudges(
        place, cntk_error, nudge, KINK if kinks else FORMULA if local else FORMULA_CHAIN,
        factor=loose, figures=figures, local=local,
        detail=f"CNTK is {cntk_error:.3g} of the layer's size away from what the port's formula "
               "gives in float64, far beyond rounding: it is another formula")
    policy = ERROR_RATIO_ONEDNN if onednn else ERROR_RATIO
    size = metrics.rms(oracle)
    ulps = port_error * size / float(np.spacing(np.float32(size))) if size else port_error
    chance = few_values(distinct or int(np.size(cntk)))
    # Either is enough; where both pass, the one with more room is reported.
    ratio_margin = figures["ratio"] / (policy.value * chance)
    if ulps / ONE_ULP.value <= min(1.0, ratio_margin):
        ratio = within(place, ulps, ONE_ULP, figures=figures, local=local)
    elif ratio_margin > 1 and kinks and port_error <= KINK.value * loose:
        ratio = within(place, port_error, KINK, factor=loose, figures=figures, local=local)
    else:
        ratio = within(place, figures["ratio"], policy, factor=chance, figures=figures,
                       local=local,
                       detail=f"the port is {port_error:.3g} of the layer's size away from "
                              f"float64, CNTK {cntk_error:.3g}; largest difference "
                              f"{figures['largest_absolute']:.3g} at "
                              f"{list(metrics.first_differing(port, cntk))}")
    return [formula, ratio]
