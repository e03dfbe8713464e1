"""The reference's twin run without CNTK.

Where the port's first iteration has the bits that were recorded of CNTK's, and the port that is
judged beside it has them too, nothing needs to be computed: the recorded hashes, losses, latents
and minibatches of CNTK's own run are the reference, iteration by iteration. Where the judged port
has them not, it is given a state before each iteration, as CNTK would give it
(captures/lockstep.py): the port's own, which the hashes say is CNTK's. Without a certificate of the
plan it is the port's own arithmetic and no more than that.
"""
import numpy as np

from captures.certificate import Certificate
from captures.format import CaptureWriter
from captures.lockstep import BITS, Leader
from captures.plan import Plan
from torch_port.capture.layers import values
from torch_port.capture.recorder import Note
from torch_port.capture.twin import Observed, initial_hashes, observed_run, state_of

LOSSES = "twin/run/losses/d_and_g"


def twin_job(writer: CaptureWriter, plan: Plan, note: Note, beside: str | None,
             certificate: Certificate | None) -> None:
    seen = Observed()
    run, latents = observed_run(plan, seen)
    writer.fact("initial_sha256", initial_hashes(values(run.networks)))
    leader, steps = Leader(beside), run.iterations()
    for i in range(plan.twin_iterations):
        if leader.mode == BITS and i and covers(certificate, plan, seen):
            assert certificate is not None
            as_recorded(writer, plan, certificate, i)
            break
        note(f"stand-in: twin run, iteration {i + 1} of {plan.twin_iterations}", i,
             plan.twin_iterations)
        G_loss, D_loss, _ = next(steps)
        arrays = state_of(run)
        seen.add(D_loss, G_loss, arrays)
        leader.done(i + 1, dict(seen.states[-1], D_loss=D_loss, G_loss=G_loss), arrays)
    else:
        seen.write(writer)
        writer.fact("latents_hashes", latents.hashes)
        writer.fact("from_certificate", 0)
    writer.fact("mode", leader.mode)


def covers(certificate: Certificate | None, plan: Plan, seen: Observed) -> bool:
    """Whether CNTK's run was recorded at this length, and what was computed so far is its."""
    if certificate is None or not certificate.is_whole(LOSSES):
        return False
    states = certificate.facts["state_hashes"]
    return len(states) >= plan.twin_iterations and states[:len(seen.states)] == seen.states


def as_recorded(writer: CaptureWriter, plan: Plan, certificate: Certificate, computed: int) -> None:
    """CNTK's own run, up to the plan's length. computed: iterations that were computed before."""
    n = plan.twin_iterations
    losses = certificate.kept(LOSSES).reshape(certificate.entries[LOSSES]["shape"])
    writer.add(LOSSES, np.ascontiguousarray(losses[:n]))
    for name, each in (("minibatch_sha256", 1), ("latents_hashes", 2), ("state_hashes", 1)):
        writer.fact(name, certificate.facts[name][:each * n])
    writer.fact("from_certificate", n - computed)
