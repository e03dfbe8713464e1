"""Products of random shapes: the port's bits against those of the MKL inside CNTK's wheel.

    python -m benchmarks.product_search [--shapes 5000] [--largest 300] [--seed 0]

A product is made as a convolution of 1 x 1 over one to three samples, which lie one behind the
other, so at every place modulo four: the forward pass, the gradient of x, and the gradient of a
weight, where each sample is added to the one before. Exits 1 where a value differs.
"""
from collections.abc import Iterable, Iterator
from types import ModuleType

import torch
from torch import Tensor

from benchmarks.probes import loaded
from torch_port import products

ONE = (1, 1)
Product = tuple[int, ...]  # form, m, n, k, samples


def probe() -> ModuleType:
    """The probe's shapes and values."""
    return loaded("products")


def product(left: Tensor, right: Tensor, form: int) -> Tensor:
    """n x m, by the port's convolution. The probe says what left and right are."""
    if form == 0:
        samples, k, m = left.shape
        made = products.correlate(left.reshape(samples, k, 1, m), right[:, :, None, None], ONE,
                                  products.NO_PADS, threads=1)
    elif form == 1:
        samples, k, m = left.shape
        made = products.backward_data(left.reshape(samples, k, 1, m), right[:, :, None, None], ONE,
                                      products.NO_PADS, (1, m), threads=1)
    else:
        samples, m, k = left.shape
        made = products.backward_weight(right.reshape(samples, -1, 1, k),
                                        left.reshape(samples, m, 1, k), ONE, ONE, products.NO_PADS,
                                        threads=1)
    return made.reshape(-1, m)


def differing(shapes: Iterable[Product], hashes: Iterable[int]) -> Iterator[tuple[int, Product]]:
    """Which of CNTK's products have other bits here: their numbers and shapes."""
    of = probe()
    for number, (shape, theirs) in enumerate(zip(shapes, hashes, strict=True)):
        left, right = (torch.from_numpy(values) for values in of.factors(number, shape))
        if of.hash_of(product(left, right, int(shape[0])).numpy()) != theirs:
            yield number, tuple(int(size) for size in shape)
