"""The reference's capture without CNTK: the port does what CNTK's capture program does, array for
array under the same names, from the plan alone.

Where the port has CNTK's bits this is CNTK's capture; a certificate (captures/certificate.py),
recorded once from real CNTK, says array by array whether it is. Without one it is the port's own
arithmetic and no more than that.

    python -m torch_port.stand_in --plan PLAN.json --output FOLDER [--certificate FILE]
                                  [--job layers|twin] [--beside FOLDER]

What CNTK's side writes beside arrays (its model and ONNX files) cannot be computed: it is put
together from the certificate's bytes and the arrays of the state.
"""
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from captures import observe
from captures.certificate import Certificate, CertificateError
from captures.format import CaptureWriter
from captures.plan import LARGEST_SEED, Latents, Plan
from captures.process import progress
from torch_port.capture.layers import Layers, optimizer_values, values
from torch_port.capture.recorder import Note, Recorder
from torch_port.capture.seed import seed_part
from torch_port.dcgan import Networks, empty_networks, normalized
from torch_port.reader.augmentation import bit_exact
from torch_port.rounding import as_cntk_rounds, follows_cntk
from torch_port.stand_in.twin import twin_job
from torch_port.train.run import Run

NUDGES = 3  # of the inputs in evaluation mode, as on CNTK's side
FROM_CNTK = ("evaluation_nudged", "unsteadiness")
LATER = ("state", "optimizer/state", "input", "step/0001")  # what a later part begins at


class Kept(CaptureWriter):
    """A writer whose arrays of ``LATER`` can be read again while it is being made: ``kept``."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kept: dict[str, np.ndarray] = {}

    def add(self, name: str, array: np.ndarray | np.generic) -> None:
        super().add(name, array)
        if name.startswith(LATER):
            self.kept[name] = np.array(array)


class StandIn(Layers):
    """``Layers`` that begin at the port's own state instead of a reference's."""

    def networks(self, stage: str = "state") -> Networks:
        made = empty_networks(self.spec)
        made.load({name: self.reference[self._at(stage, name, "state")] for name in made.arrays()})
        return made

    def loaded(self, state: dict[str, np.ndarray], networks: Networks) -> None:
        """It is there already."""

    def on_their_own(self, run: Callable[[], None]) -> None:
        """A reference is no port: nothing is computed on another's inputs."""

    @torch.no_grad()
    def _evaluated(self, networks: Networks, x: torch.Tensor, z: torch.Tensor
                   ) -> dict[str, np.ndarray]:
        chain, spec = Recorder(), self.spec
        fake = networks.generator(z, chain.branch(spec.maker.name))
        networks.discriminator(fake, chain.branch(spec.fake))
        networks.discriminator(normalized(x, spec.middle), chain.branch(spec.real))
        return chain.arrays()

    def nudged(self) -> dict[str, dict[str, float]]:
        """As ``moved_by_a_nudge`` of CNTK's capture."""
        networks = self.networks().eval()
        outputs = self._evaluated(networks, self.x, self.z_d)
        made = {name: {"error": 0.0, "largest": 0.0} for name in outputs}
        for seed in range(NUDGES):
            moved = self._evaluated(networks, _moved(self.x, 2 * seed + 1),
                                    _moved(self.z_d, 2 * seed + 2))
            for name, value in outputs.items():
                apart = np.abs(moved[name] - value).ravel()
                size = float(np.sqrt(np.dot(value.ravel(), value.ravel())))
                found = {"error": float(np.sqrt(np.dot(apart, apart))) / size if size else 0.0,
                         "largest": float(apart.max())}
                made[name] = {key: max(found[key], made[name][key]) for key in found}
        return made

    @torch.no_grad()
    def unsteadiness(self) -> dict[str, dict[str, float]]:
        """As ``unsteadiness`` of CNTK's capture."""
        outputs = self._trained(self.x, self.z_d)

        def apart(got: dict[str, np.ndarray], order: slice) -> dict[str, float]:
            return {name: float(np.sqrt(np.mean((got[name][order] - value) ** 2)
                                        / max(float(np.mean(value ** 2)), 1e-30)))
                    for name, value in outputs.items()}

        return {"reversed": apart(self._trained(self.x.flip(0), self.z_d.flip(0)),
                                  slice(None, None, -1)),
                "nudged": apart(self._trained(_moved(self.x, 1), _moved(self.z_d, 2)),
                                slice(None))}

    def _trained(self, x: torch.Tensor, z: torch.Tensor) -> dict[str, np.ndarray]:
        return self._evaluated(self.networks().train(), x, z)


def _moved(values: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.from_numpy(observe.moved_by_one_ulp(values.numpy(), seed))


def warmed_up(writer: Kept, plan: Plan) -> None:
    """Some iterations of the article's training; then its state and the next minibatch's inputs."""
    run = Run.from_seed(plan.seed, plan.map_file, plan.minibatch_size, bool(plan.unit_gain),
                        spec=plan.spec)
    for _ in itertools.islice(run.iterations(), plan.warmup_iterations):
        pass
    state = values(run.networks)
    for name, value in state.items():
        scaled = name.endswith("/weight") and plan.weight_scale_exponent
        writer.add("state/" + name, value * np.float32(2.0 ** plan.weight_scale_exponent)
                 if scaled else value)
    optimizers = (run.generator_optimizer, run.discriminator_optimizer)
    for name, value in optimizer_values(run.networks, optimizers).items():
        writer.add("optimizer/state/" + name, value)
    size = plan.minibatch_size
    writer.add("input/d_step/latents", run.latents.next(size))
    writer.add("input/g_step/latents", run.latents.next(size))
    writer.add("input/score/latents",
             Latents((plan.seed + 1) % (LARGEST_SEED + 1), plan.spec.maker.input[0]).next(
                 plan.score_images))


def stand_in_job(writer: Kept, plan: Plan, note: Note) -> None:
    """All of CNTK's job "layers"."""
    parts = 6
    note("stand-in: reader, optimizer and pointwise functions", 0, parts)
    seed_part(writer, plan)
    note(f"stand-in: {plan.warmup_iterations} iterations of the article's program", 1, parts)
    warmed_up(writer, plan)
    layers = StandIn(writer.kept, plan, torch.float32, writer, pictures=True)
    note("stand-in: every layer in evaluation mode", 2, parts)
    layers.evaluation()
    writer.fact("evaluation_nudged", layers.nudged())
    note("stand-in: every layer in training mode, and its gradients", 3, parts)
    layers.training_d()
    writer.fact("unsteadiness", layers.unsteadiness())
    note("stand-in: one step of the discriminator, one of the generator", 4, parts)
    layers.steps()
    note("stand-in: the generator's gradients", 5, parts)
    layers.training_g()


def attach(writer: Kept, certificate: Certificate) -> None:
    """CNTK's own files, put together; none where a weight is not CNTK's."""
    for name in certificate.attached:
        try:
            data = certificate.file(name, writer.kept)
        except CertificateError as error:
            writer.fact("no_files", str(error))
            return
        path = Path(writer.folder) / name
        path.write_bytes(data)
        writer.attach(path)


def make(plan_file: Path, output: Path, certificate: Path | None, job: str = "layers",
         beside: Path | None = None) -> None:
    """job: of CNTK's capture program. beside: of the job "twin".

    Raises ParityError, OSError."""
    started = time.time()
    plan = Plan.load(str(plan_file))
    certified = None if certificate is None else Certificate(str(certificate))
    torch.set_num_threads(plan.threads)
    as_cntk_rounds(plan.cntk_threads)

    with Kept(str(output), "stand-in", plan,
              {"torch": torch.__version__, "numpy": np.__version__}, plan.threads, job) as writer:
        if job == "twin":
            twin_job(writer, plan, progress, None if beside is None else str(beside), certified)
        else:
            stand_in_job(writer, plan, progress)
            if certified is not None:
                attach(writer, certified)
                for name in FROM_CNTK:  # measured in CNTK, by the numpy of its time
                    if name in certified.facts:
                        writer.fact(name, certified.facts[name])
        writer.fact("bits", follows_cntk(torch.zeros(1)) and bit_exact())
        writer.fact("seconds", time.time() - started)
