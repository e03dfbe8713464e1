"""A capture on disk: a folder with named arrays, attached files and a manifest.

    manifest.json          what made it, of which plan and networks; each file's size and checksum
    arrays/000123.npy      one array each, read when it is asked for
    generator.model        an attached file

Names are ``stage/.../network/layer/quantity``, the same in every framework, for example
``forward/training/NETWORK/conv3/output``. A folder is written beside its place and renamed when it
is whole: a capture that was there before stays until then. It refers to nothing outside itself, so
it can be moved, packed and judged elsewhere. Nothing is pickled; no link is followed.

Checksums: SHA-256 of each attached file, CRC-32 of each array's bytes, both compared when the thing
is read. CRC-32 shows every damage and every edit that is not made to deceive; measured in CNTK's
Python 3.6, which has no OpenSSL, it runs at 930 MB/s and SHA-256 at 60, and a capture has a few GB
of arrays. Plain Python 3.6 and numpy.
"""
import collections
import collections.abc
import functools
import hashlib
import operator
import os
import re
import shutil
import stat
import threading
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Type, TypeVar

import numpy as np

from captures.errors import CaptureError, DamageError, SpecError, short
from captures.facts import FACTS, matches, written_by
from captures.files import AnyPath, folder_whole, read_json, save_array, write_json
from captures.machine import described, unlike
from captures.names import may_have_gaps
from captures.plan import Plan, check_inputs, hash_of
from captures.spec import Spec

MANIFEST = "manifest.json"
FORMAT = 2  # 1 had no checksums, no attached files and no networks in its manifest

_ARRAY = re.compile(r"arrays/[0-9]{6}\.npy")
_ATTACHED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_NAME = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_.]+)*")
_DTYPE = re.compile(r"(float|u?int)[0-9]{1,3}|bool")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"format": int, "producer": str, "plan_hash": str, "plan": dict, "network": dict,
           "versions": dict, "threads": int, "machine": dict, "facts": dict, "arrays": dict,
           "attached": dict}


class ArrayEntry(NamedTuple):
    file: str
    shape: Tuple[int, ...]
    dtype: str
    crc32: int


class AttachedEntry(NamedTuple):
    size: int
    sha256: str


Writer = TypeVar("Writer", bound="CaptureWriter")


class CaptureWriter:
    """Collects arrays into a new folder. ``with CaptureWriter(...) as w: w.add(name, array)``.

    producer: "cntk", "port", ... job: which of its jobs. versions: of the framework and its
    packages. folder: where it is written for now; files that are to be attached go there. An
    exception inside leaves what was there before.
    """

    def __init__(self, folder: AnyPath, producer: str, plan: Plan, versions: Mapping[str, str],
                 threads: int, job: str = "layers") -> None:
        self.producer, self.job = producer, job
        self.folder = self._final = str(folder)
        self._arrays: Dict[str, ArrayEntry] = collections.OrderedDict()
        self._attached: Dict[str, AttachedEntry] = collections.OrderedDict()
        self._facts: Dict[str, Any] = collections.OrderedDict()
        self._hashing: List[_Hashing] = []
        self._whole = folder_whole(folder)
        self._begun: Dict[str, Any] = collections.OrderedDict([
            ("format", FORMAT), ("producer", producer), ("plan_hash", plan.hash),
            ("plan", plan.inputs), ("network", plan.spec.data), ("versions", dict(versions)),
            ("threads", threads), ("machine", dict(described(producer), numpy=np.__version__))])

    def __enter__(self: Writer) -> Writer:
        self.folder = str(self._whole.__enter__())
        os.mkdir(os.path.join(self.folder, "arrays"))
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Any) -> None:
        if kind is None:
            try:
                self.fact("job", self.job)
                self._write_manifest()
            except BaseException as failed:
                self._whole.__exit__(type(failed), failed, failed.__traceback__)
                raise
        self._whole.__exit__(kind, error, trace)
        self.folder = self._final

    def add(self, name: str, array: Any) -> None:
        """Adds one array; a name may be given once. Scalars become arrays of shape ().

        Raises CaptureError: a name twice or not of the grammar, an array that is not of numbers.
        """
        if name in self._arrays:
            raise CaptureError("%s is captured twice" % name)
        if not _NAME.fullmatch(name):
            raise CaptureError("an array is named %r: names are stage/network/layer/quantity"
                               % name)
        held = np.asarray(array)
        if held.dtype.kind not in "fiub":
            raise CaptureError("%s is an array of %s, not of numbers" % (name, held.dtype))
        held = np.ascontiguousarray(held).reshape(held.shape)
        file = "arrays/%06d.npy" % len(self._arrays)
        save_array(os.path.join(self.folder, file), held)
        self._arrays[name] = ArrayEntry(file, held.shape, str(held.dtype), checksum(held))

    def read_again(self, name: str) -> np.ndarray:
        """An array that was added, as it lies in its file. Raises KeyError: it was not."""
        file = os.path.join(self.folder, self._arrays[name].file)
        made: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
        return made

    def fact(self, name: str, value: Any) -> None:
        """Something that is no array, ready for JSON. Raises CaptureError: ``captures.facts`` does
        not say that this producer writes it in this job, or it is of another form."""
        if not written_by(name, self.producer, self.job):
            raise CaptureError("the fact %s is not one that %s writes in the job %s: say so in "
                               "captures/facts.py" % (name, self.producer, self.job))
        if not matches(value, FACTS[name].form):
            raise CaptureError("the fact %s is not of its form (%s)" % (name, FACTS[name].what))
        self._facts[name] = value

    def attach(self, path: AnyPath) -> None:
        """A file, which is taken into the capture if it does not lie there already. It is hashed
        beside what is done next, so it must not change any more.

        Raises CaptureError: two files of one name, or a name that is none.
        """
        given = Path(str(path))
        name = given.name
        # Some systems' names are blind to case.
        taken = {one.lower() for one in (MANIFEST, "arrays", *self._attached)}
        if name.lower() in taken or not _ATTACHED.fullmatch(name):
            raise CaptureError("%s cannot be attached under this name" % given)
        place = Path(self.folder) / name
        if place != given:
            shutil.copyfile(str(given), str(place))
        self._attached[name] = AttachedEntry(0, "")
        self._hashing.append(_Hashing(place))

    def keep(self) -> None:
        """Makes what there is so far a capture that can be read, should the process be killed: it
        says so in its fact "unfinished"."""
        self.fact("unfinished", True)
        self._write_manifest()
        del self._facts["unfinished"]

    def _write_manifest(self) -> None:
        for one in self._hashing:
            self._attached[one.path.name] = one.result()
        manifest = dict(self._begun)
        manifest["facts"] = self._facts
        manifest["arrays"] = {name: entry._asdict() for name, entry in self._arrays.items()}
        manifest["attached"] = {name: entry._asdict() for name, entry in self._attached.items()}
        write_json(os.path.join(self.folder, MANIFEST), manifest)


class _Hashing(threading.Thread):
    """A file's size and hash, on a thread of its own: hashlib lets the others run."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self._made: Optional[AttachedEntry] = None
        self._failed: Optional[OSError] = None
        self.start()

    def run(self) -> None:
        try:
            self._made = hashed(self.path)
        except OSError as error:
            self._failed = error

    def result(self) -> AttachedEntry:
        self.join()
        if self._failed is not None:
            raise self._failed
        assert self._made is not None
        return self._made


def checksum(array: np.ndarray) -> int:
    """CRC-32 of a contiguous array's bytes."""
    return zlib.crc32(array.reshape(-1).view(np.uint8).data) & 0xFFFFFFFF


def hashed(path: Path) -> AttachedEntry:
    """Raises OSError."""
    content = path.read_bytes()
    return AttachedEntry(len(content), hashlib.sha256(content).hexdigest())


class Capture(Mapping[str, np.ndarray]):
    """Name to array, read when asked for. ``facts``, ``producer``, ``spec``, ...: of the manifest.

    Raises CaptureError: no capture there, not finished, of another format, a manifest that was cut
    off or edited; an array with NaN. DamageError: an array or attached file that is missing, a
    link, of another size or content; the first stays in ``damage``, whoever caught it.
    """

    damage: Optional[DamageError] = None

    def __init__(self, folder: AnyPath) -> None:
        self.folder = str(folder)
        path = os.path.join(self.folder, MANIFEST)
        try:
            _require_file(Path(path))
            self.manifest: Dict[str, Any] = read_json(path)
        except OSError as error:
            raise CaptureError("there is no whole capture in %s (%s): run the comparison again, "
                               "which makes it" % (self.folder, error.strerror))
        except ValueError as error:
            raise CaptureError("%s is not a capture's manifest (%s): remove the folder and run "
                               "again" % (path, short(error)))
        known = self.manifest.get("format") if isinstance(self.manifest, dict) else None
        if type(known) is not int:
            raise CaptureError("%s is not a capture's manifest (no format): remove the folder and "
                               "run again" % path)
        if known != FORMAT:
            raise CaptureError("%s is of format %s, this program reads %d: make it again"
                               % (path, short(known), FORMAT))
        try:
            self._take()
        except (KeyError, TypeError, ValueError, SpecError) as error:
            raise CaptureError("%s is not a capture's manifest (%s): remove the folder and run "
                               "again" % (path, short(error)))

    def _take(self) -> None:
        for name, kind in _FIELDS.items():
            if not isinstance(self.manifest.get(name), kind):
                raise ValueError("%s is missing or of another type" % name)
        self.producer: str = self.manifest["producer"]
        self.plan_hash: str = self.manifest["plan_hash"]
        self.facts: Dict[str, Any] = self.manifest["facts"]
        self.spec = Spec.of_data(self.manifest["network"])
        check_inputs(self.manifest["plan"])
        other = unlike(self.manifest)
        if other:
            raise ValueError("%s is of another form" % other)
        if self.manifest["plan"].get("network_sha256") != self.spec.sha256:
            raise ValueError("its networks are not those of its plan")
        if self.plan_hash != hash_of(self.manifest["plan"]):
            raise ValueError("its plan_hash is not its plan's")
        for name, value in self.facts.items():
            if name not in FACTS or not matches(value, FACTS[name].form):
                raise ValueError("the fact %s is unknown or of another form" % name)
        self.entries: Dict[str, ArrayEntry] = collections.OrderedDict(
            (name, _array_entry(name, entry)) for name, entry in self.manifest["arrays"].items()
        )
        files = {entry.file for entry in self.entries.values()}
        if len(files) != len(self.entries):
            raise ValueError("two arrays have one file")
        self.attached = {name: _attached_entry(name, entry)
                         for name, entry in self.manifest["attached"].items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def shape(self, name: str) -> Tuple[int, ...]:
        return self._entry(name).shape

    def _entry(self, name: str) -> ArrayEntry:
        if name not in self.entries:
            raise CaptureError("the capture %s has no %s: make it again" % (self.folder, name))
        return self.entries[name]

    def as_it_is(self, name: str) -> np.ndarray:
        """The array, NaN and infinity too."""
        entry = self._entry(name)
        try:
            return _read_array(Path(self.folder), entry)
        except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:
            raise self._damaged(name, error)

    def _damaged(self, name: str, error: object = None) -> DamageError:
        made = DamageError("%s of the capture %s %s: make the capture again" % (
            name, self.folder, "is not what it was when the capture was made" if error is None
            else "cannot be read (%s)" % short(error)))
        self.damage = self.damage or made
        return made

    def require_whole(self) -> None:
        """Raises DamageError: an attached file is not what it was, or an array's file is not there
        or not as large as its shape. (What an array holds is compared when it is read.)"""
        folder = Path(self.folder)
        for name, entry in self.entries.items():
            try:
                _refuse_size(folder / entry.file, entry)
            except (OSError, ValueError) as error:
                raise self._damaged(name, error)
        for name in self.attached:
            self.attachment(name)

    def __getitem__(self, name: str) -> np.ndarray:
        array = self.as_it_is(name)
        if array.dtype.kind == "f" and not np.isfinite(array).all() and not (
                may_have_gaps(name) and not np.isinf(array).any()):
            bad = int(np.argmin(np.isfinite(array).ravel()))
            raise CaptureError("%s of the capture %s holds NaN or infinity (first at flat index "
                               "%d): look at what made it" % (name, self.folder, bad))
        return array

    def attachment(self, name: str) -> Path:
        """The attached file, after its size and hash were compared with the manifest's."""
        path = Path(self.folder) / name
        if name not in self.attached:
            raise CaptureError("the capture %s has no file %s: make it again"
                               % (self.folder, name))
        try:
            _require_file(path)
            same = path.stat().st_size == self.attached[name].size \
                and hashed(path) == self.attached[name]
        except (OSError, ValueError) as error:
            raise self._damaged(name, error)
        if not same:
            raise self._damaged(name)
        return path

    def checksum(self, name: str) -> str:
        """Of an array or an attached file, as the manifest has it; "" where there is none."""
        if name in self.entries:
            return "%08x" % self.entries[name].crc32
        return self.attached[name].sha256 if name in self.attached else ""

    def names(self, prefix: str) -> List[str]:
        """The names that begin with ``prefix/``, in order of capture, without it."""
        prefix = prefix.rstrip("/") + "/"
        return [name[len(prefix):] for name in self.entries if name.startswith(prefix)]


def _array_entry(name: str, entry: Any) -> ArrayEntry:
    """Raises ValueError, KeyError, TypeError: edited by hand."""
    made = ArrayEntry(**_fields(name, entry, ArrayEntry._fields))
    shape = made.shape
    if not _NAME.fullmatch(name) or not isinstance(made.file, str) \
            or not _ARRAY.fullmatch(made.file):
        raise ValueError("the array %.80r lies in %.80r, which is no place inside the capture"
                         % (name, made.file))
    if not isinstance(shape, list) or len(shape) > 32 or not all(
            type(size) is int and 0 <= size < 2 ** 40 for size in shape) \
            or not isinstance(made.dtype, str) or not _DTYPE.fullmatch(made.dtype) \
            or type(made.crc32) is not int:
        raise ValueError("%s is described in another way" % name)
    return made._replace(shape=tuple(shape))


def _fields(name: str, entry: Any, wanted: Tuple[str, ...]) -> Dict[str, Any]:
    """Raises ValueError: not a dictionary of just these."""
    if not isinstance(entry, dict) or set(entry) != set(wanted):
        raise ValueError("%.80r is not described by %s" % (name, ", ".join(wanted)))
    return entry


def _attached_entry(name: str, entry: Any) -> AttachedEntry:
    made = AttachedEntry(**_fields(name, entry, AttachedEntry._fields))
    if not _ATTACHED.fullmatch(name):
        raise ValueError("the file %.80r is no place inside the capture" % name)
    if type(made.size) is not int or not isinstance(made.sha256, str) \
            or not _SHA256.fullmatch(made.sha256):
        raise ValueError("%s is described in another way" % name)
    return made


def _refuse_size(path: Path, entry: ArrayEntry) -> None:
    """Raises OSError, ValueError: the file is not as large as the array with its header."""
    _refuse_link(path.parent)
    _require_file(path)
    size = functools.reduce(operator.mul, entry.shape, np.dtype(entry.dtype).itemsize)
    with open(str(path), "rb") as file:
        begin = file.read(10)  # numpy's format 1.0: the last two bytes are the length of the rest
        held = os.fstat(file.fileno()).st_size
    if len(begin) < 10 or held != 10 + int.from_bytes(begin[8:], "little") + size:
        raise ValueError("it is cut off, or more than its manifest says")


def _read_array(folder: Path, entry: ArrayEntry) -> np.ndarray:
    """Raises OSError, ValueError, EOFError, SyntaxError: not the array that the entry describes."""
    path = folder / entry.file
    _refuse_link(path.parent)
    _require_file(path)
    with open(str(path), "rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("not numpy's format 1.0")
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != entry.shape or str(dtype) != entry.dtype or by_column:
            raise ValueError("it is %s %s, its manifest says %s %s"
                             % (dtype, shape, entry.dtype, entry.shape))
        size = dtype.itemsize * int(np.prod(shape, dtype=np.float64))
        if os.fstat(file.fileno()).st_size != file.tell() + size:
            raise ValueError("it is cut off, or more than its manifest says")
        array = np.fromfile(file, dtype, size // dtype.itemsize).reshape(shape)
    if checksum(array) != entry.crc32:
        raise ValueError("it is not what it was when the capture was made")
    return array


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise ValueError("%s is a link: a capture holds its files itself" % path.name)


def _require_file(path: Path) -> None:
    """Raises OSError, ValueError: not there, a link, or no file: a pipe, say, would be waited for.
    """
    _refuse_link(path)
    if not stat.S_ISREG(os.stat(str(path)).st_mode):
        raise ValueError("%s is no file" % path.name)


def require_same_plan(*captures: Capture) -> None:
    """Raises CaptureError where two captures are of different plans."""
    for other in captures[1:]:
        if other.plan_hash != captures[0].plan_hash:
            ours, theirs = captures[0].manifest["plan"], other.manifest["plan"]
            differing = ", ".join("%s %s and %s" % (name, ours[name], theirs.get(name))
                                  for name in ours if ours[name] != theirs.get(name))
            raise CaptureError("the captures %s and %s are of different plans (%s): compare "
                               "captures of one plan" % (captures[0].folder, other.folder,
                                                         differing))
