"""The report in a terminal."""
import io

import pytest
from report_samples import POLICIES, agreeing, differing, inheriting, odd
from rich.console import Console

from parity.judge import judgements
from parity.judge.results import Diagnosis, Report, Stage
from parity.report.terminal import print_report


def printed(report: Report, width: int = 80, **options) -> str:
    file = io.StringIO()
    print_report(report, Console(file=file, width=width), POLICIES, **options)
    return file.getvalue()


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 160])
def test_the_verdict_stands_first_and_every_stage_has_a_row(width):
    for report, verdict in ((agreeing(), "AGREE"), (differing(), "DIFFER")):
        lines = printed(report, width).splitlines()
        assert lines[0].startswith(verdict + "  ")
        for stage in report.stages:
            mark = "ok" if stage.passed else "FAIL"
            assert any(line.split()[:2] == [mark, stage.name] for line in lines)


def test_agreement_mentions_no_failure():
    text = printed(agreeing())
    assert "DIFFER" not in text and "FAIL" not in text and "First difference" not in text


@pytest.mark.parametrize("width", [40, 80, 100, 160])
@pytest.mark.parametrize("report", [agreeing(), differing(), inheriting(), odd()])
def test_no_line_is_wider_than_the_console_but_the_path_to_copy(report, width):
    for line in printed(report, width).splitlines():
        assert len(line) <= width or report.reproduction in line


@pytest.mark.parametrize("width", [80, 160])
def test_a_failure_has_all_its_facts(width):
    text = flat(printed(differing(), width))
    for fact in ("generator/conv3/output", "52342 times CNTK's error", "4 times CNTK's error",
                 "layer_rounding", "sums in another order differ by up to 2.6 times",
                 "smallest tolerance", "born here: the layer was given CNTK's own inputs",
                 "whose it is: the port: from the same inputs", differing().reproduction,
                 "twin iteration0005/losses/D_loss: measured infinite, allowed 2"):
        assert fact in text


def test_a_failed_run_with_what_explains_it_is_one_screen():
    """Verdict, place, diagnosis, mend and page; a mend is whole."""
    report = differing()
    report.diagnoses = [
        Diagnosis("forward/training", tuple(f"generator/bn{i}/output" for i in range(1, 7)),
                  "another-epsilon", "epsilon is 0.001, CNTK's is 1e-05", "eps=1e-05",
                  "docs/behaviours.md#batch-normalisation"),
        Diagnosis("step", ("after_d/x",), "", "3 of 9 values differ")]
    report.stages.append(Stage("ledger", "", not_judged="the adapter does not say"))
    lines = printed(report, 100, layers=False).splitlines()
    assert len(lines) <= 50
    text = flat(" ".join(lines))
    for said in ("DIFFER", "not judged: ledger", "First difference", "generator/conv3/output",
                 "What explains it",
                 "another epsilon epsilon is 0.001, CNTK's is 1e-05",
                 "in forward/training: generator/bn1/output and 5 more", "mend eps=1e-05",
                 "page docs/behaviours.md#batch-normalisation",
                 "no known mistake 3 of 9 values differ"):
        assert said in text
    assert "What explains it" not in printed(differing(), 100)


def test_what_was_not_judged_stands_behind_the_difference():
    report = differing()
    report.stages.append(Stage("ledger", "", not_judged="the adapter does not say"))
    text = printed(report)
    assert text.index("First difference") < text.index("ledger was not judged: the adapter")


def test_the_stages_that_are_not_judged_are_as_many_as_are_listed():
    """That of what stood in for CNTK, where nothing did, is not among them."""
    report = differing()
    report.stages.insert(0, Stage("reference", "", not_judged="real CNTK made it"))
    report.stages += [Stage(name, "", not_judged="nobody asked") for name in ("twin", "score")]
    text = flat(printed(report, 160))
    assert "; 2 stages not judged" in text and "not judged: twin, score checks:" in text
    assert "reference does not apply: real CNTK made it" in text


def test_what_the_port_raised_is_on_the_screen_behind_other_differences_too():
    report = differing()
    report.diagnoses = [Diagnosis("step", ("x",), "another-epsilon", "epsilon is 0.001")]
    said = "the port stopped: initial: AttributeError: no such layer"
    report.stages += [Stage("initial", "", not_judged=f"no array: {said}"),
                      Stage("whole", "", [judgements.missing("port/capture/whole", said)])]
    assert f"whole port/capture/whole: {said}" in flat(printed(report, layers=False))


def test_an_inherited_failure_is_called_so():
    text = flat(printed(inheriting()))
    assert "inherited: on CNTK's own inputs every layer" in text
    assert "reproduce with" not in text and "whose it is: not determined" in text


def test_rows_per_layer_are_there_unless_unwanted():
    assert "leaky_relu5" in printed(agreeing())
    assert "leaky_relu5" not in printed(agreeing(), layers=False)
    wide, narrow = printed(agreeing(), 160), printed(agreeing(), 80)
    assert "1 - cosine" in wide and "1 - cosine" not in narrow


def test_a_worst_margin_says_where_and_an_exact_stage_says_exact():
    lines = printed(differing()).splitlines()
    row = next(line for line in lines if line.startswith("FAIL  forward/training"))
    assert "generator/conv3/output" in row and "34/116" in row and "13085" in row
    row = next(line for line in lines if line.startswith("ok    initial"))
    assert row.split() == ["ok", "initial", "14", "exact", "0.5"]


def test_an_empty_stage_fails_by_name():
    text = flat(printed(odd()))
    assert "FAIL empty nothing was checked" in text
    assert "Empty stage empty: nothing was checked" in text


def test_a_report_with_an_empty_stage_only():
    text = flat(printed(Report({}, {}, [Stage("reader", "")])))
    assert text.startswith("DIFFER 0 of 0 checks failed, in 0 of 1 stage; 1 stage checked nothing")
    assert "First difference" not in text


def test_a_report_without_stages_differs():
    assert printed(Report({}, {})).startswith("DIFFER  No stage ran")


def test_names_are_neither_markup_nor_control():
    text = printed(odd(), 160)
    assert "[red]" in text and "[bold]stage" in text and "\\x1b" in text
    assert "\x1b" not in text and "\x01" not in text and "\ud800" not in text


def test_colour_only_where_a_terminal_is():
    file = io.StringIO()
    print_report(differing(), Console(file=file, width=80, force_terminal=True,
                                      color_system="standard"), POLICIES)
    assert "\x1b[" in file.getvalue()
    assert "\x1b" not in printed(differing())


def test_a_console_of_ascii_takes_any_name():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    print_report(odd(), Console(file=file, width=160), POLICIES)
    file.flush()
    assert b"\\xe9/output" in raw.getvalue()
