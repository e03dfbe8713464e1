"""The main job on real captures: the correct port agrees; a changed one is named, and the case is
kept as a folder that shows it alone."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from captures.format import MANIFEST, Capture
from captures.plan import Plan
from parity import comparison
from parity.blame.finding import Blame, Finding
from parity.cli import app
from parity.evidence.catalogue.port import COPIED
from parity.judge.results import Stage
from parity.onnx.names import Perturb
from parity.producers import jobs, recipes
from parity.producers.jobs import ROOT
from parity.stages import export
from parity.stages.common import Captures

STAGES = ("reader", "state", "forward/evaluation", "onnx", "score")


@pytest.fixture(scope="session")
def plan(reference) -> Plan:
    return Plan.load(str(reference / "plan.json"))


@pytest.fixture(scope="session")
def captured(reference, plan, tmp_path_factory) -> Path:
    """CNTK's capture, the port's and the oracle's, of what STAGES need."""
    folder = tmp_path_factory.mktemp("captured")
    (folder / "cntk").symlink_to(reference / "cntk")
    jobs.run_jobs([recipes.port_job(plan, folder, reference=reference / "cntk",
                                           parts="seed,evaluation"),
                        recipes.port_job(plan, folder, "oracle", dtype="float64",
                                           reference=reference / "cntk", parts="evaluation")],
                       plan, folder, Console(quiet=True))
    return folder


def with_change(captured, folder, name, change, who="port") -> Path:
    """The captures with one array of one of them changed; everything else is linked."""
    folder.mkdir()
    for one in ("cntk", "port", "oracle"):
        if one != who:
            (folder / one).symlink_to((captured / one).resolve())
    source = (captured / who).resolve()
    (folder / who).mkdir()
    for path in source.iterdir():
        if path.name != MANIFEST:
            (folder / who / path.name).symlink_to(path)
    manifest = json.loads((source / MANIFEST).read_text())
    np.save(folder / "changed.npy", change(Capture(source)[name]))
    manifest["arrays"][name]["file"] = os.fspath(folder / "changed.npy")
    (folder / who / MANIFEST).write_text(json.dumps(manifest))
    return folder


def swapped(array):
    """Two filters of a layer exchanged: its output has two channels exchanged."""
    array = array.copy()
    array[:, [3, 5]] = array[:, [5, 3]]
    return array


def test_the_port_agrees(captured, plan, tmp_path):
    report, pictures = comparison.compare(plan, captured, STAGES, tmp_path)
    assert report.passed, report.first_failure
    assert {stage.name for stage in report.stages} == set(STAGES)
    assert report.blame == report.reproduction == ""
    assert pictures.images is not None and len(pictures.images[0]) == plan.score_images
    assert 1 <= report.score["cntk"] <= plan.score_images


@pytest.mark.parametrize(("name", "stage", "place"), [
    ("local/forward/evaluation/generator/conv3/output", "forward/evaluation",
     "generator/conv3/output"),
    ("state/discriminator/conv4/weight", "state", "discriminator/conv4/weight"),
    ("reader/probe/minibatch03/images", "reader", "minibatch03/images"),
    ("normalisation/probe/minibatch01/running_mean", "normalisation",
     "minibatch01/running_mean"),
])
def test_a_changed_array_is_named_and_kept_as_a_case(captured, plan, tmp_path, name, stage, place):
    folder = with_change(captured, tmp_path / "changed", name, swapped if "/probe/" not in name
                         else lambda array: array + np.float32(1))
    report, _ = comparison.compare(plan, folder, (stage,), tmp_path, pictures=False)
    assert not report.passed and report.blame == "port"
    found = report.first_failure
    assert found is not None and (found[0].name, found[1].place) == (stage, place)
    done = subprocess.run([sys.executable, "-I", Path(report.reproduction) / "reproduce.py"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the failure shows" in done.stdout
    said = (Path(report.reproduction) / "README.txt").read_text()
    assert place.removesuffix("/output") in said
    size = sum(path.stat().st_size for path in Path(report.reproduction).iterdir())
    assert size < 100e6


def test_an_array_of_nan_is_a_failure_with_a_sentence(captured, plan, tmp_path):
    name = "forward/evaluation/generator/bn2/output"
    folder = with_change(captured, tmp_path / "changed", name, lambda array: array * np.nan)
    report, _ = comparison.compare(plan, folder, ("forward/evaluation", "onnx"), tmp_path,
                                   pictures=False)
    failed = [check for stage in report.stages for check in stage.checks if not check.passed]
    assert any("holds NaN" in check.detail for check in failed)


def test_images_that_are_none_are_a_failure_with_a_sentence(captured, plan, tmp_path):
    """A port without its tanh: what is beyond [-1, 1] cannot be classified."""
    folder = with_change(captured, tmp_path / "changed", "score/generator/tanh7/images",
                         lambda array: array * np.float32(5))
    report, _ = comparison.compare(plan, folder, ("score",), tmp_path, pictures=False)
    (stage,) = report.stages
    assert not stage.passed and stage.checks[0].place == "generator/images/score"
    assert stage.checks[0].detail


def test_where_the_forward_pass_fails_no_exporter_is_blamed(captured, plan, tmp_path, monkeypatch):
    """A port that computes otherwise than it exports: the export is looked at second."""
    exported = export.Exports(Stage("onnx", ""), {"generator": Blame("generator", (
        Finding("the port's exporter", "conv1", "another kernel"),))}, {}, {}, ({}, {}))
    monkeypatch.setattr(export, "compare", lambda captures: exported)
    changed = with_change(captured, tmp_path / "changed",
                          "local/forward/evaluation/generator/conv1/output", swapped)
    report, _ = comparison.compare(plan, changed, ("forward/evaluation", "onnx"), tmp_path,
                                   pictures=False)
    assert report.blame == "port"


def test_a_port_that_stops_on_the_way_keeps_what_it_had(captured, reference, plan, tmp_path):
    """Without a bias it cannot take CNTK's weights: the report says so, layer and all."""
    port = changed_port(tmp_path / "changed", (
        "networks.py", "padding=2, output_padding=1)\n\n    def forward(self, z",
        "padding=2, output_padding=1, bias=False)\n\n    def forward(self, z"), (
        "networks.py", "BIASES = (\"generator/conv7/bias\", ", "BIASES = ("))
    jobs.run_jobs([recipes.port_job(plan, tmp_path, port=port, reference=reference / "cntk",
                                           parts="seed,evaluation")],
                       plan, tmp_path, Console(quiet=True))
    for name in ("cntk", "oracle"):
        (tmp_path / name).symlink_to((captured / name).resolve())
    report, _ = comparison.compare(plan, tmp_path, ("structure", "state"), tmp_path, pictures=False)
    found = report.first_failure
    assert found is not None
    assert (found[0].name, found[1].place) == ("structure", "generator/conv7/bias")
    (stopped,) = [check for check in found[0].checks if check.place == "port/capture/whole"]
    assert "the port stopped: evaluation: " in stopped.detail


def captures_of(captured) -> Captures:
    return Captures(*(Capture(captured / name) for name in ("cntk", "port", "oracle")))


def noise(layer: str) -> Perturb:
    """A runtime that is at fault in one layer."""
    def perturb(name, array):
        if name != layer:
            return array
        return (array + np.random.RandomState(0).normal(size=array.shape) * 1e-2).astype(np.float32)
    return perturb


@pytest.mark.parametrize("who", ["cntk", "port"])
def test_a_runtime_at_fault_is_blamed(captured, tmp_path, who):
    exports = export.compare(captures_of(captured), {who: noise("bn3")})
    assert not exports.stage.passed
    assert exports.word == "runtime"
    assert exports.blames["generator"].layer == "bn3"
    assert exports.reproduction(tmp_path / "case") is not None


def nudged(captures: Captures, largest: float) -> Captures:
    facts = captures.cntk.facts["evaluation_nudged"]
    facts["generator/tanh7/output"] = {"error": largest, "largest": largest}
    return captures


def test_cntk_says_how_far_a_nudge_moves_it(captured):
    """What its capture measures: rounding, of every layer, and no more."""
    cntk = captures_of(captured).cntk
    facts = cntk.facts["evaluation_nudged"]
    assert list(facts) == cntk.names("forward/evaluation")
    assert all(1e-8 < moved["error"] < 1e-5 and 0 < moved["largest"] < 1e-3
               for moved in facts.values())


def test_a_runtime_within_cntks_own_nudges_is_not_blamed(captured):
    fault = {"cntk": noise("tanh7")}  # up to 5e-2 away
    exports = export.compare(nudged(captures_of(captured), 2e-2), fault)
    failed = [check.place for check in exports.stage.checks if not check.passed]
    assert failed == [] and exports.word == ""
    assert not export.compare(nudged(captures_of(captured), 5e-3), fault).stage.passed


def changed_port(folder: Path, *edits: tuple[str, str, str]) -> Path:
    """A copy of the port with edits (file, old text, new text)."""
    folder.mkdir()
    shutil.copytree(ROOT / "torch_port", folder / "torch_port",
                    ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("parity", "build"):
        (ROOT / name).exists() and (folder / name).symlink_to(ROOT / name)
    for file, old, new in edits:
        path = folder / "torch_port" / file
        text = path.read_text()
        assert text.count(old) == 1, (file, old)
        path.write_text(text.replace(old, new))
    return folder


def test_the_command_names_the_layer_whose_filters_were_exchanged(tmp_path, capfd):
    """``make parity`` on a port with two filters of the generator's third layer exchanged."""
    port = changed_port(tmp_path / "port", (
        "networks.py", COPIED, COPIED +
        "            weight = ours['generator/conv3/weight']\n"
        "            weight[:, [3, 5]] = weight[:, [5, 3]]\n"))
    code = app.main([
        "run", "--port", str(port), "--stages", "forward/evaluation", "--minibatch-size", "1",
        "--warmup-iterations", "1", "--iterations", "0", "--output", str(tmp_path / "out")])
    printed = capfd.readouterr().out
    assert code == 1
    assert "DIFFER" in printed and "generator/conv3/output" in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["first_failure"] == {"stage": "forward/evaluation",
                                       "place": "generator/conv3/output"}
    assert (tmp_path / "out" / "report.html").is_file()
    assert (tmp_path / "out" / "junit.xml").is_file()
    assert not list((tmp_path / "out").rglob("*.part"))
