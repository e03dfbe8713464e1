"""``dcgan.csv``: step (from 1), G_loss, D_loss; one line is added after every iteration.

A line goes to the file whole. A run that goes on first cuts the log back to the iteration that it
goes on from, so a line is never there twice. Plain Python 3.6.
"""
from pathlib import Path
from typing import IO, List, Optional, Tuple

from captures.errors import TrainingError
from captures.files import written_whole

LOG = "dcgan.csv"
HEADER = "step,G_loss,D_loss\n"
Row = Tuple[int, float, float]


def line(row: Row) -> str:
    return "%d,%r,%r\n" % row


def read_log(path: Path) -> List[Row]:
    """The rows of a log; a last line that was cut off is left out.

    Raises TrainingError: not a log, or a step is missing.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise TrainingError("log %s cannot be read (%s): restore it" % (path, error.strerror))
    whole = text[:text.rfind("\n") + 1]
    if not whole.startswith(HEADER):
        raise TrainingError("%s is not the log of a training: its first line is not %r"
                            % (path, HEADER.strip()))
    rows: List[Row] = []
    for number, one in enumerate(whole.splitlines()[1:], 2):
        try:
            step, g_loss, d_loss = one.split(",")
            rows.append((int(step), float(g_loss), float(d_loss)))
        except ValueError:
            raise TrainingError("%s, line %d: %r is not of the form step,G_loss,D_loss"
                                % (path, number, one[:80]))
        if rows[-1][0] != len(rows):
            raise TrainingError("%s, line %d is of step %d, not %d: the log is of two runs or not "
                                "whole" % (path, number, rows[-1][0], len(rows)))
    return rows


class Log:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: List[Row] = []
        self._file: Optional[IO[str]] = None

    def begin(self, rows: List[Row]) -> None:
        """The log with these rows, in place of what there is."""
        self.close()
        with written_whole(self.path) as part:
            part.write_text(self.text(rows), encoding="ascii")
        self.rows = list(rows)
        self._file = self.path.open("a", encoding="ascii", newline="")

    def add(self, g_loss: float, d_loss: float) -> None:
        self.rows.append((len(self.rows) + 1, float(g_loss), float(d_loss)))
        if self._file is not None:
            self._file.write(line(self.rows[-1]))
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @staticmethod
    def text(rows: List[Row]) -> str:
        return HEADER + "".join(map(line, rows))
