"""Runs the article's networks on real CNTK for a plan, and writes what they did as a capture.

    python -m cntk_impl.capture --plan PLAN.json --output FOLDER [--job layers|twin] [--nudge K]

layers   initial weights, reader, optimizer, pointwise functions; some iterations of the article's
         program; from that state every layer's output in both modes, every gradient, one D step and
         one G step with all the state that they move, both ONNX files, images for the score
twin     from the seed alone: the losses and minibatches of the twin run. ``--nudge K``, K from 1:
         from initial weights moved by one ULP each, up or down by a coin of seed K

How a gradient of a layer's OUTPUT is had. CNTK gives gradients of parameters and inputs only, so
every layer's output has an input variable added to it that is fed zeros. x + 0 is x, and the
gradient of that variable is the gradient of the output. The trainers' own networks are not touched.
Python 3.6.
"""
import argparse
import sys
import time
from typing import Optional, Sequence

import cntk as C
import numpy as np

from captures.errors import ParityError
from captures.format import CaptureWriter
from captures.plan import Plan
from captures.process import progress
from captures.system import keep_memory
from cntk_impl import dcgan_training as program
from cntk_impl.capture.layers import layers_job
from cntk_impl.capture.twin import twin_job
from environment.quiet import select_device


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", required=True, help="what to run, as `parity` wrote it")
    parser.add_argument("--output", required=True, help="folder of the capture; replaced")
    parser.add_argument("--job", choices=("layers", "twin"), default="layers")
    parser.add_argument("--nudge", type=int, default=0,
                        help="twin: move the initial weights by one ULP, by a coin of this seed")
    parser.add_argument("--trained", help="layers: an .npz of a trained generator's arrays, whose "
                        "pictures are made too")
    parser.add_argument("--classifier", help="layers: a JSON file that names an ONNX classifier, "
                        "which CNTK has look at the pictures")
    parser.add_argument("--pictures", action="store_true", help="layers: write every picture for "
                        "the score, also where no classifier looks at it")
    parser.add_argument("--beside", help="twin: the folder in which the port's run meets this one")
    options = parser.parse_args(arguments)
    started = time.time()
    keep_memory(every_block=True)
    select_device()

    try:
        plan = Plan.load(options.plan)
        versions = {"cntk": C.__version__, "numpy": np.__version__}
        with CaptureWriter(options.output, "cntk", plan, versions, plan.threads,
                           options.job) as writer:
            if options.job == "layers":
                layers_job(writer, plan, progress, options.trained, options.classifier,
                           options.pictures)
            else:
                twin_job(writer, plan, progress, options.nudge, options.beside)
            writer.fact("seconds", time.time() - started)
    except ParityError as error:
        sys.stderr.write("error: %s\n" % error)
        return 2
    except (OSError, IOError) as error:
        sys.stderr.write("error: %s cannot be written (%s): free space there or choose another "
                         "folder\n" % (error.filename or options.output, error.strerror or error))
        return 2
    except RuntimeError as error:
        sys.stderr.write("error: CNTK stopped: %s\n" % program.first_line(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
