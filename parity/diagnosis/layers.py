"""What may be wrong with one layer's forward pass.

Each family takes what went into the layer, its weights, and what the port gave, and yields
hypotheses, the likely ones first; then what may be wrong with any output.
"""
from collections.abc import Iterator

import numpy as np

from captures.spec import NORMALISATION
from parity.diagnosis.activations import activation
from parity.diagnosis.arithmetic import Floats
from parity.diagnosis.convolutions import convolution
from parity.diagnosis.evidence import PRECISIONS, VALUES, Case, Hypothesis, listed, mixed, nice
from parity.diagnosis.given import Given
from parity.diagnosis.normalisations import normalisation


def hypotheses(given: Given, case: Case) -> Iterator[Hypothesis]:
    """Of the layer, and of parts of it: single channels, single samples."""
    family = convolution if given.layer.weight else (
        normalisation if given.layer.kind == NORMALISATION else activation)
    for one in family(given, case):
        yield one
        for axis, what in ((1, "channel"), (0, "sample")):
            part = mixed(case, one, axis, what)
            if part is not None:
                yield part
    yield from of_the_output(given, case)


def of_the_output(given: Given, case: Case) -> Iterator[Hypothesis]:
    """Something was done to a right result."""
    port, wanted = case.port, case.right
    if port.shape != wanted.shape:
        return
    for axis, what in ((1, "channel"), (0, "sample")):
        if port.size < VALUES * port.shape[axis]:
            continue
        others = tuple(i for i in range(port.ndim) if i != axis)
        size = np.square(wanted).sum(others)
        with np.errstate(all="ignore"):
            factor = (port * wanted).sum(others) / size
        factor = np.where(size > 0, factor, 1.0)
        shape = [1] * port.ndim
        shape[axis] = -1
        moved = np.abs(factor - 1) > 3e-7
        which = np.nonzero(moved)[0]
        if len(which):
            worst = float(factor[np.argmax(np.abs(factor - 1))])
            same = float(np.ptp(factor)) < 1e-6 * abs(worst)
            yield Hypothesis(
                "scaled", ("it is" if same else f"{listed(what, which)} are")
                + f" scaled, by {nice(worst, 8)} for example",
                "look for a factor (weight normalisation, spectral norm, an approximate root)",
                wanted * factor.reshape(shape))
    yield from _exchanged(port, wanted)
    yield from _edges(port, wanted)
    for name, to in PRECISIONS.items():
        yield Hypothesis("coarse-output", f"its output is in {name}",
                         "take autocast, .half() or .bfloat16() off this layer", to(wanted))
    basis = [wanted * np.abs(wanted), np.square(wanted), wanted ** 3]
    for term, what in zip(basis, ("h |h|", "h^2", "h^3"), strict=True):
        size = float(np.square(term).sum())
        if size:
            by = float(((port - wanted) * term).sum()) / size
            yield Hypothesis("bent", f"it is h {by:+.3g} {what}: not linear",
                             "look for a function of the output", wanted + by * term)


def _exchanged(port: Floats, wanted: Floats) -> Iterator[Hypothesis]:
    """Channels in another order."""
    channels = wanted.shape[1]
    if channels < 2 or channels > 1024:
        return
    a, b = (np.moveaxis(one, 1, 0).reshape(channels, -1) for one in (port, wanted))
    apart = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    order = apart.argmin(1)
    moved = np.nonzero(order != np.arange(channels))[0]
    if len(moved) and len(set(order.tolist())) == channels:
        yield Hypothesis("channels-exchanged", f"{listed('channel', moved)} are in each other's "
                         "place", "order the channels as CNTK's weights have them",
                         wanted[:, order])


def _edges(port: Floats, wanted: Floats) -> Iterator[Hypothesis]:
    """One row or column at a border is the one beside it."""
    if port.ndim != 4 or min(port.shape[2:]) < 2:
        return
    for axis, name in ((2, "row"), (3, "column")):
        for at, beside, which in ((-1, -2, "last"), (0, 1, "first")):
            changed = wanted.copy()
            there, its = [slice(None)] * 4, [slice(None)] * 4
            there[axis], its[axis] = at, beside  # type: ignore[call-overload]
            changed[tuple(there)] = wanted[tuple(its)]
            yield Hypothesis("edge-repeated", f"the {which} {name} is the one beside it",
                             "compute it: the output was one short and padded", changed)
            changed = wanted.copy()
            changed[tuple(there)] = 0
            yield Hypothesis("edge-repeated", f"the {which} {name} is 0",
                             "compute it: the output was one short and padded", changed)
