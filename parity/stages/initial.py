"""What is drawn from the seed: the same bits on both sides, and of the networks' normal
distribution on either."""
import math

import numpy as np
from scipy import stats

from parity.judge import judgements
from parity.judge.policies import CHANCE, KOLMOGOROV_SMIRNOV, MEAN, STANDARD_DEVIATION
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, pairs
from parity.stages.definition import Definition, array_case, only


def judge(stage: Stage, captures: Captures) -> None:
    for pair in pairs(captures.cntk, captures.port, "initial"):
        if isinstance(pair, Check):
            stage.checks.append(pair)
            continue
        name, theirs, ours = pair
        check = judgements.same_bits(name, ours, theirs)
        stage.checks.append(check)
        if name.endswith("/weight"):
            found = moments(ours)
            check.metrics.update(found)
            drawn = captures.spec.deviation
            stage.checks += distribution(f"{name}_cntk", theirs, drawn,
                                         found if check.passed else moments(theirs))
            stage.checks += distribution(f"{name}_port", ours, drawn, found)
    for entry in captures.port.facts.get("initial_ledger", []):
        stage.notes.append(f"{entry[0]}: seed {entry[1]}, {entry[3]:,} numbers drawn, sha256 "
                           f"{entry[4][:16]}...")


def moments(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, skewness and excess kurtosis of a layer's weights."""
    z = np.ravel(values).astype(np.float64)
    n, mean = z.size, float(z.mean())
    z -= mean
    squares = z * z
    second = float(squares.sum()) / n
    deviation = math.sqrt(second) or 1.0
    return {"mean": mean, "standard_deviation": math.sqrt(second * n / max(n - 1, 1)),
            "skewness": float(np.dot(squares, z)) / n / deviation ** 3,
            "excess_kurtosis": float(np.dot(squares, squares)) / n / deviation ** 4 - 3}


KS_SAMPLE = 200_000


def distribution(place: str, values: np.ndarray, drawn: float, found: dict[str, float]
                 ) -> list[Check]:
    """Mean, standard deviation (``found``, of ``moments``) and shape against normal(0, drawn)."""
    n, z = np.size(values), float(stats.norm.ppf(1 - CHANCE.value / 2))
    deviation, mean = found["standard_deviation"], found["mean"]
    few = np.ravel(values)[:KS_SAMPLE].astype(np.float64)
    distance = float(stats.kstest(few, "norm", args=(0, drawn)).statistic)
    critical = float(stats.kstwobign.ppf(1 - CHANCE.value)) / math.sqrt(few.size)
    width = drawn * z / math.sqrt(2 * (n - 1))
    return [
        judgements.within(place + "_deviation", abs(deviation - drawn) / width,
                       STANDARD_DEVIATION,
                       f"the standard deviation is {deviation:.6g}, not {drawn} +- {width:.2g}",
                       figures={"standard_deviation": deviation, "interval": width}),
        judgements.within(place + "_mean", abs(mean) / (drawn * z / math.sqrt(n)), MEAN,
                       f"the mean is {mean:.3g}", figures={"mean": mean}),
        judgements.within(place + "_shape", distance / critical, KOLMOGOROV_SMIRNOV,
                       f"the Kolmogorov-Smirnov distance from normal(0, {drawn}) is {distance:.4g}",
                       figures={"kolmogorov_smirnov": distance}),
    ]


INITIAL = Definition(
    "initial", "what CNTK draws as initial weights against what the port draws",
    "exact bits; and moments, Kolmogorov-Smirnov", judge, only("cntk", "port", arrays=("initial",)),
    ("seed",), array_case("initial"))
