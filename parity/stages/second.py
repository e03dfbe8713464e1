"""A second, small plan in which every option is another: so that one which is ignored shows.

The main plan is one plan: its seed may be the default that a port never read. The second has
another seed, minibatch, unit gain and data set, and narrow networks (an eighth of the channels), so
that it costs seconds. Its captures lie in the folder ``second`` of the run's; every stage that
applies judges them as it judges the others, and is one check here.
"""
from parity.judge import judgements
from parity.judge.policies import EXACT
from parity.judge.results import Check, Stage
from parity.stages import (
    initial,
    layers,
    ledger,
    probes,
    program,
    reader,
    reference,
    step,
    structure,
    twin,
    whole,
)
from parity.stages.common import Captures
from parity.stages.definition import Definition

SECOND_STAGES = (
    structure.STRUCTURE, initial.INITIAL, reader.READER, probes.OPTIMIZER, probes.NORMALISATION,
    probes.STATE, layers.EVALUATION, layers.TRAINING, layers.GRADIENT_D, layers.G_STEP,
    layers.GRADIENT_G, step.STEP, ledger.LEDGER, twin.TWIN_RUN, program.PROGRAM, whole.WHOLE)


def judge(stage: Stage, captures: Captures) -> None:
    second = captures.second
    if second is None:
        stage.not_judged = "no second plan was run: `bin/parity run` runs one for networks of " \
                           "this project's kind, with enough images"
        return
    stood_in = reference.REFERENCE(second)
    if stood_in.not_judged == reference.UNCERTIFIED:
        stage.not_judged = f"{reference.UNCERTIFIED}: the second plan needs real CNTK"
        return
    if not stood_in.not_judged:
        stage.checks.append(_summed(stood_in))
    judged = [one(second) for one in SECOND_STAGES]
    stage.checks += [_summed(made) for made in judged if made.checks]
    plan = second.plan
    stage.notes.append(
        f"seed {plan['seed']}, minibatch {plan['minibatch_size']}, unit gain {plan['unit_gain']}, "
        f"{plan['twin_iterations']} iterations, other images in another order; networks "
        f"{second.spec.name}: {sum(len(made.checks) for made in judged):,} checks.")


def _summed(made: Stage) -> Check:
    """One stage of the second plan: how many of its checks fail, and the first."""
    failed = [check for check in made.checks if not check.passed]
    place = f"second/{made.name}" + (f"/{failed[0].place}" if failed else "")
    return judgements.within(
        place, len(failed), EXACT, f"{len(failed)} of {len(made.checks)} checks of the second plan "
        f"fail, the first at {failed[0].place}: {failed[0].detail}" if failed else "")


SECOND = Definition(
    "second", "a second, small plan: another seed, minibatch, unit gain and data set",
    "as each stage does", judge, {})
