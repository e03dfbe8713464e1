"""The executable-stack mark, on a small library made for it and in CNTK's environment."""
import os
import subprocess
import sys

import pytest

from environment.executable_stack import clear, clear_folder, is_marked
from tests.conftest import cntk_environment_or_fail


def library(path, mark):
    path.with_suffix(".c").write_text("int answer(void) { return 42; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, path.with_suffix(".c"), "-Wl,-z," + mark],
                   check=True)
    return str(path)


@pytest.fixture
def marked(tmp_path):
    return library(tmp_path / "marked.so", "execstack")


def test_only_the_mark_is_taken(marked):
    with open(marked, "rb") as file:
        before = file.read()
    assert is_marked(marked)
    assert clear(marked)
    assert not is_marked(marked)
    with open(marked, "rb") as file:
        after = file.read()
    differing = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert differing == [(7, 6)]  # read, write, execute -> read, write
    assert os.access(marked, os.X_OK)


def test_the_library_still_works(marked):
    clear(marked)
    done = subprocess.run(
        [sys.executable, "-c", "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).answer())",
         marked], capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"


def test_an_unmarked_library_is_not_written(tmp_path):
    path = library(tmp_path / "plain.so", "noexecstack")
    before = os.stat(path)
    assert not is_marked(path)
    assert not clear(path)
    assert os.stat(path) == before


def test_a_hard_link_keeps_its_content(marked, tmp_path):
    os.link(marked, tmp_path / "in_a_cache")
    clear(marked)
    assert is_marked(tmp_path / "in_a_cache")


def test_a_folder_with_other_files(marked, tmp_path):
    (tmp_path / "note.so.txt").write_text("no library")
    (tmp_path / "empty.so").write_bytes(b"")
    (tmp_path / "link.so").symlink_to(marked)
    assert clear_folder(str(tmp_path)) == ["marked.so"]
    assert clear_folder(str(tmp_path)) == []


def test_no_library_of_cntks_environment_has_the_mark():
    libraries = sorted(cntk_environment_or_fail().parent.parent.glob(
        "lib/python3.6/site-packages/cntk/libs/*.so*"))
    assert any("opencv_core" in path.name for path in libraries)
    assert [path.name for path in libraries if is_marked(path)] == [], "run `make setup`"
