"""A folder of photos as the article prepared its own: faces cut out, as BMP, with their map file.

    prepare(Settings(folder, output))

    output/faces/HASH-0.bmp ...   by the photo's content, so that names never clash
    output/train_dcgan_map.txt    the images in the order of the photos' names
    output/skipped.csv            what gave no image, and why
    output/contact_sheet.png      the first of them, to look at
    output/prepared.jsonl         what was done: a run that was stopped goes on behind it

The article: OpenCV's frontal-face Haar cascade on grey (scale 1.1, 5 neighbours, at least 50 x 50),
each box cut out; a mirror image of each on request. No photo stops a run: what cannot be used is
skipped and told.
"""
import contextlib
import csv
import functools
import hashlib
import io
import json
import os
import shutil
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from captures.errors import DataError
from captures.files import written_whole
from captures.output import alone
from datasets.contact_sheet import contact_sheet
from datasets.finder import Finder, refuse_without_it
from datasets.pictures import SkippedError, content_of, decoded
from datasets.progress import shown

FACES, MAP_FILE, RECORD = "faces", "train_dcgan_map.txt", "prepared.jsonl"
SKIPPED, SHEET = "skipped.csv", "contact_sheet.png"
WRITTEN = (MAP_FILE, SKIPPED, SHEET)
VERSION = 1  # raise it whenever a change here changes a pixel

Image = NDArray[np.uint8]
_WRITING = threading.Lock()  # two photos of the same content are one file


@dataclass(frozen=True)
class Settings:
    """What is prepared, and how. Sizes in pixels."""

    folder: Path
    output: Path
    whole: bool = False  # the whole picture, and no face looked for
    mirror: bool = False  # a mirror image of each too
    smallest: int = 50  # side of a face; of a whole picture, its shorter side
    scale: float = 1.1  # from one size of face that is looked for to the next
    neighbours: int = 5  # boxes that have to agree on a face

    def told(self) -> dict[str, Any]:
        """What makes the images what they are; the record of another set is not gone on with."""
        values = {**asdict(self), "version": VERSION, "folder": os.fsencode(
            self.folder.resolve()).decode("latin-1")}
        del values["output"]
        return values


@dataclass
class Result:
    """What one photo gave. name: relative to the folder, its bytes as Latin-1."""

    name: str
    seen: list[int]
    sha256: str = ""
    images: list[str] = field(default_factory=list)
    why: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Summary:
    photos: int
    images: int
    skipped: Counter[str]
    went_on: int  # photos that an earlier run had prepared


def prepare(settings: Settings, workers: int | None = None, quiet: bool = False) -> Summary:
    """Prepares the photos of a folder and of all folders in it.

    Raises DataError: the folder holds no file or cannot be read, the output is another folder's or
    another way's, no image came out, the disk is filling up; OutputError: another run is at work.
    """
    settings = _checked(settings)
    photos = _photos(settings)
    with alone(settings.output), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a decoder's remarks on broken metadata
        record = _Record(settings)
        record.keep_those(photos)
        results = [record.done.get(name) for name, _, _ in photos]
        left = [photo for photo, result in zip(photos, results, strict=True) if result is None]
        made = dict(_prepare_all(settings, left, record, workers or os.cpu_count() or 1, quiet))
        whole = [result or made[name] for (name, _, _), result in zip(photos, results, strict=True)]
        return _finish(settings, whole, len(photos) - len(left))


def _checked(settings: Settings) -> Settings:
    folder = settings.folder
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "is not there"
        raise DataError(f"{folder} {kind}: give a folder of photos")
    if not settings.whole:
        refuse_without_it()
    if "@" in str(settings.output.resolve()):
        raise DataError(f"{settings.output.resolve()} has an @ in it, which CNTK takes for a zip "
                        "file: give another --output")
    if settings.smallest < 1 or settings.neighbours < 0 or not 1 < settings.scale <= 10:
        raise DataError(f"--smallest {settings.smallest} --neighbours {settings.neighbours} "
                        f"--scale {settings.scale}: give at least 1, at least 0, and more than 1 "
                        "up to 10")
    return settings


def _photos(settings: Settings) -> list[tuple[str, Path, list[int]]]:
    """Every file that is not hidden: its name, its path, what its entry says. Sorted by name."""
    failed: list[OSError] = []
    found, output = [], settings.output.resolve()
    for place, folders, files in os.walk(settings.folder, onerror=failed.append):
        # A link to a folder, which may lead around in a circle, is told like a file that is none.
        files += [one for one in folders if Path(place, one).is_symlink()]
        folders[:] = sorted(one for one in folders if not one.startswith(".")
                            and Path(place, one).resolve() != output)
        for one in files:
            path = Path(place, one)
            if one.startswith("."):
                continue
            name = os.fsencode(path.relative_to(settings.folder)).decode("latin-1")
            try:
                status = path.stat()
                seen = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            except OSError:
                seen = []
            found.append((name, path, seen))
    if not found:
        reason = f" ({failed[0].strerror}: {failed[0].filename})" if failed else ""
        raise DataError(f"{settings.folder} holds no file{reason}: give a folder of photos")
    for error in failed:  # a folder that cannot be read is skipped, and told
        path = Path(error.filename)
        found.append((os.fsencode(path.relative_to(settings.folder)).decode("latin-1"), path, []))
    return sorted(found)


class _Record:
    """What was done, a line for each photo; the first line says how."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.output / RECORD
        self.done: dict[str, Result] = {}
        told = {"settings": settings.told()}
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # the run was stopped while it wrote this one
        try:
            kept = [json.loads(line) for line in lines]
            results = [Result(**one) for one in kept[1:]]
        except (ValueError, TypeError):
            kept, results = [None], []  # another program's
        if kept and kept[0] != told:
            raise DataError(f"{settings.output} holds what was prepared from another folder or in "
                            "another way: give another --output, or delete that one")
        faces = settings.output / FACES
        if not lines and faces.is_dir() and any(faces.iterdir()):
            raise DataError(f"{faces} holds files that this program did not write: give another "
                            "--output, or move them away")
        for path in (settings.output / name for name in WRITTEN if not lines):
            if path.exists():
                raise DataError(f"{path} was not written by this program: give another --output, "
                                "or move it away")
        for result in results:
            if all((faces / image).is_file() for image in result.images):
                self.done[result.name] = result
        faces.mkdir(parents=True, exist_ok=True)
        for left in faces.glob("*.part*"):  # of a run that was killed
            left.unlink()
        with written_whole(self.path) as part:
            part.write_bytes(b"".join(lines) or json.dumps(told).encode() + b"\n")

    def keep_those(self, photos: list[tuple[str, Path, list[int]]]) -> None:
        """Forgets photos that have changed since."""
        seen = {name: entry for name, _, entry in photos}
        self.done = {name: result for name, result in self.done.items()
                     if seen.get(name) == result.seen}

    def note(self, result: Result) -> None:
        with self.path.open("a", encoding="ascii") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def _prepare_all(settings: Settings, photos: list[tuple[str, Path, list[int]]], record: _Record,
                 workers: int, quiet: bool) -> Iterator[tuple[str, Result]]:
    """Few photos are in the threads at once: a decoded one is large, and Ctrl-C is soon heard."""
    finder = Finder(settings.scale, settings.neighbours, settings.smallest)
    job = functools.partial(_prepare_one, settings, finder)
    bar = shown(len(photos), "preparing photos", "photo", quiet)
    waiting, running, done = iter(photos), set[Future[Result]](), 0
    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            for photo in waiting:
                running.add(pool.submit(job, photo))
                if len(running) >= 2 * workers:
                    break
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for one in finished:
                result = one.result()
                record.note(result)
                done += 1
                bar.update()
                if done == 100 or done % 1000 == 0:
                    _refuse_full_disk(settings, done, len(photos))
                yield result.name, result
    finally:
        pool.shutdown(cancel_futures=True)
        finder.end()
        bar.close()


def _refuse_full_disk(settings: Settings, done: int, total: int) -> None:
    """Raises DataError where the rest will not fit, by what this run has taken so far."""
    faces = settings.output / FACES
    taken = 0
    for one in os.scandir(faces):
        with contextlib.suppress(FileNotFoundError):  # just renamed: it was still being written
            taken += one.stat().st_size
    needed, free = taken / done * (total - done), shutil.disk_usage(faces).free
    if needed > free:
        raise DataError(f"{faces} has room for {free / 1e9:.1f} GB, and the other {total - done} "
                        f"photos need about {needed / 1e9:.1f} GB: free space there, and run again "
                        "to go on, or choose another --output")


def _prepare_one(settings: Settings, finder: Finder, photo: tuple[str, Path, list[int]]) -> Result:
    name, path, seen = photo
    result = Result(name, seen)
    try:
        content = content_of(path)
        result.sha256 = hashlib.sha256(content).hexdigest()
        image, result.detail = decoded(content)
        if min(image.shape[:2]) < settings.smallest:
            raise SkippedError("is too small", f"{image.shape[1]} x {image.shape[0]} pixels")
        pieces = [image] if settings.whole else _faces(image, finder)
    except SkippedError as reason:
        result.why, result.detail = reason.why, reason.detail
        return result
    for number, piece in enumerate(pieces):
        names = {f"{result.sha256[:20]}-{number}.bmp": piece}
        if settings.mirror:
            names[f"{result.sha256[:20]}-{number}-mirror.bmp"] = piece[:, ::-1]
        for one, pixels in names.items():
            _write_bmp(settings.output / FACES / one, pixels)
        result.images += names
    return result


def _faces(image: Image, finder: Finder) -> list[Image]:
    boxes = finder.boxes(image)
    if not boxes:
        raise SkippedError("shows no face that was found")
    return [image[y:y + height, x:x + width] for x, y, width, height in boxes]


def _write_bmp(path: Path, image: Image) -> None:
    done, encoded = cv2.imencode(".bmp", np.ascontiguousarray(image))
    if not done:
        raise DataError(f"OpenCV could not encode {path.name} as BMP: reinstall "
                        "opencv-python-headless")
    with _WRITING, written_whole(path, durable=False) as part:
        part.write_bytes(encoded.tobytes())


def _readable(name: str) -> str:
    return name.encode("latin-1").decode("utf-8", "replace")


def _finish(settings: Settings, results: list[Result], went_on: int) -> Summary:
    """The map file, the table of what was skipped, the sheet. The same photo counts once."""
    first: dict[str, str] = {}
    for result in results:
        if result.sha256 and not result.why:
            other = first.setdefault(result.sha256, result.name)
            if other != result.name:
                result.images, result.why = [], "is the same as another"
                result.detail = _readable(other)
    images = [image for result in results for image in result.images]
    skipped = [result for result in results if result.why]
    output = settings.output
    with written_whole(output / SKIPPED) as part:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("file", "why", "detail"))
        table.writerows((_readable(one.name), one.why, one.detail) for one in skipped)
        part.write_text(text.getvalue(), encoding="utf-8")
    if not images:
        raise DataError(f"no image came out of the {len(results)} files in {settings.folder}: "
                        f"{output / SKIPPED} says why; --whole takes pictures without a face too")
    with written_whole(output / MAP_FILE) as part:
        part.write_text("".join(f".../{FACES}/{image}\t0\n" for image in images), encoding="ascii")
    contact_sheet([output / FACES / image for image in images], output / SHEET)
    return Summary(len(results), len(images), Counter(one.why for one in skipped), went_on)
