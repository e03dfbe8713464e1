"""The rules for image files against both real decoders, on hundreds of files of every kind."""
import cv2
import numpy as np
import pytest

from captures.check import check_data
from captures.errors import DataError
from captures.image_file import LARGEST_AREA, LARGEST_SIDE, refusal
from tests.captures.image_kinds import bmp, kinds, pnm

# Read alike by both, and refused by a rule of ours.
OURS = ("has an alpha channel", "and BMP and PNM are read here")
# OpenCV 3.1 writes outside the image: whether CNTK survives that is chance.
CHANCE = "a run beyond the edge"


def decoded_here(content):
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for number, content in enumerate(kinds().values()):
        (folder / f"{number}.image").write_bytes(content)
    (folder / "list.txt").write_text("".join(
        f"{folder}/{number}.image\n" for number in range(len(kinds()))))
    return folder


@pytest.fixture(scope="module")
def decoded_by_cntk(cntk, folder):
    return cntk.run("images.py", str(folder / "list.txt"))


def alike(content, number, decoded_by_cntk):
    """Whether CNTK and OpenCV 5 read a file, and the same pixels."""
    theirs, ours = decoded_by_cntk.get(str(number)), decoded_here(content)
    return theirs is not None and ours is not None and np.array_equal(theirs, ours)


@pytest.mark.parametrize("name", kinds())
def test_accepted_if_and_only_if_both_read_the_same(decoded_by_cntk, name):
    content = kinds()[name]
    reason = refusal(content)
    same = alike(content, list(kinds()).index(name), decoded_by_cntk)
    if reason is None:
        assert same
    else:
        assert not same or any(told in reason for told in (*OURS, CHANCE)), reason


def test_the_kinds_are_of_both_sorts(decoded_by_cntk):
    """The check above would fail for a rule that accepts, or refuses, everything."""
    good = [name for number, (name, content) in enumerate(kinds().items())
            if alike(content, number, decoded_by_cntk)]
    assert len(good) > 150 and len(kinds()) - len(good) > 200
    unlike = [name for number, (name, content) in enumerate(kinds().items())
              if str(number) in decoded_by_cntk and decoded_here(content) is not None
              and name not in good]
    assert len(unlike) > 8 and all("masks" in name for name in unlike)


def test_three_hundred_malformed_images_have_a_message_each(folder):
    """Exit by DataError alone, the user's file and line, a mend; and nothing is written."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    messages = []
    for number, content in enumerate(kinds().values()):
        map_file = folder / "one.txt"
        map_file.write_text(f"\n.../{number}.image\t0\n".lstrip("\n"))
        if refusal(content) is None:
            assert check_data(map_file, memory=None).sha256
            continue
        with pytest.raises(DataError) as error:
            check_data(map_file, memory=None)
        message = str(error.value)
        assert message.startswith(f"{map_file}, line 1: {folder}/{number}.image ")
        assert any(mend in message for mend in ("replace the file", "bin/parity photos",
                                                "delete the line"))
        assert "\n" not in message and len(message) < 600
        messages.append(message)
    map_file.unlink()
    assert len(messages) >= 300
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("content, told", [
    (bmp(fields=(2 ** 31 - 1, 5)), "has 2147483647 x 5 pixels, more than is decoded"),
    (bmp(fields=(6, -2 ** 31)), "has 6 x 2147483648 pixels"),
    (bmp(fields=(65536, 65536)), "has 65536 x 65536 pixels"),
    (pnm(6, told=(70000, 70000)), "has 70000 x 70000 pixels"),
])
def test_sizes_that_no_decoder_should_try(content, told):
    """CNTK asks for the memory, and dies or takes all there is: it is not asked here."""
    assert told in refusal(content)
    assert LARGEST_SIDE ** 2 > LARGEST_AREA


def test_what_a_message_says():
    assert refusal(bmp()) is None
    assert refusal(bmp()[:-1]) == (
        "is cut short (153 bytes of 154): replace the file or delete the line")
    assert refusal(kinds()["JPG"]) == (
        "is a JPEG image, and BMP and PNM are read here: convert it: `bin/parity photos FOLDER` "
        "writes what both read")
    assert "masks 000000ff, 0000ff00, 00ff0000, which CNTK ignores" in refusal(
        kinds()["32 bits, masks red first, header 124"])
