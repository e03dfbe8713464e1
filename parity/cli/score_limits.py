"""``parity score-limits MODEL``: how small a change of a layer the stage score would have seen."""
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from captures.files import written_whole
from captures.output import replacing
from parity.cli.options import RUNS, Quiet, Threads, console_of, counting, for_output, text
from parity.producers.jobs import ROOT
from parity.stages.score import allowed, turned
from scores.classifiers import registry
from scores.generators import captured_arrays, latents_of, model_of
from scores.limits import limits
from scores.paired import STEPS

FILE = "score-limits.json"


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=(
        "a CNTK .model, the folder of a training run, or an .npz of `torch_port.fitted`"))],
    count: Annotated[int, typer.Option(min=2, help="pictures that are compared")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=2 ** 32 - 1, help="of the latents")] = 0,
    threads: Threads = 2,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help=(
        f"where {FILE} goes"))] = RUNS / "score-limits",
    quiet: Quiet = False,
) -> int:
    for_output(output, (FILE,))  # before the work
    arrays = captured_arrays(model)
    classifier = registry.load(cache=ROOT / "build" / "classifier", threads=threads)
    console = console_of(quiet)
    with counting(console, "layers", sum(name.endswith("/weight") for name in arrays)) as told:
        found = limits(arrays, model_of, latents_of(count, seed), classifier,
                       lambda link, links: allowed(link, turned(links)), told)
    with replacing(output, (FILE,)), written_whole(output / FILE) as part:
        part.write_text(json.dumps([vars(one) for one in found], indent=1) + "\n")
    steps = [step for step in STEPS if any(step in one.smallest for one in found)]
    table = Table("layer", *steps, title=text(
        f"{model}: one filter times 1 + size, smallest seen", "table.title"))
    for one in found:
        table.add_row(text(one.layer), *(f"{one.smallest[step]:g}" if step in one.smallest else ""
                                   for step in steps))
    console.print(table)
    return 0
