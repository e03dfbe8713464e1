"""Tasks side by side, each in a process forked from one that has the programs imported.

Importing PyTorch takes longer than most of the work; and who edits the sources meanwhile disturbs
nothing.
"""
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from captures.system import must_fork, processors
from parity.producers.jobs import ROOT

MOST_AT_ONCE = 4
PRELOADED = ("torch", "torch._dynamo", "torch.onnx", "cv2", "scipy.stats", "onnx.reference",
             "onnxruntime",
             "planted.catalogue", "torch_port.capture.__main__", "parity.evidence.examine",
             "parity.evidence.false_alarms")


class Task(Protocol):
    """``after``: the name of a task that has to be done before; "" for none."""

    @property
    def name(self) -> str: ...

    @property
    def after(self) -> str: ...


One = TypeVar("One", bound=Task)


def run_all(what: str, tasks: Sequence[One], work: Callable[[One], None], total: int,
            console: Console) -> Iterator[tuple[One, int]]:
    """As many at a time as there are processors: each task and its process's exit code, as they
    end. total: with those that were done before. Raises NotHere where nothing can fork."""
    must_fork(what)
    context = multiprocessing.get_context("forkserver")
    waiting, running = list(tasks), dict[int, tuple[Any, One]]()
    left = {one.name for one in tasks}
    columns = (TextColumn(what), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total, completed=total - len(waiting))
        if waiting:
            start_server()
        try:
            while waiting or running:
                for one in [one for one in waiting if one.after not in left][
                        :_at_once() - len(running)]:
                    waiting.remove(one)
                    process = context.Process(target=work, args=(one,), daemon=True)
                    process.start()
                    running[process.sentinel] = process, one
                progress.update(bar, description=", ".join(
                    one.name for _, one in running.values()))
                for sentinel in connection.wait(list(running)):
                    process, one = running.pop(sentinel)  # type: ignore[arg-type]
                    process.join()
                    left.discard(one.name)
                    progress.advance(bar)
                    yield one, _code(process)
        finally:
            for process, _ in running.values():
                process.terminate()
                process.join()


def _at_once() -> int:
    return min(MOST_AT_ONCE, processors())


def _code(process: BaseProcess) -> int:
    return process.exitcode if process.exitcode is not None else -15


def start_server() -> None:
    """The process that the others are forked from: imports, and no thread."""
    forkserver.set_forkserver_preload(list(PRELOADED))
    given = {**dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                              "TORCHINDUCTOR_COMPILE_THREADS"), "1"), "PYTHONPATH": str(ROOT)}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
