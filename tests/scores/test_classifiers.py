"""The classifiers behind their interface: preparation, both runtimes, any ONNX file."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from score_samples import noise

from scores.classifiers import onnx_file, registry, runtimes
from scores.classifiers.base import Reading, Spec, checked, eight_bits, pixels_of, prepared
from scores.classifiers.weights import sha256_of
from scores.errors import ScoreError

MILITARY_UNIFORM = 652
ROUNDING = 1e-4  # of logits of size 10: float32 through 50 layers, added up in another order


@pytest.fixture(scope="module")
def lite(cache):
    return registry.load(cache=cache)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Grace Hopper in uniform, which matplotlib brings along; R, G, B of 0..255."""
    import matplotlib.cbook
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        picture = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    return picture[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)


def test_it_knows_a_uniform(lite, photograph):
    features, logits = lite(photograph)
    assert features.shape == (1, 1280) and logits.shape == (1, 1000)
    assert logits.argmax() == MILITARY_UNIFORM
    # the twin: B, G, R handed in as R, G, B is another answer, and a worse one
    swapped = lite(np.ascontiguousarray(photograph[:, ::-1]))[1]
    assert swapped[0, MILITARY_UNIFORM] < logits[0, MILITARY_UNIFORM]


def test_every_classifier_is_named_with_its_weights(lite):
    assert "EfficientNet-Lite0" in lite.spec.title and "not Inception" in lite.spec.title
    assert "SHA-256 579344248a93e230" in lite.weights
    for name in registry.REGISTRY:
        assert registry.module_of(name).SPEC.name == name


@pytest.mark.parametrize("double", [False, True])
def test_both_runtimes_say_the_same(lite, photograph, double):
    other = registry.load(runtime="torch", double=double)
    x = np.concatenate([prepared(noise(2), lite.spec), prepared(photograph, lite.spec)])
    for ours, theirs in zip(lite.of_prepared(x), other.of_prepared(x), strict=True):
        assert abs(ours - theirs).max() < ROUNDING


def test_another_weight_is_another_answer(lite):
    made, _, _ = registry.network(registry.DEFAULT)
    with torch.no_grad():
        stem = made.get_submodule("inner._conv_stem").weight
        stem[[0, 5]] = stem[[5, 0]].clone()
    x = prepared(noise(2), lite.spec)
    assert abs(runtimes.by_torch(made)(x)[1] - lite.of_prepared(x)[1]).max() > 100 * ROUNDING


def test_batches_do_not_matter(lite):
    x = noise(runtimes.BATCH + 2)
    whole = lite(x)
    for ours, alone in zip(whole, lite(x[-1:]), strict=True):
        assert abs(ours[-1:] - alone).max() < ROUNDING


def another(content: bytes) -> bytes:
    """The same network with other weights, which loads as well."""
    model = onnx.load_from_string(content)
    for weight in model.graph.initializer:
        if weight.dims and weight.dims[0] == 1000:
            weight.CopyFrom(onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(weight)[::-1].copy(), weight.name))
    return model.SerializeToString()


@pytest.mark.parametrize("change", [lambda whole: whole[:-1000], another])
@pytest.mark.parametrize("stated", [False, True])
def test_an_onnx_file_that_is_not_ours_is_made_again(lite, tmp_path, change, stated):
    made = Path(lite.path)
    (tmp_path / made.name).write_bytes(change(made.read_bytes()))
    if stated:
        (tmp_path / f"{made.name}.sha256").write_bytes(
            made.with_name(f"{made.name}.sha256").read_bytes())
    again = registry.load(cache=tmp_path)
    np.testing.assert_array_equal(again(noise(1))[1], lite(noise(1))[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [made.name, f"{made.name}.sha256"]
    before = (tmp_path / made.name).stat().st_mtime_ns
    registry.load(cache=tmp_path)
    assert (tmp_path / made.name).stat().st_mtime_ns == before  # made once


def test_a_cache_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ScoreError, match="give a folder that can be written"):
        registry.load(cache=tmp_path / "file" / "cache")

    def full(*arguments):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ScoreError, match="No space left"):
        registry.load(cache=tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_a_missing_package_is_named(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ScoreError, match=r"efficientnet_lite_pytorch .*requirements-torch"):
        registry.load()


# ---- preparation


def test_preparation_by_the_formula():
    spec = Spec("x", "x", 8, "bilinear", (1.0, 2.0, 3.0), (10.0, 20.0, 40.0), 2, 0)
    x = noise(1, 0, 8, 8)
    made = prepared(x, spec)
    for channel, (middle, scale) in enumerate(((1, 10), (2, 20), (3, 40))):
        np.testing.assert_allclose(made[:, channel], (x[:, channel] - middle) / scale, rtol=1e-5)


@pytest.mark.parametrize(("pixels", "says"), [
    (np.zeros((3, 8, 8), np.float32), r"shape \(3, 8, 8\)"),
    (np.zeros((2, 8, 8, 3), np.float32), "channels R, G, B"),
    (np.zeros((0, 3, 8, 8), np.float32), "none of them 0"),
    (np.zeros((2, 3, 8, 8), np.uint8), "uint8"),
    (np.full((2, 3, 8, 8), 300, np.float32), "picture 0 has values from 300 to 300"),
    (np.full((2, 3, 8, 8), -1, np.float32), "picture 0 has values from -1"),
    (np.full((2, 3, 8, 8), np.nan, np.float32), "picture 0 holds NaN"),
])
def test_bad_pixels_are_refused(pixels, says):
    with pytest.raises(ScoreError, match=says):
        checked(pixels)


def test_the_bad_picture_is_named_wherever_it_stands():
    x = noise(5)
    x[3, 0, 0, 0] = np.inf
    with pytest.raises(ScoreError, match="picture 3 holds"):
        checked(x)


def test_a_generators_images_become_pixels():
    images = np.linspace(-1, 1, 2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    made = pixels_of(images)
    np.testing.assert_allclose(made[:, 0], (images[:, 2] + 1) * 127.5, rtol=1e-6)
    assert made.min() == 0 and made.max() == 255
    np.testing.assert_array_equal(eight_bits(np.float32([0.5, 1.5, 254.6, 300])), [0, 2, 255, 255])
    for wrong, says in ((images * 2, "values up to 2"), (images[0], "N x 3 x H x W"),
                        (images.astype(np.uint8), "not pixels"), (images * np.nan, "NaN")):
        with pytest.raises(ScoreError, match=says):
            pixels_of(wrong)


# ---- any ONNX file


Nodes = Sequence[tuple[str, object]]


def classifier_file(path: Path, classes: int = 4, softmax: bool = False, batch: int | str = "n",
                    side: int | str = 8, features: bool = False, more: Nodes = (),
                    names: tuple[str, str] = ("features", "logits")) -> Path:
    """Means of the channels, times a matrix: small enough to be checked by hand. more: operators
    after its output, each with a constant. names: of the outputs."""
    weight = np.random.RandomState(0).normal(size=(3, classes)).astype(np.float32) / 50
    h = onnx.helper
    nodes = [h.make_node("GlobalAveragePool", ["image"], ["pooled"]),
             h.make_node("Flatten", ["pooled"], ["features"]),
             h.make_node("MatMul", ["features", "weight"], ["logits"])]
    outputs = [h.make_tensor_value_info("logits", 1, [batch, classes])]
    if softmax:
        nodes.append(h.make_node("Softmax", ["logits"], ["likely"], axis=1))
        outputs = [h.make_tensor_value_info("likely", 1, [batch, classes])]
    if features:
        outputs.insert(0, h.make_tensor_value_info("features", 1, [batch, 3]))
    constants = [onnx.numpy_helper.from_array(weight, "weight")]
    for operator, value in more:
        last = outputs[-1].name
        nodes.append(h.make_node(operator, [last, f"{last}2"] if value is not None else [last],
                                 [f"{last}1"]))
        if value is not None:
            constants.append(onnx.numpy_helper.from_array(np.asarray(value), f"{last}2"))
        outputs[-1] = h.make_tensor_value_info(f"{last}1", 1, [batch, classes])
    for name, to in zip(("features", "logits"), names, strict=True):
        for port in (o for o in outputs if o.name == name != to):
            nodes.append(h.make_node("Identity", [name], [to]))
            port.name = to
    graph = h.make_graph(nodes, "g", [h.make_tensor_value_info("image", 1, [batch, 3, side, side])],
                         outputs, constants)
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_any_onnx_classifier(tmp_path):
    x = noise(5, 0, 8, 8)
    made = registry.load(str(classifier_file(tmp_path / "a.onnx", features=True)),
                         normalisation="[0,1]")
    features, logits = made(x)
    np.testing.assert_allclose(features, (x / 255).mean((2, 3)), rtol=1e-5)
    assert logits.shape == (5, 4) and made.spec.features == 3 and "a.onnx" in made.spec.title
    other = registry.load(str(tmp_path / "a.onnx"), normalisation="imagenet")(x)[1]
    assert abs(other - logits).max() > 1e-3


def test_probabilities_and_fixed_batches_are_taken(tmp_path):
    x = noise(5, 0, 8, 8)
    logits = registry.load(str(classifier_file(tmp_path / "a.onnx")))(x)[1]
    likely = registry.load(str(classifier_file(tmp_path / "b.onnx", softmax=True)))(x)[1]
    np.testing.assert_allclose(np.exp(likely), np.exp(logits) / np.exp(logits).sum(1)[:, None],
                               rtol=1e-5)
    fixed = registry.load(str(classifier_file(tmp_path / "c.onnx", batch=2)))(x)
    np.testing.assert_allclose(fixed[1], logits, rtol=1e-5)
    assert registry.load(str(classifier_file(tmp_path / "d.onnx", side="s"))).spec.side == 224


F = np.float32
ROUND: Nodes = [("Mul", F(64)), ("Round", None), ("Mul", F(1 / 64))]


@pytest.mark.parametrize("more", [
    ROUND, [("Max", F(0.21))], [("Mul", F(100))], [("Mul", F(100)), ("Round", None)],
    [("Mul", F(255)), ("Round", None)], [("Mul", F(0.5))], [("Sub", F(0.25)), ("Max", F(0))],
], ids=["rounded", "floored", "per cent", "whole per cent", "bytes", "halved", "cut"])
def test_probabilities_that_do_not_sum_to_1_are_not_taken_for_logits(tmp_path, more):
    made = registry.load(str(classifier_file(tmp_path / "a.onnx", softmax=True, more=more)),
                         normalisation="pixels")
    pictures = np.repeat(np.repeat(noise(40, 0, 1, 1), 8, 2), 8, 3)  # each of another colour
    with pytest.raises(ScoreError, match=r"a\.onnx .*look like probabilities but do not sum to 1"):
        made(pictures)


@pytest.mark.parametrize("rows", [
    [[0.001, 0.002, 0], [0, 0.01, 0.02]], [[-0.2, 0.8, 0.4], [0.1, 0.2, 0.6]],
    [[7, 0, 0.5], [0, 3, 9]], [[-3, -0.1, 0], [-1, -1, 0]]])
def test_logits_of_any_size_are_logits(rows):
    rows, reading = np.float32(rows), Reading()
    assert onnx_file._as_logits(rows, reading, Path("a")) is rows and reading.taken == "logits"


def test_how_an_output_is_taken_is_decided_once():
    """The first rows decide, whatever later ones are like."""
    likely, other = np.float32([[0.5, 0.5], [0.75, 0.25]]), np.float32([[-1, 2], [0.5, 0.5]])
    reading = Reading()
    assert onnx_file._as_logits(other, reading, Path("a")) is other
    assert onnx_file._as_logits(likely, reading, Path("a")) is likely
    assert reading.taken == "logits"
    reading = Reading()
    np.testing.assert_allclose(np.exp(onnx_file._as_logits(likely, reading, Path("a"))), likely)
    assert reading.taken == "probabilities"
    for rows in (other, likely * np.float32(0.99), likely * 3):
        with pytest.raises(ScoreError, match="do not sum to 1"):
            onnx_file._as_logits(rows, reading, Path("a"))


def test_weights_in_a_file_beside_it_are_named(tmp_path):
    path = classifier_file(tmp_path / "a.onnx")
    assert registry.load(str(path)).weights.count("SHA-256") == 1
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="a.data",
              size_threshold=0)
    before = registry.load(str(path)).weights
    assert before.endswith(f"; a.data, SHA-256 {sha256_of(tmp_path / 'a.data')}")
    (tmp_path / "a.data").write_bytes(bytes(len((tmp_path / "a.data").read_bytes())))
    assert registry.load(str(path)).weights != before


def test_outputs_are_told_apart_by_name(tmp_path):
    for names in (("a", "b"), ("a", "logits"), ("features", "b")):
        path = classifier_file(tmp_path / "a.onnx", features=True, names=names)
        if names == ("a", "b"):
            with pytest.raises(ScoreError, match=r"Name that output 'logits'"):
                registry.load(str(path))
        else:
            spec = registry.load(str(path)).spec
            assert (spec.classes, spec.features) == (4, 3 * (names[0] == "features"))


@pytest.mark.parametrize(("more", "says"), [
    ([("Reshape", np.array([1, 4]))], "does not run on 2 pictures of 8 x 8"),
    ([("Reshape", np.array([1, -1]))], r"gives \[\(1, 8\)\] of 2 pictures, not \[\(2, 4\)\]"),
])
def test_a_file_that_takes_one_picture_and_does_not_say_so(tmp_path, more, says):
    path = classifier_file(tmp_path / "a.onnx", more=more)
    with pytest.raises(ScoreError, match=says):
        registry.load(str(path))


def test_a_file_of_open_size_that_takes_one_size(tmp_path):
    h = onnx.helper
    graph = h.make_graph(
        [h.make_node("Flatten", ["x"], ["flat"]), h.make_node("MatMul", ["flat", "w"], ["logits"])],
        "g", [h.make_tensor_value_info("x", 1, ["n", 3, "h", "w"])],
        [h.make_tensor_value_info("logits", 1, ["n", 4])],
        [onnx.numpy_helper.from_array(np.ones((3 * 64 * 64, 4), np.float32), "w")])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8),
              tmp_path / "a.onnx")
    with pytest.raises(ScoreError, match="does not run on 2 pictures of 224 x 224"):
        registry.load(str(tmp_path / "a.onnx"))


def test_onnx_files_that_classify_no_pictures(tmp_path):
    (tmp_path / "a.onnx").write_text("no graph")
    with pytest.raises(ScoreError, match="onnxruntime does not load"):
        registry.load(str(tmp_path / "a.onnx"))
    with pytest.raises(ScoreError, match="cannot be read"):
        registry.load(str(tmp_path / "none.onnx"))
    for given, says in (({"weights": Path("a.pth")}, "--weights is not for an ONNX file"),
                        ({"runtime": "torch"}, "--runtime torch is not for an ONNX file")):
        with pytest.raises(ScoreError, match=says):
            registry.load(str(tmp_path / "a.onnx"), **given)
    with pytest.raises(ScoreError, match="--normalisation is for an ONNX file"):
        registry.load(normalisation="imagenet")
    with pytest.raises(ScoreError, match="there is no normalisation"):
        onnx_file.load(tmp_path / "a.onnx", 1, "caffe")
    h = onnx.helper
    for shape in ([1, 100], [1, 1, 8, 8], [1, 3, 8, 9], [1, 3, 0, 0], [1, 3, 10 ** 7, 10 ** 7],
                  None):
        x = onnx.numpy_helper.from_array(np.ones(1, np.float32), "x")
        graph = h.make_graph([h.make_node("Identity", ["x"], ["y"])], "g",
                             [h.make_tensor_value_info("x", 1, shape)] if shape else [],
                             [h.make_tensor_value_info("y", 1, shape or [1])],
                             [] if shape else [x])
        onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8),
                  tmp_path / "b.onnx")
        with pytest.raises(ScoreError, match="takes"):
            registry.load(str(tmp_path / "b.onnx"))
