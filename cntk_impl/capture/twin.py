"""The twin run on CNTK, from the seed alone: what it read, drew and moved, each iteration."""
import hashlib
from typing import Callable, Dict, List, Optional

import numpy as np

from captures import observe
from captures.format import CaptureWriter
from captures.lockstep import Leader
from captures.plan import Latents, Plan
from cntk_impl import dcgan_training as program
from cntk_impl.capture import model
from cntk_impl.capture.layers import Watched
from cntk_impl.capture.observed import Observed, optimizer_values


def twin_job(writer: CaptureWriter, plan: Plan, note: Callable[..., None], nudge: int,
             beside: Optional[str] = None) -> None:
    observed = Observed(plan.spec, plan.seed)
    if nudge:
        for name, held in observed.state.items():
            if name.endswith("/weight"):
                held.value = observe.moved_by_one_ulp(held.value, nudge)
    writer.fact("initial_sha256", {
        name: hashlib.sha256(value.tobytes()).hexdigest()
        for name, value in observed.values().items()})
    size = plan.twin_minibatch_size
    reader = model.reader(plan.spec, plan.map_file, plan.seed)
    hashes: List[str] = []
    trainers = program.create_trainers(observed.networks, size, bool(plan.unit_gain))
    latents = observe.Watched(Latents(plan.seed, plan.spec.maker.input[0]))
    steps = program.iterate(observed.networks, trainers, Watched(reader, hashes, plan.spec),
                            latents, size)
    leader = Leader(beside)
    states: List[Dict[str, str]] = []
    losses, samples = [], []
    weights = [name for name in plan.spec.arrays if name.endswith(("/weight", "/scale", "/bias"))]
    for i in range(plan.twin_iterations):
        note("CNTK: twin run%s, iteration %d of %d" % (
            " from weights moved by one ULP (%d)" % nudge if nudge else "", i + 1,
            plan.twin_iterations), i, plan.twin_iterations)
        G_loss, D_loss, _ = next(steps)
        losses.append([D_loss, G_loss])
        samples.append(np.concatenate([observe.sampled(observed.state[name].value)
                                       for name in weights]))
        arrays = dict(observed.values(), **optimizer_values(observed, trainers))
        states.append(observe.hashes(arrays))
        leader.done(i + 1, dict(states[-1], D_loss=D_loss, G_loss=G_loss), arrays)
    writer.add("twin/run/losses/d_and_g", np.array(losses, np.float64))
    writer.add("twin/run/weights/sampled", np.array(samples, np.float32))
    writer.fact("minibatch_sha256", hashes)
    writer.fact("latents_hashes", latents.hashes)
    writer.fact("state_hashes", states)
    writer.fact("mode", leader.mode)
