"""The Makefile's targets and bin/parity: what they run, what they pass on, and how they exit.

Nothing real is run: either make only prints (-n), or bin/parity works in a folder whose Pythons are
shell scripts that note how they were called.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from parity.cli import app
from parity.cli.app import COMMANDS
from tests.conftest import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
PROGRAM = (ROOT / "bin" / "parity").read_text()
TARGETS = ("help", "setup", "setup-torch", "data", "parity", "test", "lint", "twin", "twin-cntk",
           "train", "train-cntk", "article", "horizon", "defects", "false-alarms", "golden",
           "bench", "docs", "clean", "distclean")
VARIABLES = ("SEED", "ITERATIONS", "MINIBATCH", "MAP_FILE", "OUTPUT", "PORT", "RESUME",
             "OVERWRITE", "AGAIN", "ACCELERATOR", "CNTK_PYTHON", "PORT_PYTHON")


def make(*arguments: str, folder: Path = ROOT, **environ: str) -> subprocess.CompletedProcess:
    """make as from a shell, also where the tests themselves run under make."""
    own = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTHON", *VARIABLES)
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return subprocess.run(["make", *arguments], cwd=folder, env={**kept, **environ},
                          capture_output=True, text=True, check=False)


def printed(*arguments: str) -> list[str]:
    """The commands that make would run."""
    done = make("-n", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_there(target):
    printed(target)


def test_help_is_the_default_and_lists_every_target_and_variable():
    text = make().stdout
    assert text == make("help").stdout
    assert re.findall(r"^  ([a-z-]+) ", text, re.MULTILINE) == re.findall(
        r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)
    assert set(re.findall(r"^  ([a-z-]+) ", text, re.MULTILINE)) == set(TARGETS)
    assert set(re.findall(r"^  ([A-Z_]+)=", text, re.MULTILINE)) == set(VARIABLES)


@pytest.mark.parametrize("target, command", [
    ("setup", "setup"), ("setup-torch", "setup-torch"), ("data", "data"), ("parity", "run"),
    ("horizon", "horizon"), ("defects", "defects"), ("false-alarms", "false-alarms"),
    ("golden", "golden"),
    ("docs", "docs"), ("lint", "lint"), ("train", "train"), ("train-cntk", "train-cntk"),
    ("bench", "bench --output 'runs/bench.json'")])
def test_a_target_is_one_command(target, command):
    assert [line.split() for line in printed(target)] == [["bin/parity", *command.split()]]


def test_test_is_lint_and_the_tests():
    assert printed("test") == ["bin/parity lint", "bin/parity test"]


def test_the_twins_run_the_same_training():
    options = "--seed '0' --iterations '20' --minibatch-size '4'"
    assert [" ".join(printed(target)[0].split()) for target in ("twin", "twin-cntk")] == [
        f"bin/parity train {options} --output-dir 'runs/twin'",
        f"bin/parity train-cntk {options} --output-dir 'runs/twin-cntk'"]
    given = ("SEED=3", "ITERATIONS=7", "MINIBATCH=2", "MAP_FILE=my map.txt", "OUTPUT=out")
    for target in ("twin", "twin-cntk", "train", "train-cntk"):
        assert ("--seed '3' --iterations '7' --minibatch-size '2' --map-file 'my map.txt' "
                "--output-dir 'out'") in " ".join(printed(target, *given)[-1].split())


def test_variables_are_passed_on():
    given = ("SEED=3", "ITERATIONS=7", "MINIBATCH=2", "MAP_FILE=m", "OUTPUT=o")
    for target in ("parity", "horizon"):
        assert ("--seed '3' --iterations '7' --minibatch-size '2' --map-file 'm' --output 'o'"
                in printed(target, *given)[-1])
    for target in ("defects", "false-alarms"):
        assert " ".join(printed(target, *given)[-1].split()) == (
            f"bin/parity {target} --map-file 'm' --output 'o'")


@pytest.fixture
def fake(tmp_path):
    """A folder with the Makefile, bin/parity and Pythons that append to the file ``calls``.

    They exit with $SETTING_UP, $DRAWING and, for all else, $EXITS.
    """
    root = tmp_path / "a clone"
    (root / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", root)
    shutil.copy(ROOT / "bin" / "parity", root / "bin")
    for name in ("python3", ".venv-torch/bin/python", ".venv-cntk/bin/python"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n"
                        f'calls="{root}/calls"\n'
                        'echo "$PWD: $*" >> "$calls"\n'
                        "env | grep -E '^(PYTHON(PATH|HOME)|MKL_)' >> \"$calls\"\n"
                        'case "$*" in\n'
                        "*set_up*) echo said; exit ${SETTING_UP:-0};;\n"
                        "*datasets*) exit ${DRAWING:-0};;\n"
                        "esac\n"
                        "echo ran\n"
                        "exit ${EXITS:-0}\n")
        path.chmod(0o755)
    return root


def parity(fake, *arguments, cwd="/", **environ):
    return subprocess.run([fake / "bin" / "parity", *arguments], cwd=cwd, text=True,
                          env={**os.environ, "PYTHON": str(fake / "python3"), **environ},
                          capture_output=True, check=False)


def calls(fake: Path) -> list[str]:
    return (fake / "calls").read_text().splitlines()


SET_UP, PORT = "-m environment.set_up all", "-m environment.set_up torch"
DATA = "-m datasets faces --output data"


@pytest.mark.parametrize("command, there, run", [
    ("run", [SET_UP, DATA], "-P -m parity run --seed 3"),
    ("horizon", [SET_UP, DATA], "-P -m parity horizon --seed 3"),
    ("docs", [SET_UP, DATA], "-P -m parity docs --seed 3"),
    ("compare", [PORT], "-P -m parity compare --seed 3"),
    ("judge", [PORT], "-P -m parity judge --seed 3"),
    ("train", [PORT, DATA], "-P -m torch_port.train --seed 3"),
    ("train-cntk", [SET_UP, DATA],
     "-I -m environment.processors 2 -I -m cntk_impl.dcgan_training --seed 3"),
    ("bench", [SET_UP, DATA], "-m benchmarks --seed 3"),
    ("test", [SET_UP, DATA], "-m pytest -n 2 --dist loadfile --seed 3"),
])
def test_a_command_sets_up_what_it_needs_and_runs(fake, command, there, run):
    """Programs that take paths are run where the caller is."""
    assert parity(fake, command, "--seed", "3").returncode == 0
    where = fake if command in ("bench", "test") else "/"
    assert calls(fake) == [*(f"{fake}: {one}" for one in there), f"{where}: {run}"]


@pytest.mark.parametrize("command", ["run", "train", "bench", "photos", "defects", "explain-port"])
def test_help_needs_the_ports_environment_and_no_data(fake, command):
    assert parity(fake, command, "--help").returncode == 0
    first, second = calls(fake)
    assert first == f"{fake}: {PORT}" and second.endswith(" --help")


def test_the_help_of_cntks_program_needs_its_python_and_no_data(fake):
    assert parity(fake, "train-cntk", "--help").returncode == 0
    assert calls(fake)[0] == f"{fake}: {SET_UP}" and len(calls(fake)) == 2


def test_where_cntk_is_not_there_its_program_says_so(fake):
    shutil.rmtree(fake / ".venv-cntk")
    done = parity(fake, "train-cntk")
    assert done.returncode == 2 and done.stderr.startswith("error: train-cntk needs real CNTK")


@pytest.mark.parametrize("command", ["setup", "setup-torch", "data", "lint", "test"])
def test_a_help_does_nothing(fake, command):
    done = parity(fake, command, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"Usage: bin/parity {command}\n")
    assert not (fake / "calls").exists()


@pytest.mark.parametrize("command", ["rnu", "-x", "--version", "run judge"])
@pytest.mark.parametrize("options", [[], ["--help"], ["--quiet"]])
def test_what_is_no_command_sets_nothing_up(fake, command, options):
    done = parity(fake, command, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"error: there is no command '{command}': bin/parity --help lists what "
                           "there is\n")
    assert not (fake / "calls").exists()


@pytest.mark.parametrize("command", [*app.COMMANDS, *app.TOOLS])
def test_every_command_is_one(fake, command):
    assert parity(fake, command).returncode == 0


def test_quiet_is_the_set_ups_too(fake):
    assert parity(fake, "run").stdout == "said\nran\n"
    (fake / "calls").unlink()
    assert parity(fake, "run", "--quiet").stdout == "ran\n"
    assert calls(fake)[1] == f"{fake}: {DATA} --quiet"


def test_help_lists_what_is_not_of_the_command_line_too(capsys):
    app.main(["--help"])
    commands = capsys.readouterr().out.partition("Commands:")[2]
    listed = re.findall(r"^  ([a-z][a-z-]*) ", commands, re.MULTILINE)
    assert listed == [*app.COMMANDS, *app.TOOLS]
    tools = set(re.findall(r"bin/parity ([a-z][a-z-]*)", PROGRAM)) | {"setup-torch", "data"}
    assert set(app.TOOLS) == tools - {"run"} - set(app.COMMANDS)


def test_lint_needs_no_cntk_and_no_data(fake):
    assert parity(fake, "lint").returncode == 0
    assert calls(fake) == [f"{fake}: {one}" for one in (PORT, "-m ruff check .", "-m mypy")]
    assert parity(fake, "lint", EXITS="1").returncode == 1


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_bare_and_help_need_only_the_ports_environment(fake, arguments):
    assert parity(fake, *arguments).returncode == 0
    assert calls(fake) == [f"{fake}: {PORT}", " ".join(["/: -P -m parity", *arguments])]


@pytest.mark.parametrize("status", [0, 1, 2, 130])
def test_a_comparison_exits_as_its_command_does(fake, status):
    done = parity(fake, "run", EXITS=str(status))
    assert (done.returncode, done.stdout) == (status, "said\nran\n")


@pytest.mark.parametrize("command", ["bench"])
def test_what_is_no_comparison_does_not_say_differ(fake, command):
    assert [parity(fake, command, EXITS=code).returncode for code in "012"] == [0, 2, 2]


@pytest.mark.parametrize("failing", ["SETTING_UP", "DRAWING"])
@pytest.mark.parametrize("status, exits", [("1", 2), ("2", 2), ("130", 130)])
def test_a_failure_before_the_comparison_is_no_difference(fake, failing, status, exits):
    done = parity(fake, "run", **{failing: status})
    assert (done.returncode, done.stdout) == (exits, "said\n")


def test_it_is_found_through_a_link(fake, tmp_path):
    (tmp_path / "link").symlink_to(fake / "bin" / "parity")
    subprocess.run([tmp_path / "link", "judge"], cwd="/", check=True,
                   env={**os.environ, "PYTHON": str(fake / "python3")}, capture_output=True)
    assert calls(fake)[-1] == "/: -P -m parity judge"


def test_what_would_change_imports_or_bits_is_kept_out(fake):
    parity(fake, "run", PYTHONPATH="/of/the/caller", PYTHONHOME="/x", MKL_CBWR="COMPATIBLE",
           MKL_DEBUG_CPU_TYPE="5")
    assert len(calls(fake)) == 3 and not re.search("PYTHON|MKL", "".join(calls(fake)))


def test_the_commands_that_need_no_cntk_are_there():
    tools = {"setup", "setup-torch", "data", "lint", "test", "bench", "train", "train-cntk",
             "photos", "--help"}
    named = re.findall(r"^    ([a-z |-]+)\)", PROGRAM, re.MULTILINE)
    for name in {name.strip() for names in named for name in names.split("|")}:
        assert name in tools | set(COMMANDS), name


@pytest.mark.parametrize("target", ["parity", "test", "twin", "twin-cntk", "bench", "docs", "lint"])
@pytest.mark.parametrize("status", ["1", "2"])
def test_make_exits_2_for_whatever_fails(fake, target, status):
    assert make(target, folder=fake, PYTHON="./python3", EXITS=status).returncode == 2
    assert make(target, folder=fake, PYTHON="./python3").returncode == 0


def test_clean_leaves_environments_and_data_and_distclean_does_not(fake):
    for name in ("runs/twin", "build", ".pytest_cache", "data/faces", "parity/__pycache__",
                 ".venv-torch/lib/__pycache__"):
        (fake / name).mkdir(parents=True)
    assert make("clean", folder=fake).returncode == 0
    assert {path.name for path in fake.iterdir()} == {
        "Makefile", "bin", "python3", ".venv-cntk", ".venv-torch", "data", "parity"}
    assert list((fake / "parity").iterdir()) == []
    assert (fake / ".venv-torch" / "lib" / "__pycache__").exists()
    assert make("distclean", folder=fake).returncode == 0
    assert {path.name for path in fake.iterdir()} == {"Makefile", "bin", "python3", "parity"}


def test_ci_is_make_test_in_the_repository(tmp_path):
    program = tmp_path / "make"
    program.write_text('#!/bin/sh\necho "$PWD: make $*"\nexit 7\n')
    program.chmod(0o755)
    done = subprocess.run([ROOT / ".ci" / "run"], cwd=tmp_path, capture_output=True, text=True,
                          env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{ROOT}: make test\n", "")


@pytest.mark.parametrize("target", ["train", "train-cntk", "twin", "twin-cntk"])
def test_training_goes_on_where_it_is_asked_to(target):
    """With what was given alone: the rest is the run's own."""
    said = " ".join(" ".join(printed(target, "RESUME=1", "OUTPUT=out")).split())
    assert said == f"bin/parity {target.replace('twin', 'train')} --output-dir 'out' --resume"
    assert printed(target, "OVERWRITE=1", "SEED=8")[-1].split()[-1] == "--overwrite"
    assert not {"--resume", "--overwrite"} & set(printed(target)[-1].split())


def test_a_port_is_judged_or_refused():
    assert " ".join(printed("parity", "PORT=my port.py", "OUTPUT=o")[-1].split()) == (
        "bin/parity run --port 'my port.py' --output 'o'")
    done = make("-n", "horizon", "PORT=mine.py")
    assert done.returncode == 2 and "PORT is for make parity alone" in done.stderr
    assert "--port" not in make("-n", "parity", PORT="8080").stdout  # of the environment
