"""Layers, shapes, parameter counts and sharing, against the article's table."""
from captures.article import DISCRIMINATOR_TABLE, GENERATOR_TABLE, expected_parameters
from parity.judge import judgements
from parity.judge.policies import STRUCTURE as POLICY
from parity.judge.results import Stage
from parity.stages.common import Captures
from parity.stages.definition import Definition, only


def judge(stage: Stage, captures: Captures) -> None:
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
        for branch, table in (("generator", GENERATOR_TABLE),
                              ("discriminator_real", DISCRIMINATOR_TABLE),
                              ("discriminator_fake", DISCRIMINATOR_TABLE)):
            for layer, _, channels, size in table:
                expected, got = (channels, size, size), shapes.get((branch, layer))
                stage.checks.append(judgements.within(
                    f"{branch}/{layer}/shape", 0 if got == expected else 1, POLICY,
                    f"{who}: the output is {got}, the article's table says {expected}"))
        for name in ("generator", "discriminator"):
            expected_count = expected_parameters(name)
            stage.checks.append(judgements.within(
                f"{name}/parameters/count", abs(found[name] - expected_count), POLICY,
                f"{who}: {found[name]:,} parameters, the article's layers have "
                f"{expected_count:,}"))
        own = (found["discriminator_parameters"] - found["shared_parameters"]
               + found["fake_branch_parameters_of_its_own"])
        stage.checks.append(judgements.within(
            "discriminator_fake/parameters/of_its_own", own, POLICY,
            f"{who}: {own} parameters are not shared between the real and the fake branch"))
        own = found["discriminator_statistics"] - found["shared_statistics"]
        stage.checks.append(judgements.within(
            "discriminator_fake/statistics/of_its_own", own, POLICY,
            f"{who}: {own} running statistics are not shared between the two branches"))
    stage.notes.append("The article's table prints stride 2 for the generator's first layer; the "
                       "program has stride 1. From 1 x 1 the 4 x 4 output is the same.")


STRUCTURE = Definition(
    "structure", "layers, shapes, parameter counts and sharing, against the article",
    "exact, against the article", judge, only("cntk", "port", arrays=("initial",)), ("seed",))
