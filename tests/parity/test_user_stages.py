"""What the stages do for a user's port: its first minibatch, its images in another range, and what
no line of an adapter can name."""
from pathlib import Path

import numpy as np
import pytest

from captures.article import DCGAN
from captures.errors import CaptureError
from captures.format import Capture
from captures.spec import Spec
from parity import comparison
from parity.diagnosis import carried
from parity.stages import common, layers, probes, program, registry
from parity.stages.definition import NO_LINE, Definition, Needs

NETWORK = DCGAN.maker
CONV, BN = (next(layer.name for layer in NETWORK.layers if layer.kind == kind)
            for kind in ("transposed", "normalisation"))


class Made(Capture):
    """A capture of arrays in memory."""

    def __init__(self, arrays: dict[str, np.ndarray], facts: dict | None = None,
                 spec: Spec = DCGAN) -> None:
        self.arrays, self.facts, self.spec, self.entries = arrays, facts or {}, spec, arrays
        self.attached = {}
        self.manifest = {"plan": {"minibatch_size": 2}}
        self.folder, self.producer = Path("nowhere"), ""

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise CaptureError(f"no {name}")
        return self.arrays[name]


def captures(port: dict[str, np.ndarray], facts: dict | None = None,
             cntk: dict[str, np.ndarray] | None = None) -> common.Captures:
    return common.Captures(Made(cntk or {}), Made(port, facts), Made({}))


def behind(copied: bool, momentum: float, samples: int = 2) -> common.Captures:
    """A normalisation's statistics behind two minibatches."""
    arrays: dict[str, np.ndarray] = {}
    channels = NETWORK.layer(BN).output[0]
    held = {"running_mean": np.zeros(channels), "running_variance": np.ones(channels)}
    for i in range(2):
        x = np.random.RandomState(i).standard_normal((samples, channels, 4, 4)) * (i + 1) + 1
        place = f"normalisation/networks/minibatch{i:02d}/{NETWORK.name}/{BN}"
        entered = {"mean": x.mean((0, 2, 3)), "variance": x.var((0, 2, 3), ddof=1)}
        factor = 1.0 if copied and i == 0 else momentum
        for quantity, value in entered.items():
            arrays[f"{place}/{quantity}"] = value
            held[f"running_{quantity}"] = np.float32(
                (1 - factor) * held[f"running_{quantity}"] + factor * value)
            arrays[f"{place}/running_{quantity}"] = held[f"running_{quantity}"]
    return captures(arrays)


RIGHT = -np.expm1(-2 / DCGAN.time_constant)


@pytest.mark.parametrize("copied, momentum, named", [
    (True, RIGHT, []), (False, RIGHT, ["first-update"]), (True, 0.1, ["momentum"]),
    (False, 0.1, ["first-update", "momentum"]), (True, RIGHT * 1.05, ["momentum"]),
    (True, 0.0, ["momentum"])])
def test_the_first_minibatch_is_copied_and_later_ones_come_in_at_cntks_pace(copied, momentum,
                                                                             named):
    stage, there = probes.NORMALISATION.made(), behind(copied, momentum)
    probes.normalisation(stage, there)
    assert len(stage.checks) == 4 and stage.passed == (not named)
    assert [one.name for _, one in carried.normalisation(there, stage)] == named


def test_statistics_without_what_went_in_fail():
    stage, there = probes.NORMALISATION.made(), behind(True, RIGHT)
    for name in list(there.port.arrays):
        if name.endswith("/mean"):
            del there.port.arrays[name]
    probes.normalisation(stage, there)
    assert not stage.passed and list(carried.normalisation(there, stage)) == []


def test_images_in_another_range_are_rounded():
    """In the critic's first layer alone, and only where the port says so."""
    first, second = (layer.name for layer in DCGAN.critic.layers if layer.weight and int(
        layer.name[-1]) < 3)
    weight = np.ones((4, 3, 3, 3), np.float32)
    cntk = {f"state/{DCGAN.critic.name}/{first}/weight": weight}
    there = captures({}, {"input_rounding": 6e-8}, cntk)
    place = f"{DCGAN.real}/{first}/output"
    assert layers.of_images(there, "forward/training", place) == pytest.approx(6e-8 * 27 ** 0.5)
    assert layers.of_images(there, "gradient/d", place) == 0
    assert layers.of_images(there, "forward/training", f"{DCGAN.real}/{second}/output") == 0
    assert layers.of_images(captures({}, {}, cntk), "forward/training", place) == 0
    last = f"{NETWORK.name}/{NETWORK.last}/output"
    assert layers.of_images(there, "forward/training", last) == 0
    there = captures({}, {"output_rounding": 1e-7}, cntk)
    assert layers.of_images(there, "forward/training", last) == 1e-7


def test_what_no_line_can_name_is_said_plainly():
    one = Definition("pointwise", "", "", lambda stage, captures: None,
                     {"port": Needs(("pointwise/probe",))})
    for line, said in ((f"{NO_LINE}it is compared elsewhere", "it is compared elsewhere"),
                       ("d_loss = yours", "the adapter does not say: add `d_loss = yours`")):
        lack = one.lacking(captures({}, {"not_given": {"pointwise": line}}))
        assert lack is not None and lack.reason == said


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not():
    names = [name for network in DCGAN.networks for name in network.arrays]
    apart = np.zeros(len(names))
    for at, passed in ((None, True), (3, False)):
        if at is not None:
            apart[at] = 1e-9
        stage = program.PROGRAM.made()
        program.judge(stage, captures({program.APART: apart.copy()}))
        assert stage.passed == passed and len(stage.checks) == 1
    assert stage.checks[0].place == f"resumed/{names[3]}"
    stage = program.PROGRAM.made()
    program.judge(stage, captures({program.APART: apart[1:]}))
    assert not stage.passed


def test_a_picture_is_judged_beside_it():
    names = [name for network in DCGAN.networks for name in network.arrays]
    stage, image = program.PROGRAM.made(), np.zeros((3, 4, 4), np.float32)
    program.judge(stage, captures({
        program.APART: np.zeros(len(names)), "program/run/picture/image": image,
        "program/run/picture/written": np.full((4, 4, 3), 128, np.uint8)}))
    assert stage.passed and len(stage.checks) == 2


@pytest.mark.parametrize(("asked", "port", "passed", "whole"), [
    ("reader", {}, False, True),  # not judged, because it raised
    ("program", {program.APART: None}, False, True),  # judged in part: the rest raised
    ("state", {}, False, True),  # nothing to do with what raised, and not there
    ("program,whole", {program.APART: None}, False, True),
    ("initial", {}, False, False)])  # not given: nobody's failure
def test_a_stage_that_was_asked_for_and_raised_fails_the_run(asked, port, passed, whole):
    apart = np.zeros(sum(len(network.arrays) for network in DCGAN.networks))
    made = captures(dict.fromkeys(port, apart), {
        "stopped": "reader: OSError: gone; picture: ValueError: no",
        "stopped_stages": {"reader": "reader: OSError: gone", "program": "picture: ValueError: no"},
        "not_given": {"initial": "initialize = yours"}}, dict.fromkeys(
            ("reader/probe/x", "input/reader/x", "initial/x", "state/x"), apart))
    report = comparison._report(made, registry.chosen(asked.split(",")))
    assert report.passed == passed
    assert [stage.name for stage in report.stages] == [
        asked.split(",")[0], *["whole"] * whole]
    if whole:
        said = report.first_failure[1].detail
        assert said == "the port stopped: reader: OSError: gone; picture: ValueError: no"
    if asked == "reader":
        assert report.stages[0].not_judged.endswith("the port stopped: reader: OSError: gone")


def test_where_all_that_was_asked_for_was_done_no_other_stage_fails_the_run():
    apart = np.zeros(sum(len(network.arrays) for network in DCGAN.networks))
    made = captures({program.APART: apart}, {"stopped": "reader: OSError: gone",
                                             "stopped_stages": {"reader": "reader: OSError: gone"}})
    report = comparison._report(made, registry.chosen(["program"]))
    assert report.passed and [stage.name for stage in report.stages] == ["program"]
