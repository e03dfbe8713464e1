"""The folder of a run: who may write into it, what it holds, and whether there is room.

Plain Python 3.6.
"""
import contextlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from captures.errors import TrainingError
from captures.files import read_json, written_whole
from captures.output import LOCK, OutputError, alone
from captures.training import checkpoint
from captures.training.log import HEADER, LOG

RUN = "run.json"
IMAGES, SAMPLES, EVENTS = "dcgan_image", "samples", "events"
FIGURES = ("dcgan_logging.png", "dcgan_image.png", "dcgan.gif")
MODELS = ("dcgan_*.model", "dcgan_*.pt")  # CNTK's and the port's
WRITTEN = (checkpoint.FOLDER, IMAGES, SAMPLES, EVENTS, LOG, RUN, *FIGURES, *MODELS)
PICTURE = 150 * 1024  # of 256 x 256 pixels, a PNG at its largest
GRID = 4 * PICTURE
NEEDED = ("program", "settings", "iterations")  # of a run's record, of whatever version
KINDS = {"program": str, "settings": dict, "iterations": int, "identity": dict, "versions": dict,
         "machine": dict, "changes": list, "starts": list}


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; the system lets go of it when the process ends, however it ends.

    Raises TrainingError: another run has it, or the folder cannot be made.
    """
    made = not folder.exists()
    try:
        with alone(str(folder)):
            try:
                yield
            finally:
                if made and os.listdir(str(folder)) == [LOCK]:  # nothing was begun
                    (folder / LOCK).unlink()
                    folder.rmdir()
    except OutputError as error:
        raise TrainingError(str(error).replace("--output", "--output-dir"))


def read_run(folder: Path) -> Optional[Dict[str, Any]]:
    """``run.json``; None where there is none. Raises TrainingError: it is damaged."""
    path = folder / RUN
    if not path.exists():
        return None
    try:
        run = read_json(path)
        for name, kind in KINDS.items():
            if not isinstance(run[name] if name in NEEDED else run.get(name, kind()), kind):
                raise TypeError("its %s is no %s" % (name, kind.__name__))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError("%s is not the record of a run (%s): restore it, or delete the run "
                            "with --overwrite" % (path, error))
    return dict(run)


def write_run(folder: Path, run: Dict[str, Any]) -> None:
    with written_whole(folder / RUN) as part:
        part.write_text(json.dumps(run, indent=1) + "\n", encoding="ascii")


def iterations_in(folder: Path) -> Optional[int]:
    """How many iterations a run did that left its files here; None: no run did."""
    if not any(any(folder.glob(name)) for name in WRITTEN):
        return None
    log = folder / LOG
    if not log.exists():
        return 0
    text = log.read_text(encoding="utf-8", errors="replace")
    return max(0, text.count("\n") - HEADER.count("\n"))


def refuse_a_run(folder: Path, program: str) -> None:
    """Raises TrainingError where a run left its files in the folder."""
    done = iterations_in(folder)
    if done is None:
        return
    try:
        run = read_run(folder) or {}
    except TrainingError:
        run = {}
    asked = run.get("settings", {}).get("iterations")
    whose = "" if run.get("program", program) == program else " of the program " + run["program"]
    raise TrainingError(
        "output folder %s holds a run%s of %d%s iterations: go on with it with --resume, choose "
        "another folder with --output-dir, or delete that run with --overwrite"
        % (folder, whose, done, " of %s" % asked if asked else ""))


def delete_run(folder: Path) -> None:
    """Raises TrainingError where what lies under a run's names is of no run: it has no record, no
    log and no checkpoint."""
    there = [path for name in WRITTEN for path in folder.glob(name)]
    if there and not any((folder / name).exists() for name in (RUN, LOG, checkpoint.FOLDER)):
        raise TrainingError("%s is there, and no run that it is of, so it is not deleted: move it "
                            "away, or choose another folder with --output-dir" % there[0])
    for path in there:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        elif path.exists() or path.is_symlink():
            path.unlink()


def check_room(folder: Path, checkpoint_bytes: int, models_bytes: int, images: int, grids: int
               ) -> None:
    """Raises TrainingError: the disk has not the room that the run will take.

    checkpoint_bytes: of one; three are there for a moment, when the third replaces the first.
    """
    pictures = images * PICTURE + grids * GRID
    needed = (checkpoint.KEPT + 1) * checkpoint_bytes + models_bytes + pictures
    held = sum(file.lstat().st_size for path in checkpoint.found(folder)
               for file in path.iterdir())
    free = shutil.disk_usage(str(folder)).free
    if free + held < needed:
        raise TrainingError(
            "the run needs about %.1f GB in %s (three checkpoints of %.1f, %d pictures, %d grids), "
            "and %.1f are free: free space there, choose another place with --output-dir, or write "
            "fewer pictures with --image-interval and --sample-interval"
            % (needed / 1e9, folder, checkpoint_bytes / 1e9, images, grids, free / 1e9))


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
