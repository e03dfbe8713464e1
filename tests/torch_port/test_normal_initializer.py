"""The port's initial weights against real CNTK's, bit for bit; and each check made to fail."""
import hashlib
import json
from dataclasses import asdict
from functools import cache

import numpy as np
import pytest
import torch

from captures.article import DCGAN
from torch_port import native
from torch_port.mersenne import Mersenne64
from torch_port.normal_initializer import (
    LedgerEntry,
    SeedCounter,
    checked_seed,
    draw_initial_weights,
    draw_with_ledger,
    fill,
    normal,
    seeds_for,
)

PROBE = "initial_weights.py"
CREATION_ORDER = DCGAN.creation_order
NAMES = list(CREATION_ORDER)
BASES = (7, 12345)
SIGMA = float(np.float32(0.02))


def real_networks(cntk, base):
    """What CNTK drew for the full networks, and the prefix of its names; base 0 gives no seed."""
    if base == 0:
        return cntk.run(PROBE, "article"), "article"
    return cntk.run(PROBE, "explicit", json.dumps(CREATION_ORDER), *map(str, BASES)), str(base)


def differing(weights, real, prefix):
    """Name to count of the values seen to differ, for each layer that is not CNTK's bit for bit.

    Every layer is compared whole, by its hash. The count is over the values that were kept.
    """
    found = {}
    for name, ours in weights.items():
        theirs = real[f"{prefix}/first/{name}"]
        count = int((ours.ravel()[:theirs.size] != theirs).sum())
        same = hashlib.sha256(np.ascontiguousarray(ours).data).hexdigest()
        if same != str(real[f"{prefix}/sha256/{name}"]):
            found[name] = count
    return found


@cache
def ours(base):
    return draw_with_ledger(CREATION_ORDER, seeds_for(base, len(CREATION_ORDER)))


@pytest.mark.parametrize("base", [0, *BASES])
def test_every_layer_of_both_full_networks_bit_for_bit(cntk, base):
    real, prefix = real_networks(cntk, base)
    weights, ledger = ours(base)
    assert [name.split("/sha256/")[1] for name in real if name.startswith(prefix + "/sha256/")] \
        == NAMES
    for name, values in weights.items():
        assert values.dtype == np.float32
        assert values.shape == tuple(real[f"{prefix}/shape/{name}"])
    assert differing(weights, real, prefix) == {}
    assert sum(values.size for values in weights.values()) == 25_402_560
    whole = [name for name in NAMES if f"{prefix}/whole/{name}" in real]
    assert len(whole) == 2
    for name in whole:
        np.testing.assert_array_equal(weights[name], real[f"{prefix}/whole/{name}"], strict=True)
    assert [entry.sha256 for entry in ledger] == [str(real[f"{prefix}/sha256/{n}"]) for n in NAMES]


# --- the same check with a mistake planted: it has to find each of them

NEWER_EXPONENTIAL = """
/* The exponential distribution of Boost from 2016 on: a ziggurat of 256 layers. */
static double newer_exponential(Mersenne64 *m) {
    static double x[257], y[257];
    const double edge = 7.6971174701310497140, area = 0.0039496598225815571993;
    if (x[1] == 0.0) {
        x[0] = area / exp(-edge); x[1] = edge; y[1] = exp(-edge); y[256] = 1.0;
        for (int i = 2; i < 256; i++) { y[i] = y[i-1] + area / x[i-1]; x[i] = -log(y[i]); }
    }
    for (double shift = 0.0;;) {
        uint64_t bits = draw(m);
        unsigned i = bits & 255;
        double at = (double)(bits >> 8) * 0x1p-56 * x[i];
        if (at < x[i + 1]) return shift + at;
        if (i == 0) { shift += edge; continue; }
        if (y[i] + fraction(m) * (y[i + 1] - y[i]) < exp(-at)) return shift + at;
    }
}

/* By the inverse"""


def edited(*changes):
    """The library of the C source with each (old, new) replaced, compiled beside the real one."""
    source = native.SOURCE.read_text(encoding="ascii")
    for old, new in changes:
        assert source.count(old) == 1, f"the source holds {old!r} {source.count(old)} times"
        source = source.replace(old, new)
    return native.compiled(source)


def newer_boost():
    return edited(("\n/* By the inverse", NEWER_EXPONENTIAL),
                  ("-1.0 / rate * log(1.0 - fraction(m))", "newer_exponential(m) / rate"))


def filled(shape, seed, sigma=SIGMA, library=None):
    return fill(sigma, int(np.prod(shape)), Mersenne64(seed), library)[0].reshape(shape)


def truncated(shape, seed):
    """Only what lies within two standard deviations, as "truncated normal" initialisers do."""
    values = filled((2 * int(np.prod(shape)) + 100,), seed)
    return values[abs(values) <= 2 * SIGMA][:int(np.prod(shape))].reshape(shape)


def of_each(draw):
    """A planted mistake that changes how one layer is drawn from its seed."""
    return lambda base: {name: draw(CREATION_ORDER[name], base + i)
                         for i, name in enumerate(NAMES)}


def of_seeds(change):
    """A planted mistake in which layer gets which seed."""
    return lambda base: draw_initial_weights(CREATION_ORDER, change(base))


def one_stream(base):
    generator = Mersenne64(base)
    return {name: fill(SIGMA, int(np.prod(shape)), generator)[0].reshape(shape)
            for name, shape in CREATION_ORDER.items()}


MISTAKES = {
    "0.02 read as a variance": of_each(lambda shape, seed: normal(0.02 ** 0.5, shape, seed)),
    "sigma not rounded to float32": of_each(lambda shape, seed: filled(shape, seed, 0.02)),
    "product in float32": of_each(
        lambda shape, seed: filled(shape, seed, 1.0) * np.float32(0.02)),
    "the newer Boost's tail": of_each(
        lambda shape, seed: filled(shape, seed, library=newer_boost())),
    "filled in Fortran order": of_each(
        lambda shape, seed: filled(shape, seed).ravel().reshape(shape, order="F")),
    "sign the other way": of_each(lambda shape, seed: -filled(shape, seed)),
    "truncated normal": of_each(truncated),
    "numpy's normal": of_each(lambda shape, seed: np.random.default_rng(seed).standard_normal(
        shape, dtype=np.float32) * np.float32(0.02)),
    "one stream for all layers": one_stream,
    "all layers from one seed": of_seeds(lambda base: [base] * 14),
    "discriminator created first": of_seeds(
        lambda base: [base + i for i in (*range(7, 14), *range(7))]),
    "output side first, as `parameters` lists them": of_seeds(
        lambda base: [base + i for i in reversed(range(14))]),
    "counter starts at 1": of_seeds(lambda base: [base + 1 + i for i in range(14)]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(cntk, mistake):
    real, prefix = real_networks(cntk, 7)
    found = differing(MISTAKES[mistake](7), real, prefix)
    assert found, f"{mistake}: nothing differs"
    assert "generator/conv2/weight" in found  # half of all weights: no mistake may miss it


def test_the_bit_that_boost_loses_is_found(cntk):
    """One value of 25 million shows it, and the hash of its layer does."""
    real, prefix = real_networks(cntk, 0)
    name = "discriminator/conv6/weight"
    shape, seed = CREATION_ORDER[name], NAMES.index(name)
    repaired = filled(shape, seed, library=edited(("bits & ~LOST_BIT", "bits")))
    assert list(differing({name: repaired}, real, prefix)) == [name]
    assert (repaired != ours(0)[0][name]).sum() == 1


# --- seeds

def shapes_of(real, prefix):
    return {name: real[f"{prefix}/{name}"].shape for name in NAMES}


def unequal(real, prefix, seeds):
    """The layers of the small networks that these seeds do not give."""
    drawn = draw_initial_weights(shapes_of(real, prefix), seeds)
    return [name for name in NAMES if (drawn[name] != real[f"{prefix}/{name}"]).any()]


def test_the_counter_of_a_process_runs_in_order_of_creation(cntk):
    real = cntk.run(PROBE, "small")
    counter = SeedCounter()
    # Between the layers constants and seeded parameters were made, and D was cloned at the end.
    assert unequal(real, "counter", counter) == []
    np.testing.assert_array_equal(normal(0.02, (50,), counter.next()), real["counter/after"])
    assert unequal(real, "continued", counter) == []
    assert counter.next() == 29


def test_reset_and_fixed_seeds(cntk):
    real = cntk.run(PROBE, "small")
    assert unequal(real, "reset to 12345", SeedCounter(12345)) == []
    assert unequal(real, "reset to 12345", seeds_for(12345, 14)) == []
    assert unequal(real, "reset to 0", seeds_for(0, 14)) == []
    assert unequal(real, "fixed at 7", SeedCounter(fixed=7)) == []
    for name in NAMES:  # so all layers begin alike
        assert (real[f"fixed at 7/{name}"].ravel()[:18]
                == real[f"fixed at 7/{NAMES[0]}"].ravel()[:18]).all()


def test_creation_decides_and_not_the_first_look(cntk):
    real = cntk.run(PROBE, "small")
    first, second = (normal(0.02, (50,), seed) for seed in seeds_for(40, 2))
    np.testing.assert_array_equal(first, real["made first"])
    np.testing.assert_array_equal(second, real["made second"])
    assert (first != real["made second"]).all()


def test_two_processes_agree(cntk):
    one, other = cntk.run(PROBE, "small"), cntk.run(PROBE, "small", "again")
    assert one is not other
    assert list(one) == list(other)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], strict=True)


@pytest.mark.parametrize(("prefix", "seeds"), [
    ("counter", [2 * i for i in range(14)]),  # constants or seeded parameters counted
    ("counter", [1 + i for i in range(14)]),
    ("counter", [*range(7, 14), *range(7)]),
    ("continued", [14 + i for i in range(14)]),
    ("continued", [22 + i for i in range(14)]),  # the clone counted
    ("fixed at 7", [7 + i for i in range(14)]),
    ("reset to 12345", [0 + i for i in range(14)]),
])
def test_another_rule_for_seeds_is_found(cntk, prefix, seeds):
    assert len(unequal(cntk.run(PROBE, "small"), prefix, seeds)) >= 13


def test_the_seeds_that_cntk_takes(cntk):
    real = cntk.run(PROBE, "seeds")
    taken = {name.removeprefix("taken/"): bool(yes) for name, yes in real.items()
             if name.startswith("taken/")}
    assert list(taken.values()).count(False) == 3
    for text, yes in taken.items():
        seed = json.loads(text)
        if yes:
            np.testing.assert_array_equal(normal(0.02, (50,), seed), real[f"value/{text}"])
        else:
            with pytest.raises(ValueError, match=r"0 \.\. 2\*\*64 - 2"):
                checked_seed(seed, "the seed")


def test_the_two_numbers_that_are_no_seeds(cntk):
    real = cntk.run(PROBE, "seeds")
    assert int(real["automatic"]) == 2**64 - 3
    np.testing.assert_array_equal(real["automatic/30"], normal(0.02, (50,), 30))
    assert (real["clock/first"] != real["clock/a second later"]).any()
    with pytest.raises(ValueError, match="next seed of its counter instead; give another seed"):
        normal(0.02, (50,), 2**64 - 3)
    with pytest.raises(ValueError, match="the time of day instead; give another seed"):
        normal(0.02, (50,), 2**64 - 1)


@pytest.mark.parametrize("deviation", [1e-40, 0.02, 1.0, 3e38])
def test_other_standard_deviations(cntk, deviation):
    real = cntk.run(PROBE, "seeds")
    np.testing.assert_array_equal(normal(deviation, (50,), 3), real[f"deviation/{deviation!r}"])


# --- the pieces, without CNTK

def test_the_twister_is_the_standard_one():
    twister = Mersenne64(5489)
    np.testing.assert_array_equal(twister.outputs(9), Mersenne64(5489).outputs(9))
    assert int(twister.outputs(9990)[0]) == int(Mersenne64(5489).outputs(10)[9])
    assert int(twister.outputs(1)[0]) == 9981545732273789042  # the standard's 10000th
    assert Mersenne64(1).outputs(0).shape == (0,)


def test_the_ledger_counts_what_was_drawn():
    """After ``drawn`` outputs the generator gives the very next number of the stream."""
    longer, _ = fill(SIGMA, 100_001, Mersenne64(12345))
    (entry,) = draw_with_ledger({"w": (100_000,)}, [12345])[1]
    generator = Mersenne64(12345)
    generator.outputs(entry.drawn)
    assert fill(SIGMA, 1, generator)[0][0] == longer[-1]
    early = Mersenne64(12345)
    early.outputs(entry.drawn - 1)
    assert fill(SIGMA, 1, early)[0][0] != longer[-1]
    assert entry.drawn > 100_000


def test_the_ledger_is_json():
    _, ledger = draw_with_ledger({"a": (2, 3), "b": (4,)}, SeedCounter(5))
    back = json.loads(json.dumps([asdict(entry) for entry in ledger]))
    assert [LedgerEntry(**{**row, "shape": tuple(row["shape"])}) for row in back] == ledger
    assert [(row["name"], row["seed"], row["shape"]) for row in back] == [
        ("a", 5, [2, 3]), ("b", 6, [4])]
    assert back[0]["sha256"] == hashlib.sha256(normal(0.02, (2, 3), 5).tobytes()).hexdigest()


def test_threads_change_nothing():
    shapes = {f"w{i}": (300 * (1 + i % 3),) for i in range(12)}
    drawn = draw_initial_weights(shapes, seeds_for(3, 12))
    assert list(drawn) == list(shapes)
    for i, (name, shape) in enumerate(shapes.items()):
        np.testing.assert_array_equal(drawn[name], normal(0.02, shape, 3 + i))


@pytest.mark.parametrize(("arguments", "message"), [
    ((0.0, (2,), 1), "standard deviation of normal is 0.0"),
    ((-0.02, (2,), 1), "standard deviation of normal is -0.02"),
    ((float("nan"), (2,), 1), "standard deviation of normal is nan"),
    ((float("inf"), (2,), 1), "standard deviation of normal is inf"),
    ((1e39, (2,), 1), "float32 can hold"),
    ((1e-46, (2,), 1), "float32 can hold"),
    ((0.02, (2, 0), 1), r"shape of normal is \(2, 0\)"),
    ((0.02, (-3,), 1), r"shape of normal is \(-3,\)"),
    ((0.02, (2.5,), 1), r"shape of normal is \(2.5,\)"),
    ((0.02, (2,), -1), "seed of normal is -1, outside"),
    ((0.02, (2,), 2**64), "outside"),
    ((0.02, (2,), 1.0), "seed is a whole number"),
    ((0.02, (2,), True), "seed is a whole number"),
])
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        normal(*arguments)


def test_bad_input_to_a_whole_network_takes_no_seed():
    counter = SeedCounter()
    with pytest.raises(ValueError, match="shape of b"):
        draw_initial_weights({"a": (2,), "b": (0,)}, counter)
    assert counter.next() == 0
    with pytest.raises(ValueError, match="3 seeds for 2 parameters"):
        draw_initial_weights({"a": (2,), "b": (2,)}, [1, 2, 3])
    with pytest.raises(ValueError, match="the seed of b is -1"):
        draw_initial_weights({"a": (2,), "b": (2,)}, [1, -1])
    with pytest.raises(ValueError, match="the seed of parameter 3"):
        seeds_for(2**64 - 6, 14)
    with pytest.raises(ValueError, match="ask for 0 or more"):
        seeds_for(0, -1)
    with pytest.raises(ValueError, match="the fixed seed is -2"):
        SeedCounter(fixed=-2)
    for seed in (-1, 2**64, 0.5, True):
        with pytest.raises(ValueError, match="Mersenne64"):
            Mersenne64(seed)
    with pytest.raises(ValueError, match="ask for 0 or more"):
        Mersenne64(1).outputs(-1)


def test_without_a_compiler_the_message_says_what_to_install(tmp_path):
    source = native.SOURCE.read_text(encoding="ascii")
    with pytest.raises(native.CompilerError, match="apt-get install gcc"):
        native.compiled(source, tmp_path, compiler="no-such-compiler")
    with pytest.raises(native.CompilerError, match=r"could not compile cntk_random\.c"):
        native.compiled("int broken(", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_compiles_once_and_leaves_nothing_else(tmp_path):
    source = native.SOURCE.read_text(encoding="ascii")
    native.compiled(source, tmp_path)
    (made,) = tmp_path.iterdir()
    before = made.stat().st_mtime_ns
    native.compiled(source, tmp_path, compiler="no-such-compiler")  # not needed any more
    assert made.stat().st_mtime_ns == before
    native.compiled(source + "\n/* edited */\n", tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


# --- for the table in the docs

def default_deviations():
    """Standard deviation of each layer's weights as PyTorch's own layer draws them."""
    torch.manual_seed(0)
    found = {}
    for name, shape in CREATION_ORDER.items():
        transposed = name.startswith("generator")
        layer = (torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d)(
            shape[0] if transposed else shape[1], shape[1] if transposed else shape[0],
            shape[2], bias=False)
        assert tuple(layer.weight.shape) == shape
        found[name] = float(layer.weight.detach().double().std())
    return found


def behaviours(cntk):
    """Rows for the docs' table, each figure measured here."""
    real, _ = real_networks(cntk, 0)
    values = real["article/whole/generator/conv5/weight"]
    deviation = float(values.std(dtype=np.float64))
    torch.manual_seed(0)
    as_variance = float(torch.nn.init.normal_(
        torch.empty(values.shape), std=0.02 ** 0.5).double().std())
    ratios = {name: found / 0.02 for name, found in default_deviations().items()}
    narrow, wide = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    torch.manual_seed(4)
    from_torch = torch.nn.init.normal_(torch.empty(values.shape), std=0.02).numpy()
    unrounded = filled(values.shape, 4, 0.02) != values
    newer = np.flatnonzero((filled(values.shape, 4, library=newer_boost()) != values).ravel())
    equal_from_one_seed = sum(
        (normal(0.02, CREATION_ORDER[name], 0).ravel()[:18]
         == real[f"article/first/{name}"][:18]).all() for name in NAMES)
    fixed = cntk.run(PROBE, "small")
    alike = sum((fixed[f"fixed at 7/{name}"].ravel()[:18]
                 == fixed[f"fixed at 7/{NAMES[0]}"].ravel()[:18]).all() for name in NAMES)
    return [
        {"behaviour": "The number in C.normal(0.02)",
         "cntk": f"a standard deviation: {deviation:.4f} measured",
         "ordinary_pytorch": f"normal_(std=0.02**0.5), from the article's word \"variance\": "
                             f"{as_variance:.4f} measured",
         "off_by": f"{as_variance / deviation:.2f} times too wide"},
        {"behaviour": "Distribution where the port forgets to initialise",
         "cntk": "normal, 0.02 in every layer",
         "ordinary_pytorch": "the layer's own Kaiming uniform",
         "off_by": f"{ratios[narrow]:.2f} times as wide ({narrow.removesuffix('/weight')}) to "
                   f"{ratios[wide]:.2f} times ({wide.removesuffix('/weight')})"},
        {"behaviour": "Numbers that a seed gives",
         "cntk": "std::mt19937_64, Boost's ziggurat",
         "ordinary_pytorch": "torch.manual_seed of the same seed, normal_(std=0.02)",
         "off_by": f"{int((from_torch != values).sum()):,} of {values.size:,} values differ"},
        {"behaviour": "Seeds of the layers",
         "cntk": "one for each random parameter, from 0, in order of creation",
         "ordinary_pytorch": "one seed for the model",
         "off_by": f"{len(NAMES) - equal_from_one_seed} of {len(NAMES)} layers differ where "
                   "each is drawn from the first seed"},
        {"behaviour": "set_fixed_random_seed(7)",
         "cntk": f"every layer from seed 7: {alike} of {len(NAMES)} begin with the same numbers",
         "ordinary_pytorch": "manual_seed(7): one stream through all layers",
         "off_by": f"{alike - 1} layers repeat the first one's numbers, in PyTorch none does"},
        {"behaviour": "Precision of 0.02",
         "cntk": "rounded to float32, product in double, rounded to float32",
         "ordinary_pytorch": "0.02 kept in double",
         "off_by": f"{unrounded.mean():.1%} of the values, by their last bit"},
        {"behaviour": "Boost's normal distribution",
         "cntk": "before 2016: the tail's exponentials by the logarithm",
         "ordinary_pytorch": "a current Boost: by a ziggurat of their own",
         "off_by": f"nothing up to value {int(newer[0]):,}, then {newer.size:,} of the "
                   f"{values.size - int(newer[0]):,} that follow"},
    ]


def test_behaviours_are_as_the_docs_tell(cntk):
    rows = behaviours(cntk)
    assert all(set(row) == {"behaviour", "cntk", "ordinary_pytorch", "off_by"} for row in rows)
    assert rows[0]["off_by"].startswith("7.0")
    assert rows[2]["off_by"] == "204,800 of 204,800 values differ"
    assert rows[3]["off_by"].startswith("13 of 14")
    assert rows[4]["off_by"].startswith("13 layers")
