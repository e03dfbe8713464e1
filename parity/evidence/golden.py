"""``make golden``: real CNTK runs every plan of the table, and what it did is kept as hashes.

A certificate that would say the same is left as it is, so that its date is that of its first
recording; one that would say something else is written beside it, named, and the command exits 1:
CNTK does not change, so something else did.
"""
import datetime
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from captures.certificate import Certificate, CertificateError, recorded
from captures.errors import PlanError
from captures.files import written_whole
from captures.format import Capture
from captures.plan import Plan
from environment import find_python
from parity.golden import store
from parity.golden.table import TABLE, Golden
from parity.producers import jobs, recipes
from parity.producers.jobs import ROOT, ProducerError
from parity.producers.second_plan import second_plan

PASSING = ("seconds",)  # of a capture's facts, what says how long it took and not what it is


def record(map_file: Path, folder: Path, scratch: Path, console: Console,
           only: Sequence[str] = (), again: bool = False) -> list[str]:
    """The names of those that came out otherwise than they are kept. again: those that are there
    are recorded once more; otherwise what is missing is, and what is of other images than today's.

    Raises PlanError: no such plan. ProducerError: CNTK could not be run.
    """
    names = [golden.name for golden in TABLE]
    for name in only:
        if name not in names:
            raise PlanError(f"there is no golden plan {name!r}: give some of {', '.join(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    refuse_foreign([folder / (name + store.SUFFIX) for name in only or names])
    differing = []
    for golden in TABLE:
        path = folder / (golden.name + store.SUFFIX)
        if only and golden.name not in only:
            continue
        place = scratch / golden.name
        try:
            plan = plan_of(golden, map_file, place)
            if path.exists() and not again and of_plan(path, golden, plan):
                continue
            made = certified(golden, plan, place, console)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if path.exists() and of_plan(path, golden, plan):
            if same(path, made):
                console.print(f"{golden.name}: as it was")
                continue
            differing.append(golden.name)
            path = path.with_suffix(".differs")
        with written_whole(path) as part:
            part.write_bytes(made)
        console.print(f"{golden.name}: {len(made):,} bytes")
    return differing


def refuse_foreign(paths: Sequence[Path]) -> None:
    """Raises PlanError: something lies there that is no certificate, not even a damaged one."""
    for path in paths:
        if path.exists() and not zipfile.is_zipfile(path):
            raise PlanError(f"{path} is no certificate, and would be replaced: move it away, or "
                            "choose another --folder")


def plan_of(golden: Golden, map_file: Path, scratch: Path) -> Plan:
    """The plan of an entry of the table; a data set of its own is drawn into ``scratch``."""
    if golden.second:
        made = second_plan(Plan.make(map_file), scratch)
        assert made is not None  # the default data set is no smaller than a minibatch
        return made
    if golden.faces is not None:
        count, seed = golden.faces
        done = subprocess.run([sys.executable, "-m", "datasets", "faces", "--output", scratch /
                               "data", "--count", str(count), "--seed", str(seed)], cwd=ROOT,
                              check=False, capture_output=True, text=True)
        if done.returncode:
            raise ProducerError(f"the faces of {golden.name} could not be drawn: "
                                f"{done.stderr.strip().splitlines()[-1:]}")
        map_file = scratch / "data" / "train_dcgan_map.txt"
    return Plan.make(map_file, **{"twin_iterations": 0, "reruns": 0, **golden.values})


def of_plan(path: Path, golden: Golden, plan: Plan) -> bool:
    """Whether a certificate that is there is one of this plan, and not of last year's images."""
    try:
        found = Certificate(str(path))
    except CertificateError:
        return False
    return store.identity(found.plan, golden.job) == store.identity(plan.inputs, golden.job)


def certified(golden: Golden, plan: Plan, scratch: Path, console: Console) -> bytes:
    """CNTK's capture of the plan as a certificate."""
    job = recipes.cntk_job(plan, scratch, job=golden.job)
    pictures = ["--pictures"] if golden.job == "layers" else []
    job = replace(job, command=[*job.command, *pictures],
                  environment={**job.environment, "MKL_DEBUG_CPU_TYPE": str(golden.branch)})
    jobs.run_jobs([job], plan, scratch, console)
    capture = Capture(scratch / "cntk")
    files = {} if golden.only else {name: str(capture.attachment(name))
                                    for name in sorted(capture.attached)}
    arrays = {name: capture[name] for name in capture if name.startswith(golden.only)} \
        if golden.only else capture
    facts = {"job": golden.job} if golden.only else facts_of(capture)
    return recorded(arrays, files, capture.manifest["plan"], capture.plan_hash,
                    made_by(capture, job.environment), facts, golden.kept)


def facts_of(capture: Capture) -> dict[str, Any]:
    return {name: value for name, value in capture.facts.items() if name not in PASSING}


def made_by(capture: Capture, environment: Mapping[str, str]) -> dict[str, Any]:
    """Who, where, when: for a reader; nothing is judged by it."""
    kept = ("producer", "versions", "threads", "machine")
    return {**{name: capture.manifest[name] for name in kept},
            "environment": {name: environment[name] for name in recipes.CNTK_ENVIRONMENT},
            "wheel": wheel(), "date": datetime.date.today().isoformat()}


def wheel() -> str:
    """SHA-256 of the list of files and hashes that CNTK's wheel was installed from; "" where it
    cannot be found."""
    python = find_python.installed_cntk(str(ROOT))
    lines = [line for path in sorted(Path(python).parents[1].glob(
        "lib/*/site-packages/cntk*.dist-info/RECORD")) for line in path.read_text().splitlines()
        if ",sha256=" in line and ".dist-info/" not in line] if python else []
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() if lines else ""


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
