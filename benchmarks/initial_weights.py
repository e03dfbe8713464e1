"""Initial weights per second: the port, numpy's standard_normal and real CNTK, in one run.

    .venv-torch/bin/python -m benchmarks.initial_weights [--json PATH] [--repeats N]

All 25.4 million weights of both networks; the best of N repeats, each taking its turn. The port
hashes every layer for the ledger as well in "port with ledger". CNTK draws in its own process,
timed from inside, without its start. numpy's numbers are others; it is there as a yardstick.
"""
import argparse
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
from captures.files import written_whole
from torch_port.normal_initializer import (
    draw_initial_weights,
    draw_with_ledger,
    normal,
    seeds_for,
)

ROOT = Path(__file__).resolve().parent.parent
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


def write_json(path: Path, result: dict[str, Any]) -> None:
    with written_whole(path) as part:
        part.write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", type=Path, metavar="PATH", help="write the result there too")
    arguments.add_argument("--repeats", type=int, default=5, metavar="N")
    chosen = arguments.parse_args()
    if chosen.repeats < 1:
        arguments.error("--repeats must be at least 1")
    if chosen.json and not chosen.json.absolute().parent.is_dir():
        arguments.error(f"--json: make the folder {chosen.json.absolute().parent} first")
    result = measure(chosen.repeats)
    print(f"initial weights: {WEIGHTS:,} of both networks, best of {chosen.repeats}")
    for name, rate in result["weights_per_second"].items():
        print(f"  {name:34} {result['seconds'][name]:7.3f} s {rate / 1e6:8.1f} million/s   "
              f"port is {result['port_over'][name]:.2f} times as fast")
    if "CNTK" not in result["seconds"]:
        print("  CNTK is not set up here, so it was not timed: run `make setup`")
    if chosen.json:
        write_json(chosen.json, result)


if __name__ == "__main__":
    main()
