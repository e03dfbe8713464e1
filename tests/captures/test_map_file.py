"""The parser of map files against real CNTK: both are given the same files."""
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from captures.errors import MapFileError, ParityError
from captures.map_file import MapEntry, read_map_file
from tests.conftest import cntk_environment_or_fail

# ---------------------------------------------------------------------------------- the forms

# Each image is uniform and its value names it. The map files lie in ``maps``, CNTK and the parser
# run in the folder above.
IMAGES = {"0.bmp": 0, "1.bmp": 1, "2.bmp": 2, "maps/0.bmp": 10, "maps/sub/0.bmp": 11,
          "a b.bmp": 20, "é.bmp": 21, "a@b.bmp": 22, '"q".bmp': 23, " lead.bmp": 24,
          "trail.bmp ": 25, "#h.bmp": 26, "back\\slash.bmp": 27, "cr.bmp\r": 28, "mapsx.bmp": 29,
          "maps/.../0.bmp": 30, "at@/0.bmp": 31, "\udce9.bmp": 32}
LONG = "x" * 300


class Form(NamedTuple):
    """A map file. refused: part of our message, or None where it is read; images: what is read."""

    what: str
    content: bytes
    refused: str | None = None
    images: tuple[int, ...] = (0,)
    classes: int = 1
    lenient: bool = False  # CNTK reads it, and it is refused here


def _form(what: str, content: str, *rest: Any, **more: Any) -> Form:
    return Form(what, content.encode("utf-8", "surrogateescape"), *rest, **more)


NOT_THE_FORM = "is not of the form `image<TAB>label`"
NUMBER = "the first is "
THIRD = "takes the second column for the path and the third for the label"
LABEL = "is not 0, the only class"
MISSING = "there is no file"
FORMS = [
    # lines
    _form("one line", "0.bmp\t0\n"),
    _form("no LF at the end", "0.bmp\t0"),
    _form("CR LF", "0.bmp\t0\r\n1.bmp\t0\r\n", None, (0, 1)),
    _form("CR CR LF", "0.bmp\t0\r\r\n"),
    _form("CR alone", "0.bmp\t0\r1.bmp\t0\r", "lines end with CR alone"),
    _form("LF CR", "0.bmp\t0\n\r1.bmp\t0\n\r", f"line 3: '\\r' {NOT_THE_FORM}"),
    _form("empty file", "", "is empty"),
    _form("one blank line", "\n", f"line 1: '' {NOT_THE_FORM}"),
    _form("a blank line in the middle", "0.bmp\t0\n\n1.bmp\t0\n", f"line 2: '' {NOT_THE_FORM}"),
    _form("a blank line at the end", "0.bmp\t0\n\n", f"line 2: '' {NOT_THE_FORM}"),
    _form("a line of a space", "0.bmp\t0\n \n", f"line 2: ' ' {NOT_THE_FORM}"),
    _form("a line of a tab", "0.bmp\t0\n\t\n", f"line 2: '\\t' {NOT_THE_FORM}"),
    _form("a comment", "# faces\n0.bmp\t0\n", f"line 1: '# faces' {NOT_THE_FORM}"),
    _form("Ctrl-Z at the end", "0.bmp\t0\n\x1a", f"line 2: '\\x1a' {NOT_THE_FORM}"),
    _form("the same image twice", "0.bmp\t0\n0.bmp\t0\n", None, (0, 0)),
    # columns
    _form("spaces for the tab", "0.bmp    0\n", NOT_THE_FORM),
    _form("a comma for the tab", "0.bmp,0\n", NOT_THE_FORM),
    _form("no label", "0.bmp\n", NOT_THE_FORM),
    _form("a tab and no label", "0.bmp\t\n", NOT_THE_FORM),
    _form("a tab, no label, CR LF", "0.bmp\t\r\n", LABEL),
    _form("no path", "\t0\n", NOT_THE_FORM),
    _form("two tabs", "0.bmp\t\t0\n", NOT_THE_FORM),
    _form("a tab at the end", "0.bmp\t0\t\n"),
    _form("a tab at the end, CR LF", "0.bmp\t0\t\r\n", THIRD),
    _form("two tabs at the end", "0.bmp\t0\t\t\n", THIRD),
    _form("a third column", "0.bmp\t0\tmore\n", THIRD),
    _form("a third column behind a name that is no number", "é.bmp\t0\tmore\n", NUMBER),
    _form("three columns", "7\t0.bmp\t0\n"),
    _form("three columns and a tab", "7\t0.bmp\t0\t\n"),
    _form("four columns", "7\t0.bmp\t0\tmore\n"),
    _form("five columns", "7\t0.bmp\t0\tmore\t1.bmp\n"),
    _form("two and three columns mixed", "1\t0.bmp\t0\n1.bmp\t0\n", None, (0, 1)),
    _form("the same number twice", "7\t0.bmp\t0\n7\t1.bmp\t0\n", None, (0, 1)),
    _form("numbers falling", "9\t0.bmp\t0\n3\t1.bmp\t0\n", None, (0, 1)),
    _form("a word for the number", "k\t0.bmp\t0\n", NUMBER),
    _form("an empty number", "\t0.bmp\t0\n", NOT_THE_FORM),
    _form("a sign for the number", "-\t0.bmp\t0\n", NUMBER),
    _form("a number in Arabic digits", "\u0667\t0.bmp\t0\n", NUMBER),
    _form("a negative number", "-1\t0.bmp\t0\n"),
    _form("a number and a letter", "7k\t0.bmp\t0\n"),
    _form("spaces about the number", " 7 \t0.bmp\t0\n"),
    _form("a number above 2^64", "99999999999999999999\t0.bmp\t0\n"),
    # labels
    _form("label 000", "0.bmp\t000\n"),
    _form("label +0", "0.bmp\t+0\n"),
    _form("label -0", "0.bmp\t-0\n"),
    _form("spaces about the label", "0.bmp\t 0 \n"),
    _form("label 0x10", "0.bmp\t0x10\n"),
    _form("label 0.7", "0.bmp\t0.7\n"),
    _form("label 0e5", "0.bmp\t0e5\n"),
    _form("two labels, a space between", "0.bmp\t0 1\n"),
    _form("label 1.0", "0.bmp\t1.0\n", LABEL),
    _form("label -1", "0.bmp\t-1\n", LABEL),
    _form("label 1", "0.bmp\t0\n0.bmp\t1\n", f"line 2: label '1' {LABEL}"),
    _form("label 7", "0.bmp\t7\n", LABEL),
    _form("label 2 of 3 classes", "0.bmp\t2\n", classes=3),
    _form("label 3 of 3 classes", "0.bmp\t3\n", "from 0 to 2", classes=3),
    _form("label -1 of 3 classes", "0.bmp\t-1\n", "from 0 to 2", classes=3),
    _form("label 1 - 2^64 of 3 classes", "0.bmp\t-18446744073709551615\n", classes=3),
    _form("label above 2^64", "0.bmp\t99999999999999999999\n", LABEL),
    _form("label -2^64", "0.bmp\t-18446744073709551616\n", LABEL),
    _form("label - 0", "0.bmp\t- 0\n", LABEL),
    _form("label +-0", "0.bmp\t+-0\n", LABEL),
    _form("a word for the label", "0.bmp\tcat\n", LABEL),
    _form("a label in quotes", '0.bmp\t"0"\n', LABEL),
    _form("a no-break space before the label", "0.bmp\t\u00a00\n", LABEL),
    _form("a label in Arabic digits", "0.bmp\t\u0660\n", LABEL),
    # encodings
    _form("UTF-8 with BOM", "\ufeff0.bmp\t0\n", "byte-order mark (it is UTF-8 with BOM)"),
    Form("UTF-16", "0.bmp\t0\n".encode("utf-16"), "is UTF-16"),
    Form("UTF-16, big end first", b"\xfe\xff" + "0.bmp\t0\n".encode("utf-16-be"), "is UTF-16"),
    Form("UTF-16 without its mark", "0.bmp\t0\n".encode("utf-16-le"), "UTF-16 without its mark"),
    Form("UTF-32", "0.bmp\t0\n".encode("utf-32"), "is UTF-32"),
    _form("a null byte behind the path", "0.bmp\0more\t0\n", "null byte", lenient=True),
    _form("a null byte behind the label", "0.bmp\t0\0more\n", "null byte", lenient=True),
    # names
    _form("a space in the name", "a b.bmp\t0\n", None, (20,)),
    _form("a name in UTF-8", "é.bmp\t0\n", None, (21,)),
    _form("a name in Latin-1", "\udce9.bmp\t0\n", None, (32,)),
    _form("quotes about the name", '"0.bmp"\t0\n', MISSING),
    _form("quotes in the name", '"q".bmp\t0\n', None, (23,)),
    _form("a space before the name", " 0.bmp\t0\n", MISSING),
    _form("a name that begins with a space", " lead.bmp\t0\n", None, (24,)),
    _form("a space behind the name", "0.bmp \t0\n", MISSING),
    _form("a name that ends with a space", "trail.bmp \t0\n", None, (25,)),
    _form("a name that begins with #", "#h.bmp\t0\n", None, (26,)),
    _form("a backslash between folders", "maps\\0.bmp\t0\n", MISSING),
    _form("a backslash in the name", "back\\slash.bmp\t0\n", None, (27,)),
    _form("a CR in the name", "cr.bmp\r\t0\n", None, (28,)),
    _form("a tab in the name", "0\t.bmp\t0\n", MISSING),
    _form("a very long name", f"{LONG}.bmp\t0\n", MISSING),
    _form("a missing image", "0.bmp\t0\nnone.bmp\t0\nnone.bmp\t0\n", "line 2: there is no file"),
    _form("a folder", "maps\t0\n", "is a folder"),
    _form("~", "~/0.bmp\t0\n", MISSING),
    _form("a variable", "$HOME/0.bmp\t0\n", MISSING),
    _form("a drive", "C:\\0.bmp\t0\n", MISSING),
    _form("a web address", "http://localhost/0.bmp\t0\n", MISSING),
    # folders
    _form("relative: from the working folder", "maps/0.bmp\t0\n", None, (10,)),
    _form("./", "./0.bmp\t0\n", None, (0,)),
    _form("..", "maps/../0.bmp\t0\n", None, (0,)),
    _form("absolute", "{folder}/0.bmp\t0\n"),
    _form(".../: from the map file's folder", ".../0.bmp\t0\n", None, (10,)),
    _form(".../ and up", ".../../0.bmp\t0\n", None, (0,)),
    _form("... without a slash", "...x.bmp\t0\n", None, (29,)),
    _form(".../.../", ".../.../0.bmp\t0\n", None, (30,)),
    _form("four dots", "..../0.bmp\t0\n", MISSING),
    _form("... in the middle", "maps/.../0.bmp\t0\n", None, (30,)),
    # zip files
    _form("@ in the name", "a@b.bmp\t0\n", "inside a zip file"),
    _form("@ in a folder's name", "at@/0.bmp\t0\n", "inside a zip file"),
    _form("an image in a zip file", "z.zip@/1.bmp\t0\n", None, (1,)),
    _form("the same with a backslash", "z.zip@\\d\\2.bmp\t0\n", None, (2,)),
    _form("any character behind the @", "z.zip@x1.bmp\t0\n", None, (1,)),
    _form("no character behind the @", "z.zip@1.bmp\t0\n", "no zip file"),
    _form("a second @", "z.zip@/a@0.bmp\t0\n", None, (0,)),
    _form("a zip file in the map file's folder", ".../y.zip@/1.bmp\t0\n", None, (1,)),
    _form("no such image in the zip file", "z.zip@/none.bmp\t0\n", "that holds 'none.bmp'"),
    _form("nothing behind the @", "z.zip@\t0\n", "no zip file"),
    _form("@ behind what is no zip file", "0.bmp@/1.bmp\t0\n", "no zip file"),
    _form("lines of another reader (CTF)", "7\t|image 0.bmp |label 0\n", LABEL),
    Form("an image for a map file", b"BMf\0\0\0\0\0\0\x006\0\0\0(\0\0\0", "null byte"),
]


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, content = cv2.imencode(".bmp", np.full((4, 4, 3), value, np.uint8))
    assert done
    path.write_bytes(content.tobytes())


def make(folder: Path) -> list[Path]:
    """The images, the zip files and the map files, in the order of FORMS."""
    for name, value in IMAGES.items():
        write_image(folder / name, value)
    for path in (folder / "z.zip", folder / "maps" / "y.zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for image, name in (("1.bmp", "1.bmp"), ("2.bmp", "d/2.bmp"), ("0.bmp", "a@0.bmp")):
                archive.write(folder / image, name)
    paths = [folder / "maps" / f"{number}.txt" for number in range(len(FORMS))]
    for path, form in zip(paths, FORMS, strict=True):
        path.write_bytes(form.content.replace(b"{folder}", os.fsencode(folder)))
    return paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("forms")


def answers_of_cntk(cntk: Any, folder: Path, paths: list[Path]) -> dict[str, np.ndarray]:
    """CNTK's answers, for the tests and the table."""
    jobs = [{"name": str(number), "map": str(path), "folder": str(folder), "classes": form.classes}
            for number, (path, form) in enumerate(zip(paths, FORMS, strict=True))]
    for name, given, where in (("bare", "dots.txt", "maps"), ("dotted", "./dots.txt", "maps"),
                               ("none", "none.txt", ".")):
        jobs.append({"name": name, "map": given, "folder": str(folder / where), "classes": 1})
    (folder / "maps" / "dots.txt").write_text(".../0.bmp\t0\n")
    (folder / "jobs.json").write_text(json.dumps(jobs))
    return cntk.run("map_file.py", str(folder / "jobs.json"))


@pytest.fixture(scope="module")
def paths(folder):
    return make(folder)


@pytest.fixture(scope="module")
def answers(cntk, folder, paths):
    return answers_of_cntk(cntk, folder, paths)


def read_by_us(path: Path, classes: int) -> list[int]:
    """The images' values by the parser's own entries."""
    return [int(cv2.imdecode(np.frombuffer(entry.read(), np.uint8), cv2.IMREAD_COLOR)[0, 0, 0])
            for entry in read_map_file(path, classes)]


@pytest.mark.parametrize("number", range(len(FORMS)), ids=[form.what for form in FORMS])
def test_a_form(answers, folder, paths, monkeypatch, number):
    """The same images as CNTK, or a refusal where CNTK refuses."""
    form = FORMS[number]
    monkeypatch.chdir(folder)
    if f"{number}/read" in answers:
        theirs = answers[f"{number}/read"].tolist()
        if not form.lenient:
            assert form.refused is None
            assert read_by_us(paths[number], form.classes) == theirs == list(form.images)
            return
    else:
        assert str(answers[f"{number}/error"]) and not form.lenient
    with pytest.raises(MapFileError) as error:
        read_map_file(paths[number], form.classes)
    message = str(error.value)
    assert form.refused and form.refused in message
    assert str(paths[number]) in message and "\n" not in message and len(message) < 1200


def test_cntk_expands_the_dots_only_for_a_map_file_that_is_given_with_its_folder(answers):
    assert str(answers["bare/error"]) == "Cannot open file '.../0.bmp'"
    assert answers["dotted/read"].tolist() == [10]
    assert str(answers["none/error"]) == "Could not open none.txt for reading."


# --------------------------------------------------------------------------------- the rest of it

def test_the_entries(folder, paths, monkeypatch):
    monkeypatch.chdir(folder / "maps")
    (folder / "list.txt").write_text("7\t.../1.bmp\t0\n../z.zip@/d/2.bmp\t2\n")
    first, second = read_map_file("../list.txt", 3)
    assert first == MapEntry(".../1.bmp", folder / "1.bmp", None, 0, 1)
    archive = folder / "maps" / ".." / "z.zip"
    assert second == MapEntry("../z.zip@/d/2.bmp", archive, "d/2.bmp", 2, 2)


@pytest.mark.parametrize("path", ["none.txt", "."])
def test_no_map_file(tmp_path, path):
    with pytest.raises(ParityError, match=r"cannot be read .*make data"):
        read_map_file(tmp_path / path)


def test_the_missing_ones_are_counted(tmp_path):
    (tmp_path / "map.txt").write_text("/none/0.bmp\t0\n" * 3)
    with pytest.raises(MapFileError, match=r"line 1: there is no file /none/0\.bmp \(2 more are"):
        read_map_file(tmp_path / "map.txt")


SHOW = r"""
import sys
from captures.map_file import read_map_file
for argument in sys.argv[1:]:
    try:
        print([len(entry.read()) for entry in read_map_file(argument)])
    except ValueError as error:
        print("refused")
"""


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_python36_reads_the_same_in_any_locale(folder, paths, locale):
    """Names that are not ASCII are bytes: under the C locale too."""
    wanted = {"a name in UTF-8": "[102]", "a name in Latin-1": "[102]", "CR LF": "[102, 102]",
              "UTF-8 with BOM": "refused", "an image in a zip file": "[102]"}
    chosen = [path for path, form in zip(paths, FORMS, strict=True) if form.what in wanted]
    done = subprocess.run(
        [cntk_environment_or_fail(), "-c", SHOW, *chosen], capture_output=True, text=True,
        cwd=folder, check=True, env={"LC_ALL": locale})
    order = [form.what for form in FORMS if form.what in wanted]
    assert done.stdout.split("\n")[:-1] == [wanted[what] for what in order]


def test_a_form_that_cntk_reads_otherwise_would_be_noticed(answers, folder, paths, monkeypatch):
    """The test above fails for a parser with another rule: relative to the map file's folder."""
    number = next(i for i, form in enumerate(FORMS) if form.what == "one line")
    shutil.copy(paths[number], folder / "maps" / "sub" / "map.txt")
    monkeypatch.chdir(folder / "maps" / "sub")
    assert read_by_us(folder / "maps" / "sub" / "map.txt", 1) != answers[f"{number}/read"].tolist()


# ----------------------------------------------------------------------------- for the docs' table

def forms_table(cntk: Any) -> list[tuple[str, str, str, str]]:
    """Rows: the form, its content, what real CNTK did, what the parser did."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = make(folder)
        answers = answers_of_cntk(cntk, folder, paths)
        home = Path.cwd()
        os.chdir(folder)
        try:
            return [_row(form, path, answers, str(number), name)
                    for number, (path, form) in enumerate(zip(paths, FORMS, strict=True))]
        finally:
            os.chdir(home)


def _row(form: Form, path: Path, answers: dict[str, np.ndarray], number: str, folder: str
         ) -> tuple[str, str, str, str]:
    shown = repr(form.content)[2:-1].replace(LONG, "xxx...")
    content = f"`{shown[:60]}`" if shown else ""
    said = answers.get(f"{number}/error")
    theirs = "reads it" if said is None else f"refuses: {str(said)[:160]}"
    try:
        read_map_file(path, form.classes)
        ours = "reads the same"
    except MapFileError as error:
        ours = "refuses: " + str(error).removeprefix(f"{path}, ")
    for old, new in ((folder, "..."), (LONG, "xxx..."), ("`", "'"), ("<", "&lt;")):
        theirs, ours = theirs.replace(old, new), ours.replace(old, new)
    return form.what, content, theirs, ours
