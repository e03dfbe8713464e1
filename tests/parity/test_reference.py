"""What stands in for CNTK, against a certificate: of narrow networks, and a certificate that was
recorded of the stand-in itself, so that every bit has to be the same."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from captures.certificate import Certificate, recorded
from captures.files import plan_file
from captures.format import MANIFEST, Capture
from captures.plan import Plan
from parity.evidence import golden, plans
from parity.golden import store
from parity.golden.table import TABLE, Golden
from parity.judge.results import Stage
from parity.producers.jobs import ROOT, ProducerError
from parity.stages import reference
from parity.stages.common import Captures, Nothing
from tests.captures.image_kinds import bmp
from tests.conftest import cntk_environment_or_fail
from torch_port.capture import __main__ as capture_program
from torch_port.rounding import as_cntk_rounds
from torch_port.stand_in.job import make

MOVED = "state/generator/conv3/weight"


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    folder = tmp_path_factory.mktemp("images")
    for i in range(3):
        (folder / f"{i}.bmp").write_bytes(bmp())
    (folder / "map.txt").write_text("".join(f".../{i}.bmp\t0\n" for i in range(3)))
    return plans.plan_of(folder / "map.txt", warmup_iterations=1, twin_iterations=3,
                         score_images=2)


@pytest.fixture(scope="module")
def made(plan, tmp_path_factory) -> Path:
    """A folder with ``cntk`` and ``twin-cntk``, both by the stand-in, alone."""
    folder = tmp_path_factory.mktemp("made")
    plan.save(plan_file(folder))
    for name, job in (("cntk", "layers"), ("twin-cntk", "twin")):
        make(plan_file(folder), folder / name, None, job)
    as_cntk_rounds(plan.cntk_threads)
    return folder


def certificate(folder: Path, capture: Capture, change=None) -> Certificate:
    """Of a capture, one array moved before it is recorded, as if CNTK had another."""
    arrays = {name: np.array(capture[name]) for name in capture}
    if change:
        change(arrays)
    folder.mkdir(exist_ok=True)
    path = folder / f"{capture.facts['job']}.certificate"
    path.write_bytes(recorded(arrays, {}, capture.manifest["plan"], capture.plan_hash,
                              {"versions": {"cntk": "2.7"}, "date": "2026-11-27"},
                              golden.facts_of(capture)))
    return Certificate(str(path))


def one_ulp(arrays):
    arrays[MOVED].flat[1234] = np.nextafter(arrays[MOVED].flat[1234], np.float32(9))


@pytest.fixture
def judged(made, tmp_path, monkeypatch):
    """judged(change, bits): the stage, against certificates of the folder's captures."""
    def judged(change=None, bits=True, twin=True) -> tuple[Stage, Captures]:
        folder = tmp_path / "golden"
        certificate(folder, Capture(made / "cntk"), change)
        monkeypatch.setattr(reference, "certificate_of", lambda inputs, job="layers":
                            store.certificate_of(inputs, folder, job))
        cntk = Capture(made / "cntk")
        twins = {}
        if twin:
            twins["cntk"] = Capture(made / "twin-cntk")
            certificate(folder, twins["cntk"])
        for one in (cntk, *twins.values()):
            one.facts["bits"] = bits
        captures = Captures(cntk, Nothing(cntk), Nothing(cntk), twins=twins)
        return reference.REFERENCE(captures), captures
    return judged


def failed(stage: Stage) -> list[str]:
    return [check.place for check in stage.checks if not check.passed]


def test_what_has_every_bit_passes(judged):
    stage, captures = judged()
    assert stage.passed and captures.found["reference"] == len(captures.cntk)
    assert any("3 of 3 iterations held against those recorded of CNTK" in note
               for note in stage.notes)
    said = store.stand_in(captures.cntk, captures.found["reference"], len(captures.cntk))
    assert said.startswith("CNTK did not run: this project's port stood in for it, ")


def test_one_ulp_in_one_array_of_cntks_is_found_and_named(judged):
    stage, captures = judged(one_ulp)
    assert failed(stage) == [MOVED]
    assert captures.found["reference"] == len(captures.cntk) - 1


def test_without_bits_the_same_is_compared_by_value_and_what_that_misses_is_said(judged):
    stage, _ = judged(one_ulp, bits=False)
    assert stage.passed
    said = next(note for note in stage.notes if "missed by the sample" in note)
    assert "1 with 0.99" in said

    def other(arrays):
        arrays[MOVED] *= np.float32(1.01)
    stage, _ = judged(other, bits=False)
    assert failed(stage) == [MOVED]


def test_an_array_too_many_and_one_too_few_fail(judged):
    stage, _ = judged(lambda arrays: arrays.update(
        {"forward/more/x/output": arrays.pop(MOVED)}))
    assert sorted(failed(stage)) == ["forward/more/x/output", MOVED]


@pytest.mark.parametrize(("change", "place"), [
    (lambda facts: facts["state_hashes"][1].update({MOVED[6:]: "0"}), "twin/run/state_hashes"),
    (lambda facts: facts["latents_hashes"].reverse(), "twin/run/latents_hashes"),
    (lambda facts: facts["minibatch_sha256"].pop(), "twin/run/minibatch_sha256"),
    (lambda facts: facts["initial_sha256"].clear(), "twin/initial/weights")])
def test_a_twin_run_that_is_not_the_recorded_one(judged, made, monkeypatch, change, place):
    def changed(stage, capture):
        change(capture.facts)
        return twin(stage, capture)
    twin = reference.twin
    monkeypatch.setattr(reference, "twin", changed)
    assert place in failed(judged()[0])


def test_without_a_certificate_nothing_is_claimed(judged, monkeypatch):
    _, captures = judged()
    monkeypatch.setattr(reference, "certificate_of", lambda inputs, job="layers": None)
    stage = reference.REFERENCE(captures)
    assert stage.not_judged == "no certificate is of this plan"
    for found, said in ((None, "own arithmetic, certified on"),
                        (captures.cntk, "the stage reference was left out")):
        monkeypatch.setattr(store, "certificate_of", lambda inputs, folder, found=found: found)
        assert said in store.stand_in(captures.cntk, None, 1)


def test_without_cntks_files_a_port_takes_the_arrays_that_would_be_in_them(plan, made, tmp_path):
    assert capture_program.main([
        "--plan", str(plan_file(made)), "--reference", str(made / "cntk"), "--parts", "evaluation",
        "--output", str(tmp_path / "port")]) == 0
    ours, theirs = Capture(tmp_path / "port"), Capture(made / "cntk")
    assert np.array_equal(ours[MOVED], theirs[MOVED])
    place = "forward/evaluation/generator/tanh7/output"
    assert np.array_equal(ours[place], theirs[place])


# ----------------------------------------------------------------- the twin run's stand-in


def twin_of(plan, folder: Path, kept: Certificate | None, answer: str) -> Capture:
    """The stand-in's twin run beside a port that answered so, and ended."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "meeting").mkdir(parents=True)
    (folder / "meeting" / "mode").write_text(answer)
    (folder / "meeting" / "follower").touch()
    plan.save(plan_file(folder))
    make(plan_file(folder), folder / "twin", kept and Path(kept.path), "twin",
         folder / "meeting")
    return Capture(folder / "twin")


def test_a_recorded_twin_run_is_not_computed_again(plan, made, tmp_path):
    whole = Capture(made / "twin-cntk")
    kept = certificate(tmp_path, whole)
    found = twin_of(plan, tmp_path / "run", kept, "bits")
    assert found.facts["from_certificate"] == 2
    for fact in (*reference.RUN, "initial_sha256"):
        assert found.facts[fact] == whole.facts[fact]
    assert np.array_equal(found[reference.LOSSES], whole[reference.LOSSES])
    longer = twin_of(plan.with_values(twin_iterations=4), tmp_path / "run", kept, "bits")
    assert longer.facts["from_certificate"] == 0 and len(longer.facts["state_hashes"]) == 4


def test_who_has_not_its_bits_is_given_every_state(plan, made, tmp_path):
    kept = certificate(tmp_path, Capture(made / "twin-cntk"))
    found = twin_of(plan, tmp_path / "run", kept, "step")
    assert found.facts["from_certificate"] == 0 and found.facts["mode"] == "step"


def test_another_first_iteration_than_cntks_is_computed_to_its_end(plan, made, tmp_path):
    other = Capture(made / "twin-cntk")
    other.facts["state_hashes"][0][MOVED[6:]] = "0"
    found = twin_of(plan, tmp_path / "run", certificate(tmp_path, other), "bits")
    assert found.facts["from_certificate"] == 0


# ----------------------------------------------------------------- recording, with real CNTK


def test_recording_twice_gives_the_same_files(plan, tmp_path, monkeypatch):
    cntk_environment_or_fail()
    small = Golden("small", {}, 64, "twin")
    monkeypatch.setattr(golden, "TABLE", (small,))
    monkeypatch.setattr(golden, "plan_of", lambda *_: plan.with_values(
        twin_iterations=1).of(plan.spec))
    folder, said = tmp_path / "golden", Console(quiet=True)
    kept = folder / "small.certificate"
    assert golden.record(Path(plan.map_file), folder, tmp_path / "scratch", said) == []
    first = kept.read_bytes()
    certified = Certificate(str(kept))
    assert len(certified.made_by["wheel"]) == 64 and certified.made_by["date"]
    assert certified.made_by["machine"]["packages"]["cntk"] == "2.7"
    made = golden.certified(small, golden.plan_of(), tmp_path / "scratch", said)
    assert made == first or Certificate(str(kept)).made_by["date"] not in str(made)
    monkeypatch.setattr(golden, "certified", lambda *_: made)
    assert golden.record(Path(plan.map_file), folder, tmp_path / "scratch", said, again=True) == []
    assert kept.read_bytes() == first and not (tmp_path / "scratch" / "small").exists()
    other = certified.kept(reference.LOSSES).reshape(1, 2) + 1
    changed = recorded({reference.LOSSES: other}, {}, certified.plan, certified.plan_hash,
                       certified.made_by, certified.facts)
    monkeypatch.setattr(golden, "certified", lambda *_: changed)
    assert golden.record(Path(plan.map_file), folder, tmp_path / "scratch", said, again=True) == [
        "small"]
    assert kept.read_bytes() == first and (folder / "small.differs").read_bytes() == changed


def test_a_certificate_of_other_images_is_recorded_anew(plan, tmp_path, monkeypatch):
    small = Golden("small", {}, 64, "twin")
    monkeypatch.setattr(golden, "TABLE", (small,))
    monkeypatch.setattr(golden, "plan_of", lambda *_: plan)
    other = {**plan.inputs, "images_sha256": "0" * 64}
    monkeypatch.setattr(golden, "certified", lambda *_: recorded(
        {}, {}, plan.inputs, plan.hash, {}, {"job": "twin"}))
    path = tmp_path / "small.certificate"
    path.write_bytes(recorded({}, {}, other, "x", {}, {"job": "twin"}))
    assert golden.record(Path(), tmp_path, tmp_path / "scratch", Console(quiet=True)) == []
    assert Certificate(str(path)).plan["images_sha256"] == plan.images_sha256


# ----------------------------------------------------------------- which certificate is of a plan


def test_which_certificate_is_of_a_plan(plan, tmp_path):
    def write(name, inputs, job, branch="0"):
        (tmp_path / f"{name}.certificate").write_bytes(recorded(
            {}, {}, inputs, "x", {"environment": {"MKL_DEBUG_CPU_TYPE": branch}}, {"job": job}))

    def found(job="layers", **values):
        made = store.certificate_of({**plan.inputs, **values}, tmp_path, job)
        return None if made is None else Path(made.path).stem

    write("a", plan.inputs, "layers", "5")
    write("b", plan.inputs, "layers")
    write("c", plan.inputs, "twin")
    assert found() == "b" and found("twin") == "c"
    assert found(threads=8, twin_minibatch_size=7) == "b" and found(minibatch_size=9) is None
    assert found("twin", minibatch_size=9, twin_iterations=2) == "c"
    assert found("twin", twin_minibatch_size=7) is None and found(cntk_threads=1) is None
    assert found(images_sha256="0" * 64) is None


def test_the_table_has_each_name_once_and_plans_that_there_are(tmp_path):
    (tmp_path / "0.bmp").write_bytes(bmp())
    (tmp_path / "map.txt").write_text(".../0.bmp\t0\n")
    assert len({one.name for one in TABLE}) == len(TABLE) and TABLE[0].values == {}
    for one in TABLE:
        Plan.make(tmp_path / "map.txt", **one.values)
    drawn = golden.plan_of(TABLE[5]._replace(faces=(2, 4)), Path(), tmp_path)
    assert drawn.images_sha256 != Plan.make(tmp_path / "map.txt").images_sha256
    with pytest.raises(ProducerError, match="could not be drawn"):
        golden.plan_of(TABLE[5]._replace(faces=(-1, 4)), Path(), tmp_path / "other")


KEPT = [path.stem for path in store.certificates()]


@pytest.mark.parametrize("name", KEPT)
def test_every_kept_certificate_is_of_the_table_and_its_arrays_are_there(name):
    kept = Certificate(str(store.FOLDER / (name + store.SUFFIX)))
    entry = next(one for one in TABLE if one.name == name)
    assert store.job_of(kept) == entry.job and store.branch_of(kept) == str(entry.branch)
    assert kept.values == entry.kept and len(kept)
    assert all(kept.plan[key] == value for key, value in entry.values.items())
    made_by = kept.made_by
    assert made_by["producer"] == "cntk" and made_by["versions"]["cntk"] == "2.7"
    assert made_by["machine"]["flags"] and made_by["machine"]["code"] and made_by["wheel"]


def test_all_certificates_together_are_at_most_5_mb():
    assert sum(path.stat().st_size for path in store.certificates()) <= 5 * 2 ** 20


def test_manifests_name_the_machine(made):
    told = json.loads((made / "cntk" / MANIFEST).read_text())["machine"]
    assert told["packages"]["torch"] and told["code"] and (ROOT / "captures").is_dir()
