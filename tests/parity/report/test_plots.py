"""The plots: SVG that is well-formed, one in a page with others, and takes any numbers."""
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from report_samples import agreeing, differing, stage_of

from parity.report import facts, plots


def text_of(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-label")
    return [element.text or "" for element in root.iter("text")]


def panel(report, name: str = "a") -> str:
    rows = facts.layers(stage_of(report, "forward/training"))["generator"]
    return plots.layer_panel(rows, (-8, -1), (-1, 5), name, "three <layers> & \"more\"")


def test_a_panel_names_each_layer_and_marks_the_failed():
    good, bad = text_of(panel(agreeing())), text_of(panel(differing()))
    assert "conv3" in good and not any("✗" in text for text in good)
    assert "✗ conv3" in bad and "conv2" in bad


def test_an_error_of_zero_has_a_place_on_the_log_axis():
    rows = facts.layers(stage_of(agreeing(), "forward/training"))["generator"]
    assert "0" in text_of(plots.layer_panel(rows, (-8, -5), (-1, 1), "a", "x"))
    without = [row for row in rows if row.label != "relu1"]
    assert "0" not in text_of(plots.layer_panel(without, (-8, -5), (-1, 1), "a", "x"))


def test_ids_are_the_pictures_own_and_all_references_hit():
    a, b = panel(agreeing(), "a"), panel(agreeing(), "b")
    ids = {name: set(re.findall(r' id="([^"]*)"', svg)) for name, svg in (("a", a), ("b", b))}
    assert ids["a"] and not ids["a"] & ids["b"]
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', a)) <= ids["a"]


def test_colours_are_the_pages_and_nothing_is_loaded():
    svg = panel(differing())
    for colour, variable in plots.VARIABLES.items():
        assert svg.count(colour) == svg.count(f"var({variable}, {colour})")
    assert "var(--bad" in svg and "http" not in svg and "<style" not in svg
    assert "DejaVu" not in svg


def test_the_same_report_gives_the_same_bytes():
    assert panel(agreeing()) == panel(agreeing())


@pytest.mark.parametrize("values, expected", [
    ([], (-8, -7)), ([0.0, math.nan, math.inf], (-8, -7)), ([1e-7, 3e-4], (-7, -3)),
    ([1.0], (0, 1)), ([5e-324, 1.7e308], (-300, 300)), ([2.0, 5.0], (0, 1))])
def test_decades(values, expected):
    assert plots.decades(values) == expected


@pytest.mark.parametrize("port", [
    [], [0.0] * 5, [1e-7, math.nan, math.inf, 1e-3], [1e-7], [5e-324, 1.7e308]])
@pytest.mark.parametrize("reruns", [[], [[0.0] * 3], [[1e-7, 1e-6], [2e-7, math.nan, 1e-5]]])
def test_a_horizon_of_any_numbers(port, reruns):
    assert "iteration" in text_of(plots.horizon(port, reruns, "h", "horizon"))


@pytest.mark.parametrize("cntk, port", [
    ([], [1.0]), ([1.0, 0.5], []), ([math.nan] * 3, [math.inf] * 3),
    (list(np.linspace(1, 0, 5000)), list(np.linspace(1, 0.1, 5000)))])
def test_losses_of_any_numbers(cntk, port):
    assert "iteration" in text_of(plots.loss_curve(cntk, port, "l", "loss"))


@pytest.mark.parametrize("values", [
    np.zeros(0, np.float32), np.zeros(9, np.float32), np.full(4, np.nan, np.float32),
    np.full(3, 1e30, np.float32)])
def test_weights_of_any_numbers(values):
    normal = np.random.RandomState(0).normal(0, 0.02, 100)
    assert "0.06" in text_of(plots.weight_histogram(values, normal, 0.02, "w", "weights"))
