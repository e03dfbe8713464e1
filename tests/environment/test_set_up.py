"""When an environment is made, from what, and what is said where it cannot be.

Nothing is installed here: ``set_up`` gets a builder that makes an empty folder, ``build`` gets a
runner that notes the commands.
"""
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from environment import find_python, missing_libraries, quiet, set_up
from environment.find_python import Python, PythonNotFoundError
from environment.set_up import KINDS, SetUpError
from tests.conftest import ROOT

CNTK, TORCH = KINDS["cntk"], KINDS["torch"]
PYTHONS = {CNTK.wanted: Python("/of/python3.6", "3.6.15"),
           TORCH.wanted: Python("/of/python3.11", "3.11.7")}


class Workshop:
    """A copy of what the environments are made from, a builder, and what both said and did."""

    def __init__(self, root: Path):
        self.root = root
        self.built: list[str] = []
        self.said: list[str] = []
        self.known: list[str | None] = []
        self.pythons = dict(PYTHONS)
        self.environ = {"ACCELERATOR": "cpu"}
        self.broken: set[str] = set()

    def build(self, root, kind, python, chosen, say):
        folder = self.root / f".venv-{kind.name}"
        assert not folder.exists(), "the old one was to be removed first"
        self.built.append(kind.name)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()
        if kind.name in self.broken:
            raise SetUpError(f"no {kind.name} today")

    def find(self, wanted, environ, known):
        self.known.append(known)
        return self.pythons[wanted]

    def run(self, *kinds) -> list[str]:
        """The names of what was made."""
        self.built.clear()
        self.said.clear()
        made = set_up.set_up(kinds or tuple(KINDS.values()), str(self.root), self.environ,
                             self.build, self.find, self.said.append)
        assert sorted(made) == sorted(self.built)
        return sorted(made)


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    for path in ROOT.glob("requirements-*.txt"):
        shutil.copy(path, tmp_path)
    here = tmp_path / "environment"
    here.mkdir(parents=True)
    for name in ("missing_libraries.py", "executable_stack.py"):
        shutil.copy(ROOT / "environment" / name, here)
    monkeypatch.setattr(set_up, "HERE", str(here))
    return Workshop(tmp_path)


def test_both_are_made_and_a_second_run_does_and_says_nothing(workshop):
    assert workshop.run() == ["cntk", "torch"]
    assert workshop.said[0] == "ACCELERATOR=cpu is set: CPU packages"
    assert workshop.run() == []
    assert workshop.said == []


def test_only_the_one_that_is_asked_for(workshop):
    assert workshop.run(TORCH) == ["torch"]
    assert not (workshop.root / ".venv-cntk").exists()
    assert workshop.run() == ["cntk"]


def edit(path: str):
    def change(workshop, monkeypatch):
        with open(workshop.root / path, "a") as file:
            file.write("# edited\n")
    return change


def another_filter(workshop, monkeypatch):
    monkeypatch.setattr(quiet, "FILTER", quiet.FILTER + "\n")


def another_accelerator(workshop, monkeypatch):
    workshop.environ["ACCELERATOR"] = "cuda"


def another_python(kind, path, version):
    def change(workshop, monkeypatch):
        workshop.pythons[kind.wanted] = Python(path, version)
    return change


def moved(workshop, monkeypatch):
    workshop.root = workshop.root.rename(workshop.root.with_name("moved"))
    monkeypatch.setattr(set_up, "HERE", str(workshop.root / "environment"))


@pytest.mark.parametrize("change, remade", [
    (edit("requirements-cntk-cpu.txt"), ["cntk"]),
    (edit("requirements-torch-cpu.txt"), ["torch"]),
    (edit("requirements-cntk.txt"), []),
    (edit("requirements-torch.txt"), []),
    (edit("environment/missing_libraries.py"), ["cntk"]),
    (edit("environment/executable_stack.py"), ["cntk"]),
    (another_filter, ["cntk"]),
    (another_accelerator, ["cntk", "torch"]),
    (another_python(CNTK, "/of/python3.6", "3.6.9"), ["cntk"]),
    (another_python(CNTK, "/other/python3.6", "3.6.15"), ["cntk"]),
    (another_python(TORCH, "/of/python3.11", "3.11.8"), ["torch"]),
    (moved, ["cntk", "torch"]),
], ids=["cntk", "torch", "cntk of another accelerator", "torch of another accelerator",
        "missing libraries", "executable stack", "filter", "accelerator", "version", "path",
        "port's version", "moved"])
def test_what_has_an_environment_made_again(workshop, monkeypatch, change, remade):
    workshop.run()
    change(workshop, monkeypatch)
    assert workshop.run() == remade
    assert workshop.run() == []


def test_it_says_what_changed(workshop, monkeypatch):
    workshop.run()
    edit("requirements-torch-cpu.txt")(workshop, monkeypatch)
    workshop.run()
    assert workshop.said[1].endswith(".venv-torch  removing the old one: changed: requirements")


def test_the_python_of_before_is_offered_to_the_search(workshop):
    workshop.run()
    assert workshop.known == [None, None]
    workshop.run()
    assert workshop.known[2:] == ["/of/python3.6", "/of/python3.11"]


def test_an_interrupted_one_is_made_again_and_the_other_is_kept(workshop):
    workshop.broken = {"cntk"}
    with pytest.raises(SetUpError, match=r"^no cntk today$"):
        workshop.run()
    workshop.broken = set()
    assert workshop.run() == ["cntk"]
    assert any("its set-up was never finished" in line for line in workshop.said)


def test_both_errors_are_told(workshop):
    workshop.broken = {"cntk", "torch"}
    with pytest.raises(SetUpError, match=r"^no cntk today\nerror: no torch today$"):
        workshop.run()


@pytest.mark.parametrize("spoil", [
    lambda folder: (folder / "bin" / "python").unlink(),
    lambda folder: (folder / set_up.STAMP).write_text('{"python": '),
    lambda folder: (folder / set_up.STAMP).write_text("[]"),
    lambda folder: (folder / set_up.STAMP).unlink(),
], ids=["no python", "half a stamp", "another stamp", "no stamp"])
def test_a_spoilt_one_is_made_again(workshop, spoil):
    workshop.run()
    spoil(workshop.root / ".venv-torch")
    assert workshop.run() == ["torch"]


def test_the_stamp_goes_first(workshop, monkeypatch):
    workshop.run()

    def killed(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(set_up.shutil, "rmtree", killed)
    folder = workshop.root / ".venv-torch"
    with pytest.raises(KeyboardInterrupt):
        set_up.remove(str(folder))
    assert (folder / "bin").exists()
    assert set_up.read_stamp(str(folder)) == {}


def test_a_link_to_a_finished_environment_is_used_and_never_emptied(workshop, monkeypatch):
    workshop.run()
    elsewhere = workshop.root / "elsewhere"
    (workshop.root / ".venv-torch").rename(elsewhere)
    (workshop.root / ".venv-torch").symlink_to(elsewhere)
    assert workshop.run() == ["torch"]  # its scripts name the place that it was made in
    assert (elsewhere / "bin" / "python").exists()
    (workshop.root / ".venv-torch").rename(elsewhere.with_name("there"))
    (workshop.root / ".venv-torch").symlink_to(elsewhere.with_name("there"))
    stamp = set_up.made_from(str(workshop.root), TORCH, PYTHONS[TORCH.wanted], "cpu")
    set_up.write_stamp(str(elsewhere.with_name("there")), stamp)
    assert workshop.run() == []


def test_a_missing_python_stops_before_anything_is_made(workshop):
    def find(wanted, environ, known):
        if wanted is TORCH.wanted:
            raise PythonNotFoundError("no Python 3.11 to 3.14")
        return PYTHONS[wanted]

    workshop.find = find
    with pytest.raises(PythonNotFoundError):
        workshop.run()
    assert workshop.built == []


def test_cntk_on_another_kind_of_machine(workshop, monkeypatch):
    monkeypatch.setattr(set_up.platform, "machine", lambda: "aarch64")
    with pytest.raises(SetUpError, match=r"Linux on x86_64 only, and this is \S+ on aarch64"):
        workshop.run()
    assert workshop.run(TORCH) == ["torch"]


# ------------------------------------------------------------------------ a machine without a 3.6


def test_none_sets_up_the_ports_alone_and_says_so(tmp_path):
    said = []
    assert set_up.possible(str(tmp_path), {"CNTK_PYTHON": "none"}, write=said.append) == [TORCH]
    assert said[0].startswith("CNTK_PYTHON=none says that there is no Python 3.6")
    assert said[0].endswith("only the port's environment is set up, and what needs real CNTK is "
                            "not run.")


def test_a_machine_with_no_python36_as_well(tmp_path):
    def find(wanted, environ, known=None):
        raise PythonNotFoundError("no Python 3.6 on this machine. Ways to get one: pyenv")

    said = []
    assert set_up.possible(str(tmp_path), {}, find, said.append) == [TORCH]
    assert "Ways to get one: pyenv" in said[0]
    with pytest.raises(PythonNotFoundError):  # what is named is used or refused
        set_up.possible(str(tmp_path), {"CNTK_PYTHON": "/nowhere"}, find, said.append)


def test_a_machine_without_a_wheel_of_cntks_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(set_up.platform, "system", lambda: "Darwin")
    said = []
    assert set_up.possible(str(tmp_path), {}, write=said.append) == [TORCH]
    assert "Linux on x86_64 only, and this is Darwin" in said[0]


def test_where_there_is_one_both_are_made_and_nothing_is_said(workshop):
    said = []
    assert set_up.possible(str(workshop.root), {}, workshop.find, said.append) == [CNTK, TORCH]
    assert said == []


def test_cntk_alone_is_refused_with_none(copy):
    done = run_program(copy, "cntk", CNTK_PYTHON="none", ACCELERATOR="cpu")
    assert done.returncode == 2
    assert done.stderr.startswith("error: CNTK_PYTHON=none says that there is no Python 3.6")


@pytest.mark.parametrize("there, given, found", [
    (True, "", True), (True, "none", False), (False, "", False)])
def test_the_installed_cntk(tmp_path, there, given, found):
    path = tmp_path / ".venv-cntk" / "bin" / "python"
    if there:
        path.parent.mkdir(parents=True)
        path.touch()
    expected = str(path) if found else None
    assert find_python.installed_cntk(str(tmp_path), {"CNTK_PYTHON": given}) == expected


# ------------------------------------------------------------------- the packages on Python's path

SHOW = "import parity_probe; print(parity_probe.__file__)"


def imported_from(root):
    """Where an environment's Python, started elsewhere, has this project's package from."""
    done = subprocess.run([root / ".venv-torch" / "bin" / "python", "-I", "-c", SHOW], cwd="/",
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


@pytest.fixture
def clone(tmp_path):
    """A folder with a real environment, empty of packages, and one module of the project."""
    root = tmp_path / "clone"
    root.mkdir()
    (root / "parity_probe.py").touch()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv-torch"],
                   check=True)
    return root


def test_the_environment_imports_this_project_from_anywhere(clone):
    assert "No module named" in imported_from(clone)
    set_up.put_on_path(str(clone), TORCH)
    assert imported_from(clone) == str(clone / "parity_probe.py")


@pytest.mark.parametrize("change", [shutil.move, shutil.copytree])
def test_a_clone_elsewhere_never_imports_from_the_old_place(clone, change):
    set_up.put_on_path(str(clone), TORCH)
    new = clone.with_name("new")
    change(clone, new, **({"symlinks": True} if change is shutil.copytree else {}))
    assert imported_from(new) == str(new / "parity_probe.py")


def test_a_linked_environment_imports_from_where_the_link_is(clone):
    shutil.move(clone / ".venv-torch", clone.with_name("shared"))
    for name in ("clone", "second"):
        root = clone.with_name(name)
        root.mkdir(exist_ok=True)
        (root / "parity_probe.py").touch()
        (root / ".venv-torch").symlink_to(clone.with_name("shared"))
        set_up.put_on_path(str(root), TORCH)
        assert imported_from(root) == str(root / "parity_probe.py")


def test_the_set_up_mends_a_path_that_leads_elsewhere(workshop):
    packages = workshop.root / ".venv-torch" / "lib" / "python3.11" / "site-packages"
    workshop.run()
    packages.mkdir(parents=True)
    (packages / set_up.PATH_FILE).write_text("/the/old/place\n")
    assert workshop.run() == []
    assert (packages / set_up.PATH_FILE).read_text() == "../../../..\n"


@pytest.mark.parametrize("asked, missing, chosen, why", [
    (None, None, "cuda", "an NVIDIA driver answers"),
    (None, "no driver", "cpu", "no driver"),
    ("", "no driver", "cpu", "no driver"),
    ("cpu", None, "cpu", "ACCELERATOR=cpu is set"),
    ("cuda", "no driver", "cuda", "ACCELERATOR=cuda is set"),
])
def test_accelerator(asked, missing, chosen, why):
    environ = {} if asked is None else {"ACCELERATOR": asked}
    assert set_up.accelerator(environ, lambda: missing) == (chosen, why)


def test_an_accelerator_that_does_not_exist():
    with pytest.raises(SetUpError, match="ACCELERATOR=gpu is neither cpu nor cuda"):
        set_up.accelerator({"ACCELERATOR": "gpu"})


class Driver:
    """libnvidia-ml.so.1."""

    def __init__(self, init, count):
        self.init, self.count = init, count

    def nvmlInit_v2(self):  # noqa: N802
        return self.init

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802
        count._obj.value = self.count
        return 0


@pytest.mark.parametrize("driver, said", [
    (Driver(0, 1), None),
    (Driver(9, 0), "does not answer"),
    (Driver(0, 0), "has no GPU"),
    (None, "no NVIDIA driver is installed"),
])
def test_the_driver_is_asked(monkeypatch, driver, said):
    def load(name):
        assert name == "libnvidia-ml.so.1"
        if driver is None:
            raise OSError
        return driver

    monkeypatch.setattr(set_up.ctypes, "CDLL", load)
    missing = set_up.missing_driver()
    assert missing is None if said is None else said in missing


def test_the_file_for_each_accelerator():
    names = {set_up.requirements(kind, chosen) for kind in KINDS.values()
             for chosen in ("cpu", "cuda")}
    by_hand = {"requirements-triton.txt",          # what no environment needs
               set_up.COMPILER}                    # what one without cc needs besides
    assert names | by_hand == {path.name for path in ROOT.glob("requirements-*.txt")}


RETRYING = ("Retrying (Retry(total=4, connect=None)) after connection broken by "
            "'NewConnectionError('<HTTPConnection>: Failed to establish a new connection: "
            "[Errno 111] Connection refused')': /simple/cntk/\n")


@pytest.mark.parametrize("log, line, advice", [
    ("Url '/x' is ignored: it is neither a file nor a directory.\nCollecting cntk==2.7.post2\n  "
     + RETRYING + "  Could not find a version that satisfies the requirement cntk==2.7.post2 (from "
     "versions: )\nNo matching distribution found for cntk==2.7.post2 (line 3)\n",
     "No matching distribution found for cntk==2.7.post2 (line 3)", "check the network"),
    ("WARNING: " + RETRYING + "ERROR: Could not find a version that satisfies the requirement "
     "torch==2.13.0 (from versions: none)\nERROR: No matching distribution found for "
     "torch==2.13.0\n",
     "No matching distribution found for torch==2.13.0", "check the network"),
    ("ERROR: Could not find a version that satisfies the requirement torch==9 (from versions: 2)\n"
     "ERROR: No matching distribution found for torch==9\n",
     "No matching distribution found for torch==9", "pip's index settings"),
    ("Collecting numpy\nCould not install packages due to an EnvironmentError: [Errno 28] No space "
     "left on device\n\nExtra\n",
     "Could not install packages due to an EnvironmentError: [Errno 28] No space left on device",
     "the disk is full: free"),
    ("Exception:\nTraceback (most recent call last):\n  File x\nOSError: [Errno 28] No space left "
     "on device\n", "OSError: [Errno 28] No space left on device", "the disk is full: free"),
    ("ERROR: ResolutionImpossible: a needs b\n", "ResolutionImpossible: a needs b", "mend what"),
    ("", "pip said nothing", "mend what"),
], ids=["pip 18 offline", "offline", "no such version", "pip 18, full disk", "full disk, trace",
        "conflict", "nothing"])
def test_what_pip_says_is_put_in_a_line_and_an_advice(log, line, advice):
    said, told = set_up.explain(log)
    assert said == line
    assert advice in told


class Runner:
    """Notes commands; the one that has ``failing`` in it fails with ``output``."""

    def __init__(self, failing="", output=""):
        self.failing, self.output, self.commands = failing, output, []

    def __call__(self, command, log=None):
        text = " ".join(command)
        self.commands.append(text)
        if self.failing and self.failing in text:
            return 1, self.output
        if "venv" in command:
            Path(command[-1], "lib/python3.6/site-packages/cntk/libs").mkdir(parents=True)
        return 0, ""


def build(root, kind, run, chosen="cpu"):
    steps: list[str] = []
    set_up.build(str(root), kind, PYTHONS[kind.wanted], chosen, steps.append, run)
    return steps


def test_the_steps_of_cntks_environment(tmp_path):
    run = Runner()
    steps = build(tmp_path, CNTK, run)
    inside = f"{tmp_path}/.venv-cntk/bin/python"
    assert run.commands == [
        f"/of/python3.6 -m venv {tmp_path}/.venv-cntk",
        f"{inside} -m pip install --disable-pip-version-check -r "
        f"{tmp_path}/requirements-cntk-cpu.txt",
        f"{inside} {set_up.HERE}/missing_libraries.py",
        f"{inside} -c import cntk",
    ]
    assert len(steps) == 4
    packages = tmp_path / ".venv-cntk" / "lib" / "python3.6" / "site-packages"
    assert (packages / "sitecustomize.py").read_text() == quiet.FILTER
    assert not (tmp_path / ".venv-cntk" / set_up.STAMP).exists()


def test_the_steps_of_the_ports_environment(tmp_path):
    run = Runner()
    build(tmp_path, TORCH, run, "cuda")
    assert [command.partition(" ")[2] for command in run.commands] == [
        f"-m venv {tmp_path}/.venv-torch",
        f"-m pip install --disable-pip-version-check -r {tmp_path}/requirements-torch.txt",
        "-c import torch, onnxruntime",
    ]


def test_without_a_compiler_one_is_installed_beside_pytorch(tmp_path, monkeypatch):
    monkeypatch.setattr(set_up.shutil, "which", lambda name: None)
    run = Runner()
    steps = build(tmp_path, TORCH, run)
    assert [command.rpartition("/")[2] for command in run.commands if " pip " in command] == [
        "requirements-torch-cpu.txt", set_up.COMPILER]
    assert any("no C compiler here" in step for step in steps)
    assert (Path(set_up.ROOT) / set_up.COMPILER).exists()


@pytest.mark.parametrize("failing, output, chosen, said", [
    ("-m venv", "Error: no ensurepip\n", "cpu", r"could not make \S+/\.venv-cntk: Error: no ensur"),
    ("-m pip", "ERROR: No matching distribution found for numpy==1.17.3\n", "cpu",
     r"pip could not install requirements-cntk-cpu\.txt: No matching .* numpy==1\.17\.3\n"
     r".*; then run make setup again\. All that pip said is in \S+/\.venv-cntk/pip\.log"),
    ("missing_libraries", "'cc' is not on this machine: install a C compiler\n", "cpu",
     "could not be built: 'cc' is not on this machine"),
    ("import cntk", "Traceback\nImportError: libgomp.so.1: cannot open\n", "cpu",
     r"'import cntk' fails in \.venv-cntk: ImportError: libgomp\.so\.1: cannot open\n.*install it"),
    ("import cntk", "ImportError: libnvidia-ml.so.1: cannot open\n", "cuda",
     r"libnvidia-ml\.so\.1: cannot open\n.*ACCELERATOR=cpu make setup"),
    ("import cntk", "", "cpu", r"'import cntk' fails in \.venv-cntk: exit 1"),
])
def test_the_error_of_each_step(tmp_path, failing, output, chosen, said):
    with pytest.raises(SetUpError, match=said):
        build(tmp_path, CNTK, Runner(failing, output), chosen)


def test_pip_18_and_a_container_without_a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    run = Runner()
    build(tmp_path, CNTK, run)
    assert run.commands[1].endswith(" --no-cache-dir")


def test_commands_do_not_see_the_callers_python_paths(tmp_path, monkeypatch):
    for name in ("PYTHONPATH", "PIP_TARGET", "PIP_USER", "PIP_NO_CACHE_DIR"):
        monkeypatch.setenv(name, "1")
    status, output = set_up.run(["env"], log=str(tmp_path / "log"))
    assert status == 0
    assert not {"PYTHONPATH", "PIP_TARGET", "PIP_USER", "PIP_NO_CACHE_DIR"}.intersection(
        line.partition("=")[0] for line in output.splitlines())
    assert (tmp_path / "log").read_text() == output


def test_a_log_that_cannot_be_written_hides_no_error(tmp_path):
    assert set_up.run(["sh", "-c", "echo full; exit 3"], log=str(tmp_path / "no" / "log")) == (
        3, "full\n")


def test_two_set_ups_take_turns(tmp_path):
    said, order = [], []
    waiting = threading.Event()

    def second():
        def write(text):
            said.append(text)
            waiting.set()
        with set_up.alone(str(tmp_path), write):
            order.append("second")

    with set_up.alone(str(tmp_path), said.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert said == ["another make setup is at work in this folder: waiting for it"]


def test_a_command_that_outlives_its_set_up_keeps_the_lock(tmp_path):
    program = ("import subprocess, sys\n"
               "from environment import set_up\n"
               "with set_up.alone(sys.argv[1]):\n"
               "    child = subprocess.Popen(['sleep', '60'], close_fds=False,\n"
               "                             stdout=subprocess.DEVNULL)\n"
               "print(child.pid)\n")
    done = subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, check=True,
                          stdout=subprocess.PIPE, text=True)
    with open(tmp_path / ".set_up.lock", "a") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(int(done.stdout), 9)
        fcntl.flock(lock, fcntl.LOCK_EX)


@pytest.fixture
def copy(tmp_path):
    """The set-up's own files in a folder of their own, so that the real lock is not taken."""
    shutil.copytree(ROOT / "environment", tmp_path / "environment",
                    ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("requirements-*.txt"):
        shutil.copy(path, tmp_path)
    return tmp_path


def run_program(copy, *arguments, **environ):
    kept = {name: value for name, value in os.environ.items()
            if name not in ("ACCELERATOR", "CNTK_PYTHON", "PORT_PYTHON")}
    return subprocess.run([sys.executable, "-m", "environment.set_up", *arguments], cwd=copy,
                          env={**kept, **environ}, capture_output=True, text=True, check=False)


def python(copy, body):
    path = copy / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("arguments, environ, said", [
    (["all"], {"ACCELERATOR": "gpu"}, "error: ACCELERATOR=gpu is neither cpu nor cuda"),
    (["all"], {"CNTK_PYTHON": "/nowhere"}, "error: CNTK_PYTHON=/nowhere does not run"),
    (["torch"], {"PORT_PYTHON": "/nowhere"}, "error: PORT_PYTHON=/nowhere does not run"),
    (["tensorflow"], {}, "usage: "),
    ([], {}, "usage: "),
])
def test_as_a_program_an_error_is_a_message_and_exit_2(copy, arguments, environ, said):
    done = run_program(copy, *arguments, **environ)
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
    assert not list(copy.glob(".venv-*"))


def test_as_a_program_a_failing_step_is_a_message_and_exit_2(copy):
    # Answers the probe as a Python 3.6, then fails to make an environment.
    path = python(copy, 'case "$*" in "-m venv "*) echo "disk on fire" >&2; exit 1;; esac\n'
                  f'echo \'[[3, 6, 15], [], "{copy / "python"}"]\'')
    done = run_program(copy, "cntk", CNTK_PYTHON=path, ACCELERATOR="cpu")
    assert (done.returncode, done.stderr) == (
        2, f"error: {path} could not make {copy}/.venv-cntk: disk on fire\n")


def test_as_a_program_a_missing_file_is_a_message_and_exit_2(copy):
    (copy / "requirements-torch-cpu.txt").unlink()
    done = run_program(copy, "torch", ACCELERATOR="cpu", PORT_PYTHON=sys.executable)
    assert done.returncode == 2
    assert done.stderr.startswith("error: [Errno 2] No such file or directory")
    assert "requirements-torch-cpu.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_libraries_says_where_there_is_no_cntk(tmp_path):
    with pytest.raises(missing_libraries.BuildError, match=r"no CNTK 2\.7 in .*make setup again"):
        missing_libraries.build(str(tmp_path))
