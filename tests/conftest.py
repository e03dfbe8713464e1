"""What every test may use: real CNTK in its own process, and the paths."""
import os
import subprocess
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from captures.process import pinned
from environment import find_python, set_up

ROOT = Path(__file__).resolve().parent.parent
NEEDS_CNTK = "needs real CNTK, and this machine has no Python 3.6 for it"
NEEDS_TRITON = "needs Triton, which this environment has not"
MISSING = {
    NEEDS_CNTK: ("real CNTK", "This machine has no Python 3.6 for it (CNTK_PYTHON=none, or none "
                 "was found)."),
    NEEDS_TRITON: ("Triton", "The GPU's kernels were not interpreted: .venv-torch/bin/python -m "
                   "pip install -r requirements-triton.txt (0.3 GB), then again."),
}

EVERY_MISTAKE = "--every-mistake"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(EVERY_MISTAKE, action="store_true", help=(
        "tests/test_example_mistakes.py: all mistakes in the first example, not some"))


@cache
def without_python36() -> bool:
    """Whether this machine can have no CNTK: CNTK_PYTHON=none, or no Python 3.6 is found."""
    said: list[str] = []
    return set_up.KINDS["cntk"] not in set_up.possible(write=said.append)


def cntk_environment_or_fail() -> Path:
    """The interpreter of CNTK's environment.

    Where there is a Python 3.6, its absence is a failure. Where there is none the test is not run,
    which the last lines of the run say.
    """
    python = find_python.installed_cntk(os.fspath(ROOT))
    if python is not None:
        return Path(python)
    if without_python36():
        pytest.skip(NEEDS_CNTK)
    pytest.fail(
        "real CNTK is not set up: run `make setup` (it needs a Python 3.6; it says how to get "
        "one). Tests against CNTK do not pass without CNTK.", pytrace=False)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Says last, and loudly, which tests were not run for want of CNTK or Triton."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    skipped = terminal.stats.get("skipped", ()) if terminal else ()
    for reason, (what, why) in MISSING.items():
        files = Counter(report.nodeid.partition("::")[0] for report in skipped
                        if reason in str(report.longrepr))
        if files:
            terminal.section(f"NOT RUN: {files.total()} tests need {what}", sep="!", yellow=True,
                             bold=True)
            terminal.line(why, yellow=True)
            for name, count in sorted(files.items()):
                terminal.line(f"{count:5} of {name}", yellow=True)


class CNTK:
    """Runs the probe programs of tests/cntk_probes under real CNTK 2.7.

    A probe is a small Python 3.6 program called as ``probe.py OUTPUT.npz [arguments]`` that writes
    what CNTK did as named arrays. Answers are kept for the session: tests share one run.
    """

    @staticmethod
    @cache
    def run(probe: str, *arguments: str) -> dict[str, np.ndarray]:
        python = cntk_environment_or_fail()
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "output.npz"
            done = subprocess.run(
                [python, "-m", "tests.cntk_probes." + probe.removesuffix(".py"), output,
                 *arguments],
                capture_output=True, text=True, timeout=600, check=False, cwd=ROOT,
                env=pinned(os.environ),
            )
            if done.returncode:
                pytest.fail(f"{probe} {' '.join(arguments)} exited {done.returncode}:\n"
                            f"{done.stdout}\n{done.stderr}", pytrace=False)
            with np.load(output, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="session")
def cntk() -> type[CNTK]:
    cntk_environment_or_fail()
    return CNTK
