"""The formula against known answers, and every input that has none."""
from __future__ import annotations

import itertools
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from scores.errors import ScoreError
from scores.inception_score import (
    inception_score,
    interval,
    score,
    softmax,
    split_scores,
)
from scores.resize import KERNELS, resize

ROOT = Path(__file__).resolve().parents[2]
# exp(log K): log and exp are each right to half a unit, and log K up to 7 multiplies the first.
EXACT = 1e-14


def one_hot(pictures: int, classes: int) -> np.ndarray:
    return np.eye(classes)[np.arange(pictures) % classes]


def some(pictures: int = 60, classes: int = 9, seed: int = 0) -> np.ndarray:
    return softmax(np.random.RandomState(seed).normal(size=(pictures, classes)) * 2)


@pytest.mark.parametrize("K", [2, 3, 10, 1000, 1008])
def test_k_equally_likely_classes_score_k(K):
    assert score(one_hot(2 * K, K)) == pytest.approx(K, rel=EXACT)
    assert score(one_hot(2 * K, K)[:-1]) < K  # the twin: not equally likely


@pytest.mark.parametrize("row", [np.full(7, 1 / 7), np.eye(7)[2], some(1, 7)[0]])
def test_a_constant_scores_1(row):
    made = inception_score(np.tile(row, (40, 1)))
    assert made.value == pytest.approx(1, abs=EXACT) and made.one_split >= 1
    assert any("the same of every picture" in note for note in made.notes)


def test_the_formula_term_by_term():
    p = np.array([[0.5, 0.5, 0], [0.1, 0.2, 0.7]])
    q = p.mean(0)
    terms = [x * np.log(x / y) for row in p for x, y in zip(row, q, strict=True) if x > 0]
    assert score(p) == pytest.approx(np.exp(sum(terms) / 2), rel=1e-14)


def test_class_sorted_pictures_score_low_in_splits():
    """Ten classes, sorted: each of ten contiguous splits holds one, and scores 1, not 10."""
    p = np.repeat(np.eye(10), 20, 0)
    made = inception_score(p, 10)
    assert made.value == 1 and made.one_split == pytest.approx(10, rel=EXACT)
    assert 5 < made.shuffled < 10 and made.shuffled_deviation > 0
    np.testing.assert_allclose(split_scores(p, 5), 2, rtol=EXACT)


def test_splits_are_contiguous_and_uneven_ones_as_in_the_papers_program():
    p = some(23)
    edges = [0, 7, 15, 23]  # floor(i 23 / 3)
    np.testing.assert_allclose(
        split_scores(p, 3), [score(p[a:b]) for a, b in itertools.pairwise(edges)])
    made = inception_score(p, 3)
    assert made.value == pytest.approx(split_scores(p, 3).mean())
    assert made.deviation == pytest.approx(split_scores(p, 3).std())


@pytest.mark.parametrize(("dtype", "within"), [("float16", 5e-3), ("float32", 1e-6)])
def test_shorter_floats_are_taken_and_told(dtype, within):
    p = some(200, 300)
    made = inception_score(p.astype(dtype))
    assert made.value == pytest.approx(inception_score(p).value, rel=within)
    assert any(dtype in note and "divided by its sum" in note for note in made.notes)
    assert not any("float" in note for note in inception_score(p).notes)
    with pytest.raises(ScoreError, match="row 3 is no distribution"):  # not whatever is short
        p[3] *= 1.02
        score(p.astype(dtype))


@pytest.mark.parametrize(("rows", "says"), [
    (np.ones(5) / 5, "one row for each picture"),
    (np.ones((0, 5)), "one row for each picture"),
    (np.ones((5, 1)), "one class"),
    (np.full((4, 2), np.nan), "row 0 .*NaN"),
    (np.array([[0.5, 0.5], [0.5, np.inf]]), "row 1 .*infinity"),
    (np.array([[0.5, 0.5], [0.7, 0.7]]), "row 1 is no distribution .*softmax"),
    (np.array([[1.5, -0.5]]), "row 0 is no distribution"),
    (np.array([[1, 0], [0, 1]]), "int64"),
])
def test_what_has_no_score(rows, says):
    with pytest.raises(ScoreError, match=says):
        score(rows)


def test_the_rows_are_not_copied():
    """64 MB of rows, no second array of that size: 50,000 of 1,000 classes go into 2 GB."""
    p = softmax(np.random.RandomState(0).normal(size=(40_000, 200)))
    kept = p.copy()
    tracemalloc.start()
    try:
        inception_score(p, 10, resamples=2)
        assert tracemalloc.get_traced_memory()[1] < 0.75 * p.nbytes
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(p, kept)


def test_fewer_pictures_than_splits():
    with pytest.raises(ScoreError, match=r"10 splits of 7 pictures.*--splits 7"):
        inception_score(some(7))
    assert inception_score(some(7), 7).value == 1  # one picture in each


def test_a_logit_that_is_none_is_named():
    logits = np.zeros((5, 3))
    logits[2, 1] = np.nan
    with pytest.raises(ScoreError, match="picture 2"):
        softmax(logits)
    assert softmax(np.array([[1e4, 0.0]]))[0, 0] == 1  # no overflow


def test_the_interval_covers_as_often_as_it_says():
    """200 sets of 300 pictures drawn from 4 kinds: the score of all kinds in their true shares,
    less the bias that sets of 300 have, lies in about 95 of 100 intervals. 0.90 is five standard
    deviations of a count of 200 below 0.95 + ... the interval is a bootstrap's, not exact."""
    kinds = softmax(np.random.RandomState(5).normal(size=(4, 6)) * 2)
    draws = np.random.RandomState(6)
    sets = [kinds[draws.choice(4, 300, p=[0.4, 0.3, 0.2, 0.1])] for _ in range(200)]
    middle = np.mean([score(p) for p in sets])
    inside = [low <= middle <= high for low, high in
              (interval(p, resamples=100, seed=i) for i, p in enumerate(sets))]
    assert 0.88 < np.mean(inside) < 0.99
    low, high = interval(sets[0], 100, confidence=0.5)
    wide_low, wide_high = interval(sets[0], 100)
    assert wide_low < low <= score(sets[0]) <= high < wide_high


def test_the_interval_stays_within_the_formulas_bounds():
    low, high = interval(one_hot(30, 30), 50)
    assert 1 <= low <= high <= 30
    assert interval(some(1), 10) == (1.0, 1.0)


def test_bad_resampling():
    with pytest.raises(ScoreError, match="at least 2"):
        interval(some(), resamples=1)
    with pytest.raises(ScoreError, match="between 0 and 1"):
        interval(some(), confidence=1.0)


def test_python_36_says_the_same(tmp_path, cntk):
    """The lines that CNTK's process runs: numpy 1.17 and Python 3.6."""
    p = some(100, 12)
    np.save(tmp_path / "p.npy", p)
    program = ("import sys, numpy as np\nfrom scores.inception_score import inception_score\n"
               "from scores.resize import KERNELS, resize\n"
               "made = inception_score(np.load(sys.argv[1]), 7)\n"
               "print(repr([made.value, made.low, made.high, made.shuffled]))\n"
               "x = np.arange(2 * 3 * 9 * 11, dtype=np.float32).reshape(2, 3, 9, 11)\n"
               "print([float(resize(x, 7, 13, k).sum(dtype=np.float64)) for k in KERNELS])\n")
    python = ROOT / ".venv-cntk" / "bin" / "python"
    done = subprocess.run([python, "-c", program, tmp_path / "p.npy"], capture_output=True,
                          text=True, check=True, env={"PYTHONPATH": str(ROOT)})
    first, second = done.stdout.splitlines()
    made = inception_score(p, 7)
    theirs = [float(text) for text in first.strip("[]").split(",")]
    ours = [made.value, made.low, made.high, made.shuffled]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    x = np.arange(2 * 3 * 9 * 11, dtype=np.float32).reshape(2, 3, 9, 11)
    ours = [float(resize(x, 7, 13, k).sum(dtype=np.float64)) for k in KERNELS]
    np.testing.assert_allclose(ours, [float(t) for t in second.strip("[]").split(",")], rtol=1e-7)
