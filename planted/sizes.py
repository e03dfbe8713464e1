"""Small mistakes of any size, to find the smallest that the suite sees: ``one-filter:1e-5``."""
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from planted.between import every_gradient, gradient, in_d_step
from planted.one_layer import convolved, normalisation, output, part
from planted.parts import activation, method, replace
from torch_port import activations, dcgan
from torch_port.adam import CNTKAdam
from torch_port.batch_norm import BatchNormalization


@dataclass(frozen=True)
class Sized:
    """what: one sentence, of what the size is a part. apply: of a size."""

    what: str
    apply: Callable[[float], None]


def _one_filter(size: float) -> None:
    def change(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        factor = torch.ones(weight.shape[1], dtype=weight.dtype)
        factor[1] += size
        return x, weight * factor[:, None, None]
    convolved("generator/conv3", change)


def _bias(size: float) -> None:
    def change(h: Tensor) -> Tensor:
        offset = h.new_zeros(h.shape[1], 1, 1)
        offset[1] = size
        return h + offset
    output("discriminator/conv1", change)


def _epsilon(name: str) -> Callable[[float], None]:
    def apply(size: float) -> None:
        def change(module: BatchNormalization) -> None:
            module.epsilon *= 1 + size
        normalisation(name, change)
    return apply


def _momentum(size: float) -> None:
    before = method(CNTKAdam, "momentum",
                    lambda self, group, samples: before(self, group, samples) * (1 + size))


def _rate(size: float) -> None:
    before = method(CNTKAdam, "rate",
                    lambda self, group, samples: before(self, group, samples) * (1 + size))


def _decay(size: float) -> None:
    def change(network: torch.nn.Module) -> None:
        for p, g in every_gradient(network):
            g.add_(p, alpha=size)
    in_d_step(change)


def _gradient(size: float) -> None:
    def change(network: torch.nn.Module) -> None:
        gradient(network, "conv3.weight")[1].mul_(1 + size)
    in_d_step(change)


def _pixels(size: float) -> None:
    before = dcgan.normalized
    replace(dcgan.normalized, lambda x, middle=127.5: before(x, middle) + (
        0 if torch.onnx.is_in_onnx_export() else size))


SIZED: dict[str, Sized] = {
    "one-filter": Sized("one filter of the generator's third convolution, as a part of itself",
                        _one_filter),
    "scale": Sized("the scale of the generator's fourth normalisation, as a part of itself",
                   lambda size: output("generator/bn4", lambda h: h * (1 + size))),
    "bias": Sized("an offset of one channel of the discriminator's first convolution", _bias),
    "epsilon": Sized("epsilon of the generator's fourth normalisation, as a part of itself",
                     _epsilon("generator/bn4")),
    "epsilon-in-the-last-layer": Sized("the same of the discriminator's sixth",
                                       _epsilon("discriminator/bn6")),
    "slope": Sized("the slope of the discriminator's third rectifier, as a part of itself",
                   lambda size: activation("discriminator/leaky_relu3", lambda network, h:
                                           activations.leaky_relu(h, 0.2 * (1 + size)))),
    "pixels": Sized("an offset of the discriminator's images", _pixels),
    "pace": Sized("the pace of one normalisation's running statistics, as a part of itself",
                  lambda size: part("generator/bn3", "update_factor",
                                    lambda module, before, samples: before(samples) * (1 + size))),
    "variance": Sized("the variance that enters one running variance, as a part of itself",
                      lambda size: part("generator/bn1", "variance_kept",
                                        lambda module, before, variance, values:
                                        before(variance, values) * (1 + size))),
    "momentum": Sized("Adam's momentum, as a part of itself", _momentum),
    "rate": Sized("the learning rate, as a part of itself", _rate),
    "decay": Sized("weight decay in the discriminator's gradients: so much of the weight", _decay),
    "gradient": Sized("one filter's gradient before its update, as a part of itself", _gradient),
}
