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
import time
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np

from captures.files import AnyPath, json_text, write_text, written_whole

BITS, STEP, FREE = "bits", "step", "free"
LEADER, FOLLOWER = "leader", "follower"
KEPT = 2
PAUSE = 0.02  # seconds between two looks

Arrays = Mapping[str, np.ndarray]


class Lockstep:
    """What both sides share: the folder's files. ``folder`` None: nobody is beside."""

    def __init__(self, folder: Optional[AnyPath]) -> None:
        self.alone = folder is None
        self.folder = Path(str(folder or ""))
        if not self.alone:
            self.folder.mkdir(parents=True, exist_ok=True)

    def state(self, iteration: int) -> Path:
        return self.folder / ("state-%04d.npz" % iteration)

    def wait(self, ready: Callable[[], bool], other: str) -> bool:
        """Until ``ready()``; False where the other process ended without it."""
        while not ready():
            if (self.folder / other).exists():
                return ready()
            time.sleep(PAUSE)
        return True


class Leader(Lockstep):
    """The reference's side."""

    def __init__(self, folder: Optional[AnyPath]) -> None:
        super().__init__(folder)
        self.mode = FREE if self.alone else BITS

    def done(self, iteration: int, hashes: Mapping[str, Any], arrays: Arrays) -> None:
        """Behind each iteration. hashes: name to hash; arrays: name to array, the whole state."""
        if self.alone:
            return
        if iteration == 1:
            write_text(self.folder / "first.json", json_text(dict(hashes)), durable=False)
            answer = self.folder / "mode"
            if self.wait(answer.exists, FOLLOWER):
                self.mode = answer.read_text().strip()
        if self.mode == STEP and self.wait(self._room, FOLLOWER):
            with written_whole(self.state(iteration), durable=False) as part, \
                    part.open("wb") as file:
                np.savez(file, **{name.replace("/", "|"): array  # type: ignore[arg-type]
                                  for name, array in arrays.items()})

    def _room(self) -> bool:
        return sum(1 for path in self.folder.glob("state-*.npz")
                   if ".part" not in path.name) < KEPT


class Follower(Lockstep):
    """The port's side."""

    def first(self) -> Dict[str, Any]:
        """The leader's hashes behind iteration 1; nothing where there is no leader."""
        path = self.folder / "first.json"
        if self.alone or not self.wait(path.exists, LEADER):
            return {}
        made: Dict[str, Any] = json.loads(path.read_text())
        return made

    def answer(self, mode: str) -> None:
        write_text(self.folder / "mode", mode, durable=False)

    def behind(self, iteration: int) -> Optional[Dict[str, np.ndarray]]:
        """The leader's state behind an iteration; None where it ended before. Taken, it is removed.
        """
        path = self.state(iteration)
        if not self.wait(path.exists, LEADER):
            return None
        with np.load(str(path), allow_pickle=False) as arrays:
            made = {name.replace("|", "/"): arrays[name] for name in arrays.files}
        path.unlink()
        return made
