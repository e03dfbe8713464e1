"""What every format says alike: numbers, the worst check, the facts of a difference.

No format decides anything here: a check passed or failed in ``parity.results``.
"""
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from captures.article import DCGAN
from captures.process import printable
from captures.spec import Spec
from parity.judge.results import Check, Diagnosis, Report, Stage

Policies = Mapping[str, Any]


def spec_of(report: Report) -> Spec:
    """The networks that the report is of: those that a capture's manifest holds."""
    held = [one["network"] for one in report.producers.values() if "network" in one]
    return Spec.of_data(held[0]) if held else DCGAN



def of_two_captures(report: Report) -> bool:
    """Whether two captures of one plan were compared (``parity compare``), whoever made them, and
    not a port with CNTK."""
    return list(report.producers) == ["reference", "other"]


def subject(report: Report) -> str:
    return "two captures of one plan" if of_two_captures(report) else "CNTK 2.7 against the port"


# Metric -> heading, what it means. The order is that of the columns.
METRICS: dict[str, tuple[str, str]] = {
    "cntk_error": ("CNTK's error", "RMS of CNTK's difference from the same computation in float64 "
                   "(the oracle), as a part of the layer's own RMS. 1e-7 is float32's rounding."),
    "port_error": ("port's error", "The same for the port. Both are judged by the oracle, so that "
                   "CNTK's own rounding is not held against the port."),
    "ratio": ("ratio", "The port's error / CNTK's error. About 1: the port is as exact as CNTK. "
              "Below 1: it is more exact."),
    "largest_absolute": ("largest difference", "The largest absolute difference between CNTK and "
                         "the port in one value."),
    "largest_relative": ("largest relative", "The largest difference between CNTK and the port, as "
                         "a part of the value or of the layer's RMS, whichever is larger."),
    "ulp": ("ULP", "The largest difference in units in the last place: 1 is the smallest step that "
            "a float32 can make at that value (or at the layer's RMS, if that is larger)."),
    "rms_ulp": ("RMS ULP", "The RMS of the difference in units in the last place of the layer's "
                "RMS."),
    "cosine": ("1 - cosine", "1 - the cosine of the angle between CNTK's values and the port's, "
               "taken as vectors. 0: the same direction."),
}

BLAME = {
    "": "not determined",
    "port": "the port: from the same inputs it computes something else than CNTK",
    "CNTK's exporter": "CNTK's exporter: the ONNX graph that it wrote does not compute what CNTK "
                       "computes",
    "the port's exporter": "the port's exporter: the ONNX graph that it wrote does not compute "
                           "what the port computes",
    "runtime": "the runtime: onnxruntime computes something else than the graph says",
}


# -------------------------------------------------------------------------------- numbers


def number(value: Any, digits: int = 3) -> str:
    """For tables: three digits, whole numbers whole, NaN and infinity as words."""
    if isinstance(value, str):
        return value
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    if value == int(value) and abs(value) < 1e7:
        return str(int(value))
    if 1e-3 <= abs(value) < 1e7:
        text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits - 1}e}"


def pair(measured: float, allowed: float, least: int = 3) -> tuple[str, str]:
    """Both with as many digits as it takes to tell them apart: 2.0001 is not shown as 2 of 2."""
    for digits in range(least, 18):
        shown = number(measured, digits), number(allowed, digits)
        if shown[0] != shown[1]:
            return shown
    return shown


def upward(value: float, digits: int = 4) -> str:
    """The smallest number of so many digits that is not below ``value``."""
    exact = Decimal(value)
    up = exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), ROUND_CEILING)
    return number(float(up), digits)


def exactly(value: Any) -> str:
    """Every digit, for programs."""
    return number(value) if not math.isfinite(value) else repr(float(value))


def quantity(text: str, unit: str) -> str:
    return f"{text} {unit}".strip()


def seconds(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


plain = printable  # whatever a report quotes


def several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# --------------------------------------------------------------------------------- places


@dataclass(frozen=True)
class Place:
    """``generator/conv3/output`` taken apart. network may itself hold a slash."""

    network: str
    layer: str
    quantity: str

    @classmethod
    def of(cls, place: str) -> "Place":
        parts = place.split("/")
        if len(parts) == 1:
            return cls("", place, "")
        if len(parts) == 2:
            return cls(parts[0], parts[1], "")
        return cls("/".join(parts[:-2]), parts[-2], parts[-1])


@dataclass
class Layer:
    """A row of the table of layers: the check in the chain, and that on the layer's own inputs."""

    place: Place
    label: str
    chain: Check | None = None
    own: Check | None = None

    @property
    def passed(self) -> bool:
        return all(check.passed for check in (self.chain, self.own) if check is not None)


def layers(stage: Stage) -> dict[str, list[Layer]]:
    """Network -> its layers, both in the order in which the stage has them."""
    rows: dict[Place, Layer] = {}
    for check in stage.checks:
        place = Place.of(check.place)
        row = rows.setdefault(place, Layer(place, ""))
        if check.local:
            row.own = max(row.own or check, check, key=badness)
        else:
            row.chain = max(row.chain or check, check, key=badness)
    networks: dict[str, list[Layer]] = {}
    for row in rows.values():
        networks.setdefault(row.place.network, []).append(row)
    for found in networks.values():
        quantities = {row.place.quantity for row in found}
        for row in found:
            row.label = (row.place.layer if len(quantities) == 1
                         else f"{row.place.layer} {row.place.quantity}".strip())
    return networks


def has_layer_errors(stage: Stage) -> bool:
    """Whether it is drawn layer by layer. The state after a step is not: 180 arrays, which the
    exact comparisons and the table serve better."""
    return stage.name != "step" and any("port_error" in check.metrics for check in stage.checks)


# --------------------------------------------------------------------------------- checks


def badness(check: Check) -> tuple[bool, float]:
    """To sort by: failed after passed, then by margin; NaN is as bad as infinity."""
    return not check.passed, math.inf if math.isnan(check.margin) else check.margin


def worst(stage: Stage) -> Check | None:
    return max(stage.checks, key=badness, default=None)


def failed_first(checks: Sequence[Check]) -> list[Check]:
    """Failed and born here, failed and inherited, passed; each in order."""
    return sorted(checks, key=lambda check: 2 if check.passed else int(check.local is False))


def judged_on(check: Check) -> str:
    return {True: "own inputs", False: "in the chain", None: ""}[check.local]


# -------------------------------------------------------------------------------- verdict


def verdict(report: Report) -> str:
    """DIFFER only where something differs: where nothing could be judged, that is the word."""
    if report.passed:
        return "AGREE"
    return "DIFFER" if report.judged or not report.stages else "NOT JUDGED"


def summary(report: Report) -> str:
    """One sentence beside the verdict; before it, what stood in for CNTK where it did not run."""
    return f"{report.reference}. {_summary(report)}" if report.reference else _summary(report)


def _summary(report: Report) -> str:
    checks = [check for stage in report.stages for check in stage.checks]
    if not report.stages:
        return "No stage ran, so nothing was compared"
    judged, count = report.judged, len(report.applying)
    left = count - len(judged)
    without = f"; {several(left, 'stage')} not judged" if left else ""
    if report.passed:
        far = f"Agrees as far as judged, {len(judged)} of {several(count, 'stage')}: " \
            if left else ""
        return (f"{far}{'all' if far else 'All'} {several(len(checks), 'check')} of "
                f"{several(len(judged), 'stage')} are within their tolerances")
    if not judged:
        return "No stage could be judged, so nothing agrees"
    empty = sum(not stage.checks for stage in judged)
    bad_stages = sum(not stage.passed for stage in judged) - empty
    bad = sum(not check.passed for check in checks)
    said = (f"{bad} of {several(len(checks), 'check')} failed, in {bad_stages} of "
            f"{several(len(judged), 'stage')}")
    return said + (f"; {several(empty, 'stage')} checked nothing" if empty else "") + without


def policy_reason(policies: Policies, name: str) -> str:
    """Where a tolerance came from: "source" (or "reason") of the policy, or the policy's text."""
    policy = policies.get(name, "")
    if isinstance(policy, Mapping):
        return str(policy.get("source") or policy.get("reason") or "")
    return policy if isinstance(policy, str) else ""


def failure_facts(stage: Stage, check: Check, policies: Policies) -> list[tuple[str, str]]:
    """What a person needs to know about one failed check: label, text."""
    reason = policy_reason(policies, check.policy)
    if math.isfinite(check.measured):
        tolerance = upward(check.measured)
    else:
        tolerance = f"none: the measured value is {number(check.measured)}"
    born_elsewhere = any(other.local and not other.passed for other in stage.checks)
    judged_alone = any(other.local for other in stage.checks)
    if check.local:
        born = "born here: the layer was given CNTK's own inputs"
    elif check.local is None:
        born = "born here: nothing before it in its stage could hand an error on"
    elif born_elsewhere:
        born = "perhaps inherited: a layer of this stage fails on CNTK's own inputs"
    elif judged_alone:
        born = ("inherited: on CNTK's own inputs every layer of this stage passes, the error grew "
                "on its way through the layers before")
    else:
        born = "perhaps inherited: it was judged after all the layers before it"
    measured, allowed = pair(check.measured, check.allowed, 4)
    facts = [
        ("stage", stage.name + (f" ({stage.title})" if stage.title else "")),
        ("place", check.place),
        ("what differs", check.detail),
        ("measured", quantity(measured, check.unit)),
        ("allowed", quantity(allowed, check.unit)),
        ("tolerance's name", check.policy),
        ("where it came from", reason),
        ("smallest tolerance that would have passed", tolerance),
        ("born or inherited", born),
    ]
    return [(label, text) for label, text in facts if text]


PLACES = 3  # of a diagnosis that are named; the others are counted


def diagnosis_facts(one: Diagnosis, most: int = PLACES) -> list[tuple[str, str]]:
    """What explains a failure, where, and what to change: label, text. most: places named."""
    places = ", ".join(one.places[:most])
    if len(one.places) > most:
        places += f" and {len(one.places) - most} more"
    known = one.name.replace("-", " ") if one.name else "no known mistake"
    facts = [(known, one.what), ("in", f"{one.stage}: {places}"), ("mend", one.mend),
             ("page", one.page)]
    return [(label, text) for label, text in facts if text]


def failing(report: Report) -> list[tuple[Stage, Check | None]]:
    """Each failed stage with the check to look at first; None: the stage checked nothing."""
    return [(stage, stage.first_failure) for stage in report.judged if not stage.passed]


def brief(check: Check | None) -> str:
    """Why a stage failed, in one line."""
    if check is None:
        return "nothing was checked, and a stage without a check does not pass"
    if math.isinf(check.measured) and not check.allowed and check.detail:
        return f"{check.place}: {check.detail}"  # missing, or of another shape
    measured, allowed = pair(check.measured, check.allowed)
    return f"{check.place}: measured {measured}, allowed {quantity(allowed, check.unit)}"


def blame(report: Report) -> str:
    return BLAME.get(report.blame, report.blame)


# --------------------------------------------------------------------------- what ran


def versions(manifest: Mapping[str, Any]) -> str:
    """The packages of a capture: ``cntk 2.7, numpy 1.17.3``."""
    found = manifest.get("versions") or {}
    if not isinstance(found, Mapping):
        return str(found)
    return ", ".join(f"{name} {version}" for name, version in found.items())


def threads(manifest: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """CNTK's are an input of their own, since its bits depend on them; its manifest has those of
    the plan's other programs."""
    told = manifest.get("threads", "")
    return str(plan.get("cntk_threads", told) if manifest.get("producer") == "cntk" else told)


def machine(manifest: Mapping[str, Any]) -> str:
    """``AMD EPYC, 2 processors, Linux, python 3.11.7, numpy 2.4.6``; all of it is in the JSON."""
    found = manifest.get("machine") or {}
    if not isinstance(found, Mapping):
        return str(found)
    said = [str(found.get("model") or found.get("processor") or ""),
            f"{found['processors']} processors" if found.get("processors") else "",
            str(found.get("system") or ""),
            *(f"{name} {found[name]}" for name in ("python", "numpy") if found.get(name)),
            *(f"{name}={value}" for name, value in (found.get("variables") or {}).items()
              if name.startswith("MKL"))]
    return ", ".join(one for one in said if one)
