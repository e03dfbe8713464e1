"""Somebody's network under the names of the captures: which of its calls is which CNTK layer, which
of its tensors is which weight.

    matched = match(module, spec.maker, example)         raises MatchingError: a question to answer
    network = UserNetwork(matched, convert)
    network(z, each)                                     as torch_port's own networks are called
    network.arrays()                                     ``network/layer/quantity`` to tensor

Layers are matched by the order in which they run, their kinds and their shapes; a normalisation's
four arrays by what the functions of PyTorch take, else by name and by first value. Whatever is not
certain is a question, never a guess.
"""
import contextlib
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captures.errors import ParityError
from captures.spec import (
    ACTIVATIONS,
    CONVOLUTIONS,
    NORMALISATION,
    SIGMOID,
    Layer,
    Network,
)
from torch_port.adapter.watch import Group, Names, trace, watched
from torch_port.capture.recorder import numbers
from torch_port.layers import Each, unchanged

# Names that people give to a normalisation's arrays: capture's quantity to pattern.
CALLED = {
    "running_mean": r"(running|moving|aggregate|pop|ema)\w*mean|^mean$|mean_?(ema|avg)?$",
    "running_variance": r"(running|moving|aggregate|pop|ema)\w*var|^var(iance)?$|var\w*$",
    "scale": r"weight|gamma|scale",
    "bias": r"bias|beta|shift|offset",
    "sample_count": r"num_batches_tracked|count|steps|samples",
}


ARGUMENTS = {"running_mean": "running_mean", "running_variance": "running_var", "scale": "weight",
             "bias": "bias"}  # quantity to what functions of PyTorch call it

PathOf = Callable[[Tensor | None], str | None]


class MatchingError(ParityError):
    """A network's layers or tensors cannot be told apart: what has to be answered, and how."""


@dataclass(frozen=True)
class Held:
    """An array of the captures: the tensor's path, and how CNTK's layout becomes the tensor's: axes
    are permuted first, then taken in opposite order along ``flipped``."""

    path: str
    permuted: tuple[int, ...] = ()
    flipped: tuple[int, ...] = ()

    def to_tensor(self, array: Tensor) -> Tensor:
        made = array.permute(self.permuted) if self.permuted else array
        return made.flip(self.flipped) if self.flipped else made

    def from_tensor(self, tensor: Tensor) -> Tensor:
        made = tensor.flip(self.flipped) if self.flipped else tensor
        if not self.permuted:
            return made
        inverse = [self.permuted.index(axis) for axis in range(len(self.permuted))]
        return made.permute(inverse)


@dataclass
class Matched:
    """names: of each group's outputs. held: capture's array to tensor. unseen: layers whose output
    cannot be watched. logits: the network ends before the spec's last sigmoid. extra: biases that
    CNTK's layers have not; 0 when weights are loaded."""

    module: nn.Module
    network: Network
    groups: list[Group]
    names: list[Names]
    held: dict[str, Held]
    silent: frozenset[str]
    unseen: tuple[str, ...] = ()
    logits: bool = False
    extra: tuple[str, ...] = ()


def groups_of(network: Network) -> list[tuple[Layer, Layer | None, Layer | None]]:
    """The spec's layers as (convolution, normalisation, activation)."""
    made: list[tuple[Layer, Layer | None, Layer | None]] = []
    for layer in network.layers:
        if layer.kind in CONVOLUTIONS:
            made.append((layer, None, None))
        elif layer.kind == NORMALISATION:
            made[-1] = (made[-1][0], layer, made[-1][2])
        elif layer.kind in ACTIVATIONS:
            made[-1] = (made[-1][0], made[-1][1], layer)
    return made


def match(module: nn.Module, network: Network, example: Tensor,
          mapping: Mapping[str, str] | None = None, bgr: bool = True) -> Matched:
    """example: what the module takes, as it takes it. mapping: capture's array to tensor's path,
    which overrules what was found. bgr: images go in and come out as B, G, R, as CNTK's do.

    Raises MatchingError.
    """
    groups, silent, out, watcher = _traced(module, network, example)
    wanted = groups_of(network)
    _same_number(network, groups, wanted)
    names: list[Names] = []
    held: dict[str, Held] = {}
    unseen: list[str] = []
    extra: list[str] = []
    logits = False
    paths = dict(_named(module))
    taken: set[str] = set()
    for group, (convolution, normalisation, activation) in zip(groups, wanted, strict=True):
        where = f"{network.name}/{convolution.name}"
        _fits(group, convolution, where)
        seen = bool(group.activation)
        if activation is not None and not seen:
            logits = activation.kind == SIGMOID and _same(out, watcher.convolved)
        late = "bias" in convolution.arrays and group.bias is None  # it is added by another call
        if late and not seen:
            unseen.append(convolution.name)
        shown = activation is not None and seen and not (
            activation is network.layers[-1] and group.activation != activation.kind)
        names.append(Names("" if late else convolution.name,
                           convolution.name if late else normalisation.name if normalisation
                           else "", activation.name if activation and shown else ""))
        if normalisation and not (group.normalised or group.activation not in ("", "own")):
            unseen.append(normalisation.name)
        held.update(_weights(network.name, convolution, group, watcher.path_of, taken, paths))
        if group.bias is not None and not convolution.bias:
            extra.append(watcher.path_of(group.bias) or "")
            taken.update(extra)
        if normalisation:
            held.update(_statistics(network.name, normalisation, group, paths, taken,
                                    mapping or {}))
    for name, path in (mapping or {}).items():
        if name.startswith(network.name + "/"):
            if path not in paths:
                raise MatchingError(f"the mapping says {name} is {path!r}, which the "
                                    f"{network.name} has not: give one of {_some(paths)}")
            wanted_shape = network.arrays[name]
            if paths[path].numel() != math.prod(wanted_shape):
                raise MatchingError(f"the mapping says {name} is {path}, of "
                                    f"{tuple(paths[path].shape)}; CNTK's is {wanted_shape}")
            held[name] = Held(path)
    _gives(out, network, len(example))
    _complete(network, held, paths, extra)
    _checked_paths(network, held)
    held = _looked_at(module, network, groups, names, held, silent, example, mapping or {})
    if not bgr:
        held = _turned(network, held)
    return Matched(module, network, groups, names, held, silent, tuple(unseen), logits,
                   tuple(extra))


def _traced(module: nn.Module, network: Network, example: Tensor
            ) -> tuple[list[Group], frozenset[str], object, Any]:
    """``trace`` in training mode; no statistic of the module is changed. Raises MatchingError."""
    if any(isinstance(one, torch.jit.ScriptModule) for one in module.modules()):
        raise MatchingError(f"the {network.name} is a program of torch.jit, whose layers cannot be "
                            "seen: name the nn.Module that it was made from")
    before = module.training
    buffers = {name: tensor.clone() for name, tensor in module.named_buffers()}
    module.train()
    try:
        with torch.no_grad():
            return trace(module, example)
    except MatchingError:
        raise
    except Exception as error:
        others = {str(p.dtype) for p in module.parameters()} - {str(example.dtype)}
        if others:
            raise MatchingError(f"the {network.name}'s weights are {', '.join(sorted(others))}: "
                                "give them in torch.float32, as CNTK's are (.float())") from error
        raise MatchingError(f"the {network.name} does not run on an input of "
                            f"{tuple(example.shape)} ({type(error).__name__}: "
                            f"{_first_line(error)}): say in the adapter's `latents` and `images` "
                            "what it takes") from error
    finally:
        module.train(before)
        with torch.no_grad():
            for name, tensor in module.named_buffers():
                if name in buffers:
                    tensor.copy_(buffers[name])


def _gives(out: object, network: Network, samples: int) -> None:
    wanted = (samples, *network.output)
    if not isinstance(out, Tensor):
        raise MatchingError(f"the {network.name} gives a {type(out).__name__}, not a tensor: let "
                            f"it return {wanted} alone")
    if out.numel() != math.prod(wanted) or not out.is_floating_point():
        raise MatchingError(f"the {network.name} gives {tuple(out.shape)} of {out.dtype}, where "
                            f"CNTK's gives {wanted} of numbers: let it return these")


def _same(out: object, other: Tensor | None) -> bool:
    return isinstance(out, Tensor) and other is not None and torch.equal(out.ravel(), other.ravel())


def _named(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


Wanted = list[tuple[Layer, Layer | None, Layer | None]]


def _same_number(network: Network, groups: list[Group], wanted: Wanted) -> None:
    if len(groups) == len(wanted):
        return
    ours = ", ".join(f"{convolution.name} {convolution.output}" for convolution, _, _ in wanted)
    theirs = ", ".join(f"{group.module or 'a call'} {group.output[1:]}" for group in groups)
    raise MatchingError(
        f"the {network.name} has {len(wanted)} convolutions ({ours}), {len(groups)} were seen "
        f"({theirs or 'none'}): is it the same network? Name the layers' tensors in a mapping file "
        "if one of them is no convolution of PyTorch")


def _fits(group: Group, layer: Layer, where: str) -> None:
    if group.kind != layer.kind or _squeezed(group.output[1:]) != _squeezed(layer.output):
        raise MatchingError(f"{where} is a {layer.kind} that gives {layer.output}; the one in its "
                            f"place ({group.module or 'a call'}) is a {group.kind} that gives "
                            f"{group.output[1:]}: mend the layer, or name the right module in a "
                            "mapping file")


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _weights(network: str, layer: Layer, group: Group, path_of: PathOf, taken: set[str],
             paths: Mapping[str, Tensor]) -> dict[str, Held]:
    made: dict[str, Held] = {}
    for quantity, tensor in (("weight", group.weight), ("bias", group.bias)):
        if quantity not in layer.arrays:
            continue
        place = f"{network}/{layer.name}/{quantity}"
        path = path_of(tensor)
        if path is None and tensor is None and quantity == "bias":
            added = [one for one in group.tensors
                     if one in paths and paths[one].numel() == layer.channels
                     and paths[one].dim() < 4]
            path = added[0] if len(added) == 1 else None
        if path is None and tensor is not None:
            raise MatchingError(
                f"{place} is computed while the network runs (spectral norm, a parametrization, a "
                "transposed copy): CNTK's weights cannot be put in. Take it off in the adapter, or "
                "name the tensor in a mapping file")
        if path is None:
            raise MatchingError(f"{place} is not there: CNTK's layer has one, this layer has none "
                                "that could be seen. Give the layer a bias, or name the tensor in "
                                "a mapping file")
        if path in taken:
            raise MatchingError(f"{place} would be {path}, which another layer has already: are "
                                "its weights shared? Name them in a mapping file")
        if tensor is not None and tuple(tensor.shape) != layer.arrays[quantity]:
            raise MatchingError(f"{place} is {layer.arrays[quantity]} in CNTK, {path} goes in as "
                                f"{tuple(tensor.shape)}: give the layer CNTK's channels and size "
                                "of kernel, without groups")
        taken.add(path)
        made[place] = Held(path, _permuted(place, tensor, paths[path]))
    return made


def _permuted(place: str, taken: Tensor | None, tensor: Tensor) -> tuple[int, ...]:
    """How the axes of what a layer takes are permuted in the tensor that it is a view of; () where
    they are not."""
    if taken is None or taken.stride() == tensor.stride() or (
            taken.is_contiguous() and tensor.is_contiguous()):
        return ()
    for axes in itertools.permutations(range(taken.dim())):
        view = taken.permute(axes)
        if view.shape == tensor.shape and view.stride() == tensor.stride():
            return axes
    raise MatchingError(f"{place} is a part, or a view, of a tensor from which CNTK's layout "
                        "cannot be told: keep it as PyTorch's layer has it")


def _statistics(network: str, layer: Layer, group: Group, paths: Mapping[str, Tensor],
                taken: set[str], mapping: Mapping[str, str]) -> dict[str, Held]:
    """A normalisation's arrays: what a batch normalisation's function took, else by their names
    among the tensors that the group used."""
    channels = layer.output[0]
    told = {quantity: group.statistics[argument] for quantity, argument in ARGUMENTS.items()
            if group.statistics.get(argument) in paths.keys() - taken}
    free = [path for path in group.tensors if path not in taken and path in paths
            and path not in told.values() and paths[path].numel() in (channels, 1)]
    made: dict[str, Held] = {}
    for quantity, pattern in CALLED.items():
        place = f"{network}/{layer.name}/{quantity}"
        if place in mapping:
            continue
        size = 1 if quantity == "sample_count" else channels
        candidates = [path for path in free if paths[path].numel() == size
                      and re.search(pattern, path.rsplit(".", 1)[-1], re.IGNORECASE)]
        candidates = [told[quantity]] if quantity in told else candidates
        if len(candidates) > 1:
            raise MatchingError(f"{place} may be {' or '.join(candidates)}: say which in a mapping "
                                "file")
        if candidates:
            made[place] = Held(candidates[0])
            free = [path for path in free if path != candidates[0]]
            taken.add(candidates[0])
    return made


def _complete(network: Network, held: dict[str, Held], paths: Mapping[str, Tensor],
              extra: Sequence[str]) -> None:
    """Counts may be missing: PyTorch counts minibatches, or nothing."""
    missing = [name for name in network.arrays if name not in held
               and not name.endswith("/sample_count")]
    if missing:
        raise MatchingError(f"{missing[0]} was not found among the {network.name}'s tensors "
                            f"({_some(paths)}): say in a mapping file which it is")
    learnt = {one.path for one in held.values()}
    more = [path for path, tensor in paths.items() if path not in learnt
            and path not in extra and isinstance(tensor, nn.Parameter)]
    if more:
        raise MatchingError(f"the {network.name} has {more[0]}, which is no weight of CNTK's: "
                            "leave it out, or name the layer it belongs to in a mapping file")


def _checked_paths(network: Network, held: Mapping[str, Held]) -> None:
    seen: dict[str, str] = {}
    for name, one in held.items():
        if one.path in seen:
            raise MatchingError(f"{one.path} of the {network.name} is named twice, as "
                                f"{seen[one.path]} and as {name}: give each array a tensor of its "
                                "own")
        seen[one.path] = name


def _looked_at(module: nn.Module, network: Network, groups: list[Group], names: list[Names],
               held: dict[str, Held], silent: frozenset[str], example: Tensor,
               mapping: Mapping[str, str]) -> dict[str, Held]:
    """Where a normalisation's arrays were told by their names: what it does with them. Known values
    are put in; if the output is that of the same four in another order, that order is right."""
    asked = {}
    for group, name in zip(groups, names, strict=True):
        places = [f"{network.name}/{name.normalisation}/{quantity}" for quantity in ARGUMENTS]
        if name.convolution and name.normalisation and not (
                set(ARGUMENTS.values()) <= group.statistics.keys() or set(places) & set(mapping)):
            asked[name] = places, group.eps or 1e-5
    tensors, seen = dict(_named(module)), dict[str, Tensor]()
    kept = {held[place].path: tensors[held[place].path].detach().clone()
            for places, _ in asked.values() for place in places}
    modes = {one: one.training for one in module.modules()}
    random, values = torch.Generator().manual_seed(0), dict[str, Tensor]()

    def each(name: str, h: Tensor) -> Tensor:
        seen[name] = h
        return h

    try:
        with torch.no_grad():
            for path, tensor in kept.items():
                values[path] = torch.rand(tensor.numel(), generator=random) + 0.5
                tensors[path].copy_(values[path].reshape(tensor.shape))
            module.eval()
            with contextlib.suppress(Exception), watched(module, names, each, silent):
                module(example)
    finally:
        for one, mode in modes.items():
            one.training = mode
        with torch.no_grad():
            for path, tensor in kept.items():
                tensors[path].copy_(tensor)
    made = dict(held)
    for name, (places, eps) in asked.items():
        x, y = (seen.get(one) for one in (name.convolution, name.normalisation))
        if x is None or y is None or x.shape != y.shape:
            continue

        def fits(order: Sequence[str], x: Tensor = x, y: Tensor = y, eps: float = eps) -> bool:
            mean, variance, scale, bias = (
                values[held[place].path].to(x.device).view(-1, *[1] * (x.dim() - 2))
                for place in order)
            wanted = scale * (x - mean) / (variance + eps).sqrt() + bias
            return bool((y - wanted).square().mean() < 1e-4 * y.square().mean())
        if fits(places):
            continue
        orders = [order for order in itertools.permutations(places) if fits(order)]
        if len(orders) == 1:
            made.update({place: held[other]
                         for place, other in zip(places, orders[0], strict=True)})
    return made


def _turned(network: Network, held: dict[str, Held]) -> dict[str, Held]:
    """Images are R, G, B: the first or the last layer's weights are taken in that order."""
    made, layers = dict(held), [layer for layer in network.layers if layer.kind in CONVOLUTIONS]
    if len(network.input) == 3:
        place = f"{network.name}/{layers[0].name}/weight"
        made[place] = Held(held[place].path, held[place].permuted, (1,))
    elif network.output[0] == 3:
        for quantity in ("weight", "bias"):
            place = f"{network.name}/{layers[-1].name}/{quantity}"
            if place in held:
                made[place] = Held(held[place].path, held[place].permuted,
                                   (1,) if quantity == "weight" else (0,))
    return made


def _some(paths: Mapping[str, Tensor], most: int = 8) -> str:
    names = list(paths)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


class UserNetwork:
    """A matched network, called as torch_port's own: canonical images and latents in and out.

    into, out_of: the canonical tensor (latents N x 100; images N x 3 x 256 x 256 as B, G, R in
    [-1, 1]) to the module's, and its result back.
    """

    def __init__(self, matched: Matched, into: Callable[[Tensor], Tensor],
                 out_of: Callable[[Tensor], Tensor], bgr: bool = True) -> None:
        self.matched, self.into, self.out_of, self.bgr = matched, into, out_of, bgr
        self.module, self.network = matched.module, matched.network
        self.raw: Tensor = torch.empty(0)  # what the module itself gave last

    def __call__(self, x: Tensor, each: Each = unchanged) -> Tensor:
        with watched(self.module, self.matched.names, self._canonical(each),
                     self.matched.silent) as watcher:
            out = self.module(self.into(x))
        if len(watcher.groups) != len(self.matched.groups):
            raise MatchingError(f"the {self.network.name} ran {len(watcher.groups)} convolutions, "
                                f"{len(self.matched.groups)} before: its layers depend on what "
                                "goes in")
        last = self.network.layers[-1]
        self.raw, out = out, out.cpu()
        if self.matched.logits:
            return each(last.name, torch.sigmoid(out).reshape(len(x), *last.output))
        out = self.out_of(out).reshape(len(x), *last.output)
        if last.kind in ACTIVATIONS and not self.matched.names[-1].activation:
            out = each(last.name, out)  # tanh(x) may be 2 sigmoid(2 x) - 1, or no function at all
        return out

    def _canonical(self, each: Each) -> Each:
        """In the spec's shapes, and its order of channels."""
        def shown(name: str, h: Tensor) -> Tensor:
            layer, shape, device = self.network.layer(name), h.shape, h.device
            h = h.cpu()
            if shape[1:] != layer.output:
                h = h.reshape(len(h), *layer.output)
            turned = not self.bgr and self._is_image(layer)
            got = each(name, h.flip(1) if turned else h)
            got = got.flip(1) if turned else got
            return (got if got.shape == shape else got.reshape(shape)).to(device)
        return shown

    def _is_image(self, layer: Layer) -> bool:
        return layer.output == self.network.output and len(self.network.input) == 1

    # ------------------------------------------------------------- as Networks' two networks are

    def train(self, mode: bool = True) -> "UserNetwork":
        self.module.train(mode)
        return self

    def eval(self) -> "UserNetwork":
        return self.train(False)

    def tensors(self) -> dict[str, Tensor]:
        """Path to tensor, of parameters and statistics."""
        return dict(_named(self.module))

    def arrays(self) -> dict[str, Tensor]:
        """The captures' names to values in CNTK's layout, as they stand now; counts not there are
        left out."""
        tensors, made = self.tensors(), {}
        for name, shape in self.network.arrays.items():
            if name in self.matched.held:
                held = self.matched.held[name]
                made[name] = held.from_tensor(tensors[held.path]).reshape(shape)
        return made

    def load(self, arrays: Mapping[str, np.ndarray], only: Collection[str] = ()) -> None:
        """Takes CNTK's values. only: these; all if empty."""
        tensors = self.tensors()
        with torch.no_grad():
            for name, held in self.matched.held.items():
                if only and name not in only:
                    continue
                value = torch.from_numpy(np.array(arrays[name]))
                tensors[held.path].copy_(held.to_tensor(value).reshape(tensors[held.path].shape))
            for path in self.matched.extra:
                tensors[path].zero_()

    def gradients(self) -> dict[str, np.ndarray]:
        """Of the parameters that have one, in CNTK's layout."""
        tensors, made = self.tensors(), {}
        for name, shape in self.network.parameters.items():
            held = self.matched.held[name]
            gradient = tensors[held.path].grad
            if gradient is not None:
                made[name] = numbers(held.from_tensor(gradient)).reshape(shape)
        return made
