"""Which Python is found, and what is said where there is none."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from environment import find_python
from environment.find_python import CNTK, PORT, PythonNotFoundError, find
from tests.conftest import ROOT

PROGRAM = ROOT / "environment" / "find_python.py"


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def interpreter(path: Path, version: tuple[int, int, int], missing: tuple[str, ...] = ()) -> Path:
    """Something that answers the probe as a Python of that version would."""
    return executable(path, f"echo '{json.dumps([version, missing, str(path)])}'")


def shim(path: Path) -> Path:
    """pyenv's, where no such version is selected."""
    return executable(path, f"echo 'pyenv: {path.name}: command not found' >&2\nexit 127")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with no Python but those that a test puts there: its folder, its environment."""
    monkeypatch.setattr(find_python, "PLACES", (str(tmp_path / "opt" / "*" / "bin"),))
    monkeypatch.setattr(find_python.sys, "executable", str(tmp_path / "no" / "python"))
    return tmp_path, {"HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "bin")}


def test_a_working_python_on_path_is_found(machine):
    folder, environ = machine
    path = interpreter(folder / "bin" / "python3.6", (3, 6, 9))
    assert find(CNTK, environ) == (str(path), "3.6.9")


def test_a_shim_that_exits_127_is_no_python(machine):
    folder, environ = machine
    shim(folder / "bin" / "python3.6")
    with pytest.raises(PythonNotFoundError, match=r"exit 127: pyenv: python3\.6: command not f"):
        find(CNTK, environ)
    path = interpreter(folder / "home/.pyenv/versions/3.6.15/bin/python", (3, 6, 15))
    assert find(CNTK, environ).path == str(path)


def test_a_shim_hides_no_python_that_comes_later_on_path(machine):
    folder, environ = machine
    shim(folder / "bin" / "python3.6")
    path = interpreter(folder / "later" / "python3.6", (3, 6, 9))
    environ["PATH"] += f":{folder / 'later'}"
    assert find(CNTK, environ).path == str(path)


def test_pyenv_newest_first_by_number_and_where_pyenv_root_says(machine):
    folder, environ = machine
    environ["PYENV_ROOT"] = str(folder / "elsewhere")
    for patch in (9, 15, 8):
        interpreter(folder / f"elsewhere/versions/3.6.{patch}/bin/python", (3, 6, patch))
    interpreter(folder / "home/.pyenv/versions/3.6.20/bin/python", (3, 6, 20))
    assert find(CNTK, environ).version == "3.6.15"


@pytest.mark.parametrize("place", ["home/miniconda3/envs/cntk/bin", "opt/python/bin"])
def test_other_places(machine, place):
    folder, environ = machine
    path = interpreter(folder / place / "python3.6", (3, 6, 13))
    assert find(CNTK, environ).path == str(path)


def test_the_variable_comes_first(machine):
    folder, environ = machine
    interpreter(folder / "bin" / "python3.6", (3, 6, 9))
    mine = interpreter(folder / "mine", (3, 6, 1))
    assert find(CNTK, {**environ, "CNTK_PYTHON": str(mine)}, known=str(folder / "bin" / "python3.6")
                ).path == str(mine)


@pytest.mark.parametrize("version, missing, said", [
    ((3, 8, 18), (), r"CNTK_PYTHON=\S+ is Python 3\.8\.18"),
    ((3, 6, 15), ("ssl",), r"CNTK_PYTHON=\S+ is a Python 3\.6\.15 without the module ssl"),
    (None, (), r"CNTK_PYTHON=\S+ does not run as a Python \(exit 127: pyenv"),
])
def test_the_variable_is_refused_never_passed_over(machine, version, missing, said):
    folder, environ = machine
    interpreter(folder / "bin" / "python3.6", (3, 6, 9))
    given = shim(folder / "given") if version is None else interpreter(
        folder / "given", version, missing)
    with pytest.raises(PythonNotFoundError, match=said):
        find(CNTK, {**environ, "CNTK_PYTHON": str(given)})


def test_a_variable_that_names_nothing(machine):
    _, environ = machine
    with pytest.raises(PythonNotFoundError, match=r"/nowhere does not run \(No such file"):
        find(CNTK, {**environ, "CNTK_PYTHON": "/nowhere"})


def test_something_that_runs_and_is_no_python(machine):
    folder, environ = machine
    executable(folder / "bin" / "python3.6", "echo hello")
    with pytest.raises(PythonNotFoundError, match="it answers something else"):
        find(CNTK, environ)


def test_with_none_the_ways_to_get_one_are_told(machine):
    with pytest.raises(PythonNotFoundError) as caught:
        find(CNTK, machine[1])
    message = str(caught.value)
    for way in ("no Python 3.6 on this machine", "pyenv install 3.6.15",
                "conda create -n cntk python=3.6", "container image python:3.6",
                "CNTK_PYTHON=/path/to/python make setup"):
        assert way in message


def test_the_port_takes_the_newest_of_3_11_to_3_14(machine):
    folder, environ = machine
    interpreter(folder / "bin" / "python3.14", (3, 14, 0), missing=("ensurepip",))
    best = interpreter(folder / "bin" / "python3.13", (3, 13, 1))
    interpreter(folder / "bin" / "python3.11", (3, 11, 2))
    assert find(PORT, environ).path == str(best)


def test_the_port_says_that_it_needs_a_newer_python(machine):
    folder, environ = machine
    interpreter(folder / "bin" / "python3.10", (3, 10, 13))
    with pytest.raises(PythonNotFoundError, match=r"no Python 3\.11 to 3\.14 on this machine"):
        find(PORT, environ)
    with pytest.raises(PythonNotFoundError, match=r"PORT_PYTHON=\S+ is Python 3\.10\.13"):
        find(PORT, {**environ, "PORT_PYTHON": str(folder / "bin" / "python3.10")})


def test_the_python_of_before_is_kept_while_it_works(machine):
    folder, environ = machine
    interpreter(folder / "bin" / "python3.13", (3, 13, 1))
    before = interpreter(folder / "before", (3, 11, 2))
    assert find(PORT, environ, known=str(before)).path == str(before)
    before.unlink()
    assert find(PORT, environ, known=str(before)).version == "3.13.1"


def test_inside_a_virtual_environment_the_python_it_was_made_from_is_meant():
    python, reason = find_python.probe(sys.executable, PORT)
    assert reason == "" and python is not None
    assert not Path(python.path).is_relative_to(ROOT)
    assert Path(python.path).samefile(sys.executable)


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, PROGRAM, *arguments], env={"PATH": "", **environ},
                          capture_output=True, text=True, check=False)


def test_as_a_program_it_prints_the_path(tmp_path):
    path = interpreter(tmp_path / "python", (3, 6, 15))
    done = run(CNTK_PYTHON=str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}\n", "")


@pytest.mark.parametrize("arguments, environ, said", [
    (["cntk"], {"CNTK_PYTHON": "/nowhere"}, "error: CNTK_PYTHON=/nowhere does not run"),
    (["port"], {"PORT_PYTHON": "/nowhere"}, "error: PORT_PYTHON=/nowhere does not run"),
    (["both"], {}, "error: usage: find_python.py [cntk | port]"),
])
def test_as_a_program_an_error_is_a_message_and_exit_2(arguments, environ, said):
    done = run(*arguments, **environ)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
