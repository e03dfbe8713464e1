"""The smallest change of a layer that is seen: by its definition, and the command."""
from __future__ import annotations

import json

import numpy as np
import pytest
from test_classifiers import classifier_file
from test_paired import SPEC
from test_paired import classifier as small_classifier

from parity.cli.app import main
from parity.judge.policies import OUTPUT
from parity.stages import score as stage
from scores.classifiers.base import Classifier
from scores.errors import ScoreError
from scores.limits import Limit, changed, limits

DRAWS = np.random.RandomState(0)
LATENTS = DRAWS.normal(size=(24, 5)).astype(np.float32)
ARRAYS = {"m/one/weight": DRAWS.normal(size=(5, 8)).astype(np.float32),
          "m/one/bias": np.zeros(8, np.float32),
          "m/two/weight": DRAWS.normal(size=(8, 3 * 16 * 16)).astype(np.float32) * 0.3,
          "m/unused/weight": np.ones((3, 3), np.float32)}
CLASSIFIER = Classifier(SPEC, small_classifier(np.float32), "numpy", "none")


def model(arrays):
    def run(z):
        hidden = np.maximum(z @ arrays["m/one/weight"], 0)
        images = np.tanh(hidden @ arrays["m/two/weight"]).reshape(-1, 3, 16, 16)
        return images.repeat(2, 2).repeat(2, 3)
    return run


def allowed(link, links):
    return stage.allowed(link, stage.turned(links))


def test_one_filter_is_changed():
    made = changed(ARRAYS, "m/one/weight", 0.5)
    ratio = made["m/one/weight"] / ARRAYS["m/one/weight"]
    columns = np.flatnonzero((ratio != 1).any(0))
    assert len(columns) == 1
    np.testing.assert_allclose(ratio[:, columns[0]], 1.5, rtol=1e-6)
    norms = abs(ARRAYS["m/one/weight"]).sum(0)
    assert (norms < norms[columns[0]]).sum() == 4  # the middle one of eight
    assert all(made[name] is ARRAYS[name] for name in ARRAYS if name != "m/one/weight")


def test_the_smallest_is_the_smallest():
    found = {limit.layer: limit.smallest for limit in limits(ARRAYS, model, LATENTS, CLASSIFIER,
                                                             allowed)}
    assert list(found) == ["m/one", "m/two", "m/unused"] and not found["m/unused"]
    for layer in ("m/one", "m/two"):
        size = found[layer]["images"]
        apart = [abs(model(changed(ARRAYS, f"{layer}/weight", by))(LATENTS)
                     - model(ARRAYS)(LATENTS)).max() for by in (size, size / 10)]
        assert apart[0] > OUTPUT.value >= apart[1]
        assert size < 1e-4  # images see the least; what comes of them needs more
        for step in ("pictures", "logits", "score"):
            assert found[layer][step] >= size


def test_a_model_that_draws_anew_has_no_limit():
    with pytest.raises(ScoreError, match="other pictures of the same latents"):
        limits(ARRAYS, lambda arrays: lambda z: np.random.uniform(-1, 1, (len(z), 3, 32, 32)),
               LATENTS, CLASSIFIER, allowed)


def test_a_model_of_no_numbers_is_told():
    with pytest.raises(ScoreError, match="hold NaN or infinity"):
        limits(ARRAYS, lambda arrays: lambda z: np.full((len(z), 3, 32, 32), np.nan), LATENTS,
               CLASSIFIER, allowed)


def test_the_command(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("parity.cli.score_limits.captured_arrays", lambda path: ARRAYS)
    monkeypatch.setattr("parity.cli.score_limits.limits", lambda *given: [
        Limit("m/one", {"images": 1e-6, "score": 1e-3}), Limit("m/unused", {})])
    assert main(["score-limits", "a.model", "--output", str(tmp_path)]) == 0
    out = capfd.readouterr().out
    assert "1e-06" in out and "0.001" in out and "logits" not in out
    assert json.loads((tmp_path / "score-limits.json").read_text())[0] == {
        "layer": "m/one", "smallest": {"images": 1e-6, "score": 1e-3}}


def test_what_is_no_model(tmp_path, capfd):
    (tmp_path / "a.model").write_text("no model")
    classifier_file(tmp_path / "a.onnx")
    for name, says in (("a.model", "a.model"), ("a.onnx", "a.onnx"), ("none", "is not there")):
        assert main(["score-limits", str(tmp_path / name), "--output", str(tmp_path / "out")]) == 2
        said = capfd.readouterr().err
        assert said.startswith("error: ") and says in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()
