"""The probes' inputs reach the edges that they are made for; and what a ledger says."""
import numpy as np
import pytest

from captures import movement, observe
from captures import probes as probe_inputs
from captures.plan import Plan
from parity.judge.policies import FEW_ROUNDINGS, STEP_SCALE, STEP_SCALE_NOISE


@pytest.fixture
def plan(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.bmp").write_bytes(b"P5 1 1 255\n%c" % i)
    (tmp_path / "map.txt").write_text("".join(f".../{i}.bmp\t0\n" for i in range(20)))
    return Plan.make(tmp_path / "map.txt", seed=5, minibatch_size=4)


def test_gradients_are_clipped_often_and_not_always(plan):
    """The clipping threshold is N per sample, so N * N on the sum."""
    _, gradients = probe_inputs.optimizer_probe(plan)
    clipped = {name: float(np.mean(np.abs(g) > plan.minibatch_size ** 2))
               for name, g in gradients.items()}
    assert 0.5 < clipped["kernel"] < 1 and clipped["scalar"] > 0
    assert clipped["matrix"] < 0.01 and clipped["tiny"] == 0
    assert not gradients["sleeper"][3:].any() and gradients["sleeper"][:3].all()


def test_the_optimizers_inputs_come_from_the_seed(plan):
    once, again = probe_inputs.optimizer_probe(plan), probe_inputs.optimizer_probe(plan)
    other = probe_inputs.optimizer_probe(plan.with_values(seed=6))
    for name, shape, _ in probe_inputs.OPTIMIZER_PARAMETERS:
        assert once[0][name].shape == shape
        assert once[1][name].shape == (probe_inputs.OPTIMIZER_STEPS, *shape)
        for kind in (0, 1):
            assert once[kind][name].dtype == np.float32
            assert np.array_equal(once[kind][name], again[kind][name])
            assert not np.array_equal(once[kind][name], other[kind][name])


def test_logits_reach_where_the_sigmoid_saturates():
    x = probe_inputs.logits_probe()
    assert x.shape == (2463,) and x.dtype == np.float32
    saturated = 1 / (1 + np.exp(-x[np.abs(x) < 80])) == 1
    assert saturated.any() and not saturated.all()
    assert np.signbit(x[x == 0]).any() and not np.signbit(x[x == 0]).all()  # 0 and -0


def test_logarithms_reach_where_log_is_clamped():
    z = probe_inputs.logarithms_probe()
    assert z.dtype == np.float32 and (z < 0).any() and (z == 0).any() and np.isfinite(z).all()
    below, above = z[(z > 0) & (z < 1e-37)], z[z >= 1e-37]
    assert len(below) > 50 and len(above) > 1000
    assert (below < np.finfo(np.float32).tiny).any()  # subnormal ones too


def test_the_readers_probe_crosses_the_end_of_a_sweep(plan, tmp_path):
    folder = tmp_path / "probe"
    folder.mkdir()
    with open(probe_inputs.reader_probe(plan, str(folder))) as file:
        lines = file.read().splitlines()
    assert lines == [f"{tmp_path}/{i}.bmp\t0" for i in range(13)]
    read = probe_inputs.READER_MINIBATCHES * plan.minibatch_size
    assert read > 2 * len(lines) and len(lines) % plan.minibatch_size


def test_one_ulp():
    values = np.random.RandomState(0).normal(size=(50, 40)).astype(np.float32)
    values[0] = 0
    moved = observe.moved_by_one_ulp(values, 1)
    steps = moved.view(np.int32).astype(int) - values.view(np.int32)
    assert moved.dtype == np.float32 and np.array_equal(np.abs(steps), values != 0)
    assert 0.4 < np.mean(moved[1:] > values[1:]) < 0.6
    assert not np.array_equal(moved, observe.moved_by_one_ulp(values, 2))


def test_sampled():
    array = np.arange(1000.0).reshape(10, 100)
    assert len(observe.sampled(array)) == 256
    assert np.array_equal(observe.sampled(array * 2), 2 * observe.sampled(array))  # the same places
    assert np.array_equal(observe.sampled(np.arange(5.0)), np.arange(5.0))


def values(**changes):
    made = {"discriminator/conv1/weight": np.float32([1, 2]),
            "discriminator/bn2/running_mean": np.float32([0]),
            "discriminator/bn2/sample_count": np.array(12), "generator/conv1/weight":
            np.float32([3]), "generator/bn1/sample_count": np.array(8)}
    made.update({name.replace("__", "/"): value for name, value in changes.items()})
    return made


def test_ledger():
    d = values(discriminator__conv1__weight=np.float32([1, 3]),
               discriminator__bn2__sample_count=np.array(20),
               generator__bn1__sample_count=np.array(12))
    g = {**d, "generator/conv1/weight": np.float32([4]), "generator/bn1/sample_count":
         np.array(16)}
    assert observe.ledger([values(), d, g]) == [
        ["d_step", "discriminator/bn2/sample_count", 8],
        ["d_step", "discriminator/conv1/weight", "changed"],
        ["d_step", "generator/bn1/sample_count", 4],
        ["g_step", "generator/bn1/sample_count", 4],
        ["g_step", "generator/conv1/weight", "changed"]]
    assert observe.ledger([values()] * 3) == []


@pytest.mark.parametrize("name, other", [
    ("discriminator__bn2__running_mean", np.float32([-0.0])),  # other bits, though equal
    ("discriminator__conv1__weight", np.nextafter(np.float32([1, 2]), np.float32(9))),
    ("discriminator__bn2__sample_count", np.array(13)),
])
def test_changed_means_other_bits(name, other):
    assert observe.changed(values(), values(**{name: other})) == [name.replace("__", "/")]
    assert observe.changed(values(), values()) == []


def test_of_step():
    """What a step of the discriminator may move: itself, and the other's statistics."""
    assert [name for name, _ in observe.of_step(values(), "discriminator")] == [
        "discriminator/conv1/weight", "discriminator/bn2/running_mean",
        "discriminator/bn2/sample_count", "generator/bn1/sample_count"]


# ----------------------------------------------------------------- where an iteration took an array


def moved(shape=(16, 9), seed=0):
    """(before, the reference's behind the iteration, the same with rounding)."""
    random = np.random.RandomState(seed)
    before = random.normal(0, 0.02, shape)
    behind = before + random.normal(0, 2e-4, shape)
    return before, behind, behind + random.normal(0, 1e-9, shape)


def columns(ours, theirs, before):
    return dict(zip(observe.APART, observe.apart(ours, theirs, before), strict=True))


def test_rounding_has_no_scale():
    before, theirs, ours = moved()
    made = columns(ours, theirs, before)
    assert made["difference"] < 2e-9 and abs(made["scale"]) < 6 * made["scale_noise"]
    assert abs(made["part_scale"]) < 1e-4


@pytest.mark.parametrize("index, part", [(np.s_[5], 5), (np.s_[:, 3], 1003)])
def test_the_filter_that_goes_farther_is_named(index, part):
    before, theirs, ours = moved()
    ours[index] += 0.01 * (theirs - before)[index]
    made = columns(ours, theirs, before)
    assert made["part"] == part and made["part_scale"] == pytest.approx(0.01, rel=1e-3)
    assert made["part_scale"] > 500 * made["part_noise"]


def test_a_kink_does_not_hide_a_filter_that_is_scaled():
    """It has the larger scale, and is not sure of it."""
    before, theirs, ours = moved((16, 90))
    movement = theirs - before
    ours[5] += 0.004 * movement[5]
    ours[9] += 0.01 * movement[9] + np.random.RandomState(3).normal(0, 1e-5, 90)
    made = columns(ours, theirs, before)
    assert made["part"] == 5 and made["part_scale"] == pytest.approx(0.004, rel=1e-2)


def test_parts_are_chosen_as_they_are_judged():
    assert STEP_SCALE.value / STEP_SCALE_NOISE.value == observe.OUT_OF_NOISE


def test_a_rate_scales_all_of_an_array():
    before, theirs, ours = moved()
    made = columns(ours - 0.01 * (theirs - before), theirs, before)
    assert made["scale"] == pytest.approx(-0.01, rel=1e-3)
    assert -made["scale"] > 500 * made["scale_noise"]


def test_few_values_have_no_scale():
    one = np.array([1.5])
    assert columns(one * 1.1, one, one * 0)["scale_noise"] == 0
    assert columns(one * 1.1, one, one * 0)["scale"] == 0
    nothing = columns(*(np.zeros((0,)),) * 3)
    assert nothing["difference"] == 0 and nothing["largest"] == 0
    still = columns(*moved()[:1] * 3)
    assert still["movement"] == 0 and still["scale"] == 0 and still["part_scale"] == 0


@pytest.mark.parametrize("unit_gain", [False, True])
@pytest.mark.parametrize("change, wrong", [
    ({}, ()), ({"rate": 1.01}, ("weight",)), ({"gradient": 1.01}, ("v",)),
    ({"squared": 1.0001}, ("v",)), ({"epsilon": 1e-6}, ("weight",))])
def test_the_weight_and_v_that_go_with_an_updates_m(unit_gain, change, wrong):
    """Twenty updates; the last is another. "gradient": of m alone; "squared": of v alone."""
    random = np.random.RandomState(0)
    state = {"d/conv1/weight": random.normal(0, 0.02, (7, 30)).astype(np.float32),
             "d/conv1/weight_m": np.zeros((7, 30), np.float32),
             "d/conv1/weight_v": np.zeros((7, 30), np.float32)}
    names = list(state)
    for count in range(1, 21):
        gradient = random.normal(0, 1e-3, (7, 30)).astype(np.float32)
        after = movement.update(movement.Moments(*state.values()), gradient, count, 2,
                                unit_gain).after
        last = dict(zip(names, (np.float32(one) for one in after), strict=True))
        if count < 20:
            state = last
    w, m, v = names
    if "rate" in change:
        last[w] = np.float32(state[w] + (last[w] - np.float64(state[w])) * change["rate"])
    if "gradient" in change or "squared" in change:
        which = "m" if "gradient" in change else "v"
        other = movement.update(
            movement.Moments(*state.values()), gradient * np.sqrt(change.get("squared", 1.0))
            * change.get("gradient", 1.0), 20, 2, unit_gain).after
        last[f"{w}_{which}"] = np.float32(getattr(other, which))
        one = movement.constants(20, 2, unit_gain)
        last[w] = np.float32(state[w] - last[m] * one.rate / (
            np.sqrt(np.float64(last[v])) + movement.EPSILON))
    if "epsilon" in change:
        one = movement.constants(20, 2, unit_gain)
        last[w] = np.float32(state[w] - last[m] * one.rate / (
            np.sqrt(np.float64(last[v])) + change["epsilon"]))
    found = movement.each_consistent(state, {**last, "d/learner/minibatches": np.array(20)}, 2,
                                     unit_gain)
    assert set(found) == {w, v}
    limit = FEW_ROUNDINGS.value
    assert (found[w] > limit, found[v] > limit) == ("weight" in wrong, "v" in wrong), found


def test_a_state_without_m_or_v_or_counter_is_not_asked():
    state = {"d/conv1/weight": np.ones(3, np.float32)}
    assert movement.each_consistent(state, state, 2, False) == {}
