"""Products of matrices by the MKL inside CNTK's wheel, in the three forms in which it calls them.

    products.py OUTPUT.npz SEED COUNT LARGEST

COUNT random shapes: "shapes", each (form, m, n, k, samples), and "hashes", of each product's bits.
The gradient of a weight is a sum over the samples: each goes on from the one before. What a product
is of, and where its parts lie in memory, says ``factors``; every array begins at a multiple of 16
values, and its samples lie one behind the other.
"""
import ctypes
import glob
import hashlib
import os
import sys

import numpy as np

os.environ["MKL_DEBUG_CPU_TYPE"], os.environ["OMP_NUM_THREADS"] = "0", "1"
COLUMNS_FIRST, PLAIN, TRANSPOSED = 102, 111, 112
FORWARD, OF_X, OF_WEIGHT = range(3)


def shapes(seed, count, largest):
    """(form, m, n, k, samples): any size; small ones, which have most rules, and sums of whole
    blocks of 112 more often."""
    random = np.random.RandomState(seed)
    sizes = random.randint(1, largest + 1, (count, 3))
    few = random.rand(count, 3) < 0.3
    sizes[few] = random.randint(1, min(largest, 33) + 1, few.sum())
    blocks = random.rand(count) < 0.05
    sizes[blocks, 2] = 112 * random.randint(1, 5, blocks.sum())
    forms = np.arange(count) % 3
    samples = random.randint(1, 4, count)
    return np.column_stack([forms, sizes, samples])


def factors(number, shape):
    """The left factors, samples x k x m (of weights: samples x m x k), and the right ones, n x k,
    k x n or samples x n x k; a quarter of the left ones is 0, as behind a rectifier."""
    form, m, n, k, samples = shape
    random = np.random.RandomState(number)
    left = random.standard_normal((samples, m, k) if form == OF_WEIGHT else (samples, k, m))
    left[random.rand(*left.shape) < 0.25] = 0
    right = random.standard_normal(((n, k), (k, n), (samples, n, k))[form])
    return left.astype(np.float32), right.astype(np.float32)


def aligned(shape):
    memory = np.empty(int(np.prod(shape)) + 16, np.float32)
    start = -memory.ctypes.data // 4 % 16
    return memory[start:start + int(np.prod(shape))].reshape(shape)


def hash_of(product):
    """Of the bits, but 0 and -0 are one."""
    return np.frombuffer(hashlib.sha256((product + np.float32(0)).tobytes()).digest()[:8], "<u8")[0]


def mkl():
    import cntk
    folder = os.path.join(os.path.dirname(cntk.__file__), "libs")
    for name in ("libiomp5.so", "libmklml_intel.so"):
        for path in glob.glob(os.path.join(folder, name)):
            library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    integer, real, pointer = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    library.cblas_sgemm.argtypes = [integer] * 6 + [real, pointer, integer, pointer, integer, real,
                                                    pointer, integer]
    library.MKL_Set_Num_Threads(1)
    return library


def product(library, number, shape):
    """n x m, or samples x n x m."""
    form, m, n, k, samples = (int(size) for size in shape)
    a, b = factors(number, shape)
    left, right = aligned(a.shape), aligned(b.shape)
    made = aligned((n, m) if form == OF_WEIGHT else (samples, n, m))
    left[...], right[...] = a, b
    for sample in range(samples):
        used, into = (right[sample], made) if form == OF_WEIGHT else (right, made[sample])
        library.cblas_sgemm(
            COLUMNS_FIRST, TRANSPOSED if form == OF_WEIGHT else PLAIN,
            TRANSPOSED if form == OF_X else PLAIN, m, n, k, 1.0, left[sample].ctypes.data,
            k if form == OF_WEIGHT else m, used.ctypes.data, n if form == OF_X else k,
            float(form == OF_WEIGHT and sample > 0), into.ctypes.data, m)
    return made


def main(path, seed, count, largest):
    library, drawn = mkl(), shapes(seed, count, largest)
    hashes = []
    for number, shape in enumerate(drawn):
        hashes.append(hash_of(product(library, number, shape)))
        if sys.stderr.isatty() and number % 100 == 0:
            sys.stderr.write("\rCNTK's MKL: %d of %d products" % (number, count))
    np.savez(path, shapes=drawn, hashes=np.array(hashes, np.uint64))


if __name__ == "__main__":
    main(sys.argv[1], *(int(number) for number in sys.argv[2:]))
