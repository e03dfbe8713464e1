"""From pictures to a score: streamed, named, with a reference; and ``parity score`` itself."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from score_samples import noise
from test_classifiers import classifier_file

from captures.article import DCGAN
from parity.cli.app import main
from scores.classifiers import registry
from scores.classifiers.base import pixels_of
from scores.errors import ScoreError
from scores.evaluate import carrying, evaluate, open_reference, probabilities
from scores.generators import LATENT_SIZE, Generated
from scores.images import open_pictures
from scores.inception_score import inception_score, score, softmax
from torch_port.dcgan import Networks


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    for i in range(120):
        Image.fromarray((noise(1, i, 8, 8)[0] / (1 + i % 4)).astype(np.uint8).transpose(1, 2, 0)
                        ).save(made / f"{i:03}.png")
    return made


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A classifier of four classes, with features."""
    return classifier_file(tmp_path_factory.mktemp("classifier") / "small.onnx", features=True)


def command(capfd, *arguments: object) -> tuple[int, str, str]:
    code = main(["score", *map(str, arguments)])
    said = capfd.readouterr()
    return code, said.out, said.err


def test_a_folder_is_scored(folder, small, tmp_path, capfd):
    code, out, _ = command(capfd, folder, "--classifier", small, "--output", tmp_path / "out")
    assert code == 0 and "score.json and score.html" in out and "small.onnx" in out
    assert "pictures 120/120" in out  # a log has a line of how far it is
    made = json.loads((tmp_path / "out" / "score.json").read_text())
    logits = evaluate(open_pictures(folder), registry.load(str(small))).logits
    by_hand = inception_score(softmax(logits))
    assert made["score"]["value"] == pytest.approx(by_hand.value, rel=1e-12)
    assert made["score"]["pictures"] == 120 and "SHA-256" in made["weights"]
    assert sum(row["share"] for row in made["classes"]) == pytest.approx(1)
    page = (tmp_path / "out" / "score.html").read_text()
    assert f"{by_hand.value:.4f}" in page and "data:image/png;base64" in page
    assert "http" not in page.replace("http-equiv", "")  # opens without a network
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*")) == ["score.html", "score.json"]


@pytest.mark.parametrize(("softmax", "taken"), [(False, "logits"), (True, "probabilities")])
def test_the_result_says_how_the_output_was_taken(folder, tmp_path, capfd, softmax, taken):
    path = classifier_file(tmp_path / "a.onnx", softmax=softmax)
    code, out, _ = command(capfd, folder, "--classifier", path, "--output", tmp_path / "out")
    assert code == 0 and f"taken as {taken}" in out
    assert json.loads((tmp_path / "out" / "score.json").read_text())["output"] == \
        f"taken as {taken}"
    assert f"taken as {taken}" in (tmp_path / "out" / "score.html").read_text()


def test_an_array_file_scores_as_the_folder(folder, small, tmp_path, capfd):
    pictures = np.concatenate(list(open_pictures(folder).batches(50)))
    np.savez(tmp_path / "a.npz", pictures.astype(np.uint8))
    for source, name in ((folder, "one"), (tmp_path / "a.npz", "two")):
        assert command(capfd, source, "--classifier", small, "--output", tmp_path / name)[0] == 0
    one, two = (json.loads((tmp_path / name / "score.json").read_text()) for name in ("one", "two"))
    assert one["score"] == two["score"] and one["classes"] == two["classes"]


def test_a_reference(folder, small, tmp_path, capfd):
    code, out, _ = command(capfd, folder, "--classifier", small, "--output", tmp_path,
                           "--reference", folder)
    made = json.loads((tmp_path / "score.json").read_text())["distances"]
    assert code == 0 and "FID" in out
    assert made["FID"] == pytest.approx(0, abs=1e-9)  # against itself
    pictures = np.concatenate(list(open_pictures(folder).batches(50)))
    features = registry.load(str(small))(pictures)[0].astype(np.float64)
    np.savez(tmp_path / "m.npz", mu=features.mean(0) + 1, sigma=np.cov(features, rowvar=False))
    assert command(capfd, folder, "--classifier", small, "--output", tmp_path,
                   "--reference", tmp_path / "m.npz")[0] == 0
    result = json.loads((tmp_path / "score.json").read_text())
    made = result["distances"]
    assert made["FID"] == pytest.approx(3, rel=1e-6) and "KID" not in made
    assert any("does not say whose they are" in note for note in result["notes"])


def refused(capfd, tmp_path: Path, says: str, *arguments: object) -> None:
    code, _, err = command(capfd, *arguments, "--output", tmp_path / "out")
    assert code == 2 and says in err.replace("\n", " ") and "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_what_is_refused(folder, small, tmp_path, capfd):
    three = tmp_path / "three"
    three.mkdir()
    for path in sorted(folder.iterdir())[:3]:
        (three / path.name).write_bytes(path.read_bytes())
    few = ("--splits", 2, "--classifier", small)
    refused(capfd, tmp_path, "10 splits of 3 pictures", three, "--classifier", small)
    refused(capfd, tmp_path, "reference set has 3 pictures", folder, *few, "--reference", three)
    refused(capfd, tmp_path, "is not there", tmp_path / "none", *few)
    refused(capfd, tmp_path, "there is no classifier 'vgg'", three, *few[:2],
            "--classifier", "vgg")
    refused(capfd, tmp_path, "--offline was asked for", three, *few[:2], "--classifier",
            "inception-v3", "--offline", "--cache", tmp_path / "cache")
    refused(capfd, tmp_path, "no features", three, "--splits", 2, "--reference", folder,
            "--classifier", classifier_file(tmp_path / "bare.onnx"))
    (three / "bad.png").write_text("no picture")
    refused(capfd, tmp_path, "bad.png cannot be read", three, *few)
    code, out, _ = command(capfd, three, *few, "--broken", "skip", "--output", tmp_path / "skipped")
    assert code == 0 and "could not be read and were left out: 1 of 4, bad.png" in \
        out.replace("\n", " ")


def test_what_will_not_do_is_refused_before_the_work(folder, small, tmp_path, capfd, monkeypatch):
    def worked(*arguments: object, **more: object) -> None:
        raise AssertionError("it began")
    monkeypatch.setattr("parity.cli.score.evaluate", worked)
    three = tmp_path / "three"
    three.mkdir()
    for path in sorted(folder.iterdir())[:3]:
        (three / path.name).write_bytes(path.read_bytes())
    np.savez(tmp_path / "m.npz", mu=np.zeros(5), sigma=np.eye(5))
    np.savez(tmp_path / "n.npz", mu=np.full(3, np.nan), sigma=np.eye(3))
    np.savez(tmp_path / "o.npz", mu=np.zeros(3), sigma=-np.eye(3))
    for says, more in (("121 splits of 120 pictures", ("--splits", 121)),
                       ("reference set has 3 pictures", ("--reference", three)),
                       ("are 3 and 5 wide", ("--reference", tmp_path / "m.npz")),
                       ("is not there", ("--reference", tmp_path / "none")),
                       ("n.npz: mu holds NaN", ("--reference", tmp_path / "n.npz")),
                       ("o.npz: sigma has an eigenvalue of -1",
                        ("--reference", tmp_path / "o.npz")),
                       ("you asked for deadbeef", ("--sha256", "deadbeef"))):
        refused(capfd, tmp_path, says, folder, "--classifier", small, *more)


def test_help_says_the_defaults(capfd):
    code, out, _ = command(capfd, "--help")
    assert code == 0
    for said in ("IMAGES|MODEL", "--classifier", "efficientnet-lite0", "--splits", "[default: 10",
                 "--reference", "--weights"):
        assert said in out


# ---- generators


def generator_file(path: Path) -> Path:
    """tanh of the latent's first 3 x 4 x 4 values."""
    h = onnx.helper
    nodes = [h.make_node("Slice", ["z"], ["s"], starts=[0], ends=[48], axes=[1]),
             h.make_node("Reshape", ["s", "shape"], ["r"]), h.make_node("Tanh", ["r"], ["y"])]
    graph = h.make_graph(
        nodes, "g", [h.make_tensor_value_info("z", 1, ["n", 100])],
        [h.make_tensor_value_info("y", 1, ["n", 3, 4, 4])],
        [onnx.numpy_helper.from_array(np.array([-1, 3, 4, 4]), "shape")])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 9)], ir_version=4), path)
    return path


def test_an_onnx_generator_is_scored(small, tmp_path, capfd):
    path = generator_file(tmp_path / "g.onnx")
    assert command(capfd, path, "--count", 37, "--classifier", small, "--output", tmp_path / "a"
                   )[0] == 0
    made = json.loads((tmp_path / "a" / "score.json").read_text())
    z = np.random.RandomState(0).normal(size=(37, 100)).astype(np.float32)
    images = np.tanh(z[:, :48]).reshape(-1, 3, 4, 4)
    pixels = np.rint((images[:, ::-1] + 1) * np.float32(127.5))
    by_hand = score(softmax(registry.load(str(small))(pixels)[1]))
    assert made["score"]["one_split"] == pytest.approx(by_hand, rel=1e-6)
    refused(capfd, tmp_path, "Is it a classifier", small, "--classifier", small)


def test_the_bad_image_of_a_generator_is_named_in_any_batch():
    def generate(z):
        return np.where(z[:, :1, None, None] == latents[5, 0], np.nan, np.zeros((1, 3, 2, 2))
                        ).astype(np.float32)
    latents = np.random.RandomState(0).normal(size=(7, LATENT_SIZE)).astype(np.float32)
    with pytest.raises(ScoreError, match="image 5 holds NaN"):
        list(Generated("g", 7, generate=generate).batches(2))


def test_what_was_fitted_is_a_model(small, tmp_path, capfd):
    networks = Networks(DCGAN)
    arrays = {name: value.detach().numpy() for name, value in networks.arrays().items()}
    np.savez(tmp_path / "a.npz", **{n: v for n, v in arrays.items() if n.startswith("generator/")})
    assert command(capfd, tmp_path / "a.npz", "--count", 12, "--classifier", small, "--output",
                   tmp_path / "made")[0] == 0
    made = json.loads((tmp_path / "made" / "score.json").read_text())
    z = np.random.RandomState(0).normal(size=(12, LATENT_SIZE)).astype(np.float32)
    with torch.inference_mode():
        images = networks.generator.eval()(torch.from_numpy(z)).numpy()
    by_hand = score(softmax(registry.load(str(small))(np.rint(pixels_of(images)))[1]))
    assert made["score"]["one_split"] == pytest.approx(by_hand, rel=1e-6)
    arrays["generator/conv1/weight"] = np.zeros((1, 1, 1, 1), np.float32)
    np.savez(tmp_path / "b.npz", **arrays)
    refused(capfd, tmp_path, "generator/conv1/weight is not there or of another shape",
            tmp_path / "b.npz", "--classifier", small)


def test_models_that_are_none(small, tmp_path, capfd):
    (tmp_path / "a.model").write_text("no model")
    refused(capfd, tmp_path, "a.model", tmp_path / "a.model", "--classifier", small)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    refused(capfd, tmp_path, "no checkpoint that is whole", tmp_path / "run",
            "--classifier", small)
    refused(capfd, tmp_path, "is not there", tmp_path / "none.model", "--classifier", small)


# ---- the parts


def test_the_classes_that_carry_a_score():
    p = np.repeat(np.eye(5)[:3], 10, 0)
    made = carrying(p, 4)
    assert [row["class"] for row in made[:3]] == [0, 1, 2]
    for row in made[:3]:
        assert row["share"] == pytest.approx(1 / 3) and row["pictures"] == 10
    assert made[3]["share"] == 0
    assert carrying(np.full((4, 3), 1 / 3))[0]["share"] == 0  # of a score of 1 nothing is carried


def test_probabilities_in_pieces():
    logits = np.random.RandomState(0).normal(size=(5000, 6)).astype(np.float32)
    np.testing.assert_array_equal(probabilities(logits), softmax(logits.astype(np.float64)))
    logits[4500, 2] = np.nan
    with pytest.raises(ScoreError, match="picture 4500"):
        probabilities(logits)


def test_nothing_is_said_of_features_that_there_are_not(small, folder, tmp_path):
    bare = registry.load(str(classifier_file(tmp_path / "b.onnx")))
    with pytest.raises(ScoreError, match="no features"):
        open_reference(folder, 120, bare.spec)
