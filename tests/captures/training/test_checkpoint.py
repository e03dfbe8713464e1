"""Checkpoints whose checksums are right and whose content is not, and what a kill leaves."""
import hashlib
import io
import json
import shutil
import zipfile

import numpy as np
import pytest

from captures.errors import TrainingError
from captures.training.checkpoint import (
    LOG,
    MANIFEST,
    STATE,
    _facts,
    found,
    read_checkpoint,
    read_newest,
)
from captures.training.shapes import KEYS
from tests.captures.training import toy
from tests.captures.training.test_session import map_file  # noqa: F401 - a fixture

WEIGHT = "generator/conv1/weight"


@pytest.fixture(scope="module")
def whole(map_file, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("whole") / "run"
    toy.run(map_file, folder, 4)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def seal(path, change=lambda manifest: None):
    """The manifest with the right checksums of what is there now."""
    manifest = json.loads((path / MANIFEST).read_text())["manifest"]
    manifest["files"] = {name: _facts(path / name) for name in (STATE, LOG)}
    change(manifest)
    text = json.dumps(manifest, indent=1, sort_keys=True)
    (path / MANIFEST).write_text(json.dumps(
        {"sha256": hashlib.sha256(text.encode()).hexdigest(), "manifest": manifest}))


def with_array(name, made):
    def edit(path):
        arrays = dict(np.load(path / STATE))
        arrays[name] = made(arrays[name])
        np.savez(path / STATE, **arrays)
        seal(path)
    return edit


def zipped(content, packed=zipfile.ZIP_STORED, name=WEIGHT + ".npy", times=1):
    def edit(path):
        with zipfile.ZipFile(path / STATE, "w", packed) as state:
            for _ in range(times):
                state.writestr(name, content)
        seal(path)
    return edit


def head(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def bytes_at(*places):
    """The first member's flags, say, in its own entry and in the directory's."""
    def edit(path):
        content = bytearray((path / STATE).read_bytes())
        for own, listed, value in places:
            content[own] = content[content.find(b"PK\1\2") + listed] = value
        (path / STATE).write_bytes(content)
        seal(path)
    return edit


def state(content):
    def edit(path):
        (path / STATE).write_bytes(content)
        seal(path)
    return edit


def array_file():
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


def manifest(**changes):
    return lambda path: seal(path, lambda held: held.update(changes))


def within(part, **changes):
    return lambda path: seal(path, lambda held: held[part].update(changes))


def shorter_log(path):
    (path / LOG).write_text("".join((path / LOG).read_text().splitlines(True)[:-2]))
    seal(path)


EDITS = {
    "an array larger than all memory": (zipped(head((10 ** 13,))), "in 128 bytes"),
    "more than a number holds": (zipped(head((10 ** 400,))), "large"),
    "packed": (zipped(head((2 ** 20,)) + bytes(2 ** 22), zipfile.ZIP_DEFLATED), "another form"),
    "encrypted": (bytes_at((6, 8, 1)), "encrypted"),
    "packed in an unknown way": (bytes_at((8, 10, 99)), "another form"),
    "pickled": (with_array(WEIGHT, lambda _: np.array([{1: 2}], object)), "is object"),
    "an array alone": (state(array_file()), "not a zip file"),
    "no array": (zipped(b"hello", name=WEIGHT), "another form"),
    "no array's content": (zipped(b"hello"), ""),
    "the same name twice": (zipped(head((4,)) + bytes(16), times=2), "an array twice"),
    "complex": (with_array(WEIGHT, lambda held: held.astype(complex)), "is complex128"),
    "text": (with_array(WEIGHT, lambda held: held.astype("U5")), "is <U5"),
    "double": (with_array(WEIGHT, lambda held: held.astype("f8")), "is float64"),
    "a counter with a fraction": (with_array(
        "generator/learner/minibatches", lambda _: np.array(1.5)), "is float64"),
    "keys that are no whole numbers": (with_array(KEYS, lambda held: held * -1.5), "is float64"),
    "another iteration": (manifest(iteration=3), "of iteration 3, and its log of 4"),
    "an iteration below 0": (manifest(iteration=-4), "of iteration -4"),
    "a log that lacks rows": (shorter_log, "its log of 2"),
    "no place among the latents": (manifest(latents={}), "it has no 'place'"),
    "a place behind the end": (within("latents", place=10 ** 6), "place in the stream"),
    "a place before the beginning": (within("latents", place=-3), "place in the stream"),
    "no number among the latents": (within("latents", gauss=None), "gauss is no float"),
    "a change that is none": (manifest(changes=[5]), "not a whole checkpoint"),
    "a change without a place": (manifest(changes=[{"what": "data"}]), "it has no 'from'"),
    "of no run": (manifest(identity={}), "it has no 'program'"),
    "of a run without a minibatch": (within("identity", minibatch_size=None), "is no int"),
    "lists in lists": (lambda path: (path / MANIFEST).write_text("[" * 200000), "too deep"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_checkpoint_is_refused_and_the_one_before_taken(run, edit):
    change, expected = EDITS[edit]
    newest = found(run)[0]
    change(newest)
    with pytest.raises(TrainingError) as caught:
        read_checkpoint(newest)
    said = str(caught.value)
    assert str(newest) in said and expected in said and "\n" not in said
    heard = []
    assert read_newest(run, heard.append).iteration == 2 and len(heard) == 1


def test_sealed_as_it_is_it_is_read(run):
    seal(found(run)[0])
    assert read_checkpoint(found(run)[0]).iteration == 4


def test_what_a_kill_left_goes_and_what_was_moved_aside_comes_back(map_file, run):  # noqa: F811
    newest = found(run)[0]
    newest.rename(newest.with_name(newest.name + ".old.part"))
    half = run / "checkpoints" / "iteration0000003.part"
    half.mkdir()
    left = [run / "samples" / "iteration0000004.7.part.png", run / "dcgan.7.part.csv"]
    mine = run / "my.part.png"
    for path in (half / STATE, *left, mine):
        path.write_bytes(b"half")
    toy.run(map_file, run, 4, resume=True)
    assert found(run)[0] == newest and read_checkpoint(newest).iteration == 4
    assert mine.exists() and not half.exists() and not any(path.exists() for path in left)


def test_the_newest_is_the_newest_beyond_seven_digits(tmp_path):
    for number in (9_999_999, 10_000_000):
        (tmp_path / "checkpoints" / f"iteration{number:07d}").mkdir(parents=True)
    (tmp_path / "checkpoints" / "iteration99999999").write_text("no checkpoint")
    assert [path.name for path in found(tmp_path)] == ["iteration10000000", "iteration9999999"]
