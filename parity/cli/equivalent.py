"""``parity equivalent A.json,B.json C.json,D.json``: are two sets of runs' scores the same?"""
import json
from pathlib import Path
from typing import Annotated

import typer

from captures.process import AGREE, DIFFER
from parity.cli.options import Quiet, console_of, counting, text
from scores import agreement
from scores.errors import ScoreError


def command(
    first: Annotated[str, typer.Argument(metavar="A,B,...", show_default=False, help=(
        "score.json of each run of one side, as `bin/parity score` wrote them"))] = "",
    second: Annotated[str, typer.Argument(metavar="C,D,...", show_default=False, help=(
        "score.json of each run of the other side"))] = "",
    margin: Annotated[float | None, typer.Option(
        min=0, show_default=str(agreement.MARGIN), help=(
            "the difference that still counts as the same, as a part of the score"))] = None,
    rates: Annotated[bool, typer.Option("--rates", show_default="off", help=(
        "the test's own error rates, from 200 simulated pairs, instead"))] = False,
    quiet: Quiet = False,
) -> int:
    """Exit codes: 0 equivalent, 1 different, 2 cannot tell (or bad input)."""
    console = console_of(quiet)
    if rates:
        if first or second or margin is not None:
            raise ScoreError("--rates simulates its own pairs, by its own margin: leave the files "
                             "and --margin out")
        with counting(console, "pairs", 400) as told:
            found = agreement.error_rates(told=told)
        for what, rate in found.items():
            console.print(f"{what}: {rate:.1%} of 200 (stated: at most 5%)", highlight=False)
        return AGREE
    files = [[file for file in side.split(",") if file] for side in (first, second)]
    _each_once([file for side in files for file in side])
    runs = {file: _score(Path(file)) for side in files for file in side}
    setups: dict[tuple[int, str], str] = {}  # to the first file of each
    for file, (_, pictures, by) in runs.items():
        setups.setdefault((pictures, by), file)
    if len(setups) > 1:
        raise ScoreError("the scores are of different numbers of pictures or by different "
                         "classifiers: " + "; ".join(f"{file}, {n} by {by}"
                                                     for (n, by), file in sorted(setups.items())))
    ours, theirs = ([runs[file][0] for file in side] for side in files)
    made = agreement.of_runs(ours, theirs, next(iter(setups))[0] if setups else 0,
                             agreement.MARGIN if margin is None else margin)
    console.print(text(made))
    if made.verdict == agreement.CANNOT_TELL:
        raise ScoreError("it cannot be told with this many: give more runs of either side")
    return AGREE if made.verdict == agreement.EQUIVALENT else DIFFER


def _each_once(files: list[str]) -> None:
    """Raises ScoreError: a file is given twice, which is one run and no two."""
    held: dict[Path, str] = {}
    for file in files:
        whole = Path(file).resolve()
        if whole in held:
            raise ScoreError(f"{held[whole]} and {file} are one file: give each run once")
        held[whole] = file


def _score(path: Path) -> tuple[float, int, str]:
    """The score of all pictures as one split, how many they were, and by what."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        score = found["score"]
        value, pictures = float(score["one_split"]), int(score["pictures"])
        if pictures < 1:
            raise ValueError(f"of {pictures} pictures")
        return value, pictures, f"{found['classifier']}, {found['weights']}"
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ScoreError(f"{path} is no score.json of `bin/parity score` ({error}): give what it "
                         "wrote") from error
