"""The article's two networks with CNTK's geometry, and the loading of weights in CNTK's layout.

    Generator      z N x 100 -> N x 3 x 256 x 256 in [-1, 1]
                   7 x ConvTranspose2d; batch normalisation and ReLU after the first six, tanh last
    Discriminator  x N x 3 x 256 x 256 in [-1, 1] -> N x 1 x 1 x 1 in (0, 1)
                   7 x Conv2d; batch normalisation after the middle five, leaky ReLU, sigmoid last

Weights: Conv (out, in, h, w), ConvTranspose (in, out, h, w), in CNTK as in PyTorch.

Geometry. CNTK's padding of a 3 x 3 window at stride 2 puts the odd pixel at the top and the left:
pads [1, 1, 0, 0]. TensorFlow's SAME puts it at the bottom and the right, has the same shape of
output, and sees every pixel one to the side: the first layer's output is off by 140 % of itself.
(``nn.Conv2d(padding=1)`` pads all four sides; on an even size no window reaches the two that are
too many, so it computes the same.) A transposed 5 x 5 at stride 2 with ``output_shape`` twice the
input crops [2, 2, 1, 1]: padding 2, output_padding 1. Without ``output_shape`` CNTK's result is
2n - 1 wide.

One discriminator is called twice, for the real and for the fake branch: its parameters and its
running statistics are shared, as in CNTK's clone with method "share".

float32 on the CPU, oneDNN off: CNTK's bits in every layer's output, every gradient and one step of
both networks, in the chain and each layer on its own: 0 values differing in 1,050 arrays, of
2 and of 4 samples (torch_port/convolution.py says where that holds).

Sources: the layer table of the article; pads as CNTK's ONNX exporter writes them (measured).
"""
import itertools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from torch_port.activations import leaky_relu, relu, sigmoid, tanh
from torch_port.batch_norm import BatchNormalization
from torch_port.layers import Convolution, ConvolutionTranspose, Each, PaddedConvolution, unchanged
from torch_port.normal_initializer import CREATION_ORDER, draw_initial_weights, seeds_for

LATENT_SIZE = 100
GENERATOR_CHANNELS = (1024, 512, 256, 128, 64, 32)
BIASES = ("generator/conv7/bias", "discriminator/conv1/bias", "discriminator/conv7/bias")
MIDDLE, RECIPROCAL = 127.5, float(np.float32(1 / 127.5))
DISCRIMINATOR_CHANNELS = (32, 64, 128, 256, 512, 1024)


def normalized(x: Tensor) -> Tensor:
    """Pixels 0..255, as the reader gives them, to [-1, 1]: (x - 127.5) / 127.5, in CNTK a
    multiplication. Its ONNX file has a Div, and so has ours."""
    if torch.onnx.is_in_onnx_export():
        return (x - MIDDLE) / MIDDLE
    return (x - MIDDLE) * RECIPROCAL


class Generator(nn.Module):
    """``forward(z, each)``: each(name, h) is called with every layer's name and output; what it
    returns goes on. By default that is the output itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvolutionTranspose(LATENT_SIZE, 1024, 4, bias=False)
        self.bn1 = BatchNormalization(1024)
        for i, (before, after) in enumerate(
                itertools.pairwise(GENERATOR_CHANNELS), 2):
            self.add_module(f"conv{i}", ConvolutionTranspose(
                before, after, 5, stride=2, padding=2, output_padding=1, bias=False))
            self.add_module(f"bn{i}", BatchNormalization(after))
        self.conv7 = ConvolutionTranspose(32, 3, 5, stride=2, padding=2, output_padding=1)

    def forward(self, z: Tensor, each: Each = unchanged) -> Tensor:
        h = z.reshape(-1, LATENT_SIZE, 1, 1)
        for i in range(1, 7):
            h = each(f"conv{i}", self.get_submodule(f"conv{i}")(h))
            h = each(f"bn{i}", self.get_submodule(f"bn{i}")(h))
            h = each(f"relu{i}", relu(h))
        h = each("conv7", self.conv7(h))
        return each("tanh7", tanh(h))


class Discriminator(nn.Module):
    """``forward(x, each)``: x in [-1, 1]; each as for the generator."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = PaddedConvolution(3, 32, 3, stride=2)
        for i, (before, after) in enumerate(
                itertools.pairwise(DISCRIMINATOR_CHANNELS), 2):
            self.add_module(f"conv{i}", PaddedConvolution(before, after, 3, stride=2, bias=False))
            self.add_module(f"bn{i}", BatchNormalization(after))
        self.conv7 = Convolution(1024, 1, 4)

    def forward(self, x: Tensor, each: Each = unchanged) -> Tensor:
        h = each("conv1", self.conv1(x))
        h = each("leaky_relu1", leaky_relu(h, 0.2))
        for i in range(2, 7):
            h = each(f"conv{i}", self.get_submodule(f"conv{i}")(h))
            h = each(f"bn{i}", self.get_submodule(f"bn{i}")(h))
            h = each(f"leaky_relu{i}", leaky_relu(h, 0.2))
        h = each("conv7", self.conv7(h))
        return each("sigmoid7", sigmoid(h))


class Networks(nn.Module):
    """Both networks under the names of the captures: ``generator/conv3/weight`` is
    ``networks.generator.conv3.weight``."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = Generator()
        self.discriminator = Discriminator()

    def arrays(self) -> dict[str, Tensor]:
        """Every parameter and statistic: name of the captures to tensor, the module's own."""
        return {name.replace(".", "/"): tensor for name, tensor in self.state_dict(
            keep_vars=True).items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes every parameter and statistic from arrays in CNTK's layout, or none.

        Raises ValueError: one is missing, of another shape, or there is one too many.
        """
        ours = self.arrays()
        for name in [*ours, *arrays]:
            if name not in arrays:
                raise ValueError(f"the weights have no {name}: give a model of the article's "
                                 "networks")
            if name not in ours:
                raise ValueError(f"the weights have {name}, which the article's networks have not: "
                                 "give a model of the article's networks")
            if tuple(arrays[name].shape) != tuple(ours[name].shape):
                raise ValueError(f"{name} has the shape {tuple(arrays[name].shape)}, the article's "
                                 f"networks have {tuple(ours[name].shape)}: give a model of the "
                                 "article's networks")
        with torch.no_grad():
            for name, tensor in ours.items():
                tensor.copy_(torch.from_numpy(np.require(arrays[name], requirements="W")))


def empty_networks() -> Networks:
    """Both networks with no values in them yet, for ``load``: to draw PyTorch's own initial weights
    takes longer than to read CNTK's."""
    with torch.device("meta"):
        made = Networks()
    return made.to_empty(device="cpu")


def networks_from_seed(seed: int) -> Networks:
    """Both networks as CNTK makes them: weights from seed, seed + 1, ... in order of creation;
    biases 0, batch normalisation 1, 0, 0, 0, 0."""
    made = Networks()
    drawn = draw_initial_weights(CREATION_ORDER, seeds_for(seed, len(CREATION_ORDER)))
    arrays = made.arrays()
    with torch.no_grad():
        for name, weights in drawn.items():
            arrays[name].copy_(torch.from_numpy(weights))
        for name in BIASES:
            arrays[name].zero_()
    return made
