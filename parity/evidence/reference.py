"""What every mistake is held against, made once: CNTK's captures, the oracle's, CNTK's training.

A port without CNTK's bits is given CNTK's state before each iteration of the training. CNTK trains
once; its states are kept, 5 MB each for narrow networks, and played back to every port.
"""
import os
import shutil
import threading
from pathlib import Path

from rich.console import Console

from captures.files import read_json, write_text
from captures.format import MANIFEST
from captures.lockstep import LEADER, STEP, Follower
from captures.map_file import read_map_file, write_map_file
from captures.plan import Plan
from parity.evidence.keys import reference_key
from parity.producers import jobs, recipes
from parity.producers.for_score import NOTHING, ForScore

IMAGES = 160  # more than CNTK's second shuffle looks at; every process reads all of them
KEPT, MEETING = "twin-states", "twin-meeting"


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
    key, note = reference_key(plan), folder / "key.txt"
    if note.exists() and note.read_text() == key:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    work = [recipes.cntk_job(plan, folder, for_score=for_score), recipes.oracle_job(plan, folder),
            recipes.runtime_job(plan, folder, "cntk", ("cntk",))]
    keeper: threading.Thread | None = None
    if plan.twin_iterations:
        meeting = folder / MEETING
        work.append(recipes.cntk_job(plan, folder, "twin-cntk", "twin", beside=meeting))
        keeper = threading.Thread(target=_keep, args=(folder, plan.twin_iterations), daemon=True)
    folder.mkdir(parents=True)
    if keeper:
        keeper.start()
    jobs.run_jobs(work, plan, folder, console)
    if keeper:
        keeper.join()
    write_text(note, key)
    return folder


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
