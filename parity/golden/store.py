"""The certificates that are kept in the repository: which one is of a plan, and what a capture is
of it.

    certificate_of(inputs)      the one of a plan, by what its capture depends on; None if none is
    stand_in(capture)           what stood in for CNTK, in one line, for the head of a report
"""
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captures.article import DCGAN
from captures.certificate import Certificate
from captures.format import Capture

FOLDER = Path(__file__).resolve().parents[2] / "golden"
SUFFIX = ".certificate"
# Values of a plan that do not change CNTK's capture in a job: what another job takes, and how the
# port computes.
IGNORED = {"layers": ("twin_iterations", "twin_minibatch_size", "reruns", "onednn", "threads"),
           "twin": ("twin_iterations", "minibatch_size", "warmup_iterations", "reruns",
                    "score_images", "onednn", "threads", "weight_scale_exponent")}
PLAIN = "0"  # the branch of MKL's code that the port reproduces
BEFORE = {"cntk_threads": 2}  # of a certificate that was made before a plan said it


def certificates(folder: Path = FOLDER) -> Iterator[Path]:
    """The files, in order of their names."""
    return iter(sorted(folder.glob("*" + SUFFIX)))


def identity(inputs: Mapping[str, Any], job: str = "layers") -> dict[str, Any]:
    """Of a plan, what the capture of a job depends on; of the twin run without its length. (A plan
    that names no networks is of the article's.)"""
    made = {name: value for name, value in inputs.items() if name not in IGNORED[job]}
    made.pop("network", None)
    return {"network_sha256": DCGAN.sha256, **BEFORE, **made}


def job_of(certificate: Certificate) -> str:
    return str(certificate.facts.get("job", "layers"))


def branch_of(certificate: Certificate) -> str:
    """Of MKL's code."""
    return str(certificate.made_by.get("environment", {}).get("MKL_DEBUG_CPU_TYPE", PLAIN))


def certificate_of(inputs: Mapping[str, Any], folder: Path = FOLDER, job: str = "layers"
                   ) -> Certificate | None:
    """Raises CertificateError: one in the folder is damaged."""
    wanted = identity(inputs, job)
    for path in certificates(folder):
        found = Certificate(str(path))
        if job_of(found) == job and branch_of(found) == PLAIN \
                and identity(found.plan, job) == wanted:
            return found
    return None


def stands_in(capture: Capture) -> bool:
    """Whether somebody else than CNTK made the reference."""
    return capture.producer == "stand-in"


def stand_in(capture: Capture, certified: int | None, arrays: int, folder: Path = FOLDER) -> str:
    """certified: of how many arrays the bits are CNTK's; None where no certificate is of the plan,
    or the stage that asks was left out. arrays: how many there are."""
    if not stands_in(capture):
        return ""
    if certified is None and certificate_of(capture.manifest["plan"], folder) is not None:
        return ("CNTK did not run: this project's port stood in for it, which was not held against "
                "the plan's certificate (the stage reference was left out)")
    if certified is None:
        return ("CNTK did not run and no certificate is of this plan: the reference is this "
                "project's port's own arithmetic, certified on "
                f"{sum(1 for _ in certificates(folder))} other plans")
    made = f"CNTK did not run: this project's port stood in for it, {certified:,} of {arrays:,} "
    return made + "arrays with the bits that real CNTK's certificate asks for"
