"""CNTK's order on a GPU against the C kernels on the CPU: how many values differ, and how fast."""
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captures import spec as described
from captures.spec import Spec
from torch_port import products as on_cpu
from torch_port import rounding
from torch_port.batch_norm import _AsMKL
from torch_port.train.run import Run

Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A convolution from a large map to a small one; a transposed one goes the other way."""

    name: str
    channels: int  # of the large one
    size: tuple[int, int]
    out: int  # channels of the small one
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]  # left, right, top, bottom

    @property
    def small(self) -> tuple[int, ...]:
        left, right, top, bottom = self.pads
        around = top + bottom, left + right
        return tuple((self.size[i] + around[i] - self.kernel[i]) // self.stride[i] + 1
                     for i in (0, 1))

    def operations(self, samples: int) -> float:
        """Multiplications and additions of one of the products."""
        places = self.small[0] * self.small[1]
        return (2.0 * samples * places * self.out * self.channels * self.kernel[0]
                * self.kernel[1])


def of_layers(spec: Spec) -> Iterator[Case]:
    for network in spec.networks:
        for layer in network.layers:
            if layer.weight:
                large, small = layer.input, layer.output
                if layer.kind == described.TRANSPOSED:
                    large, small = small, large
                top, left, bottom, right = layer.pads
                yield Case(f"{network.name} {layer.name}", large[0], (large[1], large[2]),
                           small[0], (layer.kernel,) * 2, (layer.stride,) * 2,
                           (left, right, top, bottom))


# Odd sizes, one place, one channel, sums shorter and longer than a block: every kind of edge; the
# last ones at places in memory that are no multiple of four.
ODD = tuple(Case(f"odd {i}", *case) for i, case in enumerate((
    (16, (9, 9), 24, (3, 3), (2, 2), (0, 0, 0, 0)),
    (3, (16, 16), 32, (3, 3), (2, 2), (1, 0, 1, 0)),
    (5, (11, 7), 13, (3, 3), (2, 2), (1, 0, 1, 0)),
    (64, (4, 4), 9, (4, 4), (1, 1), (0, 0, 0, 0)),
    (130, (4, 4), 1, (4, 4), (1, 1), (0, 0, 0, 0)),
    (8, (8, 8), 16, (5, 5), (2, 2), (2, 1, 2, 1)),
    (3, (16, 16), 12, (5, 5), (2, 2), (2, 1, 2, 1)),
    (7, (6, 6), 120, (3, 3), (1, 1), (1, 1, 1, 1)),
    (1, (8, 8), 8, (1, 1), (1, 1), (0, 0, 0, 0)),
    (20, (1, 1), 5, (1, 1), (1, 1), (0, 0, 0, 0)),
    (20, (4, 4), 100, (4, 4), (1, 1), (0, 0, 0, 0)),
    (40, (3, 3), 10, (2, 2), (1, 1), (0, 0, 0, 0)),
    (200, (4, 4), 1, (1, 1), (1, 1), (0, 0, 0, 0)),
    (7, (11, 11), 1, (1, 1), (1, 1), (0, 0, 0, 0)),
    (31, (2, 2), 3, (1, 1), (3, 3), (0, 0, 0, 0)),
    (23, (1, 1), 7, (1, 1), (1, 1), (0, 0, 0, 0)),
    (2, (5, 5), 8, (3, 3), (3, 3), (0, 0, 0, 0)),
    (1, (9, 9), 9, (1, 1), (2, 2), (0, 0, 0, 0)),
    (3, (3, 3), 10, (3, 3), (1, 1), (0, 0, 0, 0)))))


def differing(ours: Tensor, theirs: Tensor) -> int:
    """Values of other bits."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return int((ours.cpu().contiguous().view(torch.int32)
                != theirs.contiguous().view(torch.int32)).sum())


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def products_of(case: Case, samples: int, module: Any, device: str, threads: int
                ) -> dict[str, Callable[[], Tensor]]:
    large = drawn(1, samples, case.channels, *case.size).to(device)
    small = drawn(2, samples, case.out, *case.small).to(device)
    weight = drawn(3, case.out, case.channels, *case.kernel).to(device)
    return {
        "correlate": lambda: module.correlate(large, weight, case.stride, case.pads, threads),
        "backward_data": lambda: module.backward_data(small, weight, case.stride, case.pads,
                                                      case.size, threads),
        "backward_weight": lambda: module.backward_weight(small, large, case.kernel, case.stride,
                                                          case.pads, threads)}


def compared(case: Case, samples: int, device: str, timed: bool, threads: int = 2) -> Figures:
    """Of each product: values, how many differ, milliseconds and TFLOP/s where timed."""
    from torch_port.gpu import products as on_gpu

    theirs = products_of(case, samples, on_cpu, "cpu", threads)
    figures: Figures = {"case": case.name, "samples": samples}
    for name, make in products_of(case, samples, on_gpu, device, threads).items():
        made = make()
        of = figures[name] = {"values": made.numel(), "differing": differing(made, theirs[name]())}
        if timed:
            seconds = seconds_of(make, device)
            of.update(ms=seconds * 1e3, tflops=case.operations(samples) / seconds / 1e12)
    return figures


def seconds_of(work: Callable[[], Any], device: str, times: int = 3) -> float:
    """The fastest of some, after the first, which compiles."""
    taken = []
    for _ in range(times):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


NORMALISED = ((16, 32, 64, 64), (16, 1024, 4, 4), (3, 17, 7, 5), (2, 5, 3, 130))
NORMALISED_SMALL = ((3, 17, 7, 5), (2, 5, 3, 20))


def normalised(shape: tuple[int, ...], device: str, timed: bool) -> Figures:
    """Batch normalisation, both ways: how many values differ."""
    from torch_port.gpu import batch_norm as on_gpu

    x, g = drawn(1, *shape), drawn(2, *shape)
    scale, bias = (drawn(i, shape[1]) for i in (3, 4))
    leaves = [t.clone().requires_grad_() for t in (x, scale, bias)]
    y, mean, variance = _AsMKL.apply(*leaves, 1e-5)  # type: ignore[no-untyped-call]
    gradients = torch.autograd.grad(y, leaves, g)
    x_there, scale_there, bias_there, g_there = (t.to(device) for t in (x, scale, bias, g))
    made = on_gpu.forward(x_there, scale_there, bias_there, 1e-5)
    back = on_gpu.backward(x_there, g_there, scale_there, made[1], made[2], 1e-5)
    figures = {"shape": list(shape), "values": 2 * y.numel(), "differing": sum(
        differing(ours, theirs.detach()) for ours, theirs in zip(
            (*made, *back), (y, mean, variance, *gradients), strict=True))}
    if timed:
        figures["ms"] = 1e3 * (
            seconds_of(lambda: on_gpu.forward(x_there, scale_there, bias_there, 1e-5), device)
            + seconds_of(lambda: on_gpu.backward(x_there, g_there, scale_there, made[1], made[2],
                                                 1e-5), device))
    return figures


def trained(map_file: str, minibatch: int, iterations: int, seed: int, spec: Spec) -> Figures:
    """The training from its seed on the CPU and on the GPU, in CNTK's order: how many values of
    weights, statistics and Adam's moments differ behind each iteration."""
    rounding.as_cntk_rounds(gpu=True)
    runs = [Run.from_seed(seed, map_file, minibatch, spec=spec, device=device)
            for device in ("cpu", "cuda")]
    steps = [run.iterations() for run in runs]
    behind = []
    for _ in range(iterations):
        seconds, losses = [], []
        for one in steps:
            start = time.perf_counter()
            losses.append(next(one)[:2])
            wait("cuda")
            seconds.append(time.perf_counter() - start)
        theirs, ours = (run.arrays() for run in runs)
        behind.append({
            "values": sum(a.size for a in theirs.values()),
            "differing": sum(int((ours[name] != theirs[name]).sum()) for name in theirs),
            "losses": losses, "same_losses": losses[0] == losses[1],
            "seconds": dict(zip(("cpu", "cuda"), seconds, strict=True))})
    return {"minibatch_size": minibatch, "iterations": behind}
