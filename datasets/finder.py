"""The processes that find faces, asked from here."""
import json
import os
import subprocess
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captures.errors import DataError
from captures.process import pinned
from datasets.pictures import SkippedError

ROOT = Path(__file__).resolve().parent.parent
FINDER = ROOT / ".venv-cntk" / "bin" / "python"

Image = NDArray[np.uint8]


def refuse_without_it() -> None:
    """Raises DataError where CNTK's environment is not there."""
    if not FINDER.exists():
        raise DataError(f"faces are found by the article's OpenCV 4.1.1, which comes with CNTK's "
                        f"environment, and {FINDER} is not there: run `make setup`, or take the "
                        "whole pictures with --whole")


class Finder:
    """Processes of ``datasets.face_finder``, one for each thread that asks."""

    def __init__(self, scale: float, neighbours: int, smallest: int) -> None:
        self.command = [str(FINDER), "-m", "datasets.face_finder", str(scale),
                        str(neighbours), str(smallest)]
        self.own = threading.local()
        self.all: list[subprocess.Popen[bytes]] = []

    def _process(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] | None = getattr(self.own, "process", None)
        if process is None or process.poll() is not None:
            process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
                stderr=subprocess.DEVNULL, env=pinned(os.environ), start_new_session=True)
            self.own.process = process
            self.all.append(process)
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise DataError(
                    f"{FINDER} finds no faces: it needs the article's OpenCV 4.1.1; run `make "
                    "setup`, or take the whole pictures with --whole")
        return process

    def boxes(self, image: Image) -> list[list[int]]:
        """Raises SkippedError where the process dies on this picture."""
        process = self._process()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(b"%d %d\n" % image.shape[:2])
            process.stdin.write(image.tobytes())
            process.stdin.flush()
            found: list[list[int]] = json.loads(process.stdout.readline())
        except (OSError, ValueError) as error:
            process.kill()
            raise SkippedError("cannot be searched for faces", "the search ended") from error
        return found

    def end(self) -> None:
        for process in self.all:
            process.kill()
            process.communicate()
