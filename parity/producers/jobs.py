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
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from captures.errors import ParityError
from captures.files import plan_file
from captures.plan import Plan
from captures.process import pinned
from captures.system import processors, signals
from parity.producers.progress import Shown, shown

ROOT = Path(__file__).resolve().parents[2]
MOST_AT_ONCE = 4
LONGEST, LAST_LINES = 600, 400  # characters and lines that are kept of what a process says
PATIENCE = 10.0  # seconds that a process may take to end when it is asked to
ERROR = 2  # exit status of what cannot go on: its message says why


class ProducerError(ParityError):
    """A capture could not be made: what, why, and how to mend it, in one line."""


@dataclass
class Job:
    """One process. ``after``: names of jobs that must be done before. ``slots``: processors.

    beside: jobs that are started with it, on its processors: the two wait for each other. ended: a
    file that is made when the process has ended. may_fail: it is somebody's port, so that its
    failure is a finding and not this program's error: the reason goes to ``NAME.failed`` beside its
    folder. refuses: where such a process exits 2, it asks for something, and that is an error.
    silence: seconds without a line of progress after which such a process is ended.
    """

    name: str
    command: Sequence[str | os.PathLike[str]]
    folder: Path
    cwd: Path = ROOT
    after: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    slots: int = 1
    beside: tuple["Job", ...] = ()
    ended: Path | None = None
    may_fail: bool = False
    refuses: bool = False
    silence: float = 1200.0

    @property
    def failure(self) -> Path:
        """Where the reason stands why it made no capture."""
        return self.folder.with_name(self.name + ".failed")


def run_jobs(jobs: Sequence[Job], plan: Plan, folder: Path, console: Console,
             at_once: int = MOST_AT_ONCE) -> None:
    """Runs every job, in order where one waits for another; shows how far each is.

    at_once: processors that may be used, if there are so many.

    Raises ProducerError where one fails that may not; the others are ended first.
    """
    for one in [*jobs, *(other for job in jobs for other in job.beside)]:
        one.failure.unlink(missing_ok=True)
        if one.ended:
            shutil.rmtree(one.ended.parent, ignore_errors=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plan.save(str(plan_file(folder)))
    except OSError as error:
        raise ProducerError(f"{folder} cannot be written ({error.strerror}): free space there or "
                            "choose another folder with --output") from error
    at_once = min(at_once, processors())
    running: dict[Future[None], Job] = {}
    done: set[str] = set()
    left = list(jobs)
    guests = {other.name for job in jobs for other in job.beside}
    processes = _Processes()
    with shown(console) as progress, ThreadPoolExecutor(
            sum(1 + len(job.beside) for job in left) or 1) as threads:
        try:
            while left or running:
                busy = sum(min(job.slots, at_once) for job in running.values()
                           if job.name not in guests)
                for job in list(left):
                    ready = all(name in done for name in job.after)
                    if ready and busy + min(job.slots, at_once) <= at_once:
                        left.remove(job)
                        busy += min(job.slots, at_once)
                        for one in (job, *job.beside):
                            running[threads.submit(_run, one, progress, processes)] = one
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
            alive = list(self._alive)
        for process in alive:
            process.terminate()
        until = time.monotonic() + PATIENCE
        for process in alive:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def _run(job: Job, progress: Shown, processes: _Processes) -> None:
    task = progress.add_task(job.name, total=None)
    try:
        with processes.one(job) as process:
            errors: list[str] = []
            assert process.stdout is not None and process.stderr is not None
            listener = threading.Thread(target=_collect, args=(process.stderr, errors))
            listener.start()
            with _watched(job, process) as heard:
                for line in process.stdout:
                    heard(line)
                    _note(line, lambda **what: progress.update(task, **what))
                code = process.wait()
            listener.join()
            process.stdout.close()
            process.stderr.close()
        if code:
            reason = explanation(job.name, code, errors)
            if not job.may_fail or (job.refuses and code == ERROR):
                raise ProducerError(reason)
            job.failure.write_text(plain_line(reason) + "\n", encoding="utf-8")
            progress.update(task, description=f"{job.name}: failed")
            return
        progress.update(task, total=1, completed=1, description=f"{job.name}: done")
    finally:
        progress.stop_task(task)
        if job.ended:
            job.ended.parent.mkdir(parents=True, exist_ok=True)
            job.ended.touch()


@contextlib.contextmanager
def _watched(job: Job, process: subprocess.Popen[str]) -> Iterator[Callable[[str], None]]:
    """Ends a process that may fail when it says nothing for too long; yields what to call with each
    line that it says."""
    last, over = [time.monotonic()], threading.Event()

    def heard(line: str) -> None:
        if line.startswith("progress\t"):
            last[0] = time.monotonic()

    def watch() -> None:
        while not over.wait(min(1.0, job.silence)):
            if time.monotonic() - last[0] > job.silence:
                for number in (*signals("SIGXCPU"), signal.SIGTERM)[:1]:
                    process.send_signal(number)  # its name says what happened
                return

    if not job.may_fail:
        yield heard
        return
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield heard
    finally:
        over.set()
        watcher.join()


def plain_line(text: str) -> str:
    """One line of a length that people read, whatever a port says."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[:LONGEST] + " ..."


def _collect(stream: Iterator[str], lines: list[str]) -> None:
    """The last lines, cut: a port may say a megabyte."""
    for line in stream:
        lines.append(line.rstrip("\n")[:LONGEST])
        del lines[:-LAST_LINES]


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
                "SIGXCPU": "it made no progress for too long",
                "SIGABRT": "it aborted itself; run `make "
                           "setup` again if libraries changed"}.get(what, "run it again")
        said = f" Its last words: {errors[-1]}." if errors else ""
        return f"the process of {name} was ended by {what}: {mend}.{said}"
    for line in reversed(errors):
        if line.startswith("error: "):
            return line[len("error: "):]
    last = next((line for line in reversed(errors) if line.strip()), "it said nothing")
    return f"the process of {name} failed with exit {code}: {last.strip()}"
