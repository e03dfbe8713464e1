"""CNTK 2's files as a protocol-buffers message: a dictionary of dictionaries, lists and arrays.

    _read(path)    the whole file; a ``ModelFileError`` says what is wrong with one that is none

Each value names its kind (``_DECODERS``); shapes are stored with the fastest index first and come
out reversed, arrays are views of the file's bytes, float32. What is in the dictionaries:
``torch_port/files/model.py``.

Source: microsoft/CNTK, Source/CNTKv2LibraryDll/proto/CNTK.proto.
"""
import struct
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from captures.errors import ParityError

FilePath = str | PathLike[str]
Shape = tuple[int, ...]
Arrays = dict[str, np.ndarray]


class ModelFileError(ParityError):
    """A file that is not what was asked for; one line: what, where, how to mend it."""


# What indexing, unpacking and converting raise where a file holds something else than expected.
_NOT_AS_EXPECTED = (LookupError, TypeError, ValueError, AttributeError, OverflowError)


# ----------------------------------------------------------------------------------- the format


def _read(path: FilePath) -> dict[str, Any]:
    """The whole file: dictionaries, lists, strings, numbers; shapes as tuples, arrays as views."""
    mend = "give the file that CNTK 2.7 wrote"
    try:
        data = memoryview(Path(path).read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): {mend}") from error
    # Version 1 or 2 of CNTK's dictionary, then its first entry; ONNX has its own version there, 3
    # and up, then some field.
    start = bytes(data[:4])
    if start[:1] == b"\x08" and start[1:2] > b"\x02":
        raise ModelFileError(f"{path} is an ONNX file: give the .model file that CNTK 2.7 wrote")
    if start == b"ktnc":
        raise ModelFileError(f"{path} is one of CNTK's files beyond 2 GB, which are laid out "
                             "otherwise: the article's networks need 100 MB")
    if start[:3] not in (b"\x08\x01\x12", b"\x08\x02\x12"):
        raise ModelFileError(f"{path} is no file of CNTK 2: {mend}")
    try:
        return _dictionary(data)
    except _CutOffError as error:
        raise ModelFileError(f"{path} is cut off or damaged (a value goes on behind the end): "
                             "copy it or save it again") from error
    except (*_NOT_AS_EXPECTED, RecursionError, struct.error) as error:
        raise ModelFileError(f"{path} is damaged ({error!r}): copy it or save it again") from error


class _CutOffError(Exception):
    pass


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number, seven bits to a byte and the lowest first, up to a byte below 128; and the place
    behind it."""
    value = 0
    for i, byte in enumerate(data[at:at + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise _CutOffError


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value, an int or the bytes, of every field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, at = _varint(data, at) if key & 7 in (0, 2) else ({1: 8, 5: 4}[key & 7], at)
        if key & 7 == 0:
            yield key >> 3, number
            continue
        if at + number > len(data):
            raise _CutOffError
        yield key >> 3, data[at:at + number]
        at += number


def _dictionary(data: memoryview) -> dict[str, Any]:
    entries = (dict(_fields(entry)) for number, entry in _fields(data) if number == 2)
    return {str(entry[1], "utf-8"): _value(entry[2]) for entry in entries}


def _value(data: memoryview) -> Any:
    """Field 2 tells the kind of value, from 1 to 11; a value of kind k is in field k + 2."""
    parts = dict(_fields(data))
    kind = parts.get(2, 0)
    return _DECODERS[kind - 1](parts[kind + 2]) if kind else None


def _shape(data: memoryview) -> Shape:
    """Packed varints, the fastest index first: here last, as in NumPy."""
    sizes, packed, at = [], dict(_fields(data)).get(1, data[:0]), 0
    while at < len(packed):
        size, at = _varint(packed, at)
        sizes.append(size)
    return tuple(reversed(sizes))


def _array(data: memoryview) -> np.ndarray:
    """A view of the file's bytes; float32 only, as everything in these networks is."""
    parts = dict(_fields(data))
    if 4 not in parts:
        raise ValueError("an array that is not float32")
    numbers = dict(_fields(parts[4])).get(1, b"")
    return np.frombuffer(numbers, "<f4").reshape(_shape(parts[3]))


_DECODERS = (
    bool, int, int,  # bool, int32, uint64; no negative int is of interest here
    lambda data: struct.unpack("<f", data)[0], lambda data: struct.unpack("<d", data)[0],
    lambda data: str(data, "utf-8"), _shape,
    bytes,  # an axis: left as it is
    lambda data: [_value(value) for _, value in _fields(data)], _dictionary, _array,
)
