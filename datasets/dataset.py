"""The default data set: drawn portraits of faces, made without a network.

    make(output, ...)  output/faces/0000.bmp ..., output/train_dcgan_map.txt, output/dataset.json
"""
import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from captures.errors import DataError
from captures.files import written_whole
from captures.system import locked
from datasets.faces.portrait import face
from datasets.progress import shown

GENERATOR_VERSION = 4  # raise it whenever a change in datasets/faces changes a pixel
COUNT = 612  # the article's number of samples
FACES, MAP_FILE, RECORD = "faces", "train_dcgan_map.txt", "dataset.json"


class DatasetError(DataError):
    """The data set cannot be made there, or with these numbers."""


def map_entry(path: Path, map_file: Path) -> str:
    """How the map file names an image: by its absolute path.

    CNTK's reader looks a relative path up from the working directory, not from the map file.
    """
    del map_file
    return str(path.resolve())


def file_names(count: int) -> list[str]:
    return [f"{i:04d}.bmp" for i in range(count)]


def combined_hash(hashes: Sequence[str]) -> str:
    """What ``sha256sum *.bmp | sha256sum`` prints in the folder of the images."""
    lines = (f"{h}  {name}\n" for h, name in zip(hashes, file_names(len(hashes)), strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_face(folder: Path, seed: int, index: int) -> str:
    """Draws portrait ``index`` into ``folder`` as BMP; returns the file's sha256."""
    done, encoded = cv2.imencode(".bmp", face(seed, index))
    if not done:
        raise DatasetError(f"OpenCV could not encode face {index} as BMP: reinstall "
                           "opencv-python-headless")
    content = encoded.tobytes()
    (folder / f"{index:04d}.bmp").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the pool


def _draw_all(folder: Path, count: int, seed: int, workers: int, quiet: bool) -> list[str]:
    job = partial(write_face, folder, seed)
    if workers == 1 or count < 32:
        return _counted(map(job, range(count)), count, quiet)
    # Spawned, not forked: a fork of a process with threads (torch's, OpenCV's) can hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"),
                               initializer=_start_worker)
    try:
        return _counted(pool.map(job, range(count), chunksize=8), count, quiet)
    finally:
        pool.shutdown(cancel_futures=True)


def _counted(hashes: Iterable[str], count: int, quiet: bool) -> list[str]:
    bar, made = shown(count, "drawing faces", "face", quiet), []
    try:
        for one in hashes:
            made.append(one)
            bar.update()
    finally:
        bar.close()
    return made


@contextlib.contextmanager
def _alone(output: Path, quiet: bool) -> Iterator[None]:
    """Lets one run at a time into the folder; the lock ends with the process, however it ends."""
    try:
        descriptor = os.open(output, os.O_RDONLY)
    except PermissionError:  # Windows opens no folder
        descriptor = os.open(output / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        if not locked(descriptor):
            if not quiet:
                print(f"another run is writing {output}; waiting for it", file=sys.stderr)
            locked(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def _record(count: int, seed: int, hashes: Sequence[str]) -> dict[str, object]:
    return {"generator": "datasets.drawn_faces", "generator_version": GENERATOR_VERSION,
            "count": count, "seed": seed, "sha256": combined_hash(hashes),
            "made_with": {"numpy": np.__version__, "opencv": cv2.__version__}}


def is_complete(output: Path, count: int, seed: int) -> bool:
    """Whether ``output`` holds exactly this data set, every image with the bytes it was made with.

    The map file is not looked at: it is small, and written again on every run.
    """
    try:
        record = json.loads((output / RECORD).read_text(encoding="utf-8"))
        names = sorted(one.name for one in (output / FACES).iterdir())
        if not isinstance(record, dict) or names != sorted(file_names(count)):
            return False
        wanted = {"generator_version": GENERATOR_VERSION, "count": count, "seed": seed}
        if any(record.get(key) != value for key, value in wanted.items()):
            return False
        hashes = [hashlib.sha256((output / FACES / name).read_bytes()).hexdigest()
                  for name in file_names(count)]
    except (OSError, ValueError):
        return False
    return record.get("sha256") == combined_hash(hashes)


def _refuse_foreign(faces: Path) -> None:
    """Raises if the folder to be replaced holds anything that this program did not write."""
    if not faces.exists():
        return
    if not faces.is_dir():
        raise DatasetError(f"{faces} is a file where the folder of the faces belongs: move it "
                           "away, or choose another folder with --output")
    foreign = sorted(one.name for one in faces.iterdir()
                     if not re.fullmatch(r"\d{4,}\.bmp", one.name))
    if foreign:
        raise DatasetError(f"{faces} holds {foreign[0]}, which this program did not write, so it "
                           "is not replaced: move it away, or choose another folder with --output")


def _refuse_foreign_lists(output: Path) -> None:
    """Raises where there are no faces yet, and a file in the way that this program did not write.
    """
    faces, map_file, record = output / FACES, output / MAP_FILE, output / RECORD
    if faces.exists():
        return
    entry = re.escape(map_entry(faces, map_file)) + r"[/\\]\d{4,}\.bmp\t0"
    ours: dict[Path, Callable[[str], bool]] = {
        map_file: lambda text: all(re.fullmatch(entry, one) for one in text.splitlines()),
        record: lambda text: '"generator"' in text}
    for path, is_ours in ours.items():
        if path.exists() and not is_ours(path.read_text(encoding="utf-8", errors="replace")):
            raise DatasetError(f"{path} was not written by this program, so it is not replaced: "
                               "move it away, or choose another folder with --output")


def make(output: Path, count: int = COUNT, seed: int = 0, workers: int | None = None,
         quiet: bool = False) -> bool:
    """Makes the data set in ``output``, unless it is there already, whole and from the same seed.

    The faces are drawn into a temporary folder that is then renamed, and dataset.json, which says
    that all is there, is written last: a run that was interrupted leaves nothing that could be
    taken for a data set, and the next run clears up after it.

    Arguments: ``count`` >= 1 faces; ``seed`` >= 0; ``workers`` processes, one per core if None.
    Returns: whether anything was drawn.
    Raises: DatasetError for a bad count or seed, or a folder that cannot be used; OSError.
    """
    if count < 1:
        raise DatasetError(f"--count is {count}: give the number of faces, 1 or more")
    if seed < 0:
        raise DatasetError(f"--seed is {seed}: give 0 or a positive number")
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise DatasetError(f"{output} is a file, and the data set is a folder: choose another "
                           "place with --output, or move the file away")
    output.mkdir(parents=True, exist_ok=True)
    faces, map_file, record = output / FACES, output / MAP_FILE, output / RECORD
    lines = "".join(f"{map_entry(faces / name, map_file)}\t0\n" for name in file_names(count))
    with _alone(output, quiet):
        for left in output.glob("faces-*.part"):  # of a run that was killed
            shutil.rmtree(left)
        complete = is_complete(output, count, seed)
        if not complete:
            _refuse_foreign(faces)
            _refuse_foreign_lists(output)
            part = Path(tempfile.mkdtemp(prefix="faces-", suffix=".part", dir=output))
            try:
                part.chmod(0o755)
                hashes = _draw_all(part, count, seed, workers or os.cpu_count() or 1, quiet)
                record.unlink(missing_ok=True)
                if faces.exists():
                    shutil.rmtree(faces)
                part.rename(faces)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        if not map_file.exists() or map_file.read_bytes() != lines.encode():
            with written_whole(map_file) as part:
                part.write_bytes(lines.encode())
        if not complete:
            content = json.dumps(_record(count, seed, hashes), indent=2) + "\n"
            with written_whole(record) as part:
                part.write_bytes(content.encode())
    return not complete


def explain(error: OSError, output: Path) -> str:
    """One line for what the file system refused: what, where, how to mend it."""
    where = error.filename or output
    mend = {
        errno.ENOSPC: "the disk is full: free about 250 MB there, or choose another place "
                      "with --output",
        errno.EDQUOT: "your disk quota is used up: free some space, or choose another place with "
                      "--output",
        errno.EACCES: "no permission to write there: choose another place with --output",
        errno.EPERM: "no permission to write there: choose another place with --output",
        errno.EROFS: "the file system is read-only: choose another place with --output",
        errno.ENOTDIR: "a file stands where a folder is needed: choose another place with --output",
    }.get(error.errno or 0, f"{error.strerror or error}: choose another place with --output")
    return f"could not write {where}: {mend}"
