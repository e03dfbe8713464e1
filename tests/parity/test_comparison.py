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

from captures.errors import CaptureError
from captures.format import MANIFEST, Capture, checksum
from captures.names import name_of
from captures.plan import Plan
from parity import comparison
from parity.blame import exports as blame_exports
from parity.cli import app
from parity.evidence.runtime import ran
from parity.onnx.names import Perturb
from parity.producers import jobs, recipes
from parity.producers.for_score import ForScore
from parity.producers.jobs import ROOT
from parity.report import facts
from parity.stages.common import Captures
from parity.stages.export import ONNX

COPIED = "                tensor.copy_(torch.from_numpy(np.require(arrays[name], " \
         'requirements="W")))\n'
ALL = ("cntk", "port", "oracle", "onnx-cntk", "onnx-port", "classifier")
STAGES = ("reader", "state", "forward/evaluation", "onnx", "score")


@pytest.fixture(scope="session")
def plan(reference) -> Plan:
    return Plan.load(str(reference / "plan.json"))


@pytest.fixture(scope="session")
def captured(reference, plan, tmp_path_factory) -> Path:
    """CNTK's capture, the port's and the oracle's, of what STAGES need."""
    folder = tmp_path_factory.mktemp("captured")
    for name in ("cntk", "oracle", "onnx-cntk"):
        (folder / name).symlink_to(reference / name)
    jobs.run_jobs([recipes.port_job(plan, folder, reference=reference / "cntk",
                                    parts="seed,evaluation",
                                    for_score=ForScore(classifier=reference.parent / "score"
                                                       / "classifier.json")),
                   recipes.runtime_job(plan, folder, "port", ("port",)),
                   recipes.classifier_job(plan, folder, ("port",))],
                  plan, folder, Console(quiet=True))
    return folder


def with_change(captured, folder, name, change, who="port") -> Path:
    """The captures with one array of one of them changed; everything else is linked, the files of
    that one hard, since a capture refuses links and what lies outside it."""
    folder.mkdir()
    for one in ALL:
        if one != who:
            (folder / one).symlink_to((captured / one).resolve())
    source = (captured / who).resolve()
    shutil.copytree(source, folder / who, copy_function=os.link)
    manifest = json.loads((source / MANIFEST).read_text())
    array, entry = change(Capture(source)[name]), manifest["arrays"][name]
    entry["file"] = "arrays/999999.npy"  # of no array of a capture of this size
    np.save(folder / who / entry["file"], array)
    entry["crc32"] = checksum(np.ascontiguousarray(array))
    (folder / who / MANIFEST).unlink()
    (folder / who / MANIFEST).write_text(json.dumps(manifest))
    return folder


def judged(folder, stages):
    return comparison.judge(folder, stages, pictures=False)[0]


def swapped(array):
    """Two filters of a layer exchanged: its output has two channels exchanged."""
    array = array.copy()
    array[:, [3, 5]] = array[:, [5, 3]]
    return array


def test_the_port_agrees(captured, plan, tmp_path):
    report, pictures = comparison.judge(captured, STAGES)
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
    report = judged(folder, (stage,))
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
    report = judged(folder, ("forward/evaluation", "onnx"))
    failed = [check for stage in report.stages for check in stage.checks if not check.passed]
    assert any("holds NaN" in check.detail for check in failed)


def looked_at(folder, plan):
    """A classifier looks at the changed pictures."""
    (folder / "classifier").unlink()
    jobs.run_jobs([recipes.classifier_job(plan, folder)], plan, folder, Console(quiet=True))
    return folder


def test_images_that_are_none_are_a_failure_with_a_sentence(captured, plan, tmp_path):
    """A port without its tanh: what is beyond [-1, 1] cannot be classified."""
    folder = with_change(captured, tmp_path / "changed", "score/generator/tanh7/images",
                         lambda array: array * np.float32(5))
    assert judged(folder, ("score",)).stages[0].not_judged == (
        "the classifier was made from another score/generator/tanh7/images of the port: run the "
        "comparison again")
    (stage,) = judged(looked_at(folder, plan), ("score",)).stages
    first = stage.first_failure
    assert first is not None and first.place == "generator/images/apart" and first.detail


@pytest.mark.parametrize(("change", "says"), [
    (lambda pictures: pictures[..., ::-1], "picture writer"),
    (lambda pictures: pictures // 2 * 2, "picture writer"),
])
def test_a_wrong_picture_writer_is_named(captured, plan, tmp_path, change, says):
    folder = with_change(captured, tmp_path / "changed", "score/faces/written/pictures", change)
    report = judged(looked_at(folder, plan), ("score",))
    first = report.stages[0].first_failure
    assert first is not None and first.place == "faces/pictures/port" and says in first.detail


def test_where_the_forward_pass_fails_no_exporter_is_blamed(captured, plan, tmp_path, monkeypatch):
    """A port that computes otherwise than it exports: the export is looked at second."""
    monkeypatch.setattr(comparison, "of_exports", None)  # nobody asks it
    changed = with_change(captured, tmp_path / "changed",
                          "local/forward/evaluation/generator/conv1/output", swapped)
    report = judged(changed, ("forward/evaluation", "onnx"))
    assert report.blame == "port"


def test_a_port_that_stops_on_the_way_keeps_what_it_had(captured, reference, plan, tmp_path):
    """Without a bias it cannot take CNTK's weights: the report says so, layer and all."""
    port = changed_port(tmp_path / "changed", (
        "dcgan.py", "output_padding=(top - bottom, left - right), bias=layer.bias)",
        "output_padding=(top - bottom, left - right), bias=False)"))
    jobs.run_jobs([recipes.port_job(plan, tmp_path, port=port, reference=reference / "cntk",
                                           parts="seed,evaluation")],
                       plan, tmp_path, Console(quiet=True))
    for name in ("cntk", "oracle"):
        (tmp_path / name).symlink_to((captured / name).resolve())
    report = judged(tmp_path, ("structure", "state", "whole"))
    found = report.first_failure
    assert found is not None
    assert (found[0].name, found[1].place) == ("structure", "generator/conv7/bias")
    (stopped,) = [check for check in report.stages[-1].checks if not check.passed]
    assert report.stages[-1].name == "whole" and stopped.place == "port/capture/whole"
    assert "the port stopped: evaluation: " in stopped.detail


def captures_of(captured, tmp_path, **perturb: Perturb) -> Captures:
    """perturb: whose export a runtime at fault runs."""
    captures = comparison.load(captured)
    for side, fault in perturb.items():
        capture = captures.of(side)
        captures.made[f"onnx-{side}"] = ran(captured, tmp_path / side, side, capture, fault)
    return captures


def noise(layer: str) -> Perturb:
    """A runtime that is at fault in one layer."""
    def perturb(name, array):
        if name != layer:
            return array
        return (array + np.random.RandomState(0).normal(size=array.shape) * 1e-2).astype(np.float32)
    return perturb


@pytest.mark.parametrize("who", ["cntk", "port"])
def test_a_runtime_at_fault_is_blamed(captured, tmp_path, who):
    captures = captures_of(captured, tmp_path, **{who: noise("bn3")})
    assert not ONNX(captures).passed
    exports = blame_exports.of_exports(captures)
    assert exports.word == "runtime"
    assert exports.blames["generator"].layer == "bn3"
    assert exports.reproduction(tmp_path / "case") is not None


def nudged(captures: Captures, largest: float) -> Captures:
    facts = captures.cntk.facts["evaluation_nudged"]
    facts["generator/tanh7/output"] = {"error": largest, "largest": largest}
    return captures


@pytest.mark.parametrize("who", ["cntk", "port", "classifier"])
def test_every_array_of_the_score_has_an_entry(captured, who):
    assert [array for array in Capture(captured / who).names("score") if not (
        entry := name_of(f"score/{array}")) or who not in entry.by.split()] == []
    assert who != "classifier" or all(name_of(array) for array in Capture(captured / who))


def test_cntk_says_how_far_a_nudge_moves_it(captured):
    """What its capture measures: rounding, of every layer, and no more."""
    cntk = Capture(captured / "cntk")
    facts = cntk.facts["evaluation_nudged"]
    assert list(facts) == cntk.names("forward/evaluation")
    assert all(1e-8 < moved["error"] < 1e-5 and 0 < moved["largest"] < 1e-3
               for moved in facts.values())


def test_a_runtime_within_cntks_own_nudges_is_not_blamed(captured, tmp_path):
    captures = captures_of(captured, tmp_path, cntk=noise("tanh7"))  # up to 5e-2 away
    nudged(captures, 2e-2)
    failed = [check.place for check in ONNX(captures).checks if not check.passed]
    assert failed == [] and blame_exports.of_exports(captures).word == ""
    assert not ONNX(nudged(captures, 5e-3)).passed


def test_a_run_of_another_export_is_not_judged(captured):
    """What onnxruntime made of a file says nothing of another one."""
    captures = comparison.load(captured)
    entry = captures.port.attached["generator.onnx"]
    captures.port.attached["generator.onnx"] = entry._replace(sha256="0" * 64)
    assert ONNX(captures).not_judged == (
        "onnxruntime on the port's export was made from another generator.onnx of the port: run "
        "the comparison again")


def test_an_older_run_without_onnxruntimes_captures(captured, tmp_path):
    for name in ("cntk", "port", "oracle"):
        (tmp_path / name).symlink_to((captured / name).resolve())
    report = judged(tmp_path, ("state", "onnx", "whole"))
    assert report.passed and "there is no whole capture in" in report.stages[1].not_judged


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
        "dcgan.py", COPIED, COPIED +
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


# ------------------------------------------------------------------------- judged again, and not


def test_judging_again_gives_the_same_report(captured, tmp_path):
    def told():
        report = judged(captured, STAGES)
        made = report.as_dict()
        return [(stage["name"], stage["checks"]) for stage in made["stages"]]
    assert told() == told()


def test_other_allowances(captured, tmp_path):
    """A port with CNTK's bits passes the sharpest; a runtime does not."""
    report, _ = comparison.judge(captured, ("forward/evaluation", "onnx"),
                                 {"onnx": 0.0, "nudge": 0.0}, pictures=False)
    assert not report.passed and report.first_failure[0].name == "onnx"


def test_what_is_not_there_is_not_judged(captured):
    """Of this capture only two parts were made, and nothing failed."""
    report = judged(captured, None)
    assert report.passed
    assert report.coverage[0] == "reference does not apply: real CNTK made the reference itself"
    said = dict(line.split(" was not judged: ") for line in report.coverage[1:])
    assert set(said) == {"forward/training", "gradient/d", "forward/g_step", "gradient/g", "step",
                         "ledger", "twin", "program", "second"}
    assert said["gradient/g"] == ("the capture of the port has no array gradient/g/...: it was "
                                  "made without its part 'g_step'")
    assert "--iterations" in said["twin"]


def test_where_nothing_can_be_judged_nothing_agrees(captured, tmp_path):
    report = judged(captured, ("gradient/g", "whole"))
    assert not report.passed and len(report.coverage) == 2
    assert facts.verdict(report) == "NOT JUDGED"


def test_a_port_that_is_not_there(captured, tmp_path):
    """Because its process died: the reason is the port's failure, and a verdict comes out."""
    for name in ("cntk", "oracle"):
        (tmp_path / name).symlink_to((captured / name).resolve())
    (tmp_path / "port.failed").write_text("the port was ended by SIGKILL")
    report = judged(tmp_path, ("state", "score", "whole"))
    assert [stage.not_judged for stage in report.stages[:2]] == [
        "the port was ended by SIGKILL"] * 2
    assert not report.passed and report.first_failure[1].place == "port/capture/whole"


def test_a_folder_without_captures(tmp_path):
    with pytest.raises(CaptureError, match="there is no capture in"):
        judged(tmp_path, None)
