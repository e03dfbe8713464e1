"""Compares products of random shapes with CNTK's own MKL, bit for bit."""
import sys
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks.probes import answers
from benchmarks.product_search import differing

PASSES = ("forward", "gradient of x", "gradient of weight")


def main(
        shapes: Annotated[int, typer.Option(min=1, help="how many")] = 5000,
        largest: Annotated[int, typer.Option(min=1, help="rows, columns, length of a sum")] = 300,
        seed: Annotated[int, typer.Option(min=0, help="of shapes and values")] = 0) -> None:
    """Compares products of random shapes with CNTK's own MKL, bit for bit; exits 1 if any differs.
    """
    theirs = answers("products", seed, shapes, largest)
    found = list(differing(tqdm(theirs["shapes"], unit="product", disable=None), theirs["hashes"]))
    for number, (form, m, n, k, samples) in found[:20]:
        print(f"product {number}: {PASSES[form]} {m} x {n} x {k}, {samples} samples: other bits")
    print(f"{len(found)} of {shapes} products differ from CNTK's")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    typer.run(main)
