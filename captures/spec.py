"""A pair of networks as data: layers, branches, shapes. Plain Python 3.6, for both sides.

    spec = article.DCGAN
    spec.maker.layer("conv3").weight          (512, 256, 5, 5)
    spec.creation_order                       name of a weight -> its shape, in the order of seeds
    Spec.of_data(spec.data) == spec           JSON's lists and dictionaries, there and back

Everything outside the two programs asks the spec: no layer's name stands in the judge. A network is
a chain of layers; what is written down of a layer is its kind and size, and the rest is derived:

    convolution          padded  n -> ceil(n / stride)             else  (n - kernel) // stride + 1
    transposed           padded  n -> n * stride                   else  (n - 1) * stride + kernel
    pads                 what the windows reach beyond the image: (min(n, out) - 1) * stride
                         + kernel - max(n, out), the odd pixel at the top and the left
    weight               convolution (out, in, h, w), transposed (in, out, h, w): CNTK's layout,
                         which is PyTorch's too

Source: the pads are those that CNTK 2.7 takes with ``pad=True`` (for a transposed convolution with
``output_shape`` n * stride), as its ONNX exporter writes them; measured in ``torch_port``.
"""
import hashlib
import json
import re
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Tuple

from captures.errors import SpecError

Shape = Tuple[int, ...]

CONVOLUTION, TRANSPOSED, NORMALISATION = "convolution", "transposed", "normalisation"
RELU, LEAKY_RELU, TANH, SIGMOID = "relu", "leaky_relu", "tanh", "sigmoid"
CONVOLUTIONS = (CONVOLUTION, TRANSPOSED)
RECTIFIERS = (RELU, LEAKY_RELU)
ACTIVATIONS = (RELU, LEAKY_RELU, TANH, SIGMOID)
KINDS = CONVOLUTIONS + (NORMALISATION,) + ACTIVATIONS

LEARNT = ("scale", "bias")  # of a normalisation
STATISTICS = ("running_mean", "running_variance", "sample_count")

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FIELDS = ("name", "kind", "channels", "kernel", "stride", "padded", "bias")


class Layer(NamedTuple):
    """One layer. The first seven are written down, the two shapes are of one sample and derived.

    kind: of KINDS. channels: that come out. kernel, stride: of height and width alike. padded: the
    input at its sides, or what is cropped of a transposed convolution's output, as CNTK does.
    """

    name: str
    kind: str
    channels: int = 0
    kernel: int = 0
    stride: int = 1
    padded: bool = False
    bias: bool = False
    input: Shape = ()
    output: Shape = ()

    @property
    def pads(self) -> Tuple[int, int, int, int]:
        """Top, left, bottom, right: added by a convolution, cropped by a transposed one."""
        if not self.padded:
            return 0, 0, 0, 0
        before, after = [], []
        for size, made in zip(self.input[-2:], self.output[-2:]):
            beyond = max((min(size, made) - 1) * self.stride + self.kernel - max(size, made), 0)
            before.append(beyond - beyond // 2)
            after.append(beyond // 2)
        return before[0], before[1], after[0], after[1]

    @property
    def weight(self) -> Shape:
        """The shape of a convolution's weight; () for another kind."""
        if self.kind not in CONVOLUTIONS:
            return ()
        ends = (self.output[0], self.input[0])
        return (ends if self.kind == CONVOLUTION else ends[::-1]) + (self.kernel, self.kernel)

    @property
    def parameters(self) -> Dict[str, Shape]:
        """Quantity to shape, in the order of the captures: what the learner moves."""
        if self.kind == NORMALISATION:
            return dict.fromkeys(LEARNT, (self.output[0],))
        made = {"weight": self.weight} if self.weight else {}
        if self.bias:
            made["bias"] = (self.output[0],)
        return made

    @property
    def arrays(self) -> Dict[str, Shape]:
        """The parameters, and a normalisation's running statistics and count."""
        made = dict(self.parameters)
        if self.kind == NORMALISATION:
            made.update((name, () if name == "sample_count" else (self.output[0],))
                        for name in STATISTICS)
        return made


class Network(NamedTuple):
    """A chain of layers, made by ``network``. input: the shape of one sample."""

    name: str
    input: Shape
    layers: Tuple[Layer, ...]

    @property
    def output(self) -> Shape:
        return self.layers[-1].output

    @property
    def last(self) -> str:
        """The name of the layer whose output is the network's."""
        return self.layers[-1].name

    @property
    def logit(self) -> str:
        """The layer whose output a last sigmoid takes; "" where the last layer is none."""
        return self.layers[-2].name if self.layers[-1].kind == SIGMOID else ""

    @property
    def rectified(self) -> Tuple[str, ...]:
        """The layers whose output goes into a rectifier."""
        return tuple(layer.name for layer, after in zip(self.layers, self.layers[1:])
                     if after.kind in RECTIFIERS)

    @property
    def unbounded(self) -> Tuple[str, ...]:
        """The last layer, and the one before it if the last is an activation: a logit or a pixel
        may be near 0 where the terms of its sum are not."""
        two = self.layers[-2:] if self.layers[-1].kind in ACTIVATIONS else self.layers[-1:]
        return tuple(layer.name for layer in two)

    def layer(self, name: str) -> Layer:
        """Raises SpecError: the network has no such layer."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise SpecError("%s has no layer %r: it has %s" % (
            self.name, name, ", ".join(layer.name for layer in self.layers)))

    def before(self, name: str) -> str:
        """The layer whose output ``name`` takes; "" for the first."""
        names = [layer.name for layer in self.layers]
        at = names.index(self.layer(name).name)
        return names[at - 1] if at else ""

    @property
    def parameters(self) -> Dict[str, Shape]:
        """``network/layer/quantity`` to shape, of what is learnt, the first layer first."""
        return {"%s/%s/%s" % (self.name, layer.name, quantity): shape
                for layer in self.layers for quantity, shape in layer.parameters.items()}

    @property
    def arrays(self) -> Dict[str, Shape]:
        """The same with the running statistics."""
        return {"%s/%s/%s" % (self.name, layer.name, quantity): shape
                for layer in self.layers for quantity, shape in layer.arrays.items()}

    @property
    def size(self) -> int:
        """How many numbers are learnt."""
        return sum(_product(shape) for shape in self.parameters.values())

    @property
    def data(self) -> Dict[str, Any]:
        return {"name": self.name, "input": list(self.input), "layers": [
            {field: getattr(layer, field) for field in _FIELDS} for layer in self.layers]}


def network(name: str, input: Iterable[int], layers: Iterable[Layer]) -> Network:
    """The layers with their shapes. Raises SpecError: they do not make a chain."""
    first = tuple(input)
    _named(name, "a network")
    if len(first) not in (1, 3) or not all(_whole(size, 1) for size in first):
        raise SpecError("%s takes samples of %s: give (values,) or (channels, height, width)"
                        % (name, list(first)))
    made: List[Layer] = []
    shape = first if len(first) == 3 else first + (1, 1)
    for layer in layers:
        _check(layer, name)
        if layer.name in [other.name for other in made]:
            raise SpecError("%s has two layers %s: give each a name" % (name, layer.name))
        after = _after(layer, shape)
        if not all(size > 0 for size in after):
            raise SpecError("%s/%s makes %s of %s: give it a smaller kernel"
                            % (name, layer.name, list(after), list(shape)))
        made.append(layer._replace(input=shape, output=after))
        shape = after
    if not made:
        raise SpecError("%s has no layers" % name)
    return Network(name, first, tuple(made))


def _after(layer: Layer, shape: Shape) -> Shape:
    if layer.kind not in CONVOLUTIONS:
        return shape
    sizes = []
    for size in shape[1:]:
        if layer.kind == CONVOLUTION:
            sizes.append(-(-size // layer.stride) if layer.padded
                         else (size - layer.kernel) // layer.stride + 1)
        else:
            sizes.append(size * layer.stride if layer.padded
                         else (size - 1) * layer.stride + layer.kernel)
    return (layer.channels,) + tuple(sizes)


class Branch(NamedTuple):
    """One pass through one network. source: "latents", "pixels", or the branch whose output it
    takes."""

    name: str
    network: str
    source: str


class Spec(NamedTuple):
    """Two networks that are trained against each other, and what is fixed of their layers.

    maker: latents to images; critic: images to the probability that one is real. real, fake: the
    critic's branches in the captures (the maker's has its name). Pixels go in as
    (x - middle) / middle. deviation: of the initial weights, normal(0, deviation). time_constant:
    of the running statistics, in samples. slope: of leaky rectifiers.
    """

    name: str
    maker: Network
    critic: Network
    real: str
    fake: str
    middle: float
    deviation: float
    epsilon: float
    time_constant: float
    slope: float

    @property
    def networks(self) -> Tuple[Network, Network]:
        """In order of creation, which is that of the seeds."""
        return self.maker, self.critic

    @property
    def branches(self) -> Tuple[Branch, ...]:
        return (Branch(self.maker.name, self.maker.name, "latents"),
                Branch(self.real, self.critic.name, "pixels"),
                Branch(self.fake, self.critic.name, self.maker.name))

    def network(self, name: str) -> Network:
        """By its own name or a branch's. Raises SpecError: there is none."""
        for branch in self.branches:
            if name in (branch.name, branch.network):
                return self.maker if branch.network == self.maker.name else self.critic
        raise SpecError("%s has no network %r: it has %s and %s" % (
            self.name, name, self.maker.name, self.critic.name))

    def branch_of(self, network: str) -> str:
        """The branch on a network's own input, latents or pixels."""
        return self.maker.name if network == self.maker.name else self.real

    def learns(self, step: str) -> Network:
        """Of the "d" step the critic, of the "g" step the maker."""
        return {"d": self.critic, "g": self.maker}[step]

    @property
    def arrays(self) -> Dict[str, Shape]:
        """Every parameter and statistic of both networks."""
        made = dict(self.maker.arrays)
        made.update(self.critic.arrays)
        return made

    @property
    def creation_order(self) -> Dict[str, Shape]:
        """The weights that are drawn, the i-th from seed + i."""
        return {name: shape for name, shape in self.arrays.items() if name.endswith("/weight")}

    @property
    def images(self) -> str:
        """The name of the images that are made for the score."""
        return "score/%s/%s/images" % (self.maker.name, self.maker.last)

    @property
    def data(self) -> Dict[str, Any]:
        """Ready for JSON, with all that decides; shapes are derived again."""
        made: Dict[str, Any] = {name: getattr(self, name) for name in self._fields}
        made.update(maker=self.maker.data, critic=self.critic.data)
        return made

    @property
    def sha256(self) -> str:
        """Of ``data``: two specs are one where it is equal."""
        return hashlib.sha256(json.dumps(self.data, sort_keys=True).encode("ascii")).hexdigest()

    @classmethod
    def of_data(cls, data: Any) -> "Spec":
        """Raises SpecError: something is missing, of another type, or does not fit."""
        values = _exactly(data, cls._fields, "the networks' description")
        for name in ("maker", "critic"):
            found = _exactly(values[name], ("name", "input", "layers"), "network %s" % name)
            if not isinstance(found["input"], list) or not isinstance(found["layers"], list):
                raise SpecError("network %s has an input or layers that are no list" % name)
            values[name] = network(found["name"], found["input"], [
                Layer(**_exactly(layer, _FIELDS, "a layer of %s" % name))
                for layer in found["layers"]])
        return checked(cls(**values))


def checked(spec: Spec) -> Spec:
    """The same. Raises SpecError: the two networks do not fit together."""
    for name, what in ((spec.real, "a branch"), (spec.fake, "a branch")):
        _named(name, what)
    named = spec.name if isinstance(spec.name, str) else ""
    if not 0 < len(named) <= 60 or not named.isprintable():
        raise SpecError("the networks' name is %r: give up to 60 printable characters"
                        % (spec.name,))
    names = {spec.maker.name, spec.critic.name, spec.real, spec.fake}
    if len({spec.maker.name, spec.real, spec.fake}) != 3 or spec.maker.name == spec.critic.name \
            or names & {"loss", "input"}:
        raise SpecError("the networks and branches of %s are named %s: give each a name of its own"
                        % (spec.name, ", ".join(sorted(names))))
    if len(spec.maker.input) != 1 or spec.maker.output != spec.critic.input:
        raise SpecError("%s makes %s of %s values, %s takes %s: the first's images are the second's"
                        % (spec.maker.name, list(spec.maker.output), list(spec.maker.input),
                           spec.critic.name, list(spec.critic.input)))
    if _product(spec.critic.output) != 1 or not spec.critic.logit:
        raise SpecError("%s gives %s by a %s: it has to end in a sigmoid of one value"
                        % (spec.critic.name, list(spec.critic.output),
                           spec.critic.layers[-1].kind))
    for name in ("middle", "deviation", "epsilon", "time_constant", "slope"):
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
            raise SpecError("%s of %s is %r: give a positive number" % (name, spec.name, value))
    return spec


def _check(layer: Layer, network: str) -> None:
    _named(layer.name, "a layer of %s" % network)
    where = "%s/%s" % (network, layer.name)
    if layer.kind not in KINDS:
        raise SpecError("%s is of kind %r: give one of %s" % (where, layer.kind, ", ".join(KINDS)))
    if not isinstance(layer.padded, bool) or not isinstance(layer.bias, bool):
        raise SpecError("%s has padded %r and bias %r: give true or false"
                        % (where, layer.padded, layer.bias))
    sizes = (layer.channels, layer.kernel, layer.stride)
    least = 1 if layer.kind in CONVOLUTIONS else 0
    if not (_whole(sizes[0], least) and _whole(sizes[1], least) and _whole(sizes[2], 1)) \
            or (not least and (sizes != (0, 0, 1) or layer.padded or layer.bias)):
        raise SpecError("%s has channels, kernel and stride %s: only convolutions have them, and "
                        "then as whole numbers from 1" % (where, list(sizes)))


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= 2 ** 20


def _named(name: Any, what: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 60:
        raise SpecError("%s is named %r: give small letters, digits and _, a letter first"
                        % (what, name))


def _exactly(data: Any, names: Iterable[str], what: str) -> Dict[str, Any]:
    wanted = tuple(names)
    if not isinstance(data, Mapping) or sorted(data) != sorted(wanted):
        raise SpecError("%s is not a dictionary of %s" % (what, ", ".join(wanted)))
    return dict(data)


def _product(shape: Iterable[int]) -> int:
    made = 1
    for size in shape:
        made *= size
    return made


def numbered(layers: Iterable[Tuple[str, Layer]]) -> Iterator[Layer]:
    """(what a layer is called, layer) -> the layers as conv1, bn1, relu1, conv2, ...: the number is
    that of the convolution."""
    number = 0
    for called, layer in layers:
        number += layer.kind in CONVOLUTIONS
        yield layer._replace(name="%s%d" % (called, number))
