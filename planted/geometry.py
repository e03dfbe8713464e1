"""Mistakes in the convolutions: padding, cropping, kernels, biases, and their order.

nn.Conv2d(padding=1) is none: at stride 2 on an even size no window reaches the bottom and the right
of it, and the output has the same bits.
"""
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from planted.parts import becomes, built, convolution_of, method, replace
from planted.plant import GEOMETRY, mistake
from torch_port import convolution, dcgan, layers
from torch_port.layers import ConvolutionTranspose, PaddedConvolution

Pair = tuple[int, ...]
EVALUATION = "forward/evaluation"
EVERY_D_CONV1 = "discriminator_(real|fake)/conv1/output"


@mistake("padding-on-all-sides", GEOMETRY,
         "A transposed convolution cropped on all four sides alike, [2, 2, 2, 2], and the row and "
         "the column that are then missing filled with zeros.",
         EVALUATION, "generator/conv2/output")
def padding_on_all_sides() -> None:
    before = convolution.conv_transpose2d

    def cropped(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair,
                output_padding: Pair) -> Tensor:
        return F.pad(before(x, weight, bias, stride, padding, (0, 0)),
                     (0, output_padding[0], 0, output_padding[1]))
    replace(convolution.conv_transpose2d, cropped)


@mistake("padding-mirrored", GEOMETRY,
         "padding_mode='reflect': the border repeats the image where CNTK's is 0.",
         EVALUATION, EVERY_D_CONV1)
def padding_mirrored() -> None:
    replace(layers.padded, lambda x, pads: F.pad(x, pads, mode="reflect"))


@mistake("padding-shifted-by-one", GEOMETRY,
         "The odd pixel at the bottom and the right, TensorFlow's SAME.",
         EVALUATION, EVERY_D_CONV1)
def padding_shifted() -> None:
    replace(layers.padded, lambda x, pads: F.pad(x, (0, 1, 0, 1)))


@mistake("one-layers-padding-shifted", GEOMETRY,
         "The same in the discriminator's fourth layer alone.",
         EVALUATION, "discriminator_(real|fake)/conv4/output")
def one_layers_padding_shifted() -> None:
    def change(networks: dcgan.Networks) -> None:
        convolution = convolution_of(networks, "discriminator/conv4")
        assert isinstance(convolution, PaddedConvolution)
        convolution.pads = (0, 1, 0, 1)
    built(change)


@mistake("no-output-padding", GEOMETRY,
         "ConvTranspose2d without output_padding: 4, 7, 13, ... where CNTK is told 8, 16, 32.",
         "structure", "generator/conv2/shape")
def no_output_padding() -> None:
    def change(networks: dcgan.Networks) -> None:
        for layer in networks.generator.children():
            if isinstance(layer, ConvolutionTranspose):
                layer.output_padding = (0, 0)
    built(change)


@mistake("cropped-on-the-wrong-side", GEOMETRY,
         "A transposed convolution cropped [1, 1, 2, 2], not [2, 2, 1, 1].",
         EVALUATION, "generator/conv2/output")
def cropped_on_the_wrong_side() -> None:
    before = convolution.conv_transpose2d

    def cropped(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair,
                output_padding: Pair) -> Tensor:
        if not output_padding[0]:
            return before(x, weight, bias, stride, padding, output_padding)
        return before(x, weight, bias, stride, (0, 0), (0, 0))[:, :, 1:-2, 1:-2]
    replace(convolution.conv_transpose2d, cropped)


@mistake("kernels-flipped", GEOMETRY,
         "Kernels turned round, as if the weights were a true convolution's.",
         EVALUATION, EVERY_D_CONV1)
def kernels_flipped() -> None:
    before = convolution.conv2d
    replace(convolution.conv2d, lambda x, weight, bias, stride: before(
        x, weight if torch.onnx.is_in_onnx_export() else weight.flip(2, 3), bias, stride))


@mistake("height-and-width-swapped", GEOMETRY,
         "Kernels with rows and columns exchanged.",
         EVALUATION, "generator/conv1/output")
def height_and_width_swapped() -> None:
    before = convolution.conv_transpose2d
    replace(convolution.conv_transpose2d,
            lambda x, weight, bias, stride, padding, output_padding: before(
                x, weight.transpose(2, 3), bias, stride, padding, output_padding))


class _Swapped(PaddedConvolution):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, [1, 0, *range(2, self.out_channels)]]


@mistake("two-filters-swapped", GEOMETRY,
         "Two filters of the discriminator's fourth layer in each other's place.",
         EVALUATION, "discriminator_(real|fake)/conv4/output")
def two_filters_swapped() -> None:
    built(lambda networks: becomes(
        convolution_of(networks, "discriminator/conv4"), _Swapped))


@mistake("first-layer-stride-2", GEOMETRY,
         "The generator's first layer with stride 2, as the article's table prints it: from 1 x 1 "
         "no number changes, only the exported graph does.",
         "onnx", "generator/conv1/node_port_export")
def first_layer_stride_2() -> None:
    def change(networks: dcgan.Networks) -> None:
        convolution_of(networks, "generator/conv1").stride = (2, 2)
    built(change)


class _Pooled(PaddedConvolution):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(super().forward(x), 2, ceil_mode=True)


@mistake("stride-1-in-the-discriminator", GEOMETRY,
         "The discriminator's first layer with stride 1 and a pooling behind it.",
         EVALUATION, EVERY_D_CONV1)
def stride_1_in_the_discriminator() -> None:
    def change(networks: dcgan.Networks) -> None:
        first = convolution_of(networks, "discriminator/conv1")
        first.stride = (1, 1)
        becomes(first, _Pooled)
    built(change)


@mistake("bias-missing", GEOMETRY, "The generator's last layer without its bias.",
         "structure", "generator/conv7/bias")
def bias_missing() -> None:
    built(lambda networks: convolution_of(networks, "generator/conv7").register_parameter(
        "bias", None))


class _Unbiased(ConvolutionTranspose):
    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return convolution.conv_transpose2d(
            x, self.weight, None, self.stride, self.padding,  # type: ignore[arg-type]
            self.output_padding)


@mistake("bias-not-added", GEOMETRY,
         "A bias that is there and learnt, and that the last layer of the generator does not add.",
         EVALUATION, "generator/conv7/output")
def bias_not_added() -> None:
    built(lambda networks: becomes(convolution_of(networks, "generator/conv7"), _Unbiased))


@mistake("bias-added", GEOMETRY,
         "The discriminator's convolutions with the bias that nn.Conv2d has by itself.",
         "structure", "discriminator/conv2/bias")
def bias_added() -> None:
    def change(networks: dcgan.Networks) -> None:
        for layer in networks.discriminator.children():
            if isinstance(layer, PaddedConvolution) and layer.bias is None:
                bound = (layer.in_channels * 9) ** -0.5
                layer.bias = nn.Parameter(torch.empty(layer.out_channels).uniform_(-bound, bound))
    built(change)


@mistake("equal-layers-exchanged", GEOMETRY,
         "The generator's third and the discriminator's fourth normalisation, both of 256 "
         "channels, in each other's place.",
         "state", "generator/bn3/.*")
def equal_layers_exchanged() -> None:
    swap = {"generator/bn3": "discriminator/bn4", "discriminator/bn4": "generator/bn3"}

    def load(self: dcgan.Networks, arrays: Mapping[str, np.ndarray]) -> None:
        swapped = {}
        for name, array in arrays.items():
            layer, _, quantity = name.rpartition("/")
            swapped[f"{swap.get(layer, layer)}/{quantity}"] = array
        before(self, swapped)

    before = method(dcgan.Networks, "load", load)
