"""What the stages do for a user's port: its first minibatch, its images in another range, and what
no line of an adapter can name."""
from pathlib import Path

import numpy as np
import pytest

from captures.article import DCGAN
from captures.errors import CaptureError
from captures.format import Capture
from captures.spec import Spec
from parity.stages import common, layers, probes
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
        self.folder = Path("nowhere")

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise CaptureError(f"no {name}")
        return self.arrays[name]


def captures(port: dict[str, np.ndarray], facts: dict | None = None,
             cntk: dict[str, np.ndarray] | None = None) -> common.Captures:
    return common.Captures(Made(cntk or {}), Made(port, facts), Made({}))


@pytest.mark.parametrize("blend, passes", [(1.0, True), (0.1, False)])
def test_the_first_minibatch_is_copied(blend, passes):
    x = np.random.RandomState(0).standard_normal((2, 5, 4, 4)).astype(np.float32) + 1
    place = f"normalisation/first/{NETWORK.name}/{BN}"
    stage = probes.NORMALISATION.made()
    probes.normalisation(stage, captures({
        f"forward/training/{NETWORK.name}/{CONV}/output": x,
        f"{place}/running_mean": np.float32(blend * x.mean((0, 2, 3))),
        f"{place}/running_variance": np.float32(
            blend * x.var((0, 2, 3), ddof=1) + 1 - blend)}))
    assert len(stage.checks) == 2 and stage.passed == passes


def test_a_first_minibatch_without_what_went_in_fails():
    stage = probes.NORMALISATION.made()
    probes.normalisation(stage, captures({
        f"normalisation/first/{NETWORK.name}/{BN}/running_mean": np.zeros(5, np.float32)}))
    assert not stage.passed


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


def test_what_no_line_can_name_is_said_plainly():
    one = Definition("pointwise", "", "", lambda stage, captures: None,
                     {"port": Needs(("pointwise/probe",))})
    for line, said in ((f"{NO_LINE}it is compared elsewhere", "it is compared elsewhere"),
                       ("d_loss = yours", "the adapter does not say: add `d_loss = yours`")):
        lack = one.lacking(captures({}, {"not_given": {"pointwise": line}}))
        assert lack is not None and lack.reason == said
