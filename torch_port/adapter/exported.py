"""A network out of a file: an .onnx graph, or a .pt2 that ``torch.export`` saved.

    network = from_file(adapter, "generator", "generator.onnx")

A file runs in evaluation mode alone: it has no training in it. An .onnx is run by PyTorch's own
functions, node by node, so that its layers are seen and CNTK's weights can be put in; each weight
has the name of its node and its place in it. (What a runtime makes of a graph is another question:
the stage ``onnx`` asks it of this project's own exports.)
"""
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from torch_port.adapter.isolation import AdapterError

KINDS = (".onnx", ".pt2")
Attributes = Mapping[str, Any]


def from_file(adapter: Path, name: str, given: str | Path) -> nn.Module:
    """given: the path, seen from the adapter. Raises AdapterError."""
    path = (adapter.parent / given).resolve()
    said = f"{adapter}: `{name}` is {str(given)!r}"
    if path.suffix not in KINDS:
        raise AdapterError(f"{said}: name a class or function, or a file {' or '.join(KINDS)}")
    if not path.is_file():
        raise AdapterError(f"{said}: there is no {path}: export it there, or mend the path")
    return _onnx(path, said) if path.suffix == ".onnx" else _exported(path, said)


class Frozen(nn.Module):
    """A network in evaluation mode, whatever it is told."""

    def train(self, mode: bool = True) -> "Frozen":
        return self


class _Program(Frozen):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


def _exported(path: Path, said: str) -> nn.Module:
    logging.getLogger("torch.export").setLevel(logging.ERROR)  # it logs tracebacks, and raises
    try:
        return _Program(torch.export.load(path).module())
    except Exception as error:
        raise AdapterError(f"{said}, which cannot be read ({type(error).__name__}: "
                           f"{_first(error)}): save it with torch.export.save, by the PyTorch that "
                           "is installed here") from error


def _onnx(path: Path, said: str) -> nn.Module:
    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        raise AdapterError(f"{said}, whose weights lie in a file beside it that is not there "
                           f"({Path(error.filename or '').name or _first(error)}): put it there, "
                           "or export with external_data=False") from error
    except Exception as error:
        raise AdapterError(f"{said}, which cannot be read ({type(error).__name__}: "
                           f"{_first(error)}): export it again") from error
    graph = model.graph
    held = {one.name for one in graph.initializer}
    inputs = [one.name for one in graph.input if one.name not in held]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise AdapterError(f"{said}, which has inputs {', '.join(inputs)} and outputs "
                           f"{', '.join(one.name for one in graph.output)}: export it with one of "
                           "each")
    return Graph(model, said)


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["without a word"])[0][:200]


# ------------------------------------------------------------------------------ nodes of a graph

# What the inputs of a node are called that are weights.
ROLES = {"Conv": ("", "weight", "bias"), "ConvTranspose": ("", "weight", "bias"),
         "BatchNormalization": ("", "scale", "bias", "running_mean", "running_variance")}


class Graph(Frozen):
    """Every node by the function of PyTorch that it is. Raises AdapterError: a node is unknown."""

    def __init__(self, model: onnx.ModelProto, said: str) -> None:
        super().__init__()
        graph = model.graph
        self.nodes = list(graph.node)
        held = {one.name for one in graph.initializer}
        self.input = next(one.name for one in graph.input if one.name not in held)
        self.output = graph.output[0].name
        for node in self.nodes:
            if node.op_type not in OPERATORS:
                raise AdapterError(f"{said}, which has a {node.op_type}: known are "
                                   f"{', '.join(sorted(OPERATORS))}; name the module that it was "
                                   "exported from")
        self.values = {one.name: torch.from_numpy(np.array(numpy_helper.to_array(one)))
                       for one in graph.initializer}
        self.names: dict[str, str] = {}
        for number, node in enumerate(self.nodes):
            for role, name in zip(ROLES.get(node.op_type, ()), node.input, strict=False):
                if role and name in self.values and name not in self.names:
                    self.names[name] = f"{node.op_type.lower()}{number}_{role}"
                    tensor = self.values[name]
                    if role.startswith("running"):
                        self.register_buffer(self.names[name], tensor)
                    else:
                        self.register_parameter(self.names[name], nn.Parameter(tensor))

    def forward(self, x: Tensor) -> Tensor:
        found: dict[str, Tensor] = {**self.values, self.input: x, **{
            name: getattr(self, own) for name, own in self.names.items()}}
        for node in self.nodes:
            given = [found[name] if name else None for name in node.input]
            attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            found[node.output[0]] = OPERATORS[node.op_type](given, attributes)
        return found[self.output]


def _sides(x: Tensor, attributes: Attributes) -> tuple[Tensor, tuple[int, int]]:
    """Pads of a Conv: of both sides alike as they are, others by F.pad in front."""
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise AdapterError("a convolution has auto_pad: export it with explicit pads")
    if pads[:2] == pads[2:]:
        return x, (pads[0], pads[1])
    return F.pad(x, (pads[1], pads[3], pads[0], pads[2])), (0, 0)


def _bias(given: Sequence[Any]) -> Tensor | None:
    """None where an exporter has written zeros for a layer that has no bias."""
    bias = given[2] if len(given) > 2 else None
    return bias if isinstance(bias, nn.Parameter) or (bias is not None and bias.any()) else None


def _conv(given: Sequence[Any], attributes: Attributes) -> Tensor:
    x, padding = _sides(given[0], attributes)
    return F.conv2d(x, given[1], _bias(given),
                    attributes.get("strides", (1, 1)), padding,
                    attributes.get("dilations", (1, 1)), attributes.get("group", 1))


def _transposed(given: Sequence[Any], attributes: Attributes) -> Tensor:
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    more = list(attributes.get("output_padding", (0, 0)))
    # Cut off less at the end: that is what PyTorch calls output_padding.
    more = [more[i] + pads[i] - pads[i + 2] for i in (0, 1)]
    if min(more) < 0:
        raise AdapterError("a ConvTranspose cuts off more at the end than at the beginning: name "
                           "the module that it was exported from")
    return F.conv_transpose2d(given[0], given[1], _bias(given),
                              attributes.get("strides", (1, 1)), pads[:2], more,
                              attributes.get("group", 1), attributes.get("dilations", (1, 1)))


def _normalised(given: Sequence[Any], attributes: Attributes) -> Tensor:
    x, scale, bias, mean, variance = given
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0,
                        attributes.get("epsilon", 1e-5))


def _reshape(given: Sequence[Any], attributes: Attributes) -> Tensor:
    shape = [given[0].shape[i] if size == 0 else size for i, size in enumerate(given[1].tolist())]
    return given[0].reshape(shape)  # type: ignore[no-any-return]


def _axes(given: Sequence[Any], attributes: Attributes) -> list[int]:
    if len(given) > 1 and given[1] is not None:
        return [int(axis) for axis in given[1].tolist()]
    return list(attributes.get("axes", ()))


def _unsqueeze(given: Sequence[Any], attributes: Attributes) -> Tensor:
    x = given[0]
    for axis in sorted(_axes(given, attributes)):
        x = x.unsqueeze(axis)
    return x  # type: ignore[no-any-return]


def _squeeze(given: Sequence[Any], attributes: Attributes) -> Tensor:
    axes = _axes(given, attributes)
    x: Tensor = given[0]
    return x.squeeze(tuple(axes)) if axes else x.squeeze()


def _constant(given: Sequence[Any], attributes: Attributes) -> Tensor:
    if "value" in attributes:
        return torch.from_numpy(np.array(numpy_helper.to_array(attributes["value"])))
    return torch.tensor(next(iter(attributes.values())))


def _shape(given: Sequence[Any], attributes: Attributes) -> Tensor:
    return torch.tensor(given[0].shape[attributes.get("start", 0):attributes.get("end")])


def _pad(given: Sequence[Any], attributes: Attributes) -> Tensor:
    pads = given[1].tolist() if len(given) > 1 else list(attributes["pads"])
    half = len(pads) // 2
    sides = [side for axis in reversed(range(half)) for side in (pads[axis], pads[axis + half])]
    return F.pad(given[0], sides, attributes.get("mode", b"constant").decode())


Operator = Callable[[Sequence[Any], Attributes], Tensor]
OPERATORS: dict[str, Operator] = {
    "Conv": _conv, "ConvTranspose": _transposed, "BatchNormalization": _normalised,
    "Relu": lambda given, _: F.relu(given[0]),
    "LeakyRelu": lambda given, a: F.leaky_relu(given[0], a.get("alpha", 0.01)),
    "Tanh": lambda given, _: torch.tanh(given[0]),
    "Sigmoid": lambda given, _: torch.sigmoid(given[0]),
    "Add": lambda given, _: given[0] + given[1], "Sub": lambda given, _: given[0] - given[1],
    "Mul": lambda given, _: given[0] * given[1], "Div": lambda given, _: given[0] / given[1],
    "Identity": lambda given, _: given[0], "Reshape": _reshape, "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze, "Constant": _constant, "Pad": _pad, "Shape": _shape,
    "Expand": lambda given, _: given[0].expand(given[1].tolist()),
    "CastLike": lambda given, _: given[0].to(given[1].dtype),
    "Gather": lambda given, a: given[0].select(a.get("axis", 0), int(given[1])),
    "Concat": lambda given, a: torch.cat([one.reshape(-1) if one.dim() == 0 else one
                                          for one in given], a["axis"]),
    "Flatten": lambda given, a: given[0].flatten(a.get("axis", 1)) if a.get("axis", 1)
    else given[0].reshape(1, -1),
    "Transpose": lambda given, a: given[0].permute(a["perm"]),
}
