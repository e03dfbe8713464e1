"""Is a planted mistake found with certificates where real CNTK finds it?

Each mistake is examined twice, on narrow networks: against captures of real CNTK, and against those
of this project's port in its place, held against a certificate that was recorded of the former. The
judge is a function of the captures, so the two answers are the same where the captures are; what is
shown is that they are, down to facts and attached files.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from captures.certificate import Certificate
from captures.files import write_text
from captures.format import Capture
from captures.plan import Plan
from parity.evidence import defects
from parity.evidence.defect import OURS, Defect, catalogue
from parity.evidence.examine import Result
from parity.evidence.plans import plan_of
from parity.evidence.reference import some_images, stand_in_reference
from parity.producers.jobs import ROOT

DOCS = ROOT / "docs" / "certified-defects.md"


@dataclass(frozen=True)
class Both:
    """One mistake: what was found with real CNTK, and with certificates."""

    defect: Defect
    cntk: Result
    certified: Result

    @property
    def same(self) -> bool:
        return self.cntk.caught and all(
            getattr(self.cntk, name) == getattr(self.certified, name)
            for name in ("stage", "place", "local", "blame", "margin"))


def chosen(only: Sequence[str], each: int) -> list[Defect]:
    """Every mistake in our port, or those of the names; with ``each`` so many of a kind."""
    found = defects.Wanted(only, (OURS,)).chosen()
    if only or not each:
        return found
    return [one for kind in catalogue().kinds
            for one in [one for one in found if one.kind == kind][:each]]


def main(map_file: Path, output: Path, only: Sequence[str], each: int, console: Console) -> int:
    """0: every one is found at the same place with both. 1: not so."""
    wanted = chosen(only, each)
    plan = plan_of(some_images(map_file, output))
    real, certified = output / "cntk", output / "certificate"

    def stand_in(plan: Plan, folder: Path, console: Console) -> Path:
        return stand_in_reference(plan, real / folder.name, folder, console)

    with_cntk = defects.run(wanted, plan, real, console)
    without = defects.run(wanted, plan, certified, console, stand_in)
    bits = with_bits(certified)
    lines = [Both(one, with_cntk[one.title], without[one.title]) for one in wanted]
    text = documentation(lines, bits, len(chosen((), 0)))
    write_text(output / DOCS.name, text)
    if not only and not each:
        write_text(DOCS, text)
    for line in lines:
        if not line.same:
            console.print(f"{line.defect.title}: with CNTK {line.cntk.stage or 'nothing'}: "
                          f"{line.cntk.place}, with certificates "
                          f"{line.certified.stage or line.certified.error or 'nothing'}: "
                          f"{line.certified.place}", markup=False, highlight=False)
    same = sum(line.same for line in lines)
    console.print(f"{same} of {len(lines)} at the same place; {bits[0]} of {bits[1]} arrays of the "
                  "stand-in have CNTK's bits", highlight=False)
    return 0 if same == len(lines) and bits[0] == bits[1] else 1


def with_bits(folder: Path) -> tuple[int, int]:
    """Of the arrays that were recorded of CNTK, for every plan: how many the stand-in made bit for
    bit, of how many."""
    same: list[bool] = []
    for path in sorted(folder.glob("reference*/cntk.certificate")):
        kept, made = Certificate(str(path)), Capture(path.parent / "cntk")
        same += [name in made and (one := kept.compare(name, made.as_it_is(name))) is not None
                 and one.bits for name in kept]
    return sum(same), len(same)


def documentation(lines: Sequence[Both], bits: tuple[int, int], of: int) -> str:
    same = sum(line.same for line in lines)
    text = ["# Planted defects, found with certificates", "",
            "Made by `bin/parity certified-defects`; not written by hand. Narrow networks, our own "
            f"port: {len(lines)} of its {of} planted mistakes. With real CNTK as the reference, "
            "and with this project's port in its place, whose capture was held against a "
            f"certificate of CNTK's: {bits[0]} of {bits[1]} arrays have its bits. "
            f"{same} of {len(lines)} are found at the same place, by the same margin.", "",
            "| defect | with real CNTK | with a certificate | same |",
            "| --- | --- | --- | --- |"]
    for line in lines:
        a, b = (f"{one.stage} `{one.place}`" if one.caught else one.error or "**nothing**"
                for one in (line.cntk, line.certified))
        text.append(f"| {line.defect.title} | {a} | {b} | {'yes' if line.same else '**no**'} |")
    return "\n".join(text) + "\n"

