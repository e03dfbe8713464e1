"""How small a mistake is seen: the ladder, what is read off it, and the page."""

import numpy as np
import pytest

from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from parity.cli import app
from parity.evidence import detection_limits
from parity.evidence.defect import catalogue
from parity.evidence.detection_limits import Row, ladder, smallest

SEEN = {"0": ["gradient/d"],
        "1": ["forward/evaluation", "gradient/d", "step"],
        "0.1": ["forward/evaluation", "gradient/d"],
        "0.01": ["forward/evaluation", "gradient/d", "step"],
        "0.001": ["gradient/d"]}


def test_the_ladder_goes_down_by_decades():
    assert ladder()[:3] == [1.0, 0.1, 0.01] and ladder()[-1] == 1e-9


def test_a_stage_sees_down_to_the_last_size_at_which_it_fails_without_a_gap():
    """What fails the base port itself says nothing, and what is seen again by chance neither."""
    assert smallest(SEEN) == {"forward/evaluation": 0.01, "step": 1.0}


def test_what_nobody_sees_is_in_the_page_as_that():
    rows = [Row("rate", "ours", smallest(SEEN)), Row("bias", "ours", {})]
    page = detection_limits.page(rows, {"rate": "the rate", "bias": "an offset"})
    assert "| rate | 0.01 | 0.01 | 1 |  |" in page and "| bias | not seen |  |  |  |" in page
    assert "| mistake | smallest | forward/evaluation | step | fixed |" in page


def test_a_fixed_allowance_is_shown_beside_and_counts_for_nothing():
    row = Row("rate", "ours", smallest({"0": [], "1": ["step", "fixed"], "0.1": ["fixed"]}))
    assert row.best == 1.0 and "| rate | 1 | 1 | 0.1 |" in detection_limits.page(
        [row], {"rate": "the rate"})


@pytest.mark.parametrize("apart, beyond", [(1e-5, False), (3e-5, True)])
@pytest.mark.parametrize("name", ["forward/training/generator/conv1/output",
                                  "gradient/d/discriminator/conv1/weight"])
def test_the_fixed_allowance(tmp_path, name, apart, beyond):
    (tmp_path / "0.bmp").write_bytes(b"P5 1 1 255\n0")
    (tmp_path / "map.txt").write_text(".../0.bmp\t0\n")
    plan, captures = Plan.make(tmp_path / "map.txt"), []
    for who, factor in (("cntk", 1.0), ("port", 1 + apart)):
        with CaptureWriter(tmp_path / who, who, plan, {}, 1, "layers") as writer:
            writer.add(name, np.ones((2, 3), np.float32) * np.float32(factor))
        captures.append(Capture(tmp_path / who))
    assert detection_limits.beyond_the_fixed(*captures) == beyond


def test_the_kinds_that_have_a_size():
    assert set(catalogue().sized) >= {"one-filter", "scale", "epsilon", "momentum", "slope", "rate",
                                      "decay", "bias"}


def test_bad_input(tmp_path, capsys):
    assert app.main(["detection-limits", "--only", "none", "--output", str(tmp_path)]) == 2
    assert "there is no kind 'none': give some of" in capsys.readouterr().err
