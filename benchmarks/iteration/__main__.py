"""Seconds of one iteration of the article's training, everybody in turn, in one run.

    .venv-torch/bin/python -m benchmarks.iteration [--rounds 5] [--only NAME] [--json PATH]

    cntk          real CNTK as it comes (MKL 2018 chooses its branch)
    cntk avx2     the same, told MKL's AVX2 branch, and
    cntk avx512   its AVX-512 branch, where the processor has one
    exact         the port in CNTK's order of sums
    float32, bfloat16    the port in these arithmetics
    stock         torch.nn's layers, torch.optim.Adam

Each is a process that waits while the others iterate, so a busy machine slows all alike; what
counts is each one's fastest iteration, and the median of the rounds' ratios stands beside it. On a
machine that others keep busy neither says much: the seconds of processors that the iterations
needed do (OMP_WAIT_POLICY and KMP_BLOCKTIME are set: nobody's threads turn while they wait).
Reading images is in it, as each program does it. Without .venv-cntk the port is compared with
itself. Memory is a process's largest, all of PyTorch or CNTK included. Behind the rounds one more
iteration of each of the port's is profiled: seconds of its parts.
"""
import json as json_text
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.figures import written
from benchmarks.image_reader import make_images
from captures.article import MINIBATCH_SIZE
from torch_port.fast.arithmetic import bfloat16_here

ROOT = Path(__file__).resolve().parent.parent.parent
CNTK_PYTHON = ROOT / ".venv-cntk" / "bin" / "python"
IN_CNTK, IN_THE_PORT = "benchmarks.iteration.in_cntk", "benchmarks.iteration.in_the_port"
BRANCH = "MKL_DEBUG_CPU_TYPE"
CNTKS = {"cntk": "", "cntk avx2": "5", "cntk avx512": "7"}
PORTS = {"exact": "cntk", "float32": "float32", "bfloat16": "bfloat16", "stock": "stock"}
AS_IT_COMES = "cntk"


class IterationError(RuntimeError):
    """One of them ended."""


def flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return set()


def contenders() -> list[str]:
    """Those that can run here."""
    made = [name for name in PORTS if name != "bfloat16" or bfloat16_here()]
    if CNTK_PYTHON.exists():
        made = [name for name in CNTKS if name != "cntk avx512" or "avx512f" in flags()] + made
    return made


class Process:
    """One of them, which iterates when it is told to."""

    def __init__(self, name: str, map_file: Path, minibatch_size: int) -> None:
        self.name, self.bytes = name, 0
        environment = {key: value for key, value in os.environ.items() if key != BRANCH}
        environment.update(OMP_WAIT_POLICY="passive", KMP_BLOCKTIME="0")
        if name in CNTKS:
            if CNTKS[name]:
                environment[BRANCH] = CNTKS[name]
            command = [CNTK_PYTHON, "-m", IN_CNTK, map_file, minibatch_size]
        else:
            command = [sys.executable, "-m", IN_THE_PORT, map_file, minibatch_size, PORTS[name]]
        self.process = subprocess.Popen([str(part) for part in command], cwd=ROOT, text=True,
                                        env=environment, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def asked(self, text: str = "") -> str:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self.process.stdout.readline()
        if not answer:
            raise IterationError(f"{self.name} ended with exit code {self.process.wait()}")
        return answer

    def iterate(self) -> tuple[float, float]:
        """Seconds, and those of all its processors together."""
        seconds, of_processors, peak = self.asked().split()
        self.bytes = int(peak)
        return float(seconds), float(of_processors)

    def parts(self) -> dict[str, float]:
        made: dict[str, float] = json_text.loads(self.asked("parts"))
        return made


def measure(names: Sequence[str], map_file: Path, rounds: int, minibatch_size: int
            ) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in names}
    of_processors: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(name, map_file, minibatch_size))
                     for name in names]
        for i in range(rounds + 1):  # the first iteration allocates and is not counted
            for process in processes:
                taken, used = process.iterate()
                print(f"round {i} of {rounds}: {process.name} {taken:.2f} s", file=sys.stderr,
                      flush=True)
                if i:
                    seconds[process.name].append(taken)
                    of_processors[process.name].append(used)
        parts = {process.name: process.parts() for process in processes if process.name in PORTS}
    return {"minibatch_size": minibatch_size, "rounds": rounds,
            "threads": torch.get_num_threads(), "torch": torch.__version__,
            "every_iteration": seconds, "seconds": {n: min(taken) for n, taken in seconds.items()},
            "seconds_of_processors": {n: min(taken) for n, taken in of_processors.items()},
            "times_cntk": times(seconds, AS_IT_COMES),
            "times_fastest_cntk": times(seconds, fastest(seconds)),
            "megabytes": {process.name: process.bytes / 1e6 for process in processes},
            "seconds_of_parts": parts}


def fastest(seconds: dict[str, list[float]]) -> str:
    """The CNTK with the fastest iteration; "" where there is none."""
    return min((name for name in seconds if name in CNTKS), key=lambda name: min(seconds[name]),
               default="")


def times(seconds: dict[str, list[float]], yardstick: str) -> dict[str, list[float]]:
    """How many times as fast as the yardstick each is: of the fastest iterations, and the median
    over the rounds."""
    of = seconds.get(yardstick)
    if not of:
        return {}
    return {name: [min(of) / min(taken),
                   statistics.median(a / b for a, b in zip(of, taken, strict=True))]
            for name, taken in seconds.items()}


def table(figures: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| | seconds | of processors | times CNTK (median) | times its fastest branch "
             "(median) | MB |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, least in figures["seconds"].items():
        over = [figures[which].get(name) for which in ("times_cntk", "times_fastest_cntk")]
        lines.append(f"| {name} | {least:.2f} | "
                     f"{figures['seconds_of_processors'][name]:.2f} | " + " | ".join(
            f"{one[0]:.2f} ({one[1]:.2f})" if one else "" for one in over)
            + f" | {figures['megabytes'][name]:.0f} |")
    parts = figures["seconds_of_parts"]
    if parts:
        lines += ["", "| seconds of | " + " | ".join(parts) + " |",
                  "| --- |" + " ---: |" * len(parts)]
        lines += [f"| {part} | " + " | ".join(f"{of[part]:.2f}" for of in parts.values()) + " |"
                  for part in next(iter(parts.values()))]
    return "\n".join(lines)


Name = Enum("Name", {name: name for name in [*CNTKS, *PORTS]}, type=str)  # type: ignore[misc]


def main(json: Annotated[Path | None, typer.Option(
             metavar="PATH", show_default="not written", help="write the figures here")] = None,
         given: Annotated[Path | None, typer.Option(
             "--map", show_default="64 that are drawn", help="map file of BMP images")] = None,
         rounds: Annotated[int, typer.Option(min=1, help="iterations of each that count")] = 5,
         minibatch_size: Annotated[int, typer.Option(min=1)] = MINIBATCH_SIZE,
         only: Annotated[list[Name] | None, typer.Option(show_default="all that run here")] = None
         ) -> None:
    """Seconds of one iteration of the article's training, everybody in turn, in one run."""
    with tempfile.TemporaryDirectory() as folder:
        map_file = given.resolve() if given else make_images(Path(folder))
        names = [str(one.value) for one in only or []] or contenders()
        try:
            figures = measure(names, map_file, rounds, minibatch_size)
        except IterationError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
    print(table(figures))
    written(figures, json)


if __name__ == "__main__":
    typer.run(main)
