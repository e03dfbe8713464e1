"""report.json."""
import json
import math

import numpy as np
import pytest
from report_samples import POLICIES, agreeing, differing, inheriting, odd

from captures.files import strict
from parity.judge.policies import policies
from parity.judge.results import Report
from parity.report.json_report import as_json, write_json
from tests.schemas import misfits, schema


def read(report: Report, policies=POLICIES) -> dict:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(as_json(report, policies), parse_constant=refuse)


@pytest.mark.parametrize("report, passed", [
    (agreeing(), True), (differing(), False), (inheriting(), False), (odd(), False),
    (Report({}, {}), False)])
def test_it_is_strict_json_with_the_verdict(report, passed):
    made = read(report)
    assert made["passed"] is passed and made["format"] == 1
    assert [stage["passed"] for stage in made["stages"]] == [s.passed for s in report.stages]


def test_every_check_comes_back_whole():
    report = differing()
    for stage, whole in zip(read(report)["stages"], report.stages, strict=True):
        for check, one in zip(stage["checks"], whole.checks, strict=True):
            assert float(check["measured"]) == one.measured
            assert (check["place"], check["allowed"], check["unit"], check["local"]) == (
                one.place, one.allowed, one.unit, one.local)
            assert check["metrics"] == one.metrics


def test_the_first_difference():
    assert read(differing())["first_failure"] == {
        "stage": "forward/training", "place": "generator/conv3/output"}
    assert read(agreeing())["first_failure"] is None


def test_what_json_has_no_number_for_is_text():
    checks = read(odd())["stages"][0]["checks"]
    assert [check["measured"] for check in checks] == ["nan", "inf"]
    policies = {"p": {"value": math.inf, "floor": np.float32(0.5), "runs": np.arange(2),
                      "worst": np.float32("nan"), "bounds": (1.0, -math.inf)}}
    assert read(agreeing(), policies)["policies"] == {
        "p": {"value": "inf", "floor": 0.5, "runs": [0, 1], "worst": "nan",
              "bounds": [1.0, "-inf"]}}
    assert strict({1: True}) == {"1": True}


def test_names_come_back_as_they_were():
    report = odd()
    assert read(report)["stages"][0]["checks"][0]["place"] == report.stages[0].checks[0].place


def test_the_file_holds_the_text(tmp_path):
    write_json(differing(), POLICIES, tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text("ascii") == as_json(differing(), POLICIES)


@pytest.mark.parametrize("report", [agreeing(), differing(), inheriting(), odd(), Report({}, {})])
def test_it_is_as_the_published_schema_says(report):
    assert list(misfits(read(report, policies()), schema("report"))) == []


@pytest.mark.parametrize(("change", "said"), [
    (lambda made: made.pop("passed"), ": no passed"),
    (lambda made: made.update(format=2), "/format: not 1"),
    (lambda made: made.update(more=1), ": more is not in the schema"),
    (lambda made: made.update(blame="somebody"), "/blame: none of"),
    (lambda made: made["stages"][0].update(passed=1), "/stages/0/passed: no boolean"),
    (lambda made: made["stages"][0]["checks"][0].update(measured="1"),
     "/stages/0/checks/0/measured: none of the forms"),
    (lambda made: made["first_failure"].pop("place"), "/first_failure: none of the forms")])
def test_what_is_not_as_the_schema_says_is_found(change, said):
    made = read(differing(), policies())
    change(made)
    found = list(misfits(made, schema("report")))
    assert len(found) == 1 and found[0].startswith(said)
