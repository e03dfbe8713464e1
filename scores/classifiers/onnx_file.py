"""Any ONNX classifier by its path: N x 3 x S x S in, N x K out, features N x D beside it or not.

What an ONNX file does not say is how its pictures were prepared, so that has to be said: one of
``NORMALISATIONS``; left out, [-1, 1]. Nor whether its output is logits or probabilities: that is
decided once, from the first pictures. Rows that are at least 0 and sum to 1 are probabilities, and
their logarithms are taken for logits; all rows after them have to be such, too. Rows that are like
probabilities but do not sum to 1 (rounded, floored, in per cent) are refused: taken as logits, they
would give a score near 1 of any pictures.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scores.classifiers.base import Classifier, Floats, Level, Reading, Spec
from scores.classifiers.runtimes import BATCH, load_session
from scores.classifiers.weights import of_user, sha256_of
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
LARGEST = 4096  # a side: two pictures of it take 403 MB
FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
SUM_WITHIN = 1e-3  # of 1: float16 softmax of 1,000 classes
SCALES = (1, 100, 255)  # of what may once have been probabilities
SUM_AT_LEAST = 0.25  # of what may once have been 1: many small values were rounded to 0
LIKE = 0.1  # as a part of the scale: how near rows have to come to be like probabilities


def load(path: Path, threads: int, normalisation: str = DEFAULT, kernel: str = "bilinear",
         sha256: str = "") -> Classifier:
    """Raises ScoreError: not there, a wrong checksum, no ONNX file, no classifier of pictures, one
    that does not take two of them. (And when it is called: rows that are no probabilities.)"""
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
    reading = Reading()
    wanted = [logits.name] + ([features.name] if features is not None else [])

    def run(x: Floats) -> tuple[Floats, Floats]:
        at_once = fixed or BATCH
        rows, more = [], []
        for i in range(0, len(x), at_once):
            part = np.asarray(x[i:i + at_once], np.float32)
            count = len(part)
            if fixed and count < fixed:  # the file takes so many at once, no fewer
                part = np.concatenate([part, np.repeat(part[-1:], fixed - count, 0)])
            got = _ran(session, wanted, {name: part}, path)
            rows.append(_as_logits(got[0][:count], reading, path))
            more.append(got[1][:count] if features is not None else np.zeros((count, 0)))
        return np.concatenate(more), np.concatenate(rows)

    # Two pictures of one colour show whether it runs at all, before the work.
    blank = np.zeros((fixed or 2, 3, side, side), np.float32)
    shapes = [part.shape for part in _ran(session, wanted, {name: blank}, path)]
    expected = [(len(blank), spec.classes), (len(blank), spec.features)][:len(wanted)]
    if shapes != expected:
        raise ScoreError(f"{path} gives {shapes} of {len(blank)} pictures, not {expected}: export "
                         "it for any number of pictures")
    files = {path.name: found, **_external(path)}
    says = "; ".join(f"{file}, SHA-256 {sha256}" for file, sha256 in files.items())
    return Classifier(spec, run, "onnxruntime", says, str(path), reading)


def _external(path: Path) -> dict[str, str]:
    """The files beside it that hold weights of its own, and their SHA-256."""
    import onnx
    from onnx.external_data_helper import (
        ExternalDataInfo,
        _get_all_tensors,
        uses_external_data,
    )

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # a protobuf's, of a file that onnxruntime has loaded
        raise ScoreError(f"{path} cannot be read by onnx ({type(error).__name__}): export it again"
                         ) from error
    names = {ExternalDataInfo(tensor).location for tensor in _get_all_tensors(model)
             if uses_external_data(tensor)}
    return {name: sha256_of(path.parent / name) for name in sorted(names)}


def _ran(session: Any, wanted: list[str], given: dict[str, Floats], path: Path) -> list[Floats]:
    """Raises ScoreError: the file does not take these pictures."""
    try:
        return list(session.run(wanted, given))
    except Exception as error:  # onnxruntime has no class that all its errors share
        (pictures,) = given.values()
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ScoreError(
            f"{path} does not run on {len(pictures)} pictures of {pictures.shape[3]} x "
            f"{pictures.shape[2]} ({first}): export it with the size of its pictures in its input, "
            "and for any number of them") from error


def _input(session: Any, path: Path) -> tuple[str, int, int]:
    """Name, side, and how many pictures at once (0: any number)."""
    ports = session.get_inputs()
    shapes = {port.name: port.shape for port in ports}
    port = ports[0] if len(ports) == 1 else None
    shape = list(port.shape) if port else []
    if port is None or len(shape) != 4 or shape[1] != 3 or port.type != "tensor(float)":
        raise ScoreError(f"{path} takes {shapes}: a classifier of pictures takes one float input, "
                         "N x 3 x S x S")
    sides = {side if isinstance(side, int) else SIDE for side in shape[2:]}
    if len(sides) != 1 or not 1 <= min(sides) <= LARGEST:
        raise ScoreError(f"{path} takes pictures of {shape[2]} x {shape[3]}: only square ones "
                         f"are supported, of 1 to {LARGEST:,} pixels a side")
    return port.name, sides.pop(), shape[0] if isinstance(shape[0], int) else 0


def _outputs(session: Any, path: Path) -> tuple[Any, Any]:
    """The ports of the logits and of the features (or None): by their names, or the logits are
    the only one that can be."""
    flat = {port.name: port for port in session.get_outputs() if len(port.shape) == 2
            and isinstance(port.shape[1], int) and port.type in FLOATS}
    features = flat.pop("features", None)
    maybe = [flat["logits"]] if "logits" in flat else list(flat.values())
    if len(maybe) != 1:
        given = [(port.name, port.shape, port.type) for port in session.get_outputs()]
        raise ScoreError(f"{path} gives {given}: a classifier gives N x K floats, a number for "
                         "each class" + (". Name that output 'logits'" if maybe else ""))
    return maybe[0], features


def _as_logits(rows: Floats, reading: Reading, path: Path) -> Floats:
    """The rows, or their logarithms where they are probabilities. The first rows decide which.

    Raises ScoreError: rows like probabilities that do not sum to 1."""
    if not rows.size or not np.isfinite(rows).all() or reading.taken == "logits":
        return rows  # NaN is refused where the softmax is taken, which names the picture
    p = rows.astype(np.float64)
    sums = p.sum(1)
    worst = float(sums[np.argmax(abs(sums - 1))])
    if p.min() >= 0 and abs(worst - 1) < SUM_WITHIN:
        reading.taken = "probabilities"
        return np.asarray(np.log(np.maximum(p, np.finfo(np.float64).tiny)))
    if reading.taken or _like_probabilities(p):
        raise ScoreError(
            f"{path} gives rows that look like probabilities but do not sum to 1 (one sums to "
            f"{worst:.6g}, its least value is {p.min():.3g}), as a rounded softmax does, or one in "
            "per cent: export it without its last softmax, or with one in float32 and nothing "
            "after it. (If they are logits: subtract each row's largest, which moves no score)")
    reading.taken = "logits"
    return rows


def _like_probabilities(p: NDArray[np.float64]) -> bool:
    """Nothing below 0; and sums mostly near 1, 100 or 255, or values of 0 to 1 that do not mostly
    sum to nearly 0, as the logits of an untrained network may."""
    middle = float(np.median(p.sum(1)))
    return bool(p.min() >= 0 and (
        any(abs(middle - scale) <= LIKE * scale for scale in SCALES)
        or (p.max() <= 1 + SUM_WITHIN and middle >= SUM_AT_LEAST)))
