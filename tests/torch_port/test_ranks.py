"""One minibatch over several processes has the bits of one process: weights, statistics, Adam."""
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from captures.training.checkpoint import read_newest
from tests.conftest import ROOT

N = 4


@pytest.fixture(scope="module")
def map_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.RandomState(0)
    for i in range(5):
        coarse = random.randint(0, 256, (6, 5, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.bmp"), cv2.resize(coarse, (70, 90)))
    (folder / "map.txt").write_text("".join(f".../{i}.bmp\t0\n" for i in range(5)))
    return folder / "map.txt"


def train(processes, map_file, folder, *options):
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.run(
        [sys.executable, *(start if processes > 1 else []), "-m", "torch_port.train", "--threads",
         "1", "--minibatch-size", str(N), "--map-file", map_file, "--output-dir", folder,
         "--sample-interval", "1000", *options], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)


@pytest.fixture(scope="module")
def alone(map_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    done = train(1, map_file, folder, "--iterations", "2")
    assert done.returncode == 0, done.stderr
    yield folder
    shutil.rmtree(folder)


def apart(one, other):
    one, other = read_newest(one), read_newest(other)
    assert one.iteration == other.iteration and one.rows == other.rows
    return [name for name in one.arrays
            if one.arrays[name].tobytes() != other.arrays[name].tobytes()]


def test_two_then_four_processes_are_one(alone, map_file, tmp_path):
    """The first iteration by two, the second, from its checkpoint, by four."""
    folder = tmp_path / "run"
    done = train(2, map_file, folder, "--iterations", "1")
    assert done.returncode == 0, done.stderr
    assert read_newest(folder).iteration == 1
    done = train(4, map_file, folder, "--iterations", "2", "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("checkpoints, models, images") == 1  # one process speaks
    assert apart(folder, alone) == []
    assert (folder / "dcgan.csv").read_bytes() == (alone / "dcgan.csv").read_bytes()
    shutil.rmtree(folder)


def test_a_minibatch_that_cannot_be_divided(map_file, tmp_path):
    done = train(3, map_file, tmp_path / "run")
    assert done.returncode != 0
    assert "error: a minibatch of 4 is not to be divided among 3 processes" in done.stderr
    assert not (tmp_path / "run").exists()


LEFT_ALONE = """
import os, sys, torch, torch.distributed as dist
from captures.errors import TrainingError
from torch_port import ranks
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], world_size=2,
                        rank=int(sys.argv[2]))
ranks.told(1)
if ranks.rank():
    os._exit(9)
for exchange in (lambda: ranks.told(1), lambda: ranks.whole(torch.ones(2)),
                 lambda: ranks.Shared.apply(torch.ones(2, 2, requires_grad=True)).sum().backward()):
    try:
        exchange()
    except TrainingError as error:
        print(error)
"""


def test_what_a_rank_says_when_another_dies(tmp_path):
    one, other = [subprocess.Popen(
        [sys.executable, "-c", LEFT_ALONE, tmp_path / "store", str(rank)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE) for rank in (0, 1)]
    said, err = one.communicate(timeout=100)
    other.communicate(timeout=100)
    assert said.count("another of the 2 processes of this training has ended, so process 0 ends "
                      "too") == 3, said + err
    assert "--resume" in said and "gloo" not in said
