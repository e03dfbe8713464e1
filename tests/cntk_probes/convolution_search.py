"""CNTK's convolutions of random small sizes: a hash of each output and gradient.

    convolution_search.py OUTPUT.npz SEED COUNT THREADS SAMPLES...

COUNT ``geometries``; for each and each number of samples N the hash of the output's, the input's
gradient's and the weight's gradient's bits, in "hashes", COUNT x numbers of samples x 3. The values
that go in are those of ``factors``.
"""
import hashlib
import os
import sys

import numpy as np

QUANTITIES = ("output", "input", "weight")


def geometries(seed, count):
    """(transposed, padded, channels before, channels after, height, width, kernel's height and
    width, stride's): images as a convolution takes them; a transposed layer makes such. One
    channel, one place and kernels of 1 x 1, which have most rules, more often. Padded are odd
    kernels alone: for even ones CNTK leaves MKL."""
    random = np.random.RandomState(seed)
    found = []
    while len(found) < count:
        before, after = random.randint(1, 33, 2)
        if random.rand() < 0.2:
            before = random.randint(100, 140)
        if random.rand() < 0.2:
            before = 1
        if random.rand() < 0.2:
            after = 1
        kernel, stride = random.randint(1, 5, 2), random.randint(1, 4, 2)
        if random.rand() < 0.2:
            kernel[:] = 1
        size = kernel + random.randint(0, 9, 2)
        if random.rand() < 0.2:
            size = kernel + random.randint(0, stride)  # one place
        if random.rand() < 0.3:
            stride[:] = 1
        padded = random.rand() < 0.3 and bool((kernel % 2).all())
        geometry = (random.randint(2), padded, before, after, *size, *kernel, *stride)
        if not geometry[0] or all(first >= 0 and 0 <= first - last < step for (first, last), step
                                  in zip(pads_of(geometry), stride)):
            found.append(tuple(map(int, geometry)))  # a transposed one that PyTorch has as well
    return found


def small_of(geometry):
    """Height and width of what the convolution makes."""
    _, padded, _, _, *sizes = geometry
    return tuple(-(-size // step) if padded else (size - kernel) // step + 1
                 for size, kernel, step in zip(sizes[:2], sizes[2:4], sizes[4:]))


def large_of(geometry):
    """Height and width of what it takes; of a transposed layer, of what that makes."""
    transposed, padded, _, _, height, width, *kernel_and_stride = geometry
    if not transposed:
        return height, width
    return tuple(small * step if padded else (small - 1) * step + kernel
                 for small, kernel, step in zip(small_of(geometry), kernel_and_stride[:2],
                                                kernel_and_stride[2:]))


def pads_of(geometry):
    """(before, behind) of height and of width, as CNTK pads: what the middle of the kernel does not
    meet of the image is halved, the smaller half first. Less than 0: so much of it is not met at
    all."""
    _, padded, _, _, _, _, *kernel_and_stride = geometry
    if not padded:
        return (0, 0), (0, 0)
    found = []
    for small, large, kernel, step in zip(small_of(geometry), large_of(geometry),
                                          kernel_and_stride[:2], kernel_and_stride[2:]):
        met = (small - 1) * step + 1
        before = (kernel - 1) // 2 - (large - met) // 2
        found.append((before, met + kernel - 1 - large - before))
    return tuple(found)


def factors(number, geometry, samples):
    """The input, the weight and the output's gradient, normal numbers; a transposed layer's input
    is the small image, its weight channels before x after."""
    transposed, _, before, after, _, _, h, w, _, _ = geometry
    large = (samples, after if transposed else before) + tuple(large_of(geometry))
    small = (samples, before if transposed else after) + tuple(small_of(geometry))
    weight = (before, after, h, w) if transposed else (after, before, h, w)
    random = np.random.RandomState(number)
    given, kernel, back = (random.standard_normal(shape).astype(np.float32) for shape in (
        small if transposed else large, weight, large if transposed else small))
    given[given < -0.7] = 0
    return given, kernel, back


def hash_of(array):
    whole = np.ascontiguousarray(array, np.float32)
    return np.frombuffer(hashlib.sha256(whole.tobytes()).digest()[:8], "<u8")[0]


def main(path, seed, count, samples):
    from cntk_impl import dcgan_training as program
    from environment.quiet import select_device
    select_device()
    C = program.C
    hashes = np.zeros((count, len(samples), len(QUANTITIES)), np.uint64)
    for number, geometry in enumerate(geometries(seed, count)):
        transposed, padded, _, after, _, _, *kernel_and_stride = geometry
        kernel, stride = tuple(kernel_and_stride[:2]), tuple(kernel_and_stride[2:])
        given, weight, back = factors(number, geometry, 1)
        x = C.input_variable(given.shape[1:], needs_gradient=True)
        with C.layers.default_options(bias=False, use_cntk_engine=True):
            if transposed:
                y = program.ConvolutionTranspose2D(kernel, after, strides=stride,
                                                   pad=bool(padded),
                                                   output_shape=back.shape[2:])(x)
            else:
                y = program.Convolution2D(kernel, after, strides=stride,
                                          pad=bool(padded))(x)
        y.W.value = weight
        w = C.input_variable(y.shape)
        loss = C.reduce_sum(y * w)
        for at, n in enumerate(samples):
            given, weight, back = factors(number, geometry, n)
            y.W.value = weight
            got, made = loss.grad({x: given, w: back}, wrt=[x, y.W], outputs=[y.output])
            hashes[number, at] = [hash_of(array) for array in (made, got[x], got[y.W])]
        if sys.stderr.isatty():
            sys.stderr.write("\rCNTK: %d of %d convolutions" % (number + 1, count))
    np.savez(path, hashes=hashes)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = sys.argv[4]
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "0")
    os.environ["MKL_DYNAMIC"] = "FALSE"  # or MKL takes no more threads than there are processors
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(n) for n in sys.argv[5:]])
