"""TensorBoard's events, written where the training is. Plain Python 3.6.

tensorboardX's own SummaryWriter writes from a thread. A full disk ends that thread, and ten events
later the training waits for it, for good and deaf to signals. Here that is an OSError, as it is for
everything else that a run writes.
"""
import os
import socket
import time
from typing import Any

FLUSHED = 30.0  # seconds: what a process that is killed may lose


class Events:
    """board: the module tensorboardX. Events from ``step`` on that are there do not count."""

    def __init__(self, board: Any, folder: str, step: int) -> None:
        os.makedirs(folder, exist_ok=True)
        self._kinds, self._scalar = board.writer, board.summary.scalar
        self._file = board.record_writer.RecordWriter(os.path.join(
            folder, "events.out.tfevents.%d.%s" % (time.time(), socket.gethostname())))
        self._flushed = 0.0
        self._write(step=step, file_version="brain.Event:2")
        start = self._kinds.SessionLog(status=self._kinds.SessionLog.START)
        self._write(step=step, session_log=start)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._write(step=step, summary=self._scalar(name, value))

    def _write(self, **content: Any) -> None:
        now = time.time()
        self._file.write(self._kinds.Event(wall_time=now, **content).SerializeToString())
        if now - self._flushed > FLUSHED:
            self._file.flush()
            self._flushed = now

    def close(self) -> None:
        self._file.close()
