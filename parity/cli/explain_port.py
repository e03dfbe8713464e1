"""``parity explain-port``: which of a port's tensors is which of CNTK's arrays."""
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from parity.producers import recipes
from parity.producers.jobs import ROOT, ProducerError, explanation


def command(
    adapter: Annotated[Path, typer.Argument(help="the file that names the port's parts")],
    mapping: Annotated[Path | None, typer.Option(metavar="FILE", show_default="none", help=(
        "JSON: which tensor is which array, where that cannot be found out"))] = None,
    time_limit: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, max=1e6, help=(
        "that each call of the adapter's code may take"))] = recipes.Sources.time_limit,
) -> int:
    """In a process of its own: it is the user's code that runs."""
    named = [] if mapping is None else ["--mapping", str(mapping.resolve())]
    done = subprocess.run(
        [sys.executable, "-m", "torch_port.adapter", "--adapter", str(adapter.resolve()), *named,
         "--explain", "--time-limit", str(time_limit)], cwd=ROOT, check=False, text=True,
        errors="replace", stdout=subprocess.PIPE)
    if done.returncode < 0 or not (done.returncode or done.stdout):  # their code ended it
        raise ProducerError(f"{adapter}: {explanation('port', done.returncode, ())}")
    sys.stdout.write(done.stdout)
    return done.returncode
