"""The command line: its defaults, and one line on stderr and exit 2 for everything that is wrong.

Real CNTK starts where only its own side can see what is wrong; there it ends in a few seconds.
"""
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import typer

from captures import given
from captures.errors import CaptureError
from captures.plan import FIELDS
from parity.cli import app
from parity.cli import run as run_command
from parity.cli.app import COMMANDS, application, loaded, main
from parity.cli.options import option_of
from parity.judge import policies
from parity.producers.jobs import ProducerError
from tests.conftest import ROOT, cntk_environment_or_fail

ADAPTER = ROOT / "examples" / "sequential" / "adapter.py"


@pytest.fixture
def images(tmp_path):
    """A map file of five images that decode."""
    random = np.random.RandomState(0)
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i}.bmp"),
                    random.randint(0, 256, (40, 30, 3)).astype(np.uint8))
    map_file = tmp_path / "map.txt"
    map_file.write_text("".join(f".../{i}.bmp\t0\n" for i in range(5)))
    return map_file


def only_line(err):
    """The one line of stderr, after "error: "."""
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
    return err[len("error: "):]


@pytest.fixture
def refused(tmp_path, images, capfd):
    """refused(*options): runs one stage, which needs little; returns the only line of stderr."""
    def refused(*options):
        given = ["run", "--map-file", str(images), "--output", str(tmp_path / "run"),
                 "--stages", "state", "--threads", "2", *map(str, options)]
        assert main(given) == 2
        return only_line(capfd.readouterr().err)
    return refused


# ---------------------------------------------------------------------------------------- the help


def help_of(capsys, *command):
    assert main([*command, "--help"]) == 0
    return re.sub(r"\s+", " ", capsys.readouterr().out)


def test_help_shows_every_default(capsys):
    shown = help_of(capsys, "run")
    for name, default, lowest, highest, what in FIELDS:
        described = re.search(rf" {option_of(name)} (.*?)\[default: (\S+)\]", shown)
        assert described, name
        flag = (lowest, highest) == (0, 1)
        assert described[2] == ("(off)" if flag else str(default))
        assert what.split()[0] in described[1]
    assert "data/train_dcgan_map.txt" in shown and "runs/parity" in shown


def test_every_command_has_its_help(capsys):
    overview = help_of(capsys)
    for command in COMMANDS:
        assert command in overview
        shown = help_of(capsys, command)
        assert f"Usage: bin/parity {command}" in shown
        options = re.split(r"\n  (?=--)", shown.partition("Options:")[2])[1:]
        assert [one for one in options if "[default:" not in one and not one.startswith("--help")
                ] == []


def test_a_command_is_one_file_and_one_line():
    for command in COMMANDS:
        assert callable(loaded(command))
    files = {path.stem.replace("_", "-") for path in (ROOT / "parity" / "cli").glob("[a-z]*.py")}
    assert files == {*COMMANDS, "app", "options"}


@pytest.mark.parametrize("arguments, expected", [
    ([], "Missing command: `bin/parity --help`"),
    (["no-such-command"], "No such command 'no-such-command': `bin/parity --help`"),
    (["run", "--seed", "x"], "Invalid value for '--seed': "),
    (["run", "--no-such-option"], "No such option: --no-such-option: `bin/parity run --help`"),
    (["compare", "a"], "Missing argument 'other': `bin/parity compare --help`")])
def test_usage(arguments, expected, capsys):
    assert main(arguments) == 2
    said = only_line(capsys.readouterr().err)
    assert said.startswith(expected) and said.endswith("--help` lists what there is\n")


class Broken:
    """A command that ends as it is told to."""

    def __init__(self, monkeypatch, error):
        def command() -> int:
            raise error

        monkeypatch.setattr(app.importlib, "import_module", lambda name: self)
        self.command = command


@pytest.mark.parametrize("error, code, said", [
    (KeyboardInterrupt(), 130, "interrupted\n"),
    (OSError(28, "No space left on device", "/full/x"), 2, "error: /full/x cannot be used (No "
     "space left on device): free space there or choose another folder with --output\n"),
    (BrokenPipeError(32, "Broken pipe"), 2, "error: the output folder cannot be used (Broken"),
    (CaptureError("it was changed"), 2, "error: it was changed\n"),
    (ValueError("a mistake"), 2, "Traceback"),
])
def test_how_a_command_ends(monkeypatch, capsys, error, code, said):
    Broken(monkeypatch, error)
    assert main(["docs"]) == code
    assert capsys.readouterr().err.startswith(said)


# --------------------------------------------------------------- what is wrong before anything runs


@pytest.mark.parametrize("options, expected", [
    (["--seed", -1], "seed is -1: give a whole number in 0 .. 4294967295"),
    (["--seed", 2 ** 32], "seed is 4294967296"),
    (["--minibatch-size", 0], "minibatch_size is 0"),
    (["--iterations", -1], "twin_iterations is -1"),
    (["--stages", "forward"], "there is no stage 'forward': give some of reference, structure"),
    (["--stages", "state,"], "there is no stage ''"),
    (["--port", "/"], "/ holds no torch_port"),
])
def test_options(refused, tmp_path, options, expected):
    assert expected in refused(*options)
    assert not (tmp_path / "run").exists()


def paths_of(command):
    """How each of its parameters that is a path is given, one at a time."""
    app = typer.main.get_command(application(command))
    return [(command, one.opts[0] if one.opts[0].startswith("-") else "") for one in
            app.commands[command].params if given.is_of(one, Path)]


@pytest.mark.parametrize(("command", "option"), [
    one for name in COMMANDS for one in paths_of(name)])
def test_an_empty_path_is_refused_by_every_command(tmp_path, monkeypatch, capsys, command, option):
    monkeypatch.chdir(tmp_path)
    arguments = [option, ""] if option else [""]
    assert main([command, *arguments]) == 2
    said = only_line(capsys.readouterr().err)
    assert said.startswith("Invalid value for '") and "it is empty: give a path" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-5", "1e300", "0"])
def test_a_time_limit_that_is_none(refused, images, value):
    assert "--time-limit" in refused("--time-limit", value, "--port", ADAPTER)
    assert "--time-limit" in refused(f"--time-limit={value}", "--port", ADAPTER)


@pytest.mark.parametrize(("arguments", "expected"), [
    (["equivalent", "a", "b", "--margin", "inf"], "'--margin': inf is not a finite number"),
    (["equivalent", "a", "b", "--margin", "nan"], "'--margin'"),
    (["equivalent", "a", "b", "--margin", "-1"], "'--margin'"),
    (["diagnoses", "--pairs", "-1"], "'--pairs'"),
    (["judge", "/", "--allow", "chain=inf"], "there is no capture in /"),
])
def test_other_numbers(capsys, arguments, expected):
    assert main(arguments) == 2
    assert expected in only_line(capsys.readouterr().err)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_an_allowance_that_is_no_number(value):
    with pytest.raises(policies.PolicyError, match="give a number from 0 on"), \
            policies.changed({"chain": value}):
        pass


@pytest.mark.parametrize(("options", "expected"), [
    (["--port", ADAPTER, "--device", "tpu"], "the device is 'tpu': give cpu or cuda"),
    (["--port", ADAPTER, "--mapping", "/nonexist"], "/nonexist is no mapping file"),
    (["--port", ADAPTER, "--mapping", ADAPTER], "adapter.py is no mapping file"),
    (["--device", "tpu"], "--device is of an adapter"),
    (["--device", "cuda"], "--device is of an adapter"),
    (["--mapping", "/nonexist"], "--mapping is of an adapter"),
    (["--time-limit", 5], "--time-limit is of an adapter"),
])
def test_the_options_of_an_adapter(refused, tmp_path, options, expected):
    assert expected in refused(*options)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_here(refused, tmp_path):
    assert "PyTorch sees no GPU here" in refused("--port", ADAPTER, "--device", "cuda")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text, expected", [
    (None, "map file {} cannot be read"),
    ("", "map file {} is empty"),
    (".../0.bmp 0\n", "{}, line 1: '.../0.bmp 0' is not of the form"),
    (".../0.bmp\t0\n.../none.bmp\t0\n", "{}, line 2: there is no file"),
])
def test_map_files(refused, tmp_path, images, text, expected):
    if text is None:
        images.unlink()
    else:
        images.write_text(text)
    assert refused().startswith(expected.format(images))
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_cannot_be_made(refused, images):
    assert f"{images}/run cannot be written" in refused("--output", images / "run")


@pytest.mark.parametrize("command", ["compare", "horizon"])
def test_the_other_commands(command, tmp_path, images, capfd):
    arguments = {"compare": [tmp_path / "a", tmp_path / "b"],
                 "horizon": ["--map-file", images, "--iterations", 0]}[command]
    assert main([command, *map(str, arguments)]) == 2
    assert {"compare": f"{tmp_path / 'a'} is no capture, no certificate and no recorded run",
            "horizon": "give --iterations"}[command] in only_line(capfd.readouterr().err)


# --------------------------------------------------------------------- what CNTK's process finds


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def text(path):
    path.write_text("a face\n")


def of_13_bits_a_pixel(path):
    """A BMP whole in its length, which nothing decodes."""
    content = bytearray(path.read_bytes())
    content[28] = 13
    path.write_bytes(content)


@pytest.mark.parametrize("spoil, expected", [
    (truncated, "3.bmp is cut short (3634 bytes of 3734): replace the file or delete the line"),
    (text, "3.bmp is no image that is known here, and BMP and PNM are read here: convert it"),
    (of_13_bits_a_pixel, "3.bmp is a BMP of 13 bits and compression 0, which is not read"),
])
def test_images_that_do_not_decode(refused, tmp_path, spoil, expected):
    spoil(tmp_path / "3.bmp")
    assert expected in refused()
    assert not (tmp_path / "run").exists()


def children(pid):
    """The processes that it started, and their command lines."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found[int(child)] = Path(f"/proc/{child}/cmdline").read_text().split("\0")
    return found


def test_cntks_process_is_killed(tmp_path, images):
    cntk_environment_or_fail()
    process = subprocess.Popen(
        [sys.executable, "-m", "parity", "run", "--map-file", images, "--stages", "state",
         "--output", tmp_path / "run"], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    with process:
        until = time.monotonic() + 60
        cntk = []
        while not cntk and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
            cntk = [pid for pid, command in children(process.pid).items()
                    if "cntk_impl.capture" in command]
        for pid in cntk:
            os.kill(pid, signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and len(cntk) == 1
    assert only_line(err).startswith("the process of cntk was ended by SIGKILL: most likely memory")
    assert not (tmp_path / "run" / "cntk" / "manifest.json").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_run_that_is_asked_to_end(tmp_path, images, number, status):
    """It ends its processes, leaves the folder as it was, and says so in a line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "parity", "run", "--map-file", images, "--stages", "state",
         "--reference", "certificate", "--output", tmp_path / "run"], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        until, made = time.monotonic() + 60, {}
        while not made and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
            made = children(process.pid)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert made and process.returncode == status
    assert err == f"ended by {signal.Signals(number).name}: {tmp_path / 'run'} is as it was\n"
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in made)


@pytest.mark.parametrize(("reference", "fitted"), [("cntk", True), ("certificate", False)])
def test_a_generator_is_fitted_where_cntk_shows_its_pictures_too(tmp_path, images, monkeypatch,
                                                                 reference, fitted):
    """A certificate holds no pictures of it."""
    asked = []

    def prepare(plan, folder, console, trained):
        asked.append(trained)
        raise ProducerError("enough")

    monkeypatch.setattr(run_command.for_score, "prepare", prepare)
    assert main(["run", "--reference", reference, "--output", str(tmp_path / "run"),
                     "--map-file", str(images)]) == 2
    assert asked == [fitted]
