"""Each layer's three products in each arithmetic and layout, against the machine's matrix product.

    .venv-torch/bin/python -m benchmarks.products [--rounds 3] [--threads 1] [--json PATH]

Forward pass, gradient of x and gradient of weight of the article's 14 convolutions: in CNTK's order
("exact"), and by PyTorch in float32 and, where the processor has it, bfloat16, x and weight in
PyTorch's own layout ("plain") and channels last ("last"). A rate is the product's multiplications
and additions over the seconds of its fastest time, as a share of float32's rate of the product of
two matrices of 1024 x 1024, which takes its turn between the layers. Seconds are the processors',
so that who else keeps the machine busy disturbs less. The last row is one iteration's
convolutions: what D's and G's steps ask of each layer.
"""
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks.figures import written
from captures import spec as described
from captures.article import DCGAN, MINIBATCH_SIZE
from captures.spec import Layer, Network, Spec
from torch_port import rounding
from torch_port.convolution import conv2d, conv_transpose2d
from torch_port.fast.arithmetic import bfloat16_here
from torch_port.fast.networks import convolved

EXACT = "exact"
PASSES = ("forward", "of_x", "of_weight")
SIZE = 1024
Figures = dict[str, Any]
LAST = torch.channels_last


def ways() -> dict[str, tuple[torch.dtype, torch.memory_format]]:
    plain = torch.contiguous_format
    made = {EXACT: (torch.float32, plain), "float32 plain": (torch.float32, plain),
            "float32 last": (torch.float32, LAST)}
    if bfloat16_here():
        made.update({"bfloat16 plain": (torch.bfloat16, plain),
                     "bfloat16 last": (torch.bfloat16, LAST)})
    return made


def operations(layer: Layer, samples: int) -> int:
    """Multiplications and additions of each of the three."""
    small = layer.input if layer.kind == described.TRANSPOSED else layer.output
    taps = layer.kernel * layer.kernel
    return 2 * samples * small[1] * small[2] * layer.input[0] * layer.output[0] * taps


def times_in_an_iteration(network: Network, layer: Layer, spec: Spec) -> tuple[int, int, int]:
    """How often an iteration asks for each of the three.

    G runs in D's step, forward alone, and in its own. D sees real and fake images in its step, and
    G's images in G's, where its weights learn nothing. Nobody asks for the gradient of the latents,
    nor for that of D's images in D's step.
    """
    first = layer.name == network.layers[0].name
    if network.name == spec.maker.name:
        return 2, int(not first), 1
    return 3, 1 if first else 3, 2


def passes(layer: Layer, way: str, samples: int) -> dict[str, Callable[[], object]]:
    dtype, layout = ways()[way]
    random = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(dtype).contiguous(memory_format=layout)

    x, weight = drawn(samples, *layer.input), drawn(*layer.weight)
    g = drawn(samples, *layer.output)

    def made(x: Tensor, weight: Tensor) -> Tensor:
        if way != EXACT:
            return convolved(layer, x, weight, None)
        top, left, bottom, right = layer.pads
        stride = (layer.stride, layer.stride)
        if layer.kind == described.TRANSPOSED:
            return conv_transpose2d(x, weight, None, stride, (top, left),
                                    (top - bottom, left - right))
        padded = torch.nn.functional.pad(x, (left, right, top, bottom)) if any(layer.pads) else x
        return conv2d(padded, weight, None, stride)

    def gradient(learnt: int) -> Callable[[], object]:
        leaves = [x.detach(), weight.detach()]
        leaves[learnt] = leaves[learnt].clone().requires_grad_()
        y = made(*leaves)
        return lambda: torch.autograd.grad(y, leaves[learnt], g, retain_graph=True)

    torch.backends.mkldnn.set_flags(way != EXACT)
    with torch.no_grad():
        made(x, weight)
    return {"forward": lambda: made(x, weight), "of_x": gradient(0), "of_weight": gradient(1)}


def seconds_of(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def layers(spec: Spec) -> Iterator[tuple[Network, Layer]]:
    for network in spec.networks:
        for layer in network.layers:
            if layer.weight:
                yield network, layer


def measure(rounds: int, samples: int, spec: Spec = DCGAN, size: int = SIZE) -> Figures:
    rounding.as_cntk_rounds()
    a = torch.rand(size, size)
    found: dict[str, dict[str, dict[str, float]]] = {}
    turns = []
    for network, layer in layers(spec):
        of = found[f"{network.name} {layer.name}"] = {}
        for way in ways():
            works = passes(layer, way, samples)
            torch.backends.mkldnn.set_flags(way != EXACT)
            for work in works.values():
                work()
            of[way] = {name: min(seconds_of(work) for _ in range(rounds))
                       for name, work in works.items()}
        print(f"{network.name} {layer.name}", file=sys.stderr, flush=True)
        turns += [seconds_of(lambda: a @ a) for _ in range(rounds)]
    matrices = 2 * size ** 3 / min(turns)
    rates = {f"{network.name} {layer.name}": {
        way: {name: operations(layer, samples) / taken / matrices for name, taken in of.items()}
        for way, of in found[f"{network.name} {layer.name}"].items()}
        for network, layer in layers(spec)}
    return {"benchmark": "products", "rounds": rounds, "samples": samples,
            "threads": torch.get_num_threads(), "torch": torch.__version__,
            "gflops_of_matrices": matrices / 1e9, "seconds": found, "rates": rates,
            "seconds_of_an_iteration": in_an_iteration(found, spec)}


def in_an_iteration(seconds: dict[str, dict[str, dict[str, float]]], spec: Spec
                    ) -> dict[str, float]:
    made = dict.fromkeys(next(iter(seconds.values())), 0.0)
    for network, layer in layers(spec):
        counts = times_in_an_iteration(network, layer, spec)
        for way, of in seconds[f"{network.name} {layer.name}"].items():
            made[way] += sum(count * of[name] for count, name in zip(counts, PASSES, strict=True))
    return made


def table(figures: Figures) -> str:
    """Markdown: forward / gradient of x / gradient of weight, as shares of the matrices' rate."""
    names = list(figures["seconds_of_an_iteration"])
    lines = [f"forward / gradient of x / gradient of weight, as shares of a product of matrices' "
             f"{figures['gflops_of_matrices']:.0f} GFLOP/s in float32, "
             f"{figures['threads']} thread(s)", "",
             "| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for layer, of in figures["rates"].items():
        lines.append(f"| {layer} | " + " | ".join(
            " / ".join(f"{rate[name]:.2f}" for name in PASSES) for rate in of.values()) + " |")
    lines.append("| seconds of an iteration | " + " | ".join(
        f"{taken:.2f}" for taken in figures["seconds_of_an_iteration"].values()) + " |")
    return "\n".join(lines)


def main(json: Annotated[Path | None, typer.Option(
             metavar="PATH", show_default="not written", help="write the figures here")] = None,
         rounds: Annotated[int, typer.Option(min=1, help="times of each")] = 3,
         threads: Annotated[int, typer.Option(min=1, help="of PyTorch's")] = 1,
         samples: Annotated[int, typer.Option(min=1, help="of a minibatch")] = MINIBATCH_SIZE
         ) -> None:
    """Each layer's three products in each arithmetic and layout."""
    torch.set_num_threads(threads)
    figures = measure(rounds, samples)
    print(table(figures))
    written(figures, json)


if __name__ == "__main__":
    typer.run(main)
