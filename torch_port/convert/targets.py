"""A trained model written in another form.

    pytorch      checkpoint.pt: {"networks": state_dict} and, out of a checkpoint, {"optimizers":
                 {network: CNTKAdam's state_dict}, "iteration"}; torch.load(weights_only=True)
    safetensors  model.safetensors, under PyTorch's names; Adam's as NAME.m and NAME.v
    onnx         opset 9, one graph for each network
    port, cntk   a run's folder that the port, or CNTK's program, goes on from with --resume

CNTK's program and the port hold the same state, so the last two only say who goes on, and the run's
record says from then on that it changed hands.
"""
from collections.abc import Callable
from pathlib import Path

import torch

from captures.article import DCGAN
from captures.errors import ParityError
from captures.files import written_whole
from captures.output import alone, replacing
from captures.plan import Latents
from captures.training import checkpoint as checkpoints
from captures.training import folder as run_folder
from captures.training.log import LOG, Log
from torch_port.convert.sources import Source
from torch_port.dcgan import Networks, empty_networks
from torch_port.onnx_export import export
from torch_port.train.run import Run
from torch_port.train.steps import create_optimizers

PROGRAMS = ("port", "cntk")
FILES = {"pytorch": ("checkpoint.pt",), "safetensors": ("model.safetensors",),
         "onnx": tuple(f"{network.name}.onnx" for network in DCGAN.networks)}
TARGETS = ("pytorch", "safetensors", "onnx", *PROGRAMS)


class ConversionError(ParityError):
    """What was given does not hold what is asked for."""


def write(source: Source, target: str, output: Path, path: Path) -> list[Path]:
    """The files that were written. Raises ConversionError."""
    if target in PROGRAMS:
        return [_run(source, target, output, path)]
    if len(source.networks) < len(DCGAN.networks):
        missing = [one.name for one in DCGAN.networks if one.name not in source.networks]
        raise ConversionError(f"{path} holds no {missing[0]}: put that network's file beside it, "
                              "under the same name with the other network's word in it")
    makers: dict[str, Callable[[Source, Path], list[Path]]] = {
        "pytorch": _pytorch, "safetensors": _safetensors, "onnx": _onnx}
    with replacing(output, FILES[target]):
        return makers[target](source, output)


def networks_of(source: Source) -> Networks:
    """Raises ConversionError: one of them is missing."""
    networks = empty_networks()
    networks.load(source.arrays)
    return networks


def _run_of(source: Source) -> Run:
    """Networks and optimizers with the checkpoint's state."""
    assert source.checkpoint is not None
    networks = networks_of(source)
    size = source.checkpoint.identity["minibatch_size"]
    run = Run(0, size, False, _NoReader(), networks,  # type: ignore[arg-type]
              *create_optimizers(networks, size, source.checkpoint.identity["unit_gain"]),
              Latents(0))
    run.restore(source.checkpoint.arrays, 0, print)
    return run


class _NoReader:
    step = 0


def _pytorch(source: Source, output: Path) -> list[Path]:
    kept: dict[str, object] = {"networks": networks_of(source).state_dict()}
    if source.checkpoint is not None:
        run = _run_of(source)
        kept["optimizers"] = {name: optimizer.state_dict() for name, optimizer in run.optimizers()}
        kept["iteration"] = source.checkpoint.iteration
    path = output / "checkpoint.pt"
    with written_whole(path) as part:
        torch.save(kept, part)
    return [path]


def _safetensors(source: Source, output: Path) -> list[Path]:
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in
               networks_of(source).state_dict().items()}
    if source.checkpoint is not None:
        tensors.update({f"{name[:-2].replace('/', '.')}.{name[-1]}": torch.from_numpy(array)
                        for name, array in source.checkpoint.arrays.items()
                        if name[-2:] in ("_m", "_v")})
    path = output / "model.safetensors"
    with written_whole(path) as part:
        save_file(tensors, part, {"format": "pt"})
    return [path]


def _onnx(source: Source, output: Path) -> list[Path]:
    size = source.checkpoint.identity["minibatch_size"] if source.checkpoint else 16
    return list(export(networks_of(source), output, size).values())


def _run(source: Source, program: str, output: Path, path: Path) -> Path:
    before = source.checkpoint
    if before is None:
        raise ConversionError(
            f"{path} holds weights alone, and a training goes on with Adam's state, the reader's "
            "place and the stream of latents too: give the run's folder or a checkpoint in it")
    with alone(output):
        run_folder.refuse_a_run(output, program)
        change = {"what": "program", "from": before.identity["program"], "to": program,
                  "behind iteration": before.iteration, "time": run_folder.now()}
        other = program != before.identity["program"]
        identity = {**before.identity, "program": program}
        for name in ("threads", "arithmetic"):  # each program says its own
            identity[name] = before.identity[name] if not other else None
        written = checkpoints.write_checkpoint(output, before._replace(
            identity=identity, changes=[*before.changes, *([change] if other else [])]))
        with written_whole(output / LOG) as part:
            part.write_text(Log.text(before.rows), encoding="ascii")
        run_folder.write_run(output, _record(path, before, program))
    return written


def _record(path: Path, before: checkpoints.Checkpoint, program: str) -> dict[str, object]:
    """run.json of the new folder: the old one's settings, so that they need not be given again."""
    home = path if (path / run_folder.RUN).exists() else path.parent.parent
    found = run_folder.read_run(home) or {"settings": {}}
    return {**found, "program": program, "status": "converted", "iterations": before.iteration}
