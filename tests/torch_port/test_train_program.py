"""The port's program: what it writes, going on bit for bit, bad input, its options."""
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from captures.plan import Latents
from captures.training.checkpoint import read_newest
from captures.training.options import OPTIONS
from captures.training.pictures import grid
from tests.conftest import ROOT
from torch_port import rounding
from torch_port.dcgan import empty_networks, networks_from_seed
from torch_port.train import __main__ as program_module
from torch_port.train import run as run_module
from torch_port.train.steps import generator_step

SEED, N, ITERATIONS, IMAGES = 7, 2, 3, 5


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_cntks_rounding():
    """The program switches oneDNN off for its process, which here goes on."""
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
    yield tmp_path / "run"
    shutil.rmtree(tmp_path)


def main(map_file, folder, *options):
    return program_module.main(
        ["--seed", str(SEED), "--minibatch-size", str(N), "--map-file", str(map_file),
         "--output-dir", str(folder), "--image-interval", "2", "--sample-interval", "3",
         "--threads", "1", "--iterations", str(ITERATIONS), *options])


@pytest.fixture(scope="module")
def whole(map_file, tmp_path_factory):
    """Three iterations in one go: the folder."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(map_file, folder) == 0
    yield folder
    shutil.rmtree(folder)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def apart(one, other):
    """The names at which two runs' last checkpoints differ."""
    one, other = read_newest(one), read_newest(other)
    assert one.iteration == other.iteration and one.latents == other.latents
    assert set(one.arrays) == set(other.arrays)
    return [name for name in one.arrays
            if one.arrays[name].tobytes() != other.arrays[name].tobytes()]


def test_files(whole):
    kept = f"checkpoints/iteration{ITERATIONS:07d}/"
    events = {name for name in files(whole) if name.startswith("events/")}
    assert len(events) == 1
    assert files(whole) - events == {
        "dcgan.csv", "run.json", ".lock", "dcgan_generator.pt", "dcgan_discriminator.pt",
        "dcgan_logging.png", "dcgan_image.png", "dcgan.gif",
        "dcgan_image/step0/fake.png", "dcgan_image/step2/fake.png",
        "samples/iteration0000001.png", "samples/iteration0000003.png",
        *(kept + name for name in ("state.npz", "dcgan.csv", "manifest.json"))}
    with open(whole / "dcgan.csv", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["step", "G_loss", "D_loss"] and [row[0] for row in rows] == list("123")
    assert np.isfinite(np.array(rows, float)).all()


def test_the_pictures_are_the_generators(whole):
    """Of 0 updates: made here from the seed. A picture in R, G, B would not pass."""
    networks, latents = networks_from_seed(SEED), Latents(SEED)
    latents.next(N)
    with torch.no_grad():
        fake = networks.generator(torch.from_numpy(latents.next(N)))[0].numpy()
    expected = (fake / 2 + 0.5).transpose(1, 2, 0) * 255
    image = cv2.imread(str(whole / "dcgan_image/step0/fake.png"))
    assert np.abs(image - expected).max() < 0.51
    assert np.abs(image[..., ::-1] - expected).max() > 2


def test_the_models_give_the_last_grid(whole):
    networks = empty_networks().eval()
    for network, name in run_module.MODELS.items():
        networks.get_submodule(network).load_state_dict(
            torch.load(whole / name, weights_only=True))
    with torch.no_grad():
        images = networks.generator(torch.from_numpy(Latents(SEED).next(16))).numpy()
    drawn = cv2.imread(str(whole / f"samples/iteration{ITERATIONS:07d}.png"))
    assert drawn.shape == (512, 512, 3)
    assert np.abs(drawn.astype(int) - grid(images)).max() <= 1
    assert (whole / "dcgan_image.png").read_bytes() == (
        whole / f"samples/iteration{ITERATIONS:07d}.png").read_bytes()


def test_the_figures_open(whole):
    with Image.open(whole / "dcgan.gif") as animation:
        assert animation.n_frames == 2 and animation.size[0] == 384
    assert cv2.imread(str(whole / "dcgan_logging.png")).std() > 5


def test_the_events(whole):
    from tensorboardX.proto import event_pb2

    (path,), found = list((whole / "events").iterdir()), {}
    content = path.read_bytes()
    while content:  # length, its check sum, the message, its check sum
        length = int.from_bytes(content[:8], "little")
        event = event_pb2.Event.FromString(content[12:12 + length])
        content = content[16 + length:]
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
    rows = [line.split(",") for line in (whole / "dcgan.csv").read_text().split()[1:]]
    assert found == {(name, int(step)): pytest.approx(float(loss))
                     for step, g, d in rows for name, loss in (("G_loss", g), ("D_loss", d))}


def test_the_record(whole):
    record = json.loads((whole / "run.json").read_text())
    assert record["program"] == "port" and record["status"] == "finished"
    assert record["settings"]["seed"] == SEED and record["identity"]["data"]["images"] == IMAGES
    assert {"torch", "python", "numpy", "opencv"} <= set(record["versions"])


def test_sigterm_then_going_on_is_the_run(map_file, folder, whole, monkeypatch, capsys):
    """It comes between the two steps of iteration 2, and is heard behind it; what is left out on
    the command line is taken from the run."""
    calls = []

    def asked_to_end(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return generator_step(*arguments)

    monkeypatch.setattr(run_module, "generator_step", asked_to_end)
    assert main(map_file, folder) == 143
    assert read_newest(folder).iteration == 2
    monkeypatch.undo()
    assert "stopped by SIGTERM" in capsys.readouterr().err
    assert program_module.main(["--output-dir", str(folder), "--resume", "--threads", "1"]) == 0
    assert apart(folder, whole) == []
    assert (folder / "dcgan.csv").read_bytes() == (whole / "dcgan.csv").read_bytes()
    for name in files(whole):
        if name.endswith(".png") and "logging" not in name:
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert not [name for name in files(folder) if ".part" in name]


def test_what_is_not_finite_names_its_layer(map_file, folder, monkeypatch, capsys):
    real = run_module.Run.from_seed

    def spoilt(*arguments, **named):
        run = real(*arguments, **named)
        with torch.no_grad():
            run.networks.discriminator.conv4.weight[0] = torch.nan
        return run

    monkeypatch.setattr(run_module.Run, "from_seed", spoilt)
    assert main(map_file, folder) == 2
    assert "error: D_loss is nan in iteration 1; it began in discriminator/conv4. There is no " \
           "checkpoint from before" in capsys.readouterr().err


@pytest.mark.parametrize("options, expected", [
    (["--map-file", "{}/none.txt"], "error: map file {}/none.txt cannot be read"),
    (["--output-dir", "{}/file/run"], "error: {}/file/run cannot be written (Not a "
                                      "directory)"),
    (["--seed", "-1"], "error: Invalid value for '--seed'"),
    (["--iterations", "0"], "error: Invalid value for '--iterations'"),
    (["--minibatch-size", "x"], "error: Invalid value for '--minibatch-size'"),
    (["--no-such-option"], "error: No such option: --no-such-option"),
    (["--minibatch-size", "16"], "names 5 images, fewer than the 16 of one minibatch"),
    (["--accept", "data"], "error: --accept says with what changes a run goes on"),
])
def test_bad_input(map_file, tmp_path, capsys, options, expected):
    (tmp_path / "file").write_text("")
    assert main(map_file, tmp_path / "run", *(one.format(tmp_path) for one in options)) == 2
    err = capsys.readouterr().err
    assert expected.format(tmp_path) in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_path_that_is_not_ascii_under_the_c_locale(map_file, tmp_path):
    """The whole program, in a process: up to the first thing that is wrong behind the path."""
    folder = tmp_path / "été"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "torch_port.train", "--output-dir", folder / "run", "--resume"],
        cwd=ROOT, capture_output=True, env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        check=False)
    assert done.returncode == 2 and b"holds no run to go on with" in done.stderr
    assert b"Traceback" not in done.stderr


def test_help_shows_every_option_with_its_default(capsys):
    assert program_module.main(["--help"]) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    for option in OPTIONS:
        assert option.flag + " " in shown and option.help.split(":")[0] in shown
    for default in (50000, 16, 10, 1000, 15.0):
        assert f"[default: {default};" in shown
