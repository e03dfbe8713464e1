"""Convolutions of random small sizes: the port's bits against real CNTK's.

    python -m benchmarks.convolution_search [--count 300] [--seed 0] [--threads 1 --threads 2]

Of each convolution or transposed one, for 1, 2, 3 and 5 samples and each number of CNTK's threads:
the output and the gradients of input and weight. What depends on where CNTK's arrays lie in memory
(torch_port/edges.py) shows here and nowhere else. Exits 1 where a value differs.
"""
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.probes import loaded
from torch_port import rounding
from torch_port.convolution import conv2d, conv_transpose2d

SAMPLES = (1, 2, 3, 5)
Case = tuple[int, int, int, str]  # number of the geometry, threads, samples, quantity


def probe() -> ModuleType:
    """The probe's sizes and values, which need no CNTK."""
    return loaded("convolution_search")


def made(of: ModuleType, number: int, geometry: tuple[int, ...], samples: int) -> list[np.ndarray]:
    """Output, gradient of input and of weight, by the port."""
    transposed, *_, down, along = geometry
    given, weight, back = (torch.from_numpy(a) for a in of.factors(number, geometry, samples))
    given.requires_grad_()
    weight.requires_grad_()
    stride = down, along
    (top, bottom), (left, right) = of.pads_of(geometry)
    if transposed:
        y = conv_transpose2d(given, weight, None, stride, (top, left),
                             (top - bottom, left - right))
    else:
        y = conv2d(F.pad(given, (left, max(0, right), top, max(0, bottom))), weight, None, stride)
    return [array.detach().numpy() for array in (
        y, *torch.autograd.grad(y, (given, weight), back))]


def differing(hashes: np.ndarray, seed: int, threads: int, samples: tuple[int, ...] = SAMPLES
              ) -> Iterator[list[Case]]:
    """Of each geometry: what has other bits than CNTK's ``hashes``, as of so many threads."""
    of = probe()
    rounding.as_cntk_rounds(threads)
    for number, geometry in enumerate(of.geometries(seed, len(hashes))):
        yield [(number, threads, n, quantity) for n, theirs in zip(
                   samples, hashes[number], strict=True)
               for quantity, array, hashed in zip(
                   of.QUANTITIES, made(of, number, geometry, n), theirs, strict=True)
               if of.hash_of(array) != hashed]
