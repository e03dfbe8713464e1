"""Files are written whole or not at all. The only place that renames. Plain Python 3.6 and numpy.

    with written_whole(path) as part: ...     one file, of whatever program: written at ``part``
    with folder_whole(folder) as part: ...    one folder: the old one stays until the new is whole
    write_bytes, write_text, write_json, save_array
    read_json(path)                           strict: no NaN, no file beyond a size

Everything is written under a temporary name beside its own and renamed, so whoever looks sees the
old content or the new, never half of it; what an interrupted program leaves behind is called
``*.part*`` and is replaced by the next one.
"""
import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Iterator, Mapping, Union

import numpy as np

from captures.system import to_disk

AnyPath = Union[str, "os.PathLike[str]"]

LARGEST_JSON = 32 * 2 ** 20  # bytes; a capture of all layers has a manifest of 0.3 MB

LONGEST = 40  # digits of a whole number


def plan_file(folder: AnyPath) -> Path:
    return Path(str(folder)) / "plan.json"


@contextlib.contextmanager
def written_whole(path: AnyPath, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside ``path``, with its suffix, renamed to it when all went well and
    removed when not. Missing folders are made.

    durable: on the disk before it is renamed, so that after a power cut there is the old content or
    the new. (For what is hashed elsewhere, or easily made again, False is faster.)
    """
    whole = Path(str(path))
    whole.parent.mkdir(parents=True, exist_ok=True)
    part = whole.with_name("%s.%d.part%s" % (whole.stem, os.getpid(), whole.suffix))
    try:
        yield part
        if durable:
            to_disk(str(part))
        os.replace(str(part), str(whole))
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def folder_whole(folder: AnyPath) -> Iterator[Path]:
    """A new folder beside ``folder``, which takes its place when all went well; what stood there
    before stays as it was until then, and for good where something went wrong."""
    whole = Path(os.path.abspath(str(folder)))
    part, old = (whole.with_name(whole.name + end) for end in (".part", ".old.part"))
    if old.exists() and not whole.exists():  # killed between the two renames below
        os.replace(str(old), str(whole))
    shutil.rmtree(str(part), ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(str(old), ignore_errors=True)
        if whole.exists():
            os.replace(str(whole), str(old))
        os.replace(str(part), str(whole))
        shutil.rmtree(str(old), ignore_errors=True)
    finally:
        shutil.rmtree(str(part), ignore_errors=True)


def write_bytes(path: AnyPath, content: bytes, durable: bool = True) -> None:
    with written_whole(path, durable) as part:
        part.write_bytes(content)


def write_text(path: AnyPath, text: str, durable: bool = True) -> None:
    """In UTF-8. (A file name that is none, in a message, keeps its bytes.)"""
    write_bytes(path, text.encode("utf-8", "surrogateescape"), durable)


def save_array(path: AnyPath, array: np.ndarray) -> None:
    """``numpy.save``, nothing pickled."""
    with written_whole(path, durable=False) as part, open(str(part), "wb") as file:
        np.save(file, array, allow_pickle=False)


def strict(value: Any) -> Any:
    """For JSON: numpy's numbers and arrays as Python's, tuples as lists, and what JSON has no
    number for as text: "inf", "-inf", "nan"."""
    if isinstance(value, Mapping):
        return {str(name): strict(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value


def json_text(value: Any, indent: int = 1) -> str:
    """One form for every JSON file here. Raises TypeError: it holds what is no number, text, list,
    dictionary, true, false or null."""
    return json.dumps(strict(value), indent=indent, allow_nan=False) + "\n"


def write_json(path: AnyPath, value: Any, indent: int = 1) -> None:
    write_text(path, json_text(value, indent))


def read_json(path: AnyPath, largest: int = LARGEST_JSON) -> Any:
    """Raises OSError: it cannot be read; ValueError: it is no strict JSON, or beyond ``largest``
    bytes."""
    with open(str(path), "rb") as file:
        return strict_json(file.read(largest + 1), largest)


def strict_json(content: bytes, largest: int = LARGEST_JSON) -> Any:
    """Raises ValueError: it is no strict JSON, or beyond ``largest`` bytes."""
    if len(content) > largest:
        raise ValueError("it is larger than %d MB" % (largest // 2 ** 20))
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refused,
                           parse_float=_finite, parse_int=_whole)
        if b"\\ud" in content.lower():  # half a character, which no report could hold
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except RecursionError:
        raise ValueError("its lists lie too deep in each other")
    return value


def _refused(text: str) -> Any:
    raise ValueError("it holds %s, which is no number in JSON" % text)


def _finite(text: str) -> float:
    value = float(text)
    return _refused(text) if value - value else value  # 1e999


def _whole(text: str) -> int:
    return int(text) if len(text) <= LONGEST else _refused(text[:LONGEST] + "...")
