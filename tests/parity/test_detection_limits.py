"""How small a mistake is seen: the ladder, what is read off it, and the page."""

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
    assert "| rate | 0.01 | 0.01 | 1 |" in page and "| bias | not seen |  |  |" in page
    assert "| mistake | smallest | forward/evaluation | step |" in page


def test_the_kinds_that_have_a_size():
    assert set(catalogue().sized) >= {"one-filter", "scale", "epsilon", "momentum", "slope", "rate",
                                      "decay", "bias"}


def test_bad_input(tmp_path, capsys):
    assert app.main(["detection-limits", "--only", "none", "--output", str(tmp_path)]) == 2
    assert "there is no kind 'none': give some of" in capsys.readouterr().err
