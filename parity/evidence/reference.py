"""What every mistake is held against, made once: CNTK's captures, the oracle's, CNTK's training.

A port without CNTK's bits is given CNTK's state before each iteration of the training. CNTK trains
once; its states are kept, 5 MB each for narrow networks, and played back to every port.
"""
import os
import shutil
import threading
from pathlib import Path

from rich.console import Console

from captures.certificate import recorded
from captures.files import read_json, write_text
from captures.format import MANIFEST, Capture
from captures.lockstep import LEADER, STEP, Follower
from captures.map_file import read_map_file, write_map_file
from captures.plan import Plan
from parity.evidence.keys import reference_key
from parity.producers import jobs, recipes
from parity.producers.for_score import NOTHING, ForScore
from parity.producers.jobs import Job

IMAGES = 160  # more than CNTK's second shuffle looks at; every process reads all of them
KEPT, MEETING = "twin-states", "twin-meeting"
NOTE = "key.txt"  # what the captures were made from


def some_images(map_file: Path, folder: Path) -> Path:
    """A map file of the first images of another."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "images.txt"
    write_map_file(made, read_map_file(map_file)[:IMAGES], map_file.absolute().parent)
    return made


def make_reference(plan: Plan, folder: Path, console: Console,
                   for_score: ForScore = NOTHING) -> Path:
    """The captures of CNTK, of onnxruntime on its exports and of the oracle, and CNTK's training
    where the plan has one; made where they are not there yet. for_score: what CNTK's capture holds
    for the score besides its images. Raises ProducerError."""
    key, note = reference_key(plan), folder / NOTE
    if note.exists() and note.read_text() == key:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _made(plan, folder, console, recipes.cntk_job(plan, folder, for_score=for_score),
          recipes.cntk_job(plan, folder, "twin-cntk", "twin", beside=folder / MEETING))
    write_text(note, key)
    return folder


def stand_in_reference(plan: Plan, real: Path, folder: Path, console: Console) -> Path:
    """The same without CNTK: certificates are recorded of ``real``, which CNTK made, and this
    project's port stands in for CNTK, as where there is no Python 3.6; made where they are not
    there yet. Raises ProducerError."""
    key, note = reference_key(plan), folder / NOTE
    if note.exists() and note.read_text() == key:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    paths = {}
    for name, job in (("cntk", "layers"), ("twin-cntk", "twin")):
        capture = Capture(real / name)
        files = {one: str(capture.attachment(one)) for one in capture.attached}
        paths[job] = folder / f"{name}.certificate"
        paths[job].write_bytes(recorded(
            capture, files, capture.manifest["plan"], capture.plan_hash,
            {"producer": "cntk"}, {fact: value for fact, value in capture.facts.items()
                                   if fact != "seconds"}))
    _made(plan, folder, console, recipes.stand_in_job(plan, folder, paths["layers"]),
          recipes.stand_in_job(plan, folder, paths["twin"], "twin-cntk", "twin", folder / MEETING))
    write_text(note, key)
    return folder


def _made(plan: Plan, folder: Path, console: Console, layers: Job, training: Job) -> None:
    """CNTK's captures by these jobs, and what is made of them."""
    work = [layers, recipes.oracle_job(plan, folder),
            recipes.runtime_job(plan, folder, "cntk", ("cntk",))]
    if not plan.twin_iterations:
        jobs.run_jobs(work, plan, folder, console)
        return
    keeper = threading.Thread(target=_keep, args=(folder, plan.twin_iterations), daemon=True)
    keeper.start()
    jobs.run_jobs([*work, training], plan, folder, console)
    keeper.join()


def _keep(folder: Path, iterations: int) -> None:
    """In the port's place beside CNTK's training: takes every state."""
    kept = folder / KEPT
    kept.mkdir()
    follower = Follower(folder / MEETING)
    if not follower.first():
        return
    shutil.copyfile(follower.folder / "first.json", kept / "first.json")
    follower.answer(STEP)
    for i in range(1, iterations + 1):
        path = follower.state(i)
        if not follower.wait(path.exists, LEADER):
            return
        os.link(path, kept / path.name)
        path.unlink()


def replayed(reference: Path, folder: Path) -> Path:
    """A meeting place in which CNTK's training is over and all its states lie: links, which the
    port removes."""
    folder.mkdir(parents=True)
    for path in (reference / KEPT).iterdir():
        os.link(path, folder / path.name)
    (folder / LEADER).touch()
    return folder


def trained(reference: Path) -> bool:
    """Whether CNTK's training is there."""
    return (reference / "twin-cntk" / MANIFEST).exists() and bool(
        read_json(reference / "twin-cntk" / MANIFEST)["plan"]["twin_iterations"])
