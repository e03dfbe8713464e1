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
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import torch_port

Function = TypeVar("Function", bound=Callable[..., Any])
_before: list[tuple[object, str, object]] = []


class PlantError(ValueError):
    """A part that is to be replaced is not there."""


@functools.cache
def port_modules() -> tuple[ModuleType, ...]:
    """Every module of torch_port, imported: who is imported later would hold the old part."""
    names = [module.name for module in pkgutil.walk_packages(torch_port.__path__, "torch_port.")]
    for name in names:
        importlib.import_module(name)
    return tuple(sys.modules[name] for name in names)


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


def replace(part: Function, new: Function) -> None:
    """Has every module of the port use ``new`` for a function or a class of it.

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
