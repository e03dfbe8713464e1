"""Each classifier in CNTK 2.7 itself, imported from the ONNX file that onnxruntime runs."""
from __future__ import annotations

import json

import numpy as np
import pytest
from score_samples import noise

from scores.classifiers import registry

# Of the largest logit: float32 through 50 and 100 layers in another program, as policy "logits".
SAME = 1e-5


@pytest.mark.parametrize("name", registry.REGISTRY)
def test_cntk_says_the_same(name, random_weights, cache, tmp_path, cntk):
    ours = registry.load(name, random_weights.get(name), cache=cache)
    spec = ours.spec
    pictures = noise(1).astype(np.uint8).transpose(0, 2, 3, 1)
    np.save(tmp_path / "pictures.npy", pictures)
    (tmp_path / "given.json").write_text(json.dumps({
        "path": ours.path, "side": spec.side, "kernel": spec.kernel, "middle": spec.middle,
        "scale": spec.scale, "classes": spec.classes}))
    made = cntk.run("classifier.py", str(tmp_path / "pictures.npy"), str(tmp_path / "given.json"))
    prepared, logits = made["prepared"], made["logits"]
    _, theirs = ours.of_prepared(prepared)
    assert logits.shape == theirs.shape == (1, spec.classes)
    assert abs(logits - theirs).max() / abs(theirs).max() < SAME
    # the twin: another picture is another answer
    assert abs(ours(noise(1, 1))[1] - theirs).max() / abs(theirs).max() > SAME
