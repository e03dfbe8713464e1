"""A file of a capture that is not as it was written is nobody's mistake: exit 2, whichever capture
it is of and whether or not the stages need it; and a command replaces nobody's own files."""
import json
import shutil

import numpy as np
import pytest

from captures.files import write_json
from captures.format import Capture, CaptureWriter, checksum
from captures.output import resumed
from captures.plan import Plan
from parity import comparison
from parity.cli import judge as judge_command
from parity.cli.app import main
from parity.cli.options import EVIDENCE, REPORTS, WRITTEN
from parity.history import store
from parity.judge.results import Report
from parity.producers import recipes
from parity.producers.jobs import ROOT
from parity.report import Pictures, write_all
from parity.stages.common import array_or_failure
from tests.captures.image_kinds import bmp
from tests.captures.test_changed_captures import HARM, a_link, changed, cut, lost

ARRAYS = ("reader/probe/minibatch01/images", "input/reader/images")
STAGES = ("--stages", "reader", "--quiet")


def write(folder, plan, producer):
    with CaptureWriter(folder, producer, plan, {}, 1) as writer:
        for name in ARRAYS:
            writer.add(name, np.arange(6, dtype=np.float32))
        writer.fact("warmup_minibatches", ["0"])
        (folder.parent / "generator.onnx").write_bytes(b"graph")
        writer.attach(folder.parent / "generator.onnx")
    (folder.parent / "generator.onnx").unlink()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "0.bmp").write_bytes(bmp())
    (folder / "map.txt").write_text(".../0.bmp\t0\n")
    plan = Plan.make(folder / "map.txt", twin_iterations=0)
    for producer in ("cntk", "port", "oracle"):
        write(folder / producer, plan, producer)
    plan.save(folder / "plan.json")
    return folder


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def refused(capsys, *arguments):
    """The one line."""
    assert main([str(one) for one in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def test_the_captures_agree(run):
    assert main(["judge", str(run), *STAGES]) == 0
    assert {path.name for path in run.iterdir()} >= set(REPORTS)


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("file", ["arrays/000000.npy", "generator.onnx"])
@pytest.mark.parametrize("who", ["cntk", "port", "oracle"])
def test_a_damaged_file_is_nobodys_mistake(run, capsys, who, file, harm):
    """The stage reads no attached file, and nothing of the oracle."""
    if (who, file, harm) == ("oracle", "arrays/000000.npy", changed):
        return  # an array's content is compared where it is read
    harm(run / who / file)
    said = refused(capsys, "judge", run, *STAGES)
    assert f"of the capture {run / who} " in said and "make the capture again" in said
    assert not (run / "report.json").exists()


def test_what_is_a_finding_stays_one(run):
    """An array that the port did not write, and one with NaN."""
    edit(run / "port" / "manifest.json", lambda manifest: manifest["arrays"].pop(ARRAYS[0]))
    assert main(["judge", str(run), *STAGES]) == 1
    array = np.full(6, np.nan, np.float32)
    np.save(run / "port" / "arrays" / "000001.npy", array)
    edit(run / "port" / "manifest.json",
         lambda manifest: manifest["arrays"][ARRAYS[1]].update(crc32=checksum(array)))
    assert main(["judge", str(run), *STAGES]) == 1


def test_damage_counts_whoever_caught_it(run, capsys, monkeypatch):
    changed(run / "oracle" / "arrays" / "000000.npy")

    def swallowing(report, captures):
        with pytest.raises(ValueError):
            captures.oracle[ARRAYS[0]]
        return []

    monkeypatch.setattr(comparison, "diagnose", swallowing)
    assert "it is not what it was" in refused(capsys, "judge", run, *STAGES)


def test_damage_is_no_check(run):
    cut(run / "port" / "arrays" / "000000.npy")
    with pytest.raises(ValueError, match="make the capture again"):
        array_or_failure(Capture(run / "port"), ARRAYS[0])


def test_a_shape_of_seven_terabytes(run, capsys):
    edit(run / "port" / "manifest.json",
         lambda manifest: manifest["arrays"][ARRAYS[0]].update(shape=[10 ** 12]))
    assert "cut off, or more than its manifest says" in refused(capsys, "judge", run, *STAGES)


@pytest.mark.parametrize(("who", "producer"), [("port", "evil"), ("port", "cntk"),
                                               ("cntk", "port"), ("oracle", "port")])
def test_a_capture_is_of_its_roles_producer(run, capsys, who, producer):
    edit(run / who / "manifest.json", lambda manifest: manifest.update(producer=producer))
    assert f"says that {producer!r} made it" in refused(capsys, "judge", run, *STAGES)


def test_the_plans_file_is_the_captures_or_not_there(run, capsys):
    path = run / "plan.json"
    edit(path, lambda plan: plan.update(seed=7))
    assert "is not the plan of the captures beside it (seed 7 and 0)" in refused(
        capsys, "judge", run, *STAGES)
    path.write_text("{")
    assert f"{path} is not a plan" in refused(capsys, "judge", run, *STAGES)
    path.unlink()
    assert main(["judge", str(run), *STAGES]) == 0


def test_a_folder_without_captures_is_left_as_it_is(tmp_path, capsys):
    assert "there is no capture in" in refused(capsys, "judge", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("whole", [[], ["--whole"]])
@pytest.mark.parametrize("harm", [lost, a_link, changed])
def test_nothing_damaged_is_recorded(run, tmp_path, capsys, monkeypatch, whole, harm):
    monkeypatch.setattr(store.record, "__defaults__", (tmp_path / "recorded",))
    harm(run / "port" / "generator.onnx")
    assert "make the capture again" in refused(capsys, "record", "june", "--run", run, *whole)
    assert not list((tmp_path / "recorded" / "june").glob("[a-z]*"))


def test_nothing_damaged_is_compared(run, tmp_path, capsys):
    lost(run / "port" / "generator.onnx")
    assert "make the capture again" in refused(
        capsys, "compare", run / "port", run / "port", "--output", tmp_path / "new")
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------- what somebody else put there


def test_what_judge_writes_is_the_runs(run):
    assert main(["judge", str(run), *STAGES]) == 0
    assert set((run / ".made").read_text().split("\n")) == set(REPORTS)


def test_judge_replaces_no_folder_that_is_not_a_case(run, capsys):
    theirs = run / comparison.REPRODUCTION / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("precious")
    assert "reproduction was not made here" in refused(capsys, "judge", run, *STAGES)
    assert theirs.read_text() == "precious"


def test_compare_says_before_its_work_that_it_cannot_write(run, tmp_path, capsys, monkeypatch):
    def work(*_):
        raise AssertionError("it began")

    monkeypatch.setattr("parity.history.compare.compared", work)
    (tmp_path / "file").write_text("x")
    said = refused(capsys, "compare", run / "port", run / "port", "--output", tmp_path / "file")
    assert f"{tmp_path / 'file'} cannot be written" in said
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("precious")
    said = refused(capsys, "compare", run / "port", run / "port", "--output", tmp_path / "mine")
    assert "report.html was not made here" in said


def test_history_replaces_no_page_of_somebodys(tmp_path, capsys):
    (tmp_path / "history.html").write_text("precious")
    assert "history.html was not made here" in refused(capsys, "history", "--output", tmp_path)
    refused(capsys, "history", "--recorded", tmp_path / "none", "--output", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("command", "file"), [("score", "score.html"), ("article", "article.html"),
                                               ("sensitivity", "sensitivity.json"),
                                               ("article", "cntk")])
def test_no_file_of_somebodys_is_replaced(tmp_path, capsys, command, file):
    (tmp_path / file).write_text("precious")
    arguments = [] if command == "article" else [tmp_path]
    assert f"{file} was not made here" in refused(capsys, command, *arguments, "--output", tmp_path)
    assert (tmp_path / file).read_text() == "precious"


@pytest.mark.parametrize("command", ["defects", "false-alarms", "detection-limits", "diagnoses",
                                     "certified-defects"])
@pytest.mark.parametrize("theirs", ["results/x", "scratch/x", "reference/x", "images.txt"])
def test_what_goes_on_does_so_only_where_it_was_before(tmp_path, capsys, command, theirs):
    path = tmp_path / theirs
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    said = refused(capsys, command, "--output", tmp_path)
    assert f"{tmp_path / theirs.split('/')[0]} was not made here" in said
    assert path.read_text() == "precious" and not (tmp_path / ".lock").exists()
    (tmp_path / ".lock").write_text("")
    with resumed(tmp_path, EVIDENCE):
        pass


def test_golden_replaces_nothing_that_is_no_certificate(tmp_path, capsys, made):
    path = tmp_path / "default.certificate"
    path.write_text("precious")
    assert f"{path} is no certificate" in refused(
        capsys, "golden", "--folder", tmp_path, "--map-file", made / "map.txt")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("theirs", ["port/thesis.txt", "report.html", "second/x", "plan.json"])
@pytest.mark.parametrize("command", ["run", "horizon"])
def test_a_run_is_refused_before_it_begins(tmp_path, capsys, made, monkeypatch, command, theirs):
    def work(*_, **__):
        raise AssertionError("it began")

    monkeypatch.setattr("parity.producers.jobs.run_jobs", work)
    path = tmp_path / "mine" / theirs
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    said = refused(capsys, command, "--map-file", made / "map.txt", "--output", tmp_path / "mine",
                   *(["--stages", "reader"] if command == "run" else []))
    assert f"{tmp_path / 'mine' / theirs.split('/')[0]} was not made here" in said
    assert path.read_text() == "precious"


def test_every_name_that_a_run_makes_is_known_before(tmp_path, made):
    plan = Plan.make(made / "map.txt")
    jobs = recipes.main_jobs(plan, tmp_path, recipes.Sources(ROOT, recipes.CERTIFICATE),
                             roles=("onnx-cntk", "onnx-port", "classifier"))
    jobs += [other for job in jobs for other in job.beside]
    names = {path.relative_to(tmp_path).parts[0] for job in jobs
             for path in (job.folder, job.failure, *([job.ended] if job.ended else []))}
    report = Report(dict(plan.inputs), {}, [], {})
    paths = write_all(report, Pictures(), {}, tmp_path, judge_command.console_of(True))
    assert {path.name for path in paths.values()} == set(REPORTS)
    assert names | set(REPORTS) | {comparison.REPRODUCTION} <= set(WRITTEN)
