"""One D step and one G step: all that they move; and the optimizers alone on CNTK's gradients."""
import numpy as np

from parity.judge import judgements
from parity.judge.results import Check, Stage
from parity.stages.common import Captures, array_or_failure, arrays_or_failure, pairs
from parity.stages.definition import Definition, array_case, only
from parity.stages.layers import FEW
from parity.stages.rectifiers import coarse, kinks, loosened, saturation


def judge(stage: Stage, captures: Captures) -> None:
    spec = captures.spec
    for which in ("d", "g"):
        stage.checks += optimizer_alone(captures, f"step/0001/after_{which}",
                                        spec.learns(which).name)
    count = kinks(captures, "forward/training", (spec.real, spec.fake))
    count += kinks(captures, "forward/g_step", (spec.maker.name, spec.fake))
    grain = max(saturation(captures, "forward/training", (spec.real, spec.fake)),
                saturation(captures, "forward/g_step", (spec.fake,)))
    count += coarse(grain)
    samples = captures.cntk.manifest["plan"]["minibatch_size"]
    for which in ("d", "g"):
        prefix = f"step/0001/after_{which}"
        for pair in pairs(captures.cntk, captures.port, prefix):
            if isinstance(pair, Check):
                stage.checks.append(pair)
                continue
            name, theirs, ours = pair
            name = f"after_{which}/{name}"
            if theirs.dtype.kind == "i":
                stage.checks.append(judgements.same_bits(name, ours, theirs, local=True))
                continue
            oracle = array_or_failure(captures.oracle, f"{prefix}/{pair[0]}")
            if isinstance(oracle, Check):
                stage.checks.append(oracle)
                continue
            if not theirs.shape == ours.shape == oracle.shape:
                odd = ours if ours.shape != theirs.shape else oracle
                stage.checks.append(judgements.other_shape(name, odd, theirs))
                continue
            few = samples if np.size(theirs) <= FEW * samples else None
            statistic = "/running_" in name
            # In float64 nothing is rounded to float32, 1 - beta2 neither: what that moves is the
            # same on both sides, so the formula's own distance says nothing here.
            stage.checks += judgements.nearness(name, ours, theirs, oracle, captures.onednn, False,
                                             count if not statistic else 0, few,
                                             1.0 if statistic else loosened(grain))[
                                                 0 if statistic else 1:]


def optimizer_alone(captures: Captures, after: str, network: str) -> list[Check]:
    """The port's optimizer on CNTK's gradients: all that the learner of ``network`` moves."""
    moved = [name for name in captures.cntk.names(after) if name.startswith(f"{network}/")
             and "/running_" not in name and not name.endswith("/sample_count")]
    extra = [name for name in captures.port.names(f"local/{after}") if name not in set(moved)]
    checks = []
    for name in [*moved, *extra]:
        place = f"{after.removeprefix('step/0001/')}/{name}"
        found = arrays_or_failure(place, (captures.port, f"local/{after}/{name}"),
                                  (captures.cntk, f"{after}/{name}"))
        checks.append(found if isinstance(found, Check) else
                      judgements.same_bits(place, found[0], found[1], local=True))
    return checks


STEP = Definition(
    "step", "one D step, one G step: parameters, m, v, counter, running statistics",
    "exact on the same gradients; error ratio in the chain", judge,
    only("cntk", "port", "oracle", arrays=("step/0001",)), ("training", "generator", "steps"),
    array_case("step/0001"))
