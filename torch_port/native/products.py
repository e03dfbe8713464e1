"""Loads cntk_products.c as wide as the processor is.

The C file is compiled once for the narrowest vectors, which every processor of its kind has; that
library tells how wide the processor is, and the file is compiled again for it. A library's name
holds the flags, so a cache that came from another processor is not taken for this one's.
"""
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from torch_port.native import BUILD, FLAGS, CompilerError

PRODUCTS = Path(__file__).with_name("cntk_products.c")
# "narrow" is what every processor of its kind has: SSE2, NEON. "plain" asks for no vectors.
VARIANTS = {"plain": ("-DWIDTH=1",), "narrow": ("-DWIDTH=4",), "avx": ("-DWIDTH=4", "-mavx"),
            "avx2": ("-DWIDTH=8", "-mavx2"),
            "avx512": ("-DWIDTH=16", "-mavx512f", "-mprefer-vector-width=512")}

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t


class Step(ctypes.Structure):
    """Of cntk_products.c."""
    _fields_ = [("values", _POINTER), ("rows", _POINTER), ("offsets", _POINTER),
                ("packed", _POINTER), ("panel", _SIZE), ("count", _SIZE), ("how", _SIZE)]


FRESH, JOIN = 1, 2
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "lanes": (_SIZE, ()), "scratch_size": (_SIZE, ()), "fastest": (ctypes.c_char_p, ()),
    "products": (None, (_POINTER, *[_SIZE] * 5, _POINTER, _POINTER, _SIZE, _SIZE, _POINTER)),
    "pack": (None, (_POINTER, *[_SIZE] * 7, _POINTER)),
}


def built(variant: str, compiler: str = "cc", folder: Path = BUILD) -> Path:
    """The library, compiled where ``folder`` does not hold it yet.

    Raises CompilerError, saying what to do, where it cannot be compiled.
    """
    flags = (*FLAGS, *VARIANTS[variant])
    source = PRODUCTS.read_text(encoding="ascii")
    key = "\n".join((source, compiler, *flags, platform.machine(), platform.system(),
                     *platform.libc_ver()))
    made = folder / f"{PRODUCTS.stem}-{variant}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if made.exists():
        return made
    program = shutil.which(compiler)
    if program is None:
        raise CompilerError(
            f"no C compiler: `{compiler}` is not on the PATH, and CNTK's convolutions need "
            f"{PRODUCTS.name} compiled once. Install one (Debian, Ubuntu: apt-get install gcc "
            "libc6-dev) and run this again.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as place:
        new = Path(place) / made.name
        done = subprocess.run([program, *flags, "-o", new, PRODUCTS],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise CompilerError(f"`{program}` could not compile {PRODUCTS.name} "
                                f"(exit {done.returncode}):\n{done.stderr.strip()}")
        os.replace(new, made)
    return made


def loaded(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(os.fspath(path))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@cache
def library(variant: str = "") -> ctypes.CDLL:
    """The variant of this name; of none: the one that is fastest on this processor.

    Where the compiler makes no vectors it is the library without, and a RuntimeWarning says so:
    the bits are the same.
    """
    if variant:
        return loaded(built(variant))
    try:
        return library(library("narrow").fastest().decode())
    except CompilerError as error:
        if shutil.which("cc") is None:
            raise
        plain = library("plain")
        warnings.warn("the C compiler makes no vectors, so convolutions have CNTK's bits but take "
                      f"several times as long: gcc or clang would be faster. {error}",
                      RuntimeWarning, stacklevel=2)
        return plain
