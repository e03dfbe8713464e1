"""From pictures to a score: streamed, named, with a reference; and ``parity score`` itself."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from score_samples import noise
from test_classifiers import classifier_file

from captures.article import DCGAN
from captures.errors import TrainingError
from captures.output import alone
from parity.cli.app import main
from scores.classifiers import registry
from scores.classifiers.base import pixels_of
from scores.errors import ScoreError
from scores.evaluate import carrying, evaluate, open_reference, probabilities
from scores.generators import LATENT_SIZE, Generated, captured_arrays, open_source
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
    assert made["kernel"] == "bilinear" and made["seed"] == 0 and made["left_out"] == {}
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


def test_names_of_every_kind(folder, small, tmp_path, capfd):
    """No UTF-8, what looks like a console's markup, a line's end: shown as they are, or escaped."""
    odd = tmp_path / os.fsdecode(b"\xff[red]:cat:")
    odd.mkdir()
    for path in sorted(folder.iterdir()):
        (odd / path.name).write_bytes(path.read_bytes())
    (odd / "[").mkdir()
    for name in ("x\n.txt", "[/red].txt"):
        (odd / name).write_text("")
    classifier = tmp_path / "[red].onnx"
    classifier.write_bytes(small.read_bytes())
    code, out, err = command(capfd, odd, "--classifier", classifier, "--reference", odd,
                             "--output", tmp_path / "[b]out[")
    assert (code, err) == (0, "")
    for said in (r"\udcff[red]:cat:", "[red].onnx", "[/red].txt", r"x\n.txt", "[b]out["):
        assert said in out.replace("\n", "").replace(" ", "").replace("│", "")
    assert r"\udcff[red]:cat:" in (tmp_path / "[b]out[" / "score.html").read_text()
    made = json.loads((tmp_path / "[b]out[" / "score.json").read_text())
    assert made["left_out"] == {"no picture by its ending": ["[/red].txt", r"x\n.txt"]}


def test_where_nothing_can_be_written_is_found_before_the_work(folder, small, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file" / "out", tmp_path / ("x" * 300), Path("/proc/score")):
        code, out, err = command(capfd, folder, "--classifier", small, "--output", output)
        assert code == 2 and ("another one" in err or "another folder" in err)
        assert "pictures" not in out and "Traceback" not in err and err.count("\n") == 1


def test_a_folder_that_another_run_holds_is_found_before_the_work(folder, small, tmp_path, capfd):
    asked = (folder, "--classifier", small, "--output", tmp_path / "out")
    with alone(tmp_path / "out"):
        code, out, err = command(capfd, *asked)
    assert code == 2 and "in use by another run" in err and "pictures" not in out
    assert command(capfd, *asked)[0] == 0


def test_a_console_of_few_characters(folder, small, tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "parity", "score", folder, "--classifier", small, "--output",
         tmp_path / "Bücher"], env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr) == (0, "")
    assert r"\xb1" in made.stdout and r"B\xfccher" in made.stdout


@pytest.mark.parametrize(("more", "says"), [
    (("--count", 60), "--count is for a model"), (("--pixels", "rgb[0,1]"), "is for a model"),
    (("--broken", "ignore"), "refuse or skip"), (("--threads", 1000), "--threads")])
def test_nothing_is_ignored(folder, small, tmp_path, capfd, more, says):
    refused(capfd, tmp_path, says, folder, "--classifier", small, *more)


def test_skipping_is_for_folders(folder, small, tmp_path, capfd):
    np.savez(tmp_path / "a.npz", noise(120, 0, 8, 8).astype(np.uint8))
    asked = (tmp_path / "a.npz", "--classifier", small, "--broken", "skip")
    refused(capfd, tmp_path, "and there is none", *asked)
    assert command(capfd, *asked, "--reference", folder, "--output", tmp_path / "out")[0] == 0


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


def generator_file(path: Path, last: str = "Tanh", shape: Sequence[int | str] = ("n", 100),
                   kind: int = 1, inner: int = -1) -> Path:
    """tanh of the latent's first 3 x 4 x 4 values. last: another operator. inner: pictures that it
    makes at once, whatever its input says."""
    h = onnx.helper
    nodes = [h.make_node("Slice", ["z"], ["s"], starts=[0], ends=[48], axes=[1]),
             h.make_node("Reshape", ["s", "shape"], ["r"]), h.make_node(last, ["r"], ["y"])]
    graph = h.make_graph(
        nodes, "g", [h.make_tensor_value_info("z", kind, shape)],
        [h.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(np.array([inner, 3, 4, 4]), "shape")])
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


def images_of(path: Path, count: int = 13, **more: object) -> tuple[Generated, np.ndarray]:
    pictures = open_source(path, count, eight_bits=False, **more)
    return pictures, np.concatenate(list(pictures.batches(9)))


@pytest.mark.parametrize("more", [
    {"shape": (1, 100)}, {"shape": (5, 100)}, {"shape": ("n", 100, "h", "w")}, {"kind": 11},
    {"inner": 1}, {"shape": (1, 100, 1, 1), "inner": 1}])
def test_every_shape_of_an_onnx_generator(tmp_path, more):
    """A fixed number at once, open sides, float64, and one at a time against what it says."""
    z = np.random.RandomState(0).normal(size=(13, 100)).astype(np.float32)
    wanted = (np.tanh(z[:, :48]).reshape(-1, 3, 4, 4)[:, ::-1] + 1) * 127.5
    made = images_of(generator_file(tmp_path / "g.onnx", **more))[1]
    np.testing.assert_allclose(made, wanted, atol=1e-3)


@pytest.mark.parametrize(("more", "says"), [
    ({"shape": ("n", 99)}, "takes one latent"), ({"kind": 7, "last": "Abs"}, "takes one latent"),
    ({"inner": 2}, r"g\.onnx.* on 1 latents"),
    ({"last": "Exp"}, r"g\.onnx: image \d+ has values from .*: say with --pixels"),
    ({"last": "Floor"}, r"g\.onnx: image \d+ has values from")])
def test_onnx_generators_that_are_refused(tmp_path, more, says):
    with pytest.raises(ScoreError, match=says):
        images_of(generator_file(tmp_path / "g.onnx", **more))


def test_what_the_pixels_of_an_onnx_generator_are(tmp_path):
    path = generator_file(tmp_path / "g.onnx")
    pictures, plain = images_of(path)
    assert [note for note in pictures.notes if "taken as B, G, R in [-1, 1]" in note]
    assert len(pictures.notes) == 1
    np.testing.assert_array_equal(images_of(path, pixels="rgb[-1,1]")[1], plain[:, ::-1])
    path = generator_file(tmp_path / "s.onnx", "Sigmoid")
    assert [note for note in images_of(path)[0].notes if "no value is below 0" in note]
    z = np.random.RandomState(0).normal(size=(13, 100)).astype(np.float32)
    wanted = 255 / (1 + np.exp(-z[:, :48].reshape(-1, 3, 4, 4)))
    for pixels, turn in (("rgb[0,1]", 1), ("bgr[0,1]", -1)):
        pictures, made = images_of(path, pixels=pixels)
        np.testing.assert_allclose(made, wanted[:, ::turn], atol=1e-3)
        assert len(pictures.notes) == 1
    with pytest.raises(ScoreError, match=r"image 0 has values from -.*as R, G, B in \[0, 1\]"):
        images_of(tmp_path / "g.onnx", pixels="rgb[0,1]")
    with pytest.raises(ScoreError, match="give one of bgr"):
        images_of(path, pixels="grey")


def test_the_bad_image_of_a_generator_is_named_in_any_batch():
    def generate(z):
        return np.where(z[:, :1, None, None] == latents[5, 0], np.nan, np.zeros((1, 3, 2, 2))
                        ).astype(np.float32)
    latents = np.random.RandomState(0).normal(size=(7, LATENT_SIZE)).astype(np.float32)
    with pytest.raises(ScoreError, match="g: image 5 holds NaN"):
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
    right = arrays["generator/conv1/weight"]
    for wrong, says in ((np.zeros((1, 1, 1, 1), np.float32), "is not there or of another shape"),
                        (right.astype(np.int32), "of no floating point"),
                        (right.astype(object), "cannot be read"), (right * np.nan, "holds NaN")):
        arrays["generator/conv1/weight"] = wrong
        np.savez(tmp_path / "b.npz", **arrays)
        with pytest.raises(ScoreError, match=rf"b\.npz: generator/conv1/weight .*{says}"):
            captured_arrays(tmp_path / "b.npz")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(ScoreError, match="Bad CRC-32"):
        captured_arrays(tmp_path / "b.npz")


@pytest.mark.parametrize(("harm", "says"), [
    ({"mu": np.array(["a"] * 3)}, "mu is <U1"), ({"mu": np.array([{}] * 3)}, "mu cannot be read"),
    ({"mu": np.zeros(3) + 0j}, "mu is complex128"), ({"sigma": np.eye(3) * np.nan}, "sigma holds"),
    ({"mu": np.zeros((3, 1))}, "give D and D x D")])
def test_moments_that_are_none(folder, small, tmp_path, harm, says):
    np.savez(tmp_path / "m.npz", **{"mu": np.zeros(3), "sigma": np.eye(3), **harm})
    with pytest.raises(ScoreError, match=rf"m\.npz: .*{says}"):
        open_reference(tmp_path / "m.npz", 120, registry.load(str(small)).spec)


def test_models_that_are_none(small, tmp_path, capfd):
    (tmp_path / "weights.pt").write_text("no model")
    refused(capfd, tmp_path, "of a run's other files give the folder", tmp_path / "weights.pt")
    (tmp_path / "a.model").write_text("no model")
    refused(capfd, tmp_path, "a.model", tmp_path / "a.model", "--classifier", small)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    refused(capfd, tmp_path, "no checkpoint that is whole", tmp_path / "run",
            "--classifier", small)
    refused(capfd, tmp_path, "is not there", tmp_path / "none.model", "--classifier", small)


def test_a_folder_of_pictures_may_have_one_of_checkpoints(folder, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "a.png").write_bytes((folder / "000.png").read_bytes())
    assert open_source(tmp_path).count == 1


def test_a_damaged_checkpoint_advises_no_option_of_a_training(tmp_path, monkeypatch):
    def damaged(path):
        raise TrainingError("x is damaged (y): take another one, or begin anew with --overwrite")
    monkeypatch.setattr("captures.training.checkpoint.read_newest", damaged)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ScoreError, match=r"whole \(x is damaged \(y\): take another one\)"):
        open_source(tmp_path)


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
