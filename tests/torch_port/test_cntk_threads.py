"""CNTK's threads order the sums of a weight's gradient: 1 to 16 real ones, and the port."""
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from environment import processors
from tests.conftest import ROOT
from torch_port import convolution, rounding
from torch_port.products import NO_PADS, backward_weight
from torch_port.train.__main__ import program

THREADS, MINIBATCHES, INPUT, OUT = (1, 2, 4, 8, 16), (5, 16, 17), (8, 16, 16), 16


def values(seed, shape):
    return torch.from_numpy(
        np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def gradient_hash(n, threads):
    x = F.pad(values(1, (n, *INPUT)), (1, 0, 1, 0))
    made = backward_weight(values(2, (n, OUT, 8, 8)), x, (3, 3), (2, 2), NO_PADS, threads)
    return hashlib.sha256(made.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("threads", THREADS)
def test_the_gradient_has_cntks_bits_whatever_its_threads(cntk, threads):
    theirs = cntk.run("cntk_threads.py", str(threads))
    assert int(theirs["threads"]) == threads
    for n in MINIBATCHES:
        assert gradient_hash(n, threads) == str(theirs[f"{n}/hash"]), n


def test_another_number_of_threads_shows():
    """Where there are samples for it: shares of one sample are added as one thread would."""
    for n, different in ((17, 5), (5, 3)):
        assert len({gradient_hash(n, threads) for threads in (1, 2, 3, 4, 8)}) == different


def test_the_convolution_follows_the_number_that_was_said(monkeypatch):
    monkeypatch.setitem(rounding._chosen, "cntk_threads", 0)
    monkeypatch.setattr(torch.backends.mkldnn, "set_flags", lambda on: None)
    for threads in (4, rounding.DEFAULT_CNTK_THREADS):
        rounding.as_cntk_rounds(threads)
        assert convolution.cntk_threads() == threads


@pytest.mark.parametrize("arguments", [
    ["0", "-c", ""], ["many", "-c", ""], ["65", "-c", ""], ["4"]])
def test_bad_arguments_are_told(arguments):
    done = subprocess.run([sys.executable, "-m", "environment.processors", *arguments], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: give the number of CNTK's threads")


def test_without_a_compiler_that_is_told(tmp_path):
    with pytest.raises(processors.ProcessorsError, match=r"no C compiler.*install one"):
        processors.library(str(tmp_path / "build"), "no-such-compiler")
    assert not list((tmp_path / "build").iterdir())


def test_they_are_part_of_what_a_run_is(monkeypatch):
    """So a checkpoint of another number is refused by its name (tests/captures/training)."""
    monkeypatch.setitem(rounding._chosen, "cntk_threads", 8)
    assert program().identity["threads"] == 8
