"""Memory and speed of a score: made pictures streamed through a classifier to score, FID and KID.

    python -m benchmarks.score [--count 500] [--classifier NAME] [--json PATH]

The pictures, 256 x 256, are made while they are asked for, so that no file is read. The bound of
the classifier's speed is its own multiplications and additions, 2 for each pair, at the highest
rate at which PyTorch was seen to multiply two square float32 matrices on as many threads, before
and after the pictures. The memory is the largest that the process ever held.
"""
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from captures.system import largest_memory
from scores.classifiers import registry
from scores.classifiers.base import Spec, prepared
from scores.evaluate import Told, add_reference, evaluate, scored
from scores.fid import Moments
from scores.images import Pictures, Pixels
from scores.inception_score import SPLITS

SIDE, CELLS = 256, 8
MATRIX = 2048  # rows and columns of the product that is the bound
REPETITIONS = 5


class Made(Pictures):
    """Random colours in 8 x 8 cells of 32 x 32 pixels, so that a classifier has something to tell
    apart."""

    def batches(self, size: int) -> Iterator[Pixels]:
        draws = np.random.RandomState(0)
        for start in range(0, self.count, size):
            n = min(size, self.count - start)
            cells = draws.randint(0, 256, (n, 3, CELLS, CELLS)).astype(np.float32)
            yield cells.repeat(SIDE // CELLS, 2).repeat(SIDE // CELLS, 3)


def seconds(run: Callable[[], object], repetitions: int = REPETITIONS) -> list[float]:
    taken = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return taken[1:]  # the first allocates


def operations(network: torch.nn.Module, spec: Spec) -> int:
    """Multiplications and additions for one picture, of convolutions and products."""
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network(torch.zeros(1, 3, spec.side, spec.side))
    return int(counter.get_total_flops())


def product_rate(threads: int) -> float:
    """Operations a second of a float32 product of two square matrices, the fastest of some."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, b = torch.rand(2, MATRIX, MATRIX)
    taken = min(seconds(lambda: a @ b))
    torch.set_num_threads(before)
    return 2 * MATRIX ** 3 / taken


def measure(count: int, name: str, weights: Path | None, cache: Path, threads: int,
            told: Told = lambda n: None) -> dict[str, Any]:
    """Raises ScoreError: the classifier cannot be had; fewer pictures than splits."""
    network, _, _ = registry.network(name, weights, cache=cache)
    classifier = registry.load(name, weights, cache=cache, threads=threads)
    spec = classifier.spec
    needed, rate = operations(network, spec), product_rate(threads)
    del network
    pictures = Made("made pictures", count)
    start = time.perf_counter()
    made = evaluate(pictures, classifier, told, features=True)
    streamed = time.perf_counter()
    found = scored(pictures, made, classifier, SPLITS)
    reference = Moments(spec.features)
    reference.count, reference.squares = count, np.eye(spec.features) * (count - 1)
    add_reference(found, made, reference, "unit Gaussian", classifier)
    done = time.perf_counter()
    peak = largest_memory()
    x = prepared(next(pictures.batches(32)), spec)
    alone = len(x) / statistics.median(seconds(lambda: classifier.of_prepared(x)))
    rate, speed = max(rate, product_rate(threads)), count / (streamed - start)
    return {
        "benchmark": "score", "classifier": name, "threads": threads, "pictures": count,
        "operations_of_a_picture": needed, "product_rate": rate,
        "pictures_per_second": speed, "share": speed * needed / rate,
        "classifier_alone_per_second": alone, "classifier_alone_share": alone * needed / rate,
        "seconds": {"pictures": streamed - start, "score": done - streamed},
        "peak_bytes": peak, "score": found.score.value,
    }
