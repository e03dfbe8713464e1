"""Who makes which capture, in which environment. Each is a process of its own.

    cntk     .venv-cntk/bin/python   -m cntk_impl.capture     real CNTK 2.7, Python 3.6
    port     .venv-torch's python    -m torch_port.capture       float32
    oracle   the same                --dtype float64

A process prints its progress as lines ``progress TAB done TAB total TAB text`` and its error as one
line on stderr. Jobs run side by side, as many as there are processors and no more than four: each
job of the twin run takes about 1 GB. (CNTK takes all processors as soon as it has a trainer,
whatever OMP_NUM_THREADS says.)
"""
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from captures.errors import ParityError
from captures.files import plan_file
from captures.plan import Plan
from captures.process import pinned
from parity.producers.progress import Shown, shown

ROOT = Path(__file__).resolve().parents[2]
MOST_AT_ONCE = 4


class ProducerError(ParityError):
    """A capture could not be made: what, why, and how to mend it, in one line."""


@dataclass
class Job:
    """One process. ``after``: names of jobs that must be done before. ``slots``: processors."""

    name: str
    command: Sequence[str | os.PathLike[str]]
    folder: Path
    cwd: Path = ROOT
    after: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    slots: int = 1


def run_jobs(jobs: Sequence[Job], plan: Plan, folder: Path, console: Console,
             at_once: int = MOST_AT_ONCE) -> None:
    """Runs every job, in order where one waits for another; shows how far each is.

    at_once: processors that may be used, if there are so many.

    Raises ProducerError where one fails; the others are ended first.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plan.save(str(plan_file(folder)))
    except OSError as error:
        raise ProducerError(f"{folder} cannot be written ({error.strerror}): free space there or "
                            "choose another folder with --output") from error
    at_once = min(at_once, len(os.sched_getaffinity(0)))
    running: dict[Future[None], Job] = {}
    done: set[str] = set()
    left = list(jobs)
    processes = _Processes()
    with shown(console) as progress, ThreadPoolExecutor(len(left) or 1) as threads:
        try:
            while left or running:
                busy = sum(min(job.slots, at_once) for job in running.values())
                for job in list(left):
                    ready = all(name in done for name in job.after)
                    if ready and busy + min(job.slots, at_once) <= at_once:
                        left.remove(job)
                        busy += min(job.slots, at_once)
                        running[threads.submit(_run, job, progress, processes)] = job
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    done.add(running.pop(future).name)
                    future.result()
        except BaseException:
            processes.end()
            raise


class _Processes:
    """The processes that run now, so that they can be ended together."""

    def __init__(self) -> None:
        self._lock, self._alive, self._ended = threading.Lock(), set(), False  # type: ignore[var-annotated]

    @contextlib.contextmanager
    def one(self, job: Job) -> Iterator[subprocess.Popen[str]]:
        environment = pinned(os.environ, **job.environment)
        with self._lock:
            if self._ended:
                raise ProducerError(f"{job.name} was not started: another job failed")
            process = subprocess.Popen(
                [os.fspath(part) for part in job.command], cwd=job.cwd, encoding="utf-8",
                errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
            self._alive.add(process)
        try:
            yield process
        finally:
            with self._lock:
                self._alive.discard(process)

    def end(self) -> None:
        with self._lock:
            self._ended = True
            for process in self._alive:
                process.terminate()


def _run(job: Job, progress: Shown, processes: _Processes) -> None:
    task = progress.add_task(job.name, total=None)
    try:
        with processes.one(job) as process:
            errors: list[str] = []
            assert process.stdout is not None and process.stderr is not None
            listener = threading.Thread(target=_collect, args=(process.stderr, errors))
            listener.start()
            for line in process.stdout:
                _note(line, lambda **what: progress.update(task, **what))
            code = process.wait()
            listener.join()
            process.stdout.close()
            process.stderr.close()
        if code:
            raise ProducerError(explanation(job.name, code, errors))
        progress.update(task, total=1, completed=1, description=f"{job.name}: done")
    finally:
        progress.stop_task(task)


def _collect(stream: Iterator[str], lines: list[str]) -> None:
    lines += [line.rstrip("\n") for line in stream]


def _note(line: str, update: Callable[..., None]) -> None:
    parts = line.rstrip("\n").split("\t", 3)
    if len(parts) == 4 and parts[0] == "progress":
        total = int(parts[2])
        update(description=parts[3], completed=int(parts[1]), total=total or None)


def explanation(name: str, code: int, errors: Sequence[str]) -> str:
    """One line for how a process ended that made no capture."""
    if code < 0:
        try:
            what = signal.Signals(-code).name
        except ValueError:
            what = f"signal {-code}"
        mend = {"SIGKILL": "most likely memory ran out: free some, or give a smaller "
                           "--minibatch-size",
                "SIGABRT": "it aborted itself; run `make "
                           "setup` again if libraries changed"}.get(what, "run it again")
        said = f" Its last words: {errors[-1]}." if errors else ""
        return f"the process of {name} was ended by {what}: {mend}.{said}"
    for line in reversed(errors):
        if line.startswith("error: "):
            return line[len("error: "):]
    last = next((line for line in reversed(errors) if line.strip()), "it said nothing")
    return f"the process of {name} failed with exit {code}: {last.strip()}"
