"""Runs that are kept: each a folder with one certificate for each of its captures, or the captures.

    runs/recorded/NAME/port.certificate, cntk.certificate, ..., recorded.json
"""
import datetime
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from captures.certificate import VALUES, recorded
from captures.errors import CaptureError
from captures.files import write_json, written_whole
from captures.format import MANIFEST, Capture
from captures.output import made_whole
from parity.producers.jobs import ROOT

RECORDED = ROOT / "runs" / "recorded"
NOTE = "recorded.json"
MADE = "made"  # in it: when the run was made; "date" is when it was recorded
# A file's name on every system, and no markup on a console.
_NAME = re.compile(r"\w([\w.-]{0,58}\w)?")
KEPT = ("producer", "versions", "threads", "machine")


def record(name: str, run: Path, whole: bool, folder: Path = RECORDED,
           tell: Callable[[int, int], None] = lambda done, total: None) -> list[Path]:
    """Keeps the captures of ``run`` under a name. Returns what was written. folder: of the recorded
    runs. tell: called before each capture, with how many are done and how many there are.

    Raises CaptureError: no such run, nothing in it, or the name is taken.
    """
    if not _NAME.fullmatch(name):
        raise CaptureError(f"{name!r} is no name for a run: give up to 60 letters, digits, _, . "
                           "and -, a letter or digit first and last")
    kept = folder / name
    if kept.exists():
        raise CaptureError(f"{kept} is there already: give another name, or remove it")
    captures = [path.parent for path in sorted(run.glob(f"*/{MANIFEST}"))]
    if not captures:
        raise CaptureError(f"there is no capture in {run}: make a run with `bin/parity run`, or "
                           "name its folder with --run")
    with made_whole(kept) as making:
        try:
            made = []
            for done, one in enumerate(captures):
                tell(done, len(captures))
                made.append(_keep(one, Path(making), whole))
            write_json(Path(making) / NOTE, {"name": name, "date": _told(datetime.datetime.now()),
                                             MADE: _told(datetime.datetime.fromtimestamp(max(
                                                 (one / MANIFEST).stat().st_mtime
                                                 for one in captures)))})
        except BaseException:
            shutil.rmtree(kept, ignore_errors=True)  # nobody else's: it was not there
            raise
    return [kept / one.name for one in made]


def _told(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _keep(folder: Path, making: Path, whole: bool) -> Path:
    capture = Capture(folder)
    capture.require_whole()
    if whole:
        return _copied(capture, making / folder.name)
    made_by = {name: capture.manifest[name] for name in KEPT if name in capture.manifest}
    facts = {name: value for name, value in capture.facts.items() if name != "seconds"}
    path = making / f"{folder.name}.certificate"
    with written_whole(path) as part:
        part.write_bytes(recorded(capture, {}, capture.manifest["plan"], capture.plan_hash,
                                  made_by, facts, VALUES, ordered=True))
    return path


def _copied(capture: Capture, to: Path) -> Path:
    """What its manifest names and nothing else that lies there. Raises CaptureError: damaged."""
    (to / "arrays").mkdir(parents=True)
    for file in (MANIFEST, *(entry.file for entry in capture.entries.values()), *capture.attached):
        shutil.copyfile(Path(capture.folder) / file, to / file)
    copy = Capture(to)
    for name in copy:
        copy.as_it_is(name)
    return to
