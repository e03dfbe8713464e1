"""``python -m torch_port.stand_in``: see job.py."""
from pathlib import Path
from typing import Annotated

import typer

from captures.process import ended
from captures.system import keep_memory
from torch_port.stand_in.job import make


def main(plan: Annotated[Path, typer.Option(help="what to run, as `parity` wrote it")],
         output: Annotated[Path, typer.Option(help="folder of the capture; replaced")],
         certificate: Annotated[Path | None, typer.Option(
             help="of this plan, for CNTK's own files")] = None,
         job: Annotated[str, typer.Option(help="layers, or twin")] = "layers",
         beside: Annotated[Path | None, typer.Option(
             help="of the twin run: the folder in which the judged port meets it")] = None
         ) -> None:
    """The reference's capture, by the port instead of CNTK."""
    keep_memory()
    raise typer.Exit(ended(lambda: make(plan, output, certificate, job, beside), str(output)))


if __name__ == "__main__":
    typer.run(main)
