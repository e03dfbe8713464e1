"""Why two captures may differ: what their manifests say of programs, packages and machines.

    causes(manifest of last month's, manifest of today's)   a list, the most likely first

A cause is a candidate, not a proof: that a package has another version does not mean that it is
why. Where nothing differs, every bit has to repeat.
"""
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Manifest = Mapping[str, Any]
# What of a plan changes how results round and not what is computed: in words, and its values.
HOW: dict[str, tuple[str, dict[object, str]]] = {
    "onednn": ("the convolutions", {0: "in CNTK's order", 1: "PyTorch's own (oneDNN)"}),
    "threads": ("the plan's threads", {}), "cntk_threads": ("CNTK's threads", {})}

OWN, UNNAMED = "this project's own", "a user's"
ADAPTER = "adapter"  # among the versions of a user's port: its name, and a hash of its sources


@dataclass(frozen=True)
class Cause:
    """what: in one line. rounds: whether it can change how results round; a seed or a data set
    changes what is computed."""

    what: str
    rounds: bool = True


def causes(ours: Manifest, theirs: Manifest) -> list[Cause]:
    """Differences that matter, in the order in which they are worth a look."""
    a, b = ours.get("machine", {}), theirs.get("machine", {})
    return [*_plans(ours.get("plan", {}), theirs.get("plan", {})),
            *_one("the producer", ours.get("producer"), theirs.get("producer")),
            *_ports(ours, theirs),
            *_one("the code", _short(a.get("code")), _short(b.get("code"))),
            *_mapping("", {**a.get("packages", {}), **_packages(ours)},
                      {**b.get("packages", {}), **_packages(theirs)}),
            *_mapping("the variable ", a.get("variables", {}), b.get("variables", {})),
            *_one("where the port ran", ours.get("facts", {}).get("device"),
                  theirs.get("facts", {}).get("device")),
            *_one("the arithmetic", ours.get("facts", {}).get("arithmetic"),
                  theirs.get("facts", {}).get("arithmetic")),
            *_one("the number of processors (CNTK's gradients of weights depend on it)",
                  a.get("processors"), b.get("processors")),
            *_one("the threads", ours.get("threads"), theirs.get("threads")),
            *_one("the kind of processor", a.get("processor"), b.get("processor")),
            *_one("the processor", a.get("model"), b.get("model")),
            *_flags(a.get("flags"), b.get("flags")),
            *_one("the C library", a.get("libc"), b.get("libc")),
            *_one("Python", a.get("python"), b.get("python")),
            *_one("the system", a.get("system"), b.get("system"))]


def repeats(ours: Manifest, theirs: Manifest) -> bool:
    """Whether the second has to have the first's bits: nothing that rounds is another."""
    return not causes(ours, theirs)


def _ports(ours: Manifest, theirs: Manifest) -> list[Cause]:
    """A user's port names its adapter and hashes its sources; this project's has neither."""
    a, b = _port(ours), _port(theirs)
    if UNNAMED in (a, b) and OWN not in (a, b):
        return []  # an old capture of a user's port: which one it was is not known
    return _one("the port", a, b)


def _port(manifest: Manifest) -> str:
    """Whose port it is; "" where the manifest is of something else."""
    if manifest.get("producer") != "port":
        return ""
    named = str(manifest.get("versions", {}).get(ADAPTER, ""))
    return named or (UNNAMED if "not_given" in manifest.get("facts", {}) else OWN)


def _packages(manifest: Manifest) -> dict[str, Any]:
    return {name: version for name, version in manifest.get("versions", {}).items()
            if name != ADAPTER}


def _plans(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Cause]:
    made = []
    for name in {**ours, **theirs}:
        a, b = ours.get(name), theirs.get(name)
        if a != b:
            words, a, b = (HOW[name][0], *(HOW[name][1].get(one, one) for one in (a, b))) \
                if name in HOW else (f"the plan's {name}", a, b)
            made.append(Cause(f"{words}: {a} and {b}", name in HOW))
    return made


def _one(what: str, ours: object, theirs: object) -> list[Cause]:
    """A value that only one manifest has is not known, and no cause."""
    if ours in (None, "") or theirs in (None, "") or ours == theirs:
        return []
    return [Cause(f"{what}: {ours} and {theirs}")]


def _mapping(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Cause]:
    made = []
    for name in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(name), theirs.get(name)
        if a != b and (what or (a is not None and b is not None)):
            made.append(Cause(f"{what}{name}: {a or 'not set'} and {b or 'not set'}"))
    return made


def _flags(ours: list[str] | None, theirs: list[str] | None) -> list[Cause]:
    if ours is None or theirs is None or set(ours) == set(theirs):
        return []
    one, other = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    parts = [f"only the {which} has {' '.join(flags)}"
             for which, flags in (("first", one), ("second", other)) if flags]
    return [Cause("the processor's instructions: " + ", ".join(parts))]


def _short(text: object) -> str:
    return str(text)[:12] if text else ""
