"""What the score needs besides a plan: a generator that has learnt something, and a classifier.

A generator of a few iterations makes grey noise, whose score is nearly the lowest there is: nearly
any two of them would agree. So the port fits one to some of the plan's own images, once
(``torch_port.fitted`` says how, and why not by the article's training), and its weights go
into both frameworks. It is kept in ``build/trained`` under a name that holds the images' hash and
that of the program that fits.
"""
from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from captures.files import written_whole
from captures.machine import code_sha256
from captures.plan import Plan
from parity.producers.jobs import ROOT, ProducerError
from scores.classifiers import registry

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
    """Fits the generator if it is not there, and names the classifier to CNTK.

    Raises ProducerError: it could not be fitted. ScoreError: the classifier cannot be had.
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


def trained_model(plan: Plan, console: Console, kept: Path = TRAINED) -> Path:
    """An .npz: ``generator/conv1/weight`` and so on. Made now, if it is not there."""
    program = code_sha256(str(ROOT / "torch_port" / "fitted"))
    path = kept / f"fitted-{plan.images_sha256[:12]}-{program[:12]}.npz"
    if path.is_file():
        return path
    kept.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "torch_port.fitted", "--map-file", plan.map_file,
               "--output", str(path)]
    console.print(f"fitting a network to faces for the score, once, up to a minute; kept in {path}",
                  highlight=False)
    done = subprocess.run(command, cwd=ROOT, check=False, text=True, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE if console.quiet else None)
    if done.returncode:
        raise ProducerError(f"the network for the score could not be fitted (exit "
                            f"{done.returncode}): {(done.stderr or 'see above').strip()}; or do "
                            "without: --no-trained")
    return path
