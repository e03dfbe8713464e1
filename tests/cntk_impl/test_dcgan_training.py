"""The article's program on real CNTK: a short run, the same in two parts, and importing alone."""
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from captures.article import DCGAN
from captures.plan import Latents
from captures.process import pinned
from captures.training.checkpoint import check_arrays, read_newest
from captures.training.options import OPTIONS
from captures.training.shapes import shapes
from tests.conftest import ROOT, cntk_environment_or_fail
from torch_port.dcgan import networks_from_seed
from torch_port.files.model import read_model
from torch_port.normal_initializer import normal

PROGRAM = ROOT / "cntk_impl" / "dcgan_training.py"
MODELS = {"generator": "dcgan_generator.model", "discriminator": "dcgan_discriminator.model"}
IMAGE = "dcgan_image/step0/fake.png"
N, ITERATIONS = 2, 3

# Run by CNTK's Python in an empty folder; answers as JSON.
IMPORTED = r"""
import contextlib, io, json, os, sys

from environment.quiet import select_device
select_device()
import cntk as C

def made():  # CNTK numbers all that it makes; this makes one more
    return int(C.input_variable(1).uid[len("Input"):])

before = made()
from cntk_impl import console, dcgan_training as program, training_state
from click.testing import CliRunner

def refused(arguments):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        try:
            console.main(arguments)
        except SystemExit as end:
            return [end.code, stderr.getvalue()]

answer = {"made": [before, made()], "files": os.listdir(".")}
answer["refused"] = [refused(arguments) for arguments in json.load(sys.stdin)]
answer["made"].append(made())
answer["help"] = CliRunner().invoke(console.command, ["--help"]).output
answer["seed0"] = C.parameter((5,), init=C.normal(0.02)).value.tolist()
program.dcgan_discriminator(C.input_variable((3, 256, 256)))
answer["made"].append(made())

function = C.parameter((300, 300), init=1.0) * C.input_variable((300, 300))
really, answer["saved"] = training_state.shutil.disk_usage, []
for path, free in (("full.model", 10**6), ("room.model", 10**7)):
    training_state.shutil.disk_usage = lambda folder, free=free: really(folder)._replace(free=free)
    try:
        training_state.save_function(function, os.path.abspath(path))
        answer["saved"].append(os.path.getsize(path))
    except OSError as error:
        answer["saved"].append([error.strerror, error.filename, os.path.exists(path)])
json.dump(answer, sys.stdout)
"""


def environment():
    return pinned(os.environ, KMP_BLOCKTIME="1")


def program(*options):
    return subprocess.run([cntk_environment_or_fail(), PROGRAM, *options], capture_output=True,
                          text=True, check=False, env=environment())


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def rows(folder):
    with open(folder / "dcgan.csv", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three iterations on the default data: folder, stdout, stderr."""
    folder = tmp_path_factory.mktemp("article")
    done = program("--iterations", str(ITERATIONS), "--minibatch-size", str(N), "--output-dir",
                   folder / "run", "--sample-interval", "100")
    assert done.returncode == 0, done.stderr
    yield SimpleNamespace(folder=folder / "run", out=done.stdout, err=done.stderr)
    shutil.rmtree(folder)  # 100 MB


# ----------------------------------------------------------------------------------------- a run


def test_files(run):
    kept = "checkpoints/iteration0000003/"
    events = [name for name in names(run.folder) if name.startswith("events/")]
    assert len(events) == 1
    assert sorted(set(names(run.folder)) - set(events)) == sorted([
        *MODELS.values(), "dcgan.csv", "run.json", ".lock", IMAGE, "samples/iteration0000001.png",
        "samples/iteration0000003.png", "dcgan_logging.png", "dcgan_image.png", "dcgan.gif",
        *(kept + name for name in ("state.npz", "dcgan.csv", "manifest.json"))])


def test_log(run):
    header, *body = rows(run.folder)
    assert header == ["step", "G_loss", "D_loss"]
    assert [int(row[0]) for row in body] == [1, 2, 3]
    losses = np.array([[float(value) for value in row[1:]] for row in body])
    assert np.all((losses > 0) & (losses < 2 * 85.2))
    printed = re.findall(r"^Finished Epoch\[(\d)\]: \[Generator\] loss = (\S+) ", run.out, re.M)
    assert [(i, float(g)) for i, g in printed] == [
        (row[0], pytest.approx(float(row[1]), abs=1e-6)) for row in body]


def progress_and_the_rest(err):
    lines = [line for line in err.splitlines() if line.strip()
             and not line.startswith("checked ")]  # where that took two seconds
    shown = re.compile(r"iteration \d+ of 3  D_loss \S+  G_loss \S+  \S+ images/s  \S+ left")
    return ([line for line in lines if shown.fullmatch(line)],
            [line for line in lines if not shown.fullmatch(line)])


def test_stderr_is_the_progress_and_the_last_line(run):
    shown, rest = progress_and_the_rest(run.err)
    assert shown[0].startswith("iteration 1 of 3 ") and shown[-1].startswith("iteration 3 of 3 ")
    assert rest == [f"checkpoints, models, images and dcgan.csv are in {run.folder}"]


def test_noise_would_show():
    noise = "Selected CPU as the process wide default device.\n"
    assert progress_and_the_rest(noise)[1] == ["Selected CPU as the process wide default device."]


def test_its_checkpoint_is_the_models_and_the_ports(run):
    """Everything of it, Adam's state too, is what CNTK's own files hold."""
    arrays = read_newest(run.folder).arrays
    check_arrays(read_newest(run.folder), shapes(DCGAN))
    for network, name in MODELS.items():
        for place, array in read_model(run.folder / name, network).items():
            assert np.array_equal(arrays[place], array), place
    assert all(int(arrays[f"{network}/learner/minibatches"]) == ITERATIONS for network in MODELS)
    assert all(np.abs(array).max() > 0 for name, array in arrays.items() if name[-2:] == "_m")


def test_models_are_trained(run):
    """Samples counted per iteration: D 2N in its own step and N in the generator's, G N in each."""
    for network, per_iteration in (("generator", 2 * N), ("discriminator", 3 * N)):
        arrays = read_model(run.folder / MODELS[network], network)
        counts = {name: int(array) for name, array in arrays.items()
                  if name.endswith("/sample_count")}
        assert set(counts.values()) == {ITERATIONS * per_iteration}, counts
        assert all(np.isfinite(array).all() for array in arrays.values())


def test_the_image_is_of_a_generator_of_0_updates(run):
    """The port's makes the same of the second latents; the first are the D step's."""
    networks, latents = networks_from_seed(0), Latents(0)
    latents.next(N)
    with torch.no_grad():
        fake = networks.generator(torch.from_numpy(latents.next(N)))[0].numpy()
    expected = (fake / 2 + 0.5).transpose(1, 2, 0) * 255  # B, G, R, as OpenCV reads
    image = cv2.imread(str(run.folder / IMAGE))
    assert image.shape == (256, 256, 3) and image.dtype == np.uint8
    assert np.abs(image - expected).max() < 0.51  # rounded to a byte
    for other in (image[..., ::-1], image[::-1], image[:, ::-1]):
        assert np.abs(other - expected).max() > 2


# ------------------------------------------------------------------------------------- in two parts


def test_sigterm_then_going_on_is_the_run(run, tmp_path):
    """Real CNTK, ended behind an iteration and taken up again: every bit of weights, statistics
    and Adam, the log, the pictures."""
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [cntk_environment_or_fail(), PROGRAM, "--iterations", str(ITERATIONS), "--minibatch-size",
         str(N), "--output-dir", folder, "--sample-interval", "100"], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, env=environment())
    with process:
        err = process.stderr.readline()
        assert err.startswith(b"iteration 1 of 3 "), err
        process.send_signal(signal.SIGTERM)
        err += process.communicate(timeout=300)[1]
    assert process.returncode == 143 and b"stopped by SIGTERM" in err, err
    assert 1 <= read_newest(folder).iteration == len(rows(folder)) - 1 < ITERATIONS
    for network, name in MODELS.items():
        read_model(folder / name, network)  # whole
    ported = tmp_path / "ported"
    by_command("torch_port.convert", "convert", folder, "--to", "port", "--output", ported)
    done = program("--output-dir", folder, "--resume")
    assert done.returncode == 0, done.stderr
    assert apart(folder, run.folder) == []
    for name in ("dcgan.csv", IMAGE, "samples/iteration0000003.png"):
        assert (folder / name).read_bytes() == (run.folder / name).read_bytes(), name
    # What CNTK began, the port ends, with CNTK's bits.
    by_command("torch_port.train", "--output-dir", ported, "--resume", "--threads", "1")
    assert apart(ported, run.folder) == []
    assert (ported / "dcgan.csv").read_bytes() == (run.folder / "dcgan.csv").read_bytes()
    for path in (folder, ported):
        shutil.rmtree(path)


def by_command(module, *options):
    subprocess.run([sys.executable, "-m", module, *options], cwd=ROOT, check=True,
                   capture_output=True)


def apart(one, other):
    """The names at which two runs' last checkpoints differ."""
    one, other = read_newest(one), read_newest(other)
    assert one.latents == other.latents and set(one.arrays) == set(other.arrays)
    return [name for name in one.arrays
            if one.arrays[name].tobytes() != other.arrays[name].tobytes()]


def test_its_model_and_its_checkpoint_give_the_same_pictures(run, tmp_path):
    made = []
    for name in (MODELS["generator"], "checkpoints/iteration0000003"):
        by_command("torch_port.convert", "sample", run.folder / name, "--count", "1", "--output",
                   tmp_path / str(len(made)))
        made.append((tmp_path / str(len(made)) / "grid.png").read_bytes())
    assert made[0] == made[1]


# ------------------------------------------------------------------------- importing, bad input


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """What importing the program does, and what it says of bad input: one process for all."""
    images = tmp_path_factory.mktemp("images")
    for name in ("good", "truncated"):
        cv2.imwrite(str(images / f"{name}.bmp"), np.zeros((8, 8, 3), np.uint8))
    content = (images / "truncated.bmp").read_bytes()
    (images / "truncated.bmp").write_bytes(content[:-1])
    (images / "text.bmp").write_text("a face\n")
    (images / "file").write_text("")
    for name, text in {"empty": "", "missing": ".../none.bmp\t0\n", "form": ".../good.bmp 0\n",
                       "truncated": ".../truncated.bmp\t0\n", "text": ".../text.bmp\t0\n",
                       "good": ".../good.bmp\t0\n"}.items():
        (images / f"{name}.txt").write_text(text)
    cases = {name: ["--map-file", f"{images}/{name}.txt"]
             for name in ("empty", "missing", "form", "none")}
    cases = {name: [*options, "--output-dir", f"{images}/run"] for name, options in cases.items()}
    cases["few"] = ["--map-file", f"{images}/good.txt", "--output-dir", f"{images}/run"]
    cases["seed"] = ["--seed", str(2 ** 32)]
    cases["iterations"] = ["--iterations", "0"]
    cases["output"] = ["--map-file", f"{images}/good.txt", "--output-dir", f"{images}/file/run"]
    done = subprocess.run([cntk_environment_or_fail(), "-c", IMPORTED], capture_output=True,
                          input=json.dumps(list(cases.values())), text=True, check=False,
                          cwd=tmp_path_factory.mktemp("empty"), env=environment())
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    answer["refused"] = dict(zip(cases, answer["refused"], strict=True))
    answer["stderr"] = done.stderr
    return SimpleNamespace(images=images, **answer)


def test_importing_builds_nothing(imported):
    before, after, after_refusals, at_last = imported.made
    assert (after, after_refusals) == (before + 1, before + 2)
    assert at_last > before + 20  # what is built shows
    assert imported.files == [] and imported.stderr == ""


def test_importing_draws_nothing(imported):
    """The counter of seeds still stands at 0 for whoever builds next."""
    assert np.array_equal(np.float32(imported.seed0), normal(0.02, (5,), seed=0))
    assert not np.array_equal(np.float32(imported.seed0), normal(0.02, (5,), seed=1))


@pytest.mark.parametrize("case, expected", [
    ("empty", "error: map file {}/empty.txt is empty"),
    ("missing", "error: {0}/missing.txt, line 1: there is no file {0}/none.bmp"),
    ("form", "error: {}/form.txt, line 1: '.../good.bmp 0' is not of the form"),
    ("none", "error: map file {}/none.txt cannot be read"),
    ("few", "error: {}/good.txt names 1 images, fewer than the 16 of one minibatch"),
    ("output", "error: {}/file/run cannot be written (Not a directory)"),
])
def test_bad_input(imported, case, expected):
    code, err = imported.refused[case]
    assert code == 2 and err.startswith(expected.format(imported.images)), err
    assert err.count("\n") == 1


@pytest.mark.parametrize("case, expected", [
    ("seed", "Invalid value for '--seed': 4294967296 is not in the range 0<=x<=4294967295"),
    ("iterations", "Invalid value for '--iterations': 0 is not in the range x>=1"),
])
def test_options_out_of_range(imported, case, expected):
    code, err = imported.refused[case]
    assert code == 2 and err == f"error: {expected}: --help lists the options\n"


def test_a_full_disk_is_noticed_before_cntk_aborts_on_it(imported):
    """Saving 360 kB to a full disk ends CNTK's process with "double free or corruption"."""
    (message, path, exists), size = imported.saved
    assert message == "No space left on device" and path.endswith("/full.model") and not exists
    assert size > 360_000


def test_bare_it_is_the_articles_run(imported):
    shown = re.sub(r"\s+", " ", imported.help)
    for option, default in (("--iterations", "50000"), ("--minibatch-size", "16"),
                            ("--unit-gain", "False"), ("--image-interval", "10"), ("--seed", "0")):
        assert re.search(rf"{option} (?:(?!--).)*\[default: {default}[;\]]", shown), option
    assert "data/train_dcgan_map.txt" in shown


def test_both_programs_have_the_same_options(imported):
    """Names, help and defaults; the port has some of its own behind them."""
    shown = re.sub(r"\s+", "", imported.help)
    for option in OPTIONS:
        assert option.flag in shown and re.sub(r"\s+", "", option.help) in shown


def test_the_figures_of_a_folder_that_is_named_from_another(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "dcgan.csv").write_text("step,G_loss,D_loss\n1,0.5,0.25\n2,0.4,0.2\n")
    done = subprocess.run(
        [cntk_environment_or_fail(), "-c", "from pathlib import Path; from cntk_impl import "
         "console; console.draw_figures(Path('run'))"], cwd=tmp_path, capture_output=True,
        text=True, env={**pinned(os.environ), "PYTHONPATH": str(ROOT)}, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "dcgan_logging.png").exists()
