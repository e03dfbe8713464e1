"""What every test may use: real CNTK in its own process, and the paths."""
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from captures.process import pinned

ROOT = Path(__file__).resolve().parent.parent
CNTK_PYTHON = ROOT / ".venv-cntk" / "bin" / "python"


def cntk_environment_or_fail() -> Path:
    """The interpreter of CNTK's environment. Its absence is a failure, never a skip."""
    if not CNTK_PYTHON.exists():
        pytest.fail(
            "real CNTK is not set up: run `make setup` (it needs a Python 3.6; it says how to get "
            "one). Tests against CNTK do not pass without CNTK.",
            pytrace=False,
        )
    return CNTK_PYTHON


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
