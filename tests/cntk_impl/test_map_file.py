"""A map file is checked whole before CNTK's reader sees it. Runs in any Python."""
import os

import cv2
import numpy as np
import pytest

from cntk_impl.map_file import BadInput, checked_map_file


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.bmp"), np.full((4, 6, 3), 50 * i, np.uint8))
    return tmp_path


def checked(folder, text):
    path = folder / "map.txt"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return checked_map_file(str(path))


def refusal(folder, text):
    with pytest.raises(BadInput) as caught:
        checked(folder, text)
    message = str(caught.value)
    assert "\n" not in message and str(folder / "map.txt") in message and len(message) < 1000
    return message


def test_good_ones(folder):
    cv2.imwrite(str(folder / "a.ppm"), np.zeros((2, 2, 3), np.uint8))
    os.rename(folder / "2.bmp", os.fsencode(folder) + b"/\xe9.bmp")
    for text in (".../0.bmp\t0\n", f"{folder}/0.bmp\t0", "7\t.../1.bmp\t0\n.../a.ppm\t0\n",
                 ".../\udce9.bmp\t0\n", ".../0.bmp\t0\r\n.../1.bmp\t0\r\n"):
        assert checked(folder, text) == str(folder / "map.txt")


def test_the_path_comes_back_absolute(folder, monkeypatch):
    """CNTK expands ``...`` only in a map file that is given with its folder."""
    checked(folder, ".../0.bmp\t0\n")
    monkeypatch.chdir(folder)
    assert checked_map_file("map.txt") == str(folder / "map.txt")


@pytest.mark.parametrize("text, expected", [
    ("", "is empty"),
    (".../0.bmp\t0\n\n.../1.bmp\t0\n", "line 2: '' is not of the form"),
    (".../0.bmp 0\n", "line 1: '.../0.bmp 0' is not of the form"),
    ("\t0\n", "line 1: '\\t0' is not of the form"),
    ("BM\0\t0" + 500 * "\xff", "line 1: 'BM\\x00\\t0"),
    (".../0.bmp\t0\n.../none.bmp\t0\n", "none.bmp cannot be read (No such file"),
    (".../0.bmp\t0\n.../\t0\n", "cannot be read (Is a directory)"),
])
def test_bad_lines(folder, text, expected):
    assert expected in refusal(folder, text)


def test_no_map_file(folder):
    with pytest.raises(BadInput, match=r"none\.txt cannot be read .*make data"):
        checked_map_file(str(folder / "none.txt"))


@pytest.mark.parametrize("content, expected", [
    (b"", "is not a BMP or PPM image"),
    (b"a face\n", "is not a BMP or PPM image"),
    (b"\x89PNG\r\n\x1a\n", "convert it to BMP"),
    (b"BM\x01", "is cut short (3 bytes of 26)"),
    ("without its end", "is cut short (133 bytes of 134)"),  # 54 + 4 rows of 6 * 3 + 2
])
def test_bad_images(folder, content, expected):
    path = folder / "1.bmp"
    path.write_bytes(path.read_bytes()[:-1] if isinstance(content, str) else content)
    message = refusal(folder, ".../0.bmp\t0\n.../1.bmp\t0\n")
    assert f"line 2: {path} " in message and expected in message
