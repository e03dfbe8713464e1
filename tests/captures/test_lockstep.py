"""Two runs that meet in a folder: by hashes, in step, and where the other has died."""
import threading

import numpy as np
import pytest

from captures.lockstep import BITS, FREE, KEPT, STEP, Follower, Leader

ITERATIONS = 6


def state(i):
    return {"a/b/weight": np.full((3, 2), i, np.float32), "a/learner/minibatches": np.array(i)}


def led(folder, most):
    leader = Leader(folder)
    for i in range(1, ITERATIONS + 1):
        leader.done(i, {"a/b/weight": "x"}, state(i))
        most.append(len(list(folder.glob("state-*.npz"))))
    (folder / "leader").touch()


@pytest.mark.parametrize("mode", [BITS, STEP])
def test_both_come_to_the_end_with_few_states_on_disk(tmp_path, mode):
    most: list[int] = []
    thread = threading.Thread(target=led, args=(tmp_path, most))
    thread.start()
    follower = Follower(tmp_path)
    assert follower.first() == {"a/b/weight": "x"}
    follower.answer(mode)
    if mode == STEP:
        for i in range(1, ITERATIONS + 1):
            got = follower.behind(i)
            assert got is not None and {name: array.tolist() for name, array in got.items()} == {
                name: array.tolist() for name, array in state(i).items()}
        assert follower.behind(ITERATIONS + 1) is None  # the leader has ended
    thread.join(20)
    assert not thread.is_alive() and max(most) <= (KEPT if mode == STEP else 0)
    assert not list(tmp_path.glob("state-*"))


def test_nobody_waits_for_the_dead(tmp_path):
    (tmp_path / "follower").touch()
    led(tmp_path, [])
    assert Follower(tmp_path / "other").alone is False
    (tmp_path / "other" / "leader").touch()
    assert Follower(tmp_path / "other").first() == {}


def test_alone():
    assert Leader(None).mode == FREE and Follower(None).first() == {}
