"""Against independent implementations: torch-fidelity, pytorch-fid, torchmetrics, torchvision."""
from __future__ import annotations

import independent
import numpy as np
import pytest
from score_samples import noise

from scores.classifiers import registry
from scores.classifiers.base import prepared
from scores.fid import Moments, fid
from scores.inception_score import inception_score, score, softmax
from scores.kid import kid, squared_discrepancy

SAME = 1e-6  # relative: the same formula in float64, added up in another order
FEATURES = 1e-5  # relative to the largest: float32 through 48 layers, twice

NETWORKS = ("inception-2015", "inception-v3")


@pytest.fixture(scope="module")
def given():
    draws = np.random.RandomState(3)
    features = [draws.normal(size=(200, 12)) @ draws.normal(size=(12, 12)) + shift
                for shift in (0, 0.3)]
    return {
        "logits": draws.normal(size=(203, 17)) * 3,
        "features_a": features[0], "features_b": features[1],
        "pictures": noise(2).astype(np.uint8),
        "prepared_2015": prepared(noise(2), registry.module_of("inception-2015").SPEC),
        "prepared_v3": prepared(noise(2), registry.module_of("inception-v3").SPEC),
    }


@pytest.fixture(scope="module")
def found(given, tmp_path_factory, random_weights):
    return independent.run(given, tmp_path_factory.mktemp("references"),
                          *(str(random_weights[name]) for name in NETWORKS))


def relative(ours, theirs) -> float:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(abs(ours - theirs).max() / abs(theirs).max())


@pytest.mark.parametrize("splits", [1, 10])
def test_the_score_is_theirs(given, found, splits):
    order = np.random.RandomState(2020).permutation(len(given["logits"]))  # torch-fidelity's
    ours = inception_score(softmax(given["logits"]), splits, order=order)
    assert relative([ours.value, ours.deviation],
                    found[f"torch-fidelity/isc/{splits}/False"]) < SAME
    assert relative([ours.shuffled, ours.shuffled_deviation],
                    found[f"torch-fidelity/isc/{splits}/True"]) < SAME
    assert relative(ours.one_split, found["torchmetrics/isc/1"]) < SAME
    # the twin: one picture of 203 in another's place is seen
    moved = given["logits"].copy()
    moved[0] = moved[1]
    assert relative(score(softmax(moved)), found["torchmetrics/isc/1"]) > SAME


def test_the_distance_is_theirs(given, found):
    moments = [Moments(12), Moments(12)]
    for one, name in zip(moments, ("features_a", "features_b"), strict=True):
        for part in np.array_split(given[name], 7):  # as it comes in batches
            one.add(part)
    ours, word = fid(*moments)
    for theirs in ("pytorch-fid/fid", "torchmetrics/fid", "torch-fidelity/fid"):
        assert relative(ours, found[theirs]) < SAME, theirs
    assert ours > 0.1 and not word


def test_the_kernel_distance_is_theirs(given, found):
    a, b = given["features_a"], given["features_b"]
    assert relative(kid(a, b, 5, 50, seed=2020), found["torch-fidelity/kid"]) < SAME
    assert relative(squared_discrepancy(a[:150], b[:150]), found["torchmetrics/kid"]) < SAME


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_the_network_of_2015_is_theirs(given, found, random_weights, cache, runtime):
    ours = registry.load("inception-2015", random_weights["inception-2015"], runtime=runtime,
                         cache=cache)
    features, logits = ours(given["pictures"].astype(np.float32))
    assert relative(features, found["torch-fidelity/features"]) < FEATURES
    assert relative(logits, found["torch-fidelity/logits"]) < FEATURES
    assert relative(features, found["pytorch-fid/features"]) < FEATURES
    # the twin: the ordinary kernel in place of TensorFlow 1's
    other, _ = ours(given["pictures"].astype(np.float32), kernel="bilinear")
    assert relative(other, found["torch-fidelity/features"]) > 10 * FEATURES


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_the_network_of_imagenet_is_theirs(given, found, random_weights, cache, runtime):
    ours = registry.load("inception-v3", random_weights["inception-v3"], runtime=runtime,
                         cache=cache)
    features, logits = ours.of_prepared(given["prepared_v3"])
    assert relative(features, found["torchvision/features"]) < FEATURES
    assert relative(logits, found["torchvision/logits"]) < FEATURES
