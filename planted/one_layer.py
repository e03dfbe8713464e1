"""Mistakes in one layer, one channel, one filter or one sample: the rest is right.

They change what the layer computes, not what it exports: an export has its own mistakes.
"""
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from planted.parts import (
    activation,
    becomes,
    built,
    convolution_of,
    layer,
    method,
    replace,
    weight_of,
)
from planted.plant import ONE_LAYER, mistake
from torch_port import activations, convolution, dcgan
from torch_port.batch_norm import BatchNormalization

EVALUATION, TRAINING = "forward/evaluation", "forward/training"


# ----------------------------------------------------------------------------------------- helpers


def output(name: str, change: Callable[[Tensor], Tensor], training_only: bool = False) -> None:
    """Changes what one layer gives: ``generator/conv3``."""
    network, _, short = name.partition("/")

    def change_class(networks: dcgan.Networks) -> None:
        module = networks.get_submodule(network).get_submodule(short)
        before = type(module).forward

        def forward(self: Any, h: Tensor, *others: Any) -> Tensor:
            made: Tensor = before(self, h, *others)
            if torch.onnx.is_in_onnx_export() or (training_only and not self.training):
                return made
            return change(made)
        becomes(module, type(f"Changed{short}", (type(module),), {"forward": forward}))

    layer(name)
    built(change_class)


def convolved(name: str, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Changes what one convolution is given, its input and its weight: ``discriminator/conv3``.
    Raises AttributeError: there is none."""
    is_its = weight_of(name)
    part = convolution.conv_transpose2d if name.startswith("gen") else convolution.conv2d

    def convolve(x: Tensor, weight: Tensor, *others: Any) -> Tensor:
        if is_its(weight) and not torch.onnx.is_in_onnx_export():
            x, weight = change(x, weight)
        return before(x, weight, *others)

    before: Callable[..., Tensor] = part
    replace(before, convolve)


def straight(exact: Tensor, coarse: Tensor) -> Tensor:
    """The coarse value with the exact one's gradient."""
    return exact + (coarse - exact).detach()


def backwards(exact: Tensor, other: Tensor) -> Tensor:
    """The exact value with the other's gradient; the bits of the value stay."""
    return exact.detach() + (other - other.detach())


# ----------------------------------------------------------------------------- convolutions' values


@mistake("one-filter-in-float16", ONE_LAYER,
         "One filter of the discriminator's third layer is used in float16.",
         EVALUATION, "discriminator_(real|fake)/conv3/output")
def one_filter_in_float16() -> None:
    def change(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        coarse = weight.clone()
        coarse[1] = coarse[1].half().float()
        return x, straight(weight, coarse)
    convolved("discriminator/conv3", change)


@mistake("one-filter-scaled", ONE_LAYER,
         "One filter of the generator's third layer is 1e-4 of itself too large.",
         EVALUATION, "generator/conv3/output")
def one_filter_scaled() -> None:
    def change(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        factor = torch.ones(weight.shape[1])
        factor[1] += 1e-4
        return x, weight * factor[:, None, None]
    convolved("generator/conv3", change)


def to_tf32(t: Tensor) -> Tensor:
    """Rounded to the ten bits of mantissa that a tensor core keeps of a float32."""
    bits = t.detach().contiguous().view(torch.int32)
    return straight(t, ((bits + 0x1000) & ~0x1FFF).view(torch.float32))


@mistake("one-layer-in-tf32", ONE_LAYER,
         "The discriminator's fifth convolution takes its factors in TF32.",
         EVALUATION, "discriminator_(real|fake)/conv5/output")
def one_layer_in_tf32() -> None:
    convolved("discriminator/conv5", lambda x, weight: (to_tf32(x), to_tf32(weight)))


@mistake("one-layer-in-bfloat16", ONE_LAYER,
         "The generator's second convolution takes its factors in bfloat16.",
         EVALUATION, "generator/conv2/output")
def one_layer_in_bfloat16() -> None:
    convolved("generator/conv2", lambda x, weight: (
        straight(x, x.bfloat16().to(x.dtype)),
        straight(weight, weight.bfloat16().to(weight.dtype))))


@mistake("last-row-repeated", ONE_LAYER,
         "The last row of the generator's image is that before it: one pixel short, and padded.",
         EVALUATION, "generator/conv7/output")
def last_row_repeated() -> None:
    output("generator/conv7", lambda h: torch.cat([h[:, :, :-1], h[:, :, -2:-1]], 2))


@mistake("first-column-mirrored", ONE_LAYER,
         "In one layer of the discriminator the left border is padded with itself, not with 0.",
         EVALUATION, "discriminator_(real|fake)/conv2/output")
def first_column_mirrored() -> None:
    def change(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([x[..., 1:2], x[..., 1:]], -1), weight
    convolved("discriminator/conv2", change)


@mistake("one-channels-bias-missing", ONE_LAYER,
         "The bias of one channel is not added in the discriminator's first layer.",
         EVALUATION, "discriminator_(real|fake)/conv1/output")
def one_channels_bias_missing() -> None:
    def change_class(networks: dcgan.Networks) -> None:
        module = convolution_of(networks, "discriminator/conv1")
        before: Callable[..., Tensor] = type(module).forward

        def forward(self: Any, h: Tensor) -> Tensor:
            kept = torch.ones(self.out_channels)
            kept[1] = 0
            y: Tensor = before(self, h) - (self.bias * (1 - kept))[:, None, None]
            return y
        becomes(module, type("OneBiasMissing", (type(module),), {"forward": forward}))
    built(change_class)


@mistake("one-channel-offset", ONE_LAYER,
         "1e-4 is added to one channel of the generator's fourth convolution.",
         EVALUATION, "generator/conv4/output")
def one_channel_offset() -> None:
    def change(h: Tensor) -> Tensor:
        offset = h.new_zeros(h.shape[1], 1, 1)
        offset[1] = 1e-4
        return h + offset
    output("generator/conv4", change)


@mistake("one-sample-scaled", ONE_LAYER,
         "The last sample of a minibatch is 1e-4 of itself too large in one layer.",
         EVALUATION, "generator/conv5/output")
def one_sample_scaled() -> None:
    output("generator/conv5", lambda h: torch.cat([h[:-1], h[-1:] * (1 + 1e-4)]))


@mistake("bends-with-the-value", ONE_LAYER,
         "A convolution whose large values are too large: h + 1e-4 h |h|.",
         EVALUATION, "discriminator_(real|fake)/conv4/output")
def bends_with_the_value() -> None:
    output("discriminator/conv4", lambda h: h + 1e-4 * h * h.abs())


@mistake("nan-in-one-layer", ONE_LAYER, "In training one value of one layer is NaN.",
         TRAINING, "discriminator_(real|fake)/conv5/output")
def nan_in_one_layer() -> None:
    def change(h: Tensor) -> Tensor:
        h = h.clone()
        h[0, 0, 0, 0] = float("nan")
        return h
    output("discriminator/conv5", change, training_only=True)


# ------------------------------------------------------------------- batch normalisation, one layer


def normalisation(name: str, change: Callable[[BatchNormalization], None]) -> None:
    """Changes one normalisation once it is made."""
    network, _, short = name.partition("/")

    def of(networks: dcgan.Networks) -> None:
        module = networks.get_submodule(network).get_submodule(short)
        assert isinstance(module, BatchNormalization)
        change(module)

    layer(name)
    built(of)


def part(name: str, part: str, new: Callable[..., Any]) -> None:
    """Replaces a method of one normalisation: ``new(layer, before, *arguments)``."""
    def change(module: BatchNormalization) -> None:
        before = getattr(module, part)
        module.__dict__[part] = lambda *arguments: new(module, before, *arguments)
    normalisation(name, change)


@mistake("epsilon-2e-5-in-one-layer", ONE_LAYER, "One normalisation with twice the epsilon.",
         EVALUATION, "generator/bn4/output")
def epsilon_2e_5() -> None:
    def change(module: BatchNormalization) -> None:
        module.epsilon = 2e-5
    normalisation("generator/bn4", change)


@mistake("epsilon-1.1e-5-in-one-layer", ONE_LAYER,
         "One normalisation of the discriminator with a tenth more epsilon.",
         EVALUATION, "discriminator_(real|fake)/bn6/output")
def epsilon_1_1e_5() -> None:
    def change(module: BatchNormalization) -> None:
        module.epsilon = 1.1e-5
    normalisation("discriminator/bn6", change)


@mistake("variance-biased-in-one-layer", ONE_LAYER,
         "The running variance of the generator's first normalisation from the biased one.",
         "step", "after_d/generator/bn1/running_variance")
def variance_biased_in_one_layer() -> None:
    part("generator/bn1", "variance_kept",
          lambda module, before, variance, values: variance * ((values - 1) / values))


@mistake("variance-biased-in-the-last-layer", ONE_LAYER,
         "The same in the discriminator's last normalisation.",
         "step", "after_d/discriminator/bn6/running_variance")
def variance_biased_in_the_last_layer() -> None:
    part("discriminator/bn6", "variance_kept",
          lambda module, before, variance, values: variance * ((values - 1) / values))


@mistake("running-mean-in-float16", ONE_LAYER,
         "One layer keeps its running mean in float16.",
         "step", "after_d/discriminator/bn3/running_mean")
def running_mean_in_float16() -> None:
    def update(module: BatchNormalization, before: Any, *arguments: Any) -> None:
        before(*arguments)
        module.running_mean.copy_(module.running_mean.half())
    part("discriminator/bn3", "_update_statistics", update)


@mistake("one-layers-count-stands", ONE_LAYER, "One layer does not count its samples.",
         "step", "after_d/generator/bn5/sample_count")
def one_layers_count_stands() -> None:
    def update(module: BatchNormalization, before: Any, mean: Tensor, variance: Tensor,
               samples: int, values: int) -> None:
        before(mean, variance, samples, values)
        module.sample_count -= samples
    part("generator/bn5", "_update_statistics", update)


@mistake("time-constant-500-in-one-layer", ONE_LAYER,
         "One layer's statistics move ten times as fast.",
         "step", "after_d/discriminator/bn4/running_mean")
def time_constant_500() -> None:
    part("discriminator/bn4", "update_factor",
          lambda module, before, samples: before(10 * samples))


@mistake("one-channels-mean-stands", ONE_LAYER,
         "The running mean of one channel is not updated.",
         "step", "after_d/discriminator/bn5/running_mean")
def one_channels_mean_stands() -> None:
    def update(module: BatchNormalization, before: Any, *arguments: Any) -> None:
        kept = module.running_mean[3].clone()
        before(*arguments)
        module.running_mean[3] = kept
    part("discriminator/bn5", "_update_statistics", update)


@mistake("coarse-roots-in-one-layer", ONE_LAYER,
         "One normalisation by an approximate reciprocal root of 12 bits.",
         EVALUATION, "discriminator_(real|fake)/bn2/output")
def coarse_roots() -> None:
    def change(h: Tensor) -> Tensor:
        error = 2.0 ** -13 * torch.cos(torch.arange(float(h.shape[1])) * 7)
        return h * (1 + error)[:, None, None].to(h.dtype)
    output("discriminator/bn2", change)


@mistake("statistics-as-constants", ONE_LAYER,
         "One normalisation's backward pass takes the minibatch's statistics for constants.",
         "gradient/d", "discriminator_(real|fake)/conv3/output")
def statistics_as_constants() -> None:
    def change_class(networks: dcgan.Networks) -> None:
        module = networks.discriminator.get_submodule("bn3")
        before = type(module).forward

        def forward(self: Any, h: Tensor) -> Tensor:
            made: Tensor = before(self, h)
            if not self.training or not torch.is_grad_enabled():
                return made
            with torch.no_grad():
                variance, mean = torch.var_mean(h, (0, 2, 3), correction=0)
                factor = torch.rsqrt(variance + self.epsilon)[:, None, None]
            return backwards(made, (h - mean[:, None, None]) * factor * self.scale[:, None, None]
                             + self.bias[:, None, None])
        becomes(module, type("Constants", (type(module),), {"forward": forward}))
    built(change_class)


# -------------------------------------------------------------------------------------- rectifiers


@mistake("slope-0.201-in-one-layer", ONE_LAYER, "One leaky ReLU with the slope 0.201.",
         EVALUATION, "discriminator_(real|fake)/leaky_relu3/output")
def slope_0_201() -> None:
    activation("discriminator/leaky_relu3", lambda network, h: activations.leaky_relu(h, 0.201))


@mistake("slope-0.25-backwards", ONE_LAYER,
         "One leaky ReLU with another slope in its backward pass alone.",
         "gradient/d", "discriminator_(real|fake)/bn5/output")
def slope_backwards() -> None:
    activation("discriminator/leaky_relu5", lambda network, h: backwards(
        activations.leaky_relu(h, 0.2), F.leaky_relu(h, 0.25)))


@mistake("relu-capped-at-4", ONE_LAYER, "One ReLU that ends at 4, as ReLU6 ends at 6.",
         EVALUATION, "generator/relu5/output")
def relu_capped() -> None:
    activation("generator/relu5", lambda network, h: F.hardtanh(h, 0.0, 4.0))


@mistake("tanh-clipped", ONE_LAYER, "The image is clipped to -0.1 .. 0.1.",
         EVALUATION, "generator/tanh7/output")
def tanh_clipped() -> None:
    activation("generator/tanh7", lambda network, h: activations.tanh(h).clamp(-0.1, 0.1))


@mistake("dropout-in-one-layer", ONE_LAYER, "Dropout of one value in a thousand in one layer.",
         TRAINING, "discriminator_(real|fake)/leaky_relu4/output")
def dropout_in_one_layer() -> None:
    activation("discriminator/leaky_relu4", lambda network, h: F.dropout(
        activations.leaky_relu(h, 0.2), 1e-3, network.training))


@mistake("noise-on-the-image", ONE_LAYER,
         "In training Gaussian noise of 1e-3 is added to the discriminator's images, a GAN recipe.",
         TRAINING, "discriminator_(real|fake)/conv1/output")
def noise_on_the_image() -> None:
    _forward(dcgan.Discriminator, lambda before, self, x, *each: before(
        self, x + 1e-3 * torch.randn_like(x) if self.training else x, *each))


@mistake("generator-in-bfloat16-in-training", ONE_LAYER,
         "autocast about the generator in training.",
         TRAINING, "generator/conv1/output")
def generator_in_bfloat16() -> None:
    def forward(before: Any, self: dcgan.Generator, z: Tensor, *each: Any) -> Tensor:
        in_training = self.training and not torch.onnx.is_in_onnx_export()
        with torch.autocast("cpu", torch.bfloat16, enabled=in_training):
            return before(self, z, *each).float()  # type: ignore[no-any-return]
    _forward(dcgan.Generator, forward)


def _forward(network: type[dcgan.Chain], new: Callable[..., Tensor]) -> None:
    """``new(before, self, ...)`` for the whole of one network."""
    def forward(self: dcgan.Chain, *arguments: Any) -> Tensor:
        return new(before, self, *arguments) if isinstance(self, network) \
            else before(self, *arguments)
    before: Callable[..., Tensor] = method(dcgan.Chain, "forward", forward)
