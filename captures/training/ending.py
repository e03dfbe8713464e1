"""How a training ends: one line on stderr, and the exit code. Plain Python 3.6."""
from pathlib import Path
from typing import Callable

from captures.errors import TrainingError
from captures.process import ended
from captures.training.checkpoint import found
from captures.training.log import LOG
from captures.training.signals import Stopped


def run(train: Callable[[], None], folder: Path, say: Callable[[str], None]) -> int:
    """Calls ``train`` and says how it ended. Returns 0; 2 for what the user can mend; 129, 130 and
    143 for SIGHUP, SIGINT and SIGTERM."""
    def whole() -> int:
        try:
            train()
        except Stopped as stopped:
            kept = found(folder)
            say("stopped by %s%s" % (stopped.name, "" if not kept else (
                ": what was done is in %s; go on with --resume" % kept[0])))
            return stopped.status
        except RuntimeError as error:  # the framework's own: CNTK's carry a call stack
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise TrainingError("the training stopped: %s. Go on from the last checkpoint with "
                                "--resume" % (lines[0].rstrip(".") if lines else
                                              type(error).__name__))
        say("checkpoints, models, images and %s are in %s" % (LOG, folder))
        return 0
    return int(ended(whole, folder, "--output-dir"))
