"""Systems that this one is not, simulated: no fork, no /proc, no flock, other path separators,
names blind to case. And that what depends on the system stands in the places that
docs/systems.md lists, and nowhere else."""
import builtins
import ntpath
import os
import re
import runpy
import signal
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from captures import machine, system
from captures.errors import CaptureError
from captures.files import write_text
from captures.format import CaptureWriter
from captures.output import OutputError, alone
from captures.plan import Plan
from captures.system import NotHere
from captures.training import signals
from environment import set_up
from parity.evidence.pool import run_all
from tests.captures.image_kinds import bmp
from tests.conftest import ROOT


class Msvcrt:
    """Of Windows' module, what is used: a byte that one descriptor at a time may lock."""

    LK_NBLCK = 2

    def __init__(self):
        self.held = set()

    def locking(self, descriptor, mode, count):
        assert (mode, count) == (self.LK_NBLCK, 1)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == system.LOCKED_AT
        place = os.fstat(descriptor).st_ino
        if place in self.held:
            raise PermissionError(13, "Permission denied")
        self.held.add(place)


@pytest.fixture
def windows(monkeypatch):
    msvcrt = Msvcrt()
    monkeypatch.setattr(system, "fcntl", None)
    monkeypatch.setattr(system, "msvcrt", msvcrt)
    monkeypatch.setattr(system, "PAUSE", 0.01)
    return msvcrt


@pytest.fixture
def writer(tmp_path):
    (tmp_path / "0.bmp").write_bytes(bmp())
    (tmp_path / "map.txt").write_text(".../0.bmp\t0\n")
    with CaptureWriter(tmp_path / "made", "port", Plan.make(tmp_path / "map.txt"), {}, 1) as made:
        yield made


def test_two_runs_in_one_folder_without_flock(tmp_path, windows):
    said = rf"another run \(process {os.getpid()}"
    with alone(tmp_path), pytest.raises(OutputError, match=said), alone(tmp_path):
        pass


def test_a_lock_is_waited_for_without_flock(tmp_path, windows, monkeypatch):
    monkeypatch.setattr(system.time, "sleep", lambda seconds: windows.held.clear())
    with (tmp_path / "lock").open("a") as file:
        assert system.locked(file.fileno())
        assert not system.locked(file.fileno())
        assert system.locked(file.fileno(), wait=True)


def test_without_any_lock_nobody_is_kept_out(tmp_path, windows, monkeypatch):
    monkeypatch.setattr(system, "msvcrt", None)
    with alone(tmp_path), alone(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_modules_that_other_systems_lack_are_not_needed_to_import():
    """In a process in which fcntl and resource cannot be imported, and os has no fork."""
    code = (
        "import os, sys\n"
        "for name in ('fcntl', 'resource', 'termios'): sys.modules[name] = None\n"
        "for name in ('fork', 'sched_getaffinity', 'confstr'): delattr(os, name)\n"
        "import captures.output, captures.training.signals, captures.machine, environment.set_up\n"
        "import datasets.dataset, parity.cli.run, parity.cli.compare, parity.cli.defects\n"
        "import torch_port.reader.reader\n"
        "from captures import system\n"
        "assert system.processors() == os.cpu_count() and system.fcntl is None\n"
        "assert captures.machine.described()['libc'] == ''\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


def test_set_up_without_flock(tmp_path, monkeypatch):
    monkeypatch.setattr(set_up, "fcntl", None)
    with set_up.alone(str(tmp_path)), set_up.alone(str(tmp_path)):
        assert (tmp_path / ".set_up.lock").exists()


def test_what_forks_says_that_this_system_cannot(monkeypatch):
    monkeypatch.delattr(os, "fork")
    with pytest.raises(NotHere, match=r"defects forks its processes.*WSL"):
        list(run_all("defects", [], print, 0, Console(quiet=True)))


def test_without_proc_the_processor_is_what_python_says(monkeypatch):
    real = builtins.open

    def refused(path, *arguments, **named):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(path)
        return real(path, *arguments, **named)

    monkeypatch.setattr(builtins, "open", refused)
    found = machine.described("port")
    assert found["flags"] == [] and found["packages"]["numpy"] and found["code"]


def test_the_largest_memory_is_this_processes_own(monkeypatch):
    """Not what the one that started it held, which the system's count goes on from."""
    held = np.ones(60_000_000)
    said = subprocess.run([sys.executable, "-c", "from captures import system\n"
                           "print(system.largest_memory())"], cwd=ROOT, capture_output=True,
                          text=True, check=True)
    assert 1e6 < int(said.stdout) < held.nbytes < system.largest_memory()
    monkeypatch.setattr(builtins, "open", lambda *_, **__: (_ for _ in ()).throw(OSError()))
    assert system.largest_memory() >= held.nbytes


@pytest.mark.parametrize(("every_block", "size"), [(False, 4), (True, 4), (True, 400)])
def test_memory_is_kept_where_the_c_library_can(every_block, size):
    """In a process of its own: 400 MB are freed, in blocks of so many, and stay."""
    asked = f"assert keep_memory({every_block}) is True"
    code = ("from captures.system import keep_memory\nimport numpy as np, resource, sys\n"
            f"{asked}\n"
            "held = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096\n"
            f"for _ in range(2):\n    x = [np.ones({size * 125_000}) for _ in range({400 // size})]"
            "; del x\n"
            "sys.exit(held() < 400_000_000)")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    assert subprocess.run([sys.executable, "-c", code.replace(asked, "")],
                          cwd=ROOT, check=False).returncode == 1


@pytest.mark.parametrize("library", [
    lambda name: object(), lambda name: 1 / 0 if name else (_ for _ in ()).throw(OSError())])
def test_memory_where_the_c_library_has_no_mallopt(library, monkeypatch):
    monkeypatch.setattr(system.ctypes, "CDLL", library)
    assert system.keep_memory() is False


def test_code_has_one_hash_whatever_separates_folders(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.py").write_text("1")
    ours = machine.code_sha256(str(tmp_path / "a"))
    monkeypatch.setattr(machine.os, "sep", "\\")
    monkeypatch.setattr(machine.os.path, "relpath",
                        lambda path, start: ntpath.normpath(os.path.join(*os.path.normpath(
                            path).split("/")[-2:])).replace("/", "\\"))
    assert machine.code_sha256(str(tmp_path / "a")) == ours


def test_the_hash_is_of_names_in_one_order(tmp_path, monkeypatch):
    """a/b.py is before a0.py, and a\\b.py behind it."""
    (tmp_path / "a").mkdir()
    for name in ("a/b.py", "a0.py"):
        (tmp_path / name).write_text(name)
    ours = machine.code_sha256(str(tmp_path))

    def walk(folder):
        yield folder, ["a"], ["a0.py"]
        yield folder + "\\a", [], ["b.py"]

    files = {ntpath.join(str(tmp_path), *name.split("/")): name for name in ("a/b.py", "a0.py")}
    real = open
    monkeypatch.setattr(machine.os, "walk", walk)
    monkeypatch.setattr(machine.os, "sep", "\\")
    monkeypatch.setattr(machine.os.path, "join", ntpath.join)
    monkeypatch.setattr(machine.os.path, "relpath", lambda path, start: path[len(start) + 1:])
    monkeypatch.setattr(builtins, "open", lambda path, *more, **named: real(
        f"{tmp_path}/{files[path]}" if path in files else path, *more, **named))
    found = machine.code_sha256(str(tmp_path))
    monkeypatch.undo()
    assert found == ours


def test_what_windows_can_bring_to_the_disk(tmp_path, monkeypatch):
    """Its fsync refuses what is open for reading, and no folder can be opened."""
    real_open, real_sync, reading = os.open, os.fsync, set()

    def opened(path, flags, *more, **named):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied")
        found = real_open(path, flags, *more, **named)
        (reading.discard if flags & os.O_RDWR else reading.add)(found)
        return found

    def synced(descriptor):
        if descriptor in reading:
            raise OSError(9, "Bad file descriptor")
        real_sync(descriptor)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(system, "WINDOWS", True)
    write_text(tmp_path / "file", "x")
    system.to_disk(str(tmp_path))
    monkeypatch.setattr(system, "WINDOWS", False)
    with pytest.raises(OSError):  # the simulation is one
        write_text(tmp_path / "file", "y")
    assert (tmp_path / "file").read_text() == "x"


def test_signals_that_there_are(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    assert system.signals("SIGINT", "SIGTERM", "SIGHUP") == (signal.SIGINT, signal.SIGTERM)
    # Not reloaded: who had caught its exceptions would not know the new ones.
    assert runpy.run_path(signals.__file__)["ENDING"] == (signal.SIGINT, signal.SIGTERM)


def test_two_names_that_some_systems_take_for_one(writer, tmp_path):
    for name in ("a.onnx", "A.onnx", "Manifest.json"):
        (tmp_path / name).write_text("x")
    writer.attach(tmp_path / "a.onnx")
    for name in ("A.onnx", "Manifest.json"):
        with pytest.raises(CaptureError, match="cannot be attached"):
            writer.attach(tmp_path / name)


# Regular expression to the files in which it may stand.
ONLY_IN = {
    r"\bfcntl\b|\bmsvcrt\b": {"captures/system.py", "environment/set_up.py"},
    r"sched_getaffinity": {"captures/system.py", "environment/processors.py"},
    r"os\.fork|os\.waitpid|import resource": {"parity/evidence/child.py", "captures/system.py"},
    r"\"/proc|'/proc": {"captures/system.py"},
    r"fsync": {"captures/system.py", "captures/training/checkpoint.py"},
    r"os\.sep\b|os\.altsep": {"captures/machine.py"},
    r"SIGHUP\"|SIGXCPU\"|signal\.SIG(HUP|XCPU|KILL)": {
        "captures/training/signals.py", "parity/producers/jobs.py", "parity/evidence/child.py",
        "planted/behaviour.py"},
    r"os\.uname|os\.getuid|os\.geteuid|import pwd|import termios": set(),
}


@pytest.mark.parametrize("pattern", ONLY_IN)
def test_what_depends_on_the_system_stands_in_few_places(pattern):
    found = {path.relative_to(ROOT).as_posix() for room in (
        "captures", "environment", "cntk_impl", "torch_port", "planted", "scores", "datasets",
        "parity") for path in (ROOT / room).rglob("*.py") if re.search(pattern, path.read_text())}
    assert found == ONLY_IN[pattern]
    listed = (ROOT / "docs" / "systems.md").read_text()
    assert all(f"`{path}`" in listed for path in found)
