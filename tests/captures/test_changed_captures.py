"""A capture whose manifest or files were changed: one message each, and nothing is read outside."""
import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest

from captures.errors import CaptureError, DamageError
from captures.files import LARGEST_JSON
from captures.format import Capture, CaptureWriter
from captures.plan import Plan, hash_of
from tests.captures.image_kinds import bmp

NAME = "forward/training/a/b/output"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    (folder / "0.bmp").write_bytes(bmp())
    (folder / "map.txt").write_text(".../0.bmp\t0\n")
    with CaptureWriter(folder / "c", "port", Plan.make(folder / "map.txt"), {}, 1) as writer:
        writer.add(NAME, np.arange(6, dtype=np.float32))
        path = folder / "x.onnx"
        path.write_bytes(b"graph")
        writer.attach(path)
    return folder / "c"


def read_all(folder):
    capture = Capture(folder)
    return [capture[name] for name in capture], [capture.attachment(n) for n in capture.attached]


@pytest.mark.parametrize("seed", range(50))
def test_one_message(whole, tmp_path, seed):
    folder, random = tmp_path / "c", np.random.RandomState(seed)
    shutil.copytree(whole, folder)
    path = [folder / "manifest.json", folder / "arrays" / "000000.npy", folder / "x.onnx"][seed % 3]
    content = bytearray(path.read_bytes())
    at = random.randint(len(content))
    if seed % 2:
        del content[at:]
    else:
        content[at] ^= 0x80
    path.write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        read_all(folder)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "arrays/../x.onnx", "x.onnx"])
def test_a_path_cannot_climb_out(whole, tmp_path, file):
    folder = tmp_path / "c"
    shutil.copytree(whole, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["arrays"][NAME]["file"] = file
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CaptureError, match="no place inside"):
        Capture(folder)


def test_a_link_is_refused(whole, tmp_path):
    folder = tmp_path / "c"
    shutil.copytree(whole, folder)
    (folder / "x.onnx").unlink()
    (folder / "x.onnx").symlink_to(whole / "x.onnx")
    with pytest.raises(CaptureError, match="is a link"):
        read_all(folder)


def test_packed_and_judged_elsewhere(whole, tmp_path):
    """It refers to nothing outside itself: zipped, unpacked under another name, with the folder
    where it was made out of reach."""
    packed = shutil.make_archive(str(tmp_path / "sent"), "zip", whole.parent, whole.name)
    there = whole.parent.with_name("away")
    whole.parent.rename(there)
    try:
        shutil.unpack_archive(packed, tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / whole.name).rename(tmp_path / "elsewhere" / "received")
        arrays, files = read_all(tmp_path / "elsewhere" / "received")
    finally:
        there.rename(whole.parent)
    assert np.array_equal(arrays[0], np.arange(6))
    assert [file.read_bytes() for file in files] == [b"graph"]
    assert files[0].parent == tmp_path / "elsewhere" / "received"


def test_packed_and_cut_short(whole, tmp_path):
    """What the archive lost is named when it is asked for."""
    folder = tmp_path / "c"
    shutil.copytree(whole, folder)
    (folder / "x.onnx").unlink()
    with pytest.raises(CaptureError, match=r"x\.onnx of the capture .* cannot be read"):
        read_all(folder)


def test_a_manifest_of_100_megabytes(whole, tmp_path):
    """Is refused by its size, before a byte of it is understood."""
    folder = tmp_path / "c"
    shutil.copytree(whole, folder)
    with (folder / "manifest.json").open("r+b") as file:
        file.truncate(100 * 10 ** 6)  # a hole: no disk is filled
    tracemalloc.start()
    try:
        with pytest.raises(CaptureError, match="larger than 32 MB"):
            Capture(folder)
        assert tracemalloc.get_traced_memory()[1] < 2 * LARGEST_JSON
    finally:
        tracemalloc.stop()


def test_the_largest_manifest_is_read(whole, tmp_path):
    folder = tmp_path / "c"
    shutil.copytree(whole, folder)
    with (folder / "manifest.json").open("ab") as file:
        file.write(b" " * (LARGEST_JSON - file.tell()))
    assert len(Capture(folder)) == 1


def edited(whole, folder, change):
    """A copy, whose manifest ``change`` was called with."""
    shutil.copytree(whole, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("shape", [[10 ** 12], [2 ** 39, 2 ** 39], [2 ** 16], [0]])
def test_a_shape_has_to_fit_its_file(whole, tmp_path, shape):
    """Before anything is made as large as it says."""
    folder = edited(whole, tmp_path / "c", lambda manifest: manifest["arrays"][NAME].update(
        shape=shape))
    with pytest.raises(DamageError, match="cannot be read"):
        Capture(folder)[NAME]
    with pytest.raises(DamageError, match="cut off, or more than its manifest says"):
        Capture(folder).require_whole()


def lost(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path):
    path.write_bytes(b"")


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def changed(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def a_pipe(path):
    """Which whoever opens it waits for."""
    path.unlink()
    os.mkfifo(path)


HARM = [lost, cut, emptied, a_folder, a_link, a_pipe, changed]


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("file", ["arrays/000000.npy", "x.onnx"])
def test_damage_is_of_its_own_kind_and_stays_known(whole, tmp_path, file, harm):
    folder = tmp_path / "c"
    shutil.copytree(whole, folder)
    harm(folder / file)
    capture = Capture(folder)
    with pytest.raises(DamageError, match="make the capture again") as caught:
        read_all_of(capture)
    assert capture.damage is caught.value
    if harm is changed and file != "x.onnx":
        Capture(folder).require_whole()  # what an array holds is compared when it is read
    else:
        with pytest.raises(DamageError):
            Capture(folder).require_whole()


def read_all_of(capture):
    return [capture[name] for name in capture], [capture.attachment(n) for n in capture.attached]


@pytest.mark.parametrize("harm", [a_folder, a_link, a_pipe, emptied])
def test_a_manifest_that_is_none(whole, tmp_path, harm):
    folder = tmp_path / "c"
    shutil.copytree(whole, folder)
    harm(folder / "manifest.json")
    with pytest.raises(CaptureError, match="is not a capture's manifest"):
        Capture(folder)


def test_what_is_no_damage(whole):
    capture = Capture(whole)
    capture.require_whole()
    for ask in (capture.as_it_is, capture.attachment):
        with pytest.raises(CaptureError) as caught:
            ask("state/not/there")
        assert not isinstance(caught.value, DamageError)
    assert capture.damage is None


@pytest.mark.parametrize("entry", ["a text", 7, None, [], {}, {"size": 1},
                                   {"file": "x", "shape": [], "dtype": "f", "crc32": 0, "more": 1}])
@pytest.mark.parametrize(("kind", "name"), [("arrays", NAME), ("attached", "x.onnx")])
def test_an_entry_of_another_form(whole, tmp_path, kind, name, entry):
    folder = edited(whole, tmp_path / "c", lambda manifest: manifest[kind].update({name: entry}))
    with pytest.raises(CaptureError, match=f"'{name}' is not described by (file, shape|size, sha)"):
        Capture(folder)


def test_a_plan_hash_that_is_not_the_plans(whole, tmp_path):
    folder = edited(whole, tmp_path / "c", lambda manifest: manifest.update(plan_hash="0" * 64))
    with pytest.raises(CaptureError, match="its plan_hash is not its plan's"):
        Capture(folder)


MACHINE = {"flags": 7, "packages": [], "variables": {"a": 7}, "model": {}}


@pytest.mark.parametrize("change", [
    *({"machine": {name: value}} for name, value in MACHINE.items()), {"versions": {"torch": 2}},
    {"producer": "\ud800"}, {"threads": 10 ** 400}])
def test_what_is_said_of_a_machine_has_a_form(whole, tmp_path, change):
    folder = edited(whole, tmp_path / "c", lambda manifest: manifest.update(change))
    with pytest.raises(CaptureError, match="is not a capture's manifest"):
        Capture(folder)


@pytest.mark.parametrize("value", [[], "a\nb", "x" * 101, 1.5, None])
@pytest.mark.parametrize("name", ["threads", "network", "more"])
def test_a_plan_is_of_numbers_and_short_texts(whole, tmp_path, name, value):
    def change(manifest):
        manifest["plan"][name] = value
        manifest["plan_hash"] = hash_of(manifest["plan"])

    with pytest.raises(CaptureError, match=f"the plan's {name} is of another form"):
        Capture(edited(whole, tmp_path / "c", change))


@pytest.mark.parametrize("dtype", ["f4,f4", "(1f4", "2f4", ">f4", "object", "float32\n"])
def test_a_type_is_of_numbers(whole, tmp_path, dtype):
    folder = edited(whole, tmp_path / "c", lambda manifest: manifest["arrays"][NAME].update(
        dtype=dtype))
    with pytest.raises(CaptureError, match="is described in another way"):
        Capture(folder)
