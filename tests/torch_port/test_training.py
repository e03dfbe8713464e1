"""The port's training: what a step counts, resuming bit for bit, bad input, and the twin: from the
same seed real CNTK and the port draw the same weights, read the same images, and lose alike.
"""
import copy
import csv
import io
import os
import shutil
import signal

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from captures.check import check_data
from captures.errors import TrainingError
from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from parity.judge import policies
from parity.producers.jobs import run_jobs
from parity.producers.recipes import cntk_job, port_job
from tests.conftest import cntk_environment_or_fail
from torch_port import rounding
from torch_port.capture import twin
from torch_port.dcgan import networks_from_seed
from torch_port.reader import reader
from torch_port.reader.reader import ImageReader
from torch_port.train import __main__ as main_module
from torch_port.train import run as run_module
from torch_port.train.checkpoint import load_checkpoint, save
from torch_port.train.run import Run
from torch_port.train.steps import create_optimizers, discriminator_step, generator_step

SEED, N, ITERATIONS = 7, 2, 4
IMAGES = 5  # minibatches 0 1 | 2 3 | 4 and the next sweep's first


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


@pytest.fixture
def folder(tmp_path):
    """Emptied at once: pytest keeps its own for three sessions, and a checkpoint is 300 MB."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def program(map_file, capfd):
    """program(folder, *options): exit code, stdout, lines of stderr without the bar."""
    def program(folder, *options):
        code = main_module.main(["--seed", str(SEED), "--minibatch-size", str(N), "--map-file",
                              str(map_file), "--output-dir", str(folder), "--image-interval", "2",
                              *map(str, options)])
        out, err = capfd.readouterr()
        return code, out, [line for line in err.replace("\r", "\n").split("\n")
                           if line.strip() and "%|" not in line]
    return program


def apart(a, b, place=""):
    """The places at which two states are not the same bits."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [one for key in {**a, **b} for one in (
            apart(a[key], b[key], f"{place}/{key}") if key in a and key in b else
            [f"{place}/{key}"])]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [place]
    return [] if a == b and type(a) is type(b) else [place]


def log(folder):
    with open(folder / "dcgan.csv", newline="") as file:
        return list(csv.reader(file))


# ----------------------------------------------------------------- a run, and one that was resumed


@pytest.fixture(scope="module")
def whole(map_file, tmp_path_factory):
    """Four iterations in one go: the folder."""
    folder = tmp_path_factory.mktemp("whole")
    assert main_module.main(["--seed", str(SEED), "--minibatch-size", str(N), "--map-file",
                          str(map_file), "--output-dir", str(folder), "--iterations",
                          str(ITERATIONS), "--image-interval", "2"]) == 0
    yield folder
    shutil.rmtree(folder)


def test_files(whole):
    assert sorted(str(p.relative_to(whole)) for p in whole.rglob("*") if p.is_file()) == [
        "checkpoint.pt", "dcgan.csv", "dcgan_image/step0/fake.png", "dcgan_image/step2/fake.png"]
    header, *rows = log(whole)
    assert header == ["step", "G_loss", "D_loss"] and [row[0] for row in rows] == list("1234")
    assert np.isfinite(np.array(rows, float)).all()
    image = cv2.imread(str(whole / "dcgan_image/step2/fake.png"))
    assert image.shape == (256, 256, 3) and image.std() > 1


def test_an_image_fails_in_the_middle_of_a_sweep(whole, program, map_file, folder, monkeypatch):
    """Spoiled behind the check: one line, exit 2, what was done is kept; once the image is
    repaired, --resume goes on as if nothing had been: losses, weights, statistics, both optimizers,
    latents, images, bit for bit."""
    (last,) = set(range(IMAGES)) - {int(i) for step in (0, 1) for i in ImageReader(
        map_file, N, randomization_seed=SEED).indices(step)}
    path = map_file.with_name(f"{last}.bmp")
    content = path.read_bytes()

    def check_and_spoil(checked):
        data = check_data(checked)
        path.write_bytes(content[:20])
        return data

    try:
        with monkeypatch.context() as patch:
            patch.setattr(reader, "check_data", check_and_spoil)
            code, _, err = program(folder, "--iterations", ITERATIONS)
    finally:
        path.write_bytes(content)
    assert code == 2 and err == [
        f"error: {map_file}, line {last + 1}: {path} cannot be decoded as an image: replace the "
        "file or delete the line"]
    assert log(folder) == log(whole)[:3]

    code, out, err = program(folder, "--iterations", ITERATIONS, "--resume")
    assert code == 0 and err == [f"checkpoint, images and dcgan.csv are in {folder}"]
    assert [line.split(":")[0] for line in out.splitlines()] == ["iteration 3", "iteration 4"]
    assert log(folder) == log(whole)
    states = [load_checkpoint(one / "checkpoint.pt") for one in (folder, whole)]
    assert apart(*states) == []
    for step in (0, 2):
        name = f"dcgan_image/step{step}/fake.png"
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert not list(folder.rglob("*.part*"))


def test_a_difference_between_two_states_would_show(whole):
    state = load_checkpoint(whole / "checkpoint.pt")
    assert {key for key in state if apart(state, {k: v for k, v in state.items() if k != key})
            == [f"/{key}"]} == set(state)
    for key, change in (("networks", lambda s: s["generator.bn1.running_mean"][:1].add_(1e-9)),
                        ("discriminator_optimizer", lambda s: s["state"][0]["v"].mul_(2)),
                        ("latents", lambda s: s["keys"][5].add_(1)),
                        ("rows", lambda s: s[2].__setitem__(1, 0.0))):
        other = {**state, key: copy.deepcopy(state[key])}
        change(other[key])
        assert [place.split("/")[1] for place in apart(state, other)] == [key]


# -------------------------------------------------------------------------------- refused states


@pytest.fixture(scope="module")
def run(map_file):
    return Run.from_seed(SEED, map_file, N, threads=1)


@pytest.fixture(scope="module")
def checkpoint(whole):
    return load_checkpoint(whole / "checkpoint.pt")


def without(key):
    return lambda state: state.pop(key)


def other(key, value):
    return lambda state: state.__setitem__(key, value)


def inside(key, change):
    def mistake(state):
        state[key] = dict(state[key])
        change(state[key])
    return mistake


def wrong_moment(optimizer):
    optimizer["state"] = dict(optimizer["state"])
    optimizer["state"][3] = {**optimizer["state"][3], "m": torch.zeros(3)}


@pytest.mark.parametrize("mistake, expected", [
    (other("seed", 8), "written with seed 8, this run has 7: resume with --seed of that run"),
    (other("minibatch_size", 4), "written with minibatch_size 4, this run has 2"),
    (other("unit_gain", True), "written with unit_gain True, this run has False"),
    (inside("reader", other("images_sha256", "x")), "saved with another data set"),
    (inside("reader", other("width", 128)), "saved with width=128"),
    (inside("reader", without("step")), "the state has no 'step'"),
    (inside("networks", without("generator.conv1.weight")), "do not fit at generator.conv1.weight"),
    (inside("networks", other("generator.conv9.weight", torch.zeros(1))),
     "do not fit at generator.conv9.weight"),
    (inside("networks", other("discriminator.bn2.scale", torch.zeros(65))),
     "do not fit at discriminator.bn2.scale"),
    (inside("networks", other("discriminator.bn2.scale", [1.0])),
     "do not fit at discriminator.bn2.scale"),
    (inside("generator_optimizer", without("param_groups")), "no 'param_groups' in it"),
    (inside("discriminator_optimizer", wrong_moment), "'m' has shape (3,), the parameter has"),
    (inside("latents", without("keys")), "is not whole ('keys')"),
    (inside("latents", other("keys", torch.zeros(3))), "is not whole"),
    (other("rows", [[1, 2.0]]), "is not whole"), (other("rows", None), "is not whole"),
    (other("reader", 3), "is not whole"), (other("networks", 3), "has no 'networks'"),
    *((without(key), key) for key in ("seed", "minibatch_size", "unit_gain", "networks", "rows",
                                      "generator_optimizer", "discriminator_optimizer", "reader",
                                      "latents")),
])
def test_a_state_that_does_not_fit_changes_nothing(run, checkpoint, mistake, expected):
    before = copy.deepcopy(run.state_dict())
    state = dict(checkpoint)
    mistake(state)
    with pytest.raises(ValueError) as caught:
        run.load_state_dict(state)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert apart(run.state_dict(), before) == []


def test_one_that_fits_is_taken(map_file, checkpoint):
    """So what is refused above is refused for the mistake."""
    run = Run.from_seed(SEED, map_file, N, threads=1)
    assert len(apart(run.state_dict(), checkpoint)) > 100
    run.load_state_dict(checkpoint)
    assert apart(run.state_dict(), checkpoint) == []


@pytest.mark.parametrize("content", [b"", b"garbage", "cut short", "a pickle", "a list"])
def test_a_file_that_is_no_checkpoint(whole, folder, content):
    path = folder / "checkpoint.pt"
    if content == "cut short":
        path.write_bytes((whole / "checkpoint.pt").read_bytes()[:-1000])
    elif content == "a pickle":
        torch.save({"seed": print}, path)  # of code, which weights_only refuses
    elif content == "a list":
        torch.save([1, 2], path)
    else:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is not a checkpoint of this program"):
        load_checkpoint(path)


def test_no_checkpoint(program, tmp_path):
    code, _, err = program(tmp_path, "--resume")
    assert code == 2 and err == [
        f"error: checkpoint {tmp_path / 'checkpoint.pt'} cannot be read (No such file or "
        "directory): begin without --resume"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options, expected", [
    (["--map-file", "{}/none.txt"], "error: map file {}/none.txt cannot be read"),
    (["--output-dir", "{}/file/run"], "error: {}/file/run cannot be written (Not a directory)"),
])
def test_bad_input(program, tmp_path, monkeypatch, options, expected):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(run_module, "networks_from_seed", lambda seed: torch.nn.ModuleDict(
        {name: torch.nn.Linear(1, 1) for name in ("generator", "discriminator")}))
    code, _, (err,) = program(tmp_path, *(option.format(tmp_path) for option in options))
    assert code == 2 and err.startswith(expected.format(tmp_path))


@pytest.mark.parametrize("options", [["--seed", "-1"], ["--seed", str(2 ** 32)],
                                     ["--iterations", "0"], ["--minibatch-size", "x"]])
def test_options_out_of_range(program, tmp_path, options, capfd):
    with pytest.raises(SystemExit) as end:
        program(tmp_path, *options)
    assert end.value.code == 2
    assert f"argument {options[0]}: " in capfd.readouterr().err.splitlines()[-1]


# ----------------------------------------------------------------------------- ctrl-c, full disk


def test_ctrl_c_is_heard_after_the_iteration(program, folder, whole, monkeypatch):
    """Pressed between the two steps. Half an iteration kept would be one D step too many."""
    def pressed(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return generator_step(*arguments)

    monkeypatch.setattr(run_module, "generator_step", pressed)
    code, _, err = program(folder, "--iterations", ITERATIONS)
    assert code == 130 and err == [
        f"interrupted after 1 iterations, which are kept in {folder}: go on with --resume"]
    assert log(folder) == log(whole)[:2]
    state = load_checkpoint(folder / "checkpoint.pt")
    assert {int(count) for name, count in state["networks"].items()
            if name.endswith("sample_count") and name.startswith("discriminator")} == {3 * N}
    assert {group["minibatches"] for key in ("generator", "discriminator")
            for group in state[f"{key}_optimizer"]["param_groups"]} == {1}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk(run, tmp_path):
    """PyTorch raises a RuntimeError, which names no file."""
    (tmp_path / "checkpoint.part.pt").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"the disk is full: '.*checkpoint\.part\.pt'"):
        save(run, tmp_path)
    assert list(tmp_path.iterdir()) == []


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
    with CaptureWriter(str(folder), "port", plan, {}, 1) as writer:
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
