"""A generator and a discriminator with CNTK's geometry, and the loading of weights in its layout.

    Generator      z N x 100 -> N x 3 x 256 x 256 in [-1, 1]
                   7 x ConvTranspose2d; batch normalisation and ReLU after the first six, tanh last
    Discriminator  x N x 3 x 256 x 256 in [-1, 1] -> N x 1 x 1 x 1 in (0, 1)
                   7 x Conv2d; batch normalisation after the middle five, leaky ReLU, sigmoid last

That is the article's, ``captures.article.DCGAN``; each class builds any other that a spec
describes.

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
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from captures import spec as described
from captures.article import DCGAN, MIDDLE
from captures.spec import Layer, Spec
from torch_port.activations import leaky_relu, relu, sigmoid, tanh
from torch_port.batch_norm import BatchNormalization
from torch_port.layers import Convolution, ConvolutionTranspose, Each, PaddedConvolution, unchanged
from torch_port.normal_initializer import draw_initial_weights, seeds_for


def normalized(x: Tensor, middle: float = MIDDLE) -> Tensor:
    """Pixels 0..255, as the reader gives them, to [-1, 1]: (x - 127.5) / 127.5, in CNTK a
    multiplication. Its ONNX file has a Div, and so has ours."""
    if torch.onnx.is_in_onnx_export():
        return (x - middle) / middle
    return (x - middle) * float(np.float32(1 / middle))


class Chain(nn.Module):
    """The layers of a network, one after the other, each under its own name.

    ``forward(h, each)``: each(name, h) is called with every layer's name and output; what it
    returns goes on. By default that is the output itself.
    """

    def __init__(self, network: described.Network, spec: Spec = DCGAN) -> None:
        super().__init__()
        self.network, self.slope = network, spec.slope
        for layer in network.layers:
            if layer.parameters:
                self.add_module(layer.name, self.made(layer, spec))

    @staticmethod
    def made(layer: Layer, spec: Spec) -> nn.Module:
        """A layer that holds parameters."""
        if layer.kind == described.NORMALISATION:
            return BatchNormalization(layer.output[0], spec.time_constant, spec.epsilon)
        ends = layer.input[0], layer.channels, layer.kernel
        top, left, bottom, right = layer.pads
        if layer.kind == described.TRANSPOSED:
            # Cropped by less at the end: that is what PyTorch calls output_padding.
            return ConvolutionTranspose(
                *ends, stride=layer.stride, padding=(top, left),
                output_padding=(top - bottom, left - right), bias=layer.bias)
        if not layer.padded:
            return Convolution(*ends, stride=layer.stride, bias=layer.bias)
        convolution = PaddedConvolution(*ends, stride=layer.stride, bias=layer.bias)
        convolution.pads = left, right, top, bottom
        return convolution

    def forward(self, h: Tensor, each: Each = unchanged) -> Tensor:
        if len(self.network.input) == 1:
            h = h.reshape(-1, *self.network.layers[0].input)
        for layer in self.network.layers:
            h = each(layer.name, self.output(layer, h))
        return h

    def output(self, layer: Layer, h: Tensor) -> Tensor:
        """One layer of what goes into it."""
        if layer.parameters:
            return self.get_submodule(layer.name)(h)  # type: ignore[no-any-return]
        if layer.kind == described.LEAKY_RELU:
            return leaky_relu(h, self.slope)
        return {described.RELU: relu, described.TANH: tanh, described.SIGMOID: sigmoid}[
            layer.kind](h)


class Generator(Chain):
    """z N x latents -> images in [-1, 1]."""

    def __init__(self, spec: Spec = DCGAN) -> None:
        super().__init__(spec.maker, spec)


class Discriminator(Chain):
    """Images in [-1, 1] -> the probability that each is a real one."""

    def __init__(self, spec: Spec = DCGAN) -> None:
        super().__init__(spec.critic, spec)


class Networks(nn.Module):
    """Both networks under the names of the captures: ``generator/conv3/weight`` is
    ``networks.generator.conv3.weight``. Where a spec names them otherwise, the modules have those
    names and are ``networks.generator`` and ``networks.discriminator`` too."""

    generator: Generator
    discriminator: Discriminator

    def __init__(self, spec: Spec = DCGAN) -> None:
        super().__init__()
        self.spec = spec
        for role, network, module in (("generator", spec.maker, Generator(spec)),
                                      ("discriminator", spec.critic, Discriminator(spec))):
            self.add_module(network.name, module)
            if network.name != role:  # past nn.Module, which would count it twice
                object.__setattr__(self, role, module)

    @property
    def names(self) -> tuple[str, str]:
        """The generator's and the discriminator's."""
        return self.spec.maker.name, self.spec.critic.name

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
                raise ValueError(f"the weights have no {name}: give a model of {self.spec.name}")
            if name not in ours:
                raise ValueError(f"the weights have {name}, which {self.spec.name} has not: give a "
                                 "model of that")
            if tuple(arrays[name].shape) != tuple(ours[name].shape):
                raise ValueError(f"{name} has the shape {tuple(arrays[name].shape)}, in "
                                 f"{self.spec.name} it is {tuple(ours[name].shape)}: give a model "
                                 "of that")
        with torch.no_grad():
            for name, tensor in ours.items():
                tensor.copy_(torch.from_numpy(np.require(arrays[name], requirements="W")))


def empty_networks(spec: Spec = DCGAN) -> Networks:
    """Both networks with no values in them yet, for ``load``: to draw PyTorch's own initial weights
    takes longer than to read CNTK's."""
    with torch.device("meta"):
        made = Networks(spec)
    return made.to_empty(device="cpu")


def networks_from_seed(seed: int, spec: Spec = DCGAN) -> Networks:
    """Both networks as CNTK makes them: weights from seed, seed + 1, ... in order of creation;
    biases 0, batch normalisation 1, 0, 0, 0, 0."""
    made = Networks(spec)
    order = spec.creation_order
    drawn = draw_initial_weights(order, seeds_for(seed, len(order)), spec.deviation)
    with torch.no_grad():
        for name, tensor in made.arrays().items():
            if name in drawn:
                tensor.copy_(torch.from_numpy(drawn[name]))
            elif name.endswith("/bias"):
                tensor.zero_()
    return made
