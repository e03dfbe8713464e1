"""Compares convolutions of random small sizes with real CNTK's, bit for bit."""
import sys
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks.convolution_search import SAMPLES, Case, differing, probe
from benchmarks.probes import answers


def main(
        count: Annotated[int, typer.Option(min=1, help="how many")] = 300,
        seed: Annotated[int, typer.Option(min=0, help="of sizes")] = 0,
        threads: Annotated[list[int], typer.Option(
            min=1, help="of CNTK; may be given more than once")] = [1, 2, 4],  # noqa: B006
        ) -> None:
    """Compares convolutions of random small sizes with real CNTK's, bit for bit; exits 1 if any
    differs."""
    found: list[Case] = []
    for number in threads:
        theirs = answers("convolution_search", seed, count, number, *SAMPLES)["hashes"]
        for cases in tqdm(differing(theirs, seed, number), total=count, disable=None,
                          unit="convolution", desc=f"{number} threads"):
            found += cases
    sizes = probe().geometries(seed, count)
    for at, of_threads, samples, quantity in found[:20]:
        print(f"convolution {at}: {quantity} of {samples} samples, {of_threads} threads of CNTK: "
              f"other bits; {sizes[at]}")
    arrays = count * len(threads) * len(SAMPLES) * 3
    print(f"{len(found):,} of {arrays:,} arrays differ from CNTK's")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    typer.run(main)
