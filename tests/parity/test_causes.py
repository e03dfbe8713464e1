"""Causes of a difference, from two manifests; a machine describes itself in both Pythons."""
import copy
import json
import subprocess

import pytest

from captures import machine
from parity.history.causes import causes, repeats
from tests.conftest import ROOT, cntk_environment_or_fail

MANIFEST = {
    "producer": "port", "threads": 1, "plan": {"seed": 0, "minibatch_size": 4},
    "versions": {"torch": "2.13.0+cpu"}, "facts": {"arithmetic": "cntk"},
    "machine": {"processor": "x86_64", "model": "A", "flags": ["avx", "avx2"], "processors": 2,
                "libc": "glibc 2.36", "python": "3.11.7", "system": "Linux", "code": "a" * 64,
                "variables": {}, "packages": {"opencv-python-headless": "5.0.0.93"}}}


def changed(*path: str, to: object) -> dict:
    made = copy.deepcopy(MANIFEST)
    at = made
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = to
    return made


@pytest.mark.parametrize("path, to, said", [
    (("plan", "seed"), 7, "the plan's seed: 0 and 7"),
    (("versions", "torch"), "2.14.0", "torch: 2.13.0+cpu and 2.14.0"),
    (("machine", "packages", "opencv-python-headless"), "4.9", "opencv-python-headless: 5.0.0.93"),
    (("machine", "variables", "MKL_CBWR"), "AVX2", "the variable MKL_CBWR: not set and AVX2"),
    (("machine", "processors"), 16, "the number of processors"),
    (("machine", "model"), "B", "the processor: A and B"),
    (("machine", "flags"), ["avx"], "the processor's instructions: only the first has avx2"),
    (("machine", "code"), "b" * 64, "the code: aaaaaaaaaaaa and bbbbbbbbbbbb"),
    (("facts", "arithmetic"), "float32", "the arithmetic: cntk and float32"),
    (("machine", "libc"), "glibc 2.41", "the C library"),
    (("threads",), 2, "the threads: 1 and 2"),
    (("producer",), "cntk", "the producer: port and cntk")])
def test_one_difference_is_named(path, to, said):
    found = causes(MANIFEST, changed(*path, to=to))
    assert len(found) == 1 and found[0].what.startswith(said)
    assert not repeats(MANIFEST, changed(*path, to=to))
    assert found[0].rounds == (path[0] != "plan")


def test_another_port_is_a_cause():
    """A user's port names its adapter among its versions; one without is this project's own."""
    a, b = (changed("versions", to={**MANIFEST["versions"], "adapter": text}) for text in (
        "seq/adapter.py, sources aaaa", "seq/adapter.py, sources bbbb"))
    assert [cause.what for cause in causes(MANIFEST, a)] == [
        "the port: this project's own and seq/adapter.py, sources aaaa"]
    assert [cause.what for cause in causes(a, b)] == [
        "the port: seq/adapter.py, sources aaaa and seq/adapter.py, sources bbbb"]
    assert causes(a, a) == []
    old = changed("facts", to={**MANIFEST["facts"], "not_given": {}})  # a user's, of unknown name
    assert causes(old, a) == []
    assert [cause.what for cause in causes(MANIFEST, old)] == [
        "the port: this project's own and a user's"]


def test_no_difference_no_cause():
    assert causes(MANIFEST, copy.deepcopy(MANIFEST)) == [] and repeats(MANIFEST, MANIFEST)


def test_what_an_old_manifest_does_not_know_is_no_cause():
    old = copy.deepcopy(MANIFEST)
    for name in ("model", "flags", "libc", "code", "packages"):
        del old["machine"][name]
    assert causes(old, MANIFEST) == []


def test_the_machine_describes_itself():
    found = machine.described()
    assert found["packages"]["numpy"] and found["processors"] and json.dumps(found)
    assert machine.code_sha256(str(ROOT / "captures")) == machine.code_sha256(
        str(ROOT / "captures"))


def test_code_is_known_by_name_and_content(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = machine.code_sha256(str(tmp_path))
    (tmp_path / "a.py").write_text("2")
    second = machine.code_sha256(str(tmp_path))
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, machine.code_sha256(str(tmp_path))}) == 3
    (tmp_path / "notes.txt").write_text("x")
    assert machine.code_sha256(str(tmp_path)) != first


def test_in_cntks_python_too():
    done = subprocess.run(
        [cntk_environment_or_fail(), "-c",
         "import json; from captures.machine import described; print(json.dumps(described()))"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert found["packages"]["cntk"] == "2.7" and found["python"].startswith("3.6")
