"""Shows both sides' pictures to a classifier for a plan, and writes what it says as a capture.

    python -m scores.capture --plan PLAN.json --cntk CAPTURE --port CAPTURE --cache FOLDER
                             --output FOLDER

Where a side made no capture, there is nothing to compare, and none is written here either.
"""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from captures.format import MANIFEST, Capture
from captures.plan import Plan
from captures.process import ended, progress
from scores.capture.looks import write
from scores.classifiers import registry


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scores.capture",
                                     description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", required=True, help="what was run, as `parity` wrote it")
    parser.add_argument("--cntk", required=True, type=Path, help="CNTK's capture of it")
    parser.add_argument("--port", required=True, type=Path, help="the port's")
    parser.add_argument("--cache", required=True, type=Path, help="folder of the classifier's file")
    parser.add_argument("--output", required=True, help="folder of the capture; replaced")
    options = parser.parse_args(arguments)

    def run() -> None:
        sides = {"cntk": options.cntk, "port": options.port}
        if all((folder / MANIFEST).exists() for folder in sides.values()):
            plan = Plan.load(options.plan)
            write(options.output, plan, {who: Capture(folder) for who, folder in sides.items()},
                  registry.load(cache=options.cache, threads=plan.threads),
                  registry.load(runtime="torch", double=True, cache=options.cache), progress)
    return int(ended(run, options.output))


if __name__ == "__main__":
    sys.exit(main())
