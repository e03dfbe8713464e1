"""What a step of the port counts, and the twin: from the same seed real CNTK and the port draw the
same weights, read the same images, and lose alike.
"""
import copy
import io

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from parity.judge import policies
from parity.producers.jobs import run_jobs
from parity.producers.recipes import cntk_job, port_job
from tests.conftest import cntk_environment_or_fail
from torch_port import rounding
from torch_port.capture import twin
from torch_port.dcgan import networks_from_seed
from torch_port.train.steps import create_optimizers, discriminator_step, generator_step

SEED, N, IMAGES = 7, 2, 5


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_cntks_rounding():
    """The program switches oneDNN off for its process, which here goes on. With one thread a
    minibatch of 2 takes 0.7 s; two take ten times as long where another process has the second
    processor."""
    enabled, threads = torch.backends.mkldnn.enabled, torch.get_num_threads()
    rounding.as_cntk_rounds()
    torch.set_num_threads(1)
    yield
    torch.backends.mkldnn.set_flags(enabled)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def map_file(tmp_path_factory):
    """Five small images with smooth colours."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.RandomState(0)
    for i in range(IMAGES):
        coarse = random.randint(0, 256, (6, 5, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.bmp"), cv2.resize(coarse, (70, 90)))
    (folder / "map.txt").write_text("".join(f".../{i}.bmp\t0\n" for i in range(IMAGES)))
    return folder / "map.txt"


# --------------------------------------------------------------------------------- the two steps


def counts(networks):
    """(D's, G's) samples: every layer of a network has counted the same."""
    made = {}
    for name, tensor in networks.arrays().items():
        if name.endswith("sample_count"):
            made.setdefault(name.split("/")[0], set()).add(int(tensor))
    (d,), (g,) = made["discriminator"], made["generator"]
    return d, g


@pytest.fixture(scope="module")
def drawn():
    return networks_from_seed(SEED)


def frozen(networks, optimizer, z):
    """An ordinary port: in the G step the discriminator stands still, statistics and all."""
    kept = copy.deepcopy(networks.discriminator.state_dict())
    made = generator_step(networks, optimizer, z)
    networks.discriminator.load_state_dict(kept)
    return made


def each_steps_counts(networks, g_step=generator_step):
    """How many samples the D step and the G step add, for (D, G). Each moves only its network."""
    g_optimizer, d_optimizer = create_optimizers(networks, N)
    x, z = torch.full((N, 3, 256, 256), 100.0), torch.ones(N, 100)
    z[1] = -1
    before = counts(networks)
    weights = {name: tensor.detach().clone() for name, tensor in networks.arrays().items()}
    discriminator_step(networks, d_optimizer, x, z)
    moved = {name.split("/")[0] for name, tensor in networks.arrays().items()
             if name.endswith("/weight") and not torch.equal(tensor, weights[name])}
    assert moved == {"discriminator"}
    between = counts(networks)
    weights = {name: tensor.detach().clone() for name, tensor in networks.arrays().items()}
    g_step(networks, g_optimizer, z)
    moved = {name.split("/")[0] for name, tensor in networks.arrays().items()
             if name.endswith("/weight") and not torch.equal(tensor, weights[name])}
    assert moved == {"generator"}
    after = counts(networks)
    return [tuple(np.subtract(b, a).tolist()) for a, b in ((before, between), (between, after))]


def test_what_each_step_counts(drawn):
    """D step: D real and fake, G once. G step: D too, though its weights stand still."""
    assert each_steps_counts(copy.deepcopy(drawn)) == [(2 * N, N), (N, N)]


def test_frozen_statistics_show(drawn):
    assert each_steps_counts(copy.deepcopy(drawn), frozen) == [(2 * N, N), (0, N)]


# -------------------------------------------------------------------------- the twin, against CNTK

# Measured here: the port's losses are CNTK's to the last bit, all six. But another processor rounds
# otherwise, and training is chaotic: with its starting weights moved by one ULP each, CNTK's own
# first D loss moves by 8e-7, the losses after that by 5e-4 and 8e-4 (up to iteration 2), and by 2 %
# in iteration 3. So up to iteration 2 a bound of 2 % is far beyond rounding; the paper's Adam is
# 47 % away there.
FIRST_D = policies.POLICIES["first_loss"].value
LATER = 0.02


@pytest.fixture(scope="module")
def twin_plan(map_file):
    return Plan.make(map_file, seed=SEED, twin_minibatch_size=N, twin_iterations=3)


@pytest.fixture(scope="module")
def twins(twin_plan, tmp_path_factory):
    cntk_environment_or_fail()
    folder = tmp_path_factory.mktemp("twins")
    run_jobs([cntk_job(twin_plan, folder, "twin-cntk", "twin"),
              port_job(twin_plan, folder, "twin-port", "twin")], twin_plan, folder,
             Console(file=io.StringIO()))
    return Capture(folder / "twin-cntk"), Capture(folder / "twin-port")


def unlike(cntk, port):
    """What of the port's run is not CNTK's."""
    theirs, ours = (c["twin/run/losses/d_and_g"] for c in (cntk, port))
    found = []
    if cntk.facts["initial_sha256"] != port.facts["initial_sha256"]:
        found.append("initial weights")
    if cntk.facts["minibatch_sha256"][:len(ours)] != port.facts["minibatch_sha256"]:
        found.append("minibatches")
    parts = np.abs(ours / theirs[:len(ours)] - 1)
    if parts[0, 0] > FIRST_D:
        found.append("first D loss")
    if (parts[:2] > LATER).any():
        found.append("losses of the first two iterations")
    return found


def test_the_twin(twins):
    cntk, port = twins
    assert len(cntk.facts["initial_sha256"]) == 72
    assert len(cntk.facts["minibatch_sha256"]) == len(port.facts["minibatch_sha256"]) == 3
    assert unlike(cntk, port) == []


def another(plan, folder, **values):
    """The port's first iteration for a plan with other values, here in this process."""
    plan = plan.with_values(twin_iterations=1, **values)
    with CaptureWriter(str(folder), "port", plan, {}, 1, "twin") as writer:
        twin.twin_job(writer, plan, lambda *_: None)
    return Capture(folder)


def test_the_papers_adam_is_no_twin(twins, twin_plan, tmp_path):
    """Half the step, at momentum 0.5: it shows from the first G loss on."""
    got = unlike(twins[0], another(twin_plan, tmp_path / "other", unit_gain=1))
    assert got == ["losses of the first two iterations"]


def test_another_seed_is_no_twin(twins, twin_plan, tmp_path):
    got = unlike(twins[0], another(twin_plan, tmp_path / "other", seed=SEED + 1))
    assert got == ["initial weights", "minibatches", "first D loss",
                   "losses of the first two iterations"]
