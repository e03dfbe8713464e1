"""An output folder: one run at a time, and all of it new or all of it as it was.

A run works in ``FOLDER/.making`` and moves what it made into place at the end. Until then, and
after an interruption, FOLDER holds last time's captures and reports, untouched. What last time made
and this time did not goes with the old; what somebody else put there stays: ``FOLDER/.made`` lists
what is ours, and where another thing stands in the place of something new, all is refused.

Plain Python 3.6.
"""
import contextlib
import fnmatch
import os
import shutil
from typing import Iterator, List, Sequence

from captures.errors import ParityError
from captures.files import AnyPath, write_text
from captures.process import Ended
from captures.system import locked

LOCK, MAKING, OLD, MADE = ".lock", ".making", ".old", ".made"


_FOREIGN = ("%s was not made here by a run before, and would be replaced: choose another folder "
            "with --output, or move it away")


class OutputError(ParityError):
    """The folder cannot be written, another run is at work in it, or it holds somebody's files."""


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
        file = open(os.path.join(folder, LOCK), "a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise OutputError("%s cannot be written (%s): free space there or choose another folder "
                          "with --output" % (folder, error.strerror))
    with file:
        held = locked(file.fileno())
        file.seek(0)
        by = file.read(20).strip()
        if not held:
            raise OutputError("%s is in use by another run (process %s): wait for it, or give this "
                              "one another folder with --output" % (folder, by or "unknown"))
        if by and not by.isdigit():
            raise OutputError(_FOREIGN % os.path.join(folder, LOCK))
        file.truncate(0)
        file.write("%d\n" % os.getpid())
        file.flush()
        yield folder


@contextlib.contextmanager
def made_whole(folder: AnyPath, writes: Sequence[str] = ()) -> Iterator[str]:
    """Holds the folder, gives an empty one inside it to work in, and moves what is there into place
    where all went well; where not, removes it.

    writes: names, or patterns of names, that may be made: what somebody else put there under one of
    them is refused before the work, and under any other name after it, when nothing is moved.

    Raises OutputError.
    """
    folder = os.fspath(folder)
    if not os.path.lexists(os.path.join(folder, LOCK)):  # no run was here
        refuse_foreign(folder, [*writes, MAKING, OLD])
    elif not os.path.lexists(os.path.join(folder, OLD)):  # else it is not known yet what is whose
        refuse_foreign(folder, writes)
    with alone(folder):
        _cleared(folder)
        refuse_foreign(folder, writes)
        making = os.path.join(folder, MAKING)
        os.mkdir(making)
        try:
            yield making
            _move_into_place(making, folder)
        except Ended as end:
            end.left = "%s is as it was" % folder
            raise
        finally:
            _cleared(folder)


@contextlib.contextmanager
def replacing(folder: AnyPath, writes: Sequence[str]) -> Iterator[str]:
    """Holds the folder for a program that writes straight into it, and notes which of these names
    it wrote. Raises OutputError: one of them is there, and somebody else's."""
    folder = os.fspath(folder)
    refuse_foreign(folder, writes)
    with alone(folder):
        refuse_foreign(folder, writes)
        try:
            yield folder
        finally:
            note_made(folder, writes)


@contextlib.contextmanager
def resumed(folder: AnyPath, writes: Sequence[str]) -> Iterator[str]:
    """Holds the folder for a program that goes on with what it left there. Raises OutputError: one
    of these names, or patterns, is there, and no run ever was."""
    if not os.path.lexists(os.path.join(os.fspath(folder), LOCK)):
        refuse_foreign(folder, writes)
    with alone(folder) as held:
        yield held


def refuse_foreign(folder: AnyPath, writes: Sequence[str]) -> None:
    """Raises OutputError: under one of these names, or patterns, there is what no run made."""
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        if os.path.lexists(folder):
            raise OutputError("%s cannot be written (it is no folder): choose another one with "
                              "--output" % folder)
        return
    ours = set(made_in(folder))
    for name in sorted(os.listdir(folder)):
        if name not in ours and any(fnmatch.fnmatchcase(name, one) for one in writes):
            raise OutputError(_FOREIGN % os.path.join(folder, name))


def note_made(folder: AnyPath, writes: Sequence[str]) -> None:
    """What is there under one of these names is ours from now on."""
    folder = os.fspath(folder)
    before = made_in(folder)
    more = [name for name in writes
            if name not in before and os.path.lexists(os.path.join(folder, name))]
    if more:
        write_text(os.path.join(folder, MADE), "\n".join(sorted(before + more)))


def made_in(folder: AnyPath) -> List[str]:
    """The names of what runs made in the folder; a name that leads out of it is none."""
    path = os.path.join(os.fspath(folder), MADE)
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        return [name for name in file.read().split("\n")
                if name and name == os.path.basename(name) and not name.startswith(".")]


def _move_into_place(making: str, folder: str) -> None:
    new, before, old = sorted(os.listdir(making)), made_in(folder), os.path.join(folder, OLD)
    refuse_foreign(folder, [_literally(name) for name in new])
    os.mkdir(old)
    write_text(os.path.join(making, MADE), "\n".join(new))
    for name in sorted(set(before) | set(new)):
        if os.path.lexists(os.path.join(folder, name)):
            os.rename(os.path.join(folder, name), os.path.join(old, name))
    for name in [*new, MADE]:
        os.replace(os.path.join(making, name), os.path.join(folder, name))


def _literally(name: str) -> str:
    """The pattern of this name alone."""
    return "".join("[%s]" % one if one in "*?[" else one for one in name)


def _cleared(folder: str) -> None:
    """Nothing of a run is left but what it moved into place, all of it or none: the list of what
    was made is moved last, so where it is not, the move did not come to its end and is undone."""
    making, old = (os.path.join(folder, name) for name in (MAKING, OLD))
    if os.path.isdir(old) and os.path.isfile(os.path.join(making, MADE)):
        for name in made_in(making):
            if not os.path.lexists(os.path.join(making, name)):
                _remove(os.path.join(folder, name))
        for name in os.listdir(old):
            os.rename(os.path.join(old, name), os.path.join(folder, name))
    for left in (making, old):
        _remove(left)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
