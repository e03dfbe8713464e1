"""What is looked at in a state: which arrays changed, by how much, hashes, a few places of each.

Plain Python 3.6 and numpy; both sides of a comparison call the same functions.
"""
import hashlib
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

Arrays = Mapping[str, np.ndarray]
Event = List[Any]  # step, name, and by how much a count rose or that bits changed


def sampled(array: np.ndarray, count: int = 256) -> np.ndarray:
    """At most ``count`` values at places that depend on the size alone: for distances of runs."""
    flat = np.ravel(array)
    if flat.size <= count:
        return flat
    return flat[np.random.RandomState(flat.size % 2 ** 32).randint(0, flat.size, count)]


def moved_by_one_ulp(array: np.ndarray, seed: int) -> np.ndarray:
    """Every value moved to its neighbour, up or down as a coin of ``seed`` falls; 0 stays."""
    up = np.random.RandomState(seed).randint(0, 2, array.shape).astype(bool)
    towards = np.where(up, np.float32(np.inf), np.float32(-np.inf))
    return np.where(array == 0, array, np.nextafter(array, towards)).astype(np.float32)


def hashed(array: np.ndarray) -> str:
    """64 bits of BLAKE2b over an array's bytes, as text."""
    return hashlib.blake2b(np.asarray(array).tobytes(), digest_size=8).hexdigest()


def hashes(arrays: Arrays) -> Dict[str, str]:
    """Name to hash."""
    return {name: hashed(array) for name, array in arrays.items()}


class Watched:
    """Latents whose hashes are kept: ``hashes`` has one for each minibatch that was drawn."""

    def __init__(self, latents: Any) -> None:
        self.latents = latents
        self.hashes: List[str] = []

    def next(self, samples: int) -> np.ndarray:
        made: np.ndarray = self.latents.next(samples)
        self.hashes.append(hashed(made))
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.latents, name)


APART = ("difference", "movement", "size", "largest", "scale", "scale_noise", "part", "part_scale",
         "part_noise")  # the columns of ``apart``


def apart(ours: np.ndarray, theirs: np.ndarray, before: np.ndarray) -> Tuple[float, ...]:
    """How far an iteration took an array from where the reference's took it: root mean square of
    the difference, of the reference's movement, of the reference's value; the largest difference;
    and what the difference looks like: the scale s in

        difference = s * movement + noise,  s = <difference, movement> / <movement, movement>

    of the whole array and of one of its filters or channels, that which stands out most (part: its
    number along the first axis, or 1000 + along the second), each with its standard error; 0 where
    it has fewer than 8 values."""
    a, b, c = (np.asarray(one).astype(np.float64) for one in (ours, theirs, before))
    difference, movement = a - b, b - c

    def rms(x: np.ndarray) -> float:
        return float(np.sqrt(np.mean(x * x))) if x.size else 0.0

    largest = float(np.abs(difference).max()) if a.size else 0.0
    scales, noises = _scales(difference, movement, None)
    made = [rms(difference), rms(movement), rms(b), largest, float(scales[0]), float(noises[0]),
            0.0, 0.0, 0.0]
    most = 0.0
    for axis in range(2 if a.ndim > 1 else 0):
        scales, noises = _scales(difference, movement, axis)
        standing = np.minimum(np.abs(scales), OUT_OF_NOISE * _sure(scales, noises))
        at = int(np.argmax(standing))
        if standing[at] > most:
            most = float(standing[at])
            made[6:] = [1000.0 * axis + at, float(scales[at]), float(noises[at])]
    return tuple(made)


ENOUGH = 8  # values, to tell a scale from noise
# A scale so large counts as much as one standard error: as the judge has it, else a kink's large
# scale, which is not sure, would hide a small one that is.
OUT_OF_NOISE = 1e-3 / 600


def _sure(scales: np.ndarray, noises: np.ndarray) -> np.ndarray:
    """|scale| in standard errors; 0 where there is neither."""
    made: np.ndarray = np.abs(scales) / np.where(noises > 0, noises, np.inf)
    return made


def _scales(difference: np.ndarray, movement: np.ndarray, axis: Optional[int]
            ) -> Tuple[np.ndarray, np.ndarray]:
    """Scale and standard error of the whole, or of each slice along ``axis``."""
    d, m = (one.reshape(1, -1) if axis is None else np.moveaxis(one, axis, 0).reshape(
        one.shape[axis], -1) for one in (difference, movement))
    own, n = (m * m).sum(1), d.shape[1]
    if n < ENOUGH:
        return np.zeros(len(d)), np.zeros(len(d))
    safe = np.where(own > 0, own, 1.0)
    scales = (d * m).sum(1) / safe
    left = np.maximum((d * d).sum(1) - scales * scales * own, 0.0) / max(n - 1, 1)
    return scales, np.sqrt(left / safe)


def changed(before: Arrays, after: Arrays) -> List[str]:
    """The names whose arrays are not the same bits, in the order of ``before``: a ledger's line."""
    return [name for name in before if not np.array_equal(
        np.asarray(before[name]).view(np.uint8).ravel() if np.ndim(before[name]) else before[name],
        np.asarray(after[name]).view(np.uint8).ravel() if np.ndim(after[name]) else after[name])]


def events(step: str, before: Arrays, after: Arrays) -> List[Event]:
    """What a step changed, in order of the names: [step, name, by how much].

    The amount is given for counts; for all else it is that the bits changed.
    """
    made: List[Event] = []
    for name in sorted(changed(before, after)):
        whole = np.asarray(before[name]).dtype.kind == "i"
        made.append([step, name, int(after[name]) - int(before[name]) if whole else "changed"])
    return made


def ledger(states: Sequence[Arrays]) -> List[Event]:
    """The events of a D step and a G step, in order; states: before, between and after."""
    return events("d_step", states[0], states[1]) + events("g_step", states[1], states[2])


def of_step(values: Arrays, network: str) -> List[Tuple[str, np.ndarray]]:
    """What the step of ``network`` may move, as (name, array): all of that network, and the other's
    running statistics. That nothing else moved is in the ledger."""
    return [(name, value) for name, value in values.items()
            if name.startswith(network + "/") or name.rpartition("/")[2] in (
                "running_mean", "running_variance", "sample_count")]
