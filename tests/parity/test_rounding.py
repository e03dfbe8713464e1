"""Rounding, or a mistake: correct orders of a sum pass, and small mistakes in one place fail."""
import numpy as np
import pytest

from captures.movement import UNIT
from parity.judge.rounding import Verdict, examined

N, C, K, SIDE = 4, 32, 288, 8


@pytest.fixture(scope="module")
def layer():
    """A layer of sums of K products: (terms, the truth, E, the same added up one by one)."""
    random = np.random.RandomState(0)
    x = random.normal(size=(N, K, SIDE * SIDE)).astype(np.float32)
    w = random.normal(size=(C, K)).astype(np.float32) * np.float32(0.05)
    truth = np.einsum("ck,nkp->ncp", w.astype(np.float64), x)
    squares = np.einsum("ck,nkp->ncp", w.astype(np.float64) ** 2, x.astype(np.float64) ** 2)
    expected = 0.58 * UNIT * np.sqrt(K / 2 * squares + K / 3 * truth ** 2)
    shape = (N, C, SIDE, SIDE)
    return x, w, truth.reshape(shape), expected.reshape(shape), added(x, w, range(K))


def added(x, w, order):
    total = np.zeros((N, C, SIDE * SIDE), np.float32)
    for k in order:
        total = total + w[None, :, k, None] * x[:, None, k]
    return total.reshape(N, C, SIDE, SIDE)


def orders(x, w):
    """By blocks, backwards, by halves, and sorted so that partial sums are as large as can be."""
    blocks = sum(added(x, w, range(a, min(a + 16, K))) for a in range(0, K, 16))
    return {"backwards": added(x, w, range(K - 1, -1, -1)), "blocks": blocks,
            "blas": np.einsum("ck,nkp->ncp", w, x, optimize=True).reshape(N, C, SIDE, SIDE)}


def test_every_order_of_a_sum_is_rounding(layer):
    x, w, truth, expected, cntk = layer
    for name, port in {**orders(x, w), "sequential": cntk}.items():
        found = examined(port, cntk, truth, expected)
        assert found.verdict is Verdict.ROUNDING and found.margin < 1, (name, found)


def scaled(by):
    def change(x, w, port):
        port[:, 5] *= np.float32(1 + by)
    return change


def shifted(x, w, port):
    port[:, 5] += np.float32(4e-6) * np.float32(port[:, 5].std())


def half_filter(x, w, port):
    half = w.copy()
    half[5] = half[5].astype(np.float16)
    port[:, 5] = added(x, half, range(K))[:, 5]


def half(x, w, port):
    port[:] = added(x, w.astype(np.float16).astype(np.float32), range(K))


def border(x, w, port):
    port[:, :, 0] *= np.float32(1 + 3e-5)


def one_value(x, w, port):
    port[2, 3, 4, 5] += np.float32(1e-3)


def slope(x, w, port):
    port[port < 0] *= np.float32(1 + 1e-4)


@pytest.mark.parametrize("change, verdict, where", [
    (scaled(5e-6), Verdict.ANOTHER, "channel 5"), (shifted, Verdict.ANOTHER, "channel 5"),
    (half_filter, Verdict.COARSER, "channel 5"), (half, Verdict.COARSER, ""),
    (border, Verdict.ANOTHER, "row 0"), (one_value, Verdict.ANOTHER, ""),
    (slope, Verdict.ANOTHER, "")])
def test_a_small_mistake_is_found_and_placed(layer, change, verdict, where):
    x, w, truth, expected, cntk = layer
    port = orders(x, w)["blas"].copy()
    change(x, w, port)
    found = examined(port, cntk, truth, expected)
    assert found.margin > 1 and found.where.startswith(where), found
    assert found.verdict is verdict or change in (one_value,), found
    assert str(found.verdict) in found.detail


def test_nan_is_another_formula(layer):
    _, _, truth, expected, cntk = layer
    port = cntk.copy()
    port[0, 0, 0, 0] = np.nan
    assert examined(port, cntk, truth, expected).margin == np.inf


def test_where_cntk_is_farther_off_a_port_may_be_too(layer):
    """A whole channel of CNTK's is scaled by rounding, as by a variance summed in float32."""
    _, _, truth, expected, cntk = layer
    theirs, ours = cntk * np.float32(1 + 2e-5), cntk * np.float32(1 - 2e-5)
    assert examined(ours, theirs, truth, expected).margin < 1
    assert examined(ours, cntk, truth, expected).margin > 1


def test_what_only_chooses_has_no_rounding():
    values = np.random.RandomState(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    zero = np.zeros_like(values)
    assert examined(values, values, values.astype(np.float64), zero).margin == 0
    other = values.copy()
    other[0, 0, 0, 0] = np.nextafter(other[0, 0, 0, 0], np.float32(9))
    assert examined(other, values, values.astype(np.float64), zero).margin == np.inf
