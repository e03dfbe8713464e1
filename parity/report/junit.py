"""junit.xml for continuous integration: a suite per stage, a case per check.

Fails exactly when the report fails: a stage that checked nothing, and a report without a stage,
have one failed case of their own. ``properties`` (plan, versions) stand in every suite, because
the format has no other place that all readers look at.
"""
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from parity.judge.results import Check, Report, Stage
from parity.report.facts import (
    Policies,
    blame,
    exactly,
    failure_facts,
    judged_on,
    plain,
    versions,
)
from parity.report.files import write


def _properties(report: Report) -> dict[str, str]:
    found = {f"plan.{name}": str(value) for name, value in report.plan.items()}
    for name, manifest in report.producers.items():
        found[f"{name}.versions"] = versions(manifest)
        found[f"{name}.threads"] = str(manifest.get("threads", ""))
    if not report.passed:
        found["blame"] = blame(report)
        found["reproduction"] = report.reproduction
        for i, one in enumerate(report.diagnoses, 1):
            found[f"diagnosis.{i}"] = ": ".join(part for part in (one.name, one.what) if part)
    return {name: value for name, value in found.items() if value}


def _fail(case: Element, message: str, kind: str, text: str) -> None:
    failure = SubElement(case, "failure", message=plain(message), type=plain(kind))
    failure.text = "\n".join(plain(line) for line in text.splitlines())


def _case(suite: Element, stage: Stage, check: Check, name: str, policies: Policies) -> None:
    case = SubElement(suite, "testcase", classname=_classname(stage), name=plain(name))
    if not check.passed:
        message = (f"measured {exactly(check.measured)} > allowed {exactly(check.allowed)} "
                   f"{check.unit}").strip()
        facts = failure_facts(stage, check, policies)
        _fail(case, message, check.policy or "tolerance",
              "\n".join(f"{label}: {text}" for label, text in facts))


def _classname(stage: Stage) -> str:
    return plain("parity." + stage.name.replace("/", "."))


def _suite(root: Element, stage: Stage, properties: dict[str, str], policies: Policies) -> None:
    failures = sum(not check.passed for check in stage.checks) if stage.checks \
        else int(not stage.not_judged)
    suite = SubElement(root, "testsuite", name=plain(stage.name), errors="0",
                       skipped=str(int(bool(stage.not_judged))),
                       tests=str(max(len(stage.checks), 1)), failures=str(failures),
                       time=f"{stage.seconds:.3f}")
    listed = SubElement(suite, "properties")
    for name, value in properties.items():
        SubElement(listed, "property", name=plain(name), value=plain(value))
    if stage.not_judged:
        case = SubElement(suite, "testcase", classname=_classname(stage), name="not judged")
        SubElement(case, "skipped", message=plain(stage.not_judged))
    elif not stage.checks:
        case = SubElement(suite, "testcase", classname=_classname(stage), name="has checks")
        _fail(case, "nothing was checked", "empty stage",
              f"the stage {stage.name} has no check, so it did not pass")
    seen: Counter[str] = Counter()
    for check in stage.checks:
        # Readers join cases of one name: a place is judged on its own inputs and in the chain.
        name = check.place + (f" ({judged_on(check)})" if judged_on(check) else "")
        seen[name] += 1
        _case(suite, stage, check, name if seen[name] == 1 else f"{name} #{seen[name]}", policies)
    if stage.notes:
        SubElement(suite, "system-out").text = "\n".join(plain(note) for note in stage.notes)


def as_junit(report: Report, policies: Policies) -> bytes:
    stages = list(report.stages) if report.judged else [
        *report.stages, Stage("report", "no stage was judged")]
    root = Element("testsuites", name="CNTK against PyTorch", time=f"{report.seconds:.3f}")
    properties = _properties(report)
    for stage in stages:
        _suite(root, stage, properties, policies)
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ElementTree.indent(root, " ")
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
    return text


def write_junit(report: Report, policies: Policies, path: Path) -> None:
    """Raises ReportError: it cannot be written."""
    write(path, as_junit(report, policies))
