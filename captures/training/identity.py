"""What has to be the same for a run to go on, and what is said where not. Plain Python 3.6."""
from typing import Any, Dict, List, NamedTuple, Sequence

from captures.errors import TrainingError
from captures.training.checkpoint import Checkpoint
from captures.training.options import ACCEPTED

NAMES = {"threads": "cntk_threads"}  # CNTK's: the port's own change no bit


class Change(NamedTuple):
    what: str
    theirs: str
    ours: str


def shown(what: str, value: Any) -> str:
    if what == "data" and isinstance(value, dict):
        return "%s images with the hash %s" % (value.get("images"),
                                               str(value.get("sha256"))[:12])
    return str(value)


def changed(theirs: Dict[str, Any], ours: Dict[str, Any]) -> List[Change]:
    """What differs, in the order of ``ours``. After a conversion None is whatever is said now."""
    return [Change(what, shown(what, theirs.get(what, "not there")), shown(what, value))
            for what, value in ours.items() if theirs.get(what, "not there") not in (None, value)]


def refuse_changes(differing: Sequence[Change], accepted: Sequence[str], checkpoint: Checkpoint
                   ) -> None:
    """Raises TrainingError for the first change that was not accepted, or cannot be."""
    for change in differing:
        if change.what in accepted:
            continue
        said = "the run's %s is %s, now it is %s" % (
            NAMES.get(change.what, change.what.replace("_", " ")), change.theirs, change.ours)
        if change.what == "program":
            mend = ("go on with it after `bin/parity convert %s --to %s --output FOLDER`"
                    % (checkpoint.path, change.ours))
        elif change.what in ACCEPTED:
            mend = ("go on as it was, or with the change by --accept %s, which the run's record "
                    "says from then on" % change.what)
        elif change.what == "network":
            mend = "its weights do not fit: begin in another folder with --output-dir"
        else:
            mend = ("go on with --%s as it was, or begin in another folder with --output-dir"
                    % change.what.replace("_", "-"))
        raise TrainingError("%s: %s" % (said, mend))
