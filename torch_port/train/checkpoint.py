"""TODO."""
import csv
import errno
from pathlib import Path
from typing import Any

import torch

from captures.errors import TrainingError
from captures.files import written_whole
from torch_port.train.run import Run

CHECKPOINT, LOG = "checkpoint.pt", "dcgan.csv"


def save(run: Run, folder: Path) -> None:
    """The checkpoint and the log."""
    with written_whole(folder / CHECKPOINT) as part:
        try:
            torch.save(run.state_dict(), part)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            raise OSError(errno.EIO, "not all of it was taken: the disk is full", str(part)
                          ) from error
    with written_whole(folder / LOG) as part, part.open("w", newline="") as file:
        log = csv.writer(file, lineterminator="\n")
        log.writerow(["step", "G_loss", "D_loss"])
        log.writerows(run.rows)


def load_checkpoint(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise TrainingError(f"checkpoint {path} cannot be read ({error.strerror}): begin without "
                            "--resume") from error
    except Exception as error:  # torch.load has no class that all its errors share
        raise TrainingError(f"{path} is not a checkpoint of this program: begin without --resume"
                            ) from error
    if not isinstance(state, dict):
        raise TrainingError(f"{path} is not a checkpoint of this program: begin without --resume")
    return state
