"""What a training shows while it runs. Plain Python 3.6.

    iteration 120 of 50000  D_loss 0.6931  G_loss 1.2040  2.3 images/s  2 d 03:04 left

On a terminal one line that is written over; in a log one line a minute, and the first and the last.
"""
import sys
import time
from typing import IO, Callable, Optional

A_MINUTE = 60.0
SMOOTHING = 0.1  # of the rate: the last ten iterations or so
UPDATES = 0.2  # seconds between two, on a terminal


def duration(seconds: float) -> str:
    """As d hh:mm, hh:mm or mm:ss."""
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    hours, minutes = rest // 3600, rest // 60 % 60
    if days:
        return "%d d %02d:%02d" % (days, hours, minutes)
    return "%d:%02d h" % (hours, minutes) if hours else "%d:%02d" % (minutes, rest % 60)


class Progress:
    def __init__(self, total: int, done: int, samples: int, file: Optional[IO[str]] = None,
                 clock: Callable[[], float] = time.time, quiet: bool = False) -> None:
        self.total, self.samples, self._quiet = total, samples, quiet
        self._file, self._clock = file or sys.stderr, clock
        self._last, self._shown, self._length = clock(), -A_MINUTE, 0
        self._each: Optional[float] = None
        self._terminal = self._file.isatty()

    def update(self, done: int, d_loss: float, g_loss: float) -> None:
        now = self._clock()
        took, self._last = now - self._last, now
        self._each = took if self._each is None else self._each + SMOOTHING * (took - self._each)
        wait = UPDATES if self._terminal else A_MINUTE
        if now - self._shown >= wait or done == self.total:
            self._shown = now
            self._write("iteration %d of %d  D_loss %.4f  G_loss %.4f  %.2f images/s  %s left" % (
                done, self.total, d_loss, g_loss, self.samples / max(self._each, 1e-9),
                duration(self._each * (self.total - done))))

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._quiet:
            return
        self.clear()
        self._file.write(text + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._length:
            self._file.write("\n")
        self._length = 0

    def restart(self) -> None:
        """What was done since the last update was no iteration: it does not count in the rate."""
        self._last = self._clock()

    def _write(self, text: str) -> None:
        if self._quiet:
            return
        if not self._terminal:
            self._file.write(text + "\n")
        else:
            self._file.write("\r" + text.ljust(self._length))
            self._length = len(text)
        self._file.flush()

    def clear(self) -> None:
        """Takes the line off the terminal."""
        if self._length:
            self._file.write("\r" + " " * self._length + "\r")
            self._length = 0
