"""Mistakes in the arrays that come in from CNTK's files."""
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from planted.parts import PlantError, method
from planted.plant import WEIGHTS, mistake
from torch_port import dcgan


def loaded(name: str, change: Callable[[Tensor], None]) -> None:
    """After the arrays came in, one of those that the network now holds is changed.

    Raises PlantError: the networks have none of that name."""
    with torch.device("meta"):
        if name not in dcgan.Networks().arrays():
            raise PlantError(f"the networks have no {name}")

    def load(self: dcgan.Networks, arrays: Mapping[str, np.ndarray]) -> None:
        before(self, arrays)
        with torch.no_grad():
            change(self.arrays()[name])

    before = method(dcgan.Networks, "load", load)


@mistake("one-wrong-weight", WEIGHTS,
         "One weight of the generator's second layer, of 13 million in the article's, is off by "
         "one unit in the last place.",
         "state", "generator/conv2/weight")
def one_wrong_weight() -> None:
    def change(weight: Tensor) -> None:
        place = np.unravel_index(7654321 % weight.numel(), weight.shape)
        weight[place] = torch.nextafter(weight[place], torch.tensor(9.0))
    loaded("generator/conv2/weight", change)


@mistake("one-layer-in-float16", WEIGHTS, "One layer's weights went through float16.",
         "state", "generator/conv4/weight")
def one_layer_in_float16() -> None:
    def change(weight: Tensor) -> None:
        weight.copy_(weight.half().float())
    loaded("generator/conv4/weight", change)


@mistake("two-channels-exchanged", WEIGHTS,
         "Two channels of a normalisation's running variance exchanged.",
         "state", "discriminator/bn5/running_variance")
def two_channels_exchanged() -> None:
    def change(variance: Tensor) -> None:
        variance[[1, 2]] = variance[[2, 1]].clone()
    loaded("discriminator/bn5/running_variance", change)


@mistake("kernel-transposed", WEIGHTS,
         "The kernels of one layer transposed: its shape is the same.",
         "state", "discriminator/conv3/weight")
def kernel_transposed() -> None:
    def change(weight: Tensor) -> None:
        weight.copy_(weight.transpose(2, 3).clone())
    loaded("discriminator/conv3/weight", change)


@mistake("bias-lost-in-loading", WEIGHTS, "The discriminator's last bias stays 0.",
         "state", "discriminator/conv7/bias")
def bias_lost_in_loading() -> None:
    def change(bias: Tensor) -> None:
        bias.zero_()
    loaded("discriminator/conv7/bias", change)
