"""Two training runs side by side, in processes of their own, that meet in a folder. Python 3.6.

A port that has the reference's bits needs no more than the reference's hashes. One that has not is
given the reference's state before each iteration, so that no chaos grows and every iteration is
compared by itself. Which of the two it is, the follower knows after the first iteration; until then
the leader waits for it. In step the leader keeps at most two states on disk, whatever the length.

    first.json        the leader's hashes behind iteration 1
    mode              the follower's answer, "bits" or "step"
    state-0007.npz    the leader's state behind iteration 7, removed when the follower has used it
    leader, follower  made when that process has ended, by who started it: nobody waits for the dead
"""
import json
import os
import time

import numpy as np

BITS, STEP, FREE = "bits", "step", "free"
LEADER, FOLLOWER = "leader", "follower"
KEPT = 2
PAUSE = 0.02  # seconds between two looks


class Lockstep(object):
    """What both sides share: the folder's files. ``folder`` None: nobody is beside."""

    def __init__(self, folder):
        self.folder = folder and str(folder)
        if self.folder and not os.path.isdir(self.folder):
            os.makedirs(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def state(self, iteration):
        return self.path("state-%04d.npz" % iteration)

    def wait(self, ready, other):
        """Until ``ready()``; False where the other process ended without it."""
        while not ready():
            if os.path.exists(self.path(other)):
                return bool(ready())
            time.sleep(PAUSE)
        return True


class Leader(Lockstep):
    """The reference's side."""

    def __init__(self, folder):
        super(Leader, self).__init__(folder)
        self.mode = BITS if self.folder else FREE

    def done(self, iteration, hashes, arrays):
        """Behind each iteration. hashes: name to hash; arrays: name to array, the whole state."""
        if not self.folder:
            return
        if iteration == 1:
            written(self.path("first.json"), lambda path: dump(hashes, path))
            if self.wait(lambda: os.path.exists(self.path("mode")), FOLLOWER):
                with open(self.path("mode")) as file:
                    self.mode = file.read().strip()
        if self.mode != STEP:
            return
        alive = self.wait(lambda: sum(name.startswith("state-") and name.endswith(".npz") for name
                                      in os.listdir(self.folder)) < KEPT, FOLLOWER)
        if alive:
            written(self.state(iteration), lambda path: save(arrays, path))


class Follower(Lockstep):
    """The port's side."""

    def first(self):
        """The leader's hashes behind iteration 1; nothing where there is no leader."""
        if not self.folder or not self.wait(
                lambda: os.path.exists(self.path("first.json")), LEADER):
            return {}
        with open(self.path("first.json")) as file:
            return json.load(file)

    def answer(self, mode):
        written(self.path("mode"), lambda path: write(mode, path))

    def behind(self, iteration):
        """The leader's state behind an iteration; None where it ended before. The one before it is
        removed."""
        path = self.state(iteration)
        if not self.wait(lambda: os.path.exists(path), LEADER):
            return None
        with np.load(path, allow_pickle=False) as arrays:
            made = {name.replace("|", "/"): arrays[name] for name in arrays.files}
        os.unlink(path)
        return made


def written(path, write_to):
    """Under a temporary name, then renamed: the other side never sees half a file."""
    write_to(path + ".part")
    os.rename(path + ".part", path)


def dump(value, path):
    with open(path, "w") as file:
        json.dump(value, file)


def write(text, path):
    with open(path, "w") as file:
        file.write(text)


def save(arrays, path):
    with open(path, "wb") as file:
        np.savez(file, **{name.replace("/", "|"): array for name, array in arrays.items()})
