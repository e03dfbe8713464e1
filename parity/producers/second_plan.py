"""The second plan of a run: small, and in every option another than the first."""
from pathlib import Path

from captures.map_file import read_map_file, write_map_file
from captures.narrow import narrow
from captures.plan import LARGEST_SEED, Plan

IMAGES = 160  # more than CNTK's second shuffle looks at; every process reads all of them
MINIBATCH = 3
ITERATIONS = 3


def second_plan(plan: Plan, folder: Path) -> Plan | None:
    """The images are the first's, at most 160 of them, from the last to the first, in a map file in
    ``folder``; None where there are too few for another minibatch. Raises PlanError."""
    lines = read_map_file(plan.map_file)
    size = MINIBATCH if plan.minibatch_size != MINIBATCH else MINIBATCH - 1
    if len(lines) < size:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    images = folder / "images.txt"
    write_map_file(images, lines[::-1][:IMAGES], Path(plan.map_file).absolute().parent)
    made = Plan.make(
        images, seed=(plan.seed + 7) % (LARGEST_SEED + 1), minibatch_size=size,
        unit_gain=1 - plan.unit_gain, warmup_iterations=2, score_images=2,
        twin_iterations=ITERATIONS, twin_minibatch_size=size, reruns=0, threads=plan.threads,
        cntk_threads=plan.cntk_threads, onednn=plan.onednn)
    return made.of(narrow(plan.spec))
