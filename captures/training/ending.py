"""How a training ends: one line on stderr, and the exit code. Plain Python 3.6."""
import errno
from pathlib import Path
from typing import Callable

from captures.errors import ParityError
from captures.training.checkpoint import found
from captures.training.folder import LOG
from captures.training.signals import Stopped

COULD_NOT_RUN = 2


def run(train: Callable[[], None], folder: Path, say: Callable[[str], None]) -> int:
    """Calls ``train`` and says how it ended: 0; 2 for what the user can mend; 128 + n for signal n.
    """
    try:
        train()
    except Stopped as stopped:
        kept = found(folder)
        say("stopped by %s%s" % (stopped.name, "" if not kept else (
            ": what was done is in %s; go on with --resume" % kept[0])))
        return stopped.status
    except ParityError as error:
        say("error: %s" % error)
        return COULD_NOT_RUN
    except OSError as error:
        mend = ("free space there, then go on with --resume"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "make that place writable, or choose another one with --output-dir")
        say("error: %s cannot be written (%s): %s" % (
            error.filename or folder, error.strerror or error, mend))
        return COULD_NOT_RUN
    except RuntimeError as error:  # the framework's own: CNTK's carry a call stack
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        say("error: the training stopped: %s. Go on from the last checkpoint with --resume"
            % (lines[0].rstrip(".") if lines else type(error).__name__))
        return COULD_NOT_RUN
    say("checkpoints, models, images and %s are in %s" % (LOG, folder))
    return 0
