"""The figures of ``benchmarks/initial_weights``, printed."""
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.figures import written
from benchmarks.initial_weights import WEIGHTS, measure


def main(json: Annotated[Path | None, typer.Option(
             metavar="PATH", show_default="not written", help="write the figures here")] = None,
         repeats: Annotated[int, typer.Option(min=1, help="of which the best counts")] = 5
         ) -> None:
    """Initial weights per second: the port, numpy's standard_normal and real CNTK."""
    result = measure(repeats)
    print(f"initial weights: {WEIGHTS:,} of both networks, best of {repeats}")
    for name, rate in result["weights_per_second"].items():
        print(f"  {name:34} {result['seconds'][name]:7.3f} s {rate / 1e6:8.1f} million/s   "
              f"port is {result['port_over'][name]:.2f} times as fast")
    if "CNTK" not in result["seconds"]:
        print("  CNTK is not set up here, so it was not timed: run `make setup`")
    written(result, json)


if __name__ == "__main__":
    typer.run(main)
