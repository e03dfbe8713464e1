"""A part of a long list, so that several machines share it; the results of the parts come together.

    --shard 3/8      the third of eight parts
    --merge FOLDER   the output folder of a part, whose results are taken where they are of the same
                     sources and plan
"""
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from captures.errors import PlanError

Item = TypeVar("Item")
RESULTS = "results"


@dataclass(frozen=True)
class Shard:
    """The part-th of so many parts; from 1."""

    part: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """``3/8``. Raises PlanError."""
        if not text:
            return WHOLE_LIST
        found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise PlanError(f"the shard is {text!r}: give 3/8 for the third of eight parts")
        return cls(int(found[1]), int(found[2]))

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Every of-th item, so that each part has some of each kind."""
        return list(items)[self.part - 1::self.of]


WHOLE_LIST = Shard()


def merged(folders: Sequence[Path], output: Path) -> None:
    """Copies the results of other output folders into this one; of one entry the last wins.

    Raises PlanError: a folder has no results."""
    for folder in folders:
        if not (folder / RESULTS).is_dir():
            raise PlanError(f"{folder} holds no {RESULTS}: give the --output of a part that ran")
        (output / RESULTS).mkdir(parents=True, exist_ok=True)
        for path in sorted((folder / RESULTS).glob("*.json")):
            shutil.copyfile(path, output / RESULTS / path.name)
