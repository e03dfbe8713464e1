"""Networks on real CNTK from their description. Python 3.6.

The article's own networks come from the article's own program; any other is built here, by the same
calls of CNTK's layers. Both have one form: ``function(h, each)``, with each(name, h) called for
every layer, and what it returns goes on.
"""
from typing import Any, Callable, NamedTuple

import cntk as C
import numpy as np
from cntk.layers import BatchNormalization, Convolution2D, ConvolutionTranspose2D

from captures import article
from captures import spec as kinds
from captures.errors import SpecError
from captures.spec import Layer, Network, Spec
from cntk_impl import dcgan_training as program

Each = Callable[[str, Any], Any]


class Functions(NamedTuple):
    maker: Callable[..., Any]
    critic: Callable[..., Any]


def functions(spec: Spec) -> Functions:
    """The two networks' functions."""
    if spec == article.DCGAN:
        return Functions(program.dcgan_generator, program.dcgan_discriminator)
    return Functions(described(spec, spec.maker), described(spec, spec.critic))


def described(spec: Spec, network: Network) -> Callable[..., Any]:
    """The function of one network. Raises SpecError: CNTK 2.7 has no such layer."""
    def function(h: Any, each: Each = program.unchanged) -> Any:
        with C.layers.default_options(init=C.normal(spec.deviation), map_rank=1,
                                      use_cntk_engine=True):
            if len(network.input) == 1:
                h = C.reshape(h, network.layers[0].input)
            for layer in network.layers:
                h = each(layer.name, _layer(spec, layer)(h))
            return h
    return function


def _layer(spec: Spec, layer: Layer) -> Any:
    if layer.kind == kinds.CONVOLUTION:
        return Convolution2D(
            (layer.kernel, layer.kernel), layer.channels, strides=layer.stride, pad=layer.padded,
            bias=layer.bias, name=layer.name)
    if layer.kind == kinds.TRANSPOSED:
        return ConvolutionTranspose2D(
            (layer.kernel, layer.kernel), layer.channels, strides=layer.stride, pad=layer.padded,
            bias=layer.bias, output_shape=layer.output[1:], name=layer.name)
    if layer.kind == kinds.NORMALISATION:
        return normalisation(spec, layer.name)
    if layer.kind == kinds.LEAKY_RELU:
        return lambda h: C.leaky_relu(h, spec.slope, name=layer.name)
    pointwise = {kinds.RELU: C.relu, kinds.TANH: C.tanh, kinds.SIGMOID: C.sigmoid}
    if layer.kind not in pointwise:
        raise SpecError("%s is of kind %s, which has no layer of CNTK's here"
                        % (layer.name, layer.kind))
    return lambda h: pointwise[layer.kind](h, name=layer.name)


def normalisation(spec: Spec, name: str = "") -> Any:
    return BatchNormalization(normalization_time_constant=spec.time_constant,
                              epsilon=spec.epsilon, name=name)


def reader(spec: Spec, map_file: str, seed: int) -> Any:
    """The article's reader, with the networks' size of images."""
    return program.create_reader(map_file, True, seed, spec.critic.input)


def pixels(spec: Spec, batch: Any) -> np.ndarray:
    return np.asarray(batch.data.asarray()).reshape((-1,) + tuple(spec.critic.input))
