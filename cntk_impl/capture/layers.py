"""Every layer, gradient and step of both networks on CNTK, from a warmed-up state. Python 3.6."""
import hashlib
import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import cntk as C
import numpy as np

from captures import observe
from captures.format import CaptureWriter
from captures.plan import LARGEST_SEED, Latents, Plan
from captures.spec import Spec
from cntk_impl import dcgan_training as program
from cntk_impl.capture import model
from cntk_impl.capture.observed import (
    Observed,
    Trained,
    evaluated,
    facts_of_parameters,
    forward,
    optimizer_values,
    trained,
)
from cntk_impl.capture.pictures import score_pictures
from cntk_impl.capture.probes import (
    probe_normalisation,
    probe_optimizer,
    probe_pointwise,
    probe_reader,
)
from cntk_impl.training_state import save_function
from environment.quiet import quiet_stderr

NUDGES = 3  # of the inputs in evaluation mode


Note = Callable[..., None]
Values = Dict[str, np.ndarray]


# --------------------------------------------------------------------------------------- the job


def layers_job(writer: CaptureWriter, plan: Plan, note: Note,
               trained_generator: Optional[str] = None, classifier: Optional[str] = None,
               pictures: bool = False) -> None:
    """trained_generator, classifier: files, or None; pictures: see ``pictures.score_pictures``."""
    note("CNTK: reader, optimizer and pointwise functions")
    probe_reader(writer, plan)
    probe_optimizer(writer, plan)
    probe_normalisation(writer, plan)
    probe_pointwise(writer, plan)
    layers = Layers(writer, plan, note)
    note("CNTK: every layer in evaluation mode")
    layers.evaluation()
    note("CNTK: pictures for the score")
    score_pictures(writer, plan, layers.networks, layers.z_score, trained_generator, classifier,
                   pictures)
    note("CNTK: every layer in training mode, and its gradients")
    layers.training()
    note("CNTK: one step of the discriminator, one of the generator")
    layers.steps()


class Layers:
    """Both networks in the state that the warm-up left, and what they are given there.

    observed: the networks that the trainers move. tapped: others, in the same state, whose layers'
    gradients can be had. batch, x, z_d, z_g: of the D step and of the G step behind it.
    """

    def __init__(self, writer: CaptureWriter, plan: Plan, note: Note) -> None:
        self.writer, self.plan, self.spec = writer, plan, plan.spec
        note("CNTK: initial weights")
        self.observed = Observed(plan.spec, plan.seed)
        self.networks = self.observed.networks
        self._add("initial", self.observed.values())
        writer.fact("parameters", facts_of_parameters(self.observed))
        reader = model.reader(plan.spec, plan.map_file, plan.seed)
        latents = Latents(plan.seed, plan.spec.maker.input[0])
        self.trainers = program.create_trainers(self.networks, plan.minibatch_size,
                                                bool(plan.unit_gain))
        note("CNTK: %d iterations of the article's program" % plan.warmup_iterations)
        self._warm_up(reader, latents)
        if plan.weight_scale_exponent:
            scaled(self.observed, 2.0 ** plan.weight_scale_exponent)
        self.state, self.moments = self._now()
        self._add("state", self.state)
        self._add("optimizer/state", self.moments)
        self._save_files()

        self.batch = reader.next_minibatch(plan.minibatch_size)[reader.streams.images]
        self.x = model.pixels(plan.spec, self.batch)
        self.z_d, self.z_g = (latents.next(plan.minibatch_size) for _ in range(2))
        self.z_score = Latents((plan.seed + 1) % (LARGEST_SEED + 1),
                               plan.spec.maker.input[0]).next(plan.score_images)
        self._add("input", {"reader/images": self.x, "d_step/latents": self.z_d,
                            "g_step/latents": self.z_g, "score/latents": self.z_score})
        self.tapped = Observed(plan.spec, plan.seed, tapped=True)
        self.tapped.set_values(self.state)

    def _add(self, place: str, values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            self.writer.add("%s/%s" % (place, name), value)

    def _now(self) -> Tuple[Values, Values]:
        """The networks' arrays, and the learners'."""
        return self.observed.values(), optimizer_values(self.observed, self.trainers)

    def _warm_up(self, reader: Any, latents: Latents) -> None:
        """Some iterations of the article's program; minibatches are recorded by their hashes."""
        hashes: List[str] = []
        watched = Watched(reader, hashes, self.spec)
        for i, _ in enumerate(program.iterate(
                self.networks, self.trainers, watched, latents, self.plan.minibatch_size), 1):
            if i == self.plan.warmup_iterations:
                break
        self.writer.fact("warmup_minibatches", hashes)

    def _save_files(self) -> None:
        for network, function in zip(self.spec.networks,
                                     (self.networks.G_fake, self.networks.D_real)):
            path = os.path.join(self.writer.folder, network.name)
            save_function(function, path + ".model")
            self.writer.attach(path + ".model")
            with quiet_stderr():  # the exporter's remarks
                save_function(function, path + ".onnx", C.ModelFormat.ONNX)
            self.writer.attach(path + ".onnx")

    def evaluation(self) -> None:
        got = every_layer_evaluated(self.tapped, self.x, self.z_d)
        self._add("forward/evaluation", got)
        self.writer.fact("evaluation_nudged", moved_by_a_nudge(self.tapped, got, self.x, self.z_d))
        self.writer.fact("evaluation_changes", observe.changed(self.state, self.tapped.values()))

    def training(self) -> None:
        """Of the D step."""
        tapped, everything = self.tapped, tuple(branch.name for branch in self.spec.branches)
        got = trained(tapped, tapped.networks.D_loss,
                      {tapped.networks.x: self.x, tapped.networks.z: self.z_d}, *everything)
        self._add("forward/training", got.outputs)
        self._add_gradients("d", got)
        self.writer.fact("unsteadiness", unsteadiness(
            tapped, got.outputs, self.x, self.z_d, self.state, everything))

    def _add_gradients(self, step: str, got: Trained) -> None:
        """In the D step the images that the maker made are given: nothing of it has a gradient."""
        of_maker, of_learner = self.spec.maker.name + "/", self.spec.learns(step).name + "/"
        self._add("gradient/" + step, {name: value for name, value in got.gradients.items()
                                       if step == "g" or not name.startswith(of_maker)})
        self._add("gradient/" + step, {name: value for name, value in got.of_parameters.items()
                                       if name.startswith(of_learner)})
        self.writer.add("gradient/%s/loss/samples/value" % step, got.losses)

    def steps(self) -> None:
        """One D step by the trainer; every layer of the G step from there; the G step."""
        before = dict(self.state, **self.moments)
        between = self._step("d", {self.networks.x: self.batch.data, self.networks.z: self.z_d})
        events = observe.events("d_step", before, between)
        del before
        self.tapped.set_values(between)
        got = trained(self.tapped, self.tapped.networks.G_loss,
                      {self.tapped.networks.z: self.z_g}, self.spec.maker.name, self.spec.fake)
        self._add("forward/g_step", got.outputs)
        self._add_gradients("g", got)
        del got
        after = self._step("g", {self.networks.z: self.z_g})
        self.writer.fact("ledger", events + observe.events("g_step", between, after))

    def _step(self, step: str, arguments: Mapping[Any, Any]) -> Values:
        """What stands behind it, all of it; what it may move goes into the capture."""
        trainer = self.trainers["gd".index(step)]
        trainer.train_minibatch(arguments)
        after = self._now()
        place = "step/0001/after_" + step
        for values in after:
            self._add(place, dict(observe.of_step(values, self.spec.learns(step).name)))
        self.writer.add("%s/loss/%s/mean" % (place, step),
                        np.float32(trainer.previous_minibatch_loss_average))
        return dict(after[0], **after[1])


# ------------------------------------------------------------------------------ what is measured


def every_layer_evaluated(observed: Observed, x: np.ndarray, z: np.ndarray) -> Values:
    spec = observed.spec
    got = evaluated(observed, {observed.networks.z: z}, spec.maker.name, spec.fake)
    got.update(evaluated(observed, {observed.networks.x: x}, spec.real))
    return got


def moved_by_a_nudge(observed: Observed, outputs: Values, x: np.ndarray, z: np.ndarray
                     ) -> Dict[str, Dict[str, float]]:
    """How far each layer's output in evaluation mode moves when every pixel and latent is moved by
    one ULP, the largest of NUDGES times: place to {"error": root mean square as a part of the
    layer's own, "largest": absolute}. (Several, for the logits: there is one a sample, and one
    number may stay where it was by chance.)"""
    made = {name: {"error": 0.0, "largest": 0.0} for name in outputs}
    for seed in range(NUDGES):
        moved = every_layer_evaluated(observed, observe.moved_by_one_ulp(x, 2 * seed + 1),
                                      observe.moved_by_one_ulp(z, 2 * seed + 2))
        for name, value in outputs.items():
            apart = np.abs(moved[name] - value).ravel()
            size = np.sqrt(np.dot(value.ravel(), value.ravel()))
            found = {"error": float(np.sqrt(np.dot(apart, apart)) / size) if size else 0.0,
                     "largest": float(apart.max())}
            made[name] = {key: max(found[key], made[name][key]) for key in found}
    return made


def unsteadiness(observed: Observed, outputs: Values, x: np.ndarray, z: np.ndarray, state: Values,
                 branches: Sequence[str]) -> Dict[str, Dict[str, float]]:
    """How far CNTK is from itself, per layer in training mode, as a part of the layer's size: with
    the samples of the minibatch in reverse order, and with every pixel and latent moved by one ULP.
    """
    def again(x: np.ndarray, z: np.ndarray, order: slice) -> Dict[str, float]:
        observed.set_values(state)
        got = forward(observed, observed.networks.D_loss,
                      {observed.networks.x: x, observed.networks.z: z}, *branches)[0]
        return {name: float(np.sqrt(np.mean((got[name][order] - value) ** 2)
                                    / max(np.mean(value ** 2), 1e-30)))
                for name, value in outputs.items()}

    everything, reverse = slice(None), slice(None, None, -1)
    return {
        "reversed": again(np.ascontiguousarray(x[::-1]), np.ascontiguousarray(z[::-1]), reverse),
        "nudged": again(observe.moved_by_one_ulp(x, 1), observe.moved_by_one_ulp(z, 2), everything)}


class Watched:
    """A reader whose minibatches' hashes are kept."""

    def __init__(self, reader: Any, hashes: List[str], spec: Spec) -> None:
        self.reader, self.streams, self.hashes, self.spec = reader, reader.streams, hashes, spec

    def next_minibatch(self, *arguments: Any, **named: Any) -> Any:
        batch = self.reader.next_minibatch(*arguments, **named)
        (data,) = batch.values()
        self.hashes.append(hashlib.sha256(model.pixels(self.spec, data).tobytes()).hexdigest())
        return batch


def scaled(observed: Observed, factor: float) -> None:
    """Every weight of a convolution times a power of two: larger or smaller activations."""
    for name, held in observed.state.items():
        if name.endswith("/weight"):
            held.value = held.value * np.float32(factor)
