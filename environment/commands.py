"""Commands of the set-up, pip's above all: how they are run, what they say in plain words, and how
far they are.

Runs under any Python from 3.6 on, with the standard library only.
"""
import contextlib
import os
import re
import subprocess
import threading
import time
from typing import Callable, Optional, Sequence, Tuple

Say = Callable[[str], None]

# What pip says -> what to do. The first that matches counts.
MENDS = (
    (r"Errno 28|No space left|Errno 122|Disk quota",
     "the disk is full: free 3 GB (both CPU environments; with a GPU 10 GB)"),
    (r"NewConnectionError|ConnectTimeout|ReadTimeout|Read timed out|ConnectionResetError|"
     r"Temporary failure in name resolution|ProxyError|SSLError|CERTIFICATE_VERIFY_FAILED",
     "pip did not get through to its package index: check the network, and pip's proxy and index "
     "settings (pip config list)"),
    (r"No matching distribution|Could not find a version",
     "pip's package index does not have it for this Python and machine: check pip's index settings "
     "(pip config list)"),
    (r"Errno 13|Permission denied", "make that place writable"),
    (r"", "mend what it names"),
)


def mend(text: str) -> str:
    """What to do about an error that reads ``text``."""
    return next(advice for said, advice in MENDS if re.search(said, text))


def explain(log: str) -> Tuple[str, str]:
    """pip's output -> (its first line that is about an error, what to do)."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    # pip 18 (Python 3.6's) has no ERROR: in front.
    patterns = (r"\[Errno \d+\]", r"No matching distribution", r"ERROR: ", r"Could not |.*Error\b")
    for pattern in patterns:
        for line in lines:
            if re.search(pattern, line) and not re.match(r"(WARNING: )?Retrying", line):
                return re.sub(r"^ERROR: ", "", line), mend(log)
    return (lines or ["pip said nothing"])[-1], mend(log)


def run(command: Sequence[str], log: Optional[str] = None) -> Tuple[int, str]:
    """Runs a command without the caller's Python paths and pip targets: (status, output).

    log: a file that also gets the output. close_fds is off for the lock's sake (see
    ``set_up.alone``).
    """
    unwanted = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER",
                "PIP_NO_CACHE_DIR", "__PYVENV_LAUNCHER__")
    environ = {name: value for name, value in os.environ.items() if name not in unwanted}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=environ, close_fds=False)
    output = done.stdout.decode("utf-8", "replace")
    if log:
        # On a full disk there is no log, and what pip said of the disk is what has to be told.
        with contextlib.suppress(OSError), open(log, "w", encoding="utf-8") as file:
            file.write(output)
    return done.returncode, output


class Progress:
    """One line per step, from more than one environment at a time."""

    def __init__(self, write: Say) -> None:
        self.start, self.write, self.lock = time.time(), write, threading.Lock()

    def of(self, name: str) -> Say:
        def say(text: str) -> None:
            with self.lock:
                self.write("{0:4.0f} s  {1:<12} {2}".format(
                    time.time() - self.start, ".venv-" + name, text))
        return say


def print_now(text: str) -> None:
    print(text, flush=True)
