"""The same network in PyTorch and in onnxruntime: prepared pictures to features and logits.

onnxruntime gets the network as ONNX of opset 9, the newest that CNTK 2.7 reads, so that one file
serves all three. It is made once, kept in a cache folder under a name that holds the weights'
SHA-256, with its own SHA-256 in a file beside it, and made again where that does not hold.
"""
from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from captures.files import write_text, written_whole
from scores.classifiers.base import Floats, Runner, Spec
from scores.classifiers.weights import sha256_of
from scores.errors import ScoreError

OPSET = 9  # CNTK 2.7's
BATCH = 32  # pictures evaluated at a time: bounds the memory


def by_torch(module: nn.Module, double: bool = False) -> Runner:
    """PyTorch, float32 or float64 (the truth that the others are measured by)."""
    kind = torch.float64 if double else torch.float32
    module = module.to(kind).eval()

    def run(x: Floats) -> tuple[Floats, Floats]:
        made = []
        with torch.inference_mode():
            for i in range(0, len(x), BATCH):
                made.append(module(torch.from_numpy(np.ascontiguousarray(x[i:i + BATCH])).to(kind)))
        features, logits = (torch.cat([part[k] for part in made]).numpy() for k in (0, 1))
        return features, logits

    return run


def by_onnxruntime(path: Path, spec: Spec, threads: int) -> Runner:
    """onnxruntime on the CPU.

    Raises ScoreError: the file does not load, or is another network's."""
    session = load_session(path, threads)
    inputs = [(port.name, port.shape[1:]) for port in session.get_inputs()]
    outputs = [(port.name, port.shape[1:]) for port in session.get_outputs()]
    if (inputs != [("image", [3, spec.side, spec.side])]
            or outputs != [("features", [spec.features]), ("logits", [spec.classes])]):
        raise ScoreError(f"{path} takes {inputs} and gives {outputs}: it is another network than "
                         f"{spec.name}")

    def run(x: Floats) -> tuple[Floats, Floats]:
        parts = [session.run(["features", "logits"],
                             {"image": np.asarray(x[i:i + BATCH], np.float32)})
                 for i in range(0, len(x), BATCH)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    return run


def load_session(path: Path, threads: int) -> Any:
    """Raises ScoreError: onnxruntime is missing, or does not load the file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ScoreError("onnxruntime is not installed: install the packages of "
                         "requirements-torch.txt, or ask for --runtime torch") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no class that all its errors share
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ScoreError(f"onnxruntime does not load {path} ({first}): give an ONNX file"
                         ) from error


def as_converted(path: Path) -> bool:
    """Whether the file is the one that ``convert`` wrote there, to the byte."""
    try:
        stated = _beside(path).read_text("ascii").strip()
        return stated == sha256_of(path)
    except (OSError, ValueError, ScoreError):  # not there, or not to be read
        return False


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def convert(module: nn.Module, spec: Spec, path: Path) -> None:
    """Writes the network as ONNX, whole or not at all: image (n, 3, side, side) to features (n, D)
    and logits (n, K); and its SHA-256 into ``PATH.sha256``.

    Raises ScoreError: the file cannot be written.
    """
    try:
        with written_whole(path) as part, warnings.catch_warnings(), torch.no_grad():
            # The exporter says of itself that it is the old one, and of paddings that it left
            # their constants unfolded, which onnxruntime then folds.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", "Constant folding - Only steps=1", UserWarning)
            torch.onnx.export(
                module.float().eval(), (torch.zeros(1, 3, spec.side, spec.side),), part,
                dynamo=False, opset_version=OPSET, input_names=["image"],
                output_names=["features", "logits"],
                dynamic_axes={port: {0: "n"} for port in ("image", "features", "logits")})
            found = sha256_of(part)
        write_text(_beside(path), found + "\n")
    except OSError as error:
        raise ScoreError(f"the classifier cannot be kept in {path.parent} "
                         f"({error.strerror or error}): give a folder that can be written, with "
                         "100 MB free") from error
