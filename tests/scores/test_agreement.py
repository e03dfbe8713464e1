"""Equivalent, different, cannot tell: decided rightly, as often as stated."""
from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from scores.agreement import (
    ALPHA,
    CANNOT_TELL,
    DIFFERENT,
    EQUIVALENT,
    Population,
    error_rates,
    of_pictures,
    of_runs,
    rates,
)
from scores.errors import ScoreError
from scores.inception_score import softmax

PAIRS = 200
# A rate of 5 % over 200 pairs: more than this many are seen once in 1,000 such simulations.
AT_MOST = stats.binom.ppf(0.999, PAIRS, ALPHA) / PAIRS


def test_the_error_rates_are_the_stated_ones(capsys):
    found = error_rates(PAIRS)
    with capsys.disabled():
        print("\n" + "; ".join(f"{what}: {rate:.1%}" for what, rate in found.items()), end=" ")
    assert all(rate <= AT_MOST for rate in found.values()), found
    # and no test that never says anything: at the margin a rate of 0 would be over-careful
    assert found["a margin apart, called equivalent"] > 0


def test_planted_pairs_are_decided_rightly():
    """Enough runs: the same is equivalent, half the modes are different. Too few: cannot tell."""
    usual, half = Population(scatter=0.1), Population(modes=5, scatter=0.1)
    assert rates(usual, usual, 20, 8, 400)[EQUIVALENT] >= 0.9
    assert rates(usual, half, 20, 8, 400)[DIFFERENT] == 1
    few = rates(Population(scatter=1.0), Population(modes=9, scatter=1.0), 20, 2, 50)
    assert few[CANNOT_TELL] >= 0.8


def test_the_verdict_by_its_formula():
    a, b = [2.0, 2.1, 2.05, 1.98], [2.2, 2.3, 2.25]
    made = of_runs(a, b, 100)
    theirs = stats.ttest_ind(np.log(b), np.log(a), equal_var=False)
    interval = theirs.confidence_interval(0.90)
    assert made.difference == pytest.approx(math.expm1(np.log(b).mean() - np.log(a).mean()))
    assert (made.low, made.high) == pytest.approx(
        (math.expm1(interval.low), math.expm1(interval.high)))
    assert made.verdict == DIFFERENT and theirs.pvalue < ALPHA
    assert of_runs(a, a, 100, 0.2).verdict == EQUIVALENT
    assert of_runs(a[:2], b[:2], 100, 0.01).verdict in (DIFFERENT, CANNOT_TELL)


def test_a_small_but_sure_difference_is_equivalent_and_told():
    a = 2 + np.arange(20) * 1e-4
    made = of_runs(a, a * 1.01, 100)
    assert made.verdict == EQUIVALENT and made.difference == pytest.approx(0.01)
    assert "+1.00%" in str(made) and "margin 5.00%" in str(made)


def test_the_smallest_visible_difference_is_seen_four_times_out_of_five():
    draws = np.random.RandomState(0)
    visible = np.mean([of_runs(*np.exp(0.7 + 0.02 * draws.normal(size=(2, 10))), 1).visible
                       for _ in range(20)])
    seen = [of_runs(np.exp(0.7 + 0.02 * draws.normal(size=10)),
                    np.exp(0.7 + math.log1p(visible) + 0.02 * draws.normal(size=10)), 1,
                    1e-6).verdict == DIFFERENT for _ in range(300)]
    assert 0.7 < np.mean(seen) < 0.9


def rows(count: int, modes: int, seed: int) -> np.ndarray:
    draws = np.random.RandomState(seed)
    return softmax(5 * np.eye(8)[draws.randint(0, modes, count)] + draws.normal(size=(count, 8)))


def test_one_run_each_by_its_pictures():
    assert of_pictures(rows(4000, 8, 0), rows(4000, 8, 1)).verdict == EQUIVALENT
    assert of_pictures(rows(4000, 8, 0), rows(4000, 4, 1)).verdict == DIFFERENT
    made = of_pictures(rows(25, 8, 0), rows(25, 8, 1))
    assert made.verdict == CANNOT_TELL and made.visible > made.margin
    assert "over seeds is not known" in str(made) and "more of them are needed" in str(made)


@pytest.mark.parametrize(("call", "says"), [
    (lambda: of_runs([2.0], [2.0, 2.1], 10), "at least two runs"),
    (lambda: of_runs([2.0, 0.5], [2.0, 2.1], 10), "a score is at least 1"),
    (lambda: of_runs([2.0, math.nan], [2.0, 2.1], 10), "a score is at least 1"),
    (lambda: of_runs([2.0, 2.1], [2.0, 2.1], 10, 5), "0.05 for 5 %"),
    (lambda: of_runs([2.0, 2.0], [2.0, 2.1], 10), "how far runs scatter is not seen"),
    (lambda: of_runs([2.0, 2.1], [3.0, 3.0], 10), "how far runs scatter is not seen"),
    (lambda: of_pictures(rows(30, 8, 0), rows(31, 8, 0)), "as many on either side"),
    (lambda: of_pictures(rows(5, 8, 0), rows(5, 8, 0)), "at least 20"),
])
def test_what_cannot_be_judged(call, says):
    with pytest.raises(ScoreError, match=says):
        call()
