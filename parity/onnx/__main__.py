"""Runs one side's exported graphs in onnxruntime for a plan, and writes every layer as a capture.

    python -m parity.onnx --plan PLAN.json --reference CNTK_CAPTURE --side cntk|port
                          --exported CAPTURE --output FOLDER

Where that side made no capture, there is nothing to run, and none is written here either.
"""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from captures.format import MANIFEST, Capture
from captures.plan import Plan
from captures.process import ended, progress
from parity.onnx.capture import write


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m parity.onnx",
                                     description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", required=True, help="what to run, as `parity` wrote it")
    parser.add_argument("--reference", required=True, help="CNTK's capture of the same plan")
    parser.add_argument("--side", required=True, choices=("cntk", "port"))
    parser.add_argument("--exported", required=True, help="that side's capture, with its graphs")
    parser.add_argument("--output", required=True, help="folder of the capture; replaced")
    options = parser.parse_args(arguments)

    def run() -> None:
        if (Path(options.exported) / MANIFEST).exists():
            write(options.output, Plan.load(options.plan), options.side, Capture(options.exported),
                  Capture(options.reference), progress)
    return int(ended(run, options.output))


if __name__ == "__main__":
    sys.exit(main())
