"""Metrics against values computed by hand."""
import math

import numpy as np
import pytest

from parity.judge import metrics

ULP = 2.0 ** -23


def f(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize("metric, value, reference, expected", [
    ("error", f(3, 4), f(3, 0), 4 / 3),  # sqrt(16 / 2) / sqrt(9 / 2)
    ("error", f(1, 1, 1, 3), f(1, 1, 1, 1), 1.0),
    ("largest_absolute", f(1, -2, 3), f(1, 2, 2), 4.0),
    ("largest_relative", f(10, 2), f(8, 2), 0.25),
    ("largest_relative", f(100, 1), f(100, 0), 1 / math.sqrt(5000)),  # not 1 / 0: to the rms
    ("ulp", f(1 + 3 * ULP), f(1), 3.0),
    ("ulp", f(1 - ULP / 2), f(1), 0.5),  # below 1 the values lie half as far apart
    ("ulp", f(1000, 1000 * ULP), f(1000, 0), 1000 * ULP / (512 * ULP)),  # the rms is 707
    ("rms_ulp", f(1 + ULP, 1, 1, 1), f(1, 1, 1, 1), 0.5),
    ("one_minus_cosine", f(1, 0), f(0, 2), 1.0),
    ("one_minus_cosine", f(1, 0), f(-3, 0), 2.0),
    ("one_minus_cosine", f(1, 1), f(2, 0), 1 - math.sqrt(0.5)),
    ("one_minus_cosine", f(2, 4, 6), f(1, 2, 3), 0.0),
    ("differing", f(1, 2, 3), f(1, 2, 4), 1),
    ("first_differing", f(1, 2, 3).reshape(1, 3), f(5, 2, 4).reshape(1, 3), (0, 0)),
])
def test_by_hand(metric, value, reference, expected):
    assert getattr(metrics, metric)(value, reference) == pytest.approx(expected, rel=1e-12)


def test_rms():
    assert metrics.rms(f(3, 4)) == pytest.approx(math.sqrt(12.5), rel=1e-15)
    assert metrics.rms(np.full((2, 3), 1e30, np.float32)) == pytest.approx(1e30, rel=1e-7)
    assert metrics.rms(f()) == 0


RATIOS = ["error", "largest_relative", "one_minus_cosine", "ulp", "rms_ulp", "largest_absolute"]


@pytest.mark.parametrize("metric", RATIOS)
def test_zeros(metric):
    """0 of 0 is no difference; a value where nothing should be is one."""
    measure = getattr(metrics, metric)
    assert measure(f(0, 0), f(0, 0)) == 0
    assert measure(f(0, 1e-3), f(0, 0)) > 0
    assert measure(f(0, 0), f(1, 2)) > 0


def test_no_values():
    for metric in RATIOS:
        assert getattr(metrics, metric)(f(), f()) == 0


@pytest.mark.parametrize("metric", ["error", "largest_absolute", "largest_relative", "ulp",
                                    "rms_ulp", "one_minus_cosine"])
def test_nan_is_never_small(metric):
    """A capture refuses NaN; a figure that met one all the same must not look like agreement."""
    for value, reference in ((f(1, np.nan), f(1, 2)), (f(1, 2), f(np.nan, 2))):
        with np.errstate(invalid="ignore"):
            assert not getattr(metrics, metric)(value, reference) <= 1e9


def test_one_minus_cosine_does_not_cancel():
    """For an angle t it is t**2 / 2, however small; 1 - a.b / (|a| |b|) is 0 or noise there."""
    a = np.random.RandomState(0).normal(size=1000)
    b = np.random.RandomState(1).normal(size=1000)
    b -= a * (a @ b) / (a @ a)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    for angle in (1e-4, 1e-7, 1e-9):
        assert metrics.one_minus_cosine(a + angle * b, a) == pytest.approx(
            angle ** 2 / 2, rel=1e-6, abs=0)
    tilted = a + 1e-9 * b
    naive = 1 - (tilted @ a) / (np.linalg.norm(tilted) * np.linalg.norm(a))
    assert naive != pytest.approx(5e-19, rel=0.5, abs=0)


def test_bits():
    assert metrics.differing(f(0.0, 1.0), f(-0.0, 1.0)) == 1
    assert metrics.differing(f(1, 2), np.array([1.0, 2.0])) == 2  # another dtype: none is the same
    assert metrics.differing(f(1).reshape(()), np.nextafter(f(1), 2).reshape(())) == 1
    assert metrics.differing(np.int64([3, 4]), np.int64([3, 5])) == 1
    assert metrics.first_differing(f(1).reshape(()), f(2).reshape(())) == ()


def test_float32_is_subtracted_in_double():
    """2**24 + 1 is no float32: in float32 the difference would be 0."""
    assert metrics.largest_absolute(f(2 ** 24), np.array([2.0 ** 24 + 1])) == 1


def test_a_long_array_is_summed_in_double():
    ones = np.full(10 ** 6, 0.1, np.float32)
    assert metrics.rms(ones) == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize("apart", [0, 1e-7, 1e-3, 10])
def test_figures_are_the_metrics(apart):
    random = np.random.RandomState(0)
    reference = random.normal(size=(40, 50)).astype(np.float32)
    value = reference + np.float32(apart) * random.normal(size=(40, 50)).astype(np.float32)
    for a, b in ((value, reference), (value, reference.astype(np.float64)),
                 (np.zeros_like(value), reference), (value, np.zeros_like(value)), (f(), f())):
        got = metrics.figures(a, b)
        for name, metric in (("largest_absolute", metrics.largest_absolute),
                             ("largest_relative", metrics.largest_relative),
                             ("ulp", metrics.ulp), ("cosine", metrics.one_minus_cosine)):
            assert got[name] == pytest.approx(metric(a, b), rel=1e-6, abs=0), name


def test_a_unit_in_the_last_place_is_float32s_spacing():
    values = np.float32(10.0) ** np.arange(-44, 38, dtype=np.float32)
    values = np.concatenate([values, 2.0 ** np.arange(-149, 127, dtype=np.float32)])
    assert np.array_equal(metrics.unit_in_the_last_place(values.astype(np.float64)),
                          np.spacing(values).astype(np.float64))
