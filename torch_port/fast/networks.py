"""A network's forward pass in stock PyTorch, from the parameters of ``torch_port.dcgan``.

The same layers, geometry and statistics; sums in PyTorch's order. Activations, and weights as they
go into a product, have ``factors``'s precision; a network's last convolution's output, and what
comes behind it, are float32. Convolutions see channels last in memory.

What is left of CNTK's behaviour: batch normalisation's first minibatch is copied and the others
enter by 1 - exp(-N/T), the last sigmoid and the logarithm saturate as CNTK's. What is not: a
rectifier's gradient at exactly 0.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from captures import spec as described
from captures.spec import Layer
from torch_port.activations import sigmoid
from torch_port.batch_norm import BatchNormalization
from torch_port.dcgan import Chain, Networks
from torch_port.layers import Each, unchanged

Weights = dict[str, Tensor]
LARGEST_BY_MATRICES = 16  # places of the smaller map


def laid_out(networks: Networks, factors: torch.dtype = torch.float32) -> None:
    """The weights channels last in memory, but where a product of matrices takes them."""
    for network in networks.spec.networks:
        for layer in network.layers:
            if layer.weight:
                module = networks.get_submodule(f"{network.name}.{layer.name}")
                weight: Tensor = module.weight  # type: ignore[assignment]
                if not one_place(layer) and not by_matrices(layer, weight.to(factors)):
                    weight.data = weight.data.to(memory_format=torch.channels_last)


def smaller_map(layer: Layer) -> tuple[int, ...]:
    """Height and width of the map that a window of the other is one place of."""
    small = layer.input if layer.kind == described.TRANSPOSED else layer.output
    return tuple(small[1:])


def one_place(layer: Layer) -> bool:
    """Whether the convolution is one product of matrices: a map of one place on one side."""
    return not layer.padded and smaller_map(layer) == (1, 1)


def by_matrices(layer: Layer, weight: Tensor) -> bool:
    """Whether a CPU is faster when it multiplies matrices and F.fold or F.unfold does the rest.

    Where the map is small and the weight large, oneDNN spends its time on the order of the weight
    in memory. One thread with AVX-512, forward / gradient of x / of weight in ms, 16 samples:

        1024 x 4 x 4 to 512 x 8 x 8, 5 x 5     float32    96 / 92 / 150    by matrices 77 / 76 / 91
                                               bfloat16   39 / 29 / 81                 24 / 22 / 23
        512 x 8 x 8 to 1024 x 4 x 4, 3 x 3     float32    19 / 18 / 27                 27 / 27 / 24
                                               bfloat16   10 / 11 / 34                  8 /  9 /  6
        the next larger maps: slower by matrices, up to twice
    """
    if weight.device.type != "cpu" or math.prod(smaller_map(layer)) > LARGEST_BY_MATRICES:
        return False
    return layer.kind == described.TRANSPOSED or weight.dtype == torch.bfloat16


def weights_of(chain: Chain, factors: torch.dtype) -> Weights:
    """Each convolution's weight as it goes into products: once for all branches of a step."""
    held = dict(chain.named_parameters())
    return {layer.name: held[layer.name + ".weight"].to(factors)
            for layer in chain.network.layers if layer.weight}


def output(chain: Chain, weights: Weights, h: Tensor, each: Each = unchanged) -> Tensor:
    """The network's output of h, N x ...; each as in ``Chain.forward``."""
    layers = chain.network.layers
    h = h.reshape(-1, *layers[0].input)
    last = max(i for i, layer in enumerate(layers) if layer.weight)
    for i, layer in enumerate(layers):
        if layer.weight:
            h = convolved(layer, h.to(weights[layer.name].dtype), weights[layer.name],
                          chain.get_submodule(layer.name).bias)  # type: ignore[arg-type]
            h = h.float() if i == last else h
        elif layer.kind == described.NORMALISATION:
            h = normalised(chain.get_submodule(layer.name), h)  # type: ignore[arg-type]
        else:
            h = activated(layer, h, chain.slope)
        h = each(layer.name, h)
    return h


def convolved(layer: Layer, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    bias = None if bias is None else bias.to(h.dtype)
    stride, (top, left, bottom, right) = layer.stride, layer.pads
    if one_place(layer):
        if layer.kind == described.TRANSPOSED:
            made = h.flatten(1) @ weight.flatten(1)
        else:
            made = h.flatten(1) @ weight.flatten(1).t()
        made = made.reshape(-1, *layer.output)
        return made if bias is None else made + bias[:, None, None]
    if by_matrices(layer, weight):
        made = _by_matrices(layer, h, weight)
        return made if bias is None else made + bias[:, None, None]
    if layer.kind == described.TRANSPOSED:
        return F.conv_transpose2d(h, weight, bias, stride, (top, left),
                                  (top - bottom, left - right))
    # Zeros on both sides alike save a copy of h, where no window reaches the ones too many.
    reached = tuple((size + 2 * pad - layer.kernel) // stride + 1
                    for size, pad in zip(layer.input[1:], (top, left), strict=True))
    if reached == tuple(layer.output[1:]):
        return F.conv2d(h, weight, bias, stride, (top, left))
    return F.conv2d(F.pad(h, (left, right, top, bottom)), weight, bias, stride)


def _by_matrices(layer: Layer, h: Tensor, weight: Tensor) -> Tensor:
    (top, left, bottom, right), kernel, taps = layer.pads, layer.kernel, weight[0].numel()
    if layer.kind == described.TRANSPOSED:
        places = h.permute(0, 2, 3, 1).reshape(-1, h.shape[1])
        columns = (places @ weight.flatten(1)).reshape(len(h), -1, taps).transpose(1, 2)
        height, width = layer.output[1:]
        full = F.fold(columns, (top + height + bottom, left + width + right), kernel,
                      stride=layer.stride)
        return full[:, :, top:top + height, left:left + width]
    columns = F.unfold(F.pad(h, (left, right, top, bottom)), kernel, stride=layer.stride)
    made = columns.transpose(1, 2).reshape(-1, taps) @ weight.flatten(1).t()
    return made.reshape(len(h), *layer.output[1:], -1).permute(0, 3, 1, 2)


def activated(layer: Layer, h: Tensor, slope: float) -> Tensor:
    """In place where gradients do not need what was there."""
    if layer.kind == described.RELU:
        return F.relu(h, inplace=True)
    if layer.kind == described.LEAKY_RELU:
        return F.leaky_relu(h, slope, inplace=True)
    return torch.tanh(h) if layer.kind == described.TANH else sigmoid(h)


def normalised(layer: BatchNormalization, x: Tensor) -> Tensor:
    """Over the minibatch, and its statistics kept; nothing here waits for a GPU."""
    if not layer.training:
        return F.batch_norm(x, layer.running_mean, layer.running_variance, layer.scale, layer.bias,
                            False, 0.0, layer.epsilon)
    mean, variance = (torch.zeros_like(layer.running_mean) for _ in range(2))
    y = torch.batch_norm(x, layer.scale, layer.bias, mean, variance, True, 1.0, layer.epsilon,
                         torch.backends.cudnn.enabled)
    with torch.no_grad():
        a = update_factor(layer, len(x))
        layer.running_mean.lerp_(mean, a)
        layer.running_variance.lerp_(variance, a)
        layer.sample_count += len(x)
    return y


def update_factor(layer: BatchNormalization, samples: int) -> Tensor:
    """``BatchNormalization.update_factor`` on the layer's own device."""
    count, T = layer.sample_count, layer.time_constant
    if T < 0:
        a = samples / (samples + count)
    else:
        a = torch.full((), 1.0 if T == 0 else -math.expm1(-samples / T), device=count.device)
    return a.masked_fill(count == 0, 1.0).to(layer.running_mean.dtype)
