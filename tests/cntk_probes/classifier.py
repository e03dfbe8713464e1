"""A classifier's ONNX file in CNTK: what goes in, and the logits.

    classifier.py OUTPUT.npz PICTURES.npy ARGUMENTS.json

The arguments are those of ``cntk_impl.capture.pictures.Classifier``.
"""
import json
import sys

import numpy as np

from environment.quiet import select_device

select_device()
from cntk_impl.capture.pictures import Classifier  # noqa: E402


def main(output, pictures, arguments):
    with open(arguments, encoding="utf-8") as file:
        prepared, logits = Classifier(**json.load(file))(np.load(pictures))
    np.savez(output, prepared=prepared, logits=logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
