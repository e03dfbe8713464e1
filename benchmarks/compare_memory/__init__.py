"""Memory and time that `parity compare` takes, of two captures of 500 MB, made with two torches."""
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from captures.system import largest_memory
from parity.history.compare import compared

LARGEST = 13_107_200  # values of the article's largest weight, the generator's second layer


def capture(folder: Path, plan: Plan, megabytes: int, torch: str, nudge: float) -> int:
    """Arrays of the article's largest layer; returns their bytes."""
    size, random = 0, np.random.RandomState(0)
    with CaptureWriter(folder, "port", plan, {"torch": torch}, 1) as writer:
        for i in range(-(-megabytes * 10 ** 6 // (4 * LARGEST))):
            values = random.standard_normal(LARGEST).astype(np.float32)
            values *= np.float32(1 + nudge)
            writer.add(f"forward/training/generator/conv{i}/output", values)
            size += values.nbytes
    return size


def compare(first: Path, second: Path) -> dict[str, Any]:
    """In this process: its largest memory is read at the end."""
    started = time.monotonic()
    found = compared(Capture(first), Capture(second))
    return {"seconds": time.monotonic() - started, "word": found.word,
            "largest_memory_mb": largest_memory() / 2 ** 20}


def measure(megabytes: int, map_file: Path, folder: Path) -> dict[str, Any]:
    plan = Plan.make(map_file)
    size = capture(folder / "a", plan, megabytes, "2.13.0", 0)
    capture(folder / "b", plan, megabytes, "2.14.0", 1e-6)
    done = subprocess.run(
        [sys.executable, "-c", "import json, sys; from pathlib import Path; "
         "from benchmarks.compare_memory import compare; "
         "print(json.dumps(compare(*map(Path, sys.argv[1:]))))", folder / "a", folder / "b"],
        check=True, capture_output=True, text=True)
    return {"capture_mb": size / 10 ** 6, **json.loads(done.stdout)}
