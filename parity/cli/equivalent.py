"""``parity equivalent A.json,B.json C.json,D.json``: are two sets of runs' scores the same?"""
import json
from pathlib import Path
from typing import Annotated

import typer

from captures.process import AGREE, DIFFER
from parity.cli.options import Quiet, console_of, counting
from scores import agreement
from scores.errors import ScoreError


def command(
    first: Annotated[str, typer.Argument(metavar="A,B,...", show_default=False, help=(
        "score.json of each run of one side, as `bin/parity score` wrote them"))] = "",
    second: Annotated[str, typer.Argument(metavar="C,D,...", show_default=False, help=(
        "score.json of each run of the other side"))] = "",
    margin: Annotated[float, typer.Option(min=0, help=(
        "the difference that still counts as the same, as a part of the score"))
        ] = agreement.MARGIN,
    rates: Annotated[bool, typer.Option("--rates", show_default="off", help=(
        "the test's own error rates, from 200 simulated pairs, instead"))] = False,
    quiet: Quiet = False,
) -> int:
    """Exit codes: 0 equivalent, 1 different, 2 cannot tell (or bad input)."""
    console = console_of(quiet)
    if rates:
        with counting(console, "pairs", 400) as told:
            found = agreement.error_rates(told=told)
        for what, rate in found.items():
            console.print(f"{what}: {rate:.1%} of 200 (stated: at most 5%)", highlight=False)
        return AGREE
    sides = [[_score(Path(file)) for file in side.split(",") if file] for side in (first, second)]
    setups = {(pictures, by) for side in sides for _, pictures, by in side}
    if len(setups) > 1:
        raise ScoreError("the scores are of different numbers of pictures or by different "
                         "classifiers: " + "; ".join(f"{n} by {by}" for n, by in sorted(setups)))
    ours, theirs = ([value for value, _, _ in side] for side in sides)
    made = agreement.of_runs(ours, theirs, next(iter(setups))[0] if setups else 0, margin)
    console.print(str(made), highlight=False)
    if made.verdict == agreement.CANNOT_TELL:
        raise ScoreError("it cannot be told with this many: give more runs of either side")
    return AGREE if made.verdict == agreement.EQUIVALENT else DIFFER


def _score(path: Path) -> tuple[float, int, str]:
    """The score of all pictures as one split, how many they were, and by what."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        score = found["score"]
        return (float(score["one_split"]), int(score["pictures"]),
                f"{found['classifier']}, {found['weights']}")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ScoreError(f"{path} is no score.json of `bin/parity score` ({error}): give what it "
                         "wrote") from error
