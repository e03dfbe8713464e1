"""The replacing of named parts of the running port.

A part is given as the object itself, ``replace(losses.generator_loss, mine)``, so a part that was
renamed or moved away is an AttributeError at once, and lint and mypy see it. Every module of
``torch_port`` that holds the object gets the new one, whoever imported it under whatever name: a
part may move without a change here. What was replaced is put back by ``restore``.
"""
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import torch_port
from captures.article import DCGAN
from captures.spec import Layer, Spec
from torch_port import dcgan, layers

Part = TypeVar("Part")
_before: list[tuple[object, str, object]] = []


class PlantError(ValueError):
    """A part that is to be replaced is not there."""


@functools.cache
def port_modules() -> tuple[ModuleType, ...]:
    """Every module of torch_port, imported: who is imported later would hold the old part. Without
    those of a GPU where Triton is not installed: nothing can import them."""
    made = []
    for module in pkgutil.walk_packages(torch_port.__path__, "torch_port."):
        try:
            made.append(importlib.import_module(module.name))
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
    return tuple(made)


def _set(holder: object, name: str, new: object) -> None:
    _before.append((holder, name, inspect.getattr_static(holder, name)))
    setattr(holder, name, new)


def restore() -> int:
    """Puts everything back; how many places there were."""
    count = len(_before)
    while _before:
        holder, name, old = _before.pop()
        setattr(holder, name, old)
    return count


def replace(part: Part, new: Part) -> None:
    """Has every module of the port use ``new`` for a function, a class or a table of it.

    Raises PlantError: no module holds it."""
    held = [(module, name) for module in port_modules()
            for name, value in list(vars(module).items()) if value is part]
    if not held:
        raise PlantError(f"no module of torch_port holds {part!r}")
    for module, name in held:
        _set(module, name, new)


def method(owner: type, name: str, new: Callable[..., Any]) -> Callable[..., Any]:
    """Replaces a method and returns the one before, unbound. A static method stays one.

    Raises PlantError: the class has none of that name of its own."""
    if name not in vars(owner):
        raise PlantError(f"{owner.__qualname__} has no {name} of its own")
    static = isinstance(vars(owner)[name], staticmethod)
    before: Callable[..., Any] = getattr(owner, name)
    _set(owner, name, staticmethod(new) if static else new)
    return before


def number(name: str, old: float, new: float) -> None:
    """Replaces a constant wherever the port holds it under this name with this value.

    Raises PlantError: no module does."""
    held = [module for module in port_modules() if vars(module).get(name) == old]
    if not held:
        raise PlantError(f"no module of torch_port holds {name} = {old}")
    for module in held:
        _set(module, name, new)


def built(change: Callable[[dcgan.Networks], None]) -> None:
    """Changes every pair of networks once it is made, before it is given its values."""
    def initialised(self: dcgan.Networks, *spec: Spec) -> None:
        before(self, *spec)
        change(self)

    before = method(dcgan.Networks, "__init__", initialised)


def layer(name: str) -> nn.Module:
    """``generator/conv3``, without values: that a plant can be sure that it is there.

    Raises AttributeError."""
    with torch.device("meta"):
        return dcgan.Networks().get_submodule(name.replace("/", "."))


def convolution_of(networks: dcgan.Networks, name: str) -> layers.Convolution | \
        layers.ConvolutionTranspose:
    """``generator/conv3`` of these. Raises AttributeError."""
    found = networks.get_submodule(name.replace("/", "."))
    assert isinstance(found, layers.Convolution | layers.ConvolutionTranspose)
    return found


def activation(name: str, change: Callable[[dcgan.Chain, Tensor], Tensor]) -> None:
    """Has ``change(network, h)`` stand for a rectifier or what ends a network, ``generator/relu6``,
    or for all of one: ``discriminator/leaky_relu``. Exports stay what they are.

    Raises PlantError: there is none."""
    network, _, kind = name.partition("/")
    if not any(re.fullmatch(rf"{kind}\d*", one.name) for part in (DCGAN.maker, DCGAN.critic)
               if part.name == network for one in part.layers):
        raise PlantError(f"there is no activation {name}")

    def output(self: dcgan.Chain, layer: Layer, h: Tensor) -> Tensor:
        if (self.network.name == network and re.fullmatch(rf"{kind}\d*", layer.name)
                and not torch.onnx.is_in_onnx_export()):
            return change(self, h)
        made: Tensor = before(self, layer, h)
        return made

    before = method(dcgan.Chain, "output", output)


def weight_of(name: str) -> Callable[[Tensor], bool]:
    """Whether a tensor is the weight of this convolution, ``generator/conv3``, of any networks that
    are made from now on. Raises AttributeError: there is none."""
    made: list[nn.Module] = []
    layer(name)
    built(lambda networks: made.append(convolution_of(networks, name)))
    return lambda weight: any(weight is one.weight for one in made)


def becomes(module: nn.Module, kind: type[nn.Module]) -> None:
    """Has one layer behave as another class, which is made from its own."""
    if not issubclass(kind, type(module)):
        raise PlantError(f"{kind.__qualname__} is no {type(module).__qualname__}")
    module.__class__ = kind
