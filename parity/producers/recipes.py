"""The jobs of a run: which process makes which capture, after or beside which other."""
import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from captures.files import plan_file
from captures.lockstep import FOLLOWER, LEADER
from captures.plan import Plan
from captures.process import pinned
from environment import find_python, processors
from parity.golden.store import certificate_of
from parity.producers.for_score import CACHE, NOTHING, ForScore
from parity.producers.jobs import ROOT, Job, ProducerError, explanation

# CNTK's batch normalisation is MKL's, which has other code, with other roundings, for each make of
# processor. This asks for the code that the port reproduces, which every processor can run.
# Its threads sleep after a millisecond's wait: several processes share the processors, and threads
# that spin took a sixth of CNTK's processor time. Without that millisecond a picture in CNTK's
# classifier, which is many loops over little, takes 5.6 s and not 0.13 s (measured; same bits).
CNTK_ENVIRONMENT = {"MKL_DEBUG_CPU_TYPE": "0", "KMP_BLOCKTIME": "1"}


CNTK, CERTIFICATE = "cntk", "certificate"
REFERENCES = {CNTK: "real CNTK", CERTIFICATE: "this project's port in its place, held against what "
                                              "was recorded of real CNTK"}


@dataclass(frozen=True)
class Sources:
    """port: what is judged: a folder that holds a ``torch_port``, or a user's adapter, a .py file.
    reference: of REFERENCES; "" for real CNTK where it is installed. mapping: of the adapter;
    device: on which it runs, time_limit: seconds that each call of its code may take.
    for_score: what pictures are made for the score besides those of the plan's state."""

    port: Path = ROOT
    reference: str = ""
    mapping: Path | None = None
    device: str = "cpu"
    time_limit: float = 600.0
    for_score: ForScore = NOTHING

    @property
    def is_adapter(self) -> bool:
        return self.port.suffix == ".py"


def possible_reference() -> str:
    """Real CNTK where it is installed."""
    return CNTK if find_python.installed_cntk(os.fspath(ROOT)) else CERTIFICATE


def cntk_job(plan: Plan, folder: Path, name: str = "cntk", job: str = "layers", nudge: int = 0,
             beside: Path | None = None, for_score: ForScore = NOTHING) -> Job:
    """Raises ProducerError where CNTK's environment is not there."""
    python = find_python.installed_cntk(os.fspath(ROOT))
    if python is None:
        raise ProducerError("CNTK's environment .venv-cntk is not there, or CNTK_PYTHON=none says "
                            "to do without: run `make setup`, which says how to get a Python 3.6")
    command: list[str | os.PathLike[str]] = [
        python, "-m", "cntk_impl.capture", "--plan", plan_file(folder),
        "--output", folder / name, "--job", job]
    if nudge:
        command += ["--nudge", str(nudge)]
    if for_score.classifier is not None:
        command += ["--classifier", for_score.classifier]
    if for_score.trained is not None:
        command += ["--trained", for_score.trained]
    if beside:
        command += ["--beside", beside]
    try:
        threads = processors.variables(plan.cntk_threads)
    except processors.ProcessorsError as error:
        raise ProducerError(str(error)) from error
    return Job(name, command, folder / name, slots=plan.threads if job == "layers" else 1,
               environment={**threads, **CNTK_ENVIRONMENT},
               ended=beside / LEADER if beside else None)


def stand_in_job(plan: Plan, folder: Path, certificate: Path | None, name: str = "cntk",
                 job: str = "layers", beside: Path | None = None) -> Job:
    """CNTK's capture by this project's own port, where CNTK cannot run."""
    command: list[str | os.PathLike[str]] = [
        sys.executable, "-m", "torch_port.stand_in", "--plan", plan_file(folder),
        "--output", folder / name]
    if certificate is not None:
        command += ["--certificate", certificate]
    if beside is not None:
        command += ["--beside", beside]
    return Job(name, [*command, "--job", job], folder / name,
               slots=plan.threads if job == "layers" else 1,
               environment={"OMP_NUM_THREADS": str(plan.threads)},
               ended=beside / LEADER if beside else None)


def port_job(plan: Plan, folder: Path, name: str = "port", job: str = "layers",
             dtype: str = "float32", port: Path = ROOT, reference: str | Path = "cntk",
             parts: str = "", beside: Path | None = None,
             for_score: ForScore = NOTHING) -> Job:
    """port: the folder that holds the ``torch_port`` to judge; by default this project's own.
    reference: CNTK's capture: the name of a job that runs before, or a folder that is there.
    parts: of ``torch_port.capture.PARTS``; all if empty."""
    command: list[str | os.PathLike[str]] = [
        sys.executable, "-m", "torch_port.capture", "--plan", plan_file(folder), "--output",
        folder / name, "--job", job, "--dtype", dtype]
    if job == "layers":
        command += ["--reference", folder / reference]  # an absolute path stays what it is
    if parts:
        command += ["--parts", parts]
    if for_score != NOTHING:
        command += ["--pictures"]
    if for_score.trained is not None:
        command += ["--trained", for_score.trained]
    if beside:
        command += ["--beside", beside]
    waits = job == "layers" and isinstance(reference, str)
    return Job(name, command, folder / name, cwd=port,
               after=(str(reference),) if waits else (),
               environment={"OMP_NUM_THREADS": str(plan.threads)}, slots=plan.threads,
               ended=beside / FOLLOWER if beside else None, may_fail=dtype == "float32")


def adapter_job(plan: Plan, folder: Path, sources: Sources, reference: str = "cntk") -> Job:
    """A user's port, by its adapter, in a process of its own."""
    adapter, mapping = sources.port, sources.mapping
    command: list[str | os.PathLike[str]] = [
        sys.executable, "-m", "torch_port.adapter", "--adapter", adapter.resolve(),
        "--plan", plan_file(folder), "--reference", folder / reference, "--output", folder / "port",
        "--device", sources.device, "--time-limit", str(sources.time_limit)]
    if mapping is not None:
        command += ["--mapping", mapping.resolve()]
    return Job("port", command, folder / "port", after=(reference,),
               environment={"OMP_NUM_THREADS": str(plan.threads)}, slots=plan.threads,
               may_fail=True, refuses=True)


def check_adapter(adapter: Path, mapping: Path | None, device: str,
                  time_limit: float = Sources.time_limit) -> None:
    """Loads and matches an adapter's networks, before the reference takes minutes. Raises
    ProducerError."""
    command = [sys.executable, "-m", "torch_port.adapter", "--adapter",
               os.fspath(adapter.resolve()), "--device", device, "--check", "--time-limit",
               str(time_limit)]
    if mapping is not None:
        command += ["--mapping", os.fspath(mapping.resolve())]
    done = subprocess.run(command, cwd=ROOT, env=pinned(os.environ), check=False, text=True,
                          errors="replace", capture_output=True)
    if done.returncode:
        raise ProducerError(explanation("port", done.returncode, done.stderr.splitlines()))


def oracle_job(plan: Plan, folder: Path, reference: str | Path = "cntk", parts: str = "") -> Job:
    """The float64 model of CNTK's program: this project's own, whoever's port is judged."""
    return port_job(plan, folder, "oracle", dtype="float64", reference=reference, parts=parts)


def twin_jobs(plan: Plan, folder: Path, port: Path = ROOT, reference: str = CNTK,
              reruns: bool = False) -> list[Job]:
    """CNTK, or what stands in for it, and, beside it, the port, from the seed alone. reruns: CNTK
    again, from weights moved by one ULP, which only a free run without CNTK's bits is measured by.
    """
    again = [cntk_job(plan, folder, f"twin-rerun{i}", "twin", nudge=i)
             for i in range(1, plan.reruns + 1)] if reruns and reference == CNTK else []
    meeting = folder / "twin-meeting"
    if reference == CNTK:
        leader = cntk_job(plan, folder, "twin-cntk", "twin", beside=meeting)
    else:
        leader = stand_in_job(plan, folder, certified(plan, "twin"), "twin-cntk", "twin", meeting)
    follower = port_job(plan, folder, "twin-port", "twin", port=port, beside=meeting)
    return [replace(leader, beside=(follower,)), *again]


def reference_job(plan: Plan, folder: Path, reference: str, for_score: ForScore = NOTHING) -> Job:
    """CNTK's capture of the layers. Raises ProducerError, CertificateError."""
    if reference == CNTK:
        return cntk_job(plan, folder, for_score=for_score)
    return stand_in_job(plan, folder, certified(plan))


def certified(plan: Plan, job: str = "layers") -> Path | None:
    """The file of a plan's certificate, where there is one. Raises CertificateError."""
    found = certificate_of(plan.inputs, job=job)
    return None if found is None else Path(found.path)


def runtime_job(plan: Plan, folder: Path, side: str, waits: tuple[str, ...] = ()) -> Job:
    """onnxruntime on the graphs that one side exported. side: "cntk" or "port"."""
    name = f"onnx-{side}"
    command: list[str | os.PathLike[str]] = [
        sys.executable, "-m", "parity.onnx", "--plan", plan_file(folder),
        "--reference", folder / "cntk", "--side", side, "--exported", folder / side,
        "--output", folder / name]
    return Job(name, command, folder / name, after=waits, slots=plan.threads,
               may_fail=side == "port")


def classifier_job(plan: Plan, folder: Path, waits: tuple[str, ...] = ()) -> Job:
    """A classifier on both sides' pictures."""
    return Job("classifier", [
        sys.executable, "-m", "scores.capture", "--plan", plan_file(folder),
        "--cntk", folder / "cntk", "--port", folder / "port", "--cache", CACHE,
        "--output", folder / "classifier"], folder / "classifier", after=waits,
        slots=plan.threads, environment={"OMP_NUM_THREADS": str(plan.threads)})


def main_jobs(plan: Plan, folder: Path, sources: Sources = Sources(),
              parts: str = "", roles: Collection[str] = ()) -> list[Job]:
    """parts: of the port's captures, as in ``port_job``. roles: of what is made of those captures
    afterwards, which: ``onnx-cntk`` and so on."""
    reference = sources.reference or possible_reference()
    theirs = (adapter_job(plan, folder, sources) if sources.is_adapter
              else port_job(plan, folder, port=sources.port, parts=parts,
                            for_score=sources.for_score))
    jobs = [reference_job(plan, folder, reference, sources.for_score), theirs,
            oracle_job(plan, folder, parts=parts)]
    if not sources.is_adapter:  # which exports nothing
        jobs += [runtime_job(plan, folder, side, tuple(dict.fromkeys(("cntk", side))))
                 for side in ("cntk", "port") if f"onnx-{side}" in roles]
    if "classifier" in roles:
        jobs.append(classifier_job(plan, folder, ("cntk", "port")))
    if plan.twin_iterations and not sources.is_adapter:
        jobs += twin_jobs(plan, folder, sources.port, reference)
    return jobs
