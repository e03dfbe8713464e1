"""Which Adam a port has: its settings, from what it made of given gradients.

An update is simulated in float64 with every combination of a few settings, on a few hundred values
of the probe; the combination that gives the port's numbers is the diagnosis, and each setting that
is not CNTK's is a mistake of its own. So several mistakes at once are found at once.

    g  <- the gradient, clipped, plus decay * w
    m  <- b1 m + u g,  v <- b2 v + (1 - b2) g^2
    w  <- w - rate * bc * m / (sqrt(v) + eps)

The rate is fitted: nothing else of an update is of its kind. A stock Adam is the same with
u = 1 - b1 and eps on the corrected root.
"""
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captures.article import LEARNING_RATE, MOMENTUM
from captures.movement import EPSILON, UNIT, VARIANCE_MOMENTUM
from parity.diagnosis.arithmetic import Floats
from parity.diagnosis.evidence import Found, nice, rms

PAGE = "docs/behaviours.md#adam"
FAR = 64.0  # times what is allowed: a rate that is a little off is not so far
CORRECTED, UNCORRECTED, DIVIDED = "corrected", "uncorrected", "divided"
ELEMENTS, NORM, TOTAL, NONE = "elements", "norm", "total norm", "none"


@dataclass(frozen=True)
class Settings:
    """rate: what a unit of m / sqrt(v) moves once the bias is corrected. b2: for a minibatch.
    epsilon: with where it is added. clip: how, with the threshold of the summed gradient.
    decay: of the weights, into the gradient; decoupled: beside it. correction: for the start.
    counts: the counter goes up with each "minibatch" or each "parameter". sleeping: "moved" or
    "left" where a gradient is 0. nesterov: looks ahead."""

    rate: float
    b1: float
    b2: float
    epsilon: float
    where: str
    clip: str
    threshold: float
    decay: float = 0.0
    decoupled: float = 0.0
    correction: bool = True
    counts: str = "minibatch"
    sleeping: str = "moved"
    nesterov: float = 0.0


def cntks(samples: int, unit_gain: bool) -> Settings:
    """CNTK's settings in the article's program. The rate holds the gain: (1 - b1) if unit_gain."""
    gain = (1 - MOMENTUM) if unit_gain else 1.0
    return Settings(LEARNING_RATE / samples * gain, MOMENTUM, VARIANCE_MOMENTUM ** samples,
                    EPSILON, UNCORRECTED, ELEMENTS, float(samples * samples))


@dataclass(frozen=True)
class Memory:
    """Of all values of all parameters, one after the other. terms: the size of what was added up
    so far, of which float32 rounds a part."""

    w: Floats
    m: Floats
    v: Floats
    count: Floats
    terms: Floats


@dataclass(frozen=True)
class Probe:
    """What an optimizer did with a few values of each parameter, one after the other.

    start: weights, m and v before. gradients: summed, of each step. after: the port's weights
    behind each. parameter: the number of the parameter that each value is of. norms: of each step,
    the whole gradient's norm of each value's parameter. total: the norm of all of them.
    """

    start: Memory
    gradients: Sequence[Floats]
    after: Sequence[Floats]
    parameter: NDArray[np.int64]
    norms: Sequence[Floats]
    total: Sequence[float]

    def asleep(self, i: int) -> NDArray[np.bool_]:
        """The values of a parameter whose whole gradient is 0."""
        still: NDArray[np.bool_] = self.norms[i] == 0
        return still


def probe_of(initial: Mapping[str, Floats], gradients: Mapping[str, Sequence[Floats]],
             after: Mapping[str, Sequence[Floats]],
             before: Mapping[str, tuple[Floats, Floats]] | None = None, count: int = 0,
             most: int = 48) -> Probe:
    """Of full arrays by the parameter's name. before: m and v; count: the updates so far."""
    names = list(initial)

    def cut(x: Floats) -> Floats:
        flat = np.ravel(x)
        return flat if flat.size <= most else flat[:: flat.size // most][:most]

    def all_of(arrays: Sequence[Floats]) -> Floats:
        return np.concatenate([cut(np.asarray(one, np.float64)) for one in arrays])

    steps = len(after[names[0]])
    w = all_of([initial[name] for name in names])
    sizes = [cut(initial[name]).size for name in names]
    whole = [[float(np.sqrt(np.square(np.asarray(gradients[name][i], np.float64)).sum()))
              for name in names] for i in range(steps)]
    zero = np.zeros(w.shape)
    m, v = (all_of([before[name][i] for name in names]) if before else zero for i in (0, 1))
    return Probe(Memory(w, m, v, np.full(w.shape, float(count)), zero),
                 [all_of([gradients[name][i] for name in names]) for i in range(steps)],
                 [all_of([after[name][i] for name in names]) for i in range(steps)],
                 np.repeat(np.arange(len(names)), sizes),
                 [np.repeat(norms, sizes) for norms in whole],
                 [float(np.sqrt(np.square(norms).sum())) for norms in whole])


def step(probe: Probe, memory: Memory, i: int, s: Settings, rounded: bool = True) -> Memory:
    """One update. rounded: 1 - b2 is float32's, as in CNTK."""
    g = probe.gradients[i]
    if s.clip == ELEMENTS:
        g = np.clip(g, -s.threshold, s.threshold)
    elif s.clip in (NORM, TOTAL):
        norm = probe.norms[i] if s.clip == NORM else np.full(g.shape, probe.total[i])
        g = g * np.minimum(1.0, s.threshold / np.maximum(norm, 1e-300))
    if s.decay:
        g = g + s.decay * memory.w
    b2 = float(np.float32(s.b2)) if rounded else s.b2
    count = memory.count + 1
    if s.counts == "parameter":
        parameters = int(probe.parameter[-1]) + 1
        count = memory.count * 0 + probe.start.count + i * parameters + probe.parameter + 1
    m, v = s.b1 * memory.m + g, b2 * memory.v + (1 - b2) * g * g
    of_m, of_v = 1 - s.b1 ** count, np.sqrt(1 - s.b2 ** count)
    if not s.correction:
        of_m = of_v = np.ones(m.shape)
    added = {UNCORRECTED: s.epsilon, CORRECTED: s.epsilon * of_v, DIVIDED: s.epsilon / of_v}
    root = (np.sqrt(v) + added[s.where]) / of_v
    moved = s.rate * m / of_m / np.where(root > 0, root, np.inf) * (1 + s.nesterov)
    w = memory.w * (1 - s.decoupled) - moved
    factor = s.rate / of_m / np.where(root > 0, root, np.inf)
    terms = memory.terms + np.abs(w) / 8 + (np.abs(s.b1 * memory.m) + np.abs(g)) * factor
    if s.sleeping == "left":
        still = probe.asleep(i)
        w, m, v = (np.where(still, old, new) for old, new in (
            (memory.w, w), (memory.m, m), (memory.v, v)))
        count = np.where(still, memory.count, count)
    return Memory(w, m, v, count, terms)


def fits(probe: Probe, s: Settings, rounded: bool = True, steps: int | None = None) -> float:
    """How far a simulation is from the port, in parts of what is allowed: float32's roundings of
    the weight and of its movement."""
    memory, worst, before = probe.start, 0.0, probe.start.w
    for i in range(min(steps or len(probe.after), len(probe.after))):
        memory = step(probe, memory, i, s, rounded)
        got = probe.after[i]
        allowed = 16 * UNIT * (memory.terms + np.abs(before) / 8) + 1e-30
        far = float(np.max(np.abs(memory.w - got) / allowed))
        if not far <= worst:
            worst = far
        if not worst <= FAR:
            break
    return math.inf if math.isnan(worst) else worst


# ------------------------------------------------------------------------------------ the search


def choices(samples: int, right: Settings) -> dict[str, list[dict[str, Any]]]:
    """For each setting what people write; the first is CNTK's."""
    n, b2 = samples, VARIANCE_MOMENTUM
    return {
        "b1": [{"b1": value} for value in (right.b1, 0.9, 0.0, 0.95, 0.5001, 0.25, 0.75, 0.99)],
        "b2": [{"b2": value} for value in dict.fromkeys(
            (right.b2, 0.999, b2, 0.9999, 0.99, 0.95, 0.9, b2 ** 16, 0.99999))],
        "epsilon": [{"epsilon": value, "where": where} for where, value in itertools.product(
            (UNCORRECTED, CORRECTED), (1e-8, 1e-8 * n, 1e-7, 1e-7 * n, 1e-6, 1e-6 * n, 1e-5,
                                       1e-5 * n, 1e-4, 1e-10, 1e-3, 1e-12, 0.0))
            ] + [{"epsilon": 1e-8, "where": DIVIDED}],
        "clip": [{"clip": how, "threshold": at} for how, at in (
            (ELEMENTS, float(n * n)), (NONE, math.inf), (ELEMENTS, float(n)),
            (NORM, float(n * n)), (NORM, float(n)), (ELEMENTS, 1.0), (NORM, 1.0),
            (ELEMENTS, 16.0), (ELEMENTS, 256.0), (ELEMENTS, 16.0 * n), (NORM, 16.0),
            (ELEMENTS, 1.0 * n), (NORM, 5.0), (NORM, 5.0 * n),
            *((how, at * f) for how in (TOTAL, ELEMENTS) for at in (0.1, 0.5, 1.0, 5.0, 10.0)
              for f in (1.0, float(n))))],
        "others": [{}, {"correction": False}, {"counts": "parameter"}, {"sleeping": "left"},
                   *({"decoupled": value} for value in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)),
                   *({"decay": value * f} for value in (1e-5, 1e-4, 1e-3, 5e-4, 1e-2)
                     for f in (1.0, float(n))), {"nesterov": 0.01}],
    }


def fitted(probe: Probe, s: Settings, rounded: bool) -> Settings:
    """With the rate that the first step of the larger parameters says."""
    before = probe.start.w
    predicted = step(probe, probe.start, 0, replace(s, decoupled=0.0), rounded).w - before
    got = probe.after[0] - before * (1 - s.decoupled)
    large = np.abs(predicted) > 1e3 * UNIT * np.abs(before)
    large &= np.abs(predicted) > 0.2 * np.abs(predicted).max(initial=0)
    if not large.any():
        return s
    ratio = float(np.median(got[large] / predicted[large]))
    return replace(s, rate=s.rate * ratio) if ratio > 0 else s


def settings_of(probe: Probe, samples: int, unit_gain: bool) -> tuple[Settings, bool] | None:
    """The settings that give the port's numbers, and whether 1 - b2 was rounded; None if none of
    those tried do. One setting at a time is changed, then two, then the usual stock Adams."""
    right = cntks(samples, unit_gain)
    table = choices(samples, right)
    for rounded, candidates in ((True, _near(right, table)), (False, _stock(right, table)),
                                (False, _near(right, table))):
        for tried in candidates:
            near = fitted(probe, tried, rounded)
            if min(fits(probe, tried, rounded, 1), fits(probe, near, rounded, 1)) > FAR:
                continue
            for s in (tried, near, *_as_written(near), *_decayed(probe, near, rounded)):
                if fits(probe, s, rounded, 2) <= 1 and fits(probe, s, rounded) <= 1:
                    return _nicely(probe, s, rounded, right), rounded
    return None


def _as_written(s: Settings) -> Iterator[Settings]:
    """With the rate as a person writes it: what was fitted carries float32's rounding."""
    for digits in (1, 2, 3, 4):
        rate = float(f"{s.rate:.{digits}g}")
        if 0 < abs(rate - s.rate) < 1e-4 * s.rate:
            yield replace(s, rate=rate)


def _decayed(probe: Probe, s: Settings, rounded: bool) -> Iterator[Settings]:
    """With the decay beside the update that the first step says, as AdamW has it: a whole factor
    times the rate, so a few digits."""
    w = probe.start.w
    for of in (s, *_as_written(s)) if not s.decoupled else ():
        left = step(probe, probe.start, 0, of, rounded).w - probe.after[0]
        decay = float((left * w).sum() / np.square(w).sum())
        for digits in (1, 2, 3):
            if decay > 1e-9:
                yield replace(of, decoupled=float(f"{decay:.{digits}g}"))


def _near(right: Settings, table: Mapping[str, list[dict[str, Any]]]) -> Iterator[Settings]:
    """One setting is another, then two."""
    yield right
    names = list(table)
    for name in names:
        for change in table[name][1:]:
            yield replace(right, **change)
    for one, other in itertools.combinations(names, 2):
        for a, b in itertools.product(table[one][1:], table[other][1:]):
            yield replace(right, **a, **b)


def _stock(right: Settings, table: Mapping[str, list[dict[str, Any]]]) -> Iterator[Settings]:
    """A stock Adam: epsilon on the corrected root, and whatever momenta and clipping."""
    for b1, b2, epsilon, clip in itertools.product(
            table["b1"][:3], table["b2"][:4], table["epsilon"], table["clip"][:5]):
        yield replace(right, **b1, **b2, **epsilon, **clip)
    for alpha, epsilon, clip in itertools.product(  # RMSprop
            (0.99, 0.9, 0.999, 0.95), table["epsilon"][:13], table["clip"][:5]):
        yield replace(right, b1=0.0, b2=alpha, correction=False, **epsilon, **clip)


def _nicely(probe: Probe, s: Settings, rounded: bool, right: Settings) -> Settings:
    """The rate as it was written, where that fits as well."""
    for value in (right.rate, *(float(f"{s.rate:.{digits}g}") for digits in (1, 2, 3))):
        if abs(value - s.rate) < 2e-3 * s.rate and fits(
                probe, replace(s, rate=value), rounded) <= 1:
            return replace(s, rate=value)
    return s


# -------------------------------------------------------------------------------- in people's words

CNTKS = "torch_port.translate.adam.CNTKAdamOfMeans(parameters, minibatch_size)"


def another(probe: Probe) -> Found | None:
    """Where no Adam gives the port's numbers: the first step of another optimizer. An Adam's first
    goes by the sign too, and its second has as many sizes as there are weights."""
    g, before, after = probe.gradients[0], probe.start.w, probe.after
    moved, large = before - after[0], np.abs(g) > 0.01 * rms(g)
    rounding = 4 * UNIT * (np.abs(before) + np.abs(moved))
    for name, of, direction in (("SGD", "summed gradient", g),
                                ("one that goes by the gradient's sign", "sign of it", np.sign(g))):
        rate = float(np.median(moved[large] / direction[large])) if large.any() else 0.0
        if rate > 0 and np.all(np.abs(moved - rate * direction)[large] <= rounding[large]
                               + 1e-3 * rate * np.abs(direction[large])) and (
                direction is g or len(after) == 1
                or len(np.unique(np.round(np.abs(after[0] - after[1])[large] / rate, 2))) <= 4):
            return Found("another-optimizer", f"its first step is {nice(rate, 3)} times the {of}: "
                         f"{name}; CNTK's is Adam", CNTKS, PAGE)
    return None


def mistakes(s: Settings, samples: int, unit_gain: bool, rounded: bool = True) -> list[Found]:
    """Each setting that is not CNTK's, with its mend; none where all are."""
    right, made = cntks(samples, unit_gain), list[Found]()

    def add(name: str, what: str, mend: str) -> None:
        made.append(Found(name, what, mend, PAGE))

    if not s.b1 and not s.correction:
        add("another-optimizer", f"it is RMSprop (lr={s.rate:g}, alpha={s.b2:g}), CNTK's is Adam",
            CNTKS)
        return made
    ratio = s.rate / right.rate
    stock_rate = right.rate / (1 - s.b1)
    # CNTK's 1 - beta2 is float32's: up to 1 % of a step, which a stock Adam has not.
    if abs(ratio - 1) > (1e-4 if rounded else 0.01):
        gain = (1 / (1 - MOMENTUM), "it is that without unit gain") if unit_gain else (
            1 - MOMENTUM, "it is unit gain's")
        known = {nice(float(samples), 3): "it is not divided by the minibatch size",
                 nice(gain[0], 3): gain[1]}
        add("learning-rate", f"a step is {nice(ratio, 4)} times CNTK's"
            + (f": {known[nice(ratio, 3)]}" if nice(ratio, 3) in known else ""),
            f"lr={stock_rate * (1 - s.b1) / (1 - right.b1):.6g} in torch.optim.Adam (lr / N / (1 - "
            "b1) without unit gain)")
    if s.b1 != right.b1:
        add("momentum", f"beta1 is {s.b1:g}, CNTK's {right.b1:g}", f"betas=({right.b1:g}, ...)")
    if s.b2 != right.b2:
        add("variance-momentum", f"beta2 is {s.b2:.10g}, CNTK's {VARIANCE_MOMENTUM:.16g} ** "
            f"{samples}", f"betas=(..., {right.b2:.12g})")
    if (s.epsilon, s.where) != (right.epsilon, right.where):
        root = {CORRECTED: "the bias-corrected root", UNCORRECTED: "the root as it is", DIVIDED:
                "the root, divided by the correction"}[s.where]
        add("adams-epsilon", f"epsilon is {s.epsilon:g} (of summed gradients), added to {root}; "
            "CNTK's is 1e-08, added to the uncorrected root",
            "torch_port.translate.adam.CNTKAdamOfMeans, which adds it there; torch.optim.Adam with "
            "whatever eps does not come to AGREE: it adds eps to the corrected root, and the "
            "correction is another in each step")
    if (s.clip, s.threshold) != (right.clip, right.threshold):
        how = {NONE: "gradients are not clipped", NORM: "gradients are shortened by their norm, "
               f"at {s.threshold:g}", TOTAL: "all gradients are shortened by their common norm, "
               f"at {s.threshold:g}", ELEMENTS: f"gradients are clipped at {s.threshold:g}"}[s.clip]
        add("clipping", f"{how}; CNTK clips each element of the sum at {right.threshold:g}",
            f"clip in the step() of the optimizer that `optimizers` gives, which is asked alone: "
            f"{CNTKS} does, or torch.nn.utils.clip_grad_value_(parameters, "
            f"{right.threshold / samples:g}) of mean gradients in a subclass's step(), or in a "
            "hook, optimizer.register_step_pre_hook; behind backward() in d_step and g_step it "
            "clips in those alone")
    if s.decay or s.decoupled:
        add("weight-decay", "weights decay, by "
            + (f"{s.decoupled:g} of themselves a step" if s.decoupled else
               f"{s.decay:g} of them in the summed gradient"), "weight_decay=0, and Adam for AdamW")
    if not s.correction:
        add("correction-missing", "the correction for the start is left out",
            "bc = sqrt(1 - b2 ** c) / (1 - b1 ** c)")
    if s.counts != right.counts:
        add("counter", "the counter goes up with each parameter", "once a minibatch")
    if s.sleeping != right.sleeping:
        add("sleeping-parameters", "a parameter whose gradient is 0 is left alone",
            "its m and v fade, and it moves on")
    if s.nesterov:
        add("nesterov", f"a step goes {s.nesterov:g} of itself farther: NAdam", "Adam for NAdam")
    return made


