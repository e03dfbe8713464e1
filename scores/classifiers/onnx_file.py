"""Any ONNX classifier by its path: N x 3 x S x S in, N x K out, features N x D beside it or not.

What an ONNX file does not say is how its pictures were prepared, so that has to be said: one of
``NORMALISATIONS``; left out, [-1, 1]. The output may be logits or probabilities: rows that are at
least 0 and sum to 1 are probabilities, and their logarithms are taken for logits.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scores.classifiers.base import Classifier, Floats, Level, Spec
from scores.classifiers.runtimes import BATCH, load_session
from scores.classifiers.weights import of_user
from scores.errors import ScoreError

# Name: (middle, scale) of (x - middle) / scale, x in 0..255, R, G, B.
NORMALISATIONS: dict[str, tuple[Level, Level]] = {
    "[-1,1]": (127.5, 127.5),
    "[0,1]": (0.0, 255.0),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),  # torchvision's mean and std
    "pixels": (0.0, 1.0),
}
DEFAULT = "[-1,1]"
SIDE = 224  # where the file leaves height and width open


def load(path: Path, threads: int, normalisation: str = DEFAULT, kernel: str = "bilinear",
         sha256: str = "") -> Classifier:
    """Raises ScoreError: not there, a wrong checksum, no ONNX file, no classifier of pictures."""
    if normalisation not in NORMALISATIONS:
        raise ScoreError(f"there is no normalisation {normalisation!r}: give one of "
                         + ", ".join(NORMALISATIONS))
    found = of_user(path, sha256)
    session = load_session(path, threads)
    name, side, fixed = _input(session, path)
    logits, features = _outputs(session, path)
    middle, scale = NORMALISATIONS[normalisation]
    spec = Spec(
        name=path.name, title=f"{path.name}, an ONNX classifier of {logits.shape[-1]} classes, "
        f"pictures {normalisation}, {kernel}",
        side=side, kernel=kernel, middle=middle, scale=scale, classes=logits.shape[-1],
        features=features.shape[-1] if features is not None else 0)
    wanted = [logits.name] + ([features.name] if features is not None else [])

    def run(x: Floats) -> tuple[Floats, Floats]:
        at_once = fixed or BATCH
        rows, more = [], []
        for i in range(0, len(x), at_once):
            part = np.asarray(x[i:i + at_once], np.float32)
            count = len(part)
            if fixed and count < fixed:  # the file takes so many at once, no fewer
                part = np.concatenate([part, np.repeat(part[-1:], fixed - count, 0)])
            got = session.run(wanted, {name: part})
            rows.append(_as_logits(got[0][:count]))
            more.append(got[1][:count] if features is not None else np.zeros((count, 0)))
        return np.concatenate(more), np.concatenate(rows)

    return Classifier(spec, run, "onnxruntime", f"{path.name}, SHA-256 {found}", str(path))


def _input(session: Any, path: Path) -> tuple[str, int, int]:
    """Name, side, and how many pictures at once (0: any number)."""
    ports = session.get_inputs()
    shapes = {port.name: port.shape for port in ports}
    (port, *more) = ports
    shape = list(port.shape)
    if more or len(shape) != 4 or shape[1] != 3 or port.type != "tensor(float)":
        raise ScoreError(f"{path} takes {shapes}: a classifier of pictures takes one float input, "
                         "N x 3 x S x S")
    sides = {side if isinstance(side, int) else SIDE for side in shape[2:]}
    if len(sides) != 1:
        raise ScoreError(f"{path} takes pictures of {shape[2]} x {shape[3]}: only square ones are "
                         "supported")
    return port.name, sides.pop(), shape[0] if isinstance(shape[0], int) else 0


def _outputs(session: Any, path: Path) -> tuple[Any, Any]:
    """The ports of the logits and of the features (or None)."""
    flat = [port for port in session.get_outputs()
            if len(port.shape) == 2 and isinstance(port.shape[1], int)]
    named = {port.name: port for port in flat}
    logits = named.get("logits") or (flat[0] if flat else None)
    if logits is None:
        raise ScoreError(f"{path} gives {[(p.name, p.shape) for p in session.get_outputs()]}: a "
                         "classifier gives N x K, a number for each class")
    features = named.get("features")
    return logits, features if features is not logits else None


def _as_logits(rows: Floats) -> Floats:
    if rows.size and rows.min() >= 0 and abs(rows.sum(1, dtype=np.float64) - 1).max() < 1e-3:
        return np.asarray(np.log(np.maximum(rows.astype(np.float64), np.finfo(np.float64).tiny)))
    return rows
