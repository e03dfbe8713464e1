"""The examples, with narrow layers: each is judged as far as it goes, what is different in it is
named, and with the mends applied it agrees. The reference is this project's port in CNTK's place.
"""
import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from captures.format import Capture, CaptureWriter
from captures.narrow import narrow
from captures.plan import Plan
from parity import comparison
from tests.conftest import ROOT
from torch_port.adapter.capture import capture
from torch_port.adapter.load import load

# What a user's code or PyTorch's compiler warns of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")
NARROWER = 32
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/adapter.py"))
STATISTICS, ADAM = {"first-update", "momentum"}, {"variance-momentum", "adams-epsilon", "clipping"}
# CNTK's lr / N of a momentum without unit gain is the stock lr where N is 2 alone; of 3, another.
# And a mean over 3 is no multiplication by a power of two.
NAMED = {"sequential": STATISTICS | ADAM | {"learning-rate"},
         "functional": STATISTICS | ADAM | {"learning-rate"},
         "compiled": {"first-update", "momentum"},
         "own_loop": STATISTICS | ADAM | {"learning-rate", "label-smoothing"},
         "onnx_files": {"another-epsilon"}}
JUDGED = {"sequential": 10, "functional": 10, "compiled": 6, "own_loop": 10, "onnx_files": 3}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """A folder with the plan, the port's capture in CNTK's place, and the oracle's."""
    folder = tmp_path_factory.mktemp("reference")
    plan = Plan.make(ROOT / "data" / "train_dcgan_map.txt", minibatch_size=3, warmup_iterations=1,
                     twin_iterations=0, score_images=2).of(narrow(by=NARROWER))
    plan.save(folder / "plan.json")
    subprocess.run([sys.executable, "-m", "tests.without_cntk", folder], cwd=ROOT, check=True,
                   capture_output=True)
    return folder


@pytest.fixture
def judged(reference, tmp_path, monkeypatch):
    """(example, file, lines that are added to it) -> the report on it."""
    def judge(example: Path, file: str, lines: str = ""):
        widths = [channels // NARROWER for channels in (1024, 512, 256, 128, 64, 32)]
        for path in example.glob("*.py"):
            text = path.read_text().replace("(1024, 512, 256, 128, 64, 32)", f"{tuple(widths)}")
            (tmp_path / path.name).write_text(text + (lines if path.name == file else ""))
        for name in ("port", "export", "mended", "adapter"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys, "path", list(sys.path))
        if (tmp_path / "export.py").exists():
            subprocess.run([sys.executable, "export.py"], cwd=tmp_path, check=True,
                           capture_output=True)
        plan = Plan.load(reference / "plan.json")
        cntk, run = Capture(reference / "cntk"), tmp_path / "run"
        run.mkdir()
        for name in ("plan.json", "cntk", "oracle"):
            (run / name).symlink_to(reference / name)
        # As in a process of a user's own: the exact port, in other tests, switches oneDNN off.
        with torch.random.fork_rng(), torch.compiler.set_stance("force_eager"), \
                torch.backends.mkldnn.flags(enabled=True), CaptureWriter(
                str(run / "port"), "port", plan, {"torch": torch.__version__}, 1) as writer:
            torch.manual_seed(0)
            capture(load(tmp_path / file), plan.spec, plan, cntk, writer, lambda *_: None)
        return comparison.judge(run, pictures=False)[0]
    return judge


def test_there_are_five():
    assert [path.name for path in EXAMPLES] == sorted(NAMED) == sorted(JUDGED)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_adapter_has_at_most_20_lines(example):
    """Of code: what is no docstring, no comment, not empty."""
    text = (example / "adapter.py").read_text()
    ast.parse(text)
    assert len(text.splitlines()) <= 20


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_what_is_different_is_named(judged, example):
    report = judged(example, "adapter.py")
    assert not report.passed
    assert {one.name for one in report.diagnoses} == NAMED[example.name]
    assert all(one.mend and one.page and one.places for one in report.diagnoses)
    wrong = {stage.name for stage in report.judged if not stage.passed}
    assert wrong <= {"optimizer", "normalisation", "step", "gradient/d", "forward/evaluation"}
    assert len(report.judged) == JUDGED[example.name]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_mended_it_agrees(judged, example):
    report = judged(example, "mended.py")
    assert report.passed, report.first_failure
    assert report.diagnoses == []
    assert len(report.judged) == JUDGED[example.name]


# ------------------------------------------------------------------------- reader and pictures

CNTKS_READER = """
from torch_port.reader.reader import ImageReader

def reader(map_file, minibatch_size, seed):
    return iter(ImageReader(map_file, minibatch_size, randomization_seed=seed, width=256,
                            height=256))
"""
IN_ORDER = """
import cv2
import itertools
from pathlib import Path

def reader(map_file, minibatch_size, seed):
    home = Path(map_file).parent
    names = [line.split("\\t")[0].replace("...", str(home)) for line in open(map_file)]
    images = itertools.cycle(torch.from_numpy(cv2.resize(cv2.imread(name), (256, 256))).permute(
        2, 0, 1) for name in names)
    while True:
        yield torch.stack(list(itertools.islice(images, minibatch_size)))
"""
WRITER = """
import cv2

def write_picture(path, image):
    cv2.imwrite(path, ((image.permute(1, 2, 0).numpy() + 1) * 127.5).ROUNDED.astype("uint8"))
"""


@pytest.fixture
def stages(judged):
    """Lines of adapter -> the stages of the report by name."""
    def of(lines: str):
        report = judged(ROOT / "examples" / "sequential", "adapter.py", lines)
        return {stage.name: stage for stage in report.stages}
    return of


def test_a_reader_and_a_writer_of_their_own_are_judged(stages):
    got = stages(CNTKS_READER + WRITER.replace("ROUNDED", "round()"))
    assert got["reader"].passed and len(got["reader"].checks) > 3
    assert got["program"].passed and [check.place for check in got["program"].checks] == [
        "run/picture/written"]


def test_another_order_and_a_picture_cut_off_are_named(stages):
    got = stages(IN_ORDER + WRITER.replace("ROUNDED", "clip(0, 255)"))
    assert not got["reader"].passed and got["reader"].first_failure.place.startswith("minibatch00")
    assert got["program"].first_failure.place == "run/picture/written"


@pytest.mark.parametrize("lines, said", [
    ("def reader(*_):\n    return iter([torch.zeros(2, 3, 256, 256)])\n", "ends after 1"),
    ("def reader(*_):\n    while True:\n        yield 'a.bmp'\n", "gives a str"),
    ("def reader(*_):\n    while True:\n        yield torch.zeros(3, 8, 8)\n", "gives (3, 8, 8)"),
    ("def reader(*_):\n    raise KeyError('no such file')\n", "no such file"),
    ("def write_picture(path, image):\n    pass\n", "wrote no picture"),
    ("def write_picture(path):\n    pass\n", "write_picture")])
def test_what_is_wrong_with_them_is_said(stages, lines, said):
    assert said in str(stages("\n\n" + lines)["whole"].first_failure.detail)
