"""Sees the layers of somebody's network while it runs, however it was written.

    trace(module, x)                 what the network does with x, in order: a list of ``Group``
    watched(module, names, each)     a context: every layer's output goes through ``each``

A layer is not found by its class or its name but by what it calls: convolutions, activations and
normalisations are functions of PyTorch (``torch.conv2d``, ``F.batch_norm``, ``Tensor.relu``, ...)
whoever calls them: ``nn.Module``, ``nn.Sequential``, a function with its weights in a dictionary.
A chain is cut at its convolutions; each begins a group:

    convolution     its call's result
    normalisation   what the activation takes (so any arithmetic will do)
    activation      its call's result; where no activation is seen (a formula of one's own), what
                    the next convolution, or the padding in front of it, takes

A module with a weight of four axes in which no convolution is seen (an ``autograd.Function``, a
product of matrices) counts as one; a module without parameters that ends a group counts as its
activation. Calls in place are made out of place: what went in is compared too.
"""
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captures.spec import CONVOLUTION, LEAKY_RELU, RELU, SIGMOID, TANH, TRANSPOSED
from torch_port.layers import Each

Function = Callable[..., Any]

ATEN = torch.ops.aten  # what a program of torch.export calls
CONVOLUTIONS: dict[Function, str] = {
    torch.conv2d: CONVOLUTION, torch.conv_transpose2d: TRANSPOSED,
    ATEN.conv2d.default: CONVOLUTION, ATEN.conv2d.padding: CONVOLUTION,
    ATEN.conv_transpose2d.input: TRANSPOSED}
ACTIVATIONS: dict[Function, tuple[str, Function]] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_,
                     ATEN.relu.default, ATEN.relu_.default),
                    (RELU, F.relu)),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_, ATEN.leaky_relu.default,
                     ATEN.leaky_relu_.default), (LEAKY_RELU, F.leaky_relu)),
    **dict.fromkeys((F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_,
                     ATEN.tanh.default),
                    (TANH, torch.tanh)),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_,
                     ATEN.sigmoid.default),
                    (SIGMOID, torch.sigmoid)),
}
NORMALISATIONS = (F.batch_norm, torch.batch_norm, torch.native_batch_norm, F.instance_norm,
                  F.group_norm, F.layer_norm, ATEN.batch_norm.default,
                  ATEN._native_batch_norm_legit_no_training.default)
# What a batch normalisation takes, in the order of its arguments.
OF_MODULES = ("running_mean", "running_var", "weight", "bias")
OF_TENSORS = ("weight", "bias", "running_mean", "running_var")
TAKEN = {F.batch_norm: OF_MODULES, **dict.fromkeys(
    (torch.batch_norm, torch.native_batch_norm, ATEN.batch_norm.default,
     ATEN._native_batch_norm_legit_no_training.default), OF_TENSORS)}
PADDINGS = (F.pad, torch.constant_pad_nd, ATEN.pad.default, ATEN.constant_pad_nd.default)
# Modules that change no value: never an activation.
PASSIVE = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Unflatten, nn.ZeroPad2d,
           nn.ConstantPad2d)


@dataclass
class Group:
    """A convolution and what follows it, up to the next.

    kind: of captures.spec. weight, bias: the tensors that went in (None where a module hides them).
    output: the shape that came out. module: the dotted path of the module it happened in.
    activation: its kind, "own" for one that is no function of PyTorch, "" for none.
    tensors: the network's own parameters and statistics that were used in the group, by path.
    normalised: a function of normalisation was called; statistics: its arguments' paths, by their
    names in PyTorch.
    """

    kind: str
    weight: Tensor | None
    bias: Tensor | None
    input: tuple[int, ...]
    output: tuple[int, ...]
    module: str = ""
    activation: str = ""
    normalised: bool = False
    tensors: list[str] = field(default_factory=list)
    statistics: dict[str, str] = field(default_factory=dict)
    eps: float | None = None


@dataclass(frozen=True)
class Names:
    """What a group's outputs are called; "" where the network has no such layer."""

    convolution: str
    normalisation: str
    activation: str


class _Watcher(TorchFunctionMode):
    """Both: without ``names`` it fills ``groups``, with them it hands outputs to ``each``."""

    def __init__(self, module: nn.Module, names: Sequence[Names], each: Each,
                 silent: frozenset[str]) -> None:
        super().__init__()
        self.names, self.each, self.silent = names, each, silent
        self.groups: list[Group] = []
        self.path: list[str] = []
        self.quiet: list[str] = []  # modules in which nothing of theirs was seen
        self.own = {id(tensor): name for name, tensor in _tensors(module)}
        self.storage = {tensor.data_ptr(): name for name, tensor in _tensors(module)
                        if tensor.numel()}
        self.sizes = {name: tensor.numel() for name, tensor in _tensors(module)}
        self.waiting = False  # the group's activation has not been seen
        self.passed = False  # the group's normalisation has been handed on
        self.convolved: Tensor | None = None  # what the last convolution gave

    # ------------------------------------------------------------------------------- functions

    def __torch_function__(self, func: Function, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in CONVOLUTIONS:
            args = self._before(args, kwargs)
            out = func(*args, **kwargs)
            weight = args[1] if len(args) > 1 else kwargs.get("weight")
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            return self._convolved(CONVOLUTIONS[func], weight, bias, args, kwargs, out)
        self._note(args, kwargs)
        if func in ACTIVATIONS and self.waiting:
            kind, function = ACTIVATIONS[func]
            x, rest = self._first(args, kwargs)
            if x is not None and self._fits(x):
                slope = [value for value in rest if isinstance(value, float)][:1] or (
                    [kwargs["negative_slope"]] if "negative_slope" in kwargs else [])
                x = self._normalised(x)
                return self._activated(function(x, *slope) if kind == LEAKY_RELU else function(x),
                                       kind)
        if func in NORMALISATIONS and self.groups:
            self.groups[-1].normalised = True
            eps = kwargs.get("eps", next((value for value in reversed(args)
                                          if isinstance(value, float)), None))
            self.groups[-1].eps = None if eps is None else float(eps)
            given = dict(zip(TAKEN.get(func, ()), args[1:], strict=False))
            for name, tensor in {**given, **kwargs}.items():
                path = self.path_of(tensor) if isinstance(tensor, Tensor) else None
                if path is not None and name in OF_TENSORS:
                    self.groups[-1].statistics.setdefault(name, path)
        if func in PADDINGS:
            args = self._before(args, kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor | None, list[Any]]:
        if args and isinstance(args[0], Tensor):
            return args[0], list(args[1:])
        return kwargs.get("input"), list(args)

    def _note(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Which of the network's own tensors a call takes."""
        for value in [*args, *kwargs.values()]:
            if isinstance(value, Tensor):
                self._use(self.own.get(id(value)))
            elif isinstance(value, list | tuple):
                self._note(value, {})

    def _use(self, name: str | None) -> None:
        if name and self.groups and name not in self.groups[-1].tensors:
            self.groups[-1].tensors.append(name)

    def _use_direct(self, path: str, module: nn.Module) -> None:
        for name, _ in [*module.named_parameters(recurse=False),
                        *module.named_buffers(recurse=False)]:
            self._use(f"{path}.{name}" if path else name)

    def path_of(self, tensor: Tensor | None) -> str | None:
        """The name of the network's tensor that this is, or is a view of."""
        if tensor is None:
            return None
        name = self.own.get(id(tensor)) or self.storage.get(tensor.data_ptr())
        return name if name and tensor.numel() == self.sizes[name] else None

    # ---------------------------------------------------------------------------------- layers

    def _name(self) -> Names | None:
        at = len(self.groups) - 1
        return self.names[at] if 0 <= at < len(self.names) else None

    def _fits(self, x: Tensor) -> bool:
        """An activation of the group's own tensor, not of something on the side."""
        return bool(self.groups) and x.numel() == _product(self.groups[-1].output)

    def _before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """What the next convolution takes is the activation's output, if none was seen."""
        x, _ = self._first(args, kwargs)
        if not self.waiting or x is None or not self._fits(x):
            return args
        out = self._activated(x, "own")
        if args and isinstance(args[0], Tensor):
            return (out, *args[1:])
        kwargs["input"] = out
        return args

    def _convolved(self, kind: str, weight: Tensor | None, bias: Tensor | None,
                   args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Tensor:
        x, _ = self._first(args, kwargs)
        self.groups.append(Group(kind, weight, bias, tuple(x.shape) if x is not None else (),
                                 tuple(out.shape), self.path[-1] if self.path else ""))
        for tensor in (weight, bias):
            self._use(self.path_of(tensor))
        self.waiting, self.passed, self.convolved = True, False, out
        name = self._name()
        return self.each(name.convolution, out) if name and name.convolution else out

    def _normalised(self, x: Tensor) -> Tensor:
        name = self._name()
        if self.passed:
            return x
        self.passed = True
        return self.each(name.normalisation, x) if name and name.normalisation else x

    def _activated(self, out: Tensor, kind: str) -> Tensor:
        self.waiting, self.groups[-1].activation = False, kind
        name = self._name()
        return self.each(name.activation, out) if name and name.activation else out

    # --------------------------------------------------------------------------------- modules

    def entered(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> Any:
        self.path.append(path)
        if not _convolves(module):
            self._use_direct(path, module)
        module.__dict__["_groups_before"] = len(self.groups)
        module.__dict__["_waiting_before"] = self.waiting
        if self.waiting and args and isinstance(args[0], Tensor) and self._fits(args[0]):
            if path in self.silent:
                return (self._normalised(args[0]), *args[1:])
            if _convolves(module):
                return (self._activated(args[0], "own"), *args[1:])
        return None

    def left(self, path: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
        self.path.pop()
        before = module.__dict__.pop("_groups_before", 0)
        waited = module.__dict__.pop("_waiting_before", False)
        if not isinstance(out, Tensor) or any(True for _ in module.children()):
            return None
        if _convolves(module) and len(self.groups) > before:
            self._use_direct(path, module)
        if _convolves(module) and len(self.groups) == before:
            kind = TRANSPOSED if isinstance(module, nn.modules.conv._ConvTransposeNd) \
                else CONVOLUTION
            self.path.append(path)
            weight = next(p for p in module.parameters(recurse=False) if p.dim() == 4)
            bias = next((p for p in module.parameters(recurse=False) if p.dim() == 1), None)
            made = self._convolved(kind, weight, bias, args, {}, out)
            self.path.pop()
            return made
        if path in self.silent and self.waiting and self._fits(out):
            return self._activated(out, "own")
        holds = any(True for _ in module.parameters(recurse=False)) or any(
            True for _ in module.buffers(recurse=False))
        if not (waited and self.waiting and self._fits(out)):
            return None
        if holds:
            self.groups[-1].normalised = True
            return self._normalised(out)
        if not isinstance(module, PASSIVE):
            self.quiet.append(path)
        return None


def _convolves(module: nn.Module) -> bool:
    return any(p.dim() == 4 for p in module.parameters(recurse=False))


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _product(shape: Sequence[int]) -> int:
    made = 1
    for size in shape:
        made *= size
    return made


@contextlib.contextmanager
def _running(module: nn.Module, watcher: _Watcher) -> Iterator[_Watcher]:
    handles = []
    for path, one in module.named_modules():
        handles.append(one.register_forward_pre_hook(
            lambda m, args, path=path: watcher.entered(path, m, args)))
        handles.append(one.register_forward_hook(
            lambda m, args, out, path=path: watcher.left(path, m, args, out)))
    try:
        with watcher:
            yield watcher
    finally:
        for handle in handles:
            handle.remove()


def trace(module: nn.Module, x: Tensor) -> tuple[list[Group], frozenset[str], Any, _Watcher]:
    """(the groups, the modules that are activations of their own, what came out, the watcher)."""
    with _running(module, _Watcher(module, (), lambda name, h: h, frozenset())) as watcher:
        out = module(x)
    # Of the modules that may be a group's activation, the last of each group.
    return watcher.groups, frozenset(watcher.quiet), out, watcher


@contextlib.contextmanager
def watched(module: nn.Module, names: Sequence[Names], each: Each,
            silent: frozenset[str] = frozenset()) -> Iterator[_Watcher]:
    """Every layer's output goes through ``each(name, h)``; what it returns goes on."""
    with _running(module, _Watcher(module, names, each, silent)) as watcher:
        yield watcher
