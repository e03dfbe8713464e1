"""Every stage on small invented captures: alike they pass, and each planted mistake fails.

The arrays have the real names and a few values. What CNTK, the port and the oracle "computed" is a
drawn truth, which the oracle has in float64 and the two others rounded about as float32 programs
round: 3e-7 of a layer's size away.
"""
import copy
import functools
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from captures import article
from captures.errors import CaptureError
from captures.format import ArrayEntry, Capture, CaptureWriter
from captures.movement import Moments, update
from captures.plan import Plan
from captures.training import pictures
from parity.stages import initial as initial_stage
from parity.stages import layers, registry
from parity.stages import twin as twin_stage
from parity.stages.common import Captures
from parity.stages.in_step import in_step
from parity.stages.program import PROGRAM
from tests.captures.image_kinds import bmp

N = 4
BRANCHES = ("generator", "discriminator_real", "discriminator_fake")
SIZES = {"generator": (4, 8, 16, 32, 64, 128, 256), "discriminator": (128, 64, 32, 16, 8, 4, 1)}
CHANNELS = {"generator": (1024, 512, 256, 128, 64, 32, 3),
            "discriminator": (32, 64, 128, 256, 512, 1024, 1)}
OUTPUTS = {f"{branch}/{layer}/output": (N, 6, 5, 5) for branch in BRANCHES
           for layer in ("conv1", "bn2", "conv2")} | {
    "generator/tanh7/output": (N, 3, 8, 8), "discriminator_real/sigmoid7/output": (N, 1, 1, 1)}
PARAMETERS = {"conv1/weight": (8, 6, 5, 5), "bn2/scale": (6,)}


def seeded(text):
    return np.random.RandomState(zlib.crc32(text.encode()))


def truth(name, shape):
    return seeded(name).normal(size=shape)


def rounded(values, who, error=3e-7):
    noise = seeded(who).normal(size=np.shape(values))
    return (values + error * np.sqrt(np.mean(values ** 2)) * noise).astype(np.float32)


@dataclass
class Side:
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def computed(sides, name, shape, local=True):
    """The same truth on all sides, each rounded in its own way; locally on port and oracle too."""
    exact = truth(name, shape)
    sides["cntk"].arrays[name] = rounded(exact, "cntk" + name)
    if local:
        sides["oracle"].arrays[f"rounding/{name}"] = np.full(
            shape, 6e-7 * np.sqrt(np.mean(exact ** 2)), np.float32)
    for place in [name, f"local/{name}"][:1 + local]:
        sides["port"].arrays[place] = rounded(exact, "port" + place)
        sides["oracle"].arrays[place] = exact


def stepped(sides, step, name, shape):
    """A parameter, its m and v before and behind a step: CNTK's Adam on each side's gradient."""
    before = [np.float32(0.02 * truth("w" + name, shape)), np.float32(truth("m" + name, shape)),
              np.float32(truth("v" + name, shape) ** 2)]
    for quantity, value in zip(("", "_m", "_v"), before, strict=True):
        place = ("optimizer/" if quantity else "") + f"state/{name}{quantity}"
        for who in ("cntk", "port"):
            sides[who].arrays[place] = value.copy()
    sides["cntk"].arrays[f"optimizer/state/{name.split('/')[0]}/learner/minibatches"] = np.array(3)
    for who, side in sides.items():
        after = update(Moments(*before), side.arrays[f"gradient/{step}/{name}"], 4, N, False).after
        for quantity, value in zip(("", "_m", "_v"), after, strict=True):
            place = f"step/0001/after_{step}/{name}{quantity}"
            side.arrays[place] = value if who == "oracle" else np.float32(value)
            if who == "cntk":
                sides["port"].arrays[f"local/{place}"] = np.float32(value)


def exactly(sides, name, values):
    for who in ("cntk", "port"):
        sides[who].arrays[name] = np.array(values)


def made():
    """A CNTK, a port and an oracle that agree."""
    sides = {"cntk": Side(), "port": Side(), "oracle": Side()}
    for name in ("generator/conv1/weight", "discriminator/conv2/weight"):
        exactly(sides, f"initial/{name}", np.float32(0.02 * truth(name, (8, 20, 5, 5))))
        exactly(sides, f"state/{name}", np.float32(truth("state" + name, (8, 6, 3, 3))))
    exactly(sides, "initial/generator/bn1/scale", np.ones(8, np.float32))
    for name in ("reader/probe/minibatch00/images", "reader/probe/minibatch01/images",
                 "input/reader/images"):
        exactly(sides, name, seeded(name).uniform(0, 255, (N, 3, 4, 4)).astype(np.float32))
    exactly(sides, "optimizer/probe/matrix/step01", np.float32(truth("matrix", (7, 5))))
    exactly(sides, "normalisation/probe/minibatch00/running_variance",
            np.float32(truth("variance", (5,))))
    for function in ("log", "sigmoid", "loss_of_fake"):
        for quantity in ("output", "gradient"):
            name = f"pointwise/probe/{function}/{quantity}"
            values = np.float32(truth(name, (40,)))
            values[:4] = [0, 1e-45, -85.1, 9e36]
            exactly(sides, name, values)
    for name, shape in OUTPUTS.items():
        computed(sides, f"forward/evaluation/{name}", shape)
        computed(sides, f"forward/training/{name}", shape)
        if not name.startswith("discriminator_real"):
            computed(sides, f"forward/g_step/{name}", shape, local=False)
    for step, network, branches in (("d", "discriminator", BRANCHES[1:]),
                                    ("g", "generator", (BRANCHES[0], BRANCHES[2]))):
        for branch in branches:
            computed(sides, f"gradient/{step}/{branch}/conv2/output", (N, 6, 5, 5))
        for name, shape in PARAMETERS.items():
            computed(sides, f"gradient/{step}/{network}/{name}", shape)
        computed(sides, f"gradient/{step}/loss/samples/value", (N,))
        after = f"step/0001/after_{step}"
        for name, shape in PARAMETERS.items():
            stepped(sides, step, f"{network}/{name}", shape)
        for other in ("generator", "discriminator"):
            computed(sides, f"{after}/{other}/bn2/running_mean", (6,), local=False)
            for who in sides.values():
                who.arrays[f"{after}/{other}/bn2/sample_count"] = np.array(20, np.int64)
        for side in sides.values():
            mean = np.mean(side.arrays[f"gradient/{step}/loss/samples/value"], dtype=np.float64)
            side.arrays[f"{after}/loss/{step}/mean"] = np.float32(mean)
        for place in (f"{after}/{network}/learner/minibatches",
                      f"local/{after}/{network}/learner/minibatches"):
            for who in ("cntk", "port", "oracle")[place.startswith("local"):]:
                sides[who].arrays[place] = np.array(4, np.int64)
    for who in ("cntk", "port"):
        sides[who].facts = copy.deepcopy(facts())
    trained(sides["port"])
    return sides


def trained(port):
    """What the port's training program did."""
    image = np.float32(np.tanh(truth("image", (3, 8, 8))))
    losses = 1 + truth("losses", (3, 2)) / 10
    port.arrays.update({
        "program/run/losses/d_and_g": losses, "program/resumed/losses/d_and_g": losses.copy(),
        "program/steps/losses/d_and_g": losses.copy(),
        "program/run/events/d_and_g": np.float32(losses),
        "program/run/picture/image": image,
        "program/run/picture/written": np.uint8(np.rint((image.transpose(1, 2, 0) + 1) * 127.5))})
    several = np.float32(np.tanh(truth("samples", (16, 3, 8, 8))))
    port.arrays.update({"program/run/samples/images": several,
                        "program/run/samples/written": pictures.grid(several)})
    state = {f"{network}/{name}": name for network in ("generator", "discriminator")
             for name in ("conv1/weight", "conv1/weight_m", "bn2/running_mean",
                          "learner/minibatches")}
    models = {name: value for name, value in state.items()
              if name.endswith(("conv1/weight", "running_mean"))}
    port.facts.update(program_state=state, program_resumed=dict(state), program_models=models,
                      program_steps=dict(state))


def facts():
    layers = [[branch, f"conv{i}", [channels, size, size]] for branch in BRANCHES
              for i, (channels, size) in enumerate(zip(
                  CHANNELS[branch.split("_")[0]], SIZES[branch.split("_")[0]], strict=True), 1)]
    return {
        "parameters": {"counts": {"generator": 19_104_035, "discriminator": 6_306_561},
                       "layers": layers, "shared_parameters": 19, "critics_parameters": 19,
                       "fake_branch_parameters_of_its_own": 0, "shared_statistics": 15,
                       "critics_statistics": 15},
        "evaluation_changes": [],
        "warmup_minibatches": ["aa", "bb", "cc"],
        "ledger": [["d_step", "discriminator/bn2/sample_count", 8],
                   ["d_step", "discriminator/conv1/weight", "changed"],
                   ["g_step", "discriminator/bn2/sample_count", 4],
                   ["g_step", "generator/conv1/weight", "changed"]],
    }


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    (folder / "0.bmp").write_bytes(bmp())
    (folder / "map.txt").write_text(".../0.bmp\t0\n")
    return Plan.make(folder / "map.txt", minibatch_size=N)


class Held(Capture):
    """A capture that was never written: hundreds of small files take a minute to remove again."""

    def __init__(self, side, who, plan):
        self.folder, self.side, self.facts = who, side, side.facts
        self.manifest = {"plan": plan.inputs}
        self.spec, self.attached, self.producer = plan.spec, {}, who
        self.entries = {name: ArrayEntry("", array.shape, "", 0)
                        for name, array in side.arrays.items()}

    def __getitem__(self, name):
        self._entry(name)
        if not np.isfinite(self.side.arrays[name]).all():
            raise CaptureError(f"{name} of the capture {self.folder} holds NaN or infinity")
        return self.side.arrays[name]

    def as_it_is(self, name):
        self._entry(name)
        return self.side.arrays[name]


@pytest.fixture(scope="module")
def kept():
    return made()


@pytest.fixture
def run(plan, kept):
    """run(stage, change): the stage on the captures that ``change(sides)`` made other."""
    def run(stage, change=None, plan=plan):
        sides = copy.deepcopy(kept)
        if change is not None:
            change(sides)
        return BY_NAME[stage](Captures(**{
            who: Held(side, who, plan) for who, side in sides.items()}))
    return run


BY_NAME = {stage.name: stage for stage in registry.STAGES
           if stage.name not in ("reference", "onnx", "twin", "score", "second", "whole")}
# An array of each stage that compares arrays; of "step" one of each kind.
ARRAYS = [
    ("initial", "initial/generator/conv1/weight"), ("reader", "reader/probe/minibatch01/images"),
    ("reader", "input/reader/images"), ("optimizer", "optimizer/probe/matrix/step01"),
    ("normalisation", "normalisation/probe/minibatch00/running_variance"),
    ("pointwise", "pointwise/probe/log/gradient"), ("state", "state/generator/conv1/weight"),
    ("forward/g_step", "forward/g_step/discriminator_fake/bn2/output"),
    *((stage, f"{local}{stage}/{place}") for local in ("", "local/") for stage, place in (
        ("forward/evaluation", "generator/tanh7/output"),
        ("forward/training", "discriminator_real/conv2/output"),
        ("gradient/d", "discriminator/conv1/weight"), ("gradient/d", "loss/samples/value"),
        ("gradient/g", "generator/conv2/output"))),
    *(("step", f"{local}step/0001/after_{place}") for local in ("", "local/") for place in (
        "d/discriminator/conv1/weight", "d/discriminator/bn2/scale_v",
        "g/generator/learner/minibatches")),
    ("step", "step/0001/after_d/generator/bn2/running_mean"),
    ("step", "step/0001/after_d/generator/bn2/sample_count"),
    ("step", "step/0001/after_g/loss/g/mean"),
]


@pytest.mark.parametrize("stage", BY_NAME)
def test_what_agrees_passes(run, stage):
    got = run(stage)
    assert got.name == stage and got.title
    assert got.passed, got.first_failure


def test_what_was_written_and_read_again_passes(tmp_path, plan, kept):
    captures = {}
    for who, side in kept.items():
        with CaptureWriter(str(tmp_path / who), who, plan, {}, 1) as writer:
            for name, array in side.arrays.items():
                writer.add(name, array)
            for name, value in side.facts.items():
                writer.fact(name, value)
        captures[who] = Capture(writer.folder)
    for stage in BY_NAME.values():
        got = stage(Captures(**captures))
        assert got.passed, got.first_failure


def test_the_port_may_be_cntk_bit_for_bit(run):
    def same(sides):
        for name, array in sides["cntk"].arrays.items():
            for place in (name, f"local/{name}"):
                if place in sides["port"].arrays:
                    sides["port"].arrays[place] = array
    for stage in BY_NAME:
        assert run(stage, same).passed


def gone(arrays, name):
    del arrays[name]


def one_too_many(arrays, name):
    arrays[f"{name}_again"] = arrays[name]


def of_another_shape(arrays, name):
    arrays[name] = arrays[name].reshape(1, *arrays[name].shape)


def larger(arrays, name):
    arrays[name] = np.concatenate([np.atleast_1d(arrays[name])] * 2)


def nan(arrays, name):
    arrays[name] = np.full_like(arrays[name], np.nan)


COUNTS = ("/minibatches", "/sample_count")
MISTAKES = [gone, one_too_many, of_another_shape, larger, nan]


@pytest.mark.parametrize("stage, name", ARRAYS, ids=lambda value: value)
def test_an_array_that_cannot_be_compared_fails(run, stage, name):
    """Missing, one too many, of another shape, NaN, on the port's side; never a skip or a crash."""
    for mistake in MISTAKES:
        if mistake is nan and name.endswith(COUNTS):
            continue
        got = run(stage, lambda sides, mistake=mistake: mistake(sides["port"].arrays, name))
        assert not got.passed, mistake.__name__
        assert got.not_judged or got.first_failure.detail, mistake.__name__


@pytest.mark.parametrize("stage, name", [a for a in ARRAYS if not a[1].startswith("local/")],
                         ids=lambda value: value)
def test_on_cntks_side_too(run, stage, name):
    for mistake in MISTAKES:
        if mistake is nan and name.endswith(COUNTS):
            continue
        got = run(stage, lambda sides, mistake=mistake: mistake(sides["cntk"].arrays, name))
        assert not got.passed, mistake.__name__


@pytest.mark.parametrize("stage, name", [
    a for a in ARRAYS if a[0].startswith(("forward", "gradient"))
    or (a[0] == "step" and "running" in a[1])],
    ids=lambda value: value)
def test_on_the_oracles_side_too(run, stage, name):
    for mistake in (gone, of_another_shape, nan):
        assert not run(stage, lambda sides, mistake=mistake: mistake(
            sides["oracle"].arrays, name)).passed, mistake.__name__


EXACT = [(stage, name) for stage, name in ARRAYS if stage in
         ("initial", "reader", "state") or name.endswith(COUNTS)]


@pytest.mark.parametrize("stage, name", EXACT, ids=lambda value: value)
def test_one_value_of_an_exact_stage_off_by_one_ulp(run, stage, name):
    def change(sides):
        flat = sides["port"].arrays[name].reshape(-1)
        flat[-1] = flat[-1] + 1 if flat.dtype.kind == "i" else np.nextafter(flat[-1],
                                                                            np.float32(1e9))
    got = run(stage, change)
    assert [c.measured for c in got.checks if not c.passed] == [1]
    assert got.first_failure.place in name and got.first_failure.detail


def swapped(arrays, name):
    arrays[name][[0, 1]] = arrays[name][[1, 0]]


@pytest.mark.parametrize("stage, name", [(stage, name) for stage, name in ARRAYS
                                         if name.endswith(("weight", "output"))])
def test_two_filters_swapped(run, stage, name):
    """Every sum and norm is what it was."""
    got = run(stage, lambda sides: swapped(sides["port"].arrays, name))
    assert not got.passed
    assert got.first_failure.place in name


# ------------------------------------------------------------------------------- near, and kinks


@pytest.mark.parametrize("stage", ["forward/evaluation", "forward/training", "gradient/d",
                                   "gradient/g"])
def test_a_note_counts_the_arrays_with_cntks_bits(run, kept, stage):
    """Nobody is asked for them."""
    names = [name for name in kept["cntk"].arrays if name.startswith(f"{stage}/")]
    local = sum(name.startswith(f"local/{stage}/") for name in kept["port"].arrays)

    def change(sides):
        sides["port"].arrays[names[0]] = sides["cntk"].arrays[names[0]]
        sides["port"].arrays[f"local/{names[1]}"] = sides["cntk"].arrays[names[1]]
        sides["port"].arrays[f"local/{names[0]}"] = sides["cntk"].arrays[names[0]] + np.float32(1)
    assert (f"0 of {local} arrays on their own inputs, 0 of {len(names)} arrays in the chain."
            in run(stage, lambda sides: None).notes[-1])
    assert (f"1 of {local} arrays on their own inputs, 1 of {len(names)} arrays in the chain."
            in run(stage, change).notes[-1])


def off_by(sides, name, part, seed="planted"):
    """The port's values, ``part`` of their size away."""
    values = sides["port"].arrays[name]
    sides["port"].arrays[name] = rounded(values.astype(np.float64), seed, part)


@pytest.mark.parametrize("stage", ["forward/evaluation", "forward/training", "gradient/d",
                                   "gradient/g"])
@pytest.mark.parametrize("local, part, policy", [("local/", 2e-6, "rounding"),
                                                 ("", 9e-6, "chain")])
def test_an_error_beyond_rounding(run, kept, stage, local, part, policy):
    name = next(name for name in kept["port"].arrays
                if name.startswith(f"{local}{stage}/") and "conv2/output" in name)
    got = run(stage, lambda sides: off_by(sides, name, part))
    assert [(c.policy, c.local) for c in got.checks if not c.passed] == [
        (policy, bool(local))]
    assert got.first_failure.place in name
    assert run(stage, lambda sides: off_by(sides, name, part / 5)).passed


def test_a_local_failure_is_named_before_an_inherited_one(run):
    def change(sides):
        off_by(sides, "forward/training/generator/conv1/output", 1e-3)
        off_by(sides, "local/forward/training/generator/conv2/output", 1e-3)
    assert run("forward/training", change).first_failure.place == "generator/conv2/output"


def test_another_formula(run):
    """Port and oracle compute the same, and CNTK something else."""
    def change(sides):
        for place in ("", "local/"):
            name = f"{place}forward/training/generator/bn2/output"
            for who in ("port", "oracle"):
                sides[who].arrays[name] = sides[who].arrays[name] * np.float32(1.001)
    got = run("forward/training", change)
    assert {(c.place, c.policy) for c in got.checks if not c.passed} == {
        ("generator/bn2/output", "formula"), ("generator/bn2/output", "formula_chain")}


@pytest.mark.parametrize("prefix, place, part, samples, passes", [
    ("forward/training", "generator/bn2/output", 5e-5, 4, False),
    ("forward/training", "generator/bn2/output", 5e-5, 16, True),
    ("forward/training", "generator/bn2/output", 2e-4, 16, False),
    ("gradient/d", "discriminator/bn2/scale", 5e-5, 4, False),
    ("gradient/d", "discriminator/bn2/scale", 5e-5, 16, True),
    ("gradient/d", "discriminator/bn2/scale", 2e-4, 16, False),
    ("forward/evaluation", "generator/bn2/output", 5e-5, 16, False)])
def test_longer_sums_round_worse(run, plan, prefix, place, part, samples, passes):
    """Port and CNTK alike; in evaluation mode nothing is added up over the samples."""
    def change(sides):
        for who, at in (("cntk", prefix), ("port", f"local/{prefix}"), ("port", prefix)):
            sides[who].arrays[f"{at}/{place}"] = rounded(
                sides["oracle"].arrays[f"local/{prefix}/{place}"], who + at, part)
        sides["oracle"].arrays[f"{prefix}/{place}"] = sides["oracle"].arrays[
            f"local/{prefix}/{place}"]
    got = run(prefix, change, plan=plan.with_values(minibatch_size=samples))
    failed = [c.policy for c in got.checks if not c.passed and c.local]
    assert failed == ([] if passes else ["formula"])


def test_few_values_of_the_chain_are_judged_by_samples(run):
    """One probability a sample: the ratio of four errors is mostly luck, twelve times is none."""
    name = "forward/training/discriminator_real/sigmoid7/output"
    assert run("forward/training", lambda sides: off_by(sides, name, 3e-6)).passed
    assert not run("forward/training", lambda sides: off_by(sides, name, 1e-3)).passed


def kink(sides, place, who="cntk"):
    """One unit that rounding leaves on the other side of 0 for ``who``: no layer's error grows."""
    for side in sides:
        sides[side].arrays[place][0, 0, 0, 0] = -1e-9 if side == who else 1e-9


D_KINK, G_KINK = "forward/training/discriminator_real/bn2/output", \
    "forward/g_step/generator/bn2/output"


@pytest.mark.parametrize("stage, unit", [("gradient/d", D_KINK), ("gradient/g", G_KINK)])
@pytest.mark.parametrize("who", ["cntk", "port"])
def test_a_gradient_2e_3_off_passes_in_the_chain_if_a_unit_lies_on_a_kink(run, kept, stage, unit,
                                                                           who):
    name = next(name for name in kept["port"].arrays
                if name.startswith(f"{stage}/") and name.endswith("conv1/weight"))

    def change(part, local="", kinks=True):
        def change(sides):
            off_by(sides, local + name, part)
            if kinks:
                kink(sides, unit, who)
        return change

    got = run(stage, change(2e-3))
    assert got.passed and got.notes[0].startswith("1 units lie on other sides")
    assert not run(stage, change(2e-3, kinks=False)).passed
    assert not run(stage, change(2e-3, "local/")).passed  # on its own inputs it has no kinks
    assert not run(stage, change(0.2)).passed


@pytest.mark.parametrize("unit", [
    "forward/training/generator/bn2/output",  # nothing goes back into the generator in the D step
    "forward/training/discriminator_real/conv2/output",  # no rectifier follows it
    "forward/g_step/discriminator_fake/bn2/output",  # of the other step
])
def test_kinks_elsewhere_excuse_nothing(run, unit):
    def change(sides):
        off_by(sides, "gradient/d/discriminator/conv1/weight", 2e-3)
        kink(sides, unit)
    got = run("gradient/d", change)
    assert not got.passed and got.notes[0].startswith("0 units")


def test_conv1_of_the_discriminator_is_rectified_without_a_normalisation(run):
    got = run("gradient/d", lambda sides: kink(
        sides, "forward/training/discriminator_fake/conv1/output"))
    assert got.passed and got.notes[0].startswith("1 units")


def test_the_images_are_judged_absolutely(run):
    """However badly CNTK itself rounds."""
    def change(sides):
        name = "forward/evaluation/generator/tanh7/output"
        for who in ("cntk", "port"):
            sides[who].arrays[name] = rounded(truth(name, (N, 3, 8, 8)), who, 1e-5)
    got = run("forward/evaluation", change)
    assert [c.policy for c in got.checks if not c.passed] == ["output"]


@pytest.mark.parametrize("prefix", ["forward/evaluation", "forward/training",
                                    "local/forward/evaluation"])
@pytest.mark.parametrize("part, nudge, passes", [
    (1e-3, None, False), (1e-3, 5e-4, True), (1e-3, 2e-4, False)])
def test_an_ill_conditioned_layer_is_judged_by_cntks_own_nudges(run, prefix, part, nudge, passes):
    """In the chain in evaluation mode alone: nothing else is measured in nudges."""
    place = "generator/conv2/output"

    def change(sides):
        if nudge:
            sides["cntk"].facts["evaluation_nudged"] = {place: {"error": nudge, "largest": nudge}}
        for who in ("cntk", "port"):
            at = f"{prefix}/{place}" if who == "port" else f"{prefix}/{place}".removeprefix(
                "local/")
            sides[who].arrays[at] = rounded(sides["oracle"].arrays[f"{prefix}/{place}"], who, part)

    failed = [c.policy for c in run(prefix.removeprefix("local/"), change).checks if not c.passed
              and c.place == place and c.local == prefix.startswith("local/")]
    assert (not failed) == (passes and prefix == "forward/evaluation"), failed


@pytest.mark.parametrize("nudge, passes", [(2e-5, True), (5e-6, False), (1e-9, False)])
def test_the_images_of_an_ill_conditioned_network(run, nudge, passes):
    """About 4e-5 apart at most, where 2e-6 is the ordinary allowance."""
    name = "generator/tanh7/output"

    def change(sides):
        sides["cntk"].facts["evaluation_nudged"] = {name: {"error": nudge, "largest": nudge}}
        for who in ("cntk", "port"):
            sides[who].arrays[f"forward/evaluation/{name}"] = rounded(
                truth(f"forward/evaluation/{name}", (N, 3, 8, 8)), who, 1e-5)
    failed = [c.policy for c in run("forward/evaluation", change).checks if not c.passed]
    assert failed == ([] if passes else ["nudge" if nudge > 1e-6 else "output"])


@pytest.mark.parametrize("who", ["cntk", "port"])
@pytest.mark.parametrize("changes", [["generator/bn1/sample_count"], None])
def test_evaluation_changes_nothing(run, who, changes):
    """And that nothing was looked at is not that nothing changed."""
    def change(sides):
        sides[who].facts["evaluation_changes"] = changes
    assert run("forward/evaluation", change).first_failure.place == "evaluation/changes/nothing"


# ------------------------------------------------------------------------------------ the others


@pytest.mark.parametrize("who", ["cntk", "port"])
@pytest.mark.parametrize("change, place", [
    (lambda p: p["layers"].__getitem__(2)[2].__setitem__(1, 15), "generator/conv3/shape"),
    (lambda p: p["layers"].pop(9), "discriminator_real/conv3/shape"),
    (lambda p: p["counts"].update(generator=19_104_036), "generator/parameters/count"),
    (lambda p: p["counts"].update(discriminator=6_306_560), "discriminator/parameters/count"),
    (lambda p: p.update(shared_parameters=18), "discriminator_fake/parameters/of_its_own"),
    (lambda p: p.update(fake_branch_parameters_of_its_own=1),
     "discriminator_fake/parameters/of_its_own"),
    (lambda p: p.update(shared_statistics=0), "discriminator_fake/statistics/of_its_own"),
])
def test_structure(run, who, change, place):
    got = run("structure", lambda sides: change(sides[who].facts["parameters"]))
    assert [c.place for c in got.checks if not c.passed] == [place]
    assert {"cntk": "CNTK", "port": "the port"}[who] in got.first_failure.detail


@pytest.mark.parametrize("who", ["cntk", "port"])
def test_structure_names_an_array_that_one_side_lacks(run, who):
    got = run("structure", lambda sides: sides[who].arrays.pop("initial/generator/bn1/scale"))
    assert got.first_failure.place == "generator/bn1/scale"
    assert "not there" in got.first_failure.detail


def test_structure_names_an_array_of_another_shape(run):
    def change(sides):
        name = "initial/discriminator/conv2/weight"
        sides["port"].arrays[name] = sides["port"].arrays[name].swapaxes(0, 1)
    assert run("structure", change).first_failure.place == "discriminator/conv2/weight"


def test_a_gradient_is_named_from_the_loss_backwards(run):
    """Where the whole chain is half of what it should be, what is next to the loss is named."""
    def change(sides):
        for who in ("port", "oracle"):
            for name in list(sides[who].arrays):
                if name.startswith("gradient/d/") and "/loss/" not in name:
                    sides[who].arrays[name] = sides[who].arrays[name] / 2
    got = run("gradient/d", change)
    assert not got.first_failure.local
    assert got.first_failure.place == "discriminator/bn2/scale"


def test_backwards():
    names = ["discriminator_real/conv1/output", "discriminator_real/leaky_relu1/output",
             "discriminator_real/bn2/output", "discriminator/bn2/scale", "generator/conv7/output",
             "discriminator_real/sigmoid7/output", "loss/samples/value", "generator/tanh7/output"]
    assert sorted(names, key=functools.partial(layers.backwards, article.DCGAN)) == [
        "loss/samples/value", "discriminator_real/sigmoid7/output",
        "discriminator_real/bn2/output", "discriminator/bn2/scale",
        "discriminator_real/leaky_relu1/output", "discriminator_real/conv1/output",
        "generator/tanh7/output", "generator/conv7/output"]


def test_no_layer_table(run):
    assert not run("structure", lambda sides: sides["port"].facts.pop("parameters")).passed


def test_the_article_has_as_many_parameters():
    assert article.DCGAN.maker.size == 19_104_035
    assert article.DCGAN.critic.size == 6_306_561


@pytest.mark.parametrize("change, check", [
    (lambda w: w * np.float32(np.sqrt(0.02) / 0.02), "deviation"),  # 0.02 is no variance
    (lambda w: w * np.float32(1.1), "deviation"),
    (lambda w: w + np.float32(0.002), "mean"),
    (lambda w: np.float32(0.02) * np.sign(w), "shape"),  # mean and deviation are right
])
@pytest.mark.parametrize("who", ["cntk", "port"])
def test_what_is_drawn_is_normal(run, who, change, check):
    """Also where both sides drew the same."""
    name = "initial/generator/conv1/weight"

    def both(sides):
        exactly(sides, name, change(sides["cntk"].arrays[name]))

    failed = [c.place for c in run("initial", both).checks if not c.passed]
    assert f"generator/conv1/weight_{who}_{check}" in failed


def test_moments():
    got = initial_stage.moments(np.float32([-1, 0, 0, 1]))
    assert got["mean"] == 0 and got["skewness"] == 0
    assert got["standard_deviation"] == pytest.approx(np.sqrt(2 / 3))
    assert got["excess_kurtosis"] == pytest.approx(2 - 3)  # mean of z**4: (4 + 4) / 4


@pytest.mark.parametrize("change", [
    lambda facts: facts["warmup_minibatches"].__setitem__(1, "xx"),
    lambda facts: facts["warmup_minibatches"].pop(),
    lambda facts: facts["warmup_minibatches"].append("dd"),
    lambda facts: facts.pop("warmup_minibatches"),
])
@pytest.mark.parametrize("who", ["cntk", "port"])
def test_minibatches_of_the_warm_up(run, who, change):
    got = run("reader", lambda sides: change(sides[who].facts))
    assert [c.place for c in got.checks if not c.passed] == ["minibatches/of_warm_up/hashes"]


def test_minibatches_that_neither_side_has(run):
    def change(sides):
        for who in ("cntk", "port"):
            del sides[who].facts["warmup_minibatches"]
    assert not run("reader", change).passed


@pytest.mark.parametrize("name, point, value, passes", [
    ("sigmoid/output", 1, 0.0, True),  # of 1e-45: the smallest subnormal may be 0
    ("sigmoid/output", 0, 1e-30, False),  # where CNTK has 0
    ("log/output", 2, -100.0, False),  # the clamp
    ("log/gradient", 3, 9e36 * (1 + 3e-6), True), ("log/gradient", 3, 9e36 * (1 + 5e-6), False),
    ("log/output", 2, -85.1 * (1 + 2e-7), False),
    ("loss_of_fake/output", 2, -85.1 * (1 + 3e-7), True),
    ("loss_of_fake/gradient", 2, -85.1 * (1 + 3e-6), False),
])
def test_pointwise(run, name, point, value, passes):
    def change(sides):
        sides["port"].arrays[f"pointwise/probe/{name}"][point] = value
    got = run("pointwise", change)
    assert got.passed is passes
    assert passes or f"at point {point}:" in got.first_failure.detail


def test_a_count_off_by_one(run):
    name = "step/0001/after_g/discriminator/bn2/sample_count"
    got = run("step", lambda sides: sides["port"].arrays.update({name: np.array(16)}))
    assert [c.place for c in got.checks if not c.passed] == [
        "after_g/discriminator/bn2/sample_count"]


def test_running_statistics_have_no_kinks(run):
    """They come from forward passes alone."""
    def change(name):
        def change(sides):
            kink(sides, D_KINK)
            off_by(sides, name, 2e-3)
        return change
    after = "step/0001/after_d/discriminator"
    assert not run("step", change(f"{after}/bn2/running_mean")).passed


def test_what_is_done_to_a_gradient_behind_the_backward_pass(run):
    """The gradient is what it should be, and the step goes elsewhere, with CNTK's bits or without:
    a hundredth of the weight is added to the gradient."""
    name = "discriminator/conv1/weight"

    def decayed(bits):
        def change(sides):
            cntk, port = sides["cntk"].arrays, sides["port"].arrays
            if bits:
                port[f"gradient/d/{name}"] = cntk[f"gradient/d/{name}"]
            before = [cntk[f"state/{name}"], *(cntk[f"optimizer/state/{name}_{key}"]
                                               for key in "mv")]
            gradient = port[f"gradient/d/{name}"] + np.float32(1e-2) * before[0]
            for key, value in zip(("", "_m", "_v"), update(
                    Moments(*before), gradient, 4, N, False).after, strict=True):
                port[f"step/0001/after_d/{name}{key}"] = np.float32(value)
        return change
    for bits in (True, False):
        got = run("step", decayed(bits))
        assert not got.passed and "discriminator/conv1/weight" in got.first_failure.place, bits


@pytest.mark.parametrize("alone", [True, False])
def test_an_optimizer_without_cntks_bits_is_not_asked_for_them(run, alone):
    """It rounds in another order. One that has the bits alone has to have them in the step."""
    name, after = "discriminator/conv1/weight", "step/0001/after_d/discriminator/conv1/weight"

    def change(sides):
        cntk, port = sides["cntk"].arrays, sides["port"].arrays
        port[f"gradient/d/{name}"] = cntk[f"gradient/d/{name}"]
        for key in ("", "_m", "_v"):
            moved = update(Moments(*(cntk[one] for one in (
                f"state/{name}", f"optimizer/state/{name}_m", f"optimizer/state/{name}_v"))),
                cntk[f"gradient/d/{name}"], 4, N, False).after[("", "_m", "_v").index(key)]
            cntk[after + key] = np.float32(moved)
            rounded = np.nextafter(np.float32(moved), np.float32(np.inf))
            port["local/" + after + key] = np.float32(moved) if alone else rounded
            port[after + key] = rounded
    got = run("step", change)
    assert any("discriminator/conv1/weight" in check.place for check in got.checks
               if not check.passed) == alone


def test_the_mean_of_a_step_is_of_its_own_samples(run):
    """A thousandth: the few samples' chance in the chain, a factor of a thousand, hid it."""
    name, samples = "step/0001/after_d/loss/d/mean", "gradient/d/loss/samples/value"

    def mean(part):
        def change(sides):
            for side in sides.values():
                side.arrays[name] = np.float32(np.mean(side.arrays[samples]))
            port = sides["port"].arrays
            port[samples] = port[samples] * np.float32(1 + 1e-6)
            port[name] = np.float32(np.mean(port[samples], dtype=np.float64) * (1 + part))
        return [check for check in run("step", change).checks if not check.passed]
    assert mean(0) == []
    assert [check.place for check in mean(1e-3)] == ["after_d/loss/d/mean"]


def test_a_step_0_1_per_cent_too_long(run):
    """The movement is small beside a weight, so m and v and the local step judge it sharply."""
    name = "step/0001/after_d/discriminator/conv1/weight_m"
    assert not run("step", lambda sides: sides["port"].arrays.update(
        {name: sides["port"].arrays[name] * np.float32(1.001)})).passed


@pytest.mark.parametrize("change", [
    lambda events: events.pop(2),  # frozen statistics in the G step
    lambda events: events[0].__setitem__(2, 4),  # one minibatch of real and fake images together
    lambda events: events.insert(0, ["evaluation", "generator/bn1/running_mean", "changed"]),
    lambda events: events.append(events.pop(0)),
    lambda events: events.clear(),
])
@pytest.mark.parametrize("who", ["cntk", "port"])
def test_ledger(run, who, change):
    assert not run("ledger", lambda sides: change(sides[who].facts["ledger"])).passed


def test_the_ledger_names_the_event(run):
    got = run("ledger", lambda sides: sides["port"].facts["ledger"].pop(2))
    assert got.first_failure.place == "g_step/discriminator/bn2/sample_count"
    assert got.first_failure.detail == "CNTK: 4, the port: unchanged"
    assert "2 arrays change; discriminator's sample_count +8 (1)" in got.notes[0]


@pytest.mark.parametrize("stopped", ["", "steps: the G step raised"])
def test_what_a_port_that_stopped_did_not_come_to_is_no_difference(run, stopped):
    """It is the stage ``whole`` that fails; without a stop, what is missing is a failure."""
    name = "step/0001/after_g/generator/conv1/weight"

    def change(sides):
        sides["port"].arrays.pop("local/" + name, None)
        del sides["port"].arrays[name]
        if stopped:
            sides["port"].facts["stopped"] = stopped
    got = run("step", change)
    assert (got.first_failure is None) == bool(stopped)
    assert any(stopped in note and "generator/conv1/weight" in note for note in got.notes) \
        == bool(stopped)


# --------------------------------------------------------------------------------------- program


def another(fact, name):
    def change(sides):
        sides["port"].facts[fact][name] = "another"
    return change


def left_out(sides):
    del sides["port"].facts["program_models"]["generator/bn2/running_mean"]


def picture(change):
    def changed(sides):
        arrays = sides["port"].arrays
        arrays["program/run/picture/written"] = change(
            arrays["program/run/picture/written"], arrays["program/run/picture/image"])
    return changed


def unwritten(sides):
    del sides["port"].arrays["program/run/picture/written"]


def other(name):
    """One value of an array, by less than a log of six digits keeps."""
    def change(sides):
        sides["port"].arrays[name][2, 1] *= 1 + 1e-7
    return change


def grid(change):
    def changed(sides):
        arrays = sides["port"].arrays
        arrays["program/run/samples/written"] = change(arrays["program/run/samples/written"])
    return changed


@pytest.mark.parametrize("change, place", [
    (another("program_models", "discriminator/conv1/weight"), "models/discriminator/conv1/weight"),
    (left_out, "models/generator/bn2/running_mean"),
    (another("program_resumed", "generator/conv1/weight_m"), "resumed/generator/conv1/weight_m"),
    (another("program_resumed", "discriminator/learner/minibatches"),
     "resumed/discriminator/learner/minibatches"),
    (another("program_steps", "generator/bn2/running_mean"), "run/generator/bn2/running_mean"),
    (another("program_steps", "generator/learner/minibatches"),
     "run/generator/learner/minibatches"),
    (other("program/resumed/losses/d_and_g"), "resumed/log/losses"),
    (other("program/steps/losses/d_and_g"), "run/log/losses"),
    (other("program/run/events/d_and_g"), "run/events/losses"),
    (lambda sides: sides["port"].arrays["program/run/events/d_and_g"].fill(np.nan),
     "run/events/losses"),
    (grid(lambda written: written + np.uint8(2)), "run/samples/written"),
    (grid(lambda written: written[:, ::-1]), "run/samples/written"),
    (unwritten, "run/picture/written"),
    (picture(lambda written, _: written[..., ::-1]), "run/picture/written"),
    (picture(lambda written, _: written[1:]), "run/picture/written"),
    (picture(lambda _, image: np.uint8((image.transpose(1, 2, 0) + 1) * 127.5)),
     "run/picture/written"),
    (picture(lambda _, image: np.uint8(np.rint(image.transpose(1, 2, 0) * 127 + 127.5))),
     "run/picture/written")])
def test_what_a_training_leaves(run, change, place):
    got = run("program", change)
    assert [check.place for check in got.checks if not check.passed] == [place]


@pytest.mark.parametrize("hashes, apart, places", [
    ("same", 0, []), ("same", 1e-9, ["run/log/losses"]),
    ("other", 1e-6, []), ("other", 1e-4, ["run/log/D_loss"]),
    ("other", 1e-3, ["run/log/D_loss", "run/log/G_loss"])])
def test_a_trainings_log_beside_cntks(plan, kept, hashes, apart, places):
    """Bits where the port has them, else what one iteration's rounding is."""
    port = kept["port"]
    made = Captures(*(Held(side, who, plan) for who, side in kept.items()))
    losses = port.arrays["program/run/losses/d_and_g"] * (1 + apart)
    for who, state in (("cntk", "same"), ("port", hashes)):
        made.twins[who] = Held(Side({"twin/run/losses/d_and_g": losses},
                                    {"state_hashes": [{"a/b/c": state}]}), who, plan)
    got = PROGRAM(made)
    assert [check.place for check in got.checks if not check.passed] == places


def test_what_a_training_leaves_beside_cntks(plan, kept):
    """The state that CNTK has behind as many iterations, where the port has its bits."""
    port = kept["port"]
    made = Captures(*(Held(side, who, plan) for who, side in kept.items()))
    losses, state = port.arrays["program/run/losses/d_and_g"], port.facts["program_state"]
    for who in ("cntk", "port"):
        made.twins[who] = Held(Side({"twin/run/losses/d_and_g": losses}, {
            "state_hashes": [state, state, {**state, "generator/bn2/running_mean": "another"}]}),
            who, plan)
    got = PROGRAM(made)
    assert [check.place for check in got.checks if not check.passed] == [
        "run/generator/bn2/running_mean"]


# ------------------------------------------------------------------------------------------ twin


def twins(reruns=5, port=1.0, iterations=4):
    """Runs that part tenfold in an iteration; the port is ``port`` times as far as the reruns."""
    losses = 1 + truth("losses", (iterations, 2)) / 10
    weights = truth("weights", (iterations, 500))
    growth = 10.0 ** np.arange(-8, iterations - 8)[:, None]
    made = {}
    for i, name in enumerate(["cntk", "port", *(f"rerun{k + 1}" for k in range(reruns))]):
        apart = (0, port)[i] if i < 2 else 1 - i / 100
        made[name] = Side({
            "twin/run/losses/d_and_g": losses + growth * apart,
            "twin/run/weights/sampled": np.float32(weights + 1e3 * growth * apart)},
            {"initial_sha256": {"generator/conv1/weight": "aa", "generator/conv2/weight": "bb"},
             "minibatch_sha256": ["aa", "bb", "cc", "dd"][:iterations]})
    return made


@pytest.fixture
def twin(plan):
    def twin(change=None, **values):
        made = twins(**values)
        if change is not None:
            change(made)
        captures = {name: Held(side, name, plan) for name, side in made.items()}
        nothing = Held(Side({}, {}), "none", plan)
        return twin_stage.TWIN_RUN(Captures(nothing, nothing, nothing, captures))
    return twin


def test_twin(twin):
    got = twin()
    assert got.passed, got.first_failure
    assert {c.place for c in got.checks if "iteration0003" in c.place} == {
        f"iteration0003/twin/{name}" for name in ("weights", "D_loss", "G_loss")}
    assert "Up to iteration 0 of 4" in got.notes[-1]
    assert "Up to iteration 4 of 4" in twin(port=0.9).notes[-1]


EVEN = [3e-9, 1e-3, 0.02, 1e-8, 1e-7, 1e-7, 3, 1e-6, 1e-7]  # the columns of observe.APART


@pytest.mark.parametrize("change, place, said", [
    ({}, None, ""),
    ({7: 0.01}, "iteration0002/discriminator/conv2/weight", "filter 3 goes 1.01 times"),
    ({6: 1002, 7: -0.01}, "iteration0002/discriminator/conv2/weight", "channel 2 goes 0.99 times"),
    ({4: 0.01}, "iteration0002/discriminator/conv2/weight", "all of it goes 1.01 times"),
    ({0: 1e-5, 7: 0.01, 8: 2e-4}, None, ""),  # a kink: 50 standard errors
    ({0: 1e-5, 4: 0.01, 5: 2e-3}, None, ""),
    ({0: 4e-4}, "iteration0002/discriminator/conv2/weight", "goes 0.0004 elsewhere"),
    ({4: np.nan}, "iteration0002/discriminator/conv2/weight", "times"),
    ({0: np.nan}, "iteration0002/discriminator/conv2/weight", "elsewhere")])
@pytest.mark.parametrize("columns", [9, 4])
def test_in_step_a_scale_is_found_where_a_kink_is_not(plan, change, place, said, columns):
    """columns: of captures of today and of before; what those did not keep is not judged."""
    names = ["discriminator/conv2/weight", "discriminator/conv2/weight_m", "generator/conv2/weight"]
    apart = np.tile(np.array(EVEN), (3, len(names), 1))
    for column, value in change.items():
        apart[1, 0, column] = value
    apart[1, 1, 0] = max(change.get(0, 0) / 20, EVEN[0])  # a kink moves other arrays too
    losses = np.ones((3, 2))
    theirs = Held(Side({"twin/run/losses/d_and_g": losses}), "cntk", plan)
    ours = Held(Side({"twin/run/losses/d_and_g": losses,
                      "twin/step/state/apart": apart[..., :columns]}, {"step_names": names}),
                "port", plan)
    failed = [check for check in in_step(theirs, ours) if not check.passed]
    if place is None or (columns == 4 and "times" in said):
        assert failed == []
    else:
        assert [check.place for check in failed] == [place] and said in failed[0].detail


@pytest.mark.parametrize("layer, apart, other, fails", [
    ("conv3", 5e-3, 3e-6, True), ("conv3", 5e-3, 0.0, True),
    ("conv3", 5e-3, 1e-4, True), ("conv3", 5e-3, 2.5e-4, False),  # a kink's: the next a 20th
    ("conv3", 5e-4, 3e-6, False), ("conv1", 5e-3, 3e-6, False)])
def test_in_step_an_array_that_goes_elsewhere_alone(plan, layer, apart, other, fails):
    """Noise in one layer's gradient, smaller than a kink may be, and of no scale."""
    name = f"discriminator/{layer}/weight_m"
    rows = [[part * 1e-3, 1e-3, 0.02, 1e-8, 1e-7, 1e-4, 3, 1e-7, 1e-4] for part in (apart, other)]
    losses = np.ones((1, 2))
    theirs = Held(Side({"twin/run/losses/d_and_g": losses}), "cntk", plan)
    ours = Held(Side({"twin/run/losses/d_and_g": losses, "twin/step/state/apart": np.array([rows]),
                      "twin/step/state/own": np.full((1, 2), np.nan)},
                     {"step_names": [name, "discriminator/conv2/weight_m"]}), "port", plan)
    failed = [check for check in in_step(theirs, ours) if not check.passed]
    assert [check.place for check in failed] == ([f"iteration0001/{name}"] if fails else [])


def test_in_step_a_weight_whose_m_is_not_known_fails(plan):
    """As where the counter is missing: nothing computed is no pass."""
    losses, name = np.ones((1, 2)), "discriminator/conv2/weight"
    ours = Held(Side({"twin/run/losses/d_and_g": losses,
                      "twin/step/state/apart": np.array([[EVEN, EVEN]]),
                      "twin/step/state/own": np.full((1, 2), np.nan)},
                     {"step_names": [name, name + "_m"]}), "port", plan)
    theirs = Held(Side({"twin/run/losses/d_and_g": losses}), "cntk", plan)
    failed = [check for check in in_step(theirs, ours) if not check.passed]
    assert [check.place for check in failed] == [f"iteration0001/{name}"]


@pytest.mark.parametrize("roundings, passes", [(3.0, True), (20.0, False), (np.nan, False)])
def test_in_step_an_update_is_what_its_own_m_makes(plan, roundings, passes):
    """A rate from which one bias departs: it has too few values for a scale, and kinks."""
    losses, name = np.ones((2, 2)), "discriminator/conv2/bias"
    row = [2e-4, 1e-3, 0.02, 1e-5, 0.0, 0.0, 0.0, 0.0, 0.0]  # a kink's: of weights it is no matter
    theirs = Held(Side({"twin/run/losses/d_and_g": losses}), "cntk", plan)
    ours = Held(Side({"twin/run/losses/d_and_g": losses,
                      "twin/step/state/apart": np.array([[row, EVEN]] * 2),
                      "twin/step/state/own": np.array([[0.0, 0.0], [roundings, 0.0]])},
                     {"step_names": [name, name + "_m"]}), "port", plan)
    failed = [check for check in in_step(theirs, ours) if not check.passed]
    assert [check.place for check in failed] == ([] if passes else [f"iteration0002/{name}"])


@pytest.mark.parametrize("layer, noise, passes", [
    ("conv7", 1e-6, False), ("conv6", 1e-6, True), ("conv7", 0.0, False)])  # 0: of few values
@pytest.mark.parametrize("size", [1.0, 1e-4])  # below the terms' roundings a bias is not judged
def test_behind_the_last_rectifier_no_kink_is_an_excuse(plan, layer, noise, passes, size):
    passes = passes or (not noise and size < 1)
    row = [5e-3 * size, size, 0.02, 1e-8, 0.0, noise, 0.0, 0.0, 0.0]  # 0.5 % of the movement
    losses = np.ones((1, 2))
    theirs = Held(Side({"twin/run/losses/d_and_g": losses}), "cntk", plan)
    ours = Held(Side({"twin/run/losses/d_and_g": losses,
                      "twin/step/state/apart": np.array([[row]])},
                     {"step_names": [f"discriminator/{layer}/bias"]}), "port", plan)
    assert all(check.passed for check in in_step(theirs, ours)) == passes


def test_without_reruns_the_first_loss_is_judged_all_the_same(twin):
    assert twin(reruns=0, port=0.5).passed
    assert not twin(lambda made: shift_first_loss(made, 1e-5), reruns=0).passed


def shift_first_loss(made, part):
    made["port"].arrays["twin/run/losses/d_and_g"][0, 0] *= 1 + part


def test_the_first_loss(twin):
    assert twin(lambda made: shift_first_loss(made, 4e-6)).checks[2].passed
    got = twin(lambda made: shift_first_loss(made, 1e-5))
    assert got.first_failure.place == "iteration0001/twin/D_loss"


def test_the_horizon(twin):
    """Within 3 times the farthest of CNTK's own reruns; 4 times is too far."""
    assert twin(port=2.5).passed
    got = twin(port=4)
    assert {c.place.rpartition("/")[2] for c in got.checks if not c.passed} == {
        "weights", "D_loss", "G_loss"}
    assert all(3.9 < c.measured < 4.3 for c in got.checks if not c.passed)


def test_one_iteration_too_far(twin):
    def change(made):
        a, b = (made[who].arrays["twin/run/weights/sampled"] for who in ("cntk", "port"))
        b[2] = a[2] + 4 * (b[2] - a[2])
    got = twin(change)
    assert [c.place for c in got.checks if not c.passed] == ["iteration0003/twin/weights"]


@pytest.mark.parametrize("who", ["cntk", "port"])
@pytest.mark.parametrize("change, place", [
    (lambda f: f["minibatch_sha256"].__setitem__(2, "xx"), "twin/reader/minibatches"),
    (lambda f: f["minibatch_sha256"].pop(), "twin/reader/minibatches"),
    (lambda f: f["initial_sha256"].update({"generator/conv2/weight": "xx"}),
     "twin/initial/generator/conv2/weight"),
    (lambda f: f["initial_sha256"].popitem(), "twin/initial/generator/conv2/weight"),
    (lambda f: f.pop("minibatch_sha256"), "twin/reader/minibatches"),
    (lambda f: f.pop("initial_sha256"), "twin/initial/weights"),
])
def test_facts_of_the_twin(twin, who, change, place):
    got = twin(lambda made: change(made[who].facts))
    assert [c.place for c in got.checks if not c.passed] == [place]


@pytest.mark.parametrize("name", ["twin/run/losses/d_and_g", "twin/run/weights/sampled"])
@pytest.mark.parametrize("who", ["cntk", "port", "rerun2"])
def test_arrays_of_the_twin_that_cannot_be_compared(twin, who, name):
    """A run that reached NaN, or ended early, is a failed check."""
    def shorter(arrays, name):
        arrays[name] = arrays[name][:-1]

    for mistake in (gone, nan, shorter, of_another_shape):
        got = twin(lambda made, mistake=mistake: mistake(made[who].arrays, name))
        assert not got.passed, mistake.__name__
