"""The generator that is fitted to faces: it learns, and its statistics are its latents'."""
import subprocess
import sys

import numpy as np
import pytest
import torch

from captures.narrow import narrow
from tests.conftest import ROOT
from torch_port.dcgan import Networks
from torch_port.fitted import fit
from torch_port.fitted.fit import fitted

MAP_FILE = ROOT / "data" / "train_dcgan_map.txt"
NARROW = narrow()


@pytest.fixture(scope="module")
def made():
    return fitted(MAP_FILE, iterations=40, images=4, minibatch=4, spec=NARROW)


def output_of(arrays, training):
    networks = Networks(NARROW)
    networks.generator.load_state_dict({
        name.partition("/")[2].replace("/", "."): torch.from_numpy(array.copy())
        for name, array in arrays.items()})
    z = torch.from_numpy(np.random.RandomState(0).uniform(-1, 1, (4, 100)).astype(np.float32))
    with torch.no_grad():
        return networks.generator.train(training)(z).numpy()


def test_it_learns(made):
    _, differences = made
    assert np.mean(differences[-5:]) < 0.75 * np.mean(differences[:5])


def test_without_a_learning_rate_it_does_not(monkeypatch):
    monkeypatch.setattr(fit, "LEARNING_RATE", 0.0)
    _, differences = fitted(MAP_FILE, iterations=10, images=4, minibatch=4, spec=NARROW)
    assert max(differences) < 1.01 * min(differences)


def test_its_statistics_are_those_of_its_latents(made):
    """So its pictures in evaluation mode are those of training mode, but for the variance's n - 1;
    with the statistics of the last minibatches blended in slowly they are grey."""
    arrays, _ = made
    training, evaluation = output_of(arrays, True), output_of(arrays, False)
    apart = np.abs(training - evaluation).mean()
    assert apart < 0.1 * training.std()
    zero = {name: np.zeros_like(a) if name.endswith("running_mean") else a
            for name, a in arrays.items()}
    assert np.abs(output_of(zero, False) - training).mean() > 2 * apart


def test_bad_input(tmp_path):
    done = subprocess.run([sys.executable, "-m", "torch_port.fitted", "--map-file",
                           tmp_path / "none.txt", "--output", tmp_path / "a.npz"],
                          capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2 and "none.txt" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_same_seed_fits_the_same():
    again, _ = fitted(MAP_FILE, iterations=2, images=4, minibatch=4, spec=NARROW)
    once_more, _ = fitted(MAP_FILE, iterations=2, images=4, minibatch=4, spec=NARROW)
    other, _ = fitted(MAP_FILE, iterations=2, images=4, minibatch=4, seed=1, spec=NARROW)
    name = "generator/conv3/weight"
    assert again[name].tobytes() == once_more[name].tobytes() != other[name].tobytes()
