"""An environment of the tests' own for independent implementations, made once from PyPI.

torch-fidelity, pytorch-fid and torchmetrics are installed beside, not into, the project's packages
(``pip install --no-deps --target``), and are run by the project's own Python with that folder in
front, so that torch is the same. torchvision's wheel does not import beside the CPU build of torch:
its compiled operators do not load, and it registers fake kernels for two of them, nms and qnms.
The probe declares those two names first; then torchvision, and everything that needs it, imports.
None of what is compared uses them.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "build" / "score-references"
PACKAGES = ("torch-fidelity==0.4.0", "pytorch-fid==0.3.0", "torchmetrics==1.9.0",
            "lightning-utilities==0.15.3", "torchvision==0.28.0")


def environment() -> Path:
    """The folder. Skips, and says so, where PyPI cannot be reached; anything else that goes wrong
    is an error."""
    stamp = FOLDER / "complete"
    wanted = "\n".join(PACKAGES)
    if stamp.is_file() and stamp.read_text() == wanted:
        return FOLDER
    FOLDER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent, suffix=".part") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--retries", "1",
             "--disable-pip-version-check", "--target", folder, *PACKAGES],
            capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip("NOT RUN, against torch-fidelity, pytorch-fid and torchmetrics: "
                        f"pip could not install them ({done.stderr.strip().splitlines()[-1:]})")
        (Path(folder) / "complete").write_text(wanted)
        shutil.rmtree(FOLDER, ignore_errors=True)
        os.rename(folder, FOLDER)
        Path(folder).mkdir()  # for the context manager, which removes it
    return FOLDER


def run(given: dict[str, np.ndarray], folder: Path, *arguments: str) -> dict[str, np.ndarray]:
    """What independent_probe.py made of the arrays."""
    site = environment()
    np.savez(folder / "given.npz", **given)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("independent_probe.py"), folder / "given.npz",
         folder / "found.npz", *arguments],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "PYTHONPATH": str(site)})
    if done.returncode:
        pytest.fail(f"independent_probe.py exited {done.returncode}:\n{done.stderr}", pytrace=False)
    with np.load(folder / "found.npz", allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
