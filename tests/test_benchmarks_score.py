"""The benchmark of the score: what it counts, what it streams, and the command."""
import json
import subprocess
import sys

import torch
from torch import nn

from benchmarks.score import SIDE, Made, operations
from scores.classifiers.base import Spec
from tests.conftest import ROOT


def test_operations_are_two_for_each_product():
    """A convolution 3 -> 4 of 3 x 3 on 8 x 8, padded, and a product 256 -> 5."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Flatten(),
                            nn.Linear(256, 5, bias=False))
    spec = Spec("x", "x", 8, "bilinear", 0.0, 1.0, 5, 0)
    assert operations(network, spec) == 2 * (64 * 4 * 27 + 256 * 5)


def test_the_pictures_are_the_same_in_any_batches():
    whole = torch.cat([torch.from_numpy(part) for part in Made("made", 7).batches(7)])
    parts = [torch.from_numpy(part) for part in Made("made", 7).batches(3)]
    assert [len(part) for part in parts] == [3, 3, 1] and whole.shape == (7, 3, SIDE, SIDE)
    assert torch.equal(torch.cat(parts), whole)


def test_the_command(tmp_path):
    done = subprocess.run([sys.executable, "-m", "benchmarks.score", "--count", "100", "--json",
                           tmp_path / "a.json"], capture_output=True, text=True, cwd=ROOT,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert "of the bound" in done.stdout and "GB at most (bound: 2)" in done.stdout
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["pictures"] == 100 and 0 < figures["share"] < 1
    assert figures["score"] > 1 and figures["peak_bytes"] < 2e9


def test_bad_input(tmp_path):
    done = subprocess.run([sys.executable, "-m", "benchmarks.score", "--count", "100",
                           "--classifier", "none"], capture_output=True, text=True, cwd=ROOT,
                          check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: there is no classifier 'none'")
