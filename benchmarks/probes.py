"""The programs of tests/cntk_probes: what they have that needs no CNTK, and what CNTK answers."""
import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

from captures.process import pinned

ROOT = Path(__file__).resolve().parents[1]


def loaded(name: str) -> ModuleType:
    """A probe's sizes and values."""
    path = ROOT / "tests" / "cntk_probes" / f"{name}.py"
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def answers(name: str, *arguments: int) -> dict[str, np.ndarray]:
    """What real CNTK says, in its own Python."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "answers.npz"
        subprocess.run([ROOT / ".venv-cntk" / "bin" / "python", "-m", f"tests.cntk_probes.{name}",
                        output, *map(str, arguments)], check=True, cwd=ROOT,
                       env=pinned(os.environ))
        with np.load(output) as arrays:
            return dict(arrays)
