"""Planted defects: the catalogue is sound, and a subset of it is found by the real suite."""
import dataclasses
import io
import json
import re
import shutil

import pytest
from rich.console import Console

from captures.plan import FIELDS
from parity.blame.finding import CNTK_EXPORTER, PORT, PORT_EXPORTER, RUNTIME
from parity.cli import app
from parity.evidence import defects, examine, keys, pool
from parity.evidence.defect import BASES, catalogue
from parity.evidence.shards import Shard
from parity.judge import policies
from parity.stages import registry
from tests.conftest import ROOT, cntk_environment_or_fail

MAP_FILE = ROOT / "data" / "train_dcgan_map.txt"
DEFECTS = catalogue().defects
NAMES = [defect.name for defect in DEFECTS]
# One of each kind, and the two mistakes that most comparisons of outputs' shapes let through.
SUBSET = ("padding-shifted-by-one", "two-filters-swapped", "starts-at-one", "momentum-0.9",
          "softplus-loss", "all-layers-from-one-seed", "last-partial-minibatch-dropped",
          "one-wrong-weight", "onnx-port-bfloat16", "onnx-port-raises", "runtime-one-channel",
          "killed-in-training", "raises-in-training")
# What a porter is known to do, and the entry that is it.
LISTED = {
    "symmetric padding": "padding-on-all-sides", "output_padding": "no-output-padding",
    "crop on the wrong side": "cropped-on-the-wrong-side", "kernel flipped": "kernels-flipped",
    "height and width swapped": "height-and-width-swapped",
    "a filter permuted": "two-filters-swapped", "first layer stride 2": "first-layer-stride-2",
    "bias missing": "bias-missing", "bias added": "bias-added",
    "layers of equal shape exchanged": "equal-layers-exchanged",
    "biased running variance": "running-variance-biased",
    "momentum from the ONNX file": "momentum-from-the-onnx-file",
    "PyTorch's default momentum 0.1": "momentum-0.1",
    "no first-update rule": "no-first-update-rule", "count in pixels": "count-in-pixels",
    "epsilon 1e-3": "epsilon-1e-3",
    "the clone's statistics separate": "clones-statistics-separate",
    "updated once": "statistics-updated-once",
    "frozen in the G step": "statistics-frozen-in-the-g-step",
    "evaluation statistics used in training": "evaluation-statistics-in-training",
    "learning rate not divided": "learning-rate-not-divided",
    "mean for summed gradients": "mean-gradient",
    "epsilon in the textbook's place": "textbook-epsilon", "beta2 0.999": "beta2-0.999",
    "beta2 not raised to N": "beta2-not-raised-to-n", "unit gain flipped": "unit-gain-flipped",
    "momentum 0.9": "momentum-0.9", "clip threshold off by N": "clip-threshold-not-times-n",
    "norm clipping": "clipping-by-norm", "one counter per parameter": "one-count-a-parameter",
    "mean for sum": "mean-for-sum-in-the-loss", "BCE clamp at -100": "log-clamped-at-100",
    "softplus form": "softplus-loss", "leaky slope 0.01": "leaky-slope-0.01",
    "slope at 0": "slope-at-zero", "ReLU for leaky ReLU": "relu-for-leaky-relu",
    "tanh for sigmoid": "tanh-for-sigmoid", "the minimax G loss": "minimax-loss",
    "variance read as standard deviation": "variance-for-deviation", "Xavier": "xavier",
    "all layers from one seed": "all-layers-from-one-seed",
    "creation order changed": "discriminator-made-first", "truncated normal": "truncated-normal",
    "BN scale normal(1, 0.02)": "scale-normal-1-0.02", "RGB for BGR": "rgb-for-bgr",
    "no normalisation": "no-normalisation", "[0,1] for [-1,1]": "zero-to-one",
    "scale before color": "scale-before-color", "area interpolation": "area-interpolation",
    "cubic interpolation": "cubic-interpolation", "antialiasing": "antialiasing",
    "Fisher-Yates order": "fisher-yates",
    "one generator for all positions": "one-generator-for-all-positions",
    "last partial minibatch dropped": "last-partial-minibatch-dropped",
    "one wrong weight in 13 million": "one-wrong-weight",
    "one layer in float16": "one-layer-in-float16",
    "two BN channels exchanged": "two-channels-exchanged", "transposed kernel": "kernel-transposed",
    "opset changed": "onnx-opset-11", "pads changed": "onnx-pads-at-the-other-side",
    "a node folded wrongly": "onnx-folded-without-epsilon",
    "an initializer rounded to bfloat16": "onnx-bfloat16",
    "output order changed": "onnx-output-order", "a runtime fault": "runtime-one-channel",
}


# ------------------------------------------------------------------------------------ the catalogue


def test_there_are_enough_and_each_has_its_name():
    assert len(DEFECTS) >= 45
    assert len(set(NAMES)) == len(NAMES)
    assert all(re.fullmatch(r"[a-z0-9.-]+", name) for name in NAMES)


def test_what_a_porter_is_known_to_do_is_there():
    assert set(LISTED.values()) <= set(NAMES)
    assert {defect.kind for defect in DEFECTS} == set(catalogue().kinds)


@pytest.mark.parametrize("defect", DEFECTS, ids=NAMES)
def test_an_entry_is_whole(defect):
    """That its parts are there, tests/planted makes sure."""
    assert defect.what.endswith(".")
    assert any(re.fullmatch(defect.blame, who) for who in (PORT, CNTK_EXPORTER, PORT_EXPORTER,
                                                           RUNTIME))
    assert any(re.fullmatch(defect.stage, name) for name in registry.names())
    re.compile(defect.place)
    assert (defect.export, bool(defect.network)) in (("", False), ("cntk", True), ("port", True))
    fields = {name: (lowest, highest) for name, _, lowest, highest, _ in FIELDS}
    assert all(fields[name][0] <= value <= fields[name][1] for name, value in defect.plan.items())


def test_every_defect_is_planted_into_every_base_port():
    titles = [one.title for one in catalogue().everywhere()]
    assert len(set(titles)) == len(titles)
    assert {"momentum-0.9", "momentum-0.9@ordinary", "momentum-0.9@channels-last"} <= set(titles)
    assert set(BASES) - {"ours"} <= set(catalogue().correct)
    (one,) = [one for one in catalogue().everywhere() if one.title == "momentum-0.9@ordinary"]
    assert one.plants == ["ordinary", "momentum-0.9"]


def test_the_parts_of_a_list_are_the_whole_list(tmp_path):
    whole = defects.Wanted().chosen()
    parts = [defects.Wanted(shard=Shard.parse(f"{i}/8")).chosen() for i in range(1, 9)]
    assert sorted(one.title for part in parts for one in part) == sorted(
        one.title for one in whole)
    assert not defects.Wanted(shard=Shard(1, 8)).everything and defects.Wanted().everything


def test_every_stage_has_its_turn_in_the_suites_order():
    turns = [stage.name for _, stages in examine.SCHEDULE for stage in stages]
    assert turns == [name for name in registry.names() if name not in (
        "twin", "program", "score", "second", "whole")]


def test_the_page_lists_every_defect():
    page = defects.DOCS.read_text()
    assert [name for name in NAMES if f"| {name} |" not in page] == []


# ----------------------------------------------------------------------------------- a run for real


class Ran:
    """``python -m parity defects`` in this process."""

    def __init__(self, output, only, **options):
        text = io.StringIO()
        self.code = defects.main(MAP_FILE, output, defects.Wanted(only, ("ours",), **options),
                                 Console(file=text, width=200))
        self.text = text.getvalue()
        matrix = json.loads((output / defects.MATRIX).read_text())
        self.correct_port_passes = matrix["correct_port_passes"]["ours"]
        self.lines = {line["name"]: line for line in matrix["matrix"]}


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    cntk_environment_or_fail()
    return tmp_path_factory.mktemp("defects")


@pytest.fixture(scope="module")
def ran(output):
    return Ran(output, SUBSET)


def test_the_correct_port_passes(ran):
    assert ran.correct_port_passes
    assert "the correct port passes" in ran.text


@pytest.mark.parametrize("name", SUBSET)
def test_a_defect_is_caught_and_its_place_named(ran, name):
    line = ran.lines[name]
    assert line["caught"] and line["right"], line
    assert float(line["margin"]) > 1


def test_the_subset_exits_0_and_says_so(ran):
    assert ran.code == 0
    assert f"{len(SUBSET)} of {len(SUBSET)} caught, {len(SUBSET)} of {len(SUBSET)} at the right" \
        in ran.text


def test_what_is_named(ran):
    """Beside the patterns of the catalogue, which could be too wide."""
    named = {name: (line["stage"], line["place"], line["blame"])
             for name, line in ran.lines.items()}
    assert named["two-filters-swapped"] == (
        "forward/evaluation", "discriminator_fake/conv4/output", PORT)
    assert named["padding-shifted-by-one"] == (
        "forward/evaluation", "discriminator_fake/conv1/output", PORT)
    assert named["one-wrong-weight"] == ("state", "generator/conv2/weight", PORT)
    assert named["onnx-port-bfloat16"][2] == PORT_EXPORTER
    assert named["runtime-one-channel"][2] == RUNTIME


def test_what_is_done_is_kept(ran, output, monkeypatch):
    def none(*arguments):
        raise AssertionError("nothing is left to be run")
    monkeypatch.setattr(pool, "start_server", none)
    again = Ran(output, SUBSET)
    assert (again.code, again.lines) == (ran.code, ran.lines)


def test_an_interrupted_run_goes_on(ran, output):
    results = output / "results"
    times = {path.name: path.stat().st_mtime_ns for path in results.iterdir()}
    (results / "starts-at-one.json").unlink()
    Ran(output, SUBSET)
    made = [path.name for path in results.iterdir()
            if path.stat().st_mtime_ns != times.get(path.name)]
    assert made == ["starts-at-one.json"]


def test_a_port_that_dies_is_named_with_the_reason(ran):
    assert "SIGKILL" in ran.lines["killed-in-training"]["detail"]


def test_the_results_of_parts_come_together(ran, output, tmp_path, monkeypatch):
    """From two folders, without CNTK and without a run."""
    parts = [tmp_path / "one", tmp_path / "two"]
    for part in parts:
        (part / "results").mkdir(parents=True)
    for i, path in enumerate(sorted((output / "results").glob("*.json"))):
        shutil.copyfile(path, parts[i % 2] / "results" / path.name)
    together = tmp_path / "together"
    together.mkdir()
    monkeypatch.setattr(pool, "start_server", None)
    monkeypatch.setattr(defects, "make_reference", None)
    again = Ran(together, SUBSET, merge=parts)
    assert again.code == ran.code
    assert {name: (line["stage"], line["place"]) for name, line in again.lines.items()} == {
        name: (line["stage"], line["place"]) for name, line in ran.lines.items()}


def test_a_suite_that_tolerates_too_much_misses_a_defect(ran, output, monkeypatch):
    """The correct port passes a weaker suite too: its result is only given the new key."""
    for name in ("onnx", "onnx_layer"):
        weak = dataclasses.replace(policies.POLICIES[name], standard=1e9)
        monkeypatch.setitem(policies.POLICIES, name, weak)
    kept = output / "results" / f"{examine.CORRECT}.json"
    before = kept.read_text()
    key = keys.digest(keys.suite_key(defects.plan_of(output / "images.txt")), "")
    kept.write_text(json.dumps({**json.loads(before), "key": key}))
    try:
        weak = Ran(output, ("runtime-one-channel",))
    finally:
        kept.write_text(before)
    assert weak.code == 1
    assert "0 of 1 caught" in weak.text and "missed: runtime-one-channel" in weak.text


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(("arguments", "words"), [
    (["--only", "no-such-defect"], "there is no defect 'no-such-defect'"),
    (["--bases", "no-such-port"], "there is no base port 'no-such-port'"),
    (["--shard", "9/8"], "the shard is '9/8': give 3/8 for the third of eight parts"),
    (["--only", "momentum-0.9", "--merge", "/no/such/part"], "/no/such/part holds no results"),
    (["--map-file", "/no/such/map.txt"], "/no/such/map.txt cannot be read"),
])
def test_bad_input(arguments, words, tmp_path, capsys):
    assert app.main(["defects", "--output", str(tmp_path), *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert words in said.err
