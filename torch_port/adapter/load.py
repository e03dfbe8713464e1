"""A user's port: one file of at most twenty lines that names what there is.

    generator, discriminator     a class or function that gives an nn.Module; or (function,
                                 weights), these in a dictionary; or the path of an .onnx or .pt2,
                                 seen from this file; one of the networks is enough
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
    save, load(path, generator, discriminator, optimizers)        a training, stopped and resumed

Everything is optional but one network; what is there widens what is judged. Importing this module
reads nothing; ``load`` runs the user's file.
"""
import contextlib
import copy
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from torch_port.adapter.exported import from_file
from torch_port.adapter.isolation import IMPORT, SECONDS, AdapterError, isolated

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
    "save": "save = your_save  # (path, generator, discriminator, optimizers)",
    "load": "load = your_load  # (path, generator, discriminator, optimizers)",
}
SETTINGS = ("images", "latents", "reduction")
RANGES = ((-1, 1), (0, 1), (0, 255))


class Functional(nn.Module):
    """A function with its weights in a dictionary, as a module: ``function(weights, x)``; where it
    has a parameter ``training``, that says in which mode."""

    def __init__(self, function: Callable[..., Tensor], weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.function, self.weights = function, weights
        self.told = "training" in inspect.signature(function).parameters
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
        if self.told:
            return self.function(self.weights, x, training=self.training)
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
    time_limit: float = SECONDS
    device: str = "cpu"
    first: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # what was made, and a copy

    @property
    def running_on(self) -> str:
        """The device, and with which precision it multiplies float32 as the user's code left it."""
        if self.device == "cpu":
            return "CPU"
        of_convolutions = torch.backends.cudnn.allow_tf32
        of_products = torch.backends.cuda.matmul.allow_tf32
        return (f"{torch.cuda.get_device_name()}, convolutions in "
                f"{'TF32' if of_convolutions else 'float32'}, products of matrices in "
                f"{'TF32' if of_products else 'float32'}")

    def __getattr__(self, name: str) -> Any:
        if name in PARTS:
            return getattr(self.module, name, None)
        raise AttributeError(name)

    @property
    def exported(self) -> tuple[str, ...]:
        """The networks that are files: they run in evaluation mode alone."""
        return tuple(name for name in ("generator", "discriminator")
                     if isinstance(getattr(self.module, name, None), str | Path))

    def has(self, *names: str) -> bool:
        return all(name in self.given for name in names)

    def network(self, name: str) -> nn.Module:
        """A new one. Raises AdapterError."""
        what = getattr(self.module, name)
        if isinstance(what, str | Path):
            return from_file(self.path, name, what)
        with self.theirs(name):
            made = what() if callable(what) and not isinstance(what, nn.Module) else what
            if isinstance(made, tuple) and len(made) == 2 and callable(made[0]):
                weights = made[1]() if callable(made[1]) else made[1]
                return Functional(made[0], dict(self._new(name, weights)))
        if not isinstance(made, nn.Module):
            raise AdapterError(f"{self.path}: `{name}` gives a {type(made).__name__}, not an "
                               "nn.Module: name a class or function that makes one, or "
                               "(function, weights)")
        new: nn.Module = self._new(name, made)
        return new

    def _new(self, name: str, made: Any) -> Any:
        """What was made; where it is the same module, or dictionary, again, a copy of it as it was
        before it ran. Raises AdapterError: it cannot be copied."""
        if name not in self.first:
            self.first[name] = made, _copied(made)
            return made
        given, before = self.first[name]
        if made is not given:
            return made
        if before is None:
            raise AdapterError(f"{self.path}: `{name}` gives the same module each time, which "
                               "cannot be copied: name a class or function that makes a new one")
        return copy.deepcopy(before)

    def theirs(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Around every call of the user's code. Raises AdapterError for whatever it raises, and
        where it takes too long."""
        return isolated(f"`{what}`", self.path, self.noticed, self.time_limit)

    def call(self, name: str, *given: Any) -> Any:
        """A function of theirs, inside ``theirs``. Raises AdapterError: it gives another type."""
        made = getattr(self, name)(*given)
        if name in ("d_loss", "g_loss") and not isinstance(made, Tensor):
            raise AdapterError(f"{self.path}: `{name}` gives a {type(made).__name__}, not a tensor:"
                               " return the loss itself, without .item()")
        if name in ("d_loss", "g_loss") and not made.requires_grad and any(
                isinstance(one, Tensor) and one.requires_grad for one in given):
            raise AdapterError(f"{self.path}: `{name}` gives a tensor without a gradient: leave "
                               ".detach(), .data and torch.no_grad() out of it")
        if name == "optimizers" and not (isinstance(made, tuple | list) and len(made) == 2 and all(
                hasattr(one, "step") and hasattr(one, "zero_grad") for one in made)):
            raise AdapterError(f"{self.path}: `optimizers` gives {_described(made)}: return two "
                               "optimizers, the generator's and the discriminator's")
        return made


def _copied(made: Any) -> Any:
    """None where it cannot be."""
    try:
        return copy.deepcopy(made)
    except Exception:  # whatever a user's class does there
        return None


def _described(made: Any) -> str:
    if isinstance(made, tuple | list):
        return f"{len(made)} of {', '.join(type(one).__name__ for one in made[:3])}"
    return f"a {type(made).__name__}"


def require_device(device: str) -> None:
    """Raises AdapterError: it is not here, or none."""
    if device not in ("cpu", "cuda"):
        raise AdapterError(f"the device is {device!r}: give cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise AdapterError("--device cuda: PyTorch sees no GPU here: run it where there is one and "
                           "where `make setup` found its driver, or leave --device out")


def load(path: Path, time_limit: float = SECONDS, device: str = "cpu") -> Adapter:
    """Runs the user's file. time_limit: seconds that each call of their code may take. device:
    "cpu" or "cuda", where their networks are put.

    Raises AdapterError."""
    require_device(device)
    path = path.resolve()
    if not path.exists():
        raise AdapterError(f"there is no {path}: give the adapter of your port, as "
                           "docs/judge-your-port.md shows one")
    if path.suffix != ".py" or not path.is_file():
        raise AdapterError(f"{path} is no Python file: give the adapter of your port, as "
                           "docs/judge-your-port.md shows one")
    spec = importlib.util.spec_from_file_location(f"adapter_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.append(str(path.parent))  # their other files; ours come first
    noticed: list[str] = []
    with isolated(IMPORT, path, noticed, time_limit):
        spec.loader.exec_module(module)
    given = tuple(name for name in PARTS if getattr(module, name, None) is not None)
    if not {"generator", "discriminator"} & set(given):
        raise AdapterError(f"{path} names neither a `generator` nor a `discriminator`: add a line "
                           f"`{PARTS['generator']}`")
    for name in given:
        what = getattr(module, name)
        if name not in ("generator", "discriminator") and not callable(what):
            raise AdapterError(f"{path}: `{name}` is a {type(what).__name__}, not a function: "
                               f"write `{PARTS[name]}`")
    return _settings(Adapter(path, module, given, noticed=noticed, time_limit=time_limit,
                             device=device))


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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError: JSON has a name twice, of which Python takes the last."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is there twice")
    return dict(pairs)


def of_file(path: Path) -> dict[str, str]:
    """A mapping file: JSON, capture's array to tensor's path. Raises AdapterError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} is no mapping file ({error}): write {{\"network/layer/quantity"
                           "\": \"path.of.the.tensor\", ...}") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise AdapterError(f"{path} is no mapping file: write {{\"network/layer/quantity\": "
                           "\"path.of.the.tensor\", ...}")
    return found
