"""The port's captures in a child of this process: with plants in it, and whatever becomes of it.

The process that calls this was forked from one that has PyTorch and the port imported, so a child
begins at once. It may import the plants, which no module of this package may.
"""
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captures import files
from captures.format import MANIFEST
from parity.producers import jobs

PROCESSOR_SECONDS = 1200  # of one child: a changed port may never end
SECONDS = 3 * 3600  # nor do anything


def plants() -> Any:
    """The catalogue itself, which imports PyTorch."""
    return importlib.import_module("planted.catalogue")


def said_to(log: Path) -> None:
    """What this process and its children say goes into a file."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def captured(planted: Sequence[str], reference: Path, folder: Path, parts: Sequence[str],
             log: Path) -> str:
    """The capture of the layers by the port's own command, with these plants in it, against the
    reference's folder. Returns "", or why there is none."""
    return _captured(planted, folder, log, [
        "--plan", str(files.plan_file(reference)), "--reference", str(reference / "cntk"),
        "--output", str(folder), "--parts", ",".join(parts)])


def oracle(reference: Path, parts: Sequence[str], log: Path) -> str:
    """The float64 model's capture beside the reference's. Returns "", or why there is none."""
    return _captured([], reference / "oracle", log, [
        "--plan", str(files.plan_file(reference)), "--reference", str(reference / "cntk"),
        "--output", str(reference / "oracle"), "--parts", ",".join(parts), "--dtype", "float64"])


def trained(planted: Sequence[str], reference: Path, folder: Path, beside: Path, log: Path) -> str:
    """The same of the training; beside: where it meets the reference's."""
    return _captured(planted, folder, log, [
        "--plan", str(files.plan_file(reference)), "--job", "twin", "--beside", str(beside),
        "--output", str(folder)])


def _captured(planted: Sequence[str], folder: Path, log: Path, arguments: Sequence[str]) -> str:
    said = log.stat().st_size
    child = os.fork()
    if not child:
        _in_child(planted, arguments)
    code = _ended(child)
    if code:
        words = log.read_bytes()[said:].decode(errors="replace").splitlines()
        return jobs.explanation("the port", code, words)
    return "" if (folder / MANIFEST).exists() else "the process of the port left no capture"


def _in_child(planted: Sequence[str], arguments: Sequence[str]) -> None:
    import resource  # which not every system has; nor can every one fork
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
        plants().plant(list(planted))
        code = importlib.import_module("torch_port.capture.__main__").main(list(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended(child: int) -> int:
    """The child's exit code, or minus its signal; it is killed where it takes too long."""
    last = time.monotonic() + SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > last:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
