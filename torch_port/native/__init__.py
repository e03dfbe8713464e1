"""Compiles the C beside it once, into build/, and loads it.

The library's name holds a hash of the source, the flags and the platform: an edited source is
another library, and two processes that compile at once write the same file twice, whole each time.
"""
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "build"
SOURCE = Path(__file__).with_name("cntk_random.c")
# No fused multiply-add: it rounds once where CNTK's library rounds twice.
FLAGS = ("-O2", "-ffp-contract=off", "-std=c11", "-fPIC", "-shared")

_WORDS = ctypes.POINTER(ctypes.c_uint64)
_DOUBLES = ctypes.POINTER(ctypes.c_double)
_FLOATS = ctypes.POINTER(ctypes.c_float)
_SIGNATURES = {
    "mersenne64_size": (ctypes.c_size_t, ()),
    "mersenne64_seed": (None, (ctypes.c_void_p, ctypes.c_uint64)),
    "mersenne64_outputs": (None, (ctypes.c_void_p, _WORDS, ctypes.c_size_t)),
    "normal_fill": (ctypes.c_uint64, (ctypes.c_void_p, _DOUBLES, _DOUBLES, ctypes.c_double,
                                      _FLOATS, ctypes.c_size_t)),
}


class CompilerError(RuntimeError):
    """There is no C compiler, or it refused the source."""


def compiled(source: str, folder: Path = BUILD, compiler: str = "cc") -> ctypes.CDLL:
    """The C text as a loaded library; compiled only where ``folder`` does not hold it yet.

    Raises CompilerError, saying what to do, where it cannot be compiled.
    """
    key = "\n".join((source, *FLAGS, platform.machine(), platform.system(), *platform.libc_ver()))
    library = folder / f"cntk_random-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        _compile(source, library, compiler)
    loaded = ctypes.CDLL(os.fspath(library))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


@cache
def library() -> ctypes.CDLL:
    """The library of cntk_random.c. Its functions let other Python threads run meanwhile."""
    return compiled(SOURCE.read_text(encoding="ascii"))


def _compile(source: str, library: Path, compiler: str) -> None:
    program = shutil.which(compiler)
    if program is None:
        raise CompilerError(
            f"no C compiler: `{compiler}` is not on the PATH, and CNTK's random numbers need "
            f"{SOURCE.name} compiled once. Install one (Debian, Ubuntu: apt-get install gcc "
            "libc6-dev) and run this again.")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix="compiling-") as folder:
        text, new = Path(folder) / SOURCE.name, Path(folder) / library.name
        text.write_text(source, encoding="ascii")
        done = subprocess.run([program, *FLAGS, "-o", new, text, "-lm"],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise CompilerError(
                f"`{program}` could not compile {SOURCE.name} (exit {done.returncode}):\n"
                f"{done.stderr.strip()}\nThe C library's headers may be missing (Debian, Ubuntu: "
                "apt-get install libc6-dev).")
        os.replace(new, library)
