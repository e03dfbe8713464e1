"""Captures on disk: whole or not there, and one line for everything that is wrong with one."""
import errno
import json
import os

import numpy as np
import pytest

from captures import files
from captures.errors import CaptureError
from captures.format import Capture, CaptureWriter, checksum, require_same_plan
from captures.plan import Plan
from tests.captures.image_kinds import bmp

NAME = "forward/training/generator/conv3/output"


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "0.bmp").write_bytes(bmp())
    (tmp_path / "map.txt").write_text(".../0.bmp\t0\n")
    return Plan.make(tmp_path / "map.txt")


@pytest.fixture
def writer(tmp_path, plan):
    return CaptureWriter(str(tmp_path / "capture"), "port", plan, {"torch": "2.13.0"}, 1)


@pytest.fixture
def folder(writer):
    """A whole capture."""
    with writer:
        writer.add(NAME, np.arange(6, dtype=np.float32).reshape(2, 3))
        writer.add("forward/training/generator/bn3/sample_count", 12)
        writer.fact("ledger", [["d_step", "generator/bn3/sample_count", 4]])
    return writer.folder


def refusal(function, *arguments):
    with pytest.raises(CaptureError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def file_of(folder, name=NAME):
    return os.path.join(folder, Capture(folder).entries[name].file)


def edit(folder, change):
    path = os.path.join(folder, "manifest.json")
    with open(path) as file:
        manifest = json.load(file)
    change(manifest)
    with open(path, "w") as file:
        json.dump(manifest, file)


def test_round_trip(folder, plan):
    capture = Capture(folder)
    assert list(capture) == [NAME, "forward/training/generator/bn3/sample_count"]
    assert len(capture) == 2 and NAME in capture and "forward" not in capture
    assert capture[NAME].dtype == np.float32
    assert np.array_equal(capture[NAME], [[0, 1, 2], [3, 4, 5]])
    assert capture["forward/training/generator/bn3/sample_count"].shape == ()
    assert capture.shape(NAME) == (2, 3)
    assert capture.facts == {"ledger": [["d_step", "generator/bn3/sample_count", 4]],
                             "job": "layers"}
    assert capture.spec == plan.spec
    assert capture.producer == "port" and capture.plan_hash == plan.hash
    assert capture.names("forward/training/generator") == ["conv3/output", "bn3/sample_count"]
    assert capture.names("forward/train") == []  # a prefix ends at a slash


def test_an_array_may_lie_in_memory_in_any_order(writer):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    with writer:
        writer.add("a/b/c/d", values.transpose(2, 0, 1)[::-1])
        writer.add("a/b/c/e", np.ascontiguousarray(values.transpose(2, 0, 1)[::-1]))
    capture = Capture(writer.folder)
    for name in ("a/b/c/d", "a/b/c/e"):
        assert np.array_equal(capture[name], values.transpose(2, 0, 1)[::-1])


def test_an_exception_leaves_nothing(writer):
    with pytest.raises(KeyboardInterrupt), writer:
        writer.add(NAME, np.zeros(3))
        raise KeyboardInterrupt
    assert not os.path.exists(writer.folder)


def test_what_was_there_stays_until_the_new_one_is_whole(folder, plan):
    with CaptureWriter(folder, "cntk", plan, {}, 1):
        assert Capture(folder)[NAME].size == 6
    assert list(Capture(folder)) == [] and os.listdir(os.path.join(folder, "arrays")) == []
    with pytest.raises(KeyboardInterrupt), CaptureWriter(folder, "port", plan, {}, 1) as writer:
        writer.add(NAME, np.zeros(3))
        raise KeyboardInterrupt
    assert list(Capture(folder)) == [] and Capture(folder).producer == "cntk"
    assert os.listdir(os.path.dirname(folder)).count("capture.part") == 0


def test_killed_on_the_way(folder, plan):
    """A process that is killed runs no clean-up: the next one does."""
    writer = CaptureWriter(folder, "port", plan, {}, 1)
    writer.__enter__()
    writer.add(NAME, np.zeros(3))
    assert writer.folder != folder and Capture(folder)[NAME].size == 6
    assert f"no whole capture in {writer.folder}" in refusal(Capture, writer.folder)


def test_killed_between_the_two_renames(folder, plan):
    os.rename(folder, folder + ".old.part")
    with pytest.raises(KeyboardInterrupt), CaptureWriter(folder, "port", plan, {}, 1):
        raise KeyboardInterrupt
    assert Capture(folder)[NAME].size == 6


def test_no_folder(tmp_path):
    assert f"no whole capture in {tmp_path / 'none'}" in refusal(Capture, tmp_path / "none")


def test_a_name_is_given_once(writer):
    with writer:
        writer.add(NAME, np.zeros(3))
        assert refusal(writer.add, NAME, np.zeros(3)) == f"{NAME} is captured twice"


@pytest.mark.parametrize("array", [
    np.array([None, 1]), np.array(["a"]), np.array([1j]), np.array(["2020-01-01"], "M8[D]")])
def test_only_numbers(writer, array):
    """An array of objects would be pickled."""
    with writer:
        assert "not of numbers" in refusal(writer.add, NAME, array)


def test_a_pickle_is_not_opened(folder):
    np.save(file_of(folder), np.array([print, None]), allow_pickle=True)
    assert f"{NAME} of the capture {folder} cannot be read" in refusal(Capture(folder).get, NAME)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan(writer, bad):
    array = np.float32([[0, 1], [bad, np.nan]])
    with writer:
        writer.add(NAME, array)
    message = refusal(Capture(writer.folder).get, NAME)
    assert NAME in message and "NaN or infinity (first at flat index 2)" in message
    assert np.array_equal(Capture(writer.folder).as_it_is(NAME), array, equal_nan=True)


def test_checksums(writer):
    with writer:
        writer.add(NAME, np.float32([1, 2]))
    made = Capture(writer.folder)
    assert made.checksum(NAME) == f"{checksum(np.float32([1, 2])):08x}"
    assert made.checksum("no/such/array") == ""


@pytest.mark.parametrize("other", [
    np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float64), np.zeros((2, 3), np.int32),
    np.zeros(6, np.float32)])
def test_a_file_of_another_shape_or_dtype(folder, other):
    np.save(file_of(folder), other)
    message = refusal(Capture(folder).get, NAME)
    assert NAME in message and "its manifest says float32 (2, 3)" in message


@pytest.mark.parametrize("length", [0, 3, 20, 128, -1])
def test_a_file_cut_short(folder, length):
    with open(file_of(folder), "rb") as file:
        whole = file.read()
    with open(file_of(folder), "wb") as file:
        file.write(whole[:length])
    assert f"{NAME} of the capture {folder} cannot be read" in refusal(Capture(folder).get, NAME)


def test_a_file_that_is_gone(folder):
    os.unlink(file_of(folder))
    assert f"{NAME} of the capture {folder} cannot be read" in refusal(Capture(folder).get, NAME)


def test_an_array_that_is_not_in_the_manifest(folder):
    capture = Capture(folder)
    for look in (capture.__getitem__, capture.shape):
        assert f"{folder} has no forward/none" in refusal(look, "forward/none")


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", "{\"arrays\": {}}", "\xff"])
def test_a_file_that_is_no_manifest(folder, text):
    with open(os.path.join(folder, "manifest.json"), "wb") as file:
        file.write(text.encode("latin-1"))
    assert "is not a capture's manifest" in refusal(Capture, folder)


def test_another_format(folder):
    edit(folder, lambda manifest: manifest.update(format=1))
    assert "is of format 1, this program reads 2: make it again" in refusal(Capture, folder)


def test_captures_of_one_plan(tmp_path, folder, plan):
    def of(other, name):
        with CaptureWriter(str(tmp_path / name), "port", other, {}, 1) as writer:
            pass
        return Capture(writer.folder)

    require_same_plan(Capture(folder), of(plan, "same"))
    message = refusal(require_same_plan, Capture(folder), of(plan, "again"),
                      of(plan.with_values(seed=3, minibatch_size=2), "other"))
    assert "seed 0 and 3, minibatch_size 4 and 2" in message and folder in message


def test_a_full_disk_on_the_way(writer, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"), writer:
        writer.add(NAME, np.zeros(3))
        monkeypatch.setattr(files.np, "save", full)
        writer.add("forward/training/generator/bn3/output", np.zeros(3))
    assert not os.path.exists(writer.folder)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
@pytest.mark.parametrize("values", [1, 1_000_000])  # one fits into the file's buffer
def test_a_device_that_is_really_full(writer, values):
    with pytest.raises(OSError, match="No space left"), writer:
        os.symlink("/dev/full", os.path.join(writer.folder, "arrays",
                                             f"000000.{os.getpid()}.part.npy"))
        writer.add(NAME, np.zeros(values))
    assert not os.path.exists(writer.folder)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_full_when_the_manifest_is_written(writer):
    """The last write of all: still nothing that looks like a capture."""
    with pytest.raises(OSError, match="No space left"), writer:
        writer.add(NAME, np.zeros(3))
        os.symlink("/dev/full", os.path.join(writer.folder, f"manifest.{os.getpid()}.part.json"))
    assert not os.path.exists(writer.folder)
    assert "no whole capture" in refusal(Capture, writer.folder)
