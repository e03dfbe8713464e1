"""Where CNTK did not run: is what stood in for it CNTK's? Every array of the reference's capture
against the certificate that was recorded of real CNTK, and its twin run against the recorded one.

On a machine where the port's arithmetic has CNTK's bits, the bits are asked for. On another the
certificate's values and moments are compared, and the notes say how likely wrong values would be
missed.
"""
from collections.abc import Iterator

import numpy as np

from captures.certificate import Certificate, Found, missed
from captures.format import Capture
from parity.golden.store import certificate_of, stands_in
from parity.judge import judgements
from parity.judge.policies import CERTIFIED, EXACT, FIRST_LOSS
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, Shown, array_or_failure
from parity.stages.definition import Definition, Needs
from parity.stages.in_step import LOSSES

UNCERTIFIED = "no certificate is of this plan"
RUN = {"minibatch_sha256": 1, "latents_hashes": 2, "state_hashes": 1}  # entries an iteration


def judge(stage: Stage, captures: Captures) -> None:
    capture = captures.cntk.whole if isinstance(captures.cntk, Shown) else captures.cntk
    if not stands_in(capture):
        stage.not_judged = "real CNTK made the reference itself"
        return
    twin(stage, captures.twins.get("cntk"))
    certificate = certificate_of(capture.manifest["plan"])
    if certificate is None:
        if not stage.checks:
            stage.not_judged = UNCERTIFIED
        return
    bits = bool(capture.facts.get("bits"))
    checks = []
    for name in [*certificate, *(one for one in capture if one not in certificate)]:
        array = array_or_failure(capture, name)
        if isinstance(array, Check):
            checks.append(array)
        elif name not in certificate:
            checks.append(judgements.missing(name, "the certificate has no such array"))
        else:
            checks.append(held(name, array, certificate, bits))
    exact = {check.place for check in checks if check.passed and check.policy == EXACT.name}
    captures.found[REFERENCE.name] = len(exact)
    stage.checks[:0] = checks
    stage.notes[:0] = coverage(certificate, exact)


def twin(stage: Stage, capture: Capture | None) -> None:
    """The twin run of what stands in for CNTK, against the recorded one."""
    if capture is None:
        return
    certificate = certificate_of(capture.manifest["plan"], job="twin")
    if certificate is None:
        stage.notes.append("the twin run's reference is this project's port's own arithmetic: no "
                           "certificate is of its plan")
        return
    asked = int(capture.manifest["plan"]["twin_iterations"])
    count = min(asked, len(certificate.facts["state_hashes"]))
    if capture.facts.get("bits"):
        stage.checks += same_run(capture, certificate, count)
        taken = capture.facts.get("from_certificate", 0)
        stage.notes.append(
            f"the twin run's reference: {count} of {asked} iterations held against those recorded "
            f"of CNTK" + (f", {taken} of them taken from there" if taken else ""))
    else:
        ours, theirs = (float(losses[0, 0]) for losses in (capture[LOSSES], recorded(certificate)))
        stage.checks.append(judgements.within(
            "twin/iteration0001/D_loss", abs(ours / theirs - 1), FIRST_LOSS,
            f"the first D loss is {ours:.9g}, CNTK's was {theirs:.9g}"))
        stage.notes.append("this machine's arithmetic has not CNTK's bits: of the recorded twin "
                           "run the first loss alone was compared, since whatever rounds otherwise "
                           "parts within five iterations")


def recorded(certificate: Certificate) -> np.ndarray:
    return certificate.kept(LOSSES).reshape(certificate.entries[LOSSES]["shape"])


def same_run(capture: Capture, certificate: Certificate, count: int) -> Iterator[Check]:
    """Bits of all that the run begins with, reads, draws and moves."""
    a, b = (facts["initial_sha256"] for facts in (capture.facts, certificate.facts))
    wrong = sorted(name for name in {**a, **b} if a.get(name) != b.get(name))
    place = wrong[0] if a and wrong else "weights"
    yield judgements.within(f"twin/initial/{place}", len(wrong), EXACT,
                            f"other initial values than CNTK's in {', '.join(wrong[:3])}")
    for fact, each in RUN.items():
        ours, theirs = (facts[fact][:count * each] for facts in (capture.facts, certificate.facts))
        other = [i // each + 1 for i, one in enumerate(theirs)
                 if i >= len(ours) or ours[i] != one]
        yield judgements.within(f"twin/run/{fact}", len(other), EXACT,
                                f"those of iterations {other[:5]} are not CNTK's")
    losses = array_or_failure(capture, LOSSES)
    yield losses if isinstance(losses, Check) else judgements.same_bits(
        LOSSES, losses[:count], recorded(certificate)[:count])


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


def coverage(certificate: Certificate, exact: set[str]) -> list[str]:
    """What was compared how, and what that would miss. exact: names of those with CNTK's bits."""
    made_by = certificate.made_by
    notes = [f"{len(exact):,} of {len(certificate):,} arrays have the bits that real CNTK's have, "
             f"recorded on {made_by.get('date', 'some day')} with cntk "
             f"{made_by.get('versions', {}).get('cntk', '?')}"]
    sizes = {name: int(np.prod(certificate.entries[name]["shape"], dtype=np.int64))
             for name in certificate if name not in exact}
    if not sizes:
        return notes
    whole = [name for name in sizes if certificate.is_whole(name)]
    sampled = [sizes[name] for name in sizes if not certificate.is_whole(name)]
    notes.append(f"without CNTK's bits: {len(whole)} arrays compared whole by value "
                 f"({sum(sizes[name] for name in whole):,} values), {len(sampled)} by "
                 f"{certificate.values} values each and four moments (of {sum(sampled):,} values)")
    if sampled:
        size = max(sampled)
        odds = ", ".join(f"{k:,} with {missed(size, certificate.values, k):.4g}"
                         for k in wrong_values(size))
        notes.append(f"in the largest of them, {size:,} values, so many wrong values are missed by "
                     f"the sample with probability: {odds}; a moment notices what moves it by "
                     f"{CERTIFIED.value:g} of the array's size")
    return notes


def wrong_values(size: int) -> list[int]:
    """1, a thousandth, a hundredth and a tenth of an array."""
    return sorted({1, max(size // 1000, 1), max(size // 100, 1), max(size // 10, 1)})


REFERENCE = Definition(
    "reference", "what stood in for CNTK, against what was recorded of it", "exact bits", judge,
    {"cntk": Needs(arrays=("state",))})
