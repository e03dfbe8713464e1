"""Where a number becomes pass or fail: each judgement passes what it should and fails its twin."""
import dataclasses
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from captures.facts import FACTS
from parity.evidence import documentation
from parity.judge import policies
from parity.judge.judgements import (
    few_values,
    in_the_chain,
    missing,
    not_decayed,
    on_its_own,
    same_bits,
    within,
    within_nudges,
)
from parity.judge.policies import ONNX, OUTPUT, POLICIES
from tests.conftest import ROOT

SIZE = 4000


def f(*values):
    return np.array(values, np.float32)


def rounded(truth, error, seed):
    """float32 values that far from the truth, root mean square, in parts of its size."""
    noise = np.random.RandomState(seed).normal(size=truth.shape)
    noise *= error * np.sqrt(np.mean(truth ** 2) / np.mean(noise ** 2))
    return (truth + noise).astype(np.float32)


@pytest.fixture
def truth():
    return np.random.RandomState(0).normal(size=SIZE)


def chained(truth, port, cntk, **options):
    """The two judgements in the chain of a layer whose two errors are given."""
    return in_the_chain("generator/conv3/output", rounded(truth, port, 1),
                        rounded(truth, cntk, 2), truth, **options)


def judged(truth, port, cntk, **options):
    """(formula passed, port passed)."""
    made = chained(truth, port, cntk, **options)
    assert made.formula is not None
    return made.formula.passed, made.port.passed


def test_every_tolerance_says_where_it_came_from():
    for name, policy in POLICIES.items():
        assert len(policy.source) > 20 and len(policy.unit) > 5, name
        assert policy.value >= 0 and math.isfinite(policy.value), name
    assert policies.policies()["output"]["value"] == POLICIES["output"].value


def test_every_tolerance_is_used():
    """One that nothing uses would look like a check that is made."""
    text = "".join(path.read_text() for path in sorted((ROOT / "parity").rglob("*.py"))
                   if path.name != "policies.py")
    for name in POLICIES:
        assert re.search(rf"\b{name.upper()}\b", text), name


def test_a_misspelt_policy_fails_when_the_module_is_imported():
    done = subprocess.run([sys.executable, "-c", "from parity.judge.policies import FORMULAE"],
                          cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "ImportError" in done.stderr


def test_a_policy_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        policies.OUTPUT.standard = 1.0  # type: ignore[misc]


def test_other_allowances_hold_inside_alone():
    assert not within("a/b/c", 1e-5, OUTPUT).passed
    with policies.changed({"output": 1e-4}):
        assert within("a/b/c", 1e-5, OUTPUT).passed
        with policies.changed({"onnx": 1.0}):
            assert within("a/b/c", 1e-5, OUTPUT).passed
    assert not within("a/b/c", 1e-5, OUTPUT).passed


@pytest.mark.parametrize("allowances, words", [
    ({"outputs": 1.0}, "there is no policy 'outputs': output.*docs/tolerances.md"),
    ({"output": -1.0}, "a number from 0 on"), ({"output": math.nan}, "a number from 0 on")])
def test_an_allowance_that_is_none(allowances, words):
    with pytest.raises(policies.PolicyError, match=words), policies.changed(allowances):
        pass


# --------------------------------------------------------------------------------- exact and within


def test_same_bits():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert same_bits("a/b/c", a.copy(), a).passed
    b = a.copy()
    b[1, 2] = np.nextafter(b[1, 2], np.float32(9))
    check = same_bits("a/b/c", b, a)
    assert not check.passed and check.measured == 1 and check.metrics["ulp"] == 1
    assert "1 of 6 values differ, most at [1, 2]: 5 in the reference" in check.detail


@pytest.mark.parametrize("other", [
    f(0, 1), f(0, 1, 2).reshape(1, 3), f(-0.0, 1, 2), np.array([0.0, 1, 2]), np.arange(3)])
def test_other_shapes_types_and_zeros_are_not_the_same_bits(other):
    assert same_bits("a/b/c", f(0, 1, 2), f(0, 1, 2)).passed
    assert not same_bits("a/b/c", other, f(0, 1, 2)).passed


def test_within():
    assert within("a/b/c", POLICIES["output"].value, OUTPUT, "far").passed
    for value in (POLICIES["output"].value * 1.01, math.inf, math.nan):
        check = within("a/b/c", value, OUTPUT, "far")
        assert not check.passed and check.detail == "far" and not check.margin <= 1
    assert within("a/b/c", POLICIES["output"].value * 1.01, OUTPUT, factor=2).passed


def test_missing_fails():
    check = missing("a/b/c", "it is not there")
    assert not check.passed and check.margin == math.inf and check.detail == "it is not there"


# ------------------------------------------------------------------------------------ in the chain


@pytest.mark.parametrize("port, cntk, options, expected", [
    (1e-6, 1e-6, {}, (True, True)),
    (1.5e-5, 1e-6, {}, (True, True)),
    (1.8e-5, 1e-6, {}, (True, False)),
    (1e-9, 1e-6, {}, (True, True)),  # nearer than CNTK
    (1e-6, 1e-9, {}, (True, False)),  # CNTK may be exact where the port is not
    (1e-6, 1e-9, {"carried": 1e-6}, (True, True)),  # what rounding carries there
    (1.1e-6, 1e-9, {"carried": 1e-6}, (True, False)),
    (1.5e-5, 1e-6, {"carried": 1e-7}, (True, True)),  # either is enough
    (1e-6, 1e-4, {}, (True, True)),  # errors have grown
    (1e-6, 1e-3, {}, (False, True)),  # CNTK is nowhere near the oracle's formula
    (2e-3, 1e-6, {"kinks": 1}, (True, True)), (1e-6, 2e-3, {"kinks": 1}, (True, True)),
    (0.2, 1e-6, {"kinks": 1}, (True, False)), (1e-6, 0.2, {"kinks": 1}, (False, True))])
def test_in_the_chain(truth, port, cntk, options, expected):
    assert judged(truth, port, cntk, **options) == expected


def test_another_shape_is_one_failed_check(truth):
    values = truth.astype(np.float32)
    for port, oracle in ((values[1:], truth), (values, truth[1:]), (values[None], truth)):
        made = in_the_chain("a/b/c", port, values, oracle)
        assert made.formula is None and not made.port.passed and "shape is" in made.port.detail
        (check,) = on_its_own("a/b/c", port, values, oracle, truth)
        assert not check.passed and "the shape is" in check.detail


def test_where_it_differs_most_is_named(truth):
    truth = truth.reshape(4, 1000)
    port = rounded(truth, 1e-6, 1)
    port[2, 7] += 1
    check = in_the_chain("a/b/c", port, rounded(truth, 1e-6, 2), truth).port
    assert not check.passed and "at [2, 7]" in check.detail
    assert {"largest_absolute", "largest_relative", "ulp", "cosine", "ratio"} <= set(check.metrics)


@pytest.mark.parametrize("kinks", [0, 1])
def test_where_all_is_0_nothing_else_is_near(kinks):
    """A saturated discriminator has gradients of 0, which a softplus form has not."""
    zeros = f(0, 0, 0)
    assert in_the_chain("a/b/c", zeros, zeros, zeros, kinks).port.passed
    for other in (f(0, 1e-9, 0), f(0, 1, 0)):
        assert not in_the_chain("a/b/c", other, zeros, zeros, kinks).port.passed
        assert not all(c.passed for c in on_its_own("a/b/c", other, zeros, zeros, zeros))


def test_the_judgement_with_more_room_is_reported(truth):
    """Near 1 a margin is to say that the port is nearly outside."""
    truth = 1.5 * truth  # a unit in the last place is 1.2e-7
    for port, cntk, policy in ((2e-8, 1e-9, "carried"), (1e-6, 1e-6, "chain")):
        check = in_the_chain("a/b/c", rounded(truth, port, 1), truth + cntk * np.sin(truth * 1e3),
                             truth, carried=1e-7).port
        assert check.passed and check.policy == policy and check.margin <= 0.7


def test_where_cntk_is_right_by_luck_a_port_may_round():
    """Two probabilities with no error of CNTK: the oracle knows what rounding makes of them."""
    truth = np.array([0.99, 0.97])
    cntk = truth.astype(np.float32)
    truth = cntk.astype(np.float64)
    for units, passes in ((3, True), (60, False)):
        port = (truth + units * 2.0 ** -24).astype(np.float32)
        made = in_the_chain("a/b/c", port, cntk, truth, carried=4 * 2.0 ** -24).port
        assert made.passed == passes and made.policy == "carried"
        assert not in_the_chain("a/b/c", port, cntk, truth).port.passed


def test_a_value_that_is_nearly_0_is_rounded_as_its_terms_are():
    """A logit of 1e-3 that is a difference of terms of 1: CNTK's formula is the oracle's all the
    same, on its own where E says so and in the chain where the oracle does."""
    truth = np.array([1e-3])
    cntk = (truth + 3e-8).astype(np.float32)
    port = (truth - 3e-8).astype(np.float32)
    for size, passes in ((1e-8, True), (1e-10, False)):
        formula, judged = on_its_own("a/b/c", port, cntk, truth, np.full(1, size))
        assert formula.passed == passes
        assert formula.policy == ("rounding" if passes else "formula")
        chain = in_the_chain("a/b/c", (truth + 4e-7).astype(np.float32),
                             (truth + 4e-7).astype(np.float32) * np.float32(1 + 1e-7), truth,
                             carried=size * 2e4).formula
        assert chain.passed == passes
        assert judged.passed or not passes


def test_a_decay_of_the_weights():
    """Each weight is rounded; all of them together are scaled by what the largest rounding hides.
    """
    before = np.random.RandomState(0).normal(0, 0.02, 20_000)
    moved = before + np.random.RandomState(1).normal(0, 2e-4, before.size)
    for scale, passes in ((0, True), (1e-8, True), (-1.25e-7, False), (1e-6, False)):
        port = (moved + scale * before).astype(np.float32)
        assert not_decayed("a/b/c", port, moved, before).passed == passes, scale
    assert not_decayed("a/b/c", np.float32(moved[:9] * 1.1), moved[:9], before[:9]).passed
    assert not not_decayed("a/b/c", np.full(9, np.nan), moved[:9], before[:9]).passed
    zeros = np.zeros(99)
    assert not_decayed("a/b/c", zeros.astype(np.float32), zeros, zeros).passed


def test_a_port_with_cntks_bits_computes_cntks_formula(truth):
    """However far float32 is from float64: one value that differs, and it is asked again."""
    cntk = rounded(truth, 1e-2, 1)
    (check,) = on_its_own("a/b/c", cntk.copy(), cntk, truth, np.abs(truth) * 1e-7)
    assert check.passed and check.policy == "exact" and check.metrics["cntk_error"] > 5e-3
    assert check.verdict == "same bits"
    port = cntk.copy()
    port[0] = np.nextafter(port[0], np.float32(9))
    formula, _ = on_its_own("a/b/c", port, cntk, truth, np.abs(truth) * 1e-7)
    assert not formula.passed and formula.policy == "formula"


# ------------------------------------------------------------------------------- nudges


@pytest.mark.parametrize("measured, nudge, policy, passed", [
    (1.9e-6, 0.0, "onnx", True), (2.1e-6, 0.0, "onnx", False),  # the ordinary allowance
    (1.9e-6, 1e-9, "onnx", True),  # which no nudge narrows
    (2.1e-6, 1e-9, "onnx", False),
    (3.9e-3, 1e-3, "nudge", True), (4.1e-3, 1e-3, "nudge", False),
    (np.inf, 1e-3, "nudge", False), (np.nan, 1e-3, "nudge", False)])
def test_four_nudges_where_they_are_more(measured, nudge, policy, passed):
    check = within_nudges("a/b/c", measured, nudge, ONNX)
    assert (check.policy, check.passed) == (policy, passed)
    if policy == "nudge":  # told in nudges, so the margin says how many
        assert check.allowed == 4
        assert check.measured == pytest.approx(measured / nudge, nan_ok=True)


def test_the_formula_of_an_ill_conditioned_layer(truth):
    def formula(cntk, nudge, **more):
        return in_the_chain("a/b/c", rounded(truth, cntk, 1), rounded(truth, cntk, 2), truth,
                            nudge=nudge, **more).formula

    assert not formula(1e-3, 0).passed and formula(1e-3, 5e-4).passed
    assert not formula(1e-3, 2e-4).passed
    assert formula(1e-3, 5e-4).policy == "nudge"
    assert formula(1e-6, 1e-6).policy == "formula_chain"  # an ordinary layer's, as ever


# ------------------------------------------------------------------------------- few values


@pytest.mark.parametrize("count, expected", [(10 ** 6, 1.004), (64, 1.9), (4, 42)])
def test_few_values(count, expected):
    assert few_values(count) == pytest.approx(expected, rel=0.05)


def test_few_values_against_chance():
    """The quantile at 1e-6 is beyond what 100,000 pairs of runs show, and not far beyond."""
    random = np.random.RandomState(0)
    for count in (4, 64):
        a, b = random.normal(size=(2, 100_000, count))
        worst = float(np.max(np.sqrt((a ** 2).mean(1) / (b ** 2).mean(1))))
        assert 0.4 * few_values(count) < worst < few_values(count)
    assert few_values(0) == 1 and few_values(2) > few_values(3)


def test_a_ratio_of_few_values_is_mostly_luck(truth):
    def ratio(values, distinct=None):
        part = truth[:values]
        return in_the_chain("a/b/c", rounded(part, 3e-5, 1), rounded(part, 1e-6, 2), part,
                            distinct=distinct).port

    assert ratio(4).passed and not ratio(SIZE).passed
    assert ratio(SIZE, distinct=4).passed  # the errors of one sample go together
    assert ratio(4).allowed == pytest.approx(16 * few_values(4))


def test_the_docs_have_every_array_and_fact_as_it_is():
    page = (documentation.DOCS / "captures.md").read_text()
    assert page == documentation.captures()
    assert all(f"`{name}`" in page for name in FACTS)


def test_the_docs_have_every_tolerance_as_it_is():
    """A changed tolerance shows in a diff; `make docs` writes the page."""
    assert (documentation.DOCS / "tolerances.md").read_text() == documentation.tolerances()
