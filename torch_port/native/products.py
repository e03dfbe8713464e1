"""Loads cntk_products.c as wide as the processor is.

The C file is compiled once for the narrowest vectors, which every processor of its kind has; that
library tells what is fastest on this one, and the file is compiled again for it. A library's name
holds the flags, so a cache that came from another processor is not taken for this one's.
"""
import ctypes
import warnings
from functools import cache
from pathlib import Path

from torch_port.native import BUILD, PRODUCTS, CompilerError, compiled

# "narrow" is what every processor of its kind has: SSE2, NEON. "plain" asks for no vectors.
VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": ("-DWIDTH=1",), "narrow": ("-DWIDTH=4",), "avx": ("-DWIDTH=4", "-mavx"),
    "avx2": ("-DWIDTH=8", "-mavx2"),
    "avx512": ("-DWIDTH=16", "-mavx512f", "-mprefer-vector-width=512")}
FRESH, JOIN = 1, 2

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t


class Step(ctypes.Structure):
    """Of cntk_products.c."""
    _fields_ = [("values", _POINTER), ("rows", _POINTER), ("offsets", _POINTER),
                ("packed", _POINTER), ("panel", _SIZE), ("count", _SIZE), ("how", _SIZE)]


def variant(name: str, compiler: str = "cc", folder: Path = BUILD) -> ctypes.CDLL:
    """Raises CompilerError where the compiler does not make it."""
    return compiled(PRODUCTS.read_text(encoding="ascii"), folder, compiler, PRODUCTS,
                    VARIANTS[name])


def fastest(compiler: str = "cc", folder: Path = BUILD) -> ctypes.CDLL:
    """The variant for this processor; where the compiler refuses it, or makes no vectors at all,
    the narrow or the plain one, and a RuntimeWarning says so: the bits are the same."""
    made = None
    try:
        made = variant("narrow", compiler, folder)
        return variant(made.fastest().decode(), compiler, folder)
    except CompilerError as error:
        which = "no vectors" if made is None else "no vectors as wide as this processor's"
        made = made or variant("plain", compiler, folder)
        warnings.warn(f"the C compiler makes {which}, so convolutions have CNTK's bits but take "
                      f"longer: gcc or clang would be faster. {error}",
                      RuntimeWarning, stacklevel=2)
        return made


@cache
def library() -> ctypes.CDLL:
    """What products.py takes; its functions let other Python threads run meanwhile."""
    return fastest()
