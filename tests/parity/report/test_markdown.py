"""The summary for a pull request, and the badge."""
import json
import math

from report_samples import POLICIES, agreeing, differing

from parity.judge.results import Check, Diagnosis, Stage
from parity.report.markdown import MOST, as_badge, as_markdown, write_badge, write_markdown


def rows(text: str) -> list[list[str]]:
    return [[part.strip() for part in line.strip("|").split("|")] for line in text.splitlines()
            if line.startswith("| ") and "---" not in line][1:]


def test_agreement():
    report = agreeing()
    text = as_markdown(report, POLICIES)
    assert text.startswith("## AGREE") and "First difference" not in text
    assert [row[0] for row in rows(text)] == [stage.name for stage in report.stages]
    assert as_badge(report)["color"] == "brightgreen"


def test_a_difference_is_named():
    report = differing()
    text = as_markdown(report, POLICIES)
    stage, check = report.first_failure
    assert text.startswith("## DIFFER") and f"`{stage.name}`, `{check.place}`" in text
    assert [row[3] for row in rows(text)].count("**FAIL**") == sum(
        not one.passed for one in report.judged)
    assert as_badge(report)["message"].startswith("differs")


def test_numbers_are_short_and_what_is_missing_has_none():
    report = differing()
    report.stages[0].checks += [Check("a/b/c", math.inf, 0, "arrays", "there", detail="only here"),
                                Check("a/b/d", 186.0, 0.0, "differing values", "exact"),
                                Check("a/b/e", 8147439.91858876, 4.0, "units", "exact")]
    text = as_markdown(report, POLICIES)
    assert "`a/b/c`: only here\n" in text and "186 differing values, 0 allowed\n" in text
    assert "8147440 units, 4 allowed" in text


def test_what_explains_it():
    report = differing()
    report.diagnoses = [Diagnosis("step", ("after_d/x",), "weight-decay", "it is 1e-4",
                                  "weight_decay=0", "docs/page.md")]
    text = as_markdown(report, POLICIES)
    assert "**weight decay**: it is 1e-4" in text and "mend: weight_decay=0" in text


def test_not_judged_is_no_ok():
    report = agreeing()
    report.stages.append(Stage("twin", "", not_judged="nobody asked"))
    assert rows(as_markdown(report, POLICIES))[-1][3] == "not judged: nobody asked"


def test_many_failures_are_counted_and_names_cannot_break_the_table(tmp_path):
    report = differing()
    report.stages.append(Stage("a|b`c\n", "", [
        Check(f"x|{i}", 2.0, 1.0, "units", "exact") for i in range(30)]))
    text = as_markdown(report, POLICIES)
    assert text.count("\n- ") == MOST + 1 and "more" in text.splitlines()[-1]
    assert all(len(row) == 4 for row in [
        line.replace("\\|", "").strip("|").split("|")
        for line in text.splitlines() if line.startswith("| ")])
    write_markdown(report, POLICIES, tmp_path / "report.md")
    write_badge(report, tmp_path / "badge.json")
    assert (tmp_path / "report.md").read_text() == text
    assert json.loads((tmp_path / "badge.json").read_text())["schemaVersion"] == 1
