"""FID and KID against their formulas, and what they refuse."""
from __future__ import annotations

import numpy as np
import pytest

from scores.errors import ScoreError
from scores.fid import LEAST, Moments, fid, frechet_distance, stated
from scores.kid import KEPT, Reservoir, kid, squared_discrepancy


def moments(features: np.ndarray, parts: int = 3) -> Moments:
    made = Moments(features.shape[1])
    for part in np.array_split(features, parts):
        made.add(part)
    return made


@pytest.mark.parametrize("D", [1, 3, 40])
def test_two_gaussians(D):
    """Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2, s the standard deviations."""
    draws = np.random.RandomState(D)
    m1, m2 = draws.normal(size=(2, D))
    s1, s2 = draws.uniform(0.5, 2, (2, D))
    expected = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    assert frechet_distance(m1, np.diag(s1 ** 2), m2, np.diag(s2 ** 2)) == pytest.approx(
        expected, rel=1e-12)
    # turned together they are as far apart
    turn = np.linalg.qr(draws.normal(size=(D, D)))[0]
    C1, C2 = (turn @ np.diag(s ** 2) @ turn.T for s in (s1, s2))
    assert frechet_distance(turn @ m1, C1, turn @ m2, C2) == pytest.approx(expected, rel=1e-10)


def test_a_set_against_itself_is_0_and_singular_covariances_are_taken():
    few = np.random.RandomState(0).normal(size=(LEAST, 200))  # fewer pictures than features
    value, word = fid(moments(few), moments(few))
    assert value == pytest.approx(0, abs=1e-4)  # of a trace of 200: roots of eigenvalues near 0
    assert "singular" in word
    shifted, _ = fid(moments(few), moments(few + 1))
    assert shifted == pytest.approx(200, rel=1e-6)


def test_moments_in_parts_are_numpys():
    f = np.random.RandomState(1).normal(size=(57, 5)) + 100
    made = moments(f, 9)
    np.testing.assert_allclose(made.mean, f.mean(0), rtol=1e-13)
    np.testing.assert_allclose(made.covariance, np.cov(f, rowvar=False), rtol=1e-9)


def test_three_pictures_are_no_reference():
    many, three = (np.random.RandomState(2).normal(size=(n, 4)) for n in (200, 3))
    with pytest.raises(ScoreError, match=r"reference set has 3 pictures.*at least 100"):
        fid(moments(many), moments(three))
    with pytest.raises(ScoreError, match="set of pictures has 3"):
        fid(moments(three), moments(many))


def test_what_does_not_belong_together():
    a, b = (np.random.RandomState(3).normal(size=(120, n)) for n in (4, 5))
    with pytest.raises(ScoreError, match="one classifier"):
        fid(moments(a), moments(b))
    with pytest.raises(ScoreError, match="n x 4"):
        Moments(4).add(b)
    with pytest.raises(ScoreError, match="NaN"):
        Moments(4).add(np.full((2, 4), np.nan))
    with pytest.raises(ScoreError, match="two of D values"):
        frechet_distance(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2))
    with pytest.raises(ScoreError, match="features of one classifier"):
        squared_discrepancy(a, b)


@pytest.mark.parametrize(("mu", "sigma", "says"), [
    (np.zeros(3), -np.eye(3), "eigenvalue of -1, below 0"),
    (np.zeros(3), np.eye(3) + np.eye(3, k=1), "not symmetric"),
    (np.zeros(3), np.eye(2), "D x D"),
    (np.zeros(0), np.zeros((0, 0)), "D x D"),
])
def test_stated_moments_that_are_none(mu, sigma, says):
    with pytest.raises(ScoreError, match=says):
        stated(mu, sigma)


def test_a_singular_covariance_in_float32_is_one():
    f = np.random.RandomState(5).normal(size=(20, 300)) * 10
    made = stated(f.mean(0), np.cov(f, rowvar=False).astype(np.float32))
    np.testing.assert_allclose(made.covariance, np.cov(f, rowvar=False), rtol=1e-5)


def test_kernel_distance_term_by_term():
    x, y = np.array([[1.0, 2], [3, 4], [0, 1]]), np.array([[1.0, 0], [2, 2]])

    def k(a, b):
        return (a @ b / 2 + 1) ** 3
    within_x = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    within_y = k(y[0], y[1])
    between = np.mean([k(a, b) for a in x for b in y])
    assert squared_discrepancy(x, y) == pytest.approx(within_x + within_y - 2 * between, rel=1e-12)


def test_kernel_distance_is_unbiased():
    """Of sets drawn from one distribution it lies about 0, on both sides."""
    draws = np.random.RandomState(4)
    found = [squared_discrepancy(draws.normal(size=(30, 3)), draws.normal(size=(30, 3)))
             for _ in range(200)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(200)
    assert min(found) < 0 < max(found)
    mean, deviation = kid(draws.normal(size=(90, 3)), draws.normal(size=(90, 3)) + 1, 20, 40)
    assert mean > 5 * deviation / np.sqrt(20)


def test_a_reservoir_takes_all_with_the_same_chance():
    counts = np.zeros(40)
    for seed in range(400):
        held = Reservoir(10, seed)
        for part in np.array_split(np.arange(40.0)[:, None], 3):
            held.add(part)
        counts[held.rows()[:, 0].astype(int)] += 1
    expected = 400 * 10 / 40
    assert abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert Reservoir().kept == KEPT
