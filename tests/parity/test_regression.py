"""Two captures of one plan: a repeat has the same bits, another version rounds otherwise."""
from pathlib import Path

import numpy as np
import pytest

from captures.errors import CaptureError
from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from parity.cli import app
from parity.history import compare, store
from parity.history.sides import side
from tests.captures.image_kinds import bmp

VERSIONS = {"torch": "2.13.0", "numpy": "2.4.6"}
LAYER = "forward/training/generator/conv1/output"


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "0.bmp").write_bytes(bmp())
    (tmp_path / "map.txt").write_text(".../0.bmp\t0\n")
    return Plan.make(tmp_path / "map.txt")


def capture(tmp_path, plan, name, change=None, versions=None, job="layers"):
    values = np.random.RandomState(0).normal(size=(4, 6, 8, 8)).astype(np.float32)
    arrays = {LAYER: values, "initial/generator/conv1/weight": values[0] * np.float32(0.02),
              "step/0001/after_d/discriminator/bn2/sample_count": np.array(8)}
    facts = {"ledger": [["d_step", "discriminator/bn2/sample_count", 8]]} if job == "layers" else {}
    if change:
        change(arrays, facts)
    with CaptureWriter(str(tmp_path / name), "port", plan, versions or VERSIONS, 1,
                       job) as writer:
        for key, array in arrays.items():
            writer.add(key, array)
        for key, fact in facts.items():
            writer.fact(key, fact)
    return Capture(tmp_path / name)


def nudge(name, amount):
    def change(arrays, facts):
        arrays[name] = arrays[name] * np.float32(1 + amount)
    return change


def failed(report):
    return [f"{stage.name}/{check.place}" for stage in report.stages for check in stage.checks
            if not check.passed]


def test_a_repeat_is_the_same_bits(tmp_path, plan):
    first = capture(tmp_path, plan, "a")
    assert compare.compare(first, capture(tmp_path, plan, "b")).passed
    report = compare.compare(first, capture(tmp_path, plan, "c", nudge(LAYER, 1e-6)))
    assert failed(report) == ["forward/training/generator/conv1/output"]


def test_another_version_may_round_otherwise(tmp_path, plan):
    first, newer = capture(tmp_path, plan, "a"), {**VERSIONS, "torch": "2.14.0"}
    near = compare.compare(first, capture(tmp_path, plan, "b", nudge(LAYER, 1e-5), newer))
    assert near.passed
    assert "torch" in near.stages[0].notes[0]
    far = compare.compare(first, capture(tmp_path, plan, "c", nudge(LAYER, 1e-3), newer))
    assert failed(far) == ["forward/training/generator/conv1/output"]
    drawn = compare.compare(first, capture(
        tmp_path, plan, "d", nudge("initial/generator/conv1/weight", 1e-6), newer))
    assert failed(drawn) == ["initial/generator/conv1/weight"]


@pytest.mark.parametrize(("name", "passes", "fails"), [
    ("state/generator/conv1/weight", 5e-4, 5e-3),
    ("optimizer/state/generator/conv1/weight_m", 5e-3, 5e-2),
    ("optimizer/probe/matrix/step01", 5e-7, 5e-6),
    ("local/step/0001/after_d/discriminator/conv1/weight", 5e-7, 5e-6),
    ("gradient/d/discriminator/conv1/weight", 5e-2, 0.5)])
def test_another_version_has_policies_of_its_own(tmp_path, plan, name, passes, fails):
    def change(part):
        def change(arrays, facts):
            arrays[name] = (np.random.RandomState(1).normal(size=(6, 8)) * (1 + part)).astype(
                np.float32)
        return change
    newer = {**VERSIONS, "torch": "2.14.0"}
    first = capture(tmp_path, plan, "a", change(0))
    assert compare.compare(first, capture(tmp_path, plan, "b", change(passes), newer)).passed
    report = compare.compare(first, capture(tmp_path, plan, "c", change(fails), newer))
    assert failed(report) == [name]


def lose(name):
    return lambda arrays, facts: arrays.pop(name)


def other_events(arrays, facts):
    facts["ledger"][0][2] = 4


@pytest.mark.parametrize(("change", "place"), [
    (lose(LAYER), "forward/training/generator/conv1/output"), (other_events, "facts/facts/ledger/"
                                                                             "value")])
def test_what_is_missing_or_happened_otherwise_fails(tmp_path, plan, change, place):
    for a, b in ((None, change), (change, None)):
        report = compare.compare(capture(tmp_path, plan, "a", a),
                                    capture(tmp_path, plan, "b", b))
        assert failed(report) == [place]


def test_other_plans_and_jobs_are_refused(tmp_path, plan):
    first = capture(tmp_path, plan, "a")
    with pytest.raises(CaptureError, match=r"different plans \(seed 0 and 1"):
        compare.compare(first, capture(tmp_path, plan.with_values(seed=1), "b"))
    with pytest.raises(CaptureError, match="captures of one job"):
        compare.compare(first, capture(tmp_path, plan, "c", job="twin"))


@pytest.mark.parametrize(("change", "code"), [(None, 0), (nudge(LAYER, 1e-6), 1)])
def test_command(tmp_path, plan, capsys, change, code):
    capture(tmp_path, plan, "a"), capture(tmp_path, plan, "b", change)
    output = tmp_path / "report"
    assert app.main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output",
                              str(output)]) == code
    assert ("AGREE" if code == 0 else "DIFFER") in capsys.readouterr().out
    assert (output / "report.json").is_file()


def test_command_on_what_is_no_capture(tmp_path, capsys):
    assert app.main(["compare", str(tmp_path), str(tmp_path), "--output",
                              str(tmp_path / "report")]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: {tmp_path} is no capture, no certificate and no recorded run")


def test_another_number_of_processors_may_round_otherwise(tmp_path, plan, monkeypatch):
    """CNTK's gradients of weights depend on it."""
    first = capture(tmp_path, plan, "a")
    assert not compare.compare(first, capture(tmp_path, plan, "b", nudge(LAYER, 1e-6))).passed
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert compare.compare(first, capture(tmp_path, plan, "c", nudge(LAYER, 1e-6))).passed
    assert not compare.compare(first, capture(tmp_path, plan, "d", nudge(LAYER, 1e-2))).passed


# ------------------------------------------------------------------- three answers; certificates


def certificate(tmp_path, made, name):
    store.record(name, made, whole=False, folder=tmp_path / "recorded")
    return side(tmp_path / "recorded" / name / "port.certificate", tmp_path)


def run_of(tmp_path, plan, name, change=None, versions=None):
    capture(tmp_path / name, plan, "port", change, versions)
    return tmp_path / name


@pytest.mark.parametrize("kept", [True, False])
def test_three_answers(tmp_path, plan, kept):
    """Of captures, and of what is kept of them."""
    def one(name, change=None, versions=None):
        run = run_of(tmp_path, plan, name, change, versions)
        return certificate(tmp_path, run, name) if kept else Capture(run / "port")

    newer = {**VERSIONS, "torch": "2.14.0"}
    first = one("first")
    assert compare.compared(first, one("again")).word == "identical bits"
    found = compare.compared(first, one("newer", nudge(LAYER, 1e-5), newer))
    assert (found.word, found.first) == ("rounding", LAYER)
    assert found.causes[0].what == "torch: 2.13.0 and 2.14.0" and "torch" in found.sentence
    found = compare.compared(first, one("drifted", nudge(LAYER, 1e-2), newer))
    assert (found.word, found.first) == ("drifted", LAYER) and not found.report.passed
    found = compare.compared(first, one("same", nudge(LAYER, 1e-7)))
    assert found.word == "drifted" and found.causes == ()  # nothing that rounds has changed


def test_a_certificate_against_a_capture(tmp_path, plan):
    first = run_of(tmp_path, plan, "first")
    kept = certificate(tmp_path, first, "kept")
    assert compare.compared(kept, Capture(first / "port")).word == "identical bits"
    moved = run_of(tmp_path, plan, "moved", nudge("initial/generator/conv1/weight", 1e-6))
    found = compare.compared(kept, Capture(moved / "port"))
    assert (found.word, found.first) == ("drifted", "initial/generator/conv1/weight")


def test_the_first_in_time_is_named(tmp_path, plan):
    def change(arrays, facts):
        nudge(LAYER, 1e-2)(arrays, facts)
        nudge("initial/generator/conv1/weight", 1e-2)(arrays, facts)
    first, other = (run_of(tmp_path, plan, name, one) for name, one in
                    (("a", None), ("b", change)))
    found = compare.compared(Capture(first / "port"), Capture(other / "port"))
    assert found.first == "initial/generator/conv1/weight"
    assert compare.in_time("step/0001/after_d/x/y/z") < compare.in_time("gradient/g/x/y/z")


def test_recording(tmp_path, plan, capsys):
    run = run_of(tmp_path, plan, "run")
    recorded = tmp_path / "recorded"
    assert [path.name for path in store.record("may", run, False, recorded)] == ["port.certificate"]
    assert {path.name for path in (recorded / "may").iterdir()} >= {"port.certificate",
                                                                    "recorded.json"}
    store.record("june", run, True, recorded)
    assert Capture(recorded / "june" / "port").entries
    for name, of, said in (("may", run, "is there already"), ("a/b", run, "is no name"),
                           ("july", tmp_path / "none", "there is no capture in")):
        with pytest.raises(CaptureError, match=said):
            store.record(name, of, False, recorded)
    assert not (recorded / "july").exists()
    with pytest.raises(CaptureError, match="june, may"):
        side(Path("none"), recorded)
