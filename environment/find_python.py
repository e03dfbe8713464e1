"""Finds the Pythons that the environments are made from: a 3.6 for CNTK, a newer one for the port.

    python3 environment/find_python.py [cntk | port]

Prints the path, or says how to get one and exits 2. Candidates are RUN, never just looked up: a
pyenv shim called ``python3.6`` is on PATH, executable, and exits 127 where no 3.6 is selected; a
Debian Python without its venv package runs, and makes no environment.

The order: the variable (CNTK_PYTHON, PORT_PYTHON), which is used or refused, never passed over;
the Python that the environment was made from before, so that a newly installed one remakes
nothing; the running Python; PATH; pyenv's versions; conda's environments and /opt.

Runs under any Python from 3.6 on, with the standard library only.
"""
import collections
import glob
import json
import os
import re
import subprocess
import sys
from typing import Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

NONE = "none"  # CNTK_PYTHON=none: as if there were no Python 3.6


class Python(NamedTuple):
    """path: of the interpreter itself, not of a shim or of a virtual environment's link to it."""

    path: str
    version: str


class Wanted(NamedTuple):
    """variable: which names one; versions: the good ones, best first."""

    variable: str
    versions: Tuple[Tuple[int, int], ...]
    needed_by: str
    ways: str


CNTK = Wanted(
    "CNTK_PYTHON", ((3, 6),), "real CNTK 2.7 (its wheels are for Python 3.6 at the latest)",
    """\
  pyenv install 3.6.15
  conda create -n cntk python=3.6
  the container image python:3.6""")
PORT = Wanted(
    "PORT_PYTHON", ((3, 14), (3, 13), (3, 12), (3, 11)), "the PyTorch port",
    """\
  pyenv install 3.12
  Debian or Ubuntu: apt install python3 python3-venv
  conda create -n port python=3.12""")

# Looked in last, whether on PATH or not.
PLACES = ("/opt/conda/envs/*/bin", "/opt/*/bin", "/usr/local/bin")

# Python 2 must get through this too, to be told apart from something that does not run.
PROBE = r"""
import os, sys
missing = []
for name in ("ctypes", "ensurepip", "ssl", "venv", "zlib"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
inside = os.path.join(getattr(sys, "base_prefix", sys.prefix), "bin",
                      "python%d.%d" % sys.version_info[:2])
import json
print(json.dumps([list(sys.version_info[:3]), missing,
                  inside if os.path.exists(inside) else sys.executable]))
"""


class PythonNotFoundError(Exception):
    """There is no such Python; the message says what was tried and how to get one."""


def named(versions: Sequence[Tuple[int, int]]) -> str:
    """'3.6', '3.11 to 3.14'."""
    low, high = ("{0}.{1}".format(*version) for version in (min(versions), max(versions)))
    return low if low == high else "{0} to {1}".format(low, high)


def probe(path: str, wanted: Wanted) -> Tuple[Optional[Python], str]:
    """Runs ``path``: (a Python, ""), or (None, why it cannot be used)."""
    # A virtual environment or a project on the caller's paths must not answer for the candidate.
    environ = {name: value for name, value in os.environ.items()
               if name not in ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__")}
    try:
        done = subprocess.run([path, "-s", "-c", PROBE], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ,
                              universal_newlines=True, timeout=60)
    except OSError as error:
        return None, "does not run ({0})".format(error.strerror)
    except subprocess.TimeoutExpired:
        return None, "does not answer within a minute"
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["and says nothing"])[0]
        return None, "does not run as a Python (exit {0}: {1})".format(done.returncode, said)
    try:
        version, missing, inside = json.loads(done.stdout)
    except ValueError:
        return None, "does not run as a Python (it answers something else)"
    text = ".".join(str(part) for part in version)
    if tuple(version[:2]) not in wanted.versions:
        return None, "is Python {0}".format(text)
    if missing:
        return None, ("is a Python {0} without the module {1} (Debian: apt install python3-venv; "
                      "pyenv: install OpenSSL's headers, then this version again)"
                      .format(text, missing[0]))
    return Python(inside, text), ""


def _on_path(name: str, environ: Mapping[str, str]) -> List[str]:
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    return [os.path.join(folder, name) for folder in folders if folder]


def _newest_first(paths: Iterable[str]) -> List[str]:
    return sorted(paths, key=lambda path: [int(part) for part in re.findall(r"\d+", path)],
                  reverse=True)


def candidates(wanted: Wanted, environ: Mapping[str, str]) -> List[str]:
    """Paths that exist, in the order of the module's docstring, each once."""
    home = environ.get("HOME", os.path.expanduser("~"))
    pyenv = environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv")
    names = ["python{0}.{1}".format(*version) for version in wanted.versions]
    found = [sys.executable] if sys.version_info[:2] in wanted.versions else []
    for name in names:
        found += _on_path(name, environ)
    for name in names:
        version = name[len("python"):]
        found += _newest_first(glob.glob(os.path.join(pyenv, "versions", version + ".*", "bin",
                                                      "python")))
    for name in names:
        for conda in ("miniconda3", "anaconda3", "miniforge3", "mambaforge", ".conda"):
            found += sorted(glob.glob(os.path.join(home, conda, "envs", "*", "bin", name)))
        for place in PLACES:
            found += sorted(glob.glob(os.path.join(place, name)))
    return [path for path in collections.OrderedDict.fromkeys(found)
            if path and os.path.exists(path)]


def find(wanted: Wanted, environ: Optional[Mapping[str, str]] = None,
         known: Optional[str] = None) -> Python:
    """The Python to use.

    known: the path of the one that was used before, if any.
    Raises PythonNotFoundError.
    """
    environ = os.environ if environ is None else environ
    needed = "Python {0}".format(named(wanted.versions))
    given = environ.get(wanted.variable)
    if given == NONE:
        raise PythonNotFoundError("{0}=none says that there is no {1}, and {2} needs it: leave {0} "
                                  "out to have one looked for".format(
                                      wanted.variable, needed, wanted.needed_by))
    if given:
        python, reason = probe(os.path.expanduser(given), wanted)
        if python is None:
            raise PythonNotFoundError(
                "{0}={1} {2}, and {3} needs {4}: give the path of one, or leave {0} out to have it "
                "looked for".format(wanted.variable, given, reason, wanted.needed_by, needed))
        return python
    tried = []
    for path in ([known] if known else []) + candidates(wanted, environ):
        python, reason = probe(path, wanted)
        if python is not None:
            return python
        tried.append("  {0} {1}\n".format(path, reason))
    raise PythonNotFoundError(
        "no {0} on this machine, and {1} needs it. Ways to get one:\n{2}\n"
        "Where it is not found by itself, name it: {3}=/path/to/python make setup\n"
        "{4}".format(needed, wanted.needed_by, wanted.ways, wanted.variable,
                     "Tried:\n" + "".join(tried) if tried else "").rstrip())


def installed_cntk(root: str, environ: Optional[Mapping[str, str]] = None) -> Optional[str]:
    """The interpreter of CNTK's environment in ``root``; None where it is not set up, or where
    CNTK_PYTHON=none says to do without."""
    environ = os.environ if environ is None else environ
    path = os.path.join(root, ".venv-cntk", "bin", "python")
    if environ.get(CNTK.variable) == NONE or not os.path.exists(path):
        return None
    return path


def main(arguments: Sequence[str]) -> int:
    kinds = {"cntk": CNTK, "port": PORT}
    kind = arguments[0] if arguments else "cntk"
    if kind not in kinds or len(arguments) > 1:
        print("error: usage: find_python.py [cntk | port]", file=sys.stderr)
        return 2
    try:
        print(find(kinds[kind]).path)
    except PythonNotFoundError as error:
        print("error: {0}".format(error), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
