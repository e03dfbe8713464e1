"""The order in which CNTK's reader goes through its images, and what a minibatch holds.

    order(sweep)[i]    two shuffles by a 64-bit twister seeded anew for each sweep
    minibatch t        samples t * N .. (t + 1) * N - 1 of all sweeps put behind each other

Exact against CNTK 2.7 (tests/torch_port/test_image_reader.py). A DataLoader shuffles uniformly, by
another generator, and ends a sweep with a smaller minibatch.

Source: microsoft/CNTK, Source/Readers/ReaderLib, ChunkRandomizer and SequenceRandomizer.
"""
from collections.abc import Callable, Iterator

import numpy as np

from torch_port.mersenne import Mersenne64

WINDOW = 128  # chunks that CNTK's second shuffle looks at; a chunk is one image

Order = Callable[[int, int, int], np.ndarray]


# ------------------------------------------------------------------------------------- the order

def sample_order(count: int, sweep: int, seed: int = 0) -> np.ndarray:
    """The order in which sweep number ``sweep`` (from 0) goes through ``count`` images.

    With o[0], o[1], ... the outputs of std::mt19937_64(seed + sweep):

    1. p = 0..count-1; for every i: swap p[i] and p[o[i] mod count].
    2. From a fresh generator of the same seed, for every t: with [b, e) the window of 128 places
       about t, moved inwards at both ends, j = b + o mod (e - b), drawn again until what stands at
       j belongs into t's window and what stands at t into j's; swap places t and j.

    Returns int64 (count,). PyTorch's RandomSampler is one uniform permutation of another generator.
    """
    seed = (seed + sweep) % 2**64
    chunks = shuffled_chunks(count, seed)
    size = min(WINDOW, count)
    begin = [min(max(0, place - WINDOW // 2), count - size) for place in range(count)]
    draws = _endless(Mersenne64(seed), count, size)
    places = list(range(count))  # which place of stage 1 now stands here
    for t in range(count):
        while True:
            j = begin[t] + next(draws)
            if (begin[t] <= places[j] < begin[t] + size
                    and begin[j] <= places[t] < begin[j] + size):
                break
        places[t], places[j] = places[j], places[t]
    return np.array(chunks, dtype=np.int64)[places]


def shuffled_chunks(count: int, seed: int) -> list[int]:
    """Stage 1 of the above."""
    chunks = list(range(count))
    for i, other in enumerate((Mersenne64(seed).outputs(count) % np.uint64(count)).tolist()):
        chunks[i], chunks[other] = chunks[other], chunks[i]
    return chunks


def _endless(generator: Mersenne64, block: int, modulus: int) -> Iterator[int]:
    while True:
        yield from (generator.outputs(block) % np.uint64(modulus)).tolist()


def sample_indices(step: int, minibatch_size: int, count: int, seed: int = 0,
                   order: Order = sample_order) -> np.ndarray:
    """Which images minibatch number ``step`` (from 0) holds: int64 (minibatch_size,).

        sample s = step * minibatch_size + j;  index[j] = order(sweep s // count)[s mod count]

    Always full: a minibatch that reaches the end of a sweep goes on with the next one.
    """
    samples = range(step * minibatch_size, (step + 1) * minibatch_size)
    return np.array([order(count, s // count, seed)[s % count] for s in samples], dtype=np.int64)


def ends_sweep(step: int, minibatch_size: int, count: int) -> bool:
    """CNTK's ``end_of_sweep`` flag: whether minibatch ``step`` holds the last sample of a sweep."""
    return (step + 1) * minibatch_size // count > step * minibatch_size // count
