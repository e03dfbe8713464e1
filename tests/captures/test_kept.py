"""What was written on an earlier day is still read: a capture and a certificate of 2026-11-27, when
a manifest said five words of its machine. Their files are not made again."""
from pathlib import Path

import numpy as np

from captures.certificate import Certificate
from captures.format import Capture
from parity.history.causes import causes
from parity.history.compare import compared
from parity.history.sides import side

KEPT = Path(__file__).with_name("kept") / "2026-11-27"
WEIGHT, COUNT = ("initial/generator/conv1/weight",
                 "step/0001/after_d/discriminator/bn2/sample_count")
VALUES = np.arange(6, dtype=np.float32).reshape(2, 3) / np.float32(7)


def test_a_capture():
    old = Capture(KEPT)
    assert sorted(old) == [WEIGHT, COUNT] and old[COUNT] == 8 and old[COUNT].shape == ()
    assert old[WEIGHT].tobytes() == VALUES.tobytes()
    assert old.attachment("generator.onnx").read_bytes() == b"an attached file\n"
    assert old.facts["ledger"] == [["d_step", "discriminator/bn2/sample_count", 8]]
    assert old.manifest["machine"]["python"] == "3.11.7"


def test_a_certificate():
    old = Certificate(str(KEPT) + ".certificate")
    assert list(old) == [WEIGHT, COUNT]
    found = old.compare(WEIGHT, VALUES)
    assert found is not None and found.bits
    assert old.file("generator.onnx", {}) == b"an attached file\n"


def test_the_two_against_each_other():
    found = compared(*(side(path, KEPT) for path in (KEPT, Path(f"{KEPT}.certificate"))))
    assert found.word == "identical bits"
    assert causes(Capture(KEPT).manifest, Certificate(str(KEPT) + ".certificate").made_by
                  | {"plan": Capture(KEPT).manifest["plan"]}) == []
