"""Signals that end a run, heard between two iterations. Plain Python 3.6.

After half an iteration the discriminator is a step ahead, and a resumed run would not be the same
run; and an exception inside a callback of CNTK's ends up as one of C++. So during an iteration a
signal is noted, and everywhere else it is raised at once. A second one ends the process as it is:
the last checkpoint on disk is whole.
"""
import contextlib
import os
import signal
from typing import Any, Iterator, List

from captures.system import signals

ENDING = signals("SIGINT", "SIGTERM", "SIGHUP")


class Stopped(Exception):
    """The run was asked to end. ``status``: 128 + the signal's number, as a shell has it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.name, self.status = signal.Signals(number).name, 128 + number


class Signals:
    """``with Signals() as signals: with signals.held(): ...``; ``hear()`` raises what was noted."""

    def __init__(self) -> None:
        self._noted: List[int] = []
        self._holding = False

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, self._came) for number in ENDING
                        if signal.getsignal(number) is not signal.SIG_IGN}  # nohup ignores SIGHUP
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _came(self, number: int, frame: Any) -> None:
        if self._noted:
            os._exit(128 + number)
        self._noted.append(number)
        if not self._holding:
            raise Stopped(number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._holding = True
        try:
            yield
        finally:
            self._holding = False

    def hear(self) -> None:
        if self._noted:
            raise Stopped(self._noted[0])
