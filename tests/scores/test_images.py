"""Pictures from folders and array files: every kind, and every kind of trouble."""
from __future__ import annotations

import io
import os
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from score_samples import noise

from scores import images
from scores.errors import ScoreError
from scores.evaluate import notes_of
from scores.images import open_pictures


def write(path: Path, picture: np.ndarray, **more: object) -> None:
    Image.fromarray(picture).save(path, **more)


def colour(seed: int = 0, height: int = 8, width: int = 6) -> np.ndarray:
    return noise(1, seed, height, width)[0].transpose(1, 2, 0).astype(np.uint8)


def read(path: Path, size: int = 4, broken: str = "refuse"):
    pictures = open_pictures(path, broken)
    return pictures, list(pictures.batches(size))


def test_a_folder_in_the_order_of_its_names(tmp_path):
    (tmp_path / "b").mkdir()
    for i, name in enumerate(["b/z.png", "a.bmp", "c.PNG", "b/a.ppm"]):
        write(tmp_path / name, colour(i))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    pictures, batches = read(tmp_path, 3)
    assert pictures.count == 4 and [len(batch) for batch in batches] == [3, 1]
    made = np.concatenate(batches).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(made, [colour(1), colour(3), colour(0), colour(2)])
    assert not pictures.notes
    assert pictures.left_out == {"hidden": [".hidden.png"],
                                 "no picture by its ending": ["notes.txt"]}


def test_what_a_folder_leaves_out_is_named_and_counted(tmp_path, monkeypatch):
    for name in ("pictures", "pictures/sub", "pictures/.git", "elsewhere"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.png", colour())
    folder = tmp_path / "pictures"
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "pipe.png")
    for i in range(7):
        (folder / f"{i}.heic").write_text("")
    pictures = open_pictures(folder)
    assert pictures.count == 2 and notes_of(pictures) == [
        "left out (a link to a folder): 1, link", "left out (hidden): 1, .git",
        "left out (neither a file nor a folder): 1, pipe.png",
        "left out (no picture by its ending): 7, 0.heic, 1.heic, 2.heic, 3.heic, 4.heic, ..."]
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ScoreError, match=r"sub cannot be read.*--broken skip"):
        open_pictures(folder)
    pictures = open_pictures(folder, "skip")
    assert pictures.count == 1 and pictures.left_out["cannot be read"] == ["sub"]
    (folder / "a.png").unlink()
    with pytest.raises(ScoreError, match=r"holds no picture.*left out \(hidden\): 1, \.git"):
        open_pictures(folder, "skip")


def test_a_link_to_nothing_is_a_picture_that_cannot_be_read(tmp_path):
    write(tmp_path / "a.png", colour())
    (tmp_path / "z.png").symlink_to("none")
    with pytest.raises(ScoreError, match=r"z\.png cannot be read .*No such file"):
        read(tmp_path)
    assert read(tmp_path, broken="skip")[0].broken == ["z.png"]


@pytest.mark.parametrize("ending", ["jfif", "jpe", "tga", "avif", "jp2", "dib", "apng"])
def test_every_ending_is_read(tmp_path, ending):
    kind = {"jfif": "JPEG", "jpe": "JPEG", "apng": "PNG"}.get(ending)
    notes, made = one(tmp_path, f"a.{ending}", np.full((8, 6, 3), 90, np.uint8), format=kind)
    assert abs(made - 90).max() <= 4
    assert [note for note in notes if "8 bits were taken" in note] or ending not in ("avif", "jp2")


def test_notes_are_of_one_pass_and_names_are_printable(tmp_path):
    name = os.fsdecode(b"\xff\n.png")
    for folder in ("b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("no picture")
    write(tmp_path / "a.png", colour()[..., 0])
    pictures = open_pictures(tmp_path, "skip")
    for _ in range(2):
        assert sum(map(len, pictures.batches(2))) == 1
        assert list(pictures.notes.values()) == [1]
        assert pictures.broken == [r"b/\udcff\n.png", r"c/\udcff\n.png"]


def one(tmp_path: Path, name: str, picture: np.ndarray, **more: object):
    write(tmp_path / name, picture, **more)
    pictures, (batch,) = read(tmp_path)
    return pictures.notes, batch[0].transpose(1, 2, 0)


def test_grey(tmp_path):
    grey = colour()[..., 0]
    notes, made = one(tmp_path, "a.png", grey)
    np.testing.assert_array_equal(made, np.repeat(grey[..., None], 3, -1))
    assert "grey" in next(iter(notes))


def test_16_bits_keep_what_lies_between(tmp_path):
    deep = np.random.RandomState(0).randint(0, 65536, (8, 6)).astype(np.uint16)
    notes, made = one(tmp_path, "a.png", deep)
    np.testing.assert_allclose(made[..., 1], deep / 257, rtol=1e-6)
    assert (made % 1 != 0).any() and "16-bit" in next(iter(notes))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_is_told(tmp_path, name, channels):
    deep = np.random.RandomState(0).randint(0, 65536, (8, 6, channels)).astype(np.uint16)
    deep[..., 3:] = 65535
    cv2.imwrite(str(tmp_path / name), deep)
    notes, made = (read(tmp_path)[0].notes, read(tmp_path)[1][0][0])
    np.testing.assert_array_equal(made, deep[..., 2::-1].transpose(2, 0, 1) >> 8)
    assert [note for note in notes if "16-bit colour, cut to its upper 8 bits" in note]


@pytest.mark.parametrize("wrong", [np.nan, 300, -1])
def test_floats_that_are_no_pixels_are_a_broken_picture(tmp_path, wrong):
    """Named by its file, and left out where that was asked for, as any that cannot be read."""
    values = np.full((8, 6), 7, np.float32)
    write(tmp_path / "a.tif", values)
    values[2, 3] = wrong
    write(tmp_path / "b.tif", values)
    with pytest.raises(ScoreError, match=r"b\.tif cannot be read .*0\.\.255"):
        read(tmp_path)
    assert read(tmp_path, broken="skip")[0].broken == ["b.tif"]


def test_alpha_is_laid_over_white(tmp_path):
    layered = np.dstack([colour(), np.full((8, 6), 255, np.uint8)])
    layered[0, 0, 3] = 0
    notes, made = one(tmp_path, "a.png", layered)
    assert (made[0, 0] == 255).all() and (made[1:] == colour()[1:]).all()
    assert "transparent" in next(iter(notes))


def test_exif_turns(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    notes, made = one(tmp_path, "a.png", colour(), exif=exif)
    np.testing.assert_array_equal(made, np.rot90(colour(), -1))
    assert "EXIF" in next(iter(notes))


@pytest.mark.parametrize("value", [0, 1, 99])
def test_exif_that_turns_nothing_is_not_told(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    notes, made = one(tmp_path, "a.png", colour(), exif=exif)
    np.testing.assert_array_equal(made, colour())
    assert not notes


def test_depth_is_told_as_it_is(tmp_path):
    deep = np.full((8, 6), 257 * 9, np.uint16)
    deep[0, 0] = 500
    notes, made = one(tmp_path, "a.png", deep, transparency=500)
    assert (made[0, 0] == 255).all() and (made[1:] == 9).all() and len(notes) == 2
    for name, array, says in (("b.tif", deep.astype(np.int32), "32-bit grey"),
                              ("c.tif", np.ones((8, 6), np.float32), "no value above 1")):
        (tmp_path / "a.png").unlink(missing_ok=True)
        notes, _ = one(tmp_path, name, array)
        assert says in " ".join(notes)
        (tmp_path / name).unlink()
    cv2.imwrite(str(tmp_path / "d.ppm"), np.dstack([deep] * 3))
    assert list(read(tmp_path)[0].notes) == ["16-bit colour, rounded to 8 bits"]


def test_warnings_do_not_reach_the_console(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    write(tmp_path / "a.png", colour())
    np.savez(tmp_path / "a.npz", np.full((2, 3, 4, 4), 1e300))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(tmp_path)[1]) == 1
        with pytest.raises(ScoreError, match=r"values from 1e\+300"):
            read(tmp_path / "a.npz")


def test_animated_gives_its_first_frame(tmp_path):
    frames = [Image.fromarray(colour(i)).convert("P", palette=Image.ADAPTIVE) for i in (0, 1)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    pictures, (batch,) = read(tmp_path)
    np.testing.assert_array_equal(batch[0].transpose(1, 2, 0),
                                  np.asarray(frames[0].convert("RGB")))
    assert any("animated" in note for note in pictures.notes)


def test_cmyk_is_told(tmp_path):
    Image.fromarray(colour()).convert("CMYK").save(tmp_path / "a.jpg")
    pictures, _ = read(tmp_path)
    assert any("CMYK" in note for note in pictures.notes)


def test_mixed_sizes_come_in_batches_of_one_size(tmp_path):
    for i, (height, width) in enumerate([(8, 6), (8, 6), (5, 5), (8, 6)]):
        write(tmp_path / f"{i}.png", colour(i, height, width))
    pictures, batches = read(tmp_path)
    assert [batch.shape for batch in batches] == [(2, 3, 8, 6), (1, 3, 5, 5), (1, 3, 8, 6)]
    assert any("mixed sizes" in note and "6 x 8 (3)" in note for note in pictures.notes)


@pytest.mark.parametrize("content", [b"", b"no picture at all", None])
def test_one_broken_among_many(tmp_path, content):
    for i in range(4):
        write(tmp_path / f"{i}.png", colour(i))
    bad = tmp_path / "2.png"
    bad.write_bytes(bad.read_bytes()[:60] if content is None else content)
    with pytest.raises(ScoreError, match=r"2\.png cannot be read.*--broken skip"):
        read(tmp_path)
    pictures, batches = read(tmp_path, broken="skip")
    assert pictures.broken == ["2.png"] and sum(map(len, batches)) == 3


def test_nothing_but_broken_ones(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ScoreError, match=r"none of the 1 pictures .*a\.png"):
        read(tmp_path, broken="skip")


def test_nothing_to_read(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    for path, says in ((tmp_path, "holds no picture"), (tmp_path / "none", "is not there"),
                       (tmp_path / "notes.txt", "neither a folder")):
        with pytest.raises(ScoreError, match=says):
            open_pictures(path)
    with pytest.raises(ScoreError, match="refuse or skip"):
        open_pictures(tmp_path, "ignore")


# ---- arrays


@pytest.mark.parametrize(("made", "back"), [
    (lambda x: x.astype(np.uint8).transpose(0, 2, 3, 1), 0),
    (lambda x: x.astype(np.uint8), 0),
    (lambda x: x / 127.5 - 1, 1e-4),
    (lambda x: (x / 255).astype(np.float64), 1e-4),
    (lambda x: x, 0),
    (lambda x: (x * 257).astype(np.uint16), 1e-4),
])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_every_kind(tmp_path, made, back, save):
    x = noise(7, 0, 8, 6)
    save(tmp_path / "a.npz", made(x))
    pictures, batches = read(tmp_path / "a.npz", 3)
    assert pictures.count == 7 and [len(batch) for batch in batches] == [3, 3, 1]
    assert abs(np.concatenate(batches) - x).max() <= back


def test_npy_and_named_arrays(tmp_path):
    x = noise(2, 0, 8, 6).astype(np.uint8)
    np.save(tmp_path / "a.npy", x)
    np.testing.assert_array_equal(read(tmp_path / "a.npy")[1][0], x)
    np.savez(tmp_path / "a.npz", images=x, labels=np.arange(2), others=x[:1])
    assert read(tmp_path / "a.npz")[0].count == 2
    np.savez(tmp_path / "b.npz", one=x, two=x)
    with pytest.raises(ScoreError, match="several arrays, one, two"):
        open_pictures(tmp_path / "b.npz")


@pytest.mark.parametrize(("array", "says"), [
    (np.zeros((4, 5)), "no array of pictures"),
    (np.zeros((4, 8, 8, 4), np.uint8), "give N x H x W x 3"),
    (np.zeros((0, 8, 8, 3), np.uint8), "give N x H x W x 3"),
    (np.zeros((4, 8, 8, 3), np.int64), "int64"),
    (np.asfortranarray(np.zeros((4, 8, 8, 3), np.uint8)), "Fortran order"),
])
def test_arrays_that_are_no_pictures(tmp_path, array, says):
    np.savez(tmp_path / "a.npz", array)
    with pytest.raises(ScoreError, match=says):
        open_pictures(tmp_path / "a.npz")


def test_broken_array_files(tmp_path):
    (tmp_path / "a.npz").write_text("no archive")
    with pytest.raises(ScoreError, match="cannot be read as numpy arrays"):
        open_pictures(tmp_path / "a.npz")
    file = io.BytesIO()
    np.save(file, noise(4, 0, 8, 6))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("arr_0.npy", file.getvalue()[:-100])
    with pytest.raises(ScoreError, match="cut off"):
        read(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", np.full((2, 3, 4, 4), np.nan))
    with pytest.raises(ScoreError, match="NaN"):
        read(tmp_path / "c.npz")


def damaged(path: Path, harm: str, save=np.savez_compressed, **arrays: np.ndarray) -> Path:
    """An .npz of these arrays, harmed."""
    save(path, **arrays)
    content = bytearray(path.read_bytes())
    (start, central) = (content.index(b"PK\1\2", i) if i else 0 for i in (0, 1))
    if harm == "stream":
        content[central // 2:central // 2 + 40] = bytes(40)
    if harm == "encrypted":
        content[start + 6] |= 1
        content[central + 8] |= 1
    if harm == "method":
        content[start + 8] = content[central + 10] = 99
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize("harm", ["stream", "encrypted", "method"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_array_files(tmp_path, harm, save):
    path = damaged(tmp_path / "a.npz", harm, save, images=noise(40, 0, 8, 6).astype(np.uint8))
    with pytest.raises(ScoreError, match=r"a\.npz (is broken|cannot be read)"):
        read(path)


def test_a_header_that_is_not_true_takes_no_memory(tmp_path):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {
        "descr": "|u1", "fortran_order": False, "shape": (1, 3, 10 ** 7, 10 ** 7)})
    (tmp_path / "a.npy").write_bytes(file.getvalue() + bytes(100))
    with pytest.raises(ScoreError, match="cut off"):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize(("wrong", "says"), [
    (np.nan, "picture 5 holds NaN"),
    (-0.5, r"picture 5 has values from -0\.5 to 0\.5, but by the first 2 .* taken as \[0, 1\]"),
    (2, r"picture 5 has values from 0\.5 to 2"),
])
def test_the_bad_picture_of_a_file_is_named_in_any_batch(tmp_path, wrong, says):
    x = np.full((7, 3, 4, 4), 0.5, np.float32)
    x[5, 0, 0, 0] = wrong
    np.savez(tmp_path / "a.npz", x)
    with pytest.raises(ScoreError, match=rf"a\.npz: {says}"):
        read(tmp_path / "a.npz", 2)


def test_large_pictures_come_in_smaller_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "AT_ONCE", 2 * 3 * 8 * 6)
    for i in range(5):
        write(tmp_path / f"{i}.png", colour(i))
    np.savez(tmp_path / "a.npz", noise(5, 0, 8, 6).astype(np.uint8))
    np.savez(tmp_path / "b.npz", noise(3, 0, 40, 40).astype(np.uint8))
    for source, lengths in ((tmp_path, [2, 2, 1]), (tmp_path / "a.npz", [2, 2, 1]),
                            (tmp_path / "b.npz", [1, 1, 1])):
        assert [len(batch) for batch in read(source)[1]] == lengths


def test_an_array_file_is_read_in_pieces(tmp_path):
    """400 pictures of 64 x 64 are 4.9 MB as bytes, 20 MB as floats: the peak stays below 1 MB."""
    import tracemalloc
    np.savez_compressed(tmp_path / "a.npz", np.zeros((400, 64, 64, 3), np.uint8))
    pictures = open_pictures(tmp_path / "a.npz")
    tracemalloc.start()
    try:
        assert sum(len(batch) for batch in pictures.batches(4)) == 400
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
