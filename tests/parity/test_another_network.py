"""Networks that are not the article's, with another name for everything, through the whole suite:
real CNTK, the port's parts, captures, every stage but the score, and the report."""
import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

from captures import spec as kinds
from captures.errors import CaptureError
from captures.format import Capture, require_same_plan
from captures.names import NAMES, name_of
from captures.plan import Plan
from captures.spec import Layer, Spec, checked, network
from parity import comparison
from parity.judge import policies
from parity.report import write_all
from parity.stages import registry

ROOT = Path(__file__).resolve().parents[2]
STAGES = [stage.name for stage in registry.STAGES
          if stage.name not in ("reference", "twin", "score", "second")]
SMALL = checked(Spec(
    "three small layers",
    network("painter", (12,), [
        Layer("spread", kinds.TRANSPOSED, 24, 4), Layer("evened", kinds.NORMALISATION),
        Layer("kept", kinds.RELU),
        Layer("grown", kinds.TRANSPOSED, 16, 5, 2, padded=True, bias=True),
        Layer("kept_too", kinds.RELU),
        Layer("drawn", kinds.TRANSPOSED, 3, 5, 2, padded=True, bias=True),
        Layer("bounded", kinds.TANH)]),
    network("expert", (3, 16, 16), [
        Layer("seen", kinds.CONVOLUTION, 8, 3, 2, padded=True, bias=True),
        Layer("bent", kinds.LEAKY_RELU),
        Layer("weighed", kinds.CONVOLUTION, 16, 3, 2, padded=True),
        Layer("level", kinds.NORMALISATION), Layer("bent_too", kinds.LEAKY_RELU),
        Layer("summed", kinds.CONVOLUTION, 1, 4, bias=True), Layer("sure", kinds.SIGMOID)]),
    real="expert_on_photos", fake="expert_on_paintings", middle=127.5, deviation=0.03,
    epsilon=1e-4, time_constant=800, slope=0.3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cntk) -> Path:
    made = tmp_path_factory.mktemp("another")
    plan = Plan.make(ROOT / "data" / "train_dcgan_map.txt", minibatch_size=4, score_images=2,
                     twin_iterations=0).of(SMALL)
    comparison.make(plan, made, Console(quiet=True), stages=STAGES)
    return made


def test_every_stage_passes(folder):
    report, pictures = comparison.judge(folder, STAGES)
    assert report.passed, report.first_failure
    assert [stage.name for stage in report.stages] == STAGES
    assert all(stage.checks and not stage.not_judged for stage in report.stages)
    write_all(report, pictures, policies.policies(), folder / "report", Console(quiet=True),
              layers=False)
    page = (folder / "report" / "report.html").read_text()
    assert "three small layers" in page and "painter" in page and "generator/" not in page


def test_the_port_has_cntks_bits(folder):
    cntk, port = Capture(folder / "cntk"), Capture(folder / "port")
    compared = [name for name in cntk if name in port]
    assert len(compared) > 250
    assert [name for name in compared if (cntk[name] != port[name]).any()] == []


def test_a_capture_carries_its_networks(folder, tmp_path):
    moved = tmp_path / "elsewhere"
    (folder / "cntk").rename(moved)
    try:
        assert Capture(moved).spec == SMALL
        assert Capture(moved).attachment("painter.onnx").stat().st_size > 1000
    finally:
        moved.rename(folder / "cntk")


def test_every_array_has_an_entry(folder):
    """In the table of docs/captures.md, which names the capture that it is of; and every entry is
    met, but for those of the score, of the twin run and of adapters, which were not made here."""
    met = set()
    for place in sorted(path.parent for path in folder.glob("*/manifest.json")):
        for array in Capture(place):
            entry = name_of(array)
            assert entry is not None and place.name in entry.by.split(), (place.name, array)
            met.add(entry)
    left = [one for one in set(NAMES) - met if not one.pattern.startswith(
        ("normalisation/networks/", "program/resumed/state/"))]
    assert {one.pattern.split("/")[0] for one in left} <= {"score", "classifier", "twin"}


def test_an_array_without_an_entry_is_seen():
    assert name_of("forward/training/painter/drawn/output") is not None
    assert name_of("forward/backwards/painter/drawn/output") is None
    assert name_of("state/painter/drawn/momentum") is None


def test_another_networks_capture_is_of_another_plan(folder):
    ours, other = Capture(folder / "cntk"), Capture(folder / "port")
    plan = Plan.load(folder / "plan.json")
    other.plan_hash = plan.of(SMALL._replace(slope=0.25)).hash
    other.manifest["plan"] = plan.of(SMALL._replace(slope=0.25)).inputs
    with pytest.raises(CaptureError, match=r"different plans \(network_sha256"):
        require_same_plan(ours, other)


def test_another_slope_is_found(folder):
    """The judge asks the networks' own description: one number of it changed is a failure."""
    captures = comparison.load(folder)
    captures = dataclasses.replace(captures)
    captures.cntk.spec = captures.port.spec = SMALL._replace(slope=0.2)
    onnx = next(stage for stage in registry.STAGES if stage.name == "onnx")
    failed = [check.place for check in onnx(captures).checks if not check.passed]
    assert "expert/bent/node_port_export" in failed and "expert/bent/node_cntk_export" in failed
