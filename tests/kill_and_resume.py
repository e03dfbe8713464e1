"""Kill -9 at random moments of a run, resumed each time: is the end that of a run never killed?

    .venv-torch/bin/python -m tests.kill_and_resume port [KILLS] [ITERATIONS] [FOLDER]
    .venv-torch/bin/python -m tests.kill_and_resume cntk [KILLS] [ITERATIONS] [FOLDER]

The full networks at minibatch 2, a checkpoint every second iteration. Exits 0 where every bit of
weights, statistics, Adam's state, latents and log is the same, 1 where not.
"""
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from captures.training.checkpoint import found, read_newest
from tests.conftest import ROOT

PROGRAMS = {
    "port": [".venv-torch/bin/python", "-P", "-m", "torch_port.train", "--threads", "1"],
    "cntk": [".venv-cntk/bin/python", "-m", "environment.processors", "2", "-I", "-m",
             "cntk_impl.dcgan_training"],
}


def start(program: str, folder: Path, iterations: int, resume: bool) -> subprocess.Popen:
    given = ["--iterations", iterations, "--minibatch-size", 2, "--output-dir", folder,
             "--checkpoint-iterations", 2, "--sample-interval", 1000, "--image-interval", 3]
    command = [*PROGRAMS[program], *map(str, given), *(["--resume"] if resume else [])]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def apart(one: Path, other: Path) -> list[str]:
    """What differs at the end of two runs."""
    ours, theirs = read_newest(one), read_newest(other)
    names = [name for name in {**ours.arrays, **theirs.arrays}
             if name not in ours.arrays or name not in theirs.arrays
             or ours.arrays[name].tobytes() != theirs.arrays[name].tobytes()]
    return names + [what for what, same in (
        ("iteration", ours.iteration == theirs.iteration), ("latents", ours.latents
                                                            == theirs.latents),
        ("log", (one / "dcgan.csv").read_bytes() == (other / "dcgan.csv").read_bytes()))
        if not same]


def main(program: str, kills: int, iterations: int, home: Path) -> int:
    whole, killed, moments = home / "never-killed", home / "killed", random.Random(kills)
    begin = time.time()
    if start(program, whole, iterations, False).wait():
        return 2
    took = time.time() - begin
    left, differing = kills, []
    while not differing:
        # Killed before its record was there it was no run yet.
        process = start(program, killed, iterations, (killed / "run.json").exists())
        try:
            process.wait(moments.uniform(0, took) if left else None)
        except subprocess.TimeoutExpired:
            process.kill()
            left -= 1
        status = process.wait()
        at = found(killed)
        print(f"{kills - left} kills: exit {status}, newest {at[0].name if at else 'none'}",
              flush=True)
        if status not in (0, -9):
            return 2
        if status == 0:
            differing = apart(killed, whole)
            if not left:
                break
            shutil.rmtree(killed)  # it came to its end before the next kill: again
    print(f"{program}: {kills} kills, {iterations} iterations: {len(differing)} differ "
          f"{differing[:5]}")
    return 1 if differing else 0


if __name__ == "__main__":
    chosen, asked, length, home, *_ = [*sys.argv[1:], *("", "20", "8", "")[len(sys.argv[1:5]):]]
    if chosen not in PROGRAMS or not asked.isdigit() or not length.isdigit() or _:
        print(__doc__, file=sys.stdout if chosen == "--help" else sys.stderr)
        sys.exit(0 if chosen == "--help" else 2)
    sys.exit(main(chosen, int(asked), int(length),
                  Path(home or ROOT / "runs" / f"kills-{chosen}")))
