"""The minibatches: which images, in which order, with which colours and scaling."""
import itertools

from parity.judge import judgements
from parity.judge.policies import EXACT
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, compared_bits
from parity.stages.definition import Definition, array_case, only


def judge(stage: Stage, captures: Captures) -> None:
    stage.checks += compared_bits(captures.cntk, captures.port, "reader/probe")
    stage.checks += compared_bits(captures.cntk, captures.port, "input/reader")
    theirs, ours = (capture.facts.get("warmup_minibatches") for capture in
                    (captures.cntk, captures.port))
    stage.checks.append(same_minibatches("minibatches/of_warm_up/hashes", theirs, ours))


def same_minibatches(place: str, theirs: list[str] | None, ours: list[str] | None) -> Check:
    """By their hashes; that a side has none, or fewer, is a failure."""
    if not theirs or not ours:
        return judgements.missing(place, "one side has no hashes of its minibatches")
    wrong = [i for i, (a, b) in enumerate(itertools.zip_longest(theirs, ours), 1) if a != b]
    return judgements.within(place, len(wrong), EXACT,
                          f"the minibatches of iterations {wrong[:5]} are others")


READER = Definition(
    "reader", "the minibatches: order of the images, colour, scaling, sweep ends", "exact bits",
    judge, only("cntk", "port", arrays=("reader/probe", "input/reader")), ("seed",),
    array_case("reader/probe", "input/reader"))
