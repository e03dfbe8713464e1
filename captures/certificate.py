"""What a reference computed, as hashes: a capture in a few hundred kilobytes. Python 3.6 and numpy.

A certificate is recorded once from a capture of real CNTK. Later, another program makes the arrays
again (the exact port does, from the plan alone), and the certificate says of every array whether it
is CNTK's: by its bits where they can be had, by some of its values and its moments where not.

One file a plan, a zip archive of three members:

    certificate.json   format, plan, what made it and where, facts; each array's type, shape,
                       SHA-256, moments and number of values; each attached file's size, SHA-256
                       and pieces
    values.bin         the kept values, array after array, little-endian, as the array holds them
    pieces.bin         what of the attached files is in no array

The archive's comment is the SHA-256 of all before it, so a byte that changed is found wherever it
is. (Certificates from before 2026-11-28 may have none.)

Values. An array of at most ``SMALL`` values is kept whole; of a larger one ``values`` are kept, at
places that follow from the plan's seed and the array's name (``places``), drawn with replacement:
if k of its n values are wrong, all are missed with probability (1 - k/n)^values (``missed``).

Moments: mean, root mean square, smallest and largest, in float64, to nine digits; NaN, which a few
arrays may hold (``captures.names``), is left out of them.

Attached files. CNTK's model and ONNX files hold the weights as they lie in memory, 76 MB, and
some kilobytes around them. A file is kept as pieces: a number of bytes of ``pieces.bin``, or the
name of the array whose bytes come next; so it can be put together again where the arrays are.

Recording a capture twice gives the same bytes: members carry no time, keys are sorted.
"""
import collections
import hashlib
import io
import json
import os
import stat
import zipfile
import zlib
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from captures.errors import CaptureError, short
from captures.facts import FACTS, Either, Keys, matches
from captures.files import strict_json
from captures.machine import unlike
from captures.names import may_have_gaps
from captures.plan import check_inputs

FORMAT = 1
SMALL = 256
VALUES = 200  # kept of a larger array
SHORTEST = 64  # bytes of an array that are looked for in an attached file
LARGEST_FILE = 32 * 2 ** 20  # of a certificate
LARGEST_MEMBER = 64 * 2 ** 20  # unpacked; of its JSON, as of any (captures/files.py)
LARGEST_ARRAY = 2 ** 62  # values
MEMBERS = ("certificate.json", "values.bin", "pieces.bin")
DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool")

_NO_COMMENT = b"PK\x05\x06"  # what the last 22 bytes of an archive without one begin with
# Of certificate.json; docs/certificate.schema.json says it for others.
_FORM = Keys({
    "format": int, "plan_hash": str, "plan": {str: Either((int, str))},
    "made_by": dict, "values": int, "facts": dict, "order": [str],
    "arrays": {str: Keys({"dtype": str, "shape": [int], "sha256": str, "moments": [float]})},
    "attached": {str: Keys({"size": int, "sha256": str,
                            "pieces": [Either((int, str))]})}})

Piece = Union[int, str]  # so many bytes, or an array's name
Entry = Dict[str, Any]


class CertificateError(CaptureError):
    """A certificate that is not there, not whole, changed, or of another plan."""


class Found(NamedTuple):
    """How an array compares with its certificate. bits: they are the same. compared: how many
    values were compared where not. differing: how many of these differ. largest: the largest
    difference among them, as a part of the array's root mean square. moments: the largest
    difference of a moment, likewise."""

    bits: bool
    compared: int
    differing: int
    largest: float
    moments: float


def places(name: str, size: int, seed: int, values: int) -> np.ndarray:
    """Flat indices of the kept values of an array, int64. The same in every version of numpy."""
    if size <= max(SMALL, values):
        return np.arange(size)
    random = np.random.RandomState((seed + zlib.crc32(name.encode("utf-8"))) % 2 ** 32)
    return np.asarray(random.randint(0, size, values), np.int64)


def missed(size: int, kept: int, wrong: int) -> float:
    """The probability that none of ``wrong`` wrong values of ``size`` is among those kept."""
    return 0.0 if kept >= size else (1.0 - wrong / float(size)) ** kept


def moments(array: np.ndarray) -> List[float]:
    """Mean, root mean square, smallest, largest, of what is a number."""
    flat = np.ravel(array).astype(np.float64)
    if np.isnan(flat).any():
        flat = flat[~np.isnan(flat)]
    if not flat.size:
        return [0.0, 0.0, 0.0, 0.0]
    mean_square = float(np.mean(flat * flat))
    return [float("%.9g" % value) for value in
            (float(flat.mean()), mean_square ** 0.5, float(flat.min()), float(flat.max()))]


def sha256_of(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


# --------------------------------------------------------------------------------- attached files


def pieces_of(data: bytes, arrays: Mapping[str, np.ndarray]) -> Tuple[List[Piece], bytes]:
    """(pieces, the bytes that are in no array) of an attached file."""
    spans = []  # type: List[Tuple[int, int, str]]
    for name in arrays:
        raw = np.ascontiguousarray(arrays[name]).tobytes()
        at = data.find(raw) if len(raw) >= SHORTEST else -1
        if at >= 0:
            spans.append((at, at + len(raw), name))
    pieces, rest, end = [], [], 0  # type: List[Piece], List[bytes], int
    for begin, stop, name in sorted(spans):
        if begin < end:
            continue  # an array of zeros is found inside another
        if begin > end:
            pieces.append(begin - end)
            rest.append(data[end:begin])
        pieces.append(name)
        end = stop
    if end < len(data):
        pieces.append(len(data) - end)
        rest.append(data[end:])
    return pieces, b"".join(rest)


def put_together(pieces: List[Piece], rest: bytes, arrays: Mapping[str, np.ndarray]) -> bytes:
    """The attached file again."""
    made, at = [], 0
    for piece in pieces:
        if isinstance(piece, int):
            made.append(rest[at:at + piece])
            at += piece
        else:
            made.append(np.ascontiguousarray(arrays[piece]).tobytes())
    return b"".join(made)


# ------------------------------------------------------------------------------------- recording


def recorded(arrays: Mapping[str, np.ndarray], files: Mapping[str, str], plan: Mapping[str, Any],
             plan_hash: str, made_by: Mapping[str, Any], facts: Mapping[str, Any],
             values: int = VALUES, ordered: bool = False) -> bytes:
    """A certificate's bytes.

    ordered: the arrays' order is kept too, which is that of the run.

    arrays: a capture's, by name. files: name of an attached file to its path. plan: its inputs.
    made_by: producer, versions, machine, threads, date: what stands in for the capture's manifest.
    """
    entries, kept = collections.OrderedDict(), []
    seed = int(plan["seed"])
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        if str(array.dtype) not in DTYPES:
            raise CertificateError("%s is of %s: a certificate holds %s"
                                   % (name, array.dtype, ", ".join(DTYPES)))
        chosen = array.ravel()[places(name, array.size, seed, values)]
        entries[name] = collections.OrderedDict([
            ("dtype", str(array.dtype)), ("shape", list(np.shape(arrays[name]))),
            ("sha256", sha256_of(array)), ("moments", moments(array))])
        kept.append(chosen.astype(chosen.dtype.newbyteorder("<")).tobytes())
    attached, rests = collections.OrderedDict(), []
    state = {name: np.asarray(arrays[name]) for name in arrays if name.startswith("state/")}
    for name in sorted(files):
        with open(files[name], "rb") as file:
            data = file.read()
        pieces, rest = pieces_of(data, state)
        attached[name] = collections.OrderedDict([
            ("size", len(data)), ("sha256", hashlib.sha256(data).hexdigest()), ("pieces", pieces)])
        rests.append(rest)
    head = collections.OrderedDict([
        ("format", FORMAT), ("plan_hash", plan_hash), ("plan", dict(plan)),
        ("made_by", dict(made_by)), ("values", values), ("facts", dict(facts)),
        ("arrays", entries), ("attached", attached)])
    if ordered:
        head["order"] = list(arrays)
    text = json.dumps(head, sort_keys=True, separators=(",", ":"), allow_nan=False)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in zip(MEMBERS, (text.encode("ascii"), b"".join(kept), b"".join(rests))):
            archive.writestr(zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0)), data,
                             zipfile.ZIP_DEFLATED)
    return sealed(made.getvalue())


def sealed(archive: bytes) -> bytes:
    """An archive without a comment, with the hash of all before it as its comment."""
    whole = archive[:-2] + (64).to_bytes(2, "little")
    return whole + hashlib.sha256(whole).hexdigest().encode("ascii")


def is_sealed(data: bytes) -> bool:
    return hashlib.sha256(data[:-64]).hexdigest().encode("ascii") == data[-64:]


# --------------------------------------------------------------------------------------- reading


class Certificate:
    """A certificate that was read and found whole.

    Raises CertificateError: not there, not an archive of the three members, of another format,
    larger than any certificate, or of contents that do not fit each other.
    """

    def __init__(self, path: str) -> None:
        self.path = str(path)
        try:
            head, self._values, self._pieces = self._members(self._content())
            known = head.get("format") if isinstance(head, dict) else None
            if type(known) is int and known != FORMAT:
                raise CertificateError("%s is of format %s, this program reads %d: record it again "
                                       "with `make golden`" % (path, short(known), FORMAT))
            self._take(head)
        except CertificateError:
            raise
        except OSError as error:
            raise CertificateError("certificate %s cannot be read (%s): restore it, or record it "
                                   "again with `make golden`" % (self.path, short(error)))
        except Exception as error:  # zipfile and zlib have no common base of errors
            raise CertificateError("%s is not a certificate, or is damaged (%s): restore it, or "
                                   "record it again with `make golden`" % (self.path, short(error)))

    def _content(self) -> bytes:
        if not stat.S_ISREG(os.stat(self.path).st_mode):
            raise ValueError("it is no file")  # a pipe, say, would be waited for
        with open(self.path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise ValueError("it is larger than %d MB" % (LARGEST_FILE // 2 ** 20))
        if not is_sealed(data) and data[-22:-18] != _NO_COMMENT:
            raise ValueError("it is not what it was when it was recorded")
        return data

    @staticmethod
    def _members(data: bytes) -> Tuple[Any, bytes, bytes]:
        found = []
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sorted(archive.namelist()) != sorted(MEMBERS):
                raise ValueError("it holds %s" % ", ".join(archive.namelist()[:5]))
            for member in MEMBERS:
                if archive.getinfo(member).file_size > LARGEST_MEMBER:
                    raise ValueError("its %s says it is larger than %d MB"
                                     % (member, LARGEST_MEMBER // 2 ** 20))
                with archive.open(member) as file:
                    found.append(file.read(LARGEST_MEMBER + 1))
        return strict_json(found[0]), found[1], found[2]

    def _take(self, head: Any) -> None:
        if isinstance(head, dict):
            head.setdefault("order", [])
        for name, form in _FORM.of.items():
            if not isinstance(head, dict) or name not in head or not (
                    isinstance(head[name], dict) if form is dict else matches(head[name], form)):
                raise ValueError("its %s is missing or of another form" % name)
        check_inputs(head["plan"])
        for name in head["facts"]:
            if name not in FACTS or not matches(head["facts"][name], FACTS[name].form):
                raise ValueError("the fact %.40s is unknown or of another form" % name)
        other = unlike(head["made_by"])
        if other or not 0 <= head["values"] <= 2 ** 20:
            raise ValueError("%s is of another form" % (other or "values"))
        self.plan = head["plan"]  # type: Dict[str, Any]
        self.plan_hash = head["plan_hash"]  # type: str
        self.made_by = head["made_by"]  # type: Dict[str, Any]
        self.facts = head["facts"]  # type: Dict[str, Any]
        self.values = head["values"]  # type: int
        self.entries = head["arrays"]  # type: Dict[str, Entry]
        self.order = head["order"] or sorted(self.entries)  # type: List[str]
        if sorted(self.order) != sorted(self.entries):
            raise ValueError("its order is not of its arrays")
        self.attached = head["attached"]  # type: Dict[str, Entry]
        self._at = self._offsets()
        self._check_values()
        self._check_attached()

    def _offsets(self) -> Dict[str, Tuple[int, int]]:
        """Name to (first byte, number of values) in values.bin."""
        made, at = {}, 0
        for name in sorted(self.entries):
            entry = self.entries[name]
            if entry["dtype"] not in DTYPES:
                raise ValueError("%s is of %s" % (name, entry["dtype"]))
            size = 1
            for side in entry["shape"]:
                size *= side
                if side < 0 or size >= LARGEST_ARRAY or len(entry["shape"]) > 32:
                    raise ValueError("%s has the shape %s" % (name, entry["shape"]))
            if len(entry["sha256"]) != 64 or len(entry["moments"]) != 4 \
                    or entry["moments"][1] < 0 or entry["moments"][2] > entry["moments"][3]:
                raise ValueError("the entry of %s is not whole" % name)
            count = size if size <= max(SMALL, self.values) else self.values
            made[name] = (at, count)
            at += count * np.dtype(entry["dtype"]).itemsize
        if at != len(self._values):
            raise ValueError("values.bin has %d bytes, the entries ask for %d"
                             % (len(self._values), at))
        return made

    def _check_values(self) -> None:
        for name in self.entries:
            kept = self.kept(name)
            if kept.dtype.kind == "f" and not np.isfinite(kept).all() and (
                    np.isinf(kept).any() or not may_have_gaps(name)):
                raise ValueError("%s holds NaN or infinity" % name)

    def _check_attached(self) -> None:
        literal = 0
        for name, entry in self.attached.items():
            if os.path.basename(name) != name or name in ("", ".", ".."):
                raise ValueError("%r is no name of an attached file" % name)
            for piece in entry["pieces"]:
                if isinstance(piece, int) and not isinstance(piece, bool) and piece >= 0:
                    literal += piece
                elif piece not in self.entries:
                    raise ValueError("%s is made of %r, which is no array" % (name, piece))
        if literal != len(self._pieces):
            raise ValueError("pieces.bin has %d bytes, the files ask for %d"
                             % (len(self._pieces), literal))

    def __iter__(self) -> Iterator[str]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def kept(self, name: str) -> np.ndarray:
        """The kept values of an array."""
        at, count = self._at[name]
        dtype = np.dtype(self.entries[name]["dtype"]).newbyteorder("<")
        return np.frombuffer(self._values, dtype, count, at).astype(dtype.newbyteorder("="))

    def is_whole(self, name: str) -> bool:
        """Whether every value of the array is kept."""
        size = 1
        for side in self.entries[name]["shape"]:
            size *= side
        return self._at[name][1] == size and size <= max(SMALL, self.values)

    def compare(self, name: str, array: np.ndarray) -> Optional[Found]:
        """None where the array is of another type or shape."""
        entry = self.entries[name]
        if str(array.dtype) != entry["dtype"] or list(np.shape(array)) != list(entry["shape"]):
            return None
        if sha256_of(array) == entry["sha256"]:
            return Found(True, int(array.size), 0, 0.0, 0.0)
        kept = self.kept(name)
        ours = np.ravel(array)[places(name, array.size, int(self.plan["seed"]), self.values)]
        unsigned = "u%d" % kept.dtype.itemsize
        other = ours.view(unsigned) != kept.view(unsigned)
        apart = np.abs(np.where(other, ours.astype(np.float64) - kept, 0.0))
        apart[np.isnan(apart)] = np.inf  # no number, on one side
        size = entry["moments"][1] or 1.0
        gone = max(abs(a - b) for a, b in zip(moments(array), entry["moments"])) / size
        largest = float(apart.max()) / size if apart.size else 0.0
        return Found(False, int(kept.size), int(np.count_nonzero(other)), largest, gone)

    def file(self, name: str, arrays: Mapping[str, np.ndarray]) -> bytes:
        """An attached file, put together from the arrays. Raises CertificateError: it is not the
        recorded one, so the arrays are others."""
        at = 0
        for other in sorted(self.attached):
            pieces = self.attached[other]["pieces"]
            length = sum(piece for piece in pieces if isinstance(piece, int))
            if other == name:
                made = put_together(pieces, self._pieces[at:at + length], arrays)
                if hashlib.sha256(made).hexdigest() != self.attached[name]["sha256"]:
                    raise CertificateError("%s cannot be put together: the weights are not those "
                                           "of the certificate %s" % (name, self.path))
                return made
            at += length
        raise CertificateError("the certificate %s has no %s" % (self.path, name))
