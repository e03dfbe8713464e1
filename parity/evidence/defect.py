"""What is planted, as the package that plants it describes it: no framework is imported here."""
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from captures.errors import ParityError
from parity.blame.finding import PORT
from parity.producers.jobs import ROOT

OURS = "ours"
# Ports that mistakes are planted into: our own, what a user writes, and that in another layout.
BASES = (OURS, "ordinary", "channels-last")


class CatalogueError(ParityError):
    """The plants cannot be listed."""


@dataclass(frozen=True)
class Defect:
    """name: of words and hyphens. what: one sentence, what was done wrong. stage, place: regular
    expressions for where it has to be named; blame: who has to be. export, network: the file that
    is changed or run wrongly, where it is not the port that is wrong. plan: values of the plan that
    it needs. limit: why it cannot be seen in a port without CNTK's bits; "" where it can. source: a
    hash of the code. base: the port that it is planted into. diagnosis: what the diagnosis has to
    call it, a regular expression; "" where it is not asked."""

    name: str
    kind: str
    what: str
    stage: str
    place: str
    blame: str = PORT
    plan: Mapping[str, int] = field(default_factory=dict)
    limit: str = ""
    export: str = ""
    network: str = ""
    source: str = ""
    base: str = OURS
    diagnosis: str = ""

    @property
    def title(self) -> str:
        """Unique: ``momentum-0.9``, ``momentum-0.9@ordinary``."""
        return self.name if self.base == OURS else f"{self.name}@{self.base}"

    @property
    def plants(self) -> list[str]:
        """In the order in which they are made."""
        return [*([] if self.base == OURS else [self.base]), self.name]


@dataclass(frozen=True)
class Catalogue:
    """kinds: each with what is in it. correct: the correct ports, name to what is different.
    sources: hashes of their code. sized: mistakes of any size, kind to what the size is of."""

    kinds: Mapping[str, str]
    defects: tuple[Defect, ...]
    correct: Mapping[str, str]
    sources: Mapping[str, str]
    sized: Mapping[str, str]
    sizes_source: str

    def everywhere(self, bases: Sequence[str] = BASES) -> list[Defect]:
        """Every defect in every base port; in ours alone those of exported files, and those that
        are below what can be seen in the others."""
        return [replace(one, base=base) for base in bases for one in self.defects
                if base == OURS or not (one.export or one.limit)]


@cache
def catalogue() -> Catalogue:
    """All plants, as ``planted`` lists them in a process of its own. Raises CatalogueError."""
    done = subprocess.run([sys.executable, "-m", "planted", "--list"], cwd=ROOT, check=False,
                          capture_output=True, text=True)
    if done.returncode:
        raise CatalogueError("the plants cannot be listed: " + (done.stderr.strip().splitlines()
                                                                or ["no word"])[-1])
    given: dict[str, Any] = json.loads(done.stdout)
    return Catalogue(given["kinds"], tuple(Defect(**one) for one in given["mistakes"]),
                     {one["name"]: one["what"] for one in given["correct"]},
                     {one["name"]: one["source"] for one in given["correct"]}, given["sized"],
                     given["sizes_source"])
