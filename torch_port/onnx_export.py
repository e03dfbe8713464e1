"""The port's networks as ONNX graphs, in the form in which CNTK writes its own: opset 9, IR 4.

    generator.onnx       z N x 100 -> image N x 3 x 256 x 256 in [-1, 1]
    discriminator.onnx   x N x 3 x 256 x 256, pixels 0..255 -> probability N x 1 x 1 x 1

Evaluation mode, N free, the normalisation (x - 127.5) / 127.5 inside, every weight an initializer
of its own name (``generator.conv3.weight``) with the module's bits. The same weights give the same
bytes.

Batch normalisation. An ordinary export folds it into the convolution before it (PyTorch's
TorchScript exporter after Conv, not after ConvTranspose; its newer one everywhere and not below
opset 18), so neither the layer nor its weights are in the graph. Here every layer is one node: the
fold happens only in ``TrainingMode.EVAL``, and ``PRESERVE`` exports a module that is in evaluation
mode already just as well. Constant folding is off with it: this network has nothing else to fold.

momentum is what ONNX multiplies the running statistics by in training: exp(-N/T), CNTK's retention
for N samples in a minibatch, 0.996805 for the article's 16. (CNTK's exporter writes exp(-48/T)
whatever N was; PyTorch's would write 1 here, since the module updates its statistics itself.)
Inference does not read it. sample_count has no place in ONNX and is left out.

Source: torch/onnx/_internal/torchscript_exporter/utils.py of PyTorch 2.13 (the fold is
``_jit_pass_onnx_eval_peephole``).
"""
import contextlib
import io
import math
import os
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from captures.files import written_whole
from torch_port.batch_norm import BatchNormalization
from torch_port.dcgan import Networks, normalized

OPSET = 9  # CNTK 2.7's


class _Named(nn.Module):
    """Holds a network under its name, so that the weights' names in the graph are the captures'."""

    def __init__(self, name: str, network: nn.Module, middle: float = 0.0) -> None:
        super().__init__()
        self.name, self.middle = name, middle
        self.add_module(name, network)


class _FromLatents(_Named):
    def forward(self, z: Tensor) -> Tensor:
        return self.get_submodule(self.name)(z)  # type: ignore[no-any-return]


class _FromPixels(_Named):
    def forward(self, x: Tensor) -> Tensor:
        normal = normalized(x, self.middle)
        return self.get_submodule(self.name)(normal)  # type: ignore[no-any-return]


def export(networks: Networks, folder: str | os.PathLike[str],
           minibatch_size: int = 16) -> dict[str, Path]:
    """Writes both graphs into the folder, whole or not at all: network to its file.

    minibatch_size: of the training, for BatchNormalization's momentum only. The modules' training
    or evaluation modes are afterwards what they were. Raises ValueError: weights not in float32.
    """
    for name, tensor in networks.arrays().items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {tensor.dtype}: export the float32 networks, as CNTK does")
    modes = {module: module.training for module in networks.modules()}
    spec = networks.spec
    maker, critic = spec.networks
    try:
        models = {
            maker.name: _graph(_FromLatents(maker.name, networks.generator), maker.input, "z",
                               maker.output, "image", minibatch_size),
            critic.name: _graph(_FromPixels(critic.name, networks.discriminator, spec.middle),
                                critic.input, "x", critic.output, "probability", minibatch_size),
        }
    finally:
        for module, mode in modes.items():
            module.training = mode
    return _write(models, Path(folder))


def _graph(module: nn.Module, taken: tuple[int, ...], input_name: str, given: tuple[int, ...],
           output_name: str, minibatch_size: int) -> onnx.ModelProto:
    device = next(module.parameters()).device
    example = torch.zeros((2, *taken), device=device)
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter announces that it is to be replaced by the one that cannot write opset 9.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(module.eval(), (example,), file,  # type: ignore[arg-type]
                          opset_version=OPSET, dynamo=False,
                          training=torch.onnx.TrainingMode.PRESERVE,
                          do_constant_folding=False,
                          input_names=[input_name], output_names=[output_name],
                          dynamic_axes={input_name: {0: "N"}, output_name: {0: "N"}})
    model = onnx.load_from_string(file.getvalue())
    for dim, size in zip(model.graph.output[0].type.tensor_type.shape.dim[1:], given, strict=True):
        dim.dim_value = size  # the exporter names some of them instead
    retention = _retention(module, minibatch_size)
    for node in model.graph.node:
        for attribute in node.attribute:
            if retention and attribute.name == "momentum":
                attribute.f = retention
    onnx.checker.check_model(model, full_check=True)
    return model


def _retention(module: nn.Module, minibatch_size: int) -> float | None:
    """exp(-N/T): how much of the running statistics a minibatch leaves. All layers have one T; None
    where there are none."""
    constants = [layer.time_constant for layer in module.modules()
                 if isinstance(layer, BatchNormalization)]
    return math.exp(-minibatch_size / constants[0]) if constants else None


def _write(models: dict[str, onnx.ModelProto], folder: Path) -> dict[str, Path]:
    paths = {name: folder / f"{name}.onnx" for name in models}
    with contextlib.ExitStack() as both:  # neither is renamed before both are written
        parts = {name: both.enter_context(written_whole(path)) for name, path in paths.items()}
        for name, model in models.items():
            parts[name].write_bytes(model.SerializeToString(deterministic=True))
    return paths
