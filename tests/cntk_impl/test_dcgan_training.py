"""The article's program on real CNTK: one short run, one interrupted, one that only imports it."""
import csv
import json
import os
import re
import shutil
import signal
import subprocess
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from captures.plan import Latents
from captures.process import pinned
from tests.conftest import ROOT, cntk_environment_or_fail
from torch_port.dcgan import networks_from_seed
from torch_port.files.model import read_model
from torch_port.normal_initializer import normal

PROGRAM = ROOT / "cntk_impl" / "dcgan_training.py"
MODELS = {"generator": "dcgan_generator.model", "discriminator": "dcgan_discriminator.model"}
IMAGE = "dcgan_image/step0/fake.png"
N, ITERATIONS = 4, 3

# Run by CNTK's Python in an empty folder; answers as JSON.
IMPORTED = r"""
import contextlib, io, json, os, sys

from environment.quiet import select_device
select_device()
import cntk as C

def made():  # CNTK numbers all that it makes; this makes one more
    return int(C.input_variable(1).uid[len("Input"):])

before = made()
from cntk_impl import dcgan_training as program

def refused(arguments):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        try:
            code = program.main(arguments)
        except SystemExit as end:
            code = end.code
    return [code, stderr.getvalue()]

answer = {"made": [before, made()], "files": os.listdir(".")}
answer["refused"] = [refused(arguments) for arguments in json.load(sys.stdin)]
answer["made"].append(made())
answer["help"] = program.parser().format_help()
answer["seed0"] = C.parameter((5,), init=C.normal(0.02)).value.tolist()
program.dcgan_discriminator(C.input_variable((3, 256, 256)))
answer["made"].append(made())

function = C.parameter((300, 300), init=1.0) * C.input_variable((300, 300))
really, answer["saved"] = program.shutil.disk_usage, []
for path, free in (("full.model", 10**6), ("room.model", 10**7)):
    program.shutil.disk_usage = lambda folder, free=free: really(folder)._replace(free=free)
    try:
        program.save_function(function, os.path.abspath(path))
        answer["saved"].append(os.path.getsize(path))
    except OSError as error:
        answer["saved"].append([error.strerror, error.filename, os.path.exists(path)])
json.dump(answer, sys.stdout)
"""


def environment():
    return pinned(os.environ)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def rows(folder):
    with open(folder / "dcgan.csv", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three iterations on the default data: folder, stdout, stderr."""
    folder = tmp_path_factory.mktemp("article")
    done = subprocess.run(
        [cntk_environment_or_fail(), PROGRAM, "--iterations", str(ITERATIONS), "--minibatch-size",
         str(N), "--output-dir", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    yield SimpleNamespace(folder=folder, out=done.stdout, err=done.stderr)
    shutil.rmtree(folder)  # 100 MB


# ----------------------------------------------------------------------------------------- a run


def test_files(run):
    assert names(run.folder) == sorted([*MODELS.values(), "dcgan.csv", IMAGE])


def test_log(run):
    header, *body = rows(run.folder)
    assert header == ["step", "G_loss", "D_loss"]
    assert [int(row[0]) for row in body] == [1, 2, 3]
    losses = np.array([[float(value) for value in row[1:]] for row in body])
    assert np.all((losses > 0) & (losses < 2 * 85.2))
    printed = re.findall(r"^iteration (\d+): D_loss (\S+)  G_loss (\S+)$", run.out, re.M)
    assert [(int(i), float(g), float(d)) for i, d, g in printed] == [
        (int(step), pytest.approx(float(g), rel=1e-6), pytest.approx(float(d), rel=1e-6))
        for step, g, d in body]


def bars_and_the_rest(err):
    """tqdm writes its bar again and again after a carriage return."""
    parts = [part.strip() for part in re.split(r"[\r\n]", err) if part.strip()]
    return ([part for part in parts if re.match(r"\d+%\|.*\| \d+/\d+ \[", part)],
            [part for part in parts if not re.match(r"\d+%\|.*\| \d+/\d+ \[", part)])


def test_stderr_is_the_bar_and_the_last_line(run):
    bars, rest = bars_and_the_rest(run.err)
    rest = [line for line in rest if not line.startswith("checked ")]  # where that took two seconds
    assert rest == [f"models, images and dcgan.csv are in {run.folder}"]
    assert "3/3" in bars[-1] and "D_loss=" in bars[-1] and "G_loss=" in bars[-1]


def test_noise_would_show():
    noise = "Selected CPU as the process wide default device.\n  0%|   | 0/3 [00:00<?]\r"
    assert bars_and_the_rest(noise)[1] == ["Selected CPU as the process wide default device."]


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


# -------------------------------------------------------------------------------------- ctrl-c


def test_ctrl_c_keeps_what_was_done(tmp_path):
    process = subprocess.Popen(
        [cntk_environment_or_fail(), PROGRAM, "--iterations", "100", "--minibatch-size", "2",
         "--output-dir", tmp_path / "run"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process:
        err = b""
        while b"1/100 [" not in err:
            part = os.read(process.stderr.fileno(), 4096)
            assert part, err.decode()
            err += part
        process.send_signal(signal.SIGINT)
        err += process.communicate(timeout=60)[1]
    assert process.returncode == 130
    header, *body = rows(tmp_path / "run")
    assert header == ["step", "G_loss", "D_loss"] and 1 <= len(body) < 100
    assert names(tmp_path / "run") == sorted([*MODELS.values(), "dcgan.csv", IMAGE])
    assert bars_and_the_rest(err.decode())[1] == [
        f"interrupted after {len(body)} iterations; models and log of those are in "
        f"{tmp_path / 'run'}"]
    for network, name in MODELS.items():
        read_model(tmp_path / "run" / name, network)  # whole
    shutil.rmtree(tmp_path / "run")


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
             for name in ("empty", "missing", "form", "truncated", "text", "none")}
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
    ("truncated", "error: {0}/truncated.txt, line 1: {0}/truncated.bmp is cut short"),
    ("text", "error: {0}/text.txt, line 1: {0}/text.bmp is no image that is known here"),
    ("none", "error: map file {}/none.txt cannot be read"),
    ("output", "error: {}/file/run cannot be written (Not a directory)"),
])
def test_bad_input(imported, case, expected):
    code, err = imported.refused[case]
    assert code == 2 and err.startswith(expected.format(imported.images))
    assert err.count("\n") == 1


@pytest.mark.parametrize("case, expected", [
    ("seed", "argument --seed: 4294967296 is out of range: give at least 0 and at most 4294967295"),
    ("iterations", "argument --iterations: 0 is out of range: give at least 1"),
])
def test_options_out_of_range(imported, case, expected):
    code, err = imported.refused[case]
    assert code == 2 and err.rstrip().endswith(expected)


def test_a_full_disk_is_noticed_before_cntk_aborts_on_it(imported):
    """Saving 360 kB to a full disk ends CNTK's process with "double free or corruption"."""
    (message, path, exists), size = imported.saved
    assert message == "No space left on device" and path.endswith("/full.model") and not exists
    assert size > 360_000


def test_bare_it_is_the_articles_run(imported):
    shown = re.sub(r"\s+", " ", imported.help)
    for option, default in (("--iterations", "50000"), ("--minibatch-size", "16"),
                            ("--unit-gain", "False"), ("--image-interval", "10"), ("--seed", "0")):
        assert re.search(rf"{option} (?:(?!--).)*\(default: {default}\)", shown), option
    assert "data/train_dcgan_map.txt" in shown
