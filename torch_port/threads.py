"""CNTK's shares of a minibatch, and our own threads, which change no bit."""
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

import torch


def shares(samples: int, threads: int) -> Iterator[range]:
    """Consecutive shares of so many samples, one a thread, the longer ones first."""
    count, start = min(threads, samples), 0
    for s in range(count):
        size = samples // count + (s < samples % count)
        yield range(start, start + size)
        start += size


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """``process``: a fork has no workers."""
    return ThreadPoolExecutor(threads)


def side_by_side(parts: Iterable[tuple[Any, ...]], work: Callable[..., None]) -> None:
    """work(*part) for each part, in as many threads as PyTorch has. ``work`` is C for the most
    part: Python's threads wait for one another, C's do not. C knows the arrays by address alone, so
    nothing is left running, whatever ends the wait: an error, Ctrl-C."""
    threads = torch.get_num_threads()
    if threads == 1:
        for part in parts:
            work(*part)
        return
    pool, begun = _pool(threads, os.getpid()), []
    try:
        for part in parts:
            begun.append(pool.submit(work, *part))
        for one in begun:
            one.result()
    finally:
        for one in begun:
            one.cancel()
        wait(begun)


def ranges(count: int, at_most: int) -> list[tuple[int, int]]:
    """0 .. count - 1 in parts of nearly one size, none larger than ``at_most``."""
    parts = max(1, -(-count // at_most))
    edges = [count * i // parts for i in range(parts + 1)]
    return list(itertools.pairwise(edges))
