"""Whether every capture is whole: a port that stops, is killed or leaves something out fails here,
behind what was found wrong in what it had."""
from parity.judge import judgements
from parity.judge.results import Stage
from parity.stages.common import WHO, Captures
from parity.stages.definition import Definition


def judge(stage: Stage, captures: Captures) -> None:
    for role in WHO:
        reason = fault(captures, role)
        if reason:
            stage.checks.append(judgements.missing(f"{role}/capture/whole", reason))
        elif captures.of(role) is not None:
            stage.checks.append(judgements.there(f"{role}/capture/whole"))
    if not captures.judged and all(check.passed for check in stage.checks):
        stage.checks, stage.not_judged = [], "no other stage could be judged"


def fault(captures: Captures, role: str) -> str:
    """What that side was asked for and did not give; "" if nothing."""
    capture, absent = captures.of(role), captures.absent.get(role)
    if absent is not None and absent.fault:
        return absent.reason
    if capture is not None and capture.facts.get("stopped"):
        return f"{WHO[role]} stopped: {capture.facts['stopped']}"
    return next((lack.reason for lack in captures.lacks.values()
                 if lack.role == role and lack.fault), "")


WHOLE = Definition(
    "whole", "nothing stopped on its way, nothing is missing that was asked for", "exact", judge,
    {})
