"""Where the difference is, when no known mistake explains it: channels, samples, borders, signs."""
import numpy as np

from parity.diagnosis.arithmetic import Floats
from parity.diagnosis.evidence import listed

MOST = 0.95  # of the squared difference is "all of it"
COARSEST = 1e-5  # of the size: what rounding is below
NOISE = 3.0  # standard errors


def described(port: Floats, right: Floats) -> str:
    """One sentence."""
    if port.shape != right.shape:
        return f"its shape is {port.shape}, CNTK's {right.shape}"
    bad = ~np.isfinite(port)
    if bad.any():
        return f"{int(bad.sum())} values are not finite, the first at " \
               f"{[int(i) for i in np.argwhere(bad)[0]]}"
    difference = port - right
    whole = float(np.square(difference).sum())
    if not whole:
        return "no value differs"
    said = [f"{int((difference != 0).sum()):,} of {difference.size:,} values differ"]
    said += _groups(difference, whole)
    said += _signs(difference, right)
    return "; ".join(said)


def _groups(difference: Floats, whole: float) -> list[str]:
    """The fewest channels, samples, rows that hold most of it."""
    names = {4: ("sample", "channel", "row", "column"), 2: ("sample", "value"), 1: ("channel",)}
    said = []
    for axis, name in enumerate(names.get(difference.ndim, ())):
        others = tuple(i for i in range(difference.ndim) if i != axis)
        share = np.square(difference).sum(others) / whole
        if len(share) < 2:
            continue
        order = np.argsort(share)[::-1]
        count = int(np.searchsorted(np.cumsum(share[order]), MOST)) + 1
        if count <= len(share) // 4 or (len(share) == 2 and count == 1):
            which = sorted(int(i) for i in order[:count])
            border = {0: f"the first {name}", len(share) - 1: f"the last {name}"}
            said.append("it is in " + (border.get(which[0], listed(name, which))
                                       if name in ("row", "column") and len(which) == 1
                                       else listed(name, which)))
    return said


def _signs(difference: Floats, right: Floats) -> list[str]:
    flat, of = np.ravel(difference), np.ravel(right)
    moved = flat[flat != 0]
    if len(moved) < 16:
        return []
    share = float((moved > 0).mean())
    if abs(share - 0.5) > 0.45:
        return [f"the port is always {'above' if share > 0.5 else 'below'}"]
    size = float(np.sqrt((flat ** 2).sum() * (of ** 2).sum()))
    together = float((flat * of).sum()) / size if size else 0.0
    if abs(together) > 0.5:
        return [f"it goes with the value (correlation {together:.2f})"]
    if abs(together) < NOISE / np.sqrt(len(flat)) * 2:
        return ["it has no pattern that goes with the values: noise, or another input"]
    return []


def is_noise(port: Floats, right: Floats) -> bool:
    """Without a pattern: spread evenly, of both signs, not going with the values."""
    if port.shape != right.shape or not np.isfinite(port).all():
        return False
    difference = port - right
    whole = float(np.square(difference).sum())
    if whole < (COARSEST ** 2) * float(np.square(right).sum()):
        return False  # rounding, of whatever kind
    return bool(whole) and not _groups(difference, whole) and any(
        "noise" in one for one in _signs(difference, right))
