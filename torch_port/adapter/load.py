"""A user's port: one file of at most twenty lines that names what there is.

    generator, discriminator     a class or function that gives an nn.Module; or (function,
                                 weights), these in a dictionary; one of the networks is enough
    images, latents              how the networks want their tensors, where not as CNTK's:
                                 images = {"channels": "RGB", "range": (-1, 1), "layout": "NCHW"}
                                 latents = (100, 1, 1)
    optimizers(generator, discriminator, minibatch_size)          -> (the generator's, the other's)
    d_loss(d_real, d_fake), g_loss(d_fake)                        -> a scalar
    reduction                    "mean" (of the minibatch, the default) or "sum": of the losses
    d_step(generator, discriminator, optimizer, x, z)             -> the loss; x, z as they want
    g_step(generator, discriminator, optimizer, z)                -> the loss
    initialize(generator, discriminator, seed)                    the initial weights from a seed
    reader(map_file, minibatch_size, seed)                        -> an iterator of images, 0..255
    write_picture(path, image)                                    a generated image to a file

Everything is optional but one network; what is there widens what is judged. Importing this module
reads nothing; ``load`` runs the user's file.
"""
import contextlib
import importlib.util
import json
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captures.errors import ParityError

# Name in the adapter to what it lets the suite judge, and the line that adds it.
PARTS = {
    "generator": "generator = YourGenerator",
    "discriminator": "discriminator = YourDiscriminator",
    "optimizers": "optimizers = lambda g, d, minibatch_size: (torch.optim.Adam(g.parameters(), ..."
                  "), torch.optim.Adam(d.parameters(), ...))",
    "d_loss": "d_loss = your_discriminator_loss  # (d_real, d_fake)",
    "g_loss": "g_loss = your_generator_loss  # (d_fake)",
    "d_step": "d_step = your_d_step  # (generator, discriminator, optimizer, x, z)",
    "g_step": "g_step = your_g_step  # (generator, discriminator, optimizer, z)",
    "initialize": "initialize = your_initialisation  # (generator, discriminator, seed)",
    "reader": "reader = your_reader  # (map_file, minibatch_size, seed)",
    "write_picture": "write_picture = your_writer  # (path, image)",
}
SETTINGS = ("images", "latents", "reduction")
RANGES = ((-1, 1), (0, 1), (0, 255))


class AdapterError(ParityError):
    """A user's file that cannot be used: which line of theirs, what, and how to mend it."""


class Functional(nn.Module):
    """A function with its weights in a dictionary, as a module: ``function(weights, x)``."""

    def __init__(self, function: Callable[..., Tensor], weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.function, self.weights = function, weights
        for name, tensor in weights.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(_legal(name), tensor)
            elif tensor.requires_grad:
                learnt = nn.Parameter(tensor.detach())
                weights[name] = learnt
                self.register_parameter(_legal(name), learnt)
            else:
                self.register_buffer(_legal(name), tensor)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.weights, x)


def _legal(name: str) -> str:
    return name.replace(".", "_")


@dataclass
class Adapter:
    """What the file gave. path: of the file. given: names of PARTS that are there. noticed: what
    running it changed behind the suite's back."""

    path: Path
    module: ModuleType
    given: tuple[str, ...]
    channels: str = "BGR"
    range: tuple[float, float] = (-1, 1)
    layout: str = "NCHW"
    latents: tuple[int, ...] = (100,)
    reduction: str = "mean"
    noticed: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        if name in PARTS:
            return getattr(self.module, name, None)
        raise AttributeError(name)

    def has(self, *names: str) -> bool:
        return all(name in self.given for name in names)

    def network(self, name: str) -> nn.Module:
        """A new one. Raises AdapterError."""
        what = getattr(self.module, name)
        with self.theirs(name):
            if isinstance(what, tuple) and len(what) == 2 and callable(what[0]):
                made: Any = Functional(what[0], dict(what[1]() if callable(what[1]) else what[1]))
            elif isinstance(what, nn.Module):
                made = what
            elif callable(what):
                made = what()
            else:
                made = what
        if isinstance(made, tuple) and len(made) == 2 and callable(made[0]):
            made = Functional(made[0], dict(made[1]))
        if not isinstance(made, nn.Module):
            raise AdapterError(f"{self.path}: `{name}` gives a {type(made).__name__}, not an "
                               "nn.Module: name a class or function that makes one, or "
                               "(function, weights)")
        return made

    @contextlib.contextmanager
    def theirs(self, what: str) -> Iterator[None]:
        """Around every call of the user's code. Raises AdapterError for whatever it raises."""
        try:
            yield
        except ParityError:
            raise
        except (Exception, SystemExit) as error:
            raise AdapterError(f"{_where(error, self.path)}: `{what}` raises "
                               f"{type(error).__name__}: {_said(error)}") from error


def _where(error: BaseException, path: Path) -> str:
    """The last of the user's own lines in a traceback."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__)
             if Path(frame.filename).resolve().parent == path.parent]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    return f"{lines[-1].filename}, line {lines[-1].lineno}" if lines else str(path)


def _said(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["without a word"])[0][:300]


def load(path: Path) -> Adapter:
    """Runs the user's file. Raises AdapterError."""
    path = path.resolve()
    if path.suffix != ".py" or not path.is_file():
        raise AdapterError(f"{path} is no Python file: give the adapter of your port, as "
                           "docs/judge-your-port.md shows one")
    spec = importlib.util.spec_from_file_location(f"adapter_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.append(str(path.parent))  # their other files; ours come first
    with _watched() as noticed:
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise AdapterError(f"{_where(error, path)}: it does not import: "
                               f"{type(error).__name__}: {_said(error)}") from error
    given = tuple(name for name in PARTS if getattr(module, name, None) is not None)
    if not {"generator", "discriminator"} & set(given):
        raise AdapterError(f"{path} names neither a `generator` nor a `discriminator`: add a line "
                           f"`{PARTS['generator']}`")
    for name in given:
        what = getattr(module, name)
        if name not in ("generator", "discriminator") and not callable(what):
            raise AdapterError(f"{path}: `{name}` is a {type(what).__name__}, not a function: "
                               f"write `{PARTS[name]}`")
    return _settings(Adapter(path, module, given, noticed=noticed))


def _settings(made: Adapter) -> Adapter:
    images = getattr(made.module, "images", {})
    known = {"channels": ("BGR", "RGB"), "layout": ("NCHW", "NHWC"), "range": RANGES}
    if not isinstance(images, dict):
        raise AdapterError(f"{made.path}: `images` is a {type(images).__name__}: give a dictionary "
                           f"of {', '.join(known)}")
    for name, value in images.items():
        value = tuple(value) if isinstance(value, list) else value
        if name not in known or value not in known[name]:
            raise AdapterError(f"{made.path}: images[{name!r}] is {value!r}: " + (
                f"give one of {', '.join(map(str, known[name]))}" if name in known
                else f"there are {', '.join(known)}"))
        setattr(made, name, value)
    latents = getattr(made.module, "latents", made.latents)
    latents = (latents,) if isinstance(latents, int) else latents
    if not isinstance(latents, list | tuple) or not all(isinstance(n, int) for n in latents):
        raise AdapterError(f"{made.path}: `latents` is {latents!r}: give the shape of one latent, "
                           "(100,) or (100, 1, 1)")
    made.latents = tuple(latents)
    made.reduction = getattr(made.module, "reduction", made.reduction)
    if made.reduction not in ("mean", "sum"):
        raise AdapterError(f"{made.path}: `reduction` is {made.reduction!r}: give \"mean\" or "
                           "\"sum\"")
    return made


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
    """What of the process a file changed; what changes results is put back."""
    noticed: list[str] = []
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    onednn, deterministic = torch.backends.mkldnn.enabled, (
        torch.are_deterministic_algorithms_enabled())
    torch_state, numpy_state, python_state = (
        torch.random.get_rng_state(), np.random.get_state(), random.getstate())
    try:
        yield noticed
    finally:
        if torch.get_default_dtype() != dtype:
            noticed.append(f"it sets the default dtype to {torch.get_default_dtype()}")
            torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            noticed.append(f"it sets the threads to {torch.get_num_threads()}")
            torch.set_num_threads(threads)
        if torch.backends.mkldnn.enabled != onednn:
            noticed.append("it switches oneDNN " + ("off" if onednn else "on"))
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            noticed.append("it switches deterministic algorithms on")
        if not torch.equal(torch.random.get_rng_state(), torch_state):
            noticed.append("it draws from or seeds PyTorch's random numbers when imported")
            torch.random.set_rng_state(torch_state)
        if not np.array_equal(np.random.get_state()[1], numpy_state[1]):  # type: ignore[index]
            noticed.append("it draws from or seeds numpy's random numbers when imported")
            np.random.set_state(numpy_state)
        if random.getstate() != python_state:
            noticed.append("it draws from or seeds Python's random numbers when imported")
            random.setstate(python_state)


def of_file(path: Path) -> dict[str, str]:
    """A mapping file: JSON, capture's array to tensor's path. Raises AdapterError."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} is no mapping file ({error}): write {{\"network/layer/quantity"
                           "\": \"path.of.the.tensor\", ...}") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise AdapterError(f"{path} is no mapping file: write {{\"network/layer/quantity\": "
                           "\"path.of.the.tensor\", ...}")
    return found
