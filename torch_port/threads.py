"""TODO."""
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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


def _one_thread() -> None:
    torch.get_num_threads()  # a thread's first call takes over the main one's number
    torch.set_num_threads(1)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """So many workers, in each of which MKL has one thread. ``process``: a fork has no workers."""
    before, ready = torch.get_num_threads(), threading.Barrier(threads)
    pool = ThreadPoolExecutor(threads, initializer=_one_thread)
    for waiting in [pool.submit(ready.wait) for _ in range(threads)]:
        waiting.result()
    torch.set_num_threads(before)  # what a worker sets is also the number of threads made later
    return pool


def _side_by_side(parts: Iterable[Any], work: Callable[[Any], Any]) -> list[Any]:
    """work(part) for each part, in as many threads as PyTorch has; the results in order."""
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def one(part: Any) -> Any:
        with torch.inference_mode(inference), torch.no_grad():
            return work(part)
    if threads == 1:
        return [one(part) for part in parts]
    return list(_pool(threads, os.getpid()).map(one, parts))
