"""Planted mistakes between a generator and its score: each is caught, and named where it began."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.stages.score import _check, allowed, policy_of, turned
from scores.classifiers.base import Spec, prepared
from scores.evaluate import probabilities
from scores.inception_score import score
from scores.paired import STEPS, Link, Side, judged, looked, written

SPEC = Spec("small", "small", 24, "bilinear", 127.0, 128.0, 6, 0)
WEIGHT = np.random.RandomState(1).normal(size=(3 * 4, 6))
LATENTS = np.random.RandomState(2).normal(size=(40, 5))
FILTERS = np.random.RandomState(3).normal(size=(5, 3 * 16 * 16))


def generator(latents: np.ndarray, filters: np.ndarray = FILTERS) -> np.ndarray:
    """16 x 16 made 32 x 32, B, G, R."""
    return np.tanh(latents @ filters).reshape(-1, 3, 16, 16).repeat(2, 2).repeat(2, 3).astype(
        np.float32)


def classifier(kind: type) -> object:
    def run(x):
        means = x.astype(kind).reshape(len(x), 3, 2, SPEC.side // 2, 2, SPEC.side // 2).mean((3, 5))
        features = means.reshape(len(x), -1)
        return features, (features @ WEIGHT.astype(kind)) * kind(3)
    return run


def write(images: np.ndarray) -> np.ndarray:
    """As both programs do: in float32."""
    pixels = (images / 2 + np.float32(0.5)) * np.float32(255)
    return np.rint(pixels[:, ::-1].transpose(0, 2, 3, 1)).astype(np.uint8)


def side(images: np.ndarray, pictures: np.ndarray | None = None, **more: object) -> Side:
    return Side(images, write(images) if pictures is None else pictures, **more)


IMAGES = generator(LATENTS)
RIGHT = side(IMAGES)
CHOSEN = prepared(RIGHT.pixels(4), SPEC)
LOOKED = replace(RIGHT, prepared=CHOSEN, logits=classifier(np.float32)(CHOSEN)[1])
LOOKED.score = score(probabilities(LOOKED.logits))


def began(cntk: Side, port: Side) -> tuple[str, str] | None:
    """Step and side of the first judgement that fails, by the stage's own policies."""
    sides = {"cntk": cntk, "port": port}
    looks = looked(sides, SPEC, classifier(np.float32), classifier(np.float64), 4)
    links, _, _ = judged(sides, looks, SPEC.name, SPEC.kernel)
    assert [link.step for link in links] == sorted(
        (link.step for link in links), key=STEPS.index), "not in the order in which they spread"
    for link in links:
        if not link.measured <= allowed(link, turned(links)):
            assert link.detail
            return link.step, link.side
    return None


def test_what_is_the_same_passes():
    assert began(LOOKED, RIGHT) is None
    assert score(probabilities(classifier(np.float32)(prepared(RIGHT.pixels(), SPEC))[1])) > 1.1


def test_what_rounds_otherwise_passes():
    """Images half the allowance off: a few pixels fall the other way, and nothing fails."""
    apart = np.random.RandomState(4).uniform(-1e-6, 1e-6, IMAGES.shape)
    moved = IMAGES + apart.astype(np.float32)
    assert began(LOOKED, side(np.clip(moved, -1, 1))) is None


def rgb(images):
    return write(images)[..., ::-1]


def times_127(images):
    return np.rint((images + 1) * 127)[:, ::-1].transpose(0, 2, 3, 1).astype(np.uint8)


def truncated(images):
    return ((images / 2 + 0.5) * 255)[:, ::-1].transpose(0, 2, 3, 1).astype(np.uint8)


@pytest.mark.parametrize("writer", [rgb, times_127, truncated])
@pytest.mark.parametrize("who", ["cntk", "port"])
def test_a_wrong_picture_writer(writer, who):
    wrong = side(IMAGES, writer(IMAGES))
    pair = (wrong, RIGHT) if who == "cntk" else (RIGHT, wrong)
    assert began(*pair) == ("pictures", who)


@pytest.mark.parametrize("kernel", ["tensorflow1", "nearest", "antialias", "bicubic"])
def test_another_resize(kernel):
    x = prepared(RIGHT.pixels(4), SPEC, kernel)
    wrong = replace(RIGHT, prepared=x, logits=classifier(np.float32)(x)[1])
    assert began(wrong, RIGHT) == ("prepared", "cntk")


def test_half_the_modes_dropped():
    half = LATENTS.copy()
    half[:, 0] = abs(half[:, 0])
    assert began(LOOKED, side(generator(half))) == ("images", "")


def test_one_filter_in_float16():
    filters = FILTERS.copy()
    filters[:, 7] = filters[:, 7].astype(np.float16)
    assert began(LOOKED, side(generator(LATENTS, filters))) == ("images", "")


def test_another_classifier():
    wrong = replace(LOOKED, logits=LOOKED.logits * np.float32(1.0001))
    assert began(wrong, RIGHT) == ("logits", "cntk")


@pytest.mark.parametrize("change, found", [
    (lambda look: replace(look, features=look.features * np.float32(1.0001)), ("features", "port")),
    (lambda look: replace(look, features=look.features * np.float32(1.01),
                          exact=look.exact * 1.01), ("features", ""))])
def test_other_features(change, found):
    """What another runtime of the classifier sees; and what it sees in other pictures."""
    sides = {"cntk": LOOKED, "port": RIGHT}
    looks = looked(sides, SPEC, classifier(np.float32), classifier(np.float64), 4)
    looks["port"] = change(looks["port"])
    links, _, _ = judged(sides, looks, SPEC.name, SPEC.kernel)
    failed = [link for link in links if not link.measured <= policy_of(link).value]
    assert (failed[0].step, failed[0].side) == found and failed[0].detail


def test_another_formula():
    assert LOOKED.score is not None
    assert began(replace(LOOKED, score=LOOKED.score * 1.0001), RIGHT) == ("score", "cntk")


@pytest.mark.parametrize("port, found", [
    (side(IMAGES, RIGHT.files[:, ::2, ::2]), ("pictures", "port")),
    (side(IMAGES, RIGHT.files[:-1]), ("pictures", "port")),
    (replace(LOOKED, prepared=CHOSEN[:, :, :-1]), ("prepared", "port")),
    (replace(LOOKED, logits=LOOKED.logits[:, :-1]), ("logits", "port")),
    (replace(LOOKED, logits=LOOKED.logits[:-1]), ("logits", "port"))])
def test_another_shape_is_a_difference(port, found):
    assert began(RIGHT, port) == found


def test_nan_in_an_image():
    broken = IMAGES.copy()
    broken[0, 0, 0, 0] = np.nan
    assert began(RIGHT, side(broken, RIGHT.pictures)) == ("images", "")


def test_what_a_file_holds_by_the_formula():
    x = np.array([-1, 0, 1], np.float32).reshape(1, 3, 1, 1)
    np.testing.assert_array_equal(written(x)[0, 0, 0], [255, 127.5, 0])


@pytest.mark.parametrize(("moved", "images", "flipped", "right"), [
    (9e-6, 0.0, 0.0, True), (5e-5, 1e-6, 0.0, False), (5e-5, 1e-6, 2e-5, True),
    (2e-4, 1e-6, 2e-5, False),
    (5e-5, 1e-4, 2e-5, False),  # the images are farther apart than rounding takes them
    (5e-5, 1e-6, 0.5, False)])  # the writer turned the values
def test_pictures_that_rounding_turned_move_the_score(moved, images, flipped, right):
    """Where values of the pictures fell the other way, and by no more than that explains."""
    links = [Link("images", "", images, ""), Link("pictures", "port", 0.0, ""),
             Link("pictures", "", flipped, ""), Link("score", "port", moved, ""),
             Link("score", "", moved, "")]
    *_, own, between = (_check("trained", link, 0.0, turned(links)).passed for link in links)
    assert between == right and own == (moved < 1e-5)
