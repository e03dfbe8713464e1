"""Everything that one D step and one G step change, and nothing else, as a list of events."""
from typing import Any

from parity.judge import judgements
from parity.judge.policies import LEDGER as POLICY
from parity.judge.results import Stage
from parity.stages.common import Captures
from parity.stages.definition import Definition, only


def judge(stage: Stage, captures: Captures) -> None:
    theirs, ours = ([tuple(event) for event in capture.facts.get("ledger", [])]
                    for capture in (captures.cntk, captures.port))
    if not theirs or not ours:
        stage.checks.append(judgements.missing("ledger", "one side has no ledger"))
        return
    counts_of_theirs = {event[:2]: event[2] for event in theirs}
    counts_of_ours = {event[:2]: event[2] for event in ours}
    for key in [*counts_of_theirs, *(k for k in counts_of_ours if k not in counts_of_theirs)]:
        a, b = counts_of_theirs.get(key, "unchanged"), counts_of_ours.get(key, "unchanged")
        stage.checks.append(judgements.within(
            f"{key[0]}/{key[1]}", 0 if a == b else 1, POLICY, f"CNTK: {a}, the port: {b}"))
    stage.checks.append(judgements.within("events/in/order", 0 if theirs == ours else 1, POLICY,
                                       "the two lists are not equal"))
    for who, events in summary(theirs).items():
        stage.notes.append(f"{who}: {events}")


def summary(events: list[tuple[Any, ...]]) -> dict[str, str]:
    """By step: how many arrays it changes, and the counts it adds."""
    made = {}
    for name in ("d_step", "g_step"):
        counts: dict[tuple[str, str, int], int] = {}
        arrays = 0
        for event in events:
            if event[0] != name:
                continue
            arrays += 1
            if not isinstance(event[2], str):
                network, _, quantity = event[1].split("/")
                key = (network, quantity, event[2])
                counts[key] = counts.get(key, 0) + 1
        text = ", ".join(f"{network}'s {quantity} +{amount} ({many})"
                         for (network, quantity, amount), many in counts.items())
        made[name] = f"{arrays} arrays change; {text}"
    return made


LEDGER = Definition(
    "ledger", "everything that a D step and a G step change, as events", "exact", judge,
    only("cntk", "port", facts=("ledger",)), ("steps",))
