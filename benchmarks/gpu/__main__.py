"""Measures the port on a GPU, against the CPU beside it; writes JSON and prints a table.

    python3 -m benchmarks.gpu --output gpu.json                        on a machine with a GPU
    python3 -m benchmarks.gpu --device cpu --output gpu.json           as far as it goes without

In parts, each written down as it is done; what goes wrong in one stands in the file and stops no
other. Needs PyTorch for CUDA with its Triton, numpy, OpenCV, typer and a C compiler; no network.
"""
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.gpu import distance, exact
from benchmarks.image_reader import make_images
from captures.article import DCGAN, ITERATIONS
from captures.files import written_whole
from captures.narrow import narrow
from captures.spec import Spec
from torch_port import rounding
from torch_port.fast.arithmetic import NAMES, Arithmetic
from torch_port.train.fast import FastRun
from torch_port.train.run import Run

BEGUN = time.perf_counter()
Part = Callable[[], Any]


def say(text: str) -> None:
    print(f"[{time.perf_counter() - BEGUN:5.0f} s] {text}", flush=True)


class Report:
    """What is known so far, on the disk too."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds, self.figures = path, seconds, dict[str, Any]()

    def part(self, name: str, work: Part) -> Any:
        """Figures of one part; None where it failed or there is no time left for it."""
        if time.perf_counter() - BEGUN > self.seconds:
            say(f"{name}: left out, the time is up")
            self.figures[name] = {"left_out": "the time was up"}
            made = None
        else:
            say(name)
            try:
                made = self.figures[name] = work()
            except Exception:
                made, text = None, traceback.format_exc()
                self.figures[name] = {"failed": text}
                print(text, file=sys.stderr, flush=True)
        with written_whole(self.path) as part:
            part.write_text(json.dumps(self.figures, indent=1) + "\n")
        return made


# ------------------------------------------------------------------------------------- the parts


def machine(device: str) -> dict[str, Any]:
    made: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__,
            "processors": os.cpu_count(), "device": device}
    try:
        import triton
        made["triton"] = triton.__version__
    except ImportError:
        made["triton"] = ""
    if device == "cuda":
        of = torch.cuda.get_device_properties(0)
        made.update(gpu=of.name, memory_gb=of.total_memory / 1e9, cuda=torch.version.cuda,
                    multiprocessors=of.multi_processor_count)
    return made


def exact_products(device: str, spec: Spec, samples: int, timed: bool) -> list[dict[str, Any]]:
    made = []
    cases = [(case, 3 if device == "cuda" else 2, False) for case in exact.ODD]
    if device == "cuda":
        cases += [(case, n, timed and n == samples)
                  for n in (3, samples) for case in exact.of_layers(spec)]
    for case, n, clocked in cases:
        figures = exact.compared(case, n, device, clocked)
        made.append(figures)
        passes = {name: of for name, of in figures.items() if isinstance(of, dict)}
        say(f"  {case.name}, {n} samples: " + "; ".join(
            f"{name} {of['differing']} of {of['values']} differ"
            + (f", {of['ms']:.2f} ms, {of['tflops']:.1f} TFLOP/s" if "ms" in of else "")
            for name, of in passes.items()))
    return made


def speed(run: FastRun, repetitions: int) -> dict[str, Any]:
    """Iterations with images and latents that are on the device already, and with the reader."""
    device = run.arithmetic.device
    steps = run.iterations()
    next(steps)
    x = run._moved(run.reader.minibatch(0))
    z, of_step = (run._moved(run.latents.next(run.minibatch_size)) for _ in range(2))
    for _ in range(4):
        run.iteration(x, z, of_step)
    exact.wait(device)
    start = time.perf_counter()
    for _ in range(repetitions):
        run.iteration(x, z, of_step)
    exact.wait(device)
    alone = (time.perf_counter() - start) / repetitions
    for _ in range(5):
        next(steps)
    start = time.perf_counter()
    for _ in range(repetitions):
        next(steps)
    whole = (time.perf_counter() - start) / repetitions
    made: dict[str, Any] = {
        "ms": alone * 1e3, "iterations_per_second": 1 / alone,
        "ms_with_reader": whole * 1e3, "iterations_per_second_with_reader": 1 / whole,
        "minutes_of_50000": ITERATIONS * alone / 60,
        "minutes_of_50000_with_reader": ITERATIONS * whole / 60}
    if device == "cuda":
        made["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        made["kernels_ms"] = kernels(lambda: run.iteration(x, z, of_step))
    return made


def kernels(work: Callable[[], Any], times: int = 5, most: int = 25) -> dict[str, float]:
    """Milliseconds of each kernel in one call, the longest ones; "all" is their sum."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(times):
            work()
        torch.cuda.synchronize()
    taken = {one.key: one.self_device_time_total / 1e3 / times for one in profile.key_averages()}
    made = dict(sorted(taken.items(), key=lambda item: -item[1])[:most])
    return {"all": sum(taken.values()), **made}


def reader_speed(map_file: str, minibatch: int) -> dict[str, Any]:
    from torch_port.reader.reader import ImageReader
    minibatches = iter(ImageReader(map_file, minibatch))
    for _ in range(3):
        next(minibatches)
    start, count = time.perf_counter(), 30
    for _ in range(count):
        next(minibatches)
    return {"minibatches_per_second": count / (time.perf_counter() - start)}


# ----------------------------------------------------------------------------------- the program


def main(
        output: Annotated[Path, typer.Option(help="the JSON file")] = Path("runs/gpu.json"),
        device: Annotated[str, typer.Option(help="cuda, or cpu: as far as it goes")] = "cuda",
        map_file: Annotated[Path | None, typer.Option(help="images; default: 64 drawn")] = None,
        minibatch_size: Annotated[int, typer.Option(min=1)] = 16,
        iterations: Annotated[int, typer.Option(min=1, help="of the twin")] = 20,
        repetitions: Annotated[int, typer.Option(min=1, help="of an iteration, timed")] = 200,
        exact_iterations: Annotated[int, typer.Option(min=0, help="in CNTK's order")] = 3,
        narrower: Annotated[int, typer.Option(min=1, help="channels divided by it")] = 1,
        seconds: Annotated[float, typer.Option(help="begins no part after")] = 420,
        seed: Annotated[int, typer.Option(min=0)] = 0) -> None:
    """Measures the port on a GPU against the CPU beside it."""
    if device == "cuda" and not torch.cuda.is_available():
        print("error: PyTorch finds no GPU here: give --device cpu for what goes without",
              file=sys.stderr)
        raise typer.Exit(2)
    output.parent.mkdir(parents=True, exist_ok=True)
    report, spec = Report(output, seconds), narrow(DCGAN, narrower) if narrower > 1 else DCGAN
    report.part("machine", lambda: machine(device))
    say(json.dumps(report.figures["machine"]))
    with tempfile.TemporaryDirectory() as folder:
        images = str(map_file or make_images(Path(folder)))

        def new() -> Run:
            return Run.from_seed(seed, images, minibatch_size, spec=spec)

        report.part("reader", lambda: reader_speed(images, minibatch_size))
        rounding.as_cntk_rounds()
        twin_run = new()
        twin = report.part("twin", lambda: _twin(twin_run, iterations))
        for name in NAMES[1:]:
            if device == "cpu" and name == "tf32":
                continue
            report.part(name, lambda name=name: _fast(  # type: ignore[misc]
                new, twin_run, twin, Arithmetic(name, device), iterations, repetitions))
        rounding.as_cntk_rounds(gpu=device == "cuda")
        report.part("exact_products", lambda: exact_products(device, spec, minibatch_size, True))
        shapes = exact.NORMALISED if device == "cuda" else exact.NORMALISED_SMALL
        report.part("exact_normalisation", lambda: [
            exact.normalised(shape, device, device == "cuda") for shape in shapes])
        if device == "cuda" and exact_iterations:
            report.part("exact_training", lambda: exact.trained(
                images, minibatch_size, exact_iterations, seed, spec))
    table(report.figures)
    print(f"figures: {output}")


def _twin(run: Run, iterations: int) -> dict[str, Any]:
    start = time.perf_counter()
    losses, kept = distance.trained(run, iterations, say)
    KEPT[:] = [(losses, kept)]
    return {"losses": losses, "seconds": time.perf_counter() - start}


KEPT: list[tuple[distance.Losses, dict[int, Any]]] = []  # the twin's, too large for the report


def _fast(new: Callable[[], Run], twin: Run, found: Any, arithmetic: Arithmetic, iterations: int,
          repetitions: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    run = FastRun.of(new(), arithmetic)
    try:
        if found is not None:
            made["distance"] = distance.compared(distance.trained(run, iterations), KEPT[0])
            fresh = FastRun.of(new(), arithmetic)
            x = twin.reader.minibatch(iterations)
            z = torch.from_numpy(type(twin.latents)(1).next(len(x)))
            made["layers"] = distance.layers(twin, fresh, x, z)
            worst = max(made["layers"].items(), key=lambda item: item[1])
            say(f"  {arithmetic.name}: farthest layer {worst[0]} {worst[1]:.1e}, weights "
                + str(made["distance"]["weights_apart"]))
            del fresh
    except Exception:
        made["distance_failed"] = traceback.format_exc()
        print(made["distance_failed"], file=sys.stderr, flush=True)
    made["speed"] = speed(run, repetitions)
    say(f"  {arithmetic.name}: " + ", ".join(
        f"{name} {value:.4g}" for name, value in made["speed"].items() if name != "kernels_ms"))
    return made


def table(figures: dict[str, Any]) -> None:
    print("\n| arithmetic | ms an iteration | iterations/s | 50,000 (min) | with the reader (min) "
          "| farthest layer | losses part by 1 % in |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in NAMES[1:]:
        of = figures.get(name) or {}
        if "speed" in of:
            s, far = of["speed"], max(of.get("layers", {"": float("nan")}).values())
            parted = of.get("distance", {}).get("parted_by_1_percent_in_iteration")
            print(f"| {name} | {s['ms']:.2f} | {s['iterations_per_second']:.1f} | "
                  f"{s['minutes_of_50000']:.1f} | {s['minutes_of_50000_with_reader']:.1f} | "
                  f"{far:.1e} | {parted or 'not yet'} |")
    behind = (figures.get("exact_training") or {}).get("iterations") or []
    if behind:
        fastest = min(one["seconds"]["cuda"] for one in behind)
        print(f"| CNTK's order | {fastest * 1e3:.1f} | {1 / fastest:.1f} | "
              f"{ITERATIONS * fastest / 60:.1f} | | "
              f"{sum(one['differing'] for one in behind)} values differ | |")
    checks = figures.get("exact_products")
    if isinstance(checks, list):
        passes = [of for one in checks for of in one.values() if isinstance(of, dict)]
        print(f"\nCNTK's order, {len(checks)} shapes, {len(passes)} products: "
              f"{sum(of['differing'] for of in passes)} of {sum(of['values'] for of in passes)} "
              "values differ from the C kernels'")
    checks = figures.get("exact_normalisation")
    if isinstance(checks, list):
        print(f"batch normalisation, {len(checks)} shapes: "
              f"{sum(of['differing'] for of in checks)} values differ")
    for name, of in figures.items():
        if isinstance(of, dict) and ("failed" in of or "left_out" in of):
            print(f"{name}: {'failed' if 'failed' in of else 'left out'}")


if __name__ == "__main__":
    typer.run(main)
