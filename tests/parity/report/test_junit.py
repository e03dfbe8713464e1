"""junit.xml, as a reader of continuous integration sees it."""
from xml.etree import ElementTree

import pytest
from report_samples import POLICIES, agreeing, differing, inheriting, odd

from parity.judge.results import Report, Stage
from parity.report.junit import as_junit, write_junit


def read(report: Report) -> ElementTree.Element:
    return ElementTree.fromstring(as_junit(report, POLICIES))


EMPTY = Report({}, {}, [*agreeing().stages, Stage("empty", "")])


@pytest.mark.parametrize("report", [
    agreeing(), differing(), inheriting(), odd(), EMPTY, Report({}, {})])
def test_it_fails_exactly_when_the_report_does_and_counts_right(report):
    root = read(report)
    assert (root.get("failures") == "0") is report.passed
    assert len(root.findall("testsuite")) == max(len(report.stages), 1)
    for holder in (root, *root.findall("testsuite")):
        assert int(holder.get("tests")) == len(list(holder.iter("testcase")))
        assert int(holder.get("failures")) == len(list(holder.iter("failure")))


def test_a_case_per_check_under_names_of_their_own():
    root = read(agreeing())
    assert root.get("tests") == "384"
    for suite in root:
        names = [(case.get("classname"), case.get("name")) for case in suite.iter("testcase")]
        assert len(set(names)) == len(names)
    assert root.find("testsuite[@name='forward/training']/testcase").attrib == {
        "classname": "parity.forward.training",
        "name": "generator/conv1/output (own inputs)"}


def test_two_checks_of_one_place_stay_two():
    checks = agreeing().stages[0].checks[:1] * 2
    names = [case.get("name") for case in read(Report({}, {}, [Stage("s", "", checks)])).iter(
        "testcase")]
    assert names == ["generator/conv1/shape", "generator/conv1/shape #2"]


def test_a_failure_says_what_was_measured_and_allowed():
    failure = next(read(differing()).iter("failure"))
    assert failure.get("message") == "measured 52341.7 > allowed 4.0 times CNTK's error"
    assert failure.get("type") == "layer_rounding"
    assert "smallest tolerance that would have passed: 52350" in failure.text
    assert "born here" in failure.text
    assert not list(read(agreeing()).iter("failure"))


def test_plan_versions_and_blame_are_properties():
    def properties(report: Report) -> dict:
        return {item.get("name"): item.get("value") for item in read(report)[0].iter("property")}

    found = properties(differing())
    assert found["plan.seed"] == "0" and found["cntk.threads"] == "2"
    assert found["cntk.versions"] == "cntk 2.7.post2, opencv 4.1.1"
    assert found["port.versions"].startswith("torch 2.13.0") and "the port" in found["blame"]
    assert found["reproduction"] == differing().reproduction
    assert "blame" not in properties(agreeing())


def test_notes_and_times():
    suite = read(agreeing()).find("testsuite[@name='onnx']")
    assert "drops aggregate_count" in suite.find("system-out").text
    assert suite.get("time") == "6.200"


def test_an_empty_stage_has_a_case_that_fails():
    failure = read(EMPTY).find("testsuite[@name='empty']/testcase/failure")
    assert failure.get("message") == "nothing was checked"


def test_odd_names_survive():
    case = next(read(odd()).iter("testcase"))
    assert case.get("name") == "generator/<conv&\"3\">[red]'\\x01\\x1b]\\ud800é/output"


def test_the_file_holds_the_bytes(tmp_path):
    write_junit(odd(), POLICIES, tmp_path / "junit.xml")
    assert (tmp_path / "junit.xml").read_bytes() == as_junit(odd(), POLICIES)
