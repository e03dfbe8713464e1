"""A classifier's weights: found, fetched, checked, loaded; or a sentence that says why not.

A weights file is never unpickled: ``torch.load(weights_only=True)`` takes tensors and nothing else.
Which weights made a score is part of the score, so the SHA-256 is always told.
"""
from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from captures.system import locked
from scores.errors import ScoreError

BLOCK = 1 << 20
TIMEOUT = 30  # seconds without a byte
ANOTHER = "Leave --sha256 out, or give the file that has it with --weights FILE"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
NAMED_HASH = re.compile(r"-([0-9a-f]{8,64})\.[A-Za-z]+$")


@dataclass(frozen=True)
class Source:
    """Where published weights are. sha256: all of it, or its first digits where no more is
    published. size: bytes, about: for the progress and for the disk."""

    file: str
    url: str
    sha256: str
    size: int


def sha256_of(path: Path) -> str:
    """Raises ScoreError: the file is not there or cannot be read."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                found.update(block)
    except OSError as error:
        raise ScoreError(f"the weights {path} cannot be read ({error.strerror}): give the path of "
                         "a weights file") from error
    return found.hexdigest()


def check_sha256(path: Path, expected: str, stated_by: str, mend: str = "Fetch it again") -> str:
    """The file's SHA-256. mend: what the message advises.

    Raises ScoreError: it does not begin with ``expected``."""
    found = sha256_of(path)
    if not found.startswith(expected.lower()):
        raise ScoreError(f"{path} has the SHA-256 {found[:16]}..., {stated_by} {expected[:16]}"
                         f"{'...' if len(expected) > 16 else ''}: it is another file, or was "
                         f"changed or cut off on its way. {mend}")
    return found


def of_user(path: Path, expected: str = "") -> str:
    """The SHA-256 of a user's file, checked against what was asked for and, whatever that is,
    against its own name (``name-0cc3c7bd.pth`` states the first digits, as torch.hub has it).

    Raises ScoreError: as ``check_sha256``.
    """
    named = NAMED_HASH.search(path.name)
    if named:
        check_sha256(path, named[1], "its name says",
                     "Fetch it again, or rename it if those digits are no checksum")
    return check_sha256(path, expected, "you asked for")


# ------------------------------------------------------------------------------------ loading


def load_into(module: nn.Module, path: Path, name: str, unused: tuple[str, ...] = ()) -> None:
    """Reads ``path`` into ``module``: every parameter and statistic, or nothing.

    name: the classifier's, for messages. unused: beginnings of names that the file may have
    besides.

    Raises ScoreError: not readable, cut off, holding pickled objects, another network's, NaN,
    values that are no floating point or are not stored one by one.
    """
    given = _tensors(path)
    expected = {key: value for key, value in module.state_dict().items()
                if not key.endswith("num_batches_tracked")}
    extra = [key for key in given if key not in expected and not key.startswith(unused or ("\0",))
             and not key.endswith("num_batches_tracked")]
    absent = [key for key in expected if key not in given]
    if absent or extra:
        raise ScoreError(f"{path} holds another network's weights, not {name}'s: " + "; ".join(
            f"{len(keys)} of its parameters are {what}, first {keys[0]}"
            for keys, what in ((absent, "missing"), (extra, "unknown")) if keys)
            + ". Give that network's file, or another --classifier")
    for key, value in expected.items():
        if given[key].shape != value.shape:
            raise ScoreError(f"{path} holds another network's weights, not {name}'s: {key} has the "
                             f"shape {tuple(given[key].shape)}, not {tuple(value.shape)}")
        _check_plain(path, key, given[key])
        if not torch.isfinite(given[key].to(value.dtype)).all():
            raise ScoreError(f"{path}: {key} holds NaN or infinity: fetch the file again")
    with torch.no_grad():
        module.load_state_dict({key: given[key] for key in expected}, strict=False)


def _check_plain(path: Path, key: str, value: Tensor) -> None:
    """Raises ScoreError: whole or complex numbers, sparse, nested, or without its values."""
    if value.is_meta or value.is_nested or value.layout is not torch.strided:
        kind = ("a meta tensor, without values" if value.is_meta
                else "a nested tensor" if value.is_nested else f"a tensor of {value.layout}")
    elif value.dtype not in FLOATS:
        kind = f"a tensor of {value.dtype}"
    else:
        return
    raise ScoreError(f"{path}: {key} is {kind.replace('torch.', '')}: save the weights as ordinary "
                     "tensors of float32")


def _tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        with warnings.catch_warnings():  # of a pickle's protocol, say: what follows says enough
            warnings.simplefilter("ignore")
            given = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no class that all its errors share
        said = str(error)
        if "torchscript" in said.lower():
            raise ScoreError(f"{path} is a TorchScript program, not a file of weights: save its "
                             "state_dict() and give that") from error
        if type(error).__name__ == "UnpicklingError" and (
                "weights_only" in said.lower() or "unsupported" in said.lower()):
            raise ScoreError(f"{path} holds pickled Python objects, which could run any program: "
                             "it is not loaded. Save its state_dict() alone and give that"
                             ) from error
        first = (said.splitlines() or ["no reason given"])[0].partition(". ")[0][:120]
        raise ScoreError(f"{path} is no weights file, or is cut off ({first}): fetch it again"
                         ) from error
    if isinstance(given, Mapping) and isinstance(given.get("state_dict"), Mapping):
        given = given["state_dict"]
    if not isinstance(given, Mapping) or not all(
            isinstance(key, str) and isinstance(value, Tensor) for key, value in given.items()):
        raise ScoreError(f"{path} holds something else than named tensors: save the network's "
                         "state_dict() and give that")
    return given


# ----------------------------------------------------------------------------------- fetching


def fetched(source: Source, folder: Path, offline: bool = False, asked: str = "") -> Path:
    """The published file in ``folder``: the one that is there, or downloaded now.

    The download goes to ``FILE.part``, goes on where an earlier one stopped, and gets its name only
    when its SHA-256 is right; so what has the name is whole. One download at a time: another
    process or thread waits for it, and then finds the file. asked: what the SHA-256 has to begin
    with besides.

    Raises ScoreError: the published file is not the one asked for; offline and not there; no
    network; cut off (what came is kept for the next try); a wrong checksum (what came is thrown
    away); the folder cannot be used.
    """
    asked, length = asked.lower(), min(len(asked), len(source.sha256))
    if asked[:length] != source.sha256[:length]:  # before 100 MB come for nothing
        raise ScoreError(f"{source.file} has the SHA-256 {source.sha256[:16]}..., you asked for "
                         f"{asked[:16]}. {ANOTHER}")
    path = folder / source.file
    if not path.is_file() and not offline:
        with _one_at_a_time(source, folder):
            return _fetched(source, folder, offline)
    return _fetched(source, folder, offline)


@contextlib.contextmanager
def _one_at_a_time(source: Source, folder: Path) -> Iterator[None]:
    """Holds ``.FILE.lock``, which stays. Raises ScoreError: the folder cannot be used."""
    lock = folder / f".{source.file}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise ScoreError(_cannot_be_kept(source, folder, error)) from error
    with file:
        if not locked(file.fileno()):
            print(f"{source.file} is being downloaded to {folder} by another process: waiting "
                  "for it", file=sys.stderr)
            if not locked(file.fileno(), wait=True):
                raise ScoreError(f"{lock} cannot be locked: give a --cache folder on a disk of "
                                 "this machine")
        yield


def _cannot_be_kept(source: Source, folder: Path, error: OSError) -> str:
    return (f"{source.file} cannot be kept in {folder} ({error.strerror or error}): give a folder "
            f"that can be written, with {source.size / 1e6:.0f} MB free")


def _fetched(source: Source, folder: Path, offline: bool) -> Path:
    """As ``fetched``, for whoever is alone."""
    path, part = folder / source.file, folder / (source.file + ".part")
    by_hand = (f"fetch {source.url} where there is a network, and give it with --weights FILE (or "
               f"put it at {path})")
    if path.is_file():
        check_sha256(path, source.sha256, "the published file has",
                     "Take it away, and it is fetched anew")
        return path
    if offline:
        raise ScoreError(f"{source.file} is not in {folder} and --offline was asked for: {by_hand}")
    try:
        whole = _download(source, part)
    except urllib.error.HTTPError as error:
        raise ScoreError(f"{source.url} answered {error.code} {error.reason}: {by_hand}"
                         ) from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError,
            TimeoutError) as error:
        came = f" after {part.stat().st_size:,} bytes" if part.exists() else ""
        raise ScoreError(f"{source.file} did not come{came} ({getattr(error, 'reason', error)}): "
                         "try again, which goes on from there, or " + by_hand) from error
    except OSError as error:
        raise ScoreError(_cannot_be_kept(source, folder, error)) from error
    size = part.stat().st_size
    if size < whole:
        raise ScoreError(f"{source.file} was cut off after {size:,} of {whole:,} bytes: try again, "
                         "which goes on from there, or " + by_hand)
    try:
        check_sha256(part, source.sha256, "the published file has")
    except ScoreError:
        part.unlink()
        raise
    os.replace(part, path)
    return path


def _download(source: Source, part: Path) -> int:
    """Goes on with ``part``, or begins it. Returns how many bytes the whole file has."""
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(source.url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # there is nothing after what we have
            return have
        raise
    with answer:
        before = have if answer.status == 206 else 0
        whole = before + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if before else "wb") as file, tqdm(
                total=whole or source.size, initial=before, unit="B", unit_scale=True,
                desc=source.file) as bar:
            while block := answer.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    return whole
