"""Runs that are kept: each a folder with one certificate for each of its captures, or the captures.

    runs/recorded/NAME/port.certificate, cntk.certificate, ..., recorded.json
"""
import datetime
import json
import shutil
from pathlib import Path

from captures.certificate import VALUES, recorded
from captures.errors import CaptureError
from captures.files import written_whole
from captures.format import MANIFEST, Capture
from captures.output import made_whole
from parity.producers.jobs import ROOT

RECORDED = ROOT / "runs" / "recorded"
NOTE = "recorded.json"
KEPT = ("producer", "versions", "threads", "machine")


def record(name: str, run: Path, whole: bool, folder: Path = RECORDED) -> list[Path]:
    """Keeps the captures of ``run`` under a name. Returns what was written.

    Raises CaptureError: no such run, nothing in it, or the name is taken.
    """
    if not name.isprintable() or Path(name).name != name or name.startswith("."):
        raise CaptureError(f"{name!r} is no name for a run: give one without slashes")
    kept = folder / name
    if kept.exists():
        raise CaptureError(f"{kept} is there already: give another name, or remove it")
    captures = [one for one in sorted(run.iterdir()) if (one / MANIFEST).is_file()] \
        if run.is_dir() else []
    if not captures:
        raise CaptureError(f"there is no capture in {run}: make a run with `bin/parity run`, or "
                           "name its folder with --run")
    with made_whole(kept) as making:
        made = [_keep(one, Path(making), whole) for one in captures]
        with written_whole(Path(making) / NOTE) as part:
            part.write_text(json.dumps({"name": name, "date": datetime.datetime.now().isoformat(
                timespec="seconds")}) + "\n")
    return [kept / one.name for one in made]


def _keep(folder: Path, making: Path, whole: bool) -> Path:
    capture = Capture(folder)
    capture.require_whole()
    if whole:
        return Path(shutil.copytree(folder, making / folder.name))
    made_by = {name: capture.manifest[name] for name in KEPT if name in capture.manifest}
    facts = {name: value for name, value in capture.facts.items() if name != "seconds"}
    path = making / f"{folder.name}.certificate"
    with written_whole(path) as part:
        part.write_bytes(recorded(capture, {}, capture.manifest["plan"], capture.plan_hash,
                                  made_by, facts, VALUES))
    return path
