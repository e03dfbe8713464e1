"""Runs the port for a plan, beside a reference capture, and writes what it did as a capture.

    python -m torch_port.capture --plan PLAN.json --reference CNTK_CAPTURE --output FOLDER
                                 [--job layers|twin] [--dtype float32|float64]

float64 is the oracle: the same code in double precision from the same float32 inputs.

What the port does from the seed alone (initial weights, reader, twin run) it does without looking
at the reference. Layers, gradients and steps begin at the reference's state, which comes in from
CNTK's model files, and take the reference's images, so that a difference there is not inherited
from somewhere else. Each layer is run twice:

* in the chain: on what the port's own layer before it gave;
* on its own (``local/...``): on the reference's tensor, so what differs was born in this layer. The
  same backwards: the reference's gradient of the layer's output goes in.
"""
import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from captures.errors import CaptureError, PlanError
from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from captures.process import progress
from captures.system import keep_memory
from torch_port.capture.layers import Layers, first_line
from torch_port.capture.program import program_part
from torch_port.capture.recorder import Note
from torch_port.capture.seed import seed_part
from torch_port.capture.twin import twin_job
from torch_port.native import CompilerError
from torch_port.rounding import as_cntk_rounds

PARTS = {
    "seed": "initial weights, reader, optimizer and pointwise functions",
    "evaluation": "every layer in evaluation mode",
    "training": "every layer in training mode, and the discriminator's gradients",
    "g_step": "the generator's gradients",
    "steps": "one step of the discriminator, one of the generator",
    "program": "the training program, and once more with a stop on the way",
}


def layers_job(writer: CaptureWriter, plan: Plan, reference: Capture, dtype: torch.dtype,
               note: Note, parts: Sequence[str], pictures: bool = False,
               trained: Path | None = None) -> None:
    who = "port" if dtype == torch.float32 else "oracle"
    layers = Layers(reference, plan, dtype, writer, pictures, trained)
    work: dict[str, Callable[[], None]] = {
        "seed": lambda: seed_part(writer, plan), "evaluation": layers.evaluation,
        "training": layers.training_d, "g_step": layers.training_g, "steps": layers.steps,
        "program": lambda: program_part(writer, plan)}
    stopped = ""
    for i, part in enumerate(parts):
        if part in ("seed", "program") and dtype != torch.float32:
            continue  # integers, hashes and files: nothing to be had in double
        note(f"{who}: {PARTS[part]}", i, len(parts))
        try:
            work[part]()
        except CaptureError:
            raise
        except Exception as error:  # what a wrong port raises: what it had is judged all the same
            if dtype != torch.float32:
                raise  # the oracle is this project's own
            stopped = stopped or f"{part}: {first_line(error)}"
            writer.fact("stopped", stopped)
        writer.keep()  # what there is, should the process be killed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m torch_port.capture",
                                     description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", required=True, help="what to run, as `parity` wrote it")
    parser.add_argument("--reference", help="CNTK's capture of the same plan; for --job layers")
    parser.add_argument("--output", required=True, help="folder of the capture; replaced")
    parser.add_argument("--job", choices=("layers", "twin"), default="layers")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--parts", default=",".join(PARTS), help="of --job layers")
    parser.add_argument("--pictures", action="store_true", help="for the score, of every source")
    parser.add_argument("--trained", type=Path, help="an .npz of a trained generator's arrays, "
                        "whose pictures are made too")
    parser.add_argument("--beside", help="of --job twin: the folder in which the reference's run "
                                         "meets this one")
    options = parser.parse_args(arguments)
    started = time.time()
    keep_memory()

    try:
        plan = Plan.load(options.plan)
        torch.set_num_threads(plan.threads)
        if not plan.onednn:
            as_cntk_rounds(plan.cntk_threads)
        producer = {"float32": "port", "float64": "oracle"}[options.dtype]
        with CaptureWriter(options.output, producer, plan,
                           {"torch": torch.__version__, "numpy": np.__version__},
                           plan.threads, options.job) as writer:
            if options.job == "twin":
                twin_job(writer, plan, progress, options.beside)
            else:
                reference = Capture(options.reference)
                writer.fact("parts", options.parts.split(","))
                layers_job(writer, plan, reference, getattr(torch, options.dtype), progress,
                           options.parts.split(","), options.pictures, options.trained)
            writer.fact("seconds", time.time() - started)
    except (PlanError, CaptureError, ValueError, CompilerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or options.output} cannot be written "
              f"({error.strerror or error}): free space there or choose another folder",
              file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
