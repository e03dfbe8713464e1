"""The twin run of the port, from the seed alone."""
import hashlib

import numpy as np
from torch import Tensor

from captures import observe
from captures.format import CaptureWriter
from captures.plan import Plan
from torch_port.capture.layers import values
from torch_port.capture.recorder import Note
from torch_port.train.run import Run


def twin_job(writer: CaptureWriter, plan: Plan, note: Note) -> None:
    run = Run.from_seed(plan.seed, plan.map_file, plan.twin_minibatch_size, bool(plan.unit_gain),
                        spec=plan.spec)
    writer.fact("initial_sha256", {name: hashlib.sha256(value.tobytes()).hexdigest()
                                   for name, value in values(run.networks).items()})
    hashes: list[str] = []
    read = run.reader.minibatch

    def watched(step: int) -> Tensor:
        x = read(step)
        hashes.append(hashlib.sha256(x.numpy().tobytes()).hexdigest())
        return x

    run.reader.minibatch = watched  # type: ignore[method-assign]
    pairs, samples = [], []
    names = [name for name in plan.spec.arrays if name.endswith(("/weight", "/scale", "/bias"))]
    steps = run.iterations()
    for i in range(plan.twin_iterations):
        note(f"port: twin run, iteration {i + 1} of {plan.twin_iterations}", i,
             plan.twin_iterations)
        G_loss, D_loss, _ = next(steps)
        pairs.append([D_loss, G_loss])
        arrays = run.networks.arrays()
        samples.append(np.concatenate([observe.sampled(arrays[name].detach().numpy())
                                       for name in names]))
    writer.add("twin/run/losses/d_and_g", np.array(pairs, np.float64))
    writer.add("twin/run/weights/sampled", np.array(samples, np.float32))
    writer.fact("minibatch_sha256", hashes)
