"""Runs a module of the port with plants in it.

    python -m planted --plants NAME[,NAME] MODULE ARGUMENTS...
    python -m planted --list | --check

MODULE: torch_port.capture or torch_port.train. Plants are made in the order given, so a mistake
comes after the port that it is made in. ``--list`` prints them all as JSON; ``--check`` makes each
once and puts it back, and exits 1 where a part that one replaces is not there.
"""
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial

import torch

from captures.article import DCGAN
from planted.catalogue import described, mistakes, plant
from planted.parts import PlantError, port_modules, restore
from planted.plant import CORRECT, Mistake, Plant
from planted.sizes import SIZED
from torch_port import dcgan


def of_size() -> dict[str, Plant]:
    """One of each of those that have a size."""
    return {kind: Plant(kind, one.what, partial(one.apply, 1e-3)) for kind, one in SIZED.items()}


def check(plants: Mapping[str, Plant]) -> int:
    code = 0
    for name, one in plants.items():
        if isinstance(one, Mistake) and one.exported:
            continue
        try:
            one.apply()
            with torch.device("meta"):
                dcgan.Networks(DCGAN)  # what a plant changes once the networks are made
            print(f"{name}: {restore()} replaced")
        except (PlantError, AttributeError) as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            code = 1
        restore()
    return code


def main(arguments: Sequence[str]) -> int:
    if list(arguments) == ["--list"]:
        print(json.dumps(described()))
        return 0
    if list(arguments) == ["--check"]:
        return check({**CORRECT, **mistakes(), **of_size()})
    if len(arguments) < 3 or arguments[0] != "--plants":
        print("error: give --plants NAME[,NAME] MODULE ARGUMENTS, or --list", file=sys.stderr)
        return 2
    port_modules()
    names = arguments[1].split(",")
    for name in names:
        if name not in CORRECT and name not in mistakes() and name.partition(":")[0] not in SIZED:
            print(f"error: there is no plant {name!r}: give some of {', '.join(CORRECT)} or of the "
                  "mistakes that --list prints", file=sys.stderr)
            return 2
    plant(names)
    program = importlib.import_module(f"{arguments[2]}.__main__")
    return int(program.main(list(arguments[3:])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
