"""The independent test on trainings: the same, twice the learning rate, half the modes, too few."""
from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from test_agreement import AT_MOST, PAIRS
from trained_runs import KINDS, RATE, trained_scores

from scores.agreement import CANNOT_TELL, DIFFERENT, EQUIVALENT, of_runs

RUNS, PICTURES = 6, 100
MARGIN = 0.3  # the score of these trainings scatters by a ninth from seed to seed


@pytest.fixture(scope="module")
def usual() -> np.ndarray:
    """Scores of 400 sets of runs, of other seeds and else the same."""
    return trained_scores(2 * PAIRS * RUNS, PICTURES, 0).reshape(2, PAIRS, RUNS)


@pytest.fixture(scope="module")
def twice() -> np.ndarray:
    return trained_scores(PAIRS * RUNS, PICTURES, 1, rate=2 * RATE).reshape(PAIRS, RUNS)


def verdicts(first: np.ndarray, second: np.ndarray, margin: float = MARGIN) -> Counter[str]:
    return Counter(of_runs(a, b, PICTURES, margin).verdict
                   for a, b in zip(first, second, strict=True))


def test_the_same_training_is_equivalent(usual):
    found = verdicts(*usual)
    assert found[DIFFERENT] / PAIRS <= AT_MOST
    assert found[EQUIVALENT] / PAIRS >= 0.9


def test_twice_the_learning_rate_is_different(usual, twice):
    assert verdicts(usual[0], twice)[DIFFERENT] / PAIRS >= 0.95


def test_half_the_modes_are_different(usual):
    half = trained_scores(50 * RUNS, PICTURES, 2, kinds=KINDS // 2).reshape(50, RUNS)
    assert verdicts(usual[0][:50], half)[DIFFERENT] >= 45


def test_a_margin_apart_is_called_equivalent_as_seldom_as_stated(usual, twice):
    """The margin is what twice the rate does, from 3,600 runs."""
    apart = math.expm1(abs(np.log(twice).mean() - np.log(usual).mean()))
    found = verdicts(usual[0], twice, apart)
    assert 0 < found[EQUIVALENT] / PAIRS <= AT_MOST


def test_two_runs_of_a_few_pictures_cannot_tell(usual):
    few = trained_scores(100, 10, 3).reshape(2, 25, 2)
    found = verdicts(*few, margin=0.05)
    assert found[CANNOT_TELL] >= 20 and not found[EQUIVALENT]
    made = of_runs(few[0, 0], few[1, 0], 10, 0.05)
    assert made.visible > made.margin
