"""The plans of the evidence: small ones, and the networks that most of them are of.

A network of the article's takes seconds for a pass and twenty for a capture, and there are hundreds
of captures to be made. So most are of a narrow one: the same layers with the same names, sizes and
geometry, of an eighth of the channels. What is lost by that is measured, not assumed: a part of the
list is run with the article's networks too, and has to be named alike.
"""
from pathlib import Path

from captures.narrow import narrow
from captures.plan import Plan

ITERATIONS = 20  # of the training from the seed


def plan_of(map_file: Path, whole: bool = False, **values: int) -> Plan:
    """Small, and trained a little: an untrained normalisation divides by the root of 0. whole: of
    the article's own networks, without a training from the seed."""
    made = Plan.make(map_file, **{
        "minibatch_size": 2, "warmup_iterations": 3, "twin_iterations": 0 if whole else ITERATIONS,
        "reruns": 0, "score_images": 2, **values})
    return made if whole else made.of(narrow())
