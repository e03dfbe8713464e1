"""What the score needs besides a plan: a generator that has learnt something, and a classifier.

A generator of a few iterations makes grey noise, whose score is nearly the lowest there is: nearly
any two of them would agree. So the port trains one, once, on the plan's own images, and its weights
go into both frameworks. It is kept in ``build/trained`` under a name that holds the images' hash.
"""
from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from captures.files import written_whole
from captures.plan import Plan
from parity.producers.jobs import ROOT, ProducerError
from scores.classifiers import registry
from scores.generators import captured_arrays

ITERATIONS, MINIBATCH = 200, 4  # 4 minutes on two idle cores; faces can be told from noise
TRAINED = ROOT / "build" / "trained"
CACHE = ROOT / "build" / "classifier"


@dataclass(frozen=True)
class ForScore:
    """trained: an .npz of a generator's arrays. classifier: a JSON file with what
    ``cntk_impl.capture.pictures.Classifier`` is to be made of. None: not for this run."""

    trained: Path | None = None
    classifier: Path | None = None


NOTHING = ForScore()


def prepare(plan: Plan, folder: Path, console: Console, trained: bool = True) -> ForScore:
    """Trains the generator if it is not there, and names the classifier to CNTK.

    Raises ProducerError: the training failed; what it did is kept, and the next try goes on.
    ScoreError: the classifier cannot be had.
    """
    classifier = registry.load(cache=CACHE)
    spec = classifier.spec
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "classifier.json"
    with written_whole(path) as part:
        part.write_text(json.dumps({
            "path": classifier.path, "side": spec.side, "kernel": spec.kernel,
            "middle": spec.middle, "scale": spec.scale, "classes": spec.classes}))
    return ForScore(trained_model(plan, console) if trained else None, path)


def trained_model(plan: Plan, console: Console, iterations: int = ITERATIONS,
                      minibatch: int = MINIBATCH, kept: Path = TRAINED) -> Path:
    """An .npz: ``generator/conv1/weight`` and so on. Trained now, if it is not there."""
    path = kept / f"trained-{plan.images_sha256[:12]}-{iterations}.npz"
    if path.is_file():
        return path
    folder = path.with_suffix("")
    command = [sys.executable, "-m", "torch_port.train", "--map-file", plan.map_file,
               "--iterations", str(iterations), "--minibatch-size", str(minibatch),
               "--seed", "0", "--output-dir", str(folder)]
    if (folder / "checkpoints").is_dir():
        command.append("--resume")
    elif folder.exists():  # a try that came to no checkpoint
        command.append("--overwrite")
    console.print(f"training a model for the score, once: {iterations} iterations, "
                  f"some minutes; kept in {path}", highlight=False)
    done = subprocess.run(command, cwd=ROOT, check=False, text=True, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE if console.quiet else None)
    if done.returncode:
        raise ProducerError(f"the model for the score could not be trained (exit "
                            f"{done.returncode}): run `make parity` again, which goes on from "
                            "where it stopped, or do without --trained")
    arrays = captured_arrays(folder)
    with written_whole(path) as part:
        np.savez(part, **arrays)
    return path
