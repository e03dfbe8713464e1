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

# From the slowest to the fastest. "narrow" is what every processor of its kind has: SSE2, NEON.
# "plain" asks for no vectors.
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
    """The variant for this processor; where it cannot be made the next narrower one, at last the
    plain one, and a RuntimeWarning says so: the bits are the same. Raises CompilerError: none."""
    order, refused = list(VARIANTS), []
    try:
        wanted = variant("narrow", compiler, folder).fastest().decode()
    except CompilerError:
        wanted = "narrow"
    for name in reversed(order[:order.index(wanted) + 1]):
        try:
            made = variant(name, compiler, folder)
        except CompilerError as error:
            refused.append(error)
            continue
        if refused:
            warnings.warn(f"the C compiler makes no vectors of the kind {wanted!r}, so "
                          f"convolutions have CNTK's bits but take longer, by the kind {name!r}: "
                          f"gcc or clang would be faster. {refused[0]}", RuntimeWarning,
                          stacklevel=2)
        return made
    raise refused[-1]


@cache
def library() -> ctypes.CDLL:
    """What products.py takes; its functions let other Python threads run meanwhile."""
    return fastest()
