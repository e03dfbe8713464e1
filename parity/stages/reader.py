"""TODO."""
import itertools

from parity.judge import judgements
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, compared_bits


def reader(captures: Captures) -> Stage:
    stage = Stage("reader", "the minibatches: order of the images, colour, scaling, sweep ends")
    stage.checks += compared_bits(captures.cntk, captures.port, "reader/probe")
    stage.checks += compared_bits(captures.cntk, captures.port, "input/reader")
    theirs, ours = (capture.facts.get("warmup_minibatches") for capture in
                    (captures.cntk, captures.port))
    stage.checks.append(same_minibatches("minibatches/of_warm_up/hashes", theirs, ours))
    return stage


def same_minibatches(place: str, theirs: list[str] | None, ours: list[str] | None) -> Check:
    """By their hashes; that a side has none, or fewer, is a failure."""
    if not theirs or not ours:
        return judgements.missing(place, "one side has no hashes of its minibatches")
    wrong = [i for i, (a, b) in enumerate(itertools.zip_longest(theirs, ours), 1) if a != b]
    return judgements.within(place, len(wrong), "exact",
                          f"the minibatches of iterations {wrong[:5]} are others")
