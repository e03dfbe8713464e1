"""Initial weights per second: the port, numpy's standard_normal and real CNTK, in one run.

    .venv-torch/bin/python -m benchmarks.initial_weights [--json PATH] [--repeats N]

All 25.4 million weights of both networks; the best of N repeats, each taking its turn. The port
hashes every layer for the ledger as well in "port with ledger". CNTK draws in its own process,
timed from inside, without its start. numpy's numbers are others; it is there as a yardstick.
"""
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from captures.article import DCGAN
from torch_port.normal_initializer import (
    draw_initial_weights,
    draw_with_ledger,
    normal,
    seeds_for,
)

ROOT = Path(__file__).resolve().parents[2]
CNTK_PYTHON = ROOT / ".venv-cntk" / "bin" / "python"
CREATION_ORDER = DCGAN.creation_order
COUNT = len(CREATION_ORDER)
WEIGHTS = sum(int(np.prod(shape)) for shape in CREATION_ORDER.values())

IN_CNTK = """
import json, sys, time
from environment.quiet import select_device
select_device()
import cntk as C
shapes = json.loads(sys.argv[1])
C.parameter((4,), init=C.normal(0.02, seed=0)).value
start = time.perf_counter()
for i, shape in enumerate(shapes):
    C.parameter(tuple(shape), init=C.normal(0.02, seed=i)).value
print(time.perf_counter() - start)
"""


def port() -> None:
    draw_initial_weights(CREATION_ORDER, seeds_for(0, COUNT))


def port_with_ledger() -> None:
    draw_with_ledger(CREATION_ORDER, seeds_for(0, COUNT))


def port_in_one_thread() -> None:
    for seed, shape in enumerate(CREATION_ORDER.values()):
        normal(0.02, shape, seed)


def numpy_in_one_thread() -> None:
    generator = np.random.default_rng(0)
    for shape in CREATION_ORDER.values():
        (generator.standard_normal(shape) * 0.02).astype(np.float32)


def in_cntk() -> float:
    """Seconds of CNTK's drawing in a fresh process; on one core, as CNTK does it."""
    done = subprocess.run(
        [CNTK_PYTHON, "-c", IN_CNTK, json.dumps(list(CREATION_ORDER.values()))],
        capture_output=True, text=True, check=True)
    return float(done.stdout)


def timed(work: Callable[[], None]) -> Callable[[], float]:
    def seconds() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    return seconds


def measure(repeats: int) -> dict[str, Any]:
    ways = {"port": timed(port), "port with ledger": timed(port_with_ledger),
            "port, one thread": timed(port_in_one_thread),
            "numpy standard_normal, one thread": timed(numpy_in_one_thread)}
    if CNTK_PYTHON.exists():
        ways["CNTK"] = in_cntk
    normal(0.02, (4,), 0)  # compiles, where that has not been done
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(way())
    rate = {name: WEIGHTS / min(times) for name, times in seconds.items()}
    return {
        "benchmark": "initial weights",
        "weights": WEIGHTS,
        "repeats": repeats,
        "seconds": {name: min(times) for name, times in seconds.items()},
        "every_repeat": seconds,
        "weights_per_second": rate,
        "port_over": {name: rate["port"] / other for name, other in rate.items()},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(),
                    "numpy": np.__version__, "python": platform.python_version()},
    }
