"""Makes the two virtual environments, and makes one again only when what it is made from changed.

    python3 -m environment.set_up cntk | torch | all | path

``.venv-cntk`` is CNTK 2.7's (Python 3.6), ``.venv-torch`` the port's and the suite's (3.11 or
later). Where an NVIDIA driver answers they get the GPU packages, elsewhere the CPU packages;
ACCELERATOR=cpu or ACCELERATOR=cuda decides otherwise.

``all`` is both, or only the port's where there is no Python 3.6 (CNTK_PYTHON=none says so).
``path`` makes nothing: it has the environments that are there import this project's packages, which
the others do as well.

The last thing written into an environment is its stamp: what it was made from. An environment
with no stamp was interrupted and is made again; one whose stamp differs from what it would be made
from today is, too, and the output says what differs. Two set-ups at once take turns.

Runs under any Python from 3.6 on, with the standard library only: it has to be able to say that
a newer one is needed. Exits 2 with a message where something is missing.
"""
import argparse
import collections
import concurrent.futures
import contextlib
import ctypes
import glob
import hashlib
import json
import os
import platform
import shutil
import sys
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from environment import executable_stack, find_python, quiet
from environment.commands import Progress, Say, explain, mend, print_now, run

try:
    import fcntl
except ImportError:  # Windows, where two set-ups at once are not kept apart
    fcntl = None  # type: ignore[assignment]

# Of an environment, its Python and where its packages lie.
PYTHON, PACKAGES = ((("Scripts", "python.exe"), ("Lib", "site-packages")) if os.name == "nt" else
                    (("bin", "python"), ("lib", "python3*", "site-packages")))

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HERE = os.path.join(ROOT, "environment")
STAMP = "set_up.json"
LOG = "pip.log"
COMPILER = "requirements-compiler.txt"
PATH_FILE = "cntk_dcgan_parity.pth"

Stamp = Dict[str, str]
Run = Callable[..., Tuple[int, str]]
Find = Callable[..., find_python.Python]


class Kind(NamedTuple):
    """check: what has to import once everything is in place."""

    name: str
    wanted: find_python.Wanted
    check: str


Needed = Tuple[Kind, find_python.Python, Stamp, Stamp]
KINDS = collections.OrderedDict((kind.name, kind) for kind in (
    Kind("cntk", find_python.CNTK, "import cntk"),
    Kind("torch", find_python.PORT, "import torch, onnxruntime"),
))


class SetUpError(Exception):
    """An environment could not be made; the message says why and what to do."""


def accelerator(environ: Mapping[str, str], driver: Optional[Callable[[], Optional[str]]] = None
                ) -> Tuple[str, str]:
    """("cuda" or "cpu", why)."""
    asked = environ.get("ACCELERATOR")
    if asked:
        if asked not in ("cpu", "cuda"):
            raise SetUpError("ACCELERATOR={0} is neither cpu nor cuda: give one of them, or leave "
                             "it out to have the machine looked at".format(asked))
        return asked, "ACCELERATOR={0} is set".format(asked)
    missing = (driver or missing_driver)()
    return ("cpu", missing) if missing else ("cuda", "an NVIDIA driver answers")


def missing_driver() -> Optional[str]:
    """Why there is no NVIDIA driver to use; None if it answers and has a GPU.

    Asked through the library that cntk-gpu itself is linked to. A library is not enough: container
    images have it without a driver.
    """
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return "no NVIDIA driver is installed (no libnvidia-ml.so.1)"
    count = ctypes.c_uint(0)
    if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return "the NVIDIA driver does not answer"
    return None if count.value else "the NVIDIA driver has no GPU"


def requirements(kind: Kind, chosen: str) -> str:
    """The name of the requirements file."""
    return "requirements-{0}{1}.txt".format(kind.name, "-cpu" if chosen == "cpu" else "")


def folder_of(root: str, kind: Kind) -> str:
    return os.path.join(root, ".venv-" + kind.name)


def python_of(folder: str) -> str:
    return os.path.join(folder, *PYTHON)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hash_of_file(path: str) -> str:
    with open(path, "rb") as file:
        return _hash(file.read())


def made_from(root: str, kind: Kind, python: find_python.Python, chosen: str) -> Stamp:
    """Everything that decides what is in an environment, as the stamp holds it.

    The folder is part of it: a copied environment's scripts still name the old one. A link to an
    environment is that environment.
    """
    given = {
        "python": "{0} {1}".format(python.version, python.path),
        "accelerator": chosen,
        "requirements": _hash_of_file(os.path.join(root, requirements(kind, chosen))),
        "folder": os.path.realpath(folder_of(root, kind)),
    }
    if kind.name == "cntk":
        given["missing_libraries.py"] = _hash_of_file(os.path.join(HERE, "missing_libraries.py"))
        given["executable_stack.py"] = _hash_of_file(os.path.join(HERE, "executable_stack.py"))
        given["the filter of warnings"] = _hash(quiet.FILTER.encode())
    return given


def read_stamp(folder: str) -> Stamp:
    """What the environment was made from; empty where it is missing or was not finished."""
    if not os.path.exists(python_of(folder)):
        return {}
    try:
        with open(os.path.join(folder, STAMP)) as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def known_python(stamp: Stamp) -> Optional[str]:
    """The path of the Python that an environment was made from, if it was made."""
    return stamp.get("python", "").partition(" ")[2] or None


def write_stamp(folder: str, given: Stamp) -> None:
    path = os.path.join(folder, STAMP)
    with open(path + ".part", "w") as file:
        json.dump(given, file, indent=2)
    os.replace(path + ".part", path)


def remove(folder: str) -> None:
    """Removes an environment, its stamp first: half an environment must not have one."""
    if os.path.islink(folder):
        os.unlink(folder)
        return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(os.path.join(folder, STAMP))
    if os.path.isdir(folder):
        shutil.rmtree(folder)


def put_on_path(root: str, kind: Kind) -> None:
    """Has the environment's Python import this project's packages, from wherever it is started.

    What ``pip install -e`` writes is a path; this is one relative to the environment's own folder,
    so a clone that is moved, copied or linked to imports from its new place and never from its old.
    """
    for packages in glob.glob(os.path.join(folder_of(root, kind), *PACKAGES)):
        text = os.path.relpath(root, packages) + "\n"
        path = os.path.join(packages, PATH_FILE)
        with contextlib.suppress(OSError), open(path) as file:
            if file.read() == text:
                continue
        with open(path + ".part", "w") as file:
            file.write(text)
        os.replace(path + ".part", path)


def build(root: str, kind: Kind, python: find_python.Python, chosen: str, say: Say,
          run: Run = run) -> None:
    """Makes one environment, all but its stamp. Raises SetUpError."""
    folder = folder_of(root, kind)
    inside = python_of(folder)
    say("making it from Python {0}, {1}".format(python.version, python.path))
    status, output = run([python.path, "-m", "venv", folder])
    if status:
        raise SetUpError("{0} could not make {1}: {2}".format(
            python.path, folder, (output.strip().splitlines() or ["it said nothing"])[-1]))

    listed = [requirements(kind, chosen)]
    if kind.name == "torch" and shutil.which("cc") is None:
        say("no C compiler here (cc): one is installed beside PyTorch")
        listed.append(COMPILER)
    for name in listed:
        install(root, folder, name, say, run)

    if kind.name == "cntk":
        say("building the libraries that CNTK's wheel expects")
        status, output = run([inside, os.path.join(HERE, "missing_libraries.py")])
        if status:
            raise SetUpError("the libraries that CNTK's wheel expects could not be built: {0}"
                             .format(output.strip()))
        packages = os.path.join(folder, "lib", "python3.6", "site-packages")
        executable_stack.clear_folder(os.path.join(packages, "cntk", "libs"))
        with open(os.path.join(packages, "sitecustomize.py"), "w") as file:
            file.write(quiet.FILTER)

    say("checking: {0}".format(kind.check))
    status, output = run([inside, "-c", kind.check])
    if status:
        raise SetUpError(unusable(kind, chosen, status, output))


def install(root: str, folder: str, listed: str, say: Say, run: Run) -> None:
    """Raises SetUpError."""
    say("installing {0}".format(listed))
    log = os.path.join(folder, LOG)
    command = [python_of(folder), "-m", "pip", "install", "--disable-pip-version-check",
               "-r", os.path.join(root, listed)]
    if os.environ.get("PIP_NO_CACHE_DIR"):
        # Usual in containers, and pip 18, which Python 3.6 brings, fails on the variable's 1.
        command.append("--no-cache-dir")
    status, output = run(command, log=log)
    if status:
        line, advice = explain(output)
        raise SetUpError("pip could not install {0}: {1}\n{2}; then run make setup again. All that "
                         "pip said is in {3}".format(listed, line, advice, log))


def unusable(kind: Kind, chosen: str, status: int, output: str) -> str:
    """What to say where everything is installed and does not import."""
    said = (output.strip().splitlines() or ["exit {0}".format(status)])[-1]
    if chosen == "cuda":
        advice = ("the GPU packages need a working NVIDIA driver; ACCELERATOR=cpu make setup "
                  "does without")
    else:
        advice = ("a library that it names is one that this machine lacks: install it, then run "
                  "make setup again")
    return "'{0}' fails in {1}: {2}\n{3}".format(kind.check, ".venv-" + kind.name, said, advice)


def set_up(kinds: Sequence[Kind], root: str = ROOT, environ: Optional[Mapping[str, str]] = None,
           build: Callable[..., None] = build, find: Find = find_python.find,
           write: Say = print_now) -> List[str]:
    """Makes those of the environments that are not as they should be; their names.

    Raises SetUpError or PythonNotFoundError; what could be made is made all the same.
    """
    environ = os.environ if environ is None else environ
    chosen, why = accelerator(environ)
    needed: List[Needed] = []
    for kind in kinds:
        if kind.name == "cntk":
            check_machine()
        stamp = read_stamp(folder_of(root, kind))
        python = find(kind.wanted, environ, known_python(stamp))
        given = made_from(root, kind, python, chosen)
        if stamp != given:
            needed.append((kind, python, given, stamp))
    if needed:
        make_all(root, needed, chosen, why, build, write)
    for kind in kinds:
        put_on_path(root, kind)
    return [kind.name for kind, _, _, _ in needed]


def make_all(root: str, needed: Sequence[Needed], chosen: str, why: str,
             build: Callable[..., None], write: Say) -> None:
    """Two at the same time: one waits for the network while the other unpacks.

    Raises SetUpError; what could be made is made all the same.
    """
    write("{0}: {1} packages".format(why, "GPU" if chosen == "cuda" else "CPU"))
    progress = Progress(write)

    def make(kind: Kind, python: find_python.Python, given: Stamp, stamp: Stamp) -> None:
        say, folder = progress.of(kind.name), folder_of(root, kind)
        if os.path.lexists(folder):
            differs = [name for name in given if stamp.get(name) != given[name]]
            say("removing the old one: {0}".format(
                "changed: " + ", ".join(differs) if stamp else "its set-up was never finished"))
            remove(folder)
        build(root, kind, python, chosen, say)
        # Where there was a link there is a folder of its own now. The rest is as it was read
        # before: a file edited meanwhile makes the environment stale.
        write_stamp(folder, dict(given, folder=os.path.realpath(folder)))
        say("ready")

    with concurrent.futures.ThreadPoolExecutor(len(needed)) as pool:
        running = [pool.submit(make, *one) for one in needed]
    errors = [error for error in (one.exception() for one in running) if error]
    for error in errors:
        if not isinstance(error, (SetUpError, OSError)):
            raise error
    if errors:
        raise SetUpError("\nerror: ".join(describe(error) for error in errors))


def describe(error: BaseException) -> str:
    if isinstance(error, OSError):
        return "{0}\n{1}; then run make setup again".format(error, mend(str(error)))
    return str(error)


def check_machine() -> None:
    """Raises SetUpError where no CNTK wheel can run."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise SetUpError("CNTK 2.7 is published for Linux on x86_64 only, and this is {0} on {1}: "
                         "use such a machine or container. make twin needs no CNTK."
                         .format(system, machine))


def possible(root: str = ROOT, environ: Optional[Mapping[str, str]] = None,
             find: Find = find_python.find, write: Say = print_now) -> List[Kind]:
    """The environments that this machine can have: the port's, and CNTK's where there is a Python
    3.6 to be had and a wheel for the machine. Where not, that is said, and what it means.

    Raises PythonNotFoundError where CNTK_PYTHON names something else than a Python 3.6.
    """
    environ = os.environ if environ is None else environ
    cntk = KINDS["cntk"]
    given = environ.get(cntk.wanted.variable)
    try:
        check_machine()
        find(cntk.wanted, environ, known_python(read_stamp(folder_of(root, cntk))))
        return list(KINDS.values())
    except (SetUpError, find_python.PythonNotFoundError) as error:
        if given and given != find_python.NONE:
            raise
        write("{0}\nSo only the port's environment is set up, and what needs real CNTK is not run."
              .format(error))
    return [KINDS["torch"]]


@contextlib.contextmanager
def alone(root: str, write: Say = print_now) -> Iterator[None]:
    """Holds the set-up's lock.

    Commands that are started meanwhile inherit the descriptor: a pip that outlives a killed
    set-up keeps the lock until it ends, so that the next one does not write beside it.
    """
    with open(os.path.join(root, ".set_up.lock"), "a") as file:
        os.set_inheritable(file.fileno(), True)
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                write("another make setup is at work in this folder: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m environment.set_up", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("environment", choices=[*KINDS, "all", "path"])
    name = parser.parse_args(arguments).environment
    try:
        with alone(ROOT):
            if name == "path":
                for kind in KINDS.values():
                    put_on_path(ROOT, kind)
                return 0
            set_up(possible() if name == "all" else [KINDS[name]])
    except (SetUpError, find_python.PythonNotFoundError, OSError) as error:
        print("error: {0}".format(describe(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: run make setup again, it starts over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
