"""What all formats say alike: numbers, places, the facts of a failure."""
import math
from dataclasses import replace

import pytest
from report_samples import POLICIES, agreeing, differing, inheriting, odd, stage_of

from parity.judge.results import Check, Report, Stage
from parity.report import facts
from parity.report.facts import Place


@pytest.mark.parametrize("value, text", [
    (0.0, "0"), (-0.0, "0"), (3.0, "3"), (40000.0, "40000"), (0.25, "0.25"), (1.2345, "1.23"),
    (0.0123456, "0.0123"), (52341.7, "52342"), (-1.5, "-1.5"), (1234.5678, "1235"),
    (9.9999, "10"), (1e-7, "1.00e-07"), (1.23456e9, "1.23e+09"), (math.nan, "NaN"),
    (math.inf, "infinite"), (-math.inf, "-infinite"), ("infinite", "infinite"),
])
def test_a_number_is_short_and_says_what_it_is(value, text):
    assert facts.number(value) == text


def test_a_failed_check_never_shows_equal_numbers():
    assert facts.pair(2.0000001, 2.0) == ("2.0000001", "2")
    assert facts.pair(2.0, 2.0) == ("2", "2")
    assert facts.pair(math.inf, 2.0) == ("infinite", "2")


@pytest.mark.parametrize("place, parts", [
    ("generator/conv3/output", ("generator", "conv3", "output")),
    ("discriminator/fake/conv3/output", ("discriminator/fake", "conv3", "output")),
    ("generator/conv3", ("generator", "conv3", "")),
    ("counts", ("", "counts", "")),
])
def test_a_place_is_taken_apart(place, parts):
    assert Place.of(place) == Place(*parts)


def test_the_layers_of_a_stage_join_both_ways_of_judging():
    networks = facts.layers(stage_of(agreeing(), "forward/training"))
    assert list(networks) == ["generator", "discriminator_real", "discriminator_fake"]
    assert [row.label for row in networks["generator"]][:4] == ["conv1", "bn1", "relu1", "conv2"]
    assert all(row.own.local is True and row.chain.local is False
               for rows in networks.values() for row in rows)


def test_the_worse_of_two_checks_of_a_layer_is_shown():
    checks = [Check("d/conv1/output", value, 1, "", "p") for value in (0.5, 2.0, 0.1)]
    (row,) = facts.layers(Stage("s", "", checks))["d"]
    assert row.chain is checks[1] and not row.passed


def test_layers_with_several_quantities_are_told_apart():
    checks = [Check(f"d/conv1/{name}", 0, 1, "", "p") for name in ("weight", "bias")]
    assert [row.label for row in facts.layers(Stage("s", "", checks))["d"]] == [
        "conv1 weight", "conv1 bias"]


@pytest.mark.parametrize("measured, worst", [
    ([0.1, 0.9, 0.5], 1), ([2.0, math.inf, 0.5], 1), ([2.0, math.nan, 3.0], 1),
    ([0.5, math.nan, math.inf], 1)])
def test_the_worst_check_is_the_one_furthest_beyond_its_tolerance(measured, worst):
    checks = [Check(str(i), value, 1.0, "", "p") for i, value in enumerate(measured)]
    assert facts.worst(Stage("s", "", checks)) is checks[worst]
    assert facts.worst(Stage("s", "")) is None


def test_failed_checks_come_first_and_those_born_there_before_inherited_ones():
    checks = [Check("passed", 0, 1, "", ""), Check("inherited", 2, 1, "", "", local=False),
              Check("born", 2, 1, "", "", local=True), Check("unasked", 2, 1, "", "")]
    assert [check.place for check in facts.failed_first(checks)] == [
        "born", "unasked", "inherited", "passed"]


def test_the_smallest_tolerance_would_have_passed():
    stage, check = differing().first_failure
    said = dict(facts.failure_facts(stage, check, POLICIES))
    tolerance = float(said["smallest tolerance that would have passed"])
    assert replace(check, allowed=tolerance).passed
    assert tolerance == 52350 and check.measured == 52341.7  # four digits, upwards
    assert "2.6 times" in said["where it came from"]


@pytest.mark.parametrize("value, text", [
    (8147439.91858876, "8148000"), (0.123401, "0.1235"), (0.5, "0.5"), (1.2345e-7, "1.235e-07"),
    (9999.5, "10000"), (3.0, "3")])
def test_four_digits_upwards(value, text):
    assert facts.upward(value) == text and float(text) >= value


def test_what_is_missing_is_said_in_words():
    missing = Check("a/b/c", math.inf, 0, "arrays", "there", detail="only the port has it")
    assert facts.brief(missing) == "a/b/c: only the port has it"
    measured = replace(missing, allowed=2.0)
    assert facts.brief(measured) == "a/b/c: measured infinite, allowed 2 arrays"


def test_what_does_not_apply_is_not_counted_as_not_judged():
    """Real CNTK made the reference: nothing stood in for it."""
    report = agreeing()
    report.stages.append(Stage("reference", "", not_judged="real CNTK made the reference itself"))
    assert facts.summary(report).startswith("All 384 checks of 15 stages")
    report.reference = "The port stood in for CNTK"
    assert "Agrees as far as judged, 15 of 16 stages" in facts.summary(report)


def test_no_tolerance_passes_where_nothing_was_measured():
    stage = odd().stages[0]
    for check, word in zip(stage.checks, ("NaN", "infinite"), strict=True):
        said = dict(facts.failure_facts(stage, check, {}))
        assert said["smallest tolerance that would have passed"] == (
            f"none: the measured value is {word}")
        assert "where it came from" not in said


def test_it_says_whether_the_error_was_born_there():
    def said(stage: Stage, check: Check) -> str:
        return dict(facts.failure_facts(stage, check, {}))["born or inherited"]

    assert said(*differing().first_failure).startswith("born here: the layer was given")
    assert said(*inheriting().first_failure).startswith("inherited: on CNTK's own inputs every")
    stage = stage_of(differing(), "forward/training")
    after = next(check for check in stage.checks if not check.passed and check.local is False)
    assert said(stage, after).startswith("perhaps inherited: a layer of this stage fails")
    alone = Check("a/b/c", 2, 1, "", "", local=False)
    assert said(Stage("s", "", [alone]), alone).startswith("perhaps inherited: it was judged after")
    assert said(*odd().first_failure).startswith("born here: nothing before it")


def test_summaries():
    assert facts.summary(agreeing()) == (
        "All 384 checks of 15 stages are within their tolerances")
    assert facts.summary(differing()) == "35 of 384 checks failed, in 2 of 15 stages"
    assert facts.summary(odd()) == (
        "2 of 2 checks failed, in 1 of 2 stages; 1 stage checked nothing")
    some = agreeing()
    some.stages.append(Stage("ledger", "", not_judged="the adapter does not say"))
    assert facts.summary(some) == ("Agrees as far as judged, 15 of 16 stages: all 384 checks of 15 "
                                   "stages are within their tolerances")
    assert facts.summary(Report({}, {})) == "No stage ran, so nothing was compared"


@pytest.mark.parametrize("policies, reason", [
    ({"p": {"source": "an oracle"}}, "an oracle"), ({"p": {"reason": "a floor"}}, "a floor"),
    ({"p": "said"}, "said"), ({"p": 3.0}, ""), ({"p": {"value": 1}}, ""), ({}, "")])
def test_the_reason_of_a_policy(policies, reason):
    assert facts.policy_reason(policies, "p") == reason


def test_the_threads_of_each():
    plan = {"threads": 1, "cntk_threads": 2}
    assert [facts.threads({"producer": name, "threads": 1}, plan)
            for name in ("cntk", "port", "stand-in")] == ["2", "1", "1"]
    assert facts.threads({"producer": "cntk", "threads": 1}, {}) == "1"


def test_control_characters_are_shown_not_sent():
    assert facts.plain("a\x1b[31mé\ud800\n") == "a\\x1b[31mé\\ud800\\n"
