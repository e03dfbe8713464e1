"""TODO."""
import os
import sys
from pathlib import Path

from captures.files import plan_file
from captures.plan import Plan
from environment import find_python
from parity.producers.jobs import ROOT, Job, ProducerError

# CNTK's batch normalisation is MKL's, which has other code, with other roundings, for each make of
# processor. This asks for the code that the port reproduces, which every processor can run.
# Its threads, which are as many as there are processors, sleep while they wait: several processes
# share these, and threads that spin took a sixth of CNTK's processor time (measured; same bits).
CNTK_ENVIRONMENT = {"MKL_DEBUG_CPU_TYPE": "0", "OMP_WAIT_POLICY": "PASSIVE"}


def cntk_job(plan: Plan, folder: Path, name: str = "cntk", job: str = "layers", nudge: int = 0
             ) -> Job:
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
    threads = plan.threads if job == "layers" else 1
    return Job(name, command, folder / name, slots=threads,
               environment={"OMP_NUM_THREADS": str(threads), **CNTK_ENVIRONMENT})


def port_job(plan: Plan, folder: Path, name: str = "port", job: str = "layers",
             dtype: str = "float32", port: Path = ROOT, reference: str | Path = "cntk",
             parts: str = "") -> Job:
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
    waits = job == "layers" and isinstance(reference, str)
    return Job(name, command, folder / name, cwd=port,
               after=(str(reference),) if waits else (),
               environment={"OMP_NUM_THREADS": str(plan.threads)}, slots=plan.threads)


def oracle_job(plan: Plan, folder: Path, reference: str | Path = "cntk", parts: str = "") -> Job:
    """The float64 model of CNTK's program: this project's own, whoever's port is judged."""
    return port_job(plan, folder, "oracle", dtype="float64", reference=reference, parts=parts)


def twin_jobs(plan: Plan, folder: Path, port: Path = ROOT) -> list[Job]:
    """CNTK, its reruns from weights moved by one ULP, and the port, from the seed alone."""
    return [cntk_job(plan, folder, "twin-cntk", "twin"),
            *(cntk_job(plan, folder, f"twin-rerun{i}", "twin", nudge=i)
              for i in range(1, plan.reruns + 1)),
            port_job(plan, folder, "twin-port", "twin", port=port)]


def main_jobs(plan: Plan, folder: Path, port: Path = ROOT, parts: str = "") -> list[Job]:
    """parts: of the port's captures, as in ``port_job``."""
    jobs = [cntk_job(plan, folder), port_job(plan, folder, port=port, parts=parts),
            oracle_job(plan, folder, parts=parts)]
    if plan.twin_iterations:
        jobs += twin_jobs(plan, folder, port)
    return jobs
