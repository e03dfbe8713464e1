"""``make golden``: real CNTK runs every plan of the table, and what it did is kept as hashes.

A certificate that would say the same is left as it is, so that its date is that of its first
recording; one that would say something else is written beside it, named, and the command exits 1:
CNTK does not change, so something else did.
"""
import datetime
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from captures.certificate import Certificate, recorded
from captures.errors import PlanError
from captures.files import written_whole
from captures.format import Capture
from captures.plan import Plan
from parity.golden import store
from parity.golden.table import TABLE, Golden
from parity.producers import jobs, recipes

# Of a capture's facts, what says how long it took and not what it is.
PASSING = ("seconds", "job")


def record(map_file: Path, folder: Path, scratch: Path, console: Console,
           only: Sequence[str] = (), again: bool = False) -> list[str]:
    """The names of those that came out otherwise than they are kept. again: those that are there
    are recorded once more; otherwise only what is missing is.

    Raises PlanError: no such plan. ProducerError: CNTK could not be run.
    """
    names = [golden.name for golden in TABLE]
    for name in only:
        if name not in names:
            raise PlanError(f"there is no golden plan {name!r}: give some of {', '.join(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    differing = []
    for golden in TABLE:
        path = folder / (golden.name + store.SUFFIX)
        if (only and golden.name not in only) or (path.exists() and not again):
            continue
        plan = Plan.make(map_file, **{**golden.values, "twin_iterations": 0, "reruns": 0})
        made = certified(golden, plan, scratch / golden.name, console)
        if path.exists() and not same(path, made):
            differing.append(golden.name)
            path = path.with_suffix(".differs" + store.SUFFIX)
        elif path.exists():
            console.print(f"{golden.name}: as it was")
            continue
        with written_whole(path) as part:
            part.write_bytes(made)
        console.print(f"{golden.name}: {len(made):,} bytes")
    return differing


def certified(golden: Golden, plan: Plan, scratch: Path, console: Console) -> bytes:
    """CNTK's capture of the plan as a certificate; the capture is removed again."""
    try:
        jobs.run_jobs([recipes.cntk_job(plan, scratch)], plan, scratch, console)
        capture = Capture(scratch / "cntk")
        files = {path.name: str(path) for path in sorted(Path(capture.folder).iterdir())
                 if path.suffix in (".model", ".onnx")}
        return recorded(capture, files, capture.manifest["plan"], capture.plan_hash,
                        made_by(capture), facts_of(capture), golden.kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def facts_of(capture: Capture) -> dict[str, Any]:
    return {name: value for name, value in capture.facts.items() if name not in PASSING}


def made_by(capture: Capture) -> dict[str, Any]:
    """Who, where, when: for a reader; nothing is judged by it."""
    kept = ("producer", "versions", "threads", "machine")
    return {**{name: capture.manifest[name] for name in kept},
            "environment": recipes.CNTK_ENVIRONMENT, "system": platform.platform(),
            "processor": processor(), "date": datetime.date.today().isoformat()}


def processor() -> str:
    """The processor's name and flags, where the system says them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = {name.strip(): value.strip()
             for name, _, value in (line.partition(":") for line in lines)}
    return f"{found.get('model name', '')}: {found.get('flags', '')}"


def same(path: Path, made: bytes) -> bool:
    """Whether two certificates say the same of the same plan, whoever recorded them and when."""
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / path.name
        new.write_bytes(made)
        return content(Certificate(str(new))) == content(Certificate(str(path)))


def content(certificate: Certificate) -> Mapping[str, Any]:
    kept = {name: certificate.kept(name).tobytes() for name in certificate}
    return {"entries": certificate.entries, "attached": certificate.attached, "kept": kept,
            "plan": certificate.plan, "facts": certificate.facts}
