"""Runs every benchmark and gathers their figures in one JSON file.

    python -m benchmarks [--output runs/bench.json] [--only NAME ...]

Each runs in a process of its own, one after the other, so that none disturbs another. The file
holds ``{name: figures}`` and is written once all have succeeded: figures of one machine in one
hour, or none.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from captures.files import written_whole

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ("initial_weights", "image_reader", "adam", "products", "iteration", "score")


class BenchmarkError(RuntimeError):
    """A benchmark failed; what it said is on the terminal already."""


def run(name: str, output: Path) -> None:
    """One benchmark in its own process; it prints, and writes its figures to ``output``."""
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--json", output],
                          cwd=ROOT, check=False)
    if done.returncode:
        raise BenchmarkError(f"benchmark {name} exited {done.returncode}: nothing was written. "
                             f"Alone it is: python -m benchmarks.{name}")


def gather(names: Sequence[str], run: Callable[[str, Path], None] = run) -> dict[str, object]:
    """``{name: figures}`` of the benchmarks."""
    gathered: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            output = Path(folder) / f"{name}.json"
            run(name, output)
            gathered[name] = json.loads(output.read_text())
    return gathered


def write(gathered: dict[str, object], output: Path) -> None:
    with written_whole(output) as part:
        part.write_text(json.dumps(gathered, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bin/parity bench",
                                     description=(__doc__ or "").splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/bench.json"), metavar="JSON",
                        help="the file that the figures go to")
    parser.add_argument("--only", choices=BENCHMARKS, nargs="+", default=BENCHMARKS,
                        help="these alone")
    options = parser.parse_args(arguments)
    try:
        write(gather(options.only), options.output)
    except (BenchmarkError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"figures: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
