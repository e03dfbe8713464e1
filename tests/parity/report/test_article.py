"""The page that follows the article: what it shows is what the runs wrote."""
import json

import cv2
import numpy as np
import pytest

from captures.training.log import Log
from parity.report import article
from torch_port.train import side_by_side

ROWS = [(1, 2.5, 1.25), (2, 2.0, 1.0), (3, 1.5, 0.75)]


def a_run(folder, program, rows=ROWS, **identity):
    folder.mkdir()
    identity = {"seed": 0, "minibatch_size": 2, "unit_gain": False, "threads": 2,
                "data": {"images": 5, "sha256": "x"}, "arithmetic": "exact", **identity}
    (folder / "run.json").write_text(json.dumps({
        "program": program, "iterations": len(rows), "identity": identity, "changes": [],
        "settings": {"minibatch_size": 2, "seed": 0, "unit_gain": False},
        "versions": {"python": "3.6.15"}, "machine": {"system": "Linux"}}))
    (folder / "dcgan.csv").write_text(Log.text(rows))
    cv2.imwrite(str(folder / "dcgan_image.png"), np.zeros((8, 8, 3), np.uint8))
    return folder


def page_of(tmp_path, **changed):
    runs = [article.shown(a_run(tmp_path / "cntk", "cntk")),
            article.shown(a_run(tmp_path / "port", "port", **changed))]
    return article.write(runs, tmp_path / "page").read_text()


def test_the_page(tmp_path):
    text = page_of(tmp_path)
    assert "same to the last\ndigit in 3" in text and "CNTK 2.7" in text and "2.61" in text
    assert text.count("data:image/png;base64,") == 2 and "dcgan.gif was not drawn" in text
    assert "D_real.clone" in text and "19,104,035" in text and "<script" not in text
    assert "http" not in text


def test_other_losses_show(tmp_path):
    other = [*ROWS[:1], (2, 9.0, 1.0), ROWS[2]]
    assert "same to the last\ndigit in 1" in page_of(tmp_path, rows=other)


def test_runs_of_other_seeds_are_not_compared(tmp_path):
    assert "to the last" not in page_of(tmp_path, seed=4)


def test_no_run(tmp_path):
    with pytest.raises(article.ArticleError, match="holds no run"):
        article.shown(tmp_path)


def test_a_run_that_was_converted_and_did_not_go_on(tmp_path):
    folder = a_run(tmp_path / "run", "port")
    (folder / "run.json").write_text('{"program": "port", "iterations": 3, "settings": {}}')
    with pytest.raises(article.ArticleError, match="has done no iteration there"):
        article.shown(folder)


@pytest.mark.parametrize("rows, said", [
    (ROWS[:1], "the last iteration: discriminating 1.2500, generating 2.5000"),
    ([(i, 1.0, 2.0) for i in range(1, 31)], "means of the last 3 iterations: discriminating 2.0")])
def test_the_losses_in_words(tmp_path, rows, said):
    assert said in article.shown(a_run(tmp_path / "run", "port", rows)).losses


def test_a_short_run_says_that_grey_is_to_be_expected(tmp_path):
    assert "grey is what is to be expected" in page_of(tmp_path)


def test_a_long_run_does_not(tmp_path):
    rows = [(i, 1.0, 2.0) for i in range(1, article.GREY + 1)]
    runs = [article.shown(a_run(tmp_path / name, name, rows)) for name in ("cntk", "port")]
    assert "to be expected" not in article.write(runs, tmp_path / "page").read_text()


def test_the_programs_side_by_side_are_as_the_sources():
    assert side_by_side.PAGE.read_text(encoding="utf-8") == side_by_side.page()


def test_no_table_ends_before_its_end():
    """Markdown ends a block of HTML at the first blank line."""
    for part in side_by_side.page().split("\n## ")[1:]:
        table = part[part.index("<table>"):part.index("</table>")]
        assert all(line.strip() for line in table.split("\n"))


def test_a_part_that_is_gone_would_show():
    with pytest.raises(KeyError, match="has no none"):
        side_by_side.definition(side_by_side.CNTK, "none")
