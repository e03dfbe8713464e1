"""Progress: bars in a terminal, one line now and then in a log."""
import threading
import time
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

EVERY = 20.0  # seconds from one line to the next


class Lines:
    """For a log; what of ``rich.progress.Progress`` is used, so that either can be given."""

    def __init__(self, console: Console, every: float = EVERY):
        self.console, self.every = console, every
        self.tasks: list[dict[str, Any]] = []
        self.started = self.last = time.monotonic()
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._print()

    def add_task(self, description: str, *, total: float | None = None, completed: int = 0
                 ) -> TaskID:
        with self.lock:
            self.tasks.append({"description": description, "total": total,
                               "completed": completed, "told": None})
            return TaskID(len(self.tasks) - 1)

    def update(self, task: TaskID, **changes: Any) -> None:
        with self.lock:
            advance = changes.pop("advance", 0)
            self.tasks[task].update({name: value for name, value in changes.items()
                                     if value is not None or name == "total"})
            self.tasks[task]["completed"] += advance
        if time.monotonic() - self.last >= self.every:
            self._print()

    def stop_task(self, task: TaskID) -> None:
        """A task's end is no reason for a line of its own."""

    def _print(self) -> None:
        """One line, of the tasks that have moved since the last."""
        with self.lock:
            self.last = time.monotonic()
            news = []
            for task in self.tasks:
                text = task["description"]
                if task["total"] and task["total"] > 1 and not says_its_count(
                        text, task["total"]):
                    text += f" {task['completed']:.0f}/{task['total']:.0f}"
                if text != task["told"]:
                    task["told"] = text
                    news.append(text)
            if news:
                self.console.print(f"{self.last - self.started:.0f} s  {'; '.join(news)}",
                                   markup=False, highlight=False)


def says_its_count(text: str, total: float) -> bool:
    """Whether a description says itself how far it is: ``iteration 3 of 20``."""
    return f" of {total:.0f}" in text


Shown = Progress | Lines


def shown(console: Console, counted: bool = False) -> Shown:
    """counted: with "3/20" beside the bar."""
    if not console.is_terminal:
        return Lines(console)
    columns = [TextColumn("{task.description}"), BarColumn(24),
               *([MofNCompleteColumn()] if counted else []), TimeElapsedColumn()]
    return Progress(*columns, console=console)
