"""How far a correct float32 program may be from float64, value by value: the oracle's second half.

Every formula below bounds the expected size (one standard deviation) of the rounding of a layer on
given inputs, in whatever order a program adds up. u = 2**-24.

    one rounding     of a result r: |r| u at most, 0.58 u |r| root mean square (uniform in half a
                     unit)
    a sum of K       products w x, one after the other, of random signs: the partial sum behind k of
    products         them has the mean square k/K S + (k/K)**2 y**2, S = sum of (w x)**2 and y the
                     result. Each is rounded once, so the error's is

                         E**2 = (0.58 u)**2 (K/2 S + K/3 y**2)

                     Adding in blocks, in lanes or by halves rounds fewer and smaller partial sums,
                     so the sequential order bounds every sane one.
    a Fourier        a convolution by transforms spreads its rounding evenly over the map, also
    transform        where the sum has next to nothing to add up. A side that is a product of primes
                     p takes sums of p products, one for each, of complex numbers: two for each
                     part. With the means over the map

                         E**2 = 2 u**2 (sum of p of both sides) (mean of S + mean of y**2)

                     A program does the one or the other, so the larger of the two counts. It is the
                     transforms' where few products are added up over a large map: the
                     discriminator's first layer, 27 products, and the gradient of its input.
    an elementwise   a few roundings of its terms
    function

Measured on the article's convolutions: CNTK is at 0.1 to 0.5 of E, oneDNN at 0.3 to 0.5, oneDNN in
channels_last at 0.3 to 0.8, root mean square over a layer; PyTorch's transforms at 0.2 to 0.5 of
theirs, on maps of 18 x 18 to 260 x 260 and 3 to 64 channels.

Normalisation by the minibatch's own statistics adds errors of whole channels: the variance is a sum
of n squares, so its error scales a channel, and the mean's shifts one. They are in E too.

Source: Higham, Accuracy and Stability of Numerical Algorithms, chapters 3 and 4 (the bound without
signs is K u; with random signs the root of it); checked by tests/torch_port/test_expected_rounding.
"""
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captures.movement import UNIT
from captures.spec import Spec
from torch_port.batch_norm import BatchNormalization
from torch_port.capture.recorder import Replacer
from torch_port.dcgan import Networks
from torch_port.layers import Convolution, ConvolutionTranspose

ROUNDING = 0.58 * UNIT  # root mean square of one rounding, as a part of the result
FEW = 4.0  # roundings of an elementwise function: its own and those inside


def of_sum(squares: Tensor, result: Tensor, count: float) -> Tensor:
    """E of a sum of ``count`` products, squares: the sum of their squares."""
    return ROUNDING * torch.sqrt(count / 2 * squares + count / 3 * result * result)


def of_convolution(squares: Tensor, result: Tensor, count: float, sides: int) -> Tensor:
    """E of a convolution, as sums of products or by Fourier transforms.

    squares, result: samples x channels x rows x columns, or a weight's gradient, whose map is the
        window.
    sides: the sum of the prime factors of the map's sides."""
    evenly = UNIT * math.sqrt(2 * sides) * torch.sqrt(
        (squares + result * result).mean((2, 3), keepdim=True))
    return torch.maximum(of_sum(squares, result, count), evenly)


def primes(n: int) -> int:
    """The sum of the prime factors of n: 7 of 12, which is 2 * 2 * 3; 0 of 1."""
    made, factor = 0, 2
    while n > 1:
        while n % factor == 0:
            made, n = made + factor, n // factor
        factor += 1
    return made


def _sides(layer: nn.Module, *maps: Tensor) -> int:
    """The sum of the prime factors of the larger map's sides, with room for a window about each
    place."""
    assert isinstance(layer, Convolution | ConvolutionTranspose)
    return sum(primes(max(one.shape[axis] for one in maps) + layer.kernel_size[axis - 2] - 1)
               for axis in (2, 3))


def _convolve(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """Without the bias, in the tensors' own precision."""
    if isinstance(layer, ConvolutionTranspose):
        return F.conv_transpose2d(x, weight, None, layer.stride, layer.padding,  # type: ignore[arg-type]
                                  layer.output_padding)
    assert isinstance(layer, Convolution)
    return F.conv2d(F.pad(x, layer.pads), weight, None, layer.stride)


def _products(layer: nn.Module) -> tuple[float, float]:
    """How many products make one output, and one value of the input's gradient."""
    assert isinstance(layer, Convolution | ConvolutionTranspose)
    rows, columns = layer.kernel_size
    window, spread = float(rows * columns), float(rows * columns)
    steps = float(layer.stride[0] * layer.stride[1])
    if isinstance(layer, ConvolutionTranspose):
        window = max(1.0, window / steps)
    else:
        spread = max(1.0, spread / steps)
    return window * layer.in_channels, spread * layer.out_channels


def _single(*tensors: Tensor) -> list[Tensor]:
    """Squares in float32: of a size, three digits are enough."""
    return [(t.detach().double() ** 2).float() for t in tensors]


def of_output(name: str, layer: nn.Module | None, x: Tensor, y: Tensor) -> Tensor:
    """E of a layer's output y on its input x. layer: None for an activation, which is known by its
    name."""
    x, y = x.detach().double(), y.detach().double()
    if isinstance(layer, Convolution | ConvolutionTranspose):
        xx, ww = _single(x, layer.weight)
        made = of_convolution(_convolve(layer, xx, ww).double(), y, _products(layer)[0],
                              _sides(layer, x, y))
        return torch.hypot(made, ROUNDING * y) if layer.bias is not None else made
    if isinstance(layer, BatchNormalization):
        return _of_normalised(layer, x, y)
    if name.startswith("relu"):
        return torch.zeros_like(y)
    return FEW * ROUNDING * y.abs()


def _columns(*vectors: Tensor) -> list[Tensor]:
    return [v.detach().double()[:, None, None] for v in vectors]


def _of_normalised(layer: BatchNormalization, x: Tensor, y: Tensor) -> Tensor:
    """y = (x - mean) f + b, f = scale / root(variance + epsilon), or x f + (b - mean f)."""
    scale, bias = _columns(layer.scale, layer.bias)
    if layer.training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    else:
        mean, variance = layer.running_mean.double(), layer.running_variance.double()
    (of_mean, of_factor), (mean, variance) = (
        _of_statistics(layer, x, mean, variance), _columns(mean, variance))
    factor = scale / torch.sqrt(variance + layer.epsilon)
    terms = (x * factor) ** 2 + (mean * factor) ** 2 + bias ** 2 + y ** 2
    centred = (x - mean) * factor
    return torch.sqrt(ROUNDING ** 2 * (terms + FEW * centred ** 2)
                      + (of_mean * factor) ** 2 + (of_factor * centred) ** 2)


def _of_statistics(layer: BatchNormalization, x: Tensor, mean: Tensor, variance: Tensor
                   ) -> tuple[Tensor, Tensor]:
    """(E of the mean, E of 1 / root(variance) as a part of itself), of each channel; 0 where they
    are the running ones, which are given."""
    if not layer.training:
        zero = torch.zeros_like(mean)[:, None, None]
        return zero, zero
    n = x.numel() / x.shape[1]
    squares = (x ** 2).sum((0, 2, 3))
    of_mean = of_sum(squares, mean * n, n) / n
    centred = variance * n  # the sum of n squares, all positive
    fourth = ((x - mean[:, None, None]) ** 4).sum((0, 2, 3))
    of_variance = of_sum(fourth, centred, n) / n
    part = of_variance / (variance + layer.epsilon) / 2
    return of_mean[:, None, None], part[:, None, None]


def of_gradients(name: str, layer: nn.Module | None, x: Tensor, y: Tensor, upstream: Tensor,
                 dx: Tensor | None, gradients: dict[str, Tensor]
                 ) -> tuple[Tensor | None, dict[str, Tensor]]:
    """E of the gradient dx of the layer's input, and of each parameter's, from that of its output.

    gradients: of the layer's parameters, by quantity.
    """
    x, y, g = (t.detach().double() for t in (x, y, upstream))
    if isinstance(layer, Convolution | ConvolutionTranspose):
        return _of_convolution(layer, x, g, dx, gradients)
    if isinstance(layer, BatchNormalization):
        return _of_normalisation(layer, x, g, dx, gradients)
    if dx is None:
        return None, {}
    if name.startswith("relu"):
        return torch.zeros_like(g), {}
    # Where the derivative is small, it is the difference of larger terms: of 1 and y.
    return FEW * ROUNDING * torch.maximum(g.abs() * _derivative(name, y), dx.detach().abs()), {}


def _derivative(name: str, y: Tensor) -> Tensor:
    """The largest term of the activation's derivative: 1 - y**2 has 1, y (1 - y) has y."""
    return y.abs() if name.startswith("sigmoid") else torch.ones_like(y)


def _of_convolution(layer: nn.Module, x: Tensor, g: Tensor, dx: Tensor | None,
                    gradients: dict[str, Tensor]) -> tuple[Tensor | None, dict[str, Tensor]]:
    xx, ww, gg = _single(x, layer.weight, g)  # type: ignore[arg-type]
    xx.requires_grad_(dx is not None)
    ww.requires_grad_("weight" in gradients)
    made: dict[str, Tensor] = {}
    wanted = [t for t in (xx, ww) if t.requires_grad]
    got: list[Tensor] = []
    if wanted:
        with torch.enable_grad():
            got = list(torch.autograd.grad(_convolve(layer, xx, ww), wanted, gg))
    of_x = None
    if dx is not None:
        of_x = of_convolution(got.pop(0).double(), dx.detach().double(), _products(layer)[1],
                              _sides(layer, x, g))
    places = float(min(g[:, 0].numel(), x[:, 0].numel()))  # of the smaller map: one product each
    if "weight" in gradients:
        made["weight"] = of_convolution(
            got.pop(0).double(), gradients["weight"].detach().double(), places,
            _sides(layer, x, g))
    if "bias" in gradients:
        made["bias"] = of_sum((g ** 2).sum((0, 2, 3)), gradients["bias"].detach().double(),
                              float(g[:, 0].numel()))
    return of_x, made


def _of_normalisation(layer: BatchNormalization, x: Tensor, g: Tensor, dx: Tensor | None,
                      gradients: dict[str, Tensor]) -> tuple[Tensor | None, dict[str, Tensor]]:
    """dx = scale / root(variance + epsilon) (g - mean of g - z mean of (g z)), z = x normalised."""
    (scale,) = _columns(layer.scale)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    of_mean, of_factor = _of_statistics(layer, x, mean, variance)
    (mean, variance) = _columns(mean, variance)
    inverse = 1 / torch.sqrt(variance + layer.epsilon)
    z, n = (x - mean) * inverse, x.numel() / x.shape[1]
    sums = {"bias": g.sum((0, 2, 3)), "scale": (g * z).sum((0, 2, 3))}
    of_z = torch.sqrt(ROUNDING ** 2 * FEW * (z * z + (mean * inverse) ** 2)
                      + (of_mean * inverse) ** 2 + (of_factor * z) ** 2)
    of_sums = {
        "bias": of_sum((g * g).sum((0, 2, 3)), sums["bias"], n),
        "scale": torch.sqrt(of_sum(((g * z) ** 2).sum((0, 2, 3)), sums["scale"], n) ** 2
                            + (of_factor[:, 0, 0] * sums["scale"]) ** 2
                            + (of_mean * inverse)[:, 0, 0] ** 2 * sums["bias"] ** 2
                            + ((g * of_z) ** 2).sum((0, 2, 3)))}
    of_x = None
    if dx is not None:
        mean_g, mean_gz = _columns(sums["bias"] / n, sums["scale"] / n)
        of_mean_g, of_mean_gz = _columns(of_sums["bias"] / n, of_sums["scale"] / n)
        terms = g ** 2 + mean_g ** 2 + (z * mean_gz) ** 2
        of_x = (scale * inverse).abs() * torch.sqrt(
            FEW * ROUNDING ** 2 * terms + of_mean_g ** 2 + (z * of_mean_gz) ** 2
            + (of_z * mean_gz) ** 2)
        of_x = torch.hypot(of_x, of_factor * dx.detach().double())
    return of_x, {name: of_sums[name] for name in of_sums if name in gradients}


def layer_of(spec: Spec, networks: Networks, place: str) -> tuple[str, str, nn.Module | None]:
    """(network, layer, its module; None for an activation) of ``branch/layer/output``."""
    branch, name, _ = place.split("/")
    made = branch == spec.maker.name
    held = networks.generator if made else networks.discriminator
    return (spec.maker if made else spec.critic).name, name, dict(held.named_children()).get(name)


def _input(local: Replacer, place: str, first: Mapping[str, Tensor]) -> Tensor:
    """What the layer took. first: branch to what its first layer takes."""
    before = local.before[place]
    branch = place.split("/", maxsplit=1)[0]
    if before:
        return local.replaced[before]
    return first[branch].reshape(len(first[branch]), -1, 1, 1) if first[branch].ndim == 2 \
        else first[branch]


def outputs(spec: Spec, networks: Networks, local: Replacer, first: Mapping[str, Tensor]
            ) -> dict[str, Tensor]:
    """E of every layer's output on the reference's tensors: "branch/layer/output" to tensor."""
    made = {}
    for place, y in local.outputs.items():
        _, name, layer = layer_of(spec, networks, place)
        made[place] = of_output(name, layer, _input(local, place, first), y)
    return made


def gradients(spec: Spec, networks: Networks, local: Replacer, upstream: Mapping[str, Tensor],
              first: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """E of every gradient that ``local`` has: of the layers' outputs, and of the parameters of
    ``network``, whose gradients of both branches are added up."""
    made: dict[str, Tensor] = {}
    for place, y in local.outputs.items():
        owner, name, layer = layer_of(spec, networks, place)
        held = {} if layer is None or owner != network else {
            quantity: p.grad for quantity, p in layer.named_parameters() if p.grad is not None}
        before = local.before[place]
        leaf = local.replaced.get(before)
        dx = leaf.grad if leaf is not None else None
        of_x, of_parameters = of_gradients(name, layer, _input(local, place, first), y,
                                           upstream[place], dx, held)
        if of_x is not None:
            made[before] = of_x.reshape(leaf.shape) if leaf is not None else of_x
        for quantity, value in of_parameters.items():
            at = f"{owner}/{name}/{quantity}"
            made[at] = torch.hypot(made[at], value) if at in made else value
    for place, leaf in local.replaced.items():
        if leaf.grad is not None and place not in made:  # what the loss hands to the last layer
            made[place] = FEW * ROUNDING * leaf.grad.abs()
    return made


def of_losses(terms: list[Tensor], value: Tensor) -> Tensor:
    """E of a sample's loss, a sum of logarithms: each a few roundings of itself, and at least of
    1, whose logarithm a rounding of the probability moves by that much."""
    squares = sum(((t.detach().double().abs() + 1) ** 2 for t in terms), torch.zeros(()).double())
    return FEW * ROUNDING * torch.sqrt(squares + value.detach().double() ** 2)
