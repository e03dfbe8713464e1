"""``parity explain-port``: which of a port's tensors is which of CNTK's arrays."""
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from parity.producers.jobs import ROOT


def command(
    adapter: Annotated[Path, typer.Argument(help="the file that names the port's parts")],
    mapping: Annotated[Path | None, typer.Option(metavar="FILE", show_default="none", help=(
        "JSON: which tensor is which array, where that cannot be found out"))] = None,
) -> int:
    """In a process of its own: it is the user's code that runs."""
    named = [] if mapping is None else ["--mapping", str(mapping.resolve())]
    return subprocess.run(
        [sys.executable, "-m", "torch_port.adapter", "--adapter", str(adapter.resolve()), *named,
         "--explain"], cwd=ROOT, check=False).returncode
