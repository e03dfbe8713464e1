"""The Makefile's targets: what they run, what they pass on, and how they exit.

Nothing real is run: either make only prints (-n), or it works in a folder whose Pythons are shell
scripts that note how they were called.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = ("help", "setup", "setup-torch", "data", "parity", "test", "lint", "twin", "twin-cntk",
           "horizon", "defects", "false-alarms", "bench", "docs", "clean", "distclean")
COMPARISONS = ("parity", "horizon", "defects", "false-alarms")
VARIABLES = ("SEED", "ITERATIONS", "MINIBATCH", "MAP_FILE", "OUTPUT", "ACCELERATOR", "CNTK_PYTHON",
             "PORT_PYTHON")


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


SET_UP = "python3 environment/set_up.py"
TORCH = ".venv-torch/bin/python"


@pytest.mark.parametrize("target", ["data", "parity", "test", "lint", "twin", "twin-cntk",
                                    "horizon", "defects", "false-alarms", "bench", "docs"])
def test_every_target_sets_up_what_it_needs_first(target):
    assert printed(target)[0] in (f"{SET_UP} all", f"{SET_UP} torch")


@pytest.mark.parametrize("target", ["twin", "data", "lint"])
def test_these_need_no_cntk(target):
    commands = "\n".join(printed(target))
    assert "set_up.py all" not in commands
    assert ".venv-cntk" not in commands


def test_the_twins_run_the_same_training():
    ours, theirs = printed("twin")[-1], printed("twin-cntk")[-1]
    options = "--seed '0' --iterations '20' --minibatch-size '4'"
    assert " ".join(ours.split()) == (
        f"{TORCH} -m torch_port.train {options} --output-dir 'runs/twin'")
    assert " ".join(theirs.split()) == (
        f'PYTHONPATH="{ROOT}" .venv-cntk/bin/python cntk_impl/dcgan_training.py {options} '
        "--output-dir 'runs/twin-cntk'")
    given = ("SEED=3", "ITERATIONS=7", "MINIBATCH=2", "MAP_FILE=my map.txt", "OUTPUT=out")
    for target in ("twin", "twin-cntk"):
        assert ("--seed '3' --iterations '7' --minibatch-size '2' --map-file 'my map.txt' "
                "--output-dir 'out'") in printed(target, *given)[-1]


def test_parity_is_given_options_only_where_a_variable_is():
    assert printed("parity")[-1].split() == [TORCH, "-m", "parity", "run"]
    assert "run --seed '3' --iterations '7' --minibatch-size '2' --map-file 'm' --output 'o'" in (
        printed("parity", "SEED=3", "ITERATIONS=7", "MINIBATCH=2", "MAP_FILE=m", "OUTPUT=o")[-1])


def test_test_is_set_up_data_lint_and_pytest():
    assert printed("test") == [
        f"{SET_UP} all", f"{SET_UP} torch", f"{TORCH} -m datasets.drawn_faces --output data",
        f"{TORCH} -m ruff check .", f"{TORCH} -m mypy", f"{TORCH} -m pytest"]


@pytest.fixture
def fake(tmp_path):
    """A folder with the Makefile and Pythons that append to the file ``calls``.

    They exit with $SETTING_UP, $DRAWING and, for all else, $EXITS.
    """
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("python3", ".venv-torch/bin/python", ".venv-cntk/bin/python"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n"
                        'echo "${PYTHONPATH-no path}: $*" >> calls\n'
                        'case "$*" in\n'
                        "*set_up.py*) exit $SETTING_UP;;\n"
                        "*drawn_faces*) exit $DRAWING;;\n"
                        "esac\n"
                        "echo ran\n"
                        "exit $EXITS\n")
        path.chmod(0o755)
    return tmp_path


def calls(fake: Path) -> list[str]:
    return [line.partition(": ")[2] for line in (fake / "calls").read_text().splitlines()]


@pytest.mark.parametrize("target", COMPARISONS)
@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_comparison_exits_as_its_command_does(fake, target, status):
    done = make(target, folder=fake, PYTHON="./python3", EXITS=str(status))
    assert done.returncode == status
    assert done.stdout == "ran\n"
    assert ("***" in done.stderr) == (status == 2)
    assert [call.split()[:3] for call in calls(fake)] == [
        ["environment/set_up.py", "all"],
        ["-m", "datasets.drawn_faces", "--output"],
        ["-m", "parity", "run" if target == "parity" else target]]


@pytest.mark.parametrize("flags", [["-s"], ["-k"], ["-j4"], ["--no-print-directory"], ["SEED=1"]])
def test_whatever_else_make_is_told(fake, flags):
    assert make(*flags, "parity", folder=fake, PYTHON="./python3", EXITS="0").returncode == 0
    assert make(*flags, "parity", folder=fake, PYTHON="./python3", EXITS="1").returncode == 1
    assert make(*flags, "parity", folder=fake, PYTHON="./python3", EXITS="2").returncode == 2


@pytest.mark.parametrize("failing", ["SETTING_UP", "DRAWING"])
@pytest.mark.parametrize("status", ["1", "2"])
def test_a_failure_before_the_comparison_is_no_difference(fake, failing, status):
    done = make("parity", folder=fake, PYTHON="./python3", **{failing: status})
    assert done.returncode == 2
    assert done.stdout == ""


def test_a_comparison_beside_another_goal_fails_as_make_fails(fake):
    assert make("setup", "parity", folder=fake, PYTHON="./python3", EXITS="0").returncode == 0
    assert make("setup", "parity", folder=fake, PYTHON="./python3", EXITS="1").returncode == 2


def test_a_comparison_leaves_no_file_behind(fake):
    (fake / "tmp").mkdir()
    make("parity", folder=fake, PYTHON="./python3", EXITS="1", TMPDIR=str(fake / "tmp"))
    assert list((fake / "tmp").iterdir()) == []


def test_a_dry_run_runs_nothing(fake):
    make("-n", "parity", folder=fake, PYTHON="./python3")
    assert not (fake / "calls").exists()


def test_horizon_passes_its_iterations_on(fake):
    make("horizon", "ITERATIONS=9", "SEED=3", folder=fake, PYTHON="./python3")
    assert " ".join(calls(fake)[-1].split()) == "-m parity horizon --iterations 9 --seed 3"


@pytest.mark.parametrize("target", ["horizon", "defects", "false-alarms"])
def test_a_comparison_passes_on_where_images_lie_and_results_go(fake, target):
    make(target, "MAP_FILE=my map.txt", "OUTPUT=out", folder=fake, PYTHON="./python3")
    assert calls(fake)[-1] == f"-m parity {target} --map-file my map.txt --output out"


@pytest.mark.parametrize("target", ["test", "twin", "twin-cntk", "bench", "docs", "lint"])
def test_a_failing_command_fails_the_target(fake, target):
    assert make(target, folder=fake, PYTHON="./python3", EXITS="1").returncode == 2
    assert make(target, folder=fake, PYTHON="./python3").returncode == 0


def test_the_callers_python_path_is_kept_out(fake):
    make("twin", "twin-cntk", folder=fake, PYTHON="./python3", PYTHONPATH="/of/the/caller")
    seen = {line.partition(": ")[0] for line in (fake / "calls").read_text().splitlines()}
    assert seen == {"no path", str(fake)}


def test_clean_leaves_environments_and_data_and_distclean_does_not(fake):
    for name in ("runs/twin", "build", ".pytest_cache", "data/faces", "parity/__pycache__",
                 ".venv-torch/lib/__pycache__"):
        (fake / name).mkdir(parents=True)
    assert make("clean", folder=fake).returncode == 0
    assert {path.name for path in fake.iterdir()} == {
        "Makefile", "python3", ".venv-cntk", ".venv-torch", "data", "parity"}
    assert list((fake / "parity").iterdir()) == []
    assert (fake / ".venv-torch" / "lib" / "__pycache__").exists()
    assert make("distclean", folder=fake).returncode == 0
    assert {path.name for path in fake.iterdir()} == {"Makefile", "python3", "parity"}


def test_ci_is_make_test_in_the_repository(tmp_path):
    program = tmp_path / "make"
    program.write_text('#!/bin/sh\necho "$PWD: make $*"\nexit 7\n')
    program.chmod(0o755)
    done = subprocess.run([ROOT / ".ci" / "run"], cwd=tmp_path, capture_output=True, text=True,
                          env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{ROOT}: make test\n", "")
