"""report.html, read as a browser reads it."""
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from report_samples import POLICIES, agreeing, differing, inheriting, odd, pictures

from parity.judge.results import Check, Report, Stage
from parity.report.html import as_html, write_html
from parity.report.pictures import Pictures

VOID = {"meta", "img", "link", "br", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, visible text; asserts that every element is closed."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, attribute: str) -> list[str]:
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]


@pytest.fixture(scope="module")
def good() -> str:
    return as_html(agreeing(), pictures(), POLICIES)


@pytest.fixture(scope="module")
def bad() -> str:
    return as_html(differing(), pictures(0.3), POLICIES)


@pytest.fixture(scope="module")
def strange() -> str:
    return as_html(odd(), Pictures(), {
        "<policy>": {"value": "<b>", "source": "<script>x</script>"}})


def test_agreement_says_so_and_nothing_else(good):
    text = Page(good).text
    assert "✓ AGREE" in text and "All 384 checks of 15 stages" in text
    assert "DIFFER" not in text and "What differs" not in text
    assert 'class="failed' not in good


def test_a_difference_stands_first_with_its_owner(bad):
    text = Page(bad).text
    assert "✗ DIFFER" in text and "AGREE" not in text
    assert text.index("First difference: generator/conv3/output: measured 52342, allowed 4") < \
        text.index("What ran")
    for fact in ("52342 times CNTK's error", "smallest tolerance that would have passed 52350",
                 "whose it is the port: from the same inputs", differing().reproduction,
                 "born here: the layer was given CNTK's own inputs",
                 "twin: iteration0005/losses/D_loss: measured infinite"):
        assert fact in text


def test_failed_rows_come_first_in_their_stage(bad):
    stage = bad[bad.index('id="stage-7"'):bad.index('id="stage-8"')]
    marks = re.findall(r'<tr( class="failed")?><td><span', stage)
    assert len(marks) == 116 and all(marks[:34]) and not any(marks[34:])


@pytest.mark.parametrize("name", ["good", "bad", "strange"])
def test_nothing_is_loaded_from_anywhere(name, request):
    html = request.getfixturevalue(name)
    page = Page(html)
    assert "http://" not in html and "https://" not in html and "@import" not in html
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    for attribute in ("src", "href", "xlink:href", "srcset", "action"):
        assert all(value.startswith(("data:image/png;base64,", "#"))
                   for value in page.all(attribute))
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


@pytest.mark.parametrize("name", ["good", "bad", "strange"])
def test_ids_are_unique_and_links_lead_somewhere(name, request):
    page = Page(request.getfixturevalue(name))
    ids = page.all("id")
    assert len(set(ids)) == len(ids)
    assert {value[1:] for value in page.all("href") if value.startswith("#")} <= set(ids)


def test_every_picture_can_be_read_aloud(bad):
    for tag, attrs in Page(bad).tags:
        if tag == "img":
            assert attrs["alt"]
        if tag == "svg":
            assert attrs.get("aria-label") or attrs.get("aria-hidden")


def test_every_stage_has_a_badge_and_every_check_a_row(good):
    page = Page(good)
    for i, stage in enumerate(agreeing().stages, 1):
        assert f"#stage-{i}" in page.all("href")
        for check in stage.checks:
            assert check.place in page.text
    assert good.count('<td class="place">') == 384


def test_every_column_is_explained(good):
    legend = good[good.index("What the columns mean"):good.index('id="stage-1"')]
    headings = set(re.findall(r"<th[^>]*>([^<]+)</th>", good[good.index('id="stage-1"'):
                                                            good.index('id="policies"')]))
    assert {"place", "measured", "CNTK&#39;s error", "1 - cosine", "values"} <= headings
    for heading in headings:
        assert heading in legend


def test_what_ran_and_why_the_tolerances(good):
    text = Page(good).text
    for fact in ("cntk 2.7.post2", "torch 2.13.0", "onnxruntime 1.32.0", "warmup_iterations",
                 "sums in another order differ", "measured_floor: p99: 1.31, runs: 20",
                 "CNTK's exporter drops aggregate_count", "1.93 (1.81 to 2.06)"):
        assert fact in text


def test_all_pictures_are_there_and_are_left_out_when_missing(good, strange):
    for html, there in ((good, True), (strange, False)):
        sections = set(Page(html).all("id"))
        assert ({"layers", "weights", "training", "images", "score"} <= sections) is there
        assert ("data:image/png" in html) is there
    assert good.count('<svg role="img"') == 6 + 3 + 14 + 3


def test_the_factor_of_the_differences_is_stated(good, bad):
    assert "difference \u00d7 5,000,000" in Page(good).text
    assert "difference \u00d7 5" in Page(bad).text and "5,000,000" not in bad


def test_images_of_the_same_bits():
    text = Page(as_html(agreeing(), pictures(0.0), POLICIES)).text
    assert "The two generators give the same bits" in text


def test_images_that_do_not_fit_are_a_sentence_not_a_crash():
    cntk, port = pictures().images
    html = as_html(agreeing(), Pictures(images=(cntk, port[:1])), POLICIES)
    assert "No images: images have the shapes" in Page(html).text


def test_weights_that_differ_are_counted():
    weights = np.linspace(-0.05, 0.05, 101, dtype=np.float32)
    moved = weights.copy()
    moved[7] = 0
    made = Pictures(initial={"generator/conv1/weight": (weights, moved), "other": (
        weights, weights[:50])})
    text = Page(as_html(agreeing(), made, POLICIES)).text
    assert "generator/conv1: 1 of 101 values differ" in text
    assert "other: 101 values and 50" in text


def test_weights_that_are_no_numbers_have_no_deviation():
    made = Pictures(initial={"a": (np.full(3, np.nan), np.zeros(0))})
    assert "a: 3 values and 0, standard deviation none" in Page(
        as_html(agreeing(), made, POLICIES)).text


@pytest.mark.parametrize("port, said", [
    ([0.0, 0.0], "The port never left CNTK"), ([1e-7, 1e-2], "within CNTK's reruns in 1 of them")])
def test_the_horizon_in_words(port, said):
    report = agreeing()
    report.curves = {"horizon/port": port, "horizon/rerun1": [1e-7, 1e-6],
                     "horizon/rerun2": [float("nan")] * 2}
    html = as_html(report, Pictures(), POLICIES)
    assert said in Page(html).text and "Loss of the" not in html


def test_without_reruns_there_is_no_figure_of_them():
    report = agreeing()
    report.curves = {name: values for name, values in report.curves.items()
                     if not name.startswith("horizon/rerun")}
    text = Page(as_html(report, Pictures(), POLICIES)).text
    assert "How fast the two part" not in text and "band" not in text
    assert "A port with CNTK's bits keeps them" in text and "Loss of the" in text


def test_a_network_without_errors_has_no_chart(good):
    """What an evaluation changes is counted, and has no distance from float64."""
    report = agreeing()
    stage = next(one for one in report.stages if one.name == "forward/evaluation")
    stage.checks.append(Check("evaluation/changes/nothing", 0, 0, "values", "exact"))
    assert as_html(report, pictures(), POLICIES).count('<svg role="img"') == good.count(
        '<svg role="img"')


def test_the_oracle_is_nobodys_port(good, strange):
    assert "The oracle is this project's own model of CNTK's program in float64" in Page(good).text
    assert "The oracle is" not in Page(strange).text


def test_what_was_not_judged_stands_behind_the_difference():
    for report in (agreeing(), differing()):
        report.stages.append(Stage("ledger", "", not_judged="the adapter does not say"))
        text = Page(as_html(report, Pictures(), POLICIES)).text
        assert text.count("ledger was not judged: the adapter does not say") == 1
    assert text.index("First difference") < text.index("ledger was not") < text.index("What ran")


def test_no_long_word_makes_a_narrow_page_scroll(good):
    """A note may hold a checksum; tables have boxes of their own that scroll."""
    assert "p, li, dd, h3, summary { overflow-wrap: anywhere; }" in good
    assert good.count("<table") == good.count('<div class="scroll"><table')


def test_names_are_text(strange):
    page = Page(strange)
    assert "<script>alert(1)</script>" in page.text and "alert(1)</script>" not in strange
    assert "\\x01\\x1b]\\ud800é/output" in page.text and "\x01" not in strange
    assert "measured NaN, allowed 0.1 <times>" in page.text
    assert "empty: nothing was checked" in page.text


def test_empty_reports_have_a_page():
    assert "No stage ran" in Page(as_html(Report({}, {}), Pictures(), {})).text
    nothing = Report({}, {}, [Stage("reader", "", [])])
    assert "Stages that failed" in Page(as_html(nothing, Pictures(), {})).text


def test_a_layer_that_could_not_be_measured_has_its_row():
    check = Check("generator/conv1/output", float("inf"), 4.0, "times", "p", {}, local=False)
    with_figures = Check("generator/bn1/output", 1.0, 4.0, "times", "p",
                         {"cntk_error": float("nan"), "port_error": float("inf")}, local=False)
    html = as_html(Report({}, {}, [Stage("forward/training", "", [check, with_figures])]),
                   Pictures(), {})
    assert "✗ conv1" in html


def test_an_inherited_difference_is_called_so():
    assert "inherited: on CNTK's own inputs every layer" in Page(
        as_html(inheriting(), Pictures(), POLICIES)).text


def test_the_page_is_small_and_always_the_same(bad, tmp_path):
    noise = np.random.RandomState(0).uniform(-1, 1, (2, 8, 3, 256, 256)).astype(np.float32)
    full = Pictures(pictures().initial, (noise[0], noise[1]))
    write_html(differing(), full, POLICIES, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    assert as_html(differing(), pictures(0.3), POLICIES) == bad
