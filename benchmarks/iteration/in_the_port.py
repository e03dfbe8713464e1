"""The port's iterations, one for each line that comes in; answers seconds, processor
seconds and bytes.

    python -m benchmarks.iteration.in_the_port MAP_FILE MINIBATCH_SIZE cntk|float32|bfloat16|stock

"stock" is what somebody writes who knows nothing of CNTK: torch.nn's layers and torch.optim.Adam,
in PyTorch's own layout. An empty line asks for an iteration; any other text for one that is
profiled, whose parts are answered as JSON.
"""
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.iteration.parts import seconds_of_parts
from captures import spec as described
from captures.article import DCGAN, LEARNING_RATE, MOMENTUM
from captures.spec import Network
from captures.system import keep_memory, largest_memory
from torch_port import rounding
from torch_port.dcgan import normalized
from torch_port.fast.arithmetic import ON_THE_CPU, Arithmetic
from torch_port.train.fast import FastRun
from torch_port.train.run import Run

STOCK = "stock"
POINTWISE: dict[str, type[nn.Module]] = {
    described.RELU: nn.ReLU, described.TANH: nn.Tanh, described.SIGMOID: nn.Sigmoid}


def stock_network(network: Network, slope: float) -> nn.Sequential:
    """The network in torch.nn's layers; zeros on both sides, which are cut off again, where an
    image of the article's gets one side more than the other."""
    made: list[nn.Module] = []
    for layer in network.layers:
        if layer.weight:
            top, left, bottom, right = layer.pads
            given: dict[str, Any] = {"stride": layer.stride, "bias": bool(layer.bias)}
            size = (layer.input[0], layer.output[0], layer.kernel)
            if layer.kind == described.TRANSPOSED:
                made.append(nn.ConvTranspose2d(*size, padding=(top, left), output_padding=(
                    top - bottom, left - right), **given))
            else:
                made += [nn.ZeroPad2d((left, right, top, bottom)), nn.Conv2d(*size, **given)]
        elif layer.kind == described.NORMALISATION:
            made.append(nn.BatchNorm2d(layer.output[0]))
        else:
            made.append(nn.LeakyReLU(slope) if layer.kind == described.LEAKY_RELU
                        else POINTWISE[layer.kind]())
    return nn.Sequential(*made)


def stock_iterations(run: Run) -> Iterator[object]:
    """The same reader, latents and steps; losses by binary cross-entropy."""
    torch.backends.mkldnn.set_flags(True)
    spec = run.networks.spec
    maker, critic = (stock_network(network, spec.slope) for network in (spec.maker, spec.critic))
    learn = {net: torch.optim.Adam(net.parameters(), LEARNING_RATE, betas=(MOMENTUM, 0.999))
             for net in (maker, critic)}

    def step(network: nn.Sequential, *losses: Tensor) -> float:
        learn[network].zero_grad()
        total = torch.stack(losses).sum()
        total.backward(inputs=list(network.parameters()))
        learn[network].step()
        return float(total.detach())

    def loss(images: Tensor, real: bool) -> Tensor:
        made = critic(images)
        return F.binary_cross_entropy(made, torch.full_like(made, float(real)))

    def latents() -> Tensor:
        return torch.from_numpy(run.latents.next(run.minibatch_size))[:, :, None, None]

    for images in run.reader:
        with torch.no_grad():
            fake = maker(latents())
        step(critic, loss(normalized(images, spec.middle), True), loss(fake, False))
        yield step(maker, loss(maker(latents()), True))


def iterations(name: str, map_file: str, minibatch_size: int) -> Iterator[object]:
    rounding.as_cntk_rounds()
    if name != STOCK:
        keep_memory()  # as the training program does
    run = Run.from_seed(0, map_file, minibatch_size, spec=DCGAN)
    if name == STOCK:
        return stock_iterations(run)
    if name == ON_THE_CPU.name:
        return run.iterations()
    return FastRun.of(run, Arithmetic(name, "cpu")).iterations()


def main(map_file: str, minibatch_size: int, name: str) -> None:
    steps = iterations(name, map_file, minibatch_size)
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(seconds_of_parts(lambda: next(steps))), flush=True)
            continue
        start, used = time.perf_counter(), time.process_time()
        next(steps)
        print(time.perf_counter() - start, time.process_time() - used,
              largest_memory(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
