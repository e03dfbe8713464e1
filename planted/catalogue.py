"""Every plant there is: importing this module registers them all, in the order of their kinds."""
import hashlib
import sys
from pathlib import Path
from typing import Any

from planted import (
    behaviour,
    between,
    correct,
    data,
    geometry,
    initial,
    late,
    losses,
    normalisation,
    one_layer,
    onnx_files,
    optimizer,
    options,
    program,
    unseen,
    unseen_program,
    unseen_training,
    weights,
)
from planted.explained import EXPLAINED
from planted.plant import CORRECT, KINDS, MISTAKES, Mistake, Plant
from planted.sizes import SIZED

MODULES = (correct, geometry, normalisation, optimizer, losses, initial, data, weights,
           one_layer, between, late, options, program, unseen, unseen_training,
           unseen_program, onnx_files, behaviour)
SHARED = ("parts", "plant", "graphs")  # what the plants are made with


def mistakes() -> dict[str, Mistake]:
    """All of them. Raises ValueError: two have one name."""
    made = {**MISTAKES, **{one.name: one for one in onnx_files.EXPORTED}}
    if len(made) != len(MISTAKES) + len(onnx_files.EXPORTED):
        raise ValueError("two mistakes have one name")
    return made


def plant(names: list[str]) -> None:
    """Makes these plants in the order given; one of ``sizes`` with its size, ``rate:1e-3``.

    Raises PlantError, LookupError."""
    for name in names:
        kind, _, size = name.partition(":")
        if size:
            SIZED[kind].apply(float(size))
        else:
            (CORRECT.get(name) or mistakes()[name]).apply()


def described() -> dict[str, Any]:
    """All of them as JSON holds it: what is expected of each, and a hash of its sources."""
    files = {path.stem: path.read_bytes() for path in Path(__file__).parent.glob("*.py")}
    shared = b"".join(files[name] for name in SHARED)

    def source(one: Plant) -> str:
        module = sys.modules[one.apply.__module__].__name__.rpartition(".")[2]
        if isinstance(one, Mistake) and one.exported:
            module = onnx_files.__name__.rpartition(".")[2]
        return hashlib.sha256(shared + files[module]).hexdigest()

    return {
        "kinds": KINDS,
        "sized": {kind: one.what for kind, one in SIZED.items()},
        "sizes_source": hashlib.sha256(
            shared + b"".join(files[name] for name in ("sizes", "one_layer", "between"))
        ).hexdigest(),
        "correct": [{"name": one.name, "what": one.what, "source": source(one)}
                    for one in CORRECT.values()],
        "mistakes": [{
            "name": one.name, "kind": one.kind, "what": one.what, "stage": one.stage,
            "place": one.place, "blame": one.blame, "plan": dict(one.plan),
            "limit": one.limit,
            "export": one.exported.export if one.exported else "",
            "network": one.exported.network if one.exported else "", "source": source(one),
            "diagnosis": EXPLAINED.get(one.name, ""),
        } for kind in KINDS for one in mistakes().values() if one.kind == kind],
    }
