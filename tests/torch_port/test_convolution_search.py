"""Convolutions of random small sizes against real CNTK's: where its arrays lie in memory shows."""
import pytest
import torch

from benchmarks import convolution_search
from benchmarks.convolution_search import SAMPLES
from torch_port import products, rounding

SEED, COUNT, THREADS = 3, 80, 2


@pytest.fixture(scope="module", autouse=True)
def in_cntks_order():
    before = torch.backends.mkldnn.enabled
    yield
    rounding.as_cntk_rounds()
    torch.backends.mkldnn.enabled = before


@pytest.fixture(scope="module")
def theirs(cntk):
    return cntk.run("convolution_search.py", str(SEED), str(COUNT), str(THREADS),
                    *map(str, SAMPLES))["hashes"]


def found(theirs):
    return [case for cases in convolution_search.differing(theirs, SEED, THREADS)
            for case in cases]


def test_convolutions_of_random_sizes_have_cntks_bits(theirs):
    assert theirs.shape == (COUNT, len(SAMPLES), 3) and found(theirs) == []


@pytest.mark.parametrize("mistake", [
    lambda right, n, *_: [0] * n,
    lambda right, n, threads, channels, pixels, taps, places: [
        i * channels * taps * places for i in range(n)],
    lambda right, n, threads, channels, pixels, taps, places: right(
        n, threads, channels, pixels + 1, taps, places)],
    ids=["all at a multiple of four", "each sample behind the other", "unfolded for one tap"])
def test_another_place_in_memory_shows(theirs, monkeypatch, mistake):
    of_cntk = products.where_unfolded
    monkeypatch.setattr(products, "where_unfolded", lambda *sizes: mistake(of_cntk, *sizes))
    wrong = found(theirs)
    assert wrong and all(samples > 1 for _, _, samples, _ in wrong)


def test_other_threads_show(theirs):
    assert list(convolution_search.differing(theirs, SEED, 1)) != [[]] * COUNT


def test_the_sizes_are_of_both_kinds_and_have_what_has_rules_of_its_own():
    of = convolution_search.probe()
    drawn = of.geometries(SEED, COUNT)
    assert len({geometry[:2] for geometry in drawn}) == 4
    assert sum(of.small_of(geometry) == (1, 1) for geometry in drawn) >= 10
    assert sum(tuple(geometry[6:]) == (1, 1, 1, 1) for geometry in drawn) >= 1
