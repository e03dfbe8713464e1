"""The 64-bit Mersenne twister, as C++'s ``std::mt19937_64``."""
import ctypes

import numpy as np

from torch_port.native import library

LARGEST_SEED = 2**64 - 1


class Mersenne64:
    """std::mt19937_64(seed): its outputs, one after another.

    ``seed``: an integer in 0 .. 2**64 - 1. Raises ValueError on any other.
    The 10000th output of seed 5489 is 9981545732273789042, as the C++ standard asks.
    """

    def __init__(self, seed: int) -> None:
        whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
        if not whole or not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"seed {seed!r} of Mersenne64 is not one of 0 .. 2**64 - 1; "
                             "give a whole number in that range")
        self._library = library()
        self.state = ctypes.create_string_buffer(self._library.mersenne64_size())
        self._library.mersenne64_seed(self.state, int(seed))

    def outputs(self, count: int) -> np.ndarray:
        """The next ``count`` outputs, uint64 of shape (count,); the stream goes on from there."""
        if count < 0:
            raise ValueError(f"{count} outputs of Mersenne64 were asked for; ask for 0 or more")
        out = np.empty(count, dtype=np.uint64)
        pointer = out.ctypes.data_as(ctypes.POINTER(ctypes.c_uint64))
        self._library.mersenne64_outputs(self.state, pointer, count)
        return out
