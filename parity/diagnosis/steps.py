"""What may be wrong with a step: the update from a right gradient, and the running statistics."""
import math
from collections.abc import Iterator

import numpy as np

from captures.movement import UNIT
from captures.spec import Branch
from parity.diagnosis import optimizer as adam
from parity.diagnosis import statistics
from parity.diagnosis.arithmetic import Floats, wide
from parity.diagnosis.backward import learning
from parity.diagnosis.carried import Places, failed
from parity.diagnosis.evidence import SHARE, Found, bfloat16, float16, listed, nice, rms
from parity.diagnosis.walk import G_STEP, TRAINING, Pass
from parity.judge.results import Stage
from parity.stages.common import Captures

ADAM = "docs/behaviours.md#adam"
FEWEST = 16  # values of an array that one fitted number may explain


# ------------------------------------------------------------------------------------- parameters


def parameters(captures: Captures, stage: Stage, known: bool, layers: set[tuple[str, str]]
               ) -> Places:
    """known: the optimizer's settings were found wrong already, so that its movement is not asked
    again. layers: network and layer that something else explains."""
    places = failed(stage)
    for which in ("d", "g"):
        learnt = captures.spec.learns(which).name
        mine = [place.split("/", 1)[1] for place in places
                if place.startswith(f"after_{which}/{learnt}/")]
        if not mine:
            continue
        mine = [name for name in mine if tuple(name.split("/")[:2]) not in layers]
        still = [name for name in _still(captures, which, learnt)
                 if tuple(name.split("/")[:2]) not in layers]
        names = list(captures.spec.learns(which).parameters)
        if still:
            whole = len(still) == len(names)
            yield f"after_{which}/{still[0]}", Found(
                "not-updated", ("no parameter of the network moves in its own step" if whole else
                                f"{len(still)} of {len(names)} parameters do not move, "
                                f"{', '.join(still[:3])}"),
                "step the optimizer behind its own backward pass" if whole else
                "give all of network.parameters() to the optimizer", ADAM)
            if whole:
                continue
        if known:
            continue
        yield from _moved(captures, which, [name for name in names if name in mine
                                            and name not in still])


def _still(captures: Captures, which: str, learnt: str) -> list[str]:
    """Parameters that the step left where they were, though their gradient is not 0."""
    made = []
    for name in captures.spec.network(learnt).parameters:
        after, before = f"step/0001/after_{which}/{name}", f"state/{name}"
        if after in captures.port and before in captures.all_of_cntk and np.array_equal(
                captures.port[after], captures.all_of_cntk[before]):
            made.append(name)
    return made


def _moved(captures: Captures, which: str, names: list[str]) -> Places:
    """Updates that CNTK's Adam does not make of the port's own gradient."""
    clipped = list(_clipped(captures, which, names))
    if clipped:
        yield from clipped
        return
    changed: dict[str, tuple[Floats, Floats, Floats, Floats]] = {}
    for name in names:
        made = _effective(captures, which, name)
        if made is not None:
            g, effective, w, tolerance = made
            if np.any(np.abs(effective - g) > tolerance):
                changed[name] = (g, effective, w, np.broadcast_to(tolerance, g.shape))
    if not changed:
        yield from _alone(captures, which, names)
        return
    one = _of_gradients(captures, changed)
    if one is not None:
        yield f"after_{which}/{next(iter(changed))}", one
        return
    named = list(_by_settings(captures, which, names))
    if named:
        yield from named
        return
    for name, of in changed.items():
        part = _of_one(name, *of) if of[0].size >= FEWEST else None
        if part is not None:
            yield f"after_{which}/{name}", part


def _by_settings(captures: Captures, which: str, names: list[str]) -> Places:
    """The settings of an Adam that makes all of the step's updates of the port's own gradients."""
    names = _shown(captures, which, names)
    if not names:
        return
    given = int(captures.plan["minibatch_size"]), bool(captures.plan["unit_gain"])
    found = adam.settings_of(_probe(captures, which, names), *given)
    for one in adam.mistakes(found[0], *given, found[1]) if found else ():
        yield f"after_{which}/{names[0]}", one


def _shown(captures: Captures, which: str, names: list[str]) -> list[str]:
    """Those whose gradient and whose update the port shows."""
    return [name for name in names if f"step/0001/after_{which}/{name}" in captures.port
            and f"gradient/{which}/{name}" in captures.port]


def _probe(captures: Captures, which: str, names: list[str]) -> adam.Probe:
    """The step as a probe of the optimizer, from CNTK's weights and moments."""
    cntk, port = captures.all_of_cntk, captures.port
    gain = 1 - _settings(captures).b1 if captures.plan["unit_gain"] else 1.0
    return adam.probe_of(
        {name: wide(cntk[f"state/{name}"]) for name in names},
        {name: [wide(port[f"gradient/{which}/{name}"])] for name in names},
        {name: [wide(port[f"step/0001/after_{which}/{name}"])] for name in names},
        {name: (wide(cntk[f"optimizer/state/{name}_m"]) / gain,
                wide(cntk[f"optimizer/state/{name}_v"])) for name in names},
        _count(captures, names[0]))


def _clipped(captures: Captures, which: str, names: list[str]) -> Places:
    """Weights that stop at one size, several of them, where they had been larger."""
    for name in names:
        after, before = f"step/0001/after_{which}/{name}", f"state/{name}"
        if after not in captures.port or before not in captures.all_of_cntk:
            continue
        size = np.abs(captures.port[after])
        bound = float(size.max(initial=0))
        if (size == bound).sum() > 1 and 0 < bound < 0.99 * float(
                np.abs(captures.all_of_cntk[before]).max()):
            yield f"after_{which}/{name}", Found(
                "weights-clipped", f"weights are clipped to {nice(bound, 3)} behind the update",
                "take the clamp out: it is a Wasserstein GAN's", ADAM)
            return


def _settings(captures: Captures) -> adam.Settings:
    plan = captures.plan
    return adam.cntks(int(plan["minibatch_size"]), bool(plan["unit_gain"]))


def _count(captures: Captures, name: str) -> int:
    network = name.split("/", maxsplit=1)[0]
    return int(captures.all_of_cntk[f"optimizer/state/{network}/learner/minibatches"])


def _effective(captures: Captures, which: str, name: str
               ) -> tuple[Floats, Floats, Floats, Floats] | None:
    """(the port's gradient, the gradient that its update is of, the weight before, what rounding
    may make of the second)."""
    port, cntk, after = captures.port, captures.all_of_cntk, f"step/0001/after_{which}/{name}"
    wanted = [(port, f"gradient/{which}/{name}"), (cntk, f"state/{name}"),
              (cntk, f"optimizer/state/{name}_m"), (cntk, f"optimizer/state/{name}_v"),
              (port, after)]
    if any(place not in capture for capture, place in wanted):
        return None
    g, w, m, v, moved = (wide(capture[place]) for capture, place in wanted)
    if g.shape != w.shape or moved.shape != w.shape:
        return None
    s = _settings(captures)
    gain = 1 - s.b1 if captures.plan["unit_gain"] else 1.0
    if f"{after}_m" in port:
        made = wide(port[f"{after}_m"])
        effective = (made - s.b1 * m) / gain
        return g, effective, w, 8 * UNIT * (np.abs(s.b1 * m) + np.abs(made)) / gain + 1e-12 * rms(g)
    m, count = m / gain, _count(captures, name) + 1
    b2 = float(np.float32(s.b2))
    of = s.rate / (1 - s.b1 ** count) * math.sqrt(1 - s.b2 ** count)
    d = (w - moved) / of
    # (b1 m + g)^2 = d^2 (b2 v + (1 - b2) g^2), the root on the side of d.
    a, b, c = 1 - d * d * (1 - b2), s.b1 * m, np.square(s.b1 * m) - d * d * b2 * v
    with np.errstate(all="ignore"):
        root = np.sqrt(np.maximum(b * b - a * c, 0))
        effective = (-b + np.sign(d) * root) / a
    tolerance = np.abs(g) * 1e-2 + 64 * UNIT * np.abs(w) / of * np.sqrt(v + 1e-30) + 1e-9
    return g, np.where(np.isfinite(effective), effective, g), w, tolerance


def _of_gradients(captures: Captures, changed: dict[str, tuple[Floats, Floats, Floats, Floats]]
                  ) -> Found | None:
    """What was done to all gradients alike."""
    if len(changed) < 2:
        return None
    g, effective, w = (np.concatenate([np.ravel(each[i]) for each in changed.values()])
                       for i in range(3))
    apart = effective - g
    decay = float((apart * w).sum() / np.square(w).sum())
    if rms(apart - decay * w) < SHARE * rms(apart):
        return Found("weight-decay", f"{nice(decay, 3)} of the weights is added to the gradient",
                     "weight_decay=0", ADAM)
    by = float((effective * g).sum() / np.square(g).sum())
    if abs(by - 1) > 1e-4 and rms(effective - by * g) < 1e-3 * rms(g):
        return Found("gradients-shortened", f"all gradients are {nice(by)} times as long before "
                     "the update: clipped by their common norm, or scaled",
                     "torch.nn.utils.clip_grad_value_, element by element", ADAM)
    for name, to in (("bfloat16", bfloat16), ("float16", float16)):
        if rms(effective - to(g)) < SHARE * rms(apart):
            return Found("coarse-gradients", f"gradients go through {name} before the update",
                         "keep them in float32", ADAM)
    return None


def _of_one(name: str, g: Floats, effective: Floats, w: Floats, tolerance: Floats) -> Found | None:
    apart = effective - g
    if not effective.any():
        return Found("gradient-zero", f"the gradient of {name} is 0 before the update",
                     "do not zero it", ADAM)
    decay = float((apart * w).sum() / np.square(w).sum()) if w.any() else 0.0
    if w.any() and rms(apart - decay * w) < SHARE * rms(apart):
        return Found("weight-decay", f"{nice(decay, 3)} of the weights is added to the gradient",
                     "weight_decay=0", ADAM)
    by = float((effective * g).sum() / np.square(g).sum()) if g.any() else 1.0
    if rms(effective - by * g) < SHARE * rms(apart):
        return Found("gradient-scaled", f"the gradient of {name} is {nice(by)} times as large "
                     "before the update", "take the factor off", ADAM)
    if g.ndim > 1 and len(g) >= FEWEST // 2:
        bad = np.any(np.abs(apart) > tolerance, axis=tuple(range(1, g.ndim)), keepdims=False)
        if 0 < bad.sum() <= max(1, len(bad) // 4):
            which_ = np.nonzero(bad)[0]
            zero = not effective[bad].any()
            return Found("filters-changed", f"the gradient of {listed('filter', which_)} of {name} "
                         f"is {'0' if zero else 'another'} before the update",
                         "look for a mask that was left on", ADAM)
    share = rms(apart) / (rms(g) or 1.0)
    together = float((apart * g).sum()) / (np.sqrt(np.square(apart).sum() * np.square(g).sum())
                                           or 1.0)
    if share < 0.5 and abs(together) < 0.2:
        return Found("noise-in-the-gradient", f"noise of {share:.2g} of its size is added to the "
                     f"gradient of {name} before the update", "take the noise out", ADAM)
    return None


def _alone(captures: Captures, which: str, names: list[str]) -> Places:
    """The gradient is right, the update is not: one parameter's rate, or its settings."""
    s = _settings(captures)
    for name in _shown(captures, which, names):
        probe = _probe(captures, which, [name])
        if adam.fits(probe, s) <= 1:
            continue
        faster = adam.fitted(probe, s, True)
        if adam.fits(probe, faster) <= 1:
            yield f"after_{which}/{name}", Found(
                "learning-rate", f"{name} moves {nice(faster.rate / s.rate, 4)} times as far as "
                "CNTK's", "one parameter group, with one lr", ADAM)
            return
        yield from _by_settings(captures, which, [name])
        return


# ------------------------------------------------------------------------------------- the ledger


def moved_by(captures: Captures, stage: Stage) -> Places:
    """What a step moves that CNTK's does not, or leaves."""
    theirs, ours = ({(step, name) for step, name, _ in capture.facts.get("ledger", ())}
                    for capture in (captures.cntk, captures.port))
    for which in ("d", "g"):
        step = f"{which}_step"
        more = sorted(name for at, name in ours - theirs if at == step)
        less = sorted(name for at, name in theirs - ours if at == step)
        if more:
            yield f"{step}/{more[0]}", Found(
                "moved-in-the-other-step", f"the {which.upper()} step moves {more[0]} and "
                f"{len(more) - 1} more, which CNTK's leaves alone", "an optimizer for each network,"
                " with that network's parameters alone, and zero_grad() before its backward pass",
                ADAM)
        if less:
            yield f"{step}/{less[0]}", Found(
                "not-updated", f"the {which.upper()} step leaves {less[0]} and {len(less) - 1} "
                "more, which CNTK's moves", "give all of network.parameters() to its optimizer",
                ADAM)


# ------------------------------------------------------------------------------ running statistics


def running(captures: Captures, stage: Stage) -> Places:
    """Of both networks behind both steps."""
    places = [place for place in failed(stage) if "/running_" in place
              or place.endswith("/sample_count")]
    done = set()
    for place in places:
        after, layer = place.split("/", 1)[0], place.split("/", 1)[1].rpartition("/")[0]
        if (after, layer) in done:
            continue
        done.add((after, layer))
        kept = _kept(captures, after, layer)
        if kept is None:
            continue
        for one in statistics.explained(kept):
            yield place, one
        if not any(statistics.wrong(kept, quantity) for quantity in statistics.QUANTITIES) \
                and place.endswith("/sample_count"):
            yield place, Found("sample-count", "the count of samples is another; the statistics "
                               "are right", "sample_count += len(x) in every pass",
                               statistics.PAGE)


def _kept(captures: Captures, after: str, layer: str) -> statistics.Kept | None:
    spec, cntk, port = captures.spec, captures.all_of_cntk, captures.port
    network, _, name = layer.partition("/")
    which = after.rpartition("_")[2]
    one = Pass(captures, TRAINING if which == "d" else G_STEP, False)
    state = "state" if which == "d" else "step/0001/after_d"
    branches = [branch for branch in _passes(captures, which) if branch.network == network]
    before, behind, passes = {}, {}, {}
    for quantity in statistics.QUANTITIES:
        at, then = f"{state}/{layer}/{quantity}", f"step/0001/{after}/{layer}/{quantity}"
        at = at if at in cntk else f"state/{layer}/{quantity}"
        if at not in cntk or then not in port:
            return None
        before[quantity], behind[quantity] = wide(cntk[at]), wide(port[then])
    for branch in branches:
        x = one.into(branch, spec.network(network).layer(name))
        if x is None:
            return None
        called = {spec.maker.name: "latents", spec.real: "real images",
                  spec.fake: "generated images"}[branch.name]
        passes[called] = x
    count = int(cntk[f"state/{layer}/sample_count"]) if f"state/{layer}/sample_count" in cntk else 1
    return statistics.Kept(before, behind, passes, int(captures.plan["minibatch_size"]),
                           spec.time_constant, count) if passes else None


def _passes(captures: Captures, which: str) -> Iterator[Branch]:
    spec = captures.spec
    yield next(branch for branch in spec.branches if branch.name == spec.maker.name)
    for branch in learning(captures, which):
        if branch.name != spec.maker.name:
            yield branch
