"""What may be wrong with values that are carried, not computed: loaded weights, initial weights."""
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from parity.diagnosis.arithmetic import Floats
from parity.diagnosis.evidence import PRECISIONS, SHARE, Found, listed, nice, rms

LOADING = "docs/judge-your-port.md#2-look-at-how-it-was-matched"
DRAWING = "docs/behaviours.md#initial-weights"
LEADING = 64  # values of a stream that say whose it is


@dataclass(frozen=True)
class Carried:
    """port, right: the two arrays. name: of the array. others: CNTK's of the same kind, by name."""

    name: str
    port: Floats
    right: Floats
    others: Mapping[str, Floats]


def loaded(given: Carried) -> Found | None:
    """Of a weight that came from CNTK's files, or was drawn as CNTK draws it."""
    for name, what, mend, value in _changed(given):
        if value.shape == given.port.shape and np.array_equal(value, given.port):
            return Found(name, what, mend, LOADING)
    if given.port.shape != given.right.shape:
        return None
    differing = given.port != given.right
    apart = np.abs(given.port - given.right)
    if differing.size > 1 and differing.sum() <= max(2, differing.size // 10000):
        at = tuple(int(i) for i in np.argwhere(differing)[0])
        return Found("single-values", f"{int(differing.sum())} of its {differing.size:,} values "
                     f"differ, by {apart.max():.2g} at {list(at)}",
                     "look for what writes into it after it is loaded", LOADING)
    return None


def _changed(given: Carried) -> Iterator[tuple[str, str, str, Floats]]:
    right, port = given.right, given.port
    for other, value in given.others.items():
        if other != given.name and value.shape == port.shape and np.array_equal(value, port) \
                and np.any(value) and np.ptp(value):
            yield ("another-array", f"it holds what belongs to {other.rpartition('/')[0]}",
                   "exchange the two, or name them in a mapping file", value)
    yield ("left-at-zero", "it stays 0", "load it too", np.zeros_like(right))
    for name, to in PRECISIONS.items():
        yield "coarse-values", f"it went through {name}", "keep it in float32", to(right)
    if right.ndim == 4:
        for what, value in (("rows and columns exchanged", right.swapaxes(2, 3)),
                            ("rows turned", right[:, :, ::-1]),
                            ("columns turned", right[..., ::-1]),
                            ("rows and columns turned", right[:, :, ::-1, ::-1]),
                            ("its filters in opposite order", right[::-1]),
                            ("its channels in opposite order", right[:, ::-1])):
            yield ("kernels-turned", f"it has {what}", "load it as it is: the layouts are the same",
                   value)
        for axes in ((1, 0, 2, 3), (2, 3, 1, 0), (3, 2, 0, 1), (0, 2, 3, 1)):
            if tuple(right.shape[axis] for axis in axes) == right.shape:
                yield ("axes-exchanged", "its input and output are exchanged",
                       "weight.transpose(0, 1)", right.transpose(axes))
        yield ("axes-exchanged", "it is filled in another order of its axes",
               "fill out, in, h, w in this order", right.reshape(
                   right.shape[1], right.shape[0], *right.shape[2:]).swapaxes(0, 1))
    if right.ndim == 1 and right.size > 1 and port.shape == right.shape:
        moved = np.nonzero(port != right)[0]
        if len(moved) and np.array_equal(np.sort(port), np.sort(right)):
            yield ("channels-exchanged", f"{listed('channel', moved)} are in each other's place",
                   "keep the order", port)
    yield "sign-turned", "its sign is turned", "take the minus off", -right


def drawn(given: Carried, deviation: float) -> Found | None:
    """Of an initial weight, statistic, scale or bias."""
    if given.port.shape != given.right.shape:
        return None
    if not given.name.endswith("/weight"):
        return _constant(given)
    found = loaded(given)
    if found is not None and found.name == "left-at-zero":
        return Found("left-at-zero", "it starts at 0",
                     f"nn.init.normal_(weight, 0, {deviation:g})", DRAWING)
    if found is not None and found.name != "another-array":
        return found
    return _stream(given) or _form(given, deviation) or _distribution(
        np.ravel(given.port), deviation)


def _stream(given: Carried) -> Found | None:
    """CNTK's numbers, from another place of another stream."""
    a, b = np.ravel(given.port), np.ravel(given.right)
    if np.all(np.abs(a - b) <= 2e-7 * np.abs(b) + 1e-12):
        return Found("last-bits", "its values differ by their last bit: the standard deviation was "
                     "not rounded to float32 before the product", "sigma = float(np.float32(0.02))",
                     DRAWING)
    if np.array_equal(a[:-1], b[1:]):
        return Found("stream-shifted", "its stream begins one number late", "draw nothing before",
                     DRAWING)
    for other, value in given.others.items():
        head = np.ravel(value)[:LEADING]
        if other != given.name and other.endswith("/weight") and len(head) == LEADING \
                and np.array_equal(a[:LEADING], head):
            return Found("another-seed", f"it begins with the numbers of {other}: its seed is that "
                         "layer's", "seed + i for the i-th weight in order of creation, the one "
                         "network first", DRAWING)
    return None


def _form(given: Carried, deviation: float) -> Found | None:
    """CNTK's numbers, scaled or cut."""
    a, b = np.ravel(given.port), np.ravel(given.right)
    scaled = float(np.dot(a, b) / np.dot(b, b))
    if rms(a - scaled * b) < 1e-5 * rms(a):
        return Found("another-deviation", f"it is {nice(scaled, 4)} times CNTK's: the standard "
                     f"deviation is {nice(scaled * deviation, 3)}", f"std={deviation:g}: CNTK's "
                     "number is a standard deviation, not a variance", DRAWING)
    if rms(a - np.clip(b, a.min(), a.max())) < 1e-6 * rms(a):
        return Found("truncated", f"values are cut to {nice(float(a.max()), 3)}",
                     "nn.init.normal_, not trunc_normal_", DRAWING)
    return None


def _constant(given: Carried) -> Found | None:
    port, right = given.port, given.right
    wanted = float(np.ravel(right)[0]) if right.size and not np.ptp(right) else None
    if wanted is None:
        return None
    quantity = given.name.rpartition("/")[2]
    if port.size and not np.ptp(port):
        return Found("another-start", f"it starts at {nice(float(np.ravel(port)[0]))}, CNTK's at "
                     f"{wanted:g}", _filled(quantity, wanted), DRAWING)
    return Found("start-is-drawn", f"its values are drawn, of mean {nice(float(port.mean()), 2)} "
                 f"and deviation {nice(float(port.std()), 2)}; CNTK's are {wanted:g}",
                 f"nn.init.constant_({quantity}, {wanted:g})", DRAWING)


def _filled(quantity: str, wanted: float) -> str:
    """A statistic is a buffer, which torch.nn.BatchNorm2d fills with 0 and 1 by itself."""
    if "running" not in quantity:
        return f"fill it with {wanted:g}"
    name = {"running_variance": "running_var"}.get(quantity, quantity)
    return (f"in `initialize`, of every normalisation: layer.{name}.fill_({wanted:g}); that the "
            "first minibatch is copied (FirstCopied, as_cntks) leaves the start as it is")


def _distribution(a: Floats, deviation: float) -> Found | None:
    found = float(a.std())
    width = 6 * deviation / np.sqrt(2 * a.size)
    flat = np.ptp(a) / 2
    uniform = abs(found - flat / np.sqrt(3)) < SHARE * found
    if uniform and a.size > 100:
        return Found("uniform-weights", f"its values are uniform in +-{nice(float(flat), 3)}",
                     f"nn.init.normal_(weight, 0, {deviation:g})", DRAWING)
    if abs(found - deviation) > width + 0.02 * deviation:
        return Found("another-deviation", f"its standard deviation is {nice(found, 3)}, CNTK's "
                     f"{deviation:g}", f"nn.init.normal_(weight, 0, {deviation:g})", DRAWING)
    if stats.kstest(a[:100000] / found, "norm").pvalue > 1e-6:
        return Found("another-stream", "the distribution is CNTK's, the numbers are not: they are "
                     "of another stream or seed",
                     "torch_port.normal_initializer.draw_initial_weights(shapes, seeds)", DRAWING)
    return None
