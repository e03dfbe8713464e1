"""Time of one CNTKAdam step against torch.optim.Adam(foreach=True), on the article's parameters.

    python -m benchmarks.adam [--repetitions 15] [--json PATH]

The two take turns in one process, so that a busy machine slows both; medians and their ratio are
reported.
"""
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from torch_port.adam import CNTKAdam

GENERATOR = [(100, 1024, 4, 4), (1024, 512, 5, 5), (512, 256, 5, 5), (256, 128, 5, 5),
             (128, 64, 5, 5), (64, 32, 5, 5), (32, 3, 5, 5), (3,)]
GENERATOR += [(c,) for c in (1024, 512, 256, 128, 64, 32) for _ in ("scale", "bias")]
DISCRIMINATOR = [(32, 3, 3, 3), (32,), (64, 32, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3),
                 (512, 256, 3, 3), (1024, 512, 3, 3), (1, 1024, 4, 4), (1,)]
DISCRIMINATOR += [(c,) for c in (64, 128, 256, 512, 1024) for _ in ("scale", "bias")]
SAMPLES = 16


def parameters() -> list[torch.nn.Parameter]:
    random = torch.Generator().manual_seed(1)
    made = []
    for shape in GENERATOR + DISCRIMINATOR:
        p = torch.nn.Parameter(torch.randn(shape, generator=random) * 0.02)
        p.grad = torch.randn(shape, generator=random) * 0.01
        made.append(p)
    return made


def measure(repetitions: int) -> dict[str, Any]:
    ours, theirs = parameters(), parameters()
    cntk = CNTKAdam(ours, 1e-4, clip_per_sample=16.0)
    ordinary = torch.optim.Adam(theirs, 1e-4 / SAMPLES, betas=(0.5, 0.9999986111120757 ** SAMPLES),
                                foreach=True)
    steps: dict[str, Callable[[], object]] = {
        "cntk_adam": lambda: cntk.step(samples=SAMPLES), "torch_adam": ordinary.step}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(repetitions + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if i >= 2:  # the first steps allocate
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "benchmark": "adam", "parameters": sum(p.numel() for p in ours),
        "tensors": len(ours), "repetitions": repetitions, "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seconds": median, "ratio": median["cntk_adam"] / median["torch_adam"],
    }
