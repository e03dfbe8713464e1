"""Photos of every kind, good and broken, become a data set that the check accepts."""
import csv
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from captures.check import check_data
from captures.errors import DataError, ParityError
from captures.output import alone
from datasets import finder, photos
from datasets.__main__ import main
from datasets.faces.portrait import face
from datasets.photos import FACES, MAP_FILE, RECORD, SHEET, SKIPPED, Settings, prepare
from datasets.pictures import SkippedError, decoded
from tests.conftest import ROOT, cntk_environment_or_fail

WIDTH, HEIGHT = 90, 70


def picture(seed=0, mode="RGB"):
    """Smooth, with a red corner at the upper left, so that a turn shows."""
    random = np.random.RandomState(seed)
    pixels = cv2.resize(random.randint(0, 256, (4, 5, 3)).astype(np.uint8), (WIDTH, HEIGHT))
    pixels[:20, :20] = (255, 0, 0)
    return Image.fromarray(pixels).convert(mode)


def encoded(image, kind, **more):
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(), "JPEG", exif=exif, quality=95)


def half(content):
    return content[:len(content) // 2]


def huge_png():
    """A header that promises 100,000 x 100,000 pixels."""
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    size = struct.pack(">IIBBBBB", 10**5, 10**5, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size)
            + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


def sixteen_bits():
    return (np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 10)


def transparent():
    image = picture(mode="RGBA")
    image.putalpha(Image.fromarray(np.where(np.arange(WIDTH) < 45, 0, 255).astype(np.uint8)[None]
                                   .repeat(HEIGHT, 0)))
    return image


# name: (content, None or why it is skipped)
KINDS = {
    "good.jpg": (encoded(picture(1), "JPEG"), None),
    "good.webp": (encoded(picture(2), "WEBP"), None),
    "good.tif": (encoded(picture(3), "TIFF"), None),
    "good.bmp": (encoded(picture(4), "BMP"), None),
    "good.avif": (encoded(picture(5), "AVIF"), None),
    "good.ppm": (encoded(picture(6), "PPM"), None),
    "phone.jpg": (encoded(picture(7), "MPO", save_all=True, append_images=[picture(8)]), None),
    "turned.jpg": (turned(6), None),
    "grey.jpg": (encoded(picture(9, "L"), "JPEG"), None),
    "cmyk.jpg": (encoded(picture(10, "CMYK"), "JPEG"), None),
    "bits16.png": (encoded(Image.fromarray(sixteen_bits()), "PNG"), None),
    "colour16.png": (cv2.imencode(".png", np.dstack([sixteen_bits()] * 3))[1].tobytes(), None),
    "black and white.png": (encoded(picture(11, "1"), "PNG"), None),
    "palette.gif": (encoded(picture(12, "P"), "GIF"), None),
    "alpha.png": (encoded(transparent(), "PNG"), None),
    "grey alpha.png": (encoded(picture(13, "LA"), "PNG"), None),
    "moving.gif": (encoded(picture(14), "GIF", save_all=True, append_images=[
        picture(seed) for seed in (15, 40, 41)]),
                   None),
    "moving.webp": (encoded(picture(16), "WEBP", save_all=True, append_images=[picture(17)]), None),
    "misnamed.jpg": (encoded(picture(18), "PNG"), None),
    "no ending": (encoded(picture(19), "JPEG"), None),
    "name with @ and \t tab.jpg": (encoded(picture(20), "JPEG"), None),
    "\udce9.jpg": (encoded(picture(21), "JPEG"), None),
    "broken exif.jpg": (encoded(picture(22), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff"), None),
    "float.tif": (encoded(Image.fromarray(np.ones((HEIGHT, WIDTH), np.float32)), "TIFF"),
                  "cannot be decoded"),
    "truncated.jpg": (half(encoded(picture(23), "JPEG")), "cannot be decoded"),
    "truncated.png": (half(encoded(picture(24), "PNG")), "cannot be decoded"),
    "truncated.gif": (half(encoded(picture(25), "GIF")), "cannot be decoded"),
    "header alone.jpg": (encoded(picture(26), "JPEG")[:30], None),
    "corrupt.png": (encoded(picture(27), "PNG")[:300] + bytes(3000), "cannot be decoded"),
    "noise.png": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), None),
    "tiny.png": (encoded(picture().resize((49, 60)), "PNG"), "is too small"),
    "huge.png": (huge_png(), "is too large"),
    "empty.jpg": (b"", "is empty"),
    "text.jpg": (b"not a picture\n", "is no picture"),
    "page.html": (b"<!DOCTYPE html>", "is no picture"),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 70\n", "is no picture"),
    "the same.jpg": (encoded(picture(1), "JPEG"), "is the same as another"),
}
ANY = ("header alone.jpg", "noise.png")  # skipped, by whatever the decoder says


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    (folder / "deep" / "er").mkdir(parents=True)
    for number, (name, (content, _)) in enumerate(KINDS.items()):
        (folder / ("deep/er" if number % 3 == 0 else "") / name).write_bytes(content)
    (folder / ".hidden.jpg").write_bytes(b"x")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "a folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    return folder


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "set"
    return prepare(Settings(folder, output, whole=True), workers=2, quiet=True), output


def skipped_of(output):
    with open(output / SKIPPED, newline="", encoding="utf-8") as file:
        return {Path(row["file"]).name: (row["why"], row["detail"]) for row in csv.DictReader(file)}


def test_every_kind(made):
    summary, output = made
    told = skipped_of(output)
    wanted = {name: why for name, (_, why) in KINDS.items() if why}
    assert {name: why for name, (why, _) in told.items() if name in wanted} == wanted
    assert set(told) == {*wanted, *ANY, "gone.jpg", "pipe.jpg"}
    assert summary.images == sum(why is None for _, why in KINDS.values()) - len(ANY)
    assert summary.photos == len(KINDS) + 2 and sum(summary.skipped.values()) == len(told)
    assert "truncated" in told["truncated.jpg"][1]
    assert told["the same.jpg"][1].endswith("good.jpg")


def test_the_result_is_a_data_set_that_cntk_and_the_port_read(made, cntk, tmp_path):
    _, output = made
    data = check_data(output / MAP_FILE, memory=None)
    assert all(len(line) < 60 for line in (output / MAP_FILE).read_text().splitlines())
    (tmp_path / "list.txt").write_text("".join(f"{entry.path}\n" for entry in data.entries))
    theirs = cntk.run("images.py", str(tmp_path / "list.txt"))
    for number, entry in enumerate(data.entries):
        assert np.array_equal(theirs[str(number)], cv2.imread(str(entry.path)))


def test_the_map_file_is_in_the_order_of_the_photos(made):
    _, output = made
    names = [line.split("/")[-1].split("\t")[0]
             for line in (output / MAP_FILE).read_text().splitlines()]
    record = [json.loads(line) for line in (output / RECORD).read_text().splitlines()[1:]]
    by_name = [image for one in sorted(record, key=lambda one: one["name"])
               for image in one["images"]]
    assert names == list(dict.fromkeys(by_name))
    assert sorted(names) == sorted(path.name for path in (output / FACES).iterdir())


def test_links_to_folders_are_told_and_not_followed(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(KINDS["good.jpg"][0])
    (folder / "loop").symlink_to(".")
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    assert prepare(Settings(folder, tmp_path / "set", whole=True), quiet=True).images == 1
    told = ("is no file", "a link to a folder: give that folder itself")
    assert skipped_of(tmp_path / "set") == {"linked": told, "loop": told}


def test_the_sheet_opens(made):
    sheet = cv2.imread(str(made[1] / SHEET))
    assert sheet.shape[1] == 1600 and sheet.std() > 10


# -------------------------------------------------------------------------------------- the pixels

def test_exif_turns():
    straight = decoded(turned(1))[0]
    assert straight.shape == (HEIGHT, WIDTH, 3)
    red = np.array([0, 0, 255])
    for orientation, corner in ((1, (5, 5)), (2, (5, -5)), (3, (-5, -5)), (4, (-5, 5)),
                                (5, (5, 5)), (6, (5, -5)), (7, (-5, -5)), (8, (-5, 5))):
        image = decoded(turned(orientation))[0]
        assert image.shape[:2] == ((WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH))
        assert np.abs(image[corner].astype(int) - red).max() < 40, orientation


def test_transparency_is_laid_on_white():
    image = decoded(KINDS["alpha.png"][0])[0]
    assert (image[:, :45] == 255).all() and np.array_equal(
        image[:, 45:], np.asarray(picture())[:, 45:, ::-1])


def test_sixteen_bits_lose_the_lower_eight():
    grey = (sixteen_bits() >> 8).astype(np.uint8)
    for name in ("bits16.png", "colour16.png"):
        assert np.array_equal(decoded(KINDS[name][0])[0], np.dstack([grey] * 3)), name


def test_the_first_of_a_moving_picture():
    image, note = decoded(KINDS["moving.gif"][0])
    assert note == "the first of 4 pictures"
    assert np.abs(image.astype(int) - np.asarray(picture(14))[..., ::-1]).mean() < 8


def test_ordinary_ones_are_what_opencv_reads():
    for name in ("good.jpg", "good.bmp", "good.tif", "grey.jpg", "palette.gif", "misnamed.jpg"):
        content = KINDS[name][0]
        theirs = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(decoded(content)[0], theirs), name


def test_mutilated_ones_are_skipped_or_decoded_and_nothing_else():
    random = np.random.RandomState(0)
    outcomes = set()
    for name in ("good.jpg", "good.webp", "good.tif", "good.bmp", "good.ppm", "bits16.png",
                 "moving.gif", "alpha.png"):
        for _ in range(25):
            content = bytearray(KINDS[name][0])
            for _ in range(random.randint(1, 8)):
                content[random.randint(min(len(content), 400))] = random.randint(256)
            try:
                image, _ = decoded(bytes(content[:random.randint(1, 2 * len(content))]))
                assert image.dtype == np.uint8 and image.ndim == 3
                outcomes.add("")
            except SkippedError as reason:
                outcomes.add(reason.why)
    assert {"", "cannot be decoded", "is no picture"} <= outcomes


# --------------------------------------------------------------------------------------- resuming

def files_of(output):
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*"))
            if path.is_file() and path.name not in (RECORD, ".lock")}


def test_a_run_that_was_stopped_goes_on(folder, made, tmp_path, monkeypatch):
    """Ctrl-C in the middle, a record torn in its last line: the result is the whole run's."""
    really, calls = photos._prepare_one, []

    def stopping(settings, searching, photo):
        calls.append(photo)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return really(settings, searching, photo)

    output = tmp_path / "set"
    settings = Settings(folder, output, whole=True)
    monkeypatch.setattr(photos, "_prepare_one", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings, workers=1, quiet=True)
    assert not (output / MAP_FILE).exists()
    with open(output / RECORD, "a") as file:
        file.write('{"name": "torn')
    monkeypatch.setattr(photos, "_prepare_one", really)
    summary = prepare(settings, workers=2, quiet=True)
    assert 5 < summary.went_on < 13 and files_of(output) == files_of(made[1])
    assert prepare(settings, quiet=True).went_on == summary.photos


def test_kill_9(folder, made, tmp_path):
    output = tmp_path / "set"
    command = [sys.executable, "-m", "datasets", "photos", str(folder), "--output", str(output),
               "--whole"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        limit = time.time() + 60
        while not list(output.glob(f"{FACES}/*")) and time.time() < limit:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (output / MAP_FILE).exists() and list((output / FACES).iterdir())
    prepare(Settings(folder, output, whole=True), quiet=True)
    assert files_of(output) == files_of(made[1])


def test_what_changed_since_is_prepared_again(folder, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("good.jpg", "good.webp", "text.jpg"):
        (mine / name).write_bytes(KINDS[name][0])
    settings = Settings(mine, tmp_path / "set", whole=True)
    assert prepare(settings, quiet=True).images == 2
    time.sleep(0.02)
    (mine / "text.jpg").write_bytes(encoded(picture(30), "PNG"))
    (mine / "good.webp").unlink()
    removed = next((tmp_path / "set" / FACES).iterdir())
    summary = prepare(settings, quiet=True)
    assert summary.images == 2 and summary.went_on == 1
    removed.unlink()
    assert prepare(settings, quiet=True).images == 2
    assert len(check_data(tmp_path / "set" / MAP_FILE, memory=None).entries) == 2


# ------------------------------------------------------------------------------------------ faces

@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Two drawn faces on one photo, one on another, none on a third."""
    folder = tmp_path_factory.mktemp("people")
    canvas = np.full((600, 1000, 3), 120, np.uint8)
    for number, x in ((0, 40), (1, 530)):
        portrait = cv2.resize(face(0, number), (400, 400))
        canvas[100:500, x:x + 400] = portrait
    cv2.imwrite(str(folder / "two.jpg"), canvas)
    cv2.imwrite(str(folder / "one.png"), canvas[:, :480])
    cv2.imwrite(str(folder / "none.png"), np.full((300, 300, 3), 90, np.uint8))
    return folder


def test_faces_are_cut_out_as_the_articles_opencv_finds_them(people, tmp_path):
    cntk_environment_or_fail()
    output = tmp_path / "set"
    summary = prepare(Settings(people, output, mirror=True), quiet=True)
    assert summary.images == 6 and summary.skipped == {"shows no face that was found": 1}
    names = [line.split("/")[-1].split("\t")[0] for line in
             (output / MAP_FILE).read_text().splitlines()]
    images = [cv2.imread(str(output / FACES / name)) for name in names]
    for straight, mirror in zip(images[::2], images[1::2], strict=True):
        assert np.array_equal(straight, mirror[:, ::-1])
        assert straight.shape[0] == straight.shape[1] >= 200
    whole = decoded((people / "two.jpg").read_bytes())[0]
    places = [cv2.minMaxLoc(cv2.matchTemplate(whole, image, cv2.TM_SQDIFF))[2]
              for image in images[2::2]]
    assert 40 < places[0][0] < 300 and 530 < places[1][0] < 800  # from left to right


def test_a_search_that_dies_skips_the_photo_and_goes_on(people, tmp_path, monkeypatch):
    cntk_environment_or_fail()
    really, calls = finder.Finder._process, []

    def dying(self):
        process = really(self)
        calls.append(process)
        if len(calls) == 1:
            process.kill()
            process.wait()
        return process

    monkeypatch.setattr(finder.Finder, "_process", dying)
    summary = prepare(Settings(people, tmp_path / "set"), workers=1, quiet=True)
    assert summary.skipped["cannot be searched for faces"] == 1 and summary.images >= 1


# -------------------------------------------------------------------------------------- bad input

def refusal(settings, **more):
    with pytest.raises(ParityError) as error:
        prepare(settings, quiet=True, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_folders_that_cannot_be_prepared(folder, tmp_path, made, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    whole = {"whole": True}
    assert "is not there: give a folder" in refusal(Settings(tmp_path / "no", tmp_path / "o"))
    assert "is a file: give a folder" in refusal(Settings(tmp_path / "file", tmp_path / "o"))
    assert "holds no file" in refusal(Settings(tmp_path / "empty", tmp_path / "o", **whole))
    assert "cannot be written" in refusal(Settings(folder, tmp_path / "file" / "o", **whole))
    assert "has an @ in it" in refusal(Settings(folder, tmp_path / "a@b", **whole))
    assert "--smallest 0" in refusal(Settings(folder, tmp_path / "o", smallest=0, **whole))
    monkeypatch.setattr(finder, "FINDER", tmp_path / "none")
    assert "run `make setup`, or take the whole pictures with --whole" in refusal(
        Settings(folder, tmp_path / "o"))
    assert not (tmp_path / "o").exists()


def test_an_output_of_another_kind(folder, tmp_path, made):
    assert "from another folder or in another way" in refusal(
        Settings(folder, made[1], whole=True, mirror=True))
    (tmp_path / "set" / FACES).mkdir(parents=True)
    (tmp_path / "set" / FACES / "mine.bmp").write_bytes(b"x")
    assert "did not write" in refusal(Settings(folder, tmp_path / "set", whole=True))
    (tmp_path / "set" / RECORD).write_text("something else\n")
    assert "in another way" in refusal(Settings(folder, tmp_path / "set", whole=True))
    for name in (MAP_FILE, SHEET):
        theirs = tmp_path / name / name
        theirs.parent.mkdir()
        theirs.write_text("precious")
        assert f"{theirs} was not written by this program" in refusal(
            Settings(folder, theirs.parent, whole=True))
        assert theirs.read_text() == "precious"
    with alone(made[1]):
        assert "is in use by another run" in refusal(Settings(folder, made[1], whole=True))


@pytest.mark.parametrize("line", ["[1]", "7", '{"name": "a.jpg", "width": 3}', "{", "null"])
def test_a_record_of_another_kind(folder, tmp_path, made, line):
    shutil.copytree(made[1], tmp_path / "set")
    with (tmp_path / "set" / RECORD).open("a") as record:
        record.write(line + "\n")
    with pytest.raises(DataError, match="prepared from another folder or in another way"):
        prepare(Settings(folder, tmp_path / "set", whole=True), quiet=True)


def test_no_image_at_all(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.jpg").write_bytes(b"text")
    message = refusal(Settings(tmp_path / "in", tmp_path / "set", whole=True))
    assert "no image came out of the 1 files" in message and "skipped.csv says why" in message
    assert not (tmp_path / "set" / MAP_FILE).exists()


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    """Told after 100 photos, while there is still room; what was done is kept."""
    (tmp_path / "in").mkdir()
    for number in range(120):
        (tmp_path / "in" / f"{number}.png").write_bytes(encoded(picture(number), "PNG"))
    settings = Settings(tmp_path / "in", tmp_path / "set", whole=True)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(photos.shutil, "disk_usage", lambda path: usage._replace(free=10**5))
    message = refusal(settings)
    assert "has room for 0.0 GB, and the other 20 photos need" in message
    monkeypatch.undo()
    assert prepare(settings, quiet=True).went_on >= 100


def test_a_file_that_is_renamed_while_the_folder_is_measured(tmp_path, monkeypatch):
    """Another process has just finished it: it is counted next time."""
    (tmp_path / "set" / "faces").mkdir(parents=True)
    for name in ("a.bmp", "b.part.bmp"):
        (tmp_path / "set" / "faces" / name).write_bytes(b"1234")
    listed = list(os.scandir(tmp_path / "set" / "faces"))
    (tmp_path / "set" / "faces" / "b.part.bmp").unlink()
    monkeypatch.setattr(photos.os, "scandir", lambda folder: iter(listed))
    photos._refuse_full_disk(Settings(tmp_path / "in", tmp_path / "set", whole=True), 1, 2)


def test_the_command(folder, tmp_path, capfd):
    assert main(["photos", str(folder), "--output", str(tmp_path / "set"), "--whole"]) == 0
    out, err = capfd.readouterr()
    assert "images are in" in out and "is too small" in out and "\r" not in err
    assert main(["photos", str(tmp_path / "none"), "--whole"]) == 2
    assert capfd.readouterr().err.startswith(f"error: {tmp_path}/none is not there: give a folder")
    assert isinstance(DataError("x"), ParityError)
