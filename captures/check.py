"""The one check of the data, at the start of every command. Python 3.6, no packages.

    data = check_data("data/train_dcgan_map.txt")
    data.entries, data.hashes, data.sha256

reads the map file as CNTK does (``captures.map_file``), and every image from its first byte to its
last pixel (``captures.image_file``): what CNTK and the port read alike is accepted, everything else
is refused with file and line before anything runs. The trainers, the suite and CNTK's captures ask
here, so they decide alike.

What was found good is remembered by the file's size, its two times (of its content and of its
entry, which ``cp -p`` and ``touch`` do not set back), its inode and its SHA-256, so that a second
look at 20,000 images costs as many ``stat``. The memory is a file for each folder of images, under
``build/checked-images`` of this project; where that cannot be written, nothing is remembered.
"""
import hashlib
import json
import os
import sys
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from captures.errors import DataError
from captures.files import written_whole
from captures.image_file import LARGEST_FILE, refusal
from captures.map_file import AnyPath, MapEntry, place, read_map_file

MEMORY = Path(__file__).resolve().parent.parent / "build" / "checked-images"
# Raise it whenever a rule of captures.image_file changes: what was found good is looked at again.
RULES = 1
# A file younger than this may change again without its times showing it.
SETTLED = 2.0  # seconds
BLOCK = 64  # images that are given to the threads at once

_Known = Dict[str, List[Any]]  # an image's name: what _identity says of it, and its SHA-256


class Data(NamedTuple):
    """A checked set of images.

    map_file: its absolute path, the name that CNTK has to be given (it expands ``...`` only then).
    entries: the lines, in order. hashes: the SHA-256 of each image, likewise.
    """

    map_file: Path
    entries: List[MapEntry]
    hashes: List[str]

    @property
    def sha256(self) -> str:
        """SHA-256 over the images' digests, in order: the same wherever they lie."""
        digest = hashlib.sha256()
        for one in self.hashes:
            digest.update(bytes.fromhex(one))
        return digest.hexdigest()


def check_data(map_file: AnyPath, classes: int = 1, memory: Optional[Path] = MEMORY,
               threads: Optional[int] = None) -> Data:
    """The images of a map file, all of them good.

    classes: a label is below this. memory: the folder of what was found good before; None: nothing
    is remembered. threads: that read images side by side; None: one for each processor.

    What takes longer than two seconds is told on stderr.

    Raises MapFileError (see ``read_map_file``); DataError for the first image that cannot be used,
    with the number of the others.
    """
    path = Path(os.path.abspath(str(map_file)))
    entries = read_map_file(path, classes)
    known = _Memory(memory)
    found: Dict[Tuple[Path, Optional[str]], Tuple[str, Optional[str]]] = {}
    unknown = []
    for entry in entries:
        image = (entry.path, entry.item)
        if image in found:
            continue
        before = known.hash_of(entry)
        found[image] = (before or "", None)
        if before is None:
            unknown.append(entry)
    for entry, (seen, digest, reason) in _told(_examine(unknown, threads), len(unknown)):
        found[entry.path, entry.item] = (digest, reason)
        if reason is None and seen is not None:
            known.note(entry, seen, digest)
    known.write()
    _refuse_bad(entries, found, path)
    return Data(path, entries, [found[entry.path, entry.item][0] for entry in entries])


def _refuse_bad(entries: List[MapEntry], found: Dict[Any, Tuple[str, Optional[str]]],
                map_file: Path) -> None:
    bad = [entry for entry in entries if found[entry.path, entry.item][1] is not None]
    if not bad:
        return
    others = " (%d more cannot be used either)" % (len(bad) - 1) if len(bad) > 1 else ""
    raise DataError("%s: %s %s%s" % (place(map_file, bad[0].line), bad[0].name,
                                     found[bad[0].path, bad[0].item][1], others))


def _examine(entries: List[MapEntry], threads: Optional[int]) -> Iterable[Any]:
    """Pairs of an entry and what ``_examined`` says of it. Blocks, so that Ctrl-C is soon heard."""
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for begin in range(0, len(entries), BLOCK):
            block = entries[begin:begin + BLOCK]
            yield from zip(block, pool.map(_examined, block))


def _examined(entry: MapEntry) -> Tuple[Optional[List[Any]], str, Optional[str]]:
    """What the file was when it was looked at, its SHA-256, and why it cannot be used."""
    seen = None
    try:
        status = os.stat(str(entry.path))
        if entry.item is None:
            if status.st_size > LARGEST_FILE:
                return None, "", ("has %d bytes, more than is decoded: scale it down"
                                  % status.st_size)
            if time.time() - max(status.st_mtime, status.st_ctime) > SETTLED:
                seen = _identity(status)
        content = entry.read()
    except (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile,
            zlib.error) as error:  # the last five: of zip files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return None, "", "cannot be read (%s): restore it or delete the line" % reason
    return seen, hashlib.sha256(content).hexdigest(), refusal(content)


def _identity(status: os.stat_result) -> List[Any]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _told(results: Iterable[Any], total: int) -> Iterable[Any]:
    """The same, with a line on stderr where it takes longer than two seconds."""
    begin = shown = time.time()
    for done, result in enumerate(results, 1):
        now = time.time()
        if now - shown > 2:
            left = (now - begin) / done * (total - done)
            sys.stderr.write("checked %d of %d images, %.0f s left\n" % (done, total, left))
            sys.stderr.flush()
            shown = now
        yield result


def _bytes(path: AnyPath) -> str:
    """A path's bytes as JSON takes them: the same in any locale."""
    return os.fsencode(str(path)).decode("latin-1")


class _Memory:
    """What was found good, a file for each folder of images."""

    def __init__(self, folder: Optional[Path]) -> None:
        self.folder = folder
        self.folders: Dict[Path, _Known] = {}
        self.changed: Set[Path] = set()

    def _file(self, images: Path) -> Path:
        assert self.folder is not None
        name = hashlib.sha256(os.fsencode(str(images))).hexdigest()[:32]
        return self.folder / (name + ".json")

    def _read(self, images: Path) -> _Known:
        if self.folder is None:
            return {}
        try:
            with self._file(images).open(encoding="ascii") as file:
                kept = json.load(file)
            if kept["rules"] == RULES and kept["folder"] == _bytes(images):
                return {str(name): list(value) for name, value in kept["images"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # there is none, or it is another program's: the images are looked at
        return {}

    def hash_of(self, entry: MapEntry) -> Optional[str]:
        """The SHA-256 of a file that was good and has not changed since."""
        if entry.item is not None:
            return None
        folder = entry.path.parent
        if folder not in self.folders:
            self.folders[folder] = self._read(folder)
        kept = self.folders[folder].get(_bytes(entry.path.name))
        try:
            if kept is None or kept[:-1] != _identity(os.stat(str(entry.path))):
                return None
        except OSError:
            return None
        return str(kept[-1])

    def note(self, entry: MapEntry, seen: List[Any], digest: str) -> None:
        folder = entry.path.parent
        self.folders.setdefault(folder, {})[_bytes(entry.path.name)] = seen + [digest]
        self.changed.add(folder)

    def write(self) -> None:
        if self.folder is None:
            return
        for images in self.changed:
            # What another process found meanwhile is kept.
            kept = dict(self._read(images), **self.folders[images])
            try:
                with written_whole(self._file(images)) as part, \
                        part.open("w", encoding="ascii") as file:
                    json.dump({"rules": RULES, "folder": _bytes(images), "images": kept}, file)
            except OSError:
                return  # nothing is remembered, and nothing is lost
        if self.changed:
            self._forget_what_is_gone()

    def _forget_what_is_gone(self) -> None:
        """Removes what is remembered of folders that are no more, such as temporary ones."""
        assert self.folder is not None
        for path in self.folder.glob("*.json"):
            try:
                with path.open(encoding="ascii") as file:
                    head = file.read(8192)
                found = json.JSONDecoder().raw_decode(head[head.index('"folder": ') + 10:])[0]
                if not os.path.isdir(found.encode("latin-1")):
                    path.unlink()
            except (OSError, ValueError, AttributeError):
                continue
