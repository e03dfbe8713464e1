"""A user's code, at arm's length: what it raises becomes one message that names their line, what it
prints or changes behind our back is noticed and put back, and it ends when it takes too long.

    with isolated("`d_loss`", path, noticed, seconds): their_function(...)

It runs in a process of its own besides; this is what makes its failures say where.
"""
import contextlib
import io
import random
import signal
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from captures.errors import ParityError

SECONDS = 600.0
IMPORT = "import"


class AdapterError(ParityError):
    """A user's file that cannot be used: which line of theirs, what, and how to mend it."""


class _TooLong(BaseException):
    """Raised in their code, which may catch every Exception."""


@contextlib.contextmanager
def isolated(what: str, path: Path, noticed: list[str], seconds: float = SECONDS
             ) -> Iterator[None]:
    """Around a call of the user's code. what: is called; IMPORT while the file itself runs.

    Raises AdapterError for whatever it raises, SystemExit too, and where it takes longer.
    """
    said = "it does not import" if what == IMPORT else f"{what} raises"
    try:
        with _limited(seconds), _watched(what, noticed):
            yield
    except ParityError:
        raise
    except _TooLong as error:
        raise AdapterError(f"{where(error, path)}: {'importing it' if what == IMPORT else what} "
                           f"takes more than {seconds:g} seconds: mend it, or give it longer with "
                           "--time-limit") from error
    except (Exception, SystemExit) as error:
        kind = f": {type(error).__name__}" if what == IMPORT else f" {type(error).__name__}"
        raise AdapterError(f"{where(error, path)}: {said}{kind}: {_said(error)}") from error


def where(error: BaseException, path: Path) -> str:
    """The last of the user's own lines in a traceback."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    lines = [frame for frame in traceback.extract_tb(error.__traceback__)
             if Path(frame.filename).resolve().parent == path.parent]
    return f"{lines[-1].filename}, line {lines[-1].lineno}" if lines else str(path)


def _said(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["without a word"])[0][:300]


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """A timer of the main thread; elsewhere, and inside of another, there is none."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _switches() -> dict[str, Any]:
    """What of the process changes results."""
    return {"the default dtype": torch.get_default_dtype(),
            "the default device": torch.get_default_device(),
            "the threads": torch.get_num_threads(),
            "oneDNN": torch.backends.mkldnn.enabled,
            "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
            "gradients": torch.is_grad_enabled()}


def _restore(before: dict[str, Any]) -> None:
    torch.set_default_dtype(before["the default dtype"])
    torch.set_default_device(before["the default device"])
    torch.set_num_threads(before["the threads"])
    torch.backends.mkldnn.enabled = before["oneDNN"]
    torch.use_deterministic_algorithms(before["deterministic algorithms"])
    torch.set_grad_enabled(before["gradients"])


@contextlib.contextmanager
def _watched(what: str, noticed: list[str]) -> Iterator[None]:
    """Prints go to ``noticed``; what changes results is put back. Random numbers are watched while
    a file is imported: a function may draw."""
    before, words = _switches(), io.StringIO()
    states = _random() if what == IMPORT else None
    who = "importing it" if what == IMPORT else what
    try:
        with contextlib.redirect_stdout(words):
            yield
    finally:
        changed = [f"{name} to {value}" for name, value in _switches().items()
                   if value != before[name]]
        if changed:
            _restore(before)
        found = [f"{who} sets {', '.join(changed)}"] if changed else []
        if words.getvalue().strip():
            lines = words.getvalue().strip().splitlines()
            found.append(f"{who} prints {len(lines)} lines, first {lines[0][:80]!r}")
        if states is not None:
            found += _drawn(states)
        noticed += [one for one in found if one not in noticed]


def _random() -> tuple[torch.Tensor, Any, Any]:
    return torch.random.get_rng_state(), np.random.get_state(), random.getstate()


def _drawn(before: tuple[torch.Tensor, Any, Any]) -> list[str]:
    of_torch, of_numpy, of_python = before
    made = []
    if not torch.equal(torch.random.get_rng_state(), of_torch):
        made.append("PyTorch's")
        torch.random.set_rng_state(of_torch)
    if not np.array_equal(np.random.get_state()[1], of_numpy[1]):  # type: ignore[index]
        made.append("numpy's")
        np.random.set_state(of_numpy)
    if random.getstate() != of_python:
        made.append("Python's")
        random.setstate(of_python)
    return [f"importing it draws from, or seeds, {', '.join(made)} random numbers"] if made else []
