"""Where CNTK did not run: is what stood in for it CNTK's? Every array of the reference's capture
against the certificate that was recorded of real CNTK.

On a machine where the port's arithmetic has CNTK's bits, the bits are asked for. On another the
certificate's values and moments are compared, and the notes say how likely wrong values would be
missed.
"""
import numpy as np

from captures.certificate import Certificate, Found, missed
from parity.golden.store import certificate_of, stands_in
from parity.judge import judgements
from parity.judge.policies import CERTIFIED, EXACT
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, array_or_failure
from parity.stages.definition import Definition, Needs


def judge(stage: Stage, captures: Captures) -> None:
    capture = captures.cntk
    if not stands_in(capture):
        stage.not_judged = "real CNTK made the reference itself"
        return
    certificate = certificate_of(capture.manifest["plan"])
    if certificate is None:
        stage.not_judged = "no certificate is of this plan"
        return
    bits = bool(capture.facts.get("bits"))
    for name in [*certificate, *(one for one in capture if one not in certificate)]:
        array = array_or_failure(capture, name)
        if isinstance(array, Check):
            stage.checks.append(array)
        elif name not in certificate:
            stage.checks.append(judgements.missing(name, "the certificate has no such array"))
        else:
            stage.checks.append(held(name, array, certificate, bits))
    captures.found[REFERENCE.name] = sum(check.passed and check.policy == EXACT.name
                                         for check in stage.checks)
    stage.notes += coverage(certificate, captures.found[REFERENCE.name], bits)


def held(name: str, array: np.ndarray, certificate: Certificate, bits: bool) -> Check:
    """One array against its entry."""
    found: Found | None = certificate.compare(name, array)
    if found is None:
        entry = certificate.entries[name]
        return judgements.missing(name, f"it is {array.dtype} {np.shape(array)}, the certificate "
                                        f"has {entry['dtype']} {tuple(entry['shape'])}")
    if found.bits or bits:
        return judgements.within(
            name, 0 if found.bits else max(found.differing, 1), EXACT,
            f"its SHA-256 is not the certificate's; of {found.compared} values that are kept "
            f"{found.differing} differ")
    return judgements.within(
        name, max(found.largest, found.moments), CERTIFIED,
        f"a value or a moment is {max(found.largest, found.moments):.3g} of the array's size off")


def coverage(certificate: Certificate, exact: int, bits: bool) -> list[str]:
    """What was compared how, and what that would miss."""
    made_by = certificate.made_by
    notes = [f"{exact:,} of {len(certificate):,} arrays have the bits that real CNTK's have, "
             f"recorded on {made_by.get('date', 'some day')} with cntk "
             f"{made_by.get('versions', {}).get('cntk', '?')}"]
    if not bits:
        sizes = [int(np.prod(certificate.entries[name]["shape"], dtype=np.int64))
                 for name in certificate if not certificate.is_whole(name)]
        size = max(sizes, default=0)
        notes.append(
            f"this machine's arithmetic has not CNTK's bits: {certificate.values} values and four "
            f"moments of each larger array were compared. Of the largest, {size:,} values, one "
            f"wrong value in a hundred is missed with probability "
            f"{missed(size, certificate.values, size // 100):.2g}, a single one with "
            f"{missed(size, certificate.values, 1):.6f}")
    return notes


REFERENCE = Definition(
    "reference", "what stood in for CNTK, against what was recorded of it", "exact bits", judge,
    {"cntk": Needs(arrays=("state",))})
