"""What moves a score: the rows against what is known, and the commands."""
from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image
from score_samples import noise
from test_classifiers import classifier_file

from parity.cli.app import main
from scores.classifiers import registry
from scores.errors import ScoreError
from scores.images import open_pictures
from scores.inception_score import score, softmax
from scores.sensitivity import KINDS, looks, sensitivity, through_file, unlimited


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """120 pictures of four kinds, sorted by kind."""
    path = tmp_path_factory.mktemp("arrays") / "a.npz"
    kinds = np.array([[1, .2, .2], [.2, 1, .2], [.2, .2, 1], [1, 1, 1]], np.float32)
    np.savez(path, (noise(120, 0, 11, 13) * kinds[np.arange(120) // 30, :, None, None]
                    / 128 - 1).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return classifier_file(tmp_path_factory.mktemp("classifier") / "small.onnx")


def test_every_row(pictures, small):
    chosen = registry.load(str(small))
    told: list[int] = []
    rows = sensitivity(open_pictures(pictures), [chosen, chosen], told=told.append)
    assert sum(told) == 120 * looks(KINDS, 2)
    found = {(row.what, row.choice): row for row in rows}
    (nothing,) = (row for row in rows if row.what == "nothing")
    assert nothing.moved == 0
    for row in rows:
        assert row.moved == pytest.approx(row.value / nothing.value - 1)
    assert found["classifier", "small.onnx (taken as logits)"].moved == 0
    assert "small.onnx (taken as logits)" in nothing.choice
    assert found["file", "PNG"].value == found["rounding", "to whole pixels"].value
    assert found["splits", "1"].moved > 0  # sorted by kind: ten splits have one kind each
    assert found["order", "shuffled, lowest of 20"].moved > 0
    assert abs(found["file", "JPEG of quality 75"].moved) > 0
    kernels = {choice for what, choice in found if what == "resize"}
    assert kernels == {"tensorflow1", "antialias", "bicubic", "nearest"}
    assert found["count", "120, one split"].value == found["splits", "1"].value


def test_truncating_is_not_rounding(pictures, small):
    rows = sensitivity(open_pictures(pictures), [registry.load(str(small))])
    moved = {row.choice: abs(row.moved) for row in rows if row.what == "rounding"}
    assert moved["truncated"] > 2 * moved["to whole pixels"]


def test_the_score_of_unlimited_pictures():
    """200 pictures of a population whose score is known from 100,000: nearer than the plain one."""
    draws = np.random.RandomState(0)
    kinds = softmax(draws.normal(size=(50, 30)) * 2)
    whole = score(kinds[draws.randint(0, 50, 100_000)])
    apart = {"plain": [], "unlimited": []}
    for _ in range(150):
        p = kinds[draws.randint(0, 50, 200)]
        apart["plain"].append(score(p) / whole - 1)
        apart["unlimited"].append(unlimited(p) / whole - 1)
    assert np.mean(apart["plain"]) < -0.01
    assert abs(np.mean(apart["unlimited"])) < abs(np.mean(apart["plain"])) / 3


def test_png_keeps_whole_pixels():
    x = noise(2, 0, 9, 7)
    np.testing.assert_array_equal(through_file("PNG")(x), x)
    assert (through_file("JPEG", quality=75)(x) != x).any()


def test_few_pictures_are_refused(small, tmp_path):
    np.savez(tmp_path / "a.npz", noise(99, 0, 8, 8).astype(np.uint8))
    with pytest.raises(ScoreError, match="99 pictures: give at least 100"):
        sensitivity(open_pictures(tmp_path / "a.npz"), [registry.load(str(small))])


# ---- the commands


def test_the_command(pictures, small, tmp_path, capfd):
    assert main(["sensitivity", str(pictures), "--classifiers", str(small), "--output",
                 str(tmp_path)]) == 0
    assert "tensorflow1" in capfd.readouterr().out
    rows = json.loads((tmp_path / "sensitivity.json").read_text())
    assert {"what", "choice", "value", "moved"} == set(rows[1])
    assert rows[0]["pictures"] == str(pictures) and rows[0]["count"] == 120
    assert rows[0]["seed"] == 0 and "SHA-256" in rows[0]["weights"][0]
    assert rows[0]["output"] == ["taken as logits"]
    assert rows[0]["kernel"] == "bilinear" and "taken as [-1, 1]" in rows[0]["notes"][0]
    page = (tmp_path / "sensitivity.md").read_text().splitlines()
    assert len(page) == len(rows) + 2 and page[2].endswith("| +0.00% |")
    assert main(["sensitivity", str(pictures), "--classifiers", str(small), "--only",
                 "order,rounding", "--output", str(tmp_path)]) == 0
    fewer = json.loads((tmp_path / "sensitivity.json").read_text())
    assert fewer == [row for row in rows if row["what"] in ("nothing", "order", "rounding")]
    assert main(["sensitivity", str(pictures), "--only", "colour"]) == 2
    assert "there is no change 'colour'" in capfd.readouterr().err


def test_the_command_leaves_out_and_tells(small, tmp_path, capfd):
    """A name that is no UTF-8 and one that looks like markup, in two folders."""
    folder = tmp_path / "[red]"
    for i in range(101):
        (folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(1, i, 8, 8)[0, 0].astype(np.uint8)).save(
            folder / str(i % 2) / f"{i}.png")
    (folder / "1" / "[").mkdir()
    (folder / "1" / "[" / os.fsdecode(b"red]\xff.png")).write_text("no picture")
    asked = ["sensitivity", str(folder), "--classifiers", str(small), "--only", "rounding",
             "--output", str(tmp_path / "out")]
    assert main(asked) == 2 and "--broken skip" in capfd.readouterr().err
    assert main([*asked, "--broken", "skip"]) == 0
    said = capfd.readouterr().out
    assert "[red]" in said.split("note: ")[0].replace("\n", "").replace(" ", "")
    assert "grey, taken as R = G = B: 101" in said
    (first, *_) = json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    assert first["count"] == 101 and first["broken"] == [r"1/[/red]\udcff.png"]


@pytest.mark.parametrize(("more", "says"), [
    (["--weights", ",x.pth"], "--weights names 2 files for 1"),
    (["--only", "classifier"], "give --classifiers A,B"),
    (["--broken", "skip"], "for a folder of pictures, and there is none"),
    (["--count", "200"], "--count is for a model"), (["--threads", "65"], "--threads"),
    (["--pixels", "rgb[0,1]"], "--pixels is for a model")])
def test_nothing_is_ignored(pictures, small, tmp_path, capfd, more, says):
    assert main(["sensitivity", str(pictures), "--classifiers", str(small), "--output",
                 str(tmp_path / "out"), *more]) == 2
    assert says in capfd.readouterr().err and not (tmp_path / "out").exists()


def runs(folder, name, values, pictures=1000):
    paths = []
    for i, value in enumerate(values):
        paths.append(folder / f"{name}{i}.json")
        paths[-1].write_text(json.dumps({"classifier": "x", "weights": "y", "score": {
            "one_split": value, "pictures": pictures}}))
    return ",".join(map(str, paths))


def test_two_sets_of_runs(tmp_path, capfd):
    a = runs(tmp_path, "a", [2.0, 2.01, 1.99, 2.0])
    same, other = runs(tmp_path, "b", [2.01, 2.0, 2.0]), runs(tmp_path, "c", [2.5, 2.51, 2.49])
    wild = runs(tmp_path, "d", [1.5, 2.6])
    for second, code, says in ((same, 0, "equivalent"), (other, 1, "different"),
                               (wild, 2, "cannot tell")):
        assert main(["equivalent", a, second]) == code
        assert says in capfd.readouterr().out
    fewer = runs(tmp_path, "e", [2.0, 2.0], 500)
    assert main(["equivalent", a, fewer]) == 2
    said = capfd.readouterr().err
    assert "different numbers of pictures" in said
    assert "a0.json, 1000 by x" in said and "e0.json, 500 by x" in said
    assert main(["equivalent", a, str(tmp_path / "none.json")]) == 2
    assert "no score.json" in capfd.readouterr().err
    assert main(["equivalent", "", ""]) == 2


def test_one_file_is_one_run(tmp_path, capfd):
    a, b = runs(tmp_path, "a", [2.0, 2.01]), runs(tmp_path, "b", [2.01, 2.0])
    (tmp_path / "link.json").symlink_to(tmp_path / "a0.json")
    for first, second in ((f"{a},{tmp_path / 'a1.json'}", b), (a, f"{b},{tmp_path / 'link.json'}")):
        assert main(["equivalent", first, second]) == 2
        assert "one file: give each run once" in capfd.readouterr().err


@pytest.mark.parametrize("content", [
    '{"score": {"one_split": 2, "pictures": 0}, "classifier": "x", "weights": "y"}',
    '{"score": {"one_split": 2, "pictures": 1e999}, "classifier": "x", "weights": "y"}',
    "[" * 100_000])
def test_what_is_no_score(tmp_path, capfd, content):
    (tmp_path / "a.json").write_text(content)
    assert main(["equivalent", str(tmp_path / "a.json"), runs(tmp_path, "b", [2.0])]) == 2
    assert "a.json is no score.json" in capfd.readouterr().err


def test_rates_take_nothing_else(capfd):
    for more in (["a.json", "b.json"], ["--margin", "0.1"]):
        assert main(["equivalent", "--rates", *more]) == 2
        assert "leave the files and --margin out" in capfd.readouterr().err
