"""An output folder: one run at a time, and all of it new or all of it as it was.

A run works in ``FOLDER/.making`` and moves what it made into place at the end. Until then, and
after an interruption, FOLDER holds last time's captures and reports, untouched. What last time made
and this time did not goes with the old; what somebody else put there stays.

Plain Python 3.6.
"""
import contextlib
import os
import shutil
from typing import Iterator, List

from captures.errors import ParityError
from captures.files import AnyPath
from captures.system import locked

LOCK, MAKING, OLD, MADE = ".lock", ".making", ".old", ".made"


class OutputError(ParityError):
    """The folder cannot be written, or another run is at work in it."""


@contextlib.contextmanager
def alone(folder: AnyPath) -> Iterator[str]:
    """Makes the folder where it is not there, and holds it for this run.

    The lock ends with the process, however that ends; the file stays. A descriptor is not
    inherited, so a process that outlives the run does not keep it.

    Raises OutputError at once where another run holds it.
    """
    folder = os.fspath(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        file = open(os.path.join(folder, LOCK), "a+")
    except OSError as error:
        raise OutputError("%s cannot be written (%s): free space there or choose another folder "
                          "with --output" % (folder, error.strerror))
    with file:
        if not locked(file.fileno()):
            file.seek(0)
            raise OutputError("%s is in use by another run (process %s): wait for it, or give this "
                              "one another folder with --output"
                              % (folder, file.read().strip() or "unknown"))
        file.truncate(0)
        file.write("%d\n" % os.getpid())
        file.flush()
        yield folder


@contextlib.contextmanager
def made_whole(folder: AnyPath) -> Iterator[str]:
    """Holds the folder, gives an empty one inside it to work in, and moves what is there into place
    where all went well; where not, removes it.

    Raises OutputError.
    """
    with alone(folder):
        folder = os.fspath(folder)
        making = os.path.join(folder, MAKING)
        for left in (MAKING, OLD):  # of a run that was killed
            _remove(os.path.join(folder, left))
        os.mkdir(making)
        try:
            yield making
            _move_into_place(making, folder)
        finally:
            _remove(making)


def _move_into_place(making: str, folder: str) -> None:
    new, old = sorted(os.listdir(making)), os.path.join(folder, OLD)
    made = os.path.join(folder, MADE)
    before: List[str] = []
    if os.path.exists(made):
        with open(made) as file:
            before = [name for name in file.read().split("\n") if name == os.path.basename(name)]
    os.mkdir(old)
    with open(os.path.join(making, MADE), "w") as file:
        file.write("\n".join(new))
    for name in sorted(set(before) | set(new)):
        if name and os.path.lexists(os.path.join(folder, name)):
            os.rename(os.path.join(folder, name), os.path.join(old, name))
    for name in [*new, MADE]:
        os.replace(os.path.join(making, name), os.path.join(folder, name))
    _remove(old)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
