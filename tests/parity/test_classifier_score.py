"""The classifier score: its formula on hand-made distributions, its classifier on a photograph."""
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from parity import classifier_score
from parity.classifier_score import (
    BATCH,
    CLASSES,
    Classifier,
    ClassifierError,
    prepare,
    score,
    score_with_interval,
    torch_network,
)

MILITARY_UNIFORM = 652  # of ImageNet's classes, from 0


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("classifier")


@pytest.fixture(scope="session")
def classifier(cache) -> Classifier:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Classifier(cache)


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """Grace Hopper in uniform: the only photograph that the installed packages bring (matplotlib).

    1 x 3 x 600 x 512, in [-1, 1], channels B, G, R.
    """
    from matplotlib import get_data_path
    image = cv2.imread(os.path.join(get_data_path(), "sample_data", "grace_hopper.jpg"))
    return (image.transpose(2, 0, 1)[None] / 127.5 - 1).astype(np.float32)


def noise(n: int, seed: int = 0, side: int = 256) -> np.ndarray:
    r = np.random.RandomState(seed)
    coarse = r.uniform(-1, 1, (n, 3, side // 32, side // 32)).astype(np.float32)
    return coarse.repeat(32, 2).repeat(32, 3)


def random_distributions(n: int, k: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).dirichlet(np.full(k, 0.1), n)


# ---- the formula


@pytest.mark.parametrize("k", [2, 10, 1000])
def test_the_same_of_every_image_scores_one(k):
    assert score(np.full((8, k), 1 / k)) == pytest.approx(1, abs=1e-12)
    assert score(np.tile(random_distributions(1, k), (8, 1))) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_n_classes_each_sure_and_as_frequent_score_n(n):
    assert score(np.eye(max(n, 2))[:n].repeat(3, 0)) == pytest.approx(n, rel=1e-12)


def test_hand_computed():
    # p(y) = (0.5, 0.5); KL of each row = log 2 + 0.9 log 0.9 + 0.1 log 0.1
    p = np.array([[0.9, 0.1], [0.1, 0.9]])
    assert score(p) == pytest.approx(2 * 0.9**0.9 * 0.1**0.1, rel=1e-14)


def test_unequal_frequencies():
    # three images of one class, one of another: the entropy of (3/4, 1/4)
    p = np.eye(2)[[0, 0, 0, 1]]
    assert score(p) == pytest.approx(0.75**-0.75 * 0.25**-0.25, rel=1e-14)


def test_order_of_images_and_of_classes_does_not_matter():
    p = random_distributions(20, 50)
    assert score(p[::-1]) == pytest.approx(score(p), rel=1e-12)
    assert score(p[:, ::-1]) == pytest.approx(score(p), rel=1e-12)


def test_less_sure_scores_less():
    p = np.eye(10)
    assert score(0.9 * p + 0.01) < score(p)


def test_interval_is_reproducible_and_holds_the_score():
    p = random_distributions(40, 30)
    first = score_with_interval(p, seed=3)
    assert first == score_with_interval(p, seed=3)
    assert first != score_with_interval(p, seed=4)
    value, low, high = first
    assert value == score(p)
    assert 1 <= low < value < high <= 30


def test_interval_narrows_with_more_images_and_widens_with_confidence():
    def width(*args, **kwargs):
        _, low, high = score_with_interval(*args, **kwargs)
        return high - low

    many, few = random_distributions(640, 10), random_distributions(40, 10)
    assert width(many) < 0.5 * width(few)
    assert width(few, confidence=0.99) > width(few, confidence=0.8)


def test_interval_against_samples_drawn_anew():
    """Four in five intervals, or more, hold the mean score of sets of as many images."""
    drawn = [random_distributions(60, 10, seed) for seed in range(100)]
    mean = np.mean([score(p) for p in drawn])
    held = [low <= mean <= high for _, low, high in
            (score_with_interval(p, resamples=200) for p in drawn)]
    assert np.mean(held) > 0.8


@pytest.mark.parametrize("p", [np.full((5, 4), 0.25), np.eye(6), np.eye(4)[:1]])
def test_interval_without_anything_to_vary(p):
    value, low, high = score_with_interval(p)
    assert 1 - 1e-9 <= low <= value <= high <= min(p.shape) + 1e-9 or value == pytest.approx(1)


@pytest.mark.parametrize(("p", "says"), [
    (np.full(4, 0.25), "shape"),
    (np.empty((0, 4)), "shape"),
    (np.ones((4, 1)), "shape"),
    (np.array([[0.5, 0.5], [np.nan, 1]]), "NaN"),
    (np.array([[0.5, 0.5], [0.5, 0.6]]), "row 1"),
    (np.array([[0.5, 0.5], [-0.5, 1.5]]), "row 1"),
    (np.log(np.full((3, 4), 0.25)), "row"),
])
def test_what_is_no_distribution_is_refused(p, says):
    with pytest.raises(ValueError, match=says):
        score(p)
    with pytest.raises(ValueError, match=says):
        score_with_interval(p)


@pytest.mark.parametrize("options", [{"resamples": 1}, {"confidence": 1.0}, {"confidence": 0}])
def test_bad_options_of_the_interval(options):
    with pytest.raises(ValueError, match="give at least 2"):
        score_with_interval(np.eye(3), **options)


# ---- what goes into the classifier


def test_preparing_normalises_and_turns_the_channels():
    images = np.zeros((1, 3, 224, 224), np.float32)
    images[0, 0], images[0, 1], images[0, 2] = -1, 0, 1  # blue black, green grey, red white
    prepared = prepare(images)
    for channel, pixel in enumerate((255, 127.5, 0)):  # red first
        np.testing.assert_allclose(prepared[0, channel], (pixel - 127) / 128, atol=1e-6)


def test_preparing_scales_the_whole_picture_and_keeps_its_sides_apart():
    images = np.full((1, 3, 256, 320), -1, np.float32)
    images[..., 160:] = 1
    prepared = prepare(images)
    assert prepared.shape == (1, 3, 224, 224)
    assert (prepared[..., :111] < -0.99).all()
    assert (prepared[..., 113:] > 0.99).all()


@pytest.mark.parametrize(("images", "says"), [
    (np.zeros((3, 8, 8), np.float32), r"shape \(3, 8, 8\)"),
    (np.zeros((2, 8, 8, 3), np.float32), "channels B, G, R"),
    (np.zeros((0, 3, 8, 8), np.float32), "none of them 0"),
    (np.zeros((2, 3, 0, 8), np.float32), "none of them 0"),
    (np.zeros((2, 3, 8, 8), np.uint8), "uint8"),
    (np.full((2, 3, 8, 8), 255, np.float32), r"up to 255"),
    (np.full((2, 3, 8, 8), np.nan, np.float32), "image 0 holds NaN"),
])
def test_bad_images_are_refused(classifier, images, says):
    with pytest.raises(ValueError, match=says):
        classifier.probabilities(images)


def test_the_bad_image_is_named_wherever_it_stands(classifier):
    images = np.zeros((BATCH + 3, 3, 8, 8), np.float32)
    images[BATCH + 1, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match=f"image {BATCH + 1} "):
        classifier.probabilities(images)


# ---- the classifier


def test_it_knows_a_uniform(classifier, photograph):
    p = classifier.probabilities(photograph)
    assert p.shape == (1, CLASSES)
    assert p.dtype == np.float64
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert p.argmax() == MILITARY_UNIFORM
    assert p.max() > 0.4


def test_channel_order_matters(classifier, photograph):
    """Right order: surer. The twin: R, G, B handed in as B, G, R is another answer, and a worse."""
    right = classifier.probabilities(photograph)[0]
    swapped = classifier.probabilities(np.ascontiguousarray(photograph[:, ::-1]))[0]
    assert right[MILITARY_UNIFORM] > swapped[MILITARY_UNIFORM] + 0.05
    blue = np.full((1, 3, 256, 256), -1, np.float32)
    blue[:, 0] = 1
    rgb = prepare(blue)[0]
    assert rgb[2].min() > 0.99
    assert rgb[:2].max() < -0.99


def largest_disagreement(classifier, network, prepared) -> float:
    import torch
    with torch.no_grad():
        theirs = network(torch.from_numpy(prepared)).numpy()
    return float(abs(classifier.logits(prepared) - theirs).max())


def test_torch_and_onnxruntime_agree(classifier, photograph):
    """Logits are of size 10: 1e-4 is float32's rounding through 50 layers, no more."""
    network = torch_network()
    prepared = np.concatenate([prepare(noise(3)), prepare(photograph)])
    assert largest_disagreement(classifier, network, prepared) < 1e-4
    # the twin: two filters of one layer changed places
    weight = network._conv_stem.weight.data
    weight[[0, 5]] = weight[[5, 0]]
    assert largest_disagreement(classifier, network, prepared) > 1e-2


def test_same_images_same_score(classifier, cache):
    images = noise(6)
    first = score(classifier.probabilities(images))
    assert score(classifier.probabilities(images)) == first
    assert score(Classifier(cache).probabilities(images)) == first
    assert score(classifier.probabilities(noise(6, seed=1))) != first
    assert 1 < first < 6


def test_batches_do_not_matter(classifier):
    images = noise(BATCH + 2)
    whole = classifier.probabilities(images)
    np.testing.assert_allclose(whole[-1:], classifier.probabilities(images[-1:]), atol=1e-6)


def test_it_is_converted_once(classifier, cache, monkeypatch):
    def refuse(path):
        raise AssertionError("converted again")

    monkeypatch.setattr(classifier_score, "convert", refuse)
    Classifier(cache)
    assert [p.name for p in cache.iterdir()] == [classifier.path.name]


@pytest.mark.parametrize("size", [0, 1000, -1000])
def test_half_a_file_is_made_again(classifier, tmp_path, size):
    half = tmp_path / classifier.path.name
    half.write_bytes(classifier.path.read_bytes()[:size])
    images = noise(1)
    np.testing.assert_array_equal(Classifier(tmp_path).probabilities(images),
                                  classifier.probabilities(images))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ClassifierError, match="give a folder that can be written"):
        Classifier(tmp_path / "file" / "cache")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ClassifierError, match="No space left"):
        Classifier(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ClassifierError, match=r"efficientnet_lite_pytorch .*requirements-torch"):
        Classifier(tmp_path)
