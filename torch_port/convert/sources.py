"""What a trained model may be kept in, read as the arrays of the captures.

    read(path) -> Source(kind, arrays, checkpoint)

    a run's folder, one of its checkpoints    of CNTK's program or of the port
    FILE.model                                of CNTK's save(), and the other network's, beside it
    FILE.onnx                                 CNTK's export or the port's; the other's likewise
    FILE.safetensors, FILE.pt                 what ``convert`` or the port wrote

Arrays have CNTK's layout, which is PyTorch's. ONNX keeps no sample_count: it is 0 there, which only
training reads.
"""
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from captures.article import DCGAN
from captures.errors import ParityError
from captures.training.checkpoint import MANIFEST, Checkpoint, read_checkpoint, read_newest
from captures.training.shapes import dtype, weight_shapes
from torch_port.files.message import Arrays, ModelFileError
from torch_port.files.model import MODELS, read_model

MEND = "give a run's folder, a checkpoint, or a .model, .onnx, .safetensors or .pt file of the " \
       "article's networks"


class Source(NamedTuple):
    """arrays: of the networks that were there, network/layer/quantity. checkpoint: all else that a
    training needs, where there is that."""

    kind: str
    arrays: Arrays
    checkpoint: Checkpoint | None = None

    @property
    def networks(self) -> list[str]:
        return [network.name for network in DCGAN.networks
                if all(name in self.arrays for name in network.arrays)]


def read(path: Path, say: Callable[[str], None] = print) -> Source:
    """Raises ParityError: no such file, of another kind, damaged, or of other networks."""
    if path.is_dir():
        checkpoint = (read_checkpoint(path) if (path / MANIFEST).exists()
                      else read_newest(path, say))
        return Source("checkpoint", weights_of(checkpoint.arrays, str(path)), checkpoint)
    if not path.exists():
        raise ModelFileError(f"there is no {path}: {MEND}")
    kinds: dict[str, Callable[[Path], Arrays]] = {
        ".model": _model, ".onnx": _onnx, ".safetensors": _safetensors, ".pt": _pt}
    if path.suffix not in kinds:
        raise ModelFileError(f"{path} is of no kind that is known here: {MEND}")
    found: Arrays = {}
    for one in [path, *_beside(path)]:
        found.update(kinds[path.suffix](one))
    return Source(path.suffix[1:], found)


def weights_of(arrays: Arrays, where: str) -> Arrays:
    """The networks' arrays alone, checked. Raises ModelFileError."""
    made = {}
    for name, shape in weight_shapes(DCGAN).items():
        if name not in arrays:
            continue
        if tuple(arrays[name].shape) != shape:
            raise ModelFileError(f"{where}: {name} has the shape {tuple(arrays[name].shape)}, the "
                                 f"article's networks have {shape}: {MEND}")
        if name.endswith("/sample_count"):
            wrong = "no number" if arrays[name].dtype.kind not in "iuf" else ""
        elif arrays[name].dtype != dtype(name):
            wrong = f"{arrays[name].dtype}, not {dtype(name)}"
        else:
            wrong = "" if np.isfinite(arrays[name]).all() else "not finite"
        if wrong:
            raise ModelFileError(f"{where}: {name} is {wrong}: give another file, or save it anew")
        made[name] = arrays[name]
    if not any(all(name in made for name in network.arrays) for network in DCGAN.networks):
        raise ModelFileError(f"{where} holds neither of the article's networks: {MEND}")
    return made


def _beside(path: Path) -> Iterable[Path]:
    """The other network's file, where the name says which this one is."""
    ours = [network.name for network in DCGAN.networks if network.name in path.name]
    if len(ours) == 1:
        for network in DCGAN.networks:
            other = path.with_name(path.name.replace(ours[0], network.name))
            if other != path and other.exists():
                yield other


def _model(path: Path) -> Arrays:
    problems = []
    for network in MODELS:
        try:
            return weights_of(read_model(path, network), str(path))
        except ModelFileError as error:
            problems.append(error)
    named = [network for network in MODELS if network in path.name]
    raise problems[list(MODELS).index(named[0]) if named else 0]


def _onnx(path: Path) -> Arrays:
    """By the order of the nodes, which both exporters keep: the i-th convolution is conv<i>, a sum
    with a constant behind it its bias, a batch normalisation behind it bn<i>."""
    import onnx

    try:
        return weights_of(_of_graph(onnx.load(path).graph), str(path))
    except ParityError:
        raise
    except Exception as error:  # onnx has no class that all its errors share
        said = str(error).splitlines() or [type(error).__name__]
        raise ModelFileError(f"{path} is no ONNX file of the article's networks ({said[0]}): {MEND}"
                             ) from error


def _of_graph(graph: Any) -> Arrays:
    import onnx

    held = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    transposed = any(node.op_type == "ConvTranspose" for node in graph.node)
    network = DCGAN.maker if transposed else DCGAN.critic
    made: Arrays = {}
    number, waits = 0, False
    for node in graph.node:
        constants = [held[name] for name in node.input if name in held]
        if node.op_type in ("Conv", "ConvTranspose"):
            number += 1
            place, waits = f"{network.name}/conv{number}/", True
            made[place + "weight"] = constants[0]
            if len(constants) > 1:
                made[place + "bias"] = constants[1].reshape(-1)
        elif node.op_type == "Add" and waits and constants:
            made[f"{network.name}/conv{number}/bias"] = constants[0].reshape(-1)
        elif node.op_type == "BatchNormalization":
            values = zip(("scale", "bias", "running_mean", "running_variance"), constants,
                         strict=True)
            made.update({f"{network.name}/bn{number}/{name}": value for name, value in values})
            made[f"{network.name}/bn{number}/sample_count"] = np.array(0, np.int64)
        waits = waits and node.op_type in ("Conv", "ConvTranspose", "Reshape")
    return made


def _safetensors(path: Path) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path} is no safetensors file ({error}): {MEND}") from error
    return weights_of({name.replace(".", "/"): array for name, array in found.items()}, str(path))


def _pt(path: Path) -> Arrays:
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
        state = found.get("networks", found)
        arrays = {name.replace(".", "/"): tensor.numpy() for name, tensor in state.items()}
    except ParityError:
        raise
    except Exception as error:  # torch.load has no class that all its errors share
        said = str(error).splitlines() or [type(error).__name__]
        raise ModelFileError(f"{path} is no PyTorch file of weights ({said[0]}): {MEND}"
                             ) from error
    if not any(name in weight_shapes(DCGAN) for name in arrays):  # one network's own names
        for network in DCGAN.networks:
            if network.name in path.name:
                arrays = {f"{network.name}/{name}": array for name, array in arrays.items()}
    return weights_of(arrays, str(path))
