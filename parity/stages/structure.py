"""Layers, shapes, parameter counts and sharing, against the networks' table."""
from parity.judge import judgements
from parity.judge.policies import STRUCTURE as POLICY
from parity.judge.results import Stage
from parity.stages.common import Captures
from parity.stages.definition import Definition, only


def judge(stage: Stage, captures: Captures) -> None:
    spec = captures.spec
    facts = {"CNTK": captures.cntk.facts.get("parameters"),
             "the port": captures.port.facts.get("parameters")}
    theirs, ours = captures.cntk.names("initial"), captures.port.names("initial")
    for name in [*theirs, *(name for name in ours if name not in set(theirs))]:
        a, b = (capture.shape(f"initial/{name}") if f"initial/{name}" in capture else None
                for capture in (captures.cntk, captures.port))
        stage.checks.append(judgements.within(
            name, 0 if a == b else 1, POLICY,
            f"{name} is {a or 'not there'} in CNTK, {b or 'not there'} in the port"))
    for who, found in facts.items():
        if found is None:
            stage.checks.append(judgements.missing("layers", f"{who} gave no layer table"))
            continue
        shapes = {(branch, layer): tuple(shape) for branch, layer, shape in found["layers"]}
        for branch in spec.branches:
            for layer in spec.network(branch.name).layers:
                if layer.weight:
                    got = shapes.get((branch.name, layer.name))
                    stage.checks.append(judgements.within(
                        f"{branch.name}/{layer.name}/shape", 0 if got == layer.output else 1,
                        POLICY, f"{who}: the output is {got}, the table of {spec.name} says "
                                f"{layer.output}"))
        for network in spec.networks:
            count = found["counts"].get(network.name, 0)
            stage.checks.append(judgements.within(
                f"{network.name}/parameters/count", abs(count - network.size), POLICY,
                f"{who}: {count:,} parameters, the layers of {spec.name} have {network.size:,}"))
        own = (found["critics_parameters"] - found["shared_parameters"]
               + found["fake_branch_parameters_of_its_own"])
        stage.checks.append(judgements.within(
            f"{spec.fake}/parameters/of_its_own", own, POLICY,
            f"{who}: {own} parameters are not shared between the real and the fake branch"))
        own = found["critics_statistics"] - found["shared_statistics"]
        stage.checks.append(judgements.within(
            f"{spec.fake}/statistics/of_its_own", own, POLICY,
            f"{who}: {own} running statistics are not shared between the two branches"))


STRUCTURE = Definition(
    "structure", "layers, shapes, parameter counts and sharing, against the networks' table",
    "exact, against the table", judge, only("cntk", "port", arrays=("initial",)), ("seed",))
