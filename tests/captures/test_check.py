"""The check of the data: what it decides, what it remembers, what it says of slow ones."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import zipfile

import pytest

from captures import check
from captures.check import check_data
from captures.errors import DataError
from tests.captures.image_kinds import bmp, pnm
from tests.conftest import cntk_environment_or_fail


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Six images and their map file; young files may be remembered."""
    monkeypatch.setattr(check, "SETTLED", -1)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.ppm").write_bytes(pnm(6, data=bytes([number]) * 90))
    (folder / "map.txt").write_text("".join(f".../{number}.ppm\t0\n" for number in range(6)))
    return folder


@pytest.fixture
def looked_at(monkeypatch):
    """The names of the files that were read, in any order; emptied by each call."""
    seen, really = [], check._examined

    def noted(entry):
        seen.append(entry.path.name)
        return really(entry)

    def taken():
        names = sorted(seen)
        seen.clear()
        return names

    monkeypatch.setattr(check, "_examined", noted)
    return taken


def test_the_hashes(images, tmp_path):
    data = check_data(images / "map.txt", memory=tmp_path / "memory")
    contents = [(images / f"{number}.ppm").read_bytes() for number in range(6)]
    assert data.hashes == [hashlib.sha256(content).hexdigest() for content in contents]
    assert data.sha256 == hashlib.sha256(b"".join(
        hashlib.sha256(content).digest() for content in contents)).hexdigest()
    assert data.map_file == images / "map.txt" and len(data.entries) == 6


def test_what_was_good_is_not_read_again(images, tmp_path, looked_at):
    first = check_data(images / "map.txt", memory=tmp_path / "memory")
    assert looked_at() == [f"{number}.ppm" for number in range(6)]
    assert check_data(images / "map.txt", memory=tmp_path / "memory") == first
    assert looked_at() == []
    (images / "few.txt").write_text(".../2.ppm\t0\n.../2.ppm\t0\n")  # another map file, same images
    few = check_data(images / "few.txt", memory=tmp_path / "memory")
    assert looked_at() == [] and few.hashes == first.hashes[2:3] * 2
    assert check_data(images / "few.txt", memory=None).hashes == first.hashes[2:3] * 2
    assert looked_at() == ["2.ppm"]


def replaced_in_place(path):
    path.write_bytes(pnm(6, data=b"9" * 90))


def replaced_with_its_old_times(path):
    """As ``cp -p`` and ``rsync -t`` do: the size and the time of the content are the old ones."""
    before = path.stat()
    path.write_bytes(pnm(6, data=b"9" * 90))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_over(path):
    other = path.with_name("other")
    shutil.copy2(path, other)
    replaced_with_its_old_times(other)
    other.rename(path)


@pytest.mark.parametrize("change", [replaced_in_place, replaced_with_its_old_times, renamed_over])
def test_a_changed_image_is_read_again(images, tmp_path, looked_at, change):
    before = check_data(images / "map.txt", memory=tmp_path / "memory")
    looked_at()
    time.sleep(0.02)  # the file system's clock ticks
    change(images / "3.ppm")
    after = check_data(images / "map.txt", memory=tmp_path / "memory")
    assert looked_at() == ["3.ppm"] and after.sha256 != before.sha256
    assert [a == b for a, b in zip(after.hashes, before.hashes, strict=True)] == [
        True, True, True, False, True, True]


def test_a_young_file_is_not_remembered(images, tmp_path, looked_at, monkeypatch):
    """Its times might not move with its next change."""
    monkeypatch.setattr(check, "SETTLED", 3600.0)
    for _ in range(2):
        check_data(images / "map.txt", memory=tmp_path / "memory")
        assert len(looked_at()) == 6


def test_bad_ones_are_counted_and_not_remembered(images, tmp_path, looked_at):
    for number in (2, 4):
        (images / f"{number}.ppm").write_bytes(bmp()[:-5])
    for again in (False, True):
        with pytest.raises(DataError) as error:
            check_data(images / "map.txt", memory=tmp_path / "memory")
        assert str(error.value) == (
            f"{images}/map.txt, line 3: {images}/2.ppm is cut short (149 bytes of 154): replace "
            "the file or delete the line (1 more cannot be used either)")
        assert len(looked_at()) == (2 if again else 6)


@pytest.mark.parametrize("text", [
    "", "{", "[]", '{"rules": 0}', "\x00", '{"rules": 1, "folder": 3}',
    '{"rules": 1, "folder": "/", "images": {"0.ppm": 3}}'])
def test_a_spoiled_memory_is_no_memory(images, tmp_path, looked_at, text):
    memory = tmp_path / "memory"
    whole = check_data(images / "map.txt", memory=memory)
    (kept,) = memory.iterdir()
    kept.write_text(text)
    looked_at()
    assert check_data(images / "map.txt", memory=memory) == whole and len(looked_at()) == 6
    assert check_data(images / "map.txt", memory=memory) == whole and looked_at() == []


def test_a_memory_that_cannot_be_written_is_done_without(images, tmp_path):
    (tmp_path / "file").write_text("")
    assert len(check_data(images / "map.txt", memory=tmp_path / "file" / "memory").entries) == 6


def test_folders_that_are_gone_are_forgotten(images, tmp_path):
    memory = tmp_path / "memory"
    moved = images.rename(tmp_path / "moved")
    check_data(moved / "map.txt", memory=memory)
    (old,) = memory.iterdir()
    moved.rename(images)
    check_data(images / "map.txt", memory=memory)
    (new,) = memory.iterdir()
    assert new != old and json.loads(new.read_text())["folder"] == str(images)


def test_images_in_a_zip_file(images, tmp_path):
    with zipfile.ZipFile(images / "all.zip", "w") as archive:
        archive.write(images / "1.ppm", "d/1.ppm")
        archive.writestr("bad.ppm", b"P6\n")
    (images / "zip.txt").write_text(".../1.ppm\t0\n.../all.zip@/d/1.ppm\t0\n")
    data = check_data(images / "zip.txt", memory=tmp_path / "memory")
    assert data.hashes[0] == data.hashes[1]
    (images / "zip.txt").write_text(".../all.zip@/bad.ppm\t0\n")
    with pytest.raises(DataError, match=r"line 1: .*/all\.zip@/bad\.ppm is a PNM image in which"):
        check_data(images / "zip.txt", memory=None)
    content = (images / "all.zip").read_bytes()
    (images / "all.zip").write_bytes(content.replace(b"P6\n6\n5", b"P6\n6\n6", 1))  # another CRC
    (images / "zip.txt").write_text(".../all.zip@/d/1.ppm\t0\n")
    with pytest.raises(DataError, match=r"cannot be read \(Bad CRC-32"):
        check_data(images / "zip.txt", memory=None)


def test_a_slow_check_is_told(images, tmp_path, capfd, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(check.time, "time", lambda: float(next(clock)))
    list(check._told(iter("abcdef"), 6))
    assert capfd.readouterr().err == ("checked 3 of 6 images, 3 s left\n"
                                      "checked 6 of 6 images, 0 s left\n")


SHOW = "import sys; from captures.check import check_data; print(check_data(sys.argv[1]).sha256)"


@pytest.mark.parametrize("remembered", [False, True])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_python36_decides_the_same(images, tmp_path, locale, remembered):
    """And takes what this Python remembers: here, hashes that are not the images'."""
    odd = bytes(images) + "/é".encode()
    shutil.copytree(images, os.fsdecode(odd))
    memory = tmp_path / "memory"
    whole = check_data(os.fsdecode(odd) + "/map.txt", memory=memory)
    python36 = SHOW.replace("sys.argv[1]", f"sys.argv[1], memory=Path({str(memory)!r})").replace(
        "import sys;", "import sys; from pathlib import Path;")
    (kept,) = memory.iterdir()
    if remembered:
        kept.write_text(re.sub(r"[0-9a-f]{64}", "0" * 64, kept.read_text()))
        wanted = hashlib.sha256(bytes(6 * 32)).hexdigest()
    else:
        kept.unlink()
        wanted = whole.sha256
    done = subprocess.run(
        [cntk_environment_or_fail(), "-c", python36, odd + b"/map.txt"], capture_output=True,
        text=True, check=True, env={"LC_ALL": locale})
    assert done.stdout.strip() == wanted
