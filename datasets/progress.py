"""How far a data set is: a bar in a terminal, and in a log a line now and then."""
import sys
import time
from typing import Protocol

from tqdm import tqdm

EVERY = 20.0  # seconds from one line to the next


class Shown(Protocol):
    def update(self) -> object:
        """One more is done."""

    def close(self) -> None: ...


class Lines:
    """For a log. What is done before the first line is due says nothing."""

    def __init__(self, total: int, what: str, every: float = EVERY) -> None:
        self.total, self.what, self.every = total, what, every
        self.done = self.told = 0
        self.started = self.last = time.monotonic()

    def update(self) -> None:
        self.done += 1
        if time.monotonic() - self.last >= self.every:
            self._print()

    def close(self) -> None:
        if self.told and self.told != self.done:
            self._print()

    def _print(self) -> None:
        self.last, self.told = time.monotonic(), self.done
        print(f"{self.last - self.started:.0f} s  {self.what} {self.done}/{self.total}",
              file=sys.stderr, flush=True)


class Quiet:
    def update(self) -> None:
        """Nothing is said."""

    def close(self) -> None:
        """Nothing is said."""


def shown(total: int, what: str, unit: str, quiet: bool) -> Shown:
    if quiet or not total:
        return Quiet()
    if not sys.stderr.isatty():
        return Lines(total, what)
    bar: Shown = tqdm(total=total, desc=what, unit=unit, file=sys.stderr)
    return bar
