"""Compiles each C file beside it once, into build/, and loads it.

A library's name holds a hash of the source, the flags and the platform: an edited source is
another library, and two processes that compile at once write the same file twice, whole each time.
"""
import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from captures.errors import ParityError
from captures.files import written_whole

BUILD = Path(__file__).resolve().parents[2] / "build"
SOURCE = Path(__file__).with_name("cntk_random.c")
BATCH_NORM = SOURCE.with_name("cntk_batch_norm.c")
SINGLE = SOURCE.with_name("cntk_single.c")
PRODUCTS = SOURCE.with_name("cntk_products.c")
EDGES = SOURCE.with_name("cntk_edges.c")
# No fused multiply-add: it rounds once where CNTK's library rounds twice. -O3 reorders no
# sum: it makes vectors only of what is independent (batch normalisation 1.9 times as fast as -O2).
FLAGS = ("-O3", "-ffp-contract=off", "-std=c11", "-fPIC", "-shared")

_WORDS = ctypes.POINTER(ctypes.c_uint64)
_DOUBLES = ctypes.POINTER(ctypes.c_double)
_FLOATS = ctypes.POINTER(ctypes.c_float)
_POINTER = ctypes.c_void_p


class Shape(ctypes.Structure):
    """Of an N x C x H x W array, for cntk_batch_norm.c."""
    _fields_ = [(name, ctypes.c_size_t) for name in ("samples", "channels", "rows", "columns")]


_CHANNELS = (Shape, ctypes.c_size_t, ctypes.c_size_t)
_RANDOM = {
    "mersenne64_size": (ctypes.c_size_t, ()),
    "mersenne64_seed": (None, (ctypes.c_void_p, ctypes.c_uint64)),
    "mersenne64_outputs": (None, (ctypes.c_void_p, _WORDS, ctypes.c_size_t)),
    "normal_fill": (ctypes.c_uint64, (ctypes.c_void_p, _DOUBLES, _DOUBLES, ctypes.c_double,
                                      _FLOATS, ctypes.c_size_t)),
}
_BATCH_NORM = {
    "batch_norm_forward": (None, (*_CHANNELS, *[_POINTER] * 3, ctypes.c_float, *[_POINTER] * 3)),
    "batch_norm_backward": (None, (*_CHANNELS, *[_POINTER] * 5, ctypes.c_float, *[_POINTER] * 3)),
}
_TWO_VECTORS = (_POINTER, _POINTER, ctypes.c_size_t)
_SINGLE = {
    "exp_all": (None, _TWO_VECTORS), "log_all": (None, _TWO_VECTORS),
    "tanh_all": (None, _TWO_VECTORS),
    "adam": (None, (*[_POINTER] * 4, ctypes.c_size_t, *[ctypes.c_float] * 7)),
}
_SIZE = ctypes.c_size_t
_PRODUCTS = {
    "lanes": (_SIZE, ()), "scratch_size": (_SIZE, ()), "fastest": (ctypes.c_char_p, ()),
    "products": (None, (_POINTER, *[_SIZE] * 5, _POINTER, _POINTER, _SIZE, _SIZE, _POINTER)),
    "pack": (None, (_POINTER, *[_SIZE] * 7, _POINTER)),
}
_EDGES = {"edges": (None, (_POINTER, *[_SIZE] * 4))}
_SIGNATURES: dict[Path, dict[str, tuple[Any, tuple[Any, ...]]]] = {
    SOURCE: _RANDOM, BATCH_NORM: _BATCH_NORM, SINGLE: _SINGLE, PRODUCTS: _PRODUCTS,
    EDGES: _EDGES}


_ONE_AT_A_TIME = threading.Lock()


class CompilerError(ParityError):
    """There is no C compiler, or it refused the source."""


def compiled(source: str, folder: Path = BUILD, compiler: str = "cc",
             of: Path = SOURCE, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The C text, that of the file ``of`` or an edited one, as a loaded library; compiled only
    where ``folder`` does not hold it yet. flags: beside those of every file.

    Raises CompilerError, saying what to do, where it cannot be compiled.
    """
    key = "\n".join((source, *FLAGS, *flags, platform.machine(), platform.system(),
                     *platform.libc_ver()))
    library = folder / f"{of.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    try:
        with _ONE_AT_A_TIME:  # of this process's threads
            if not library.exists():
                _compile(source, library, compiler, of.name, flags)
            loaded = _loaded(library, lambda: _compile(source, library, compiler, of.name, flags))
    except OSError as error:
        raise CompilerError(
            f"{library}: {error.strerror or error}. CNTK's arithmetic needs {of.name} compiled "
            f"once into {folder}, which must be a folder that can be written to; mend that, or "
            "remove what stands there, and run this again.") from error
    for name, (result, arguments) in _SIGNATURES[of].items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def _loaded(library: Path, again: Callable[[], None]) -> ctypes.CDLL:
    """Made again where the file that stands there is no library."""
    try:
        return ctypes.CDLL(os.fspath(library))
    except OSError:
        again()
        return ctypes.CDLL(os.fspath(library))


@cache
def library() -> ctypes.CDLL:
    """The library of cntk_random.c. Its functions let other Python threads run meanwhile."""
    return compiled(SOURCE.read_text(encoding="ascii"))


@cache
def batch_norm_library() -> ctypes.CDLL:
    """The library of cntk_batch_norm.c, likewise; where the compiler makes no vectors, without."""
    source = BATCH_NORM.read_text(encoding="ascii")
    try:
        return compiled(source, of=BATCH_NORM)
    except CompilerError:
        return compiled(source, of=BATCH_NORM, flags=("-DPLAIN",))


@cache
def single_library() -> ctypes.CDLL:
    """The library of cntk_single.c, likewise. (A root that sets errno is no vector.)"""
    return compiled(SINGLE.read_text(encoding="ascii"), of=SINGLE, flags=("-fno-math-errno",))


@cache
def edges_library() -> ctypes.CDLL:
    """The library of cntk_edges.c, likewise."""
    return compiled(EDGES.read_text(encoding="ascii"), of=EDGES)


def command_of(compiler: str) -> list[str]:
    """How it is called; [] where it is not there. Where there is no ``cc``, the clang of Zig's
    wheel (``zig``), which the set-up puts into this environment then."""
    program = shutil.which(compiler) if compiler != "zig" else None
    if program is not None:
        return [program]
    if compiler in ("cc", "zig") and importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    return []


def _compile(source: str, library: Path, compiler: str, name: str, flags: tuple[str, ...]
             ) -> None:
    command = command_of(compiler)
    if not command:
        raise CompilerError(
            f"no C compiler: `{compiler}` is not on the PATH, and CNTK's arithmetic needs "
            f"{name} compiled once. Install one (Debian, Ubuntu: apt-get install gcc "
            f"libc6-dev; or anywhere `{sys.executable} -m pip install -r "
            "requirements-compiler.txt`) and run this again.")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix="compiling-") as folder, \
            written_whole(library) as new:
        text = Path(folder) / name
        text.write_text(source, encoding="ascii")
        done = subprocess.run([*command, *FLAGS, *flags, "-o", new, text, "-lm"],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise CompilerError(
                f"`{' '.join(command)}` could not compile {name} (exit {done.returncode}):\n"
                f"{done.stderr.strip()}\n" + ("The C library's headers may be missing (Debian, "
                "Ubuntu: apt-get install libc6-dev)." if ".h" in done.stderr else
                "gcc and clang can (Debian, Ubuntu: apt-get install gcc)."))
