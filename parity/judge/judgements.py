"""The only place where a number becomes pass or fail: every tolerance, and where it came from.

Three kinds of judgement, from the sharpest down:

exact     the same bits. Where the port does the same arithmetic there is nothing to tolerate.
rounding  two float32 programs round differently, so neither is the truth; the float64 oracle is.
          On its own inputs a layer may be off by what rounding explains, and by no pattern; in the
          chain, where errors are handed on, by a stated factor of what CNTK is.
floor     a difference that no error analysis bounds, measured: once, or in the run itself.
"""
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from captures.movement import SMALLEST, UNIT
from parity.judge import metrics, rounding
from parity.judge.metrics import Array
from parity.judge.policies import (
    CARRIED,
    CHAIN,
    CHANCE,
    DECAY,
    EXACT,
    FEW_ROUNDINGS,
    FORMULA,
    FORMULA_CHAIN,
    KINK,
    NUDGE,
    PATTERN_NOISE,
    PRESENT,
    ROUNDING,
    Policy,
)
from parity.judge.results import Check
from parity.judge.rounding import Verdict

ENOUGH = 64  # values, to tell a decay from noise

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


def on_its_own(place: str, port: Array, cntk: Array, oracle: Array, expected: Array,
               loose: float = 1.0) -> list[Check]:
    """A layer on CNTK's own inputs: does CNTK compute the oracle's formula, and does the port, with
    no more than rounding between? expected: the oracle's E (``rounding.py``). loose: factor on
    CNTK's distance from the oracle, for longer sums."""
    for other in (port, oracle, expected):
        if np.shape(other) != np.shape(cntk):
            return [other_shape(place, other, cntk)]
    same = metrics.differing(port, cntk) == 0
    figures = _figures(port, cntk, oracle, same)
    # A port with CNTK's bits computes CNTK's formula, however far both are from float64.
    if same:
        return [replace(same_bits(place, port, cntk, local=True, figures=figures),
                        verdict=Verdict.SAME_BITS)]
    found = rounding.examined(port, cntk, oracle, expected, place.endswith("/weight"))
    return [
        _formula(place, figures, [(FORMULA, loose, 1.0), (
            ROUNDING, rounding.few(int(np.size(cntk)), 1, CHANCE.value), metrics.rms(expected) /
            (metrics.rms(oracle) or 1.0))], local=True),
        replace(within(place, found.margin * ROUNDING.value, ROUNDING,
                       f"{found.detail}; largest difference from CNTK "
                       f"{figures['largest_absolute']:.3g} at "
                       f"{list(metrics.first_differing(port, cntk))}", figures=figures, local=True),
                verdict=found.verdict)]


def _figures(port: Array, cntk: Array, oracle: Array, same: bool) -> dict[str, float]:
    cntk_error = metrics.error(cntk, oracle)
    port_error = cntk_error if same else metrics.error(port, oracle)
    return {**(metrics.NO_DIFFERENCE if same else metrics.figures(port, cntk)),
            "cntk_error": cntk_error, "port_error": port_error,
            "ratio": port_error / cntk_error if cntk_error
            else (1.0 if not port_error else math.inf)}


def _formula(place: str, figures: dict[str, float],
             allowed: list[tuple[Policy, float, float]], local: bool) -> Check:
    """Does CNTK compute the oracle's formula? allowed: policies, the factor on each, and its unit
    as a part of the layer's size, 0 where there is none. The first is the ordinary one; another
    counts where it allows more: the logit that is nearly 0 is a difference of large numbers, and
    its rounding is many times the value's own."""
    error = figures["cntk_error"]
    policy, factor, unit = max((one for one in allowed if one[2] > 0),
                               key=lambda one: one[0].value * one[1] * one[2])
    return within(place, error / unit, policy, factor=factor, figures=figures, local=local,
                  detail=f"CNTK is {error:.3g} of the layer's size away from what the oracle's "
                         "formula gives, far beyond rounding: CNTK computes another formula")


@dataclass(frozen=True)
class Chain:
    """What is said of an array in the chain. formula: of CNTK beside the oracle, None where the
    port has CNTK's bits or the arrays cannot be compared; port: of the port."""

    formula: Check | None
    port: Check

    @property
    def checks(self) -> list[Check]:
        return [self.port] if self.formula is None else [self.formula, self.port]


def rounded_few_times(place: str, port: Array, wanted: Array, terms: Array, detail: str,
                      steps: int = 1, local: bool | None = None) -> Check:
    """Within a few roundings of ``terms``, value by value. wanted: in float64. steps: how often the
    few roundings were done one after the other."""
    if np.shape(port) != np.shape(wanted):
        return other_shape(place, port, wanted)
    apart = np.abs(np.asarray(port, np.float64) - wanted)
    unit = np.maximum(np.asarray(terms, np.float64), SMALLEST) * UNIT
    ratio = np.where(apart == 0, 0.0, apart / unit) if np.size(apart) else np.zeros(1)
    worst = float(np.max(np.where(np.isnan(ratio), np.inf, ratio)))
    return replace(within(place, worst, FEW_ROUNDINGS, detail, factor=steps, local=local),
                   verdict=Verdict.ROUNDING if worst <= FEW_ROUNDINGS.value * steps
                   else Verdict.ANOTHER)


def not_decayed(place: str, port: Array, wanted: Array, before: Array, local: bool | None = None
                ) -> Check:
    """No part of the weights is taken away beside the update: the scale s in

        port - wanted = s * before + t * (wanted - before) + noise

    by least squares. A weight that is small beside what an update moves is rounded by that, so the
    scale counts as that much less. Fewer than 64 values are not judged: AdamW spares nothing."""
    held, apart = (np.ravel(np.asarray(one, np.float64)) for one in (before, port - wanted))
    moved = np.ravel(np.asarray(wanted, np.float64)) - held
    if not np.isfinite(apart).all():
        return within(place, math.inf, DECAY, "the weights are not finite", local=local)
    if apart.size < ENOUGH or not held.any():
        return within(place, 0.0, DECAY, local=local)
    terms = np.stack([held, moved] if moved.any() else [held])
    gram = terms @ terms.T
    fitted = np.linalg.lstsq(gram, terms @ apart, rcond=None)[0]
    left = apart - fitted @ terms
    variance = float(np.linalg.pinv(gram)[0, 0]) * float(left @ left) / (apart.size - len(terms))
    scale, noise = float(fitted[0]), math.sqrt(max(variance, 0.0))
    sure = abs(scale) / noise if noise else (math.inf if scale else 0.0)
    small = max(1.0, 4 * metrics.rms(moved) / metrics.rms(held))
    return within(place, min(abs(scale) / small, DECAY.value * sure / PATTERN_NOISE.value), DECAY,
                  f"one update scales all weights by 1 {scale:+.3g} beside what Adam moves: a "
                  "decay of the weights", local=local)


def in_the_chain(place: str, port: Array, cntk: Array, oracle: Array, kinks: int = 0,
                 distinct: int | None = None, loose: float = 1.0, nudge: float = 0.0,
                 carried: float = 0.0) -> Chain:
    """The two judgements of a layer in the chain, where errors are handed on: is the formula
    CNTK's, and is the port about as near to it as CNTK.

    kinks: units that lie on other sides of a rectifier's kink in two of the runs; where there are
        any, gradients in the chain are judged by the policy "kink".
    distinct: how many independent errors the array holds, if fewer than values.
    loose: factor on what is allowed, where float32 itself is coarser than its last place.
    nudge: CNTK's distance from itself with the inputs moved by one ULP, as a part of the layer's
        size.
    carried: how far the oracle's own chain moves this array where every layer rounds, as a part of
        its size.
    """
    for other in (port, oracle):
        if np.shape(other) != np.shape(cntk):
            return Chain(None, other_shape(place, other, cntk))
    same = metrics.differing(port, cntk) == 0
    figures = _figures(port, cntk, oracle, same)
    if same:
        return Chain(None, replace(same_bits(place, port, cntk, local=False, figures=figures),
                                   verdict=Verdict.SAME_BITS))
    cntk_error, port_error = figures["cntk_error"], figures["port_error"]
    of_carried = rounding.few(distinct or int(np.size(cntk)), 1, CHANCE.value)
    formula = _formula(place, figures, [
        (KINK if kinks else FORMULA_CHAIN, loose, 1.0), (NUDGE, 1.0, nudge), (CARRIED, of_carried,
                                                                            carried)], local=False)
    # Any of these is enough; the one with the most room is reported. Of few values CNTK's error may
    # be next to nothing by luck, and the size of what rounding carries there is known.
    chance = few_values(distinct or int(np.size(cntk)))
    said = (f"the port is {port_error:.3g} of the layer's size away from float64, CNTK "
            f"{cntk_error:.3g}; largest difference {figures['largest_absolute']:.3g} at "
            f"{list(metrics.first_differing(port, cntk))}")
    judged = [within(place, figures["ratio"], CHAIN, said, chance, figures, False)]
    if carried:
        judged.append(within(place, port_error / carried, CARRIED, said, of_carried, figures,
                             False))
    ratio = min(judged, key=lambda check: check.margin)
    if not ratio.passed and kinks and port_error <= KINK.value * loose:
        ratio = within(place, port_error, KINK, factor=loose, figures=figures, local=False)
    verdict = Verdict.ROUNDING if ratio.passed else Verdict.ANOTHER
    return Chain(formula, replace(ratio, verdict=verdict))
