"""What depends on the system, in one place: locks, processors, signals, processes that fork.

Linux is what this project was tried on. Elsewhere each function does what that system can, or says
what it cannot; docs/systems.md lists all of it, and tests/captures/test_system.py simulates it.
Plain Python 3.6, standard library.
"""
import contextlib
import ctypes
import os
import signal
import time
from typing import Any, Tuple

from captures.errors import ParityError

fcntl = msvcrt = None  # type: Any
with contextlib.suppress(ImportError):
    import fcntl
with contextlib.suppress(ImportError):  # Windows
    import msvcrt

LOCKED_AT = 2 ** 30  # the byte that is locked on Windows, where a locked byte cannot be read
# Of glibc's malloc.h: options of mallopt, and what they are set to.
MMAP_MAX, MMAP_THRESHOLD = (-4, 0), (-3, 32 * 2 ** 20)  # 32 MB is the most it takes
TRIM_THRESHOLD, ARENA_MAX = (-1, 2 ** 31 - 1), (-8, 1)
WINDOWS = os.name == "nt"
PAUSE = 0.2  # seconds between two tries of a lock that cannot be waited for


class NotHere(ParityError):
    """Something that this system cannot do."""


def locked(descriptor: int, wait: bool = False) -> bool:
    """Whether this process now holds the file's lock, which ends with the process; wait: until it
    does. On a system that has no locks nobody is kept out."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (IOError, OSError):
            return False
        return True
    while msvcrt is not None:
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, LOCKED_AT, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            return True
        except (IOError, OSError):
            if not wait:
                return False
        finally:
            os.lseek(descriptor, at, os.SEEK_SET)
        time.sleep(PAUSE)
    return True


def to_disk(path: str) -> None:
    """What a file holds, or which names a folder does, is on the disk. Windows asks for a file that
    is open for writing, and opens no folder: its names are written as Windows likes."""
    if WINDOWS and os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def signals(*names: str) -> Tuple[Any, ...]:
    """Those of these signals that the system has."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


def must_fork(what: str) -> None:
    """Raises NotHere where a process cannot be forked."""
    if not hasattr(os, "fork"):
        raise NotHere("%s forks its processes, which this system cannot: run it on Linux, or "
                          "under Windows in WSL" % what)


def cpuinfo() -> str:
    """/proc/cpuinfo; "" where there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return file.read()
    except (IOError, OSError):
        return ""


def largest_memory() -> int:
    """Bytes that this process held at most. (``getrusage`` counts what the process that started it
    held, too.) Where there is no /proc, that."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
    except (IOError, OSError, StopIteration):
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def keep_memory(every_block: bool = False) -> bool:
    """Freed memory stays with this process; whether the system's C library can be told so.

    glibc gives large blocks back, and the next one is of fresh pages that have to be zeroed first.
    Layers are made anew in every pass: without it a fifth of the time of CNTK's iterations goes
    there. every_block: those of 32 MB and more too, which CNTK has (10 iterations at minibatch 4:
    26 s without, 23 s with). The port's at minibatch 16 take 8 per cent more memory with them, in
    holes that nothing fits into, and are no faster.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return False
    return all(mallopt(option, value) for option, value in (
        MMAP_MAX if every_block else MMAP_THRESHOLD, TRIM_THRESHOLD, ARENA_MAX))
