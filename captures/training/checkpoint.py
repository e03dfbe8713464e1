"""A checkpoint on disk: all that the next iteration depends on, in one form for both programs.

    checkpoints/iteration0000123/
        state.npz       arrays under the captures' names: generator/conv1/weight, its Adam's
                        generator/conv1/weight_m and _v, generator/learner/minibatches (Adam's
                        counter), generator/bn1/running_mean ..., latents/keys; CNTK's layout
        dcgan.csv       the log so far
        manifest.json   the iteration, what the run is (see ``identity``), the place in the stream
                        of latents, every file's size and SHA-256

The folder is written under another name, brought to the disk, and renamed: it is whole or it is not
there. The last two are kept; where the newer one is damaged, the older one is taken. Because CNTK's
program and the port write the same arrays, a checkpoint moves between them by its manifest alone.
Plain Python 3.6 and numpy; nothing is pickled.
"""
import hashlib
import json
import os
import re
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from captures.errors import TrainingError
from captures.files import read_json
from captures.plan import Latents
from captures.system import to_disk
from captures.training.log import LOG, Log, Row, read_log
from captures.training.shapes import KEYS, dtype

FOLDER, STATE, MANIFEST = "checkpoints", "state.npz", "manifest.json"
FORMAT, KEPT = 1, 2
Arrays = Dict[str, np.ndarray]


class Checkpoint(NamedTuple):
    """identity: what has to be the same for a run to go on; latents: numpy's stream, without its
    keys, which are an array; changes: what was changed on the way, at which iteration."""

    iteration: int
    identity: Dict[str, Any]
    latents: Dict[str, Any]
    arrays: Arrays
    rows: List[Row]
    changes: List[Dict[str, Any]]
    path: Optional[Path] = None


def latents_state(latents: Latents) -> Dict[str, Any]:
    """numpy's stream: {"keys", "place", "has_gauss", "gauss"}."""
    _, keys, place, has_gauss, gauss = latents.random.get_state()
    return {"keys": np.array(keys, np.uint32), "place": int(place), "has_gauss": int(has_gauss),
            "gauss": float(gauss)}


def restore_latents(latents: Latents, checkpoint: Checkpoint) -> None:
    at = checkpoint.latents
    latents.random.set_state(("MT19937", checkpoint.arrays[KEYS].astype(np.uint32),
                              at["place"], at["has_gauss"], at["gauss"]))


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Into folder/checkpoints; then removes all but the last two.

    Raises OSError: no room. Nothing is left of it then.
    """
    home = folder / FOLDER
    final = home / ("iteration%07d" % checkpoint.iteration)
    part, old = home / (final.name + ".part"), home / (final.name + ".old.part")
    shutil.rmtree(str(part), ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with (part / STATE).open("wb") as file:
            np.savez(file, **checkpoint.arrays)  # type: ignore[arg-type]
            _to_disk(file)
        with (part / LOG).open("w", encoding="ascii", newline="") as log:
            log.write(Log.text(checkpoint.rows))
            _to_disk(log)
        manifest = {"format": FORMAT, "iteration": checkpoint.iteration,
                    "identity": checkpoint.identity, "latents": checkpoint.latents,
                    "changes": checkpoint.changes,
                    "files": {name: _facts(part / name) for name in (STATE, LOG)}}
        text = json.dumps(manifest, indent=1, sort_keys=True)
        with (part / MANIFEST).open("w", encoding="ascii") as file_of_text:
            file_of_text.write(json.dumps({"sha256": _sha256(text.encode()), "manifest": manifest},
                                          indent=1, sort_keys=True) + "\n")
            _to_disk(file_of_text)
        if final.exists():  # a folder that is not empty cannot be replaced in one step
            os.rename(str(final), str(old))
        os.rename(str(part), str(final))
        to_disk(str(home))
    finally:
        shutil.rmtree(str(part), ignore_errors=True)
        shutil.rmtree(str(old), ignore_errors=True)
    for beyond in found(folder)[KEPT:]:
        shutil.rmtree(str(beyond), ignore_errors=True)
    return final


def found(folder: Path) -> List[Path]:
    """The checkpoints of a run's folder, the newest first; those half written are none."""
    home = folder / FOLDER
    names = os.listdir(str(home)) if home.is_dir() else []
    return [home / name for name in sorted(names, key=lambda name: (len(name), name), reverse=True)
            if re.match(r"iteration\d{7,}$", name) and (home / name).is_dir()]


def clear_up(folder: Path) -> None:
    """After a kill: what was half written in a run's folder goes, and a checkpoint that was moved
    aside and not replaced comes back. For the program that holds the folder."""
    home = folder / FOLDER
    for old in home.glob("*.old.part"):
        final = home / old.name[:-len(".old.part")]
        if not final.exists():
            os.rename(str(old), str(final))
    for part in home.glob("*.part"):
        shutil.rmtree(str(part), ignore_errors=True)
    for left in folder.glob("**/*.part*"):
        if re.search(r"\.\d+\.part(\.\w+)?$", left.name) and left.is_file():
            left.unlink()  # of captures.files.written_whole


def read_newest(folder: Path, say: Any = lambda text: None) -> Checkpoint:
    """The newest checkpoint that is whole; ``say`` is told of one that is not.

    Raises TrainingError: there is none, or none is whole.
    """
    problems = []
    for path in found(folder):
        try:
            checkpoint = read_checkpoint(path)
        except TrainingError as error:
            problems.append(error)
            continue
        if problems:
            say("%s; going on from the one before, of iteration %d"
                % (problems[0], checkpoint.iteration))
        return checkpoint
    if problems:
        raise problems[0]
    raise TrainingError("%s holds no checkpoint: give the folder of a run that wrote one" % folder)


def read_checkpoint(path: Path) -> Checkpoint:
    """Raises TrainingError: not a checkpoint, damaged, of another version."""
    manifest = _read_manifest(path)
    try:
        for name, facts in manifest["files"].items():
            if not (path / name).is_file() or _facts(path / name) != facts:
                raise ValueError("its %s is not what was written" % name)
        rows = read_log(path / LOG)
        if not 1 <= len(rows) == manifest["iteration"]:
            raise ValueError("it is of iteration %d, and its log of %d"
                             % (manifest["iteration"], len(rows)))
        return Checkpoint(manifest["iteration"], manifest["identity"], manifest["latents"],
                          _read_state(path / STATE), rows, manifest["changes"], path)
    except (OSError, ValueError, RuntimeError, EOFError, OverflowError, MemoryError, TrainingError,
            zipfile.BadZipFile, zlib.error) as error:  # the last two and RuntimeError: of zip files
        raise TrainingError("checkpoint %s is damaged (%s): take another one, or begin anew with "
                            "--overwrite" % (path, " ".join(str(error).split()).rstrip(".")))


def _read_state(path: Path) -> Arrays:
    """As it was written: nothing is packed, so nothing that is read is larger than the file.

    Raises ValueError: another program's file; what zipfile and numpy raise for a damaged one."""
    with zipfile.ZipFile(str(path)) as held:
        members = held.infolist()
        for member in members:
            name = member.filename[:-len(".npy")]
            if not member.filename.endswith(".npy") or member.file_size > path.stat().st_size \
                    or member.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its %s has another form" % member.filename)
            with held.open(member) as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError("its %s is not in numpy's format 1.0" % name)
                shape, _, kind = np.lib.format.read_array_header_1_0(file)
            size = kind.itemsize * int(np.prod(shape, dtype=np.float64))
            if kind != dtype(name) or not 0 < member.file_size - size < 2 ** 16:
                raise ValueError("its %s is %s %s in %d bytes" % (
                    name, kind, shape, member.file_size))
    if len({member.filename for member in members}) < len(members):
        raise ValueError("it has an array twice")
    with np.load(str(path), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


# What a manifest holds, and what of it is used before the arrays are looked at.
_IDENTITY = {"program": str, "seed": int, "minibatch_size": int, "unit_gain": bool}
_LATENTS = {"place": int, "has_gauss": int, "gauss": float}
_CHANGE = {"what": str, "from": str, "to": str, "behind iteration": int}
_MANIFEST = {"format": int, "iteration": int, "identity": dict, "latents": dict, "changes": list,
             "files": dict}


def _require(held: Any, kinds: Mapping[str, type], whose: str = "its") -> None:
    """Raises KeyError, TypeError: one of these is missing, or of another kind."""
    for name, kind in kinds.items():
        if not isinstance(held[name], kind):
            raise TypeError("%s %s is no %s" % (whose, name, kind.__name__))


def _read_manifest(path: Path) -> Dict[str, Any]:
    try:
        outer = read_json(path / MANIFEST)
        manifest: Dict[str, Any] = outer["manifest"]
        said = outer["sha256"]
        _require(manifest, _MANIFEST)
        if manifest["format"] == FORMAT:
            _require(manifest["identity"], _IDENTITY, "its run's")
            _require(manifest["latents"], _LATENTS, "its latents'")
            for change in manifest["changes"]:
                _require(change, _CHANGE, "a change's")
            if set(manifest["files"]) != {STATE, LOG}:
                raise ValueError("it lists other files")
            if not 0 <= manifest["latents"]["place"] <= 624:  # numpy itself does not look
                raise ValueError("its place in the stream of latents is none")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "it has no %s" % error if isinstance(error, KeyError) else error
        raise TrainingError("%s is not a whole checkpoint (%s): give one that a training wrote"
                            % (path, getattr(error, "strerror", None) or reason))
    if manifest["format"] != FORMAT:
        raise TrainingError("checkpoint %s has format %r, this program reads %d: go on with the "
                            "version that wrote it" % (path, manifest["format"], FORMAT))
    if _sha256(json.dumps(manifest, indent=1, sort_keys=True).encode()) != said:
        raise TrainingError("checkpoint %s is damaged: its manifest is not what was written: take "
                            "another one, or begin anew with --overwrite" % path)
    return manifest


def check_arrays(checkpoint: Checkpoint, expected: Mapping[str, Any]) -> None:
    """Raises TrainingError: an array is missing, too many, of another shape, or not finite.

    expected: name to shape."""
    for name in sorted({*expected, *checkpoint.arrays}):
        held = checkpoint.arrays.get(name)
        if name not in expected:
            what = "it has %s, which these networks have not" % name
        elif held is None:
            what = "it has no %s" % name
        elif tuple(held.shape) != tuple(expected[name]):
            what = "its %s has the shape %s, here it is %s" % (
                name, tuple(held.shape), tuple(expected[name]))
        elif held.dtype.kind == "f" and not np.isfinite(held).all():
            what = "its %s is not finite" % name
        else:
            continue
        raise TrainingError("checkpoint %s does not fit the networks: %s: give a checkpoint of the "
                            "article's networks" % (checkpoint.path, what))


def weights_sha256(arrays: Arrays) -> str:
    """Of both networks' parameters and statistics, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        if name.count("/") == 2 and name[-2:] not in ("_m", "_v") and "/learner/" not in name:
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _facts(path: Path) -> Dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}
