"""CNTK's map file: the list of images that its ImageDeserializer reads. Python 3.6, no packages.

    line = path TAB label   or   number TAB path TAB label [TAB anything]

This is the only parser. What CNTK 2.7 reads is taken as CNTK takes it, everything else is refused
with file and line before anything runs. The rules, each measured on real CNTK (the test gives both
the same files; ``docs/map-files.md`` shows the answers side by side):

* Lines end at LF alone; a CR before it falls into the last column, where a label may have it. A
  blank line is an error, a missing last LF is none.
* Columns are separated by one tab. One tab at the end of a line opens no further column. With
  three columns or more, the first is a sequence number and what follows the label is ignored.
* The number and the label are read as C's ``strtoull`` does: white space, a sign, digits, and
  anything behind them (``0.7`` is 0); the label's value must be below the number of classes
  (``-1`` is 2**64 - 1). Numbers need not be unique or in order.
* A path is bytes, without quoting or encoding. It counts from the WORKING directory. One that
  begins with ``...`` has these replaced by the map file's folder, which CNTK does only where it
  is given the map file's name with a folder (``./map.txt``, not ``map.txt``): give it
  ``os.path.abspath``.
* ``archive.zip@/name`` is an entry of a zip file: everything before the first ``@``, even one in a
  folder's name, is the archive, and the character behind ``@`` is skipped.

One thing that CNTK lets pass is refused: a null byte in a line (CNTK ignores what follows it in the
column), which no list has on purpose.
"""
import contextlib
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Iterable, Iterator, List, NamedTuple, Optional, Union

from captures.errors import MapFileError

AnyPath = Union[str, "os.PathLike[str]"]

# What strtoull (base 10) finds at the beginning of a text: white space, a sign, digits.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)([0-9]+)")
_LARGEST = 2 ** 64 - 1
_SHOWN = 80  # characters of a bad line that a message repeats

_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"),
)

FORM = "write one `image<TAB>label` a line"


class MapEntry(NamedTuple):
    """One line of a map file.

    written: the path as it stands there. path: the file it means, absolute. item: None, or the
    name of the image inside the zip file ``path``. label: the class. line: from 1.
    """

    written: str
    path: Path
    item: Optional[str]
    label: int
    line: int

    @property
    def name(self) -> str:
        """The file, and the image inside it where it is a zip file."""
        return str(self.path) if self.item is None else "%s@/%s" % (self.path, self.item)

    def read(self) -> bytes:
        """The image file's content. Raises OSError, KeyError (no such item), zipfile.BadZipFile."""
        if self.item is None:
            return self.path.read_bytes()
        with zipfile.ZipFile(str(self.path)) as archive:
            return archive.read(self.item)


def read_map_file(path: AnyPath, classes: int = 1) -> List[MapEntry]:
    """The entries of a map file, in its order; every image of them exists.

    classes: a label is below this; CNTK's program declares one class.

    Raises MapFileError: the map file is missing or empty, in an encoding that CNTK does not read, a
    line has another form, a label is out of range, or an image is missing. CNTK finds a missing
    image only when its turn comes.
    """
    path = Path(os.path.abspath(str(path)))
    entries = [_entry(line, number, path, classes)
               for number, line in enumerate(_lines(path), 1)]
    _refuse_missing(entries, path)
    return entries


def write_map_file(path: AnyPath, entries: Iterable[MapEntry], folder: AnyPath) -> None:
    """Writes the entries so that they mean the same wherever the map file lies.

    folder: that of the map file they came from, which stands for their ``...``.
    """
    with open(str(path), "wb") as file:
        for entry in entries:
            name = entry.written
            if name.startswith("..."):
                name = str(folder) + name[3:]
            file.write(os.fsencode(name) + b"\t%d\n" % entry.label)


@contextlib.contextmanager
def name_for_cntk(map_file: AnyPath) -> Iterator[str]:
    """The name that CNTK has to be given of a map file, while it opens it.

    The absolute one, as it expands ``...`` only then. Its Python binding takes no name that is not
    ASCII under the C locale, nor one that is not UTF-8 under any, so of such a map file it gets a
    copy. The paths inside a map file are bytes to it and may be anything.
    """
    path = Path(os.path.abspath(str(map_file)))
    try:
        str(path).encode("ascii")
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, "map.txt")
            write_map_file(copy, read_map_file(path, _LARGEST), path.parent)
            yield copy
    else:
        yield str(path)


def place(path: AnyPath, line: int) -> str:
    """How every message names a line of a map file."""
    return "%s, line %d" % (path, line)


def _lines(path: Path) -> List[bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MapFileError(
            "map file %s cannot be read (%s): give --map-file a file with one `image<TAB>label` a "
            "line, or make the default data with `make data`" % (path, error.strerror))
    _refuse_encoding(content, path)
    if not content:
        raise MapFileError("map file %s is empty: %s" % (path, FORM))
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if b"\n" not in content and content.count(b"\r") > 1:
        raise MapFileError("map file %s, line 1: the lines end with CR alone, which CNTK does not "
                           "take for an end: save it with LF or CR LF" % path)
    return lines


def _refuse_encoding(content: bytes, path: Path) -> None:
    if content.startswith(b"\xef\xbb\xbf"):
        raise MapFileError(
            "map file %s, line 1, begins with a byte-order mark (it is UTF-8 with BOM), which CNTK "
            "takes for part of the first path: save it as UTF-8 without BOM" % path)
    if b"\0" not in content:
        return
    kind = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    head = content[:4096]
    zeros = (head[0::2].count(b"\0"), head[1::2].count(b"\0"))
    if kind is None and max(zeros) > len(head) / 3 and min(zeros) == 0:
        kind = "UTF-16 without its mark"
    if kind is not None:
        raise MapFileError("map file %s, line 1, is %s, which CNTK does not read: save it as UTF-8 "
                           "without BOM" % (path, kind))


def _entry(line: bytes, number: int, map_file: Path, classes: int) -> MapEntry:
    where = place(map_file, number)
    shown = repr(os.fsdecode(line[:_SHOWN])) + ("..." if len(line) > _SHOWN else "")
    if b"\0" in line:
        raise MapFileError("%s: %s has a null byte, which no path has: %s" % (where, shown, FORM))
    columns = line.split(b"\t")
    if columns[-1] == b"":
        columns.pop()
    if len(columns) < 2 or not all(columns[:2]):
        raise MapFileError("%s: %s is not of the form `image<TAB>label`: separate the two with one "
                           "tab, and leave no line blank" % (where, shown))
    if len(columns) > 2:
        key = os.fsdecode(columns.pop(0))
        where += ", of which CNTK takes the second column for the path and the third for the label"
        if _NUMBER.match(key) is None:
            raise MapFileError("%s: the first is %r, not a number: write `image<TAB>label` and "
                               "nothing behind it, or a number first" % (where, key[:_SHOWN]))
    label = _label(os.fsdecode(columns[1]), where, classes)
    written = os.fsdecode(columns[0])
    found = str(map_file.parent) + written[3:] if written.startswith("...") else written
    archive, at, item = found.partition("@")
    if not at:
        return MapEntry(written, Path(os.getcwd(), found), None, label, number)
    return MapEntry(written, Path(os.getcwd(), archive), item[1:].replace("\\", "/"), label, number)


def _label(text: str, where: str, classes: int) -> int:
    found = _NUMBER.match(text)
    value = None if found is None or int(found.group(2)) > _LARGEST else int(found.group(2))
    if value and found is not None and found.group(1) == "-":
        value = _LARGEST + 1 - value
    if value is None or value >= classes:
        known = "0, the only class" if classes == 1 else "a whole number from 0 to %d" % (
            classes - 1)
        raise MapFileError("%s: label %r is not %s: write one such label behind the tab"
                           % (where, text[:_SHOWN], known))
    return value


def _refuse_missing(entries: List[MapEntry], map_file: Path) -> None:
    missing = [entry for entry in entries if not _exists(entry)]
    if not missing:
        return
    first = missing[0]
    others = " (%d more are missing too)" % (len(missing) - 1) if len(missing) > 1 else ""
    where = place(map_file, first.line)
    if first.item is not None:
        raise MapFileError(
            "%s: CNTK takes %s with its @ for an image inside a zip file, and there is no zip file "
            "%s that holds %r%s: rename the file or its folder"
            % (where, first.written, first.path, first.item, others))
    folder = os.path.isdir(str(first.path))
    kind = "%s is a folder, not an image" if folder else "there is no file %s"
    raise MapFileError(
        "%s: %s%s: restore it or delete the line; a relative path counts from the working "
        "directory, one that begins with .../ from the map file's folder"
        % (where, kind % first.path, others))


def _exists(entry: MapEntry) -> bool:
    """Whether there is such a file, or such an image in the zip file."""
    try:
        if entry.item is None:
            return os.path.isfile(str(entry.path))  # is_file raises for a name that is too long
        with zipfile.ZipFile(str(entry.path)) as archive:
            archive.getinfo(entry.item)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return False
    return True
