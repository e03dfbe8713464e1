"""CNTK's order on a GPU, by Triton's interpreter: the bits of the C kernels."""
import pytest
import torch

from benchmarks.gpu import exact
from torch_port import products as on_cpu

SAMPLES = 2


def differing(case, module, threads):
    theirs = exact.products_of(case, SAMPLES, on_cpu, "cpu", threads)
    return {name: exact.differing(make(), theirs[name]())
            for name, make in exact.products_of(case, SAMPLES, module, "cpu", threads).items()}


@pytest.mark.parametrize("case", exact.ODD, ids=lambda case: case.name)
def test_both_kinds_of_convolution_have_the_c_kernels_bits(gpu, case):
    assert set(differing(case, gpu[0], 1 + int(case.name[4:]) % 2).values()) == {0}


def test_a_sum_that_few_make_is_made_step_by_step_and_one_that_many_make_whole(gpu, monkeypatch):
    case, made = exact.ODD[1], []
    for name in ("one_step", "whole_sums"):
        kernel = getattr(gpu[0].kernels, name)
        monkeypatch.setattr(gpu[0].kernels, name, Seen(kernel, name, made))
    for tiles in (10 ** 9, 0):
        monkeypatch.setattr(gpu[0], "ENOUGH_TILES", tiles)
        assert set(differing(case, gpu[0], 2).values()) == {0}
    # The forward pass is of one step, so it is whole both times.
    assert made.count("one_step") >= 2 and made.count("whole_sums") >= 4


class Seen:
    """A kernel that notes its launches."""

    def __init__(self, kernel, name, made):
        self.kernel, self.name, self.made = kernel, name, made

    def __getitem__(self, grid):
        self.made.append(self.name)
        return self.kernel[grid]


@pytest.mark.parametrize("place, mistake, shows", [
    ("blocks", lambda count: [(k, min(k + 112, count)) for k in range(0, count, 112)], 1),
    ("shares", lambda samples, threads: iter([range(samples)]), 1),
    ("edges", lambda made: [made.start], 1)])
def test_another_order_shows(gpu, monkeypatch, place, mistake, shows):
    """The last block last; one thread for two; edges in the order of the middle."""
    case = exact.Case("long", 40, (11, 11), 17, (3, 3), (2, 2), (1, 0, 1, 0))
    case = exact.Case("wide", 5, (24, 24), 9, (3, 3), (1, 1), (0, 0, 0, 0)) \
        if place != "blocks" else case
    for cached in ("_forward_sums", "_phase_sums", "_weight_sums"):
        getattr(gpu[0], cached).cache_clear()
    if place == "edges":
        monkeypatch.setattr(gpu[2], "regions", lambda shape: iter(()))
    else:
        monkeypatch.setattr(gpu[0], place, mistake)
    found = differing(case, gpu[0], 2)
    for cached in ("_forward_sums", "_phase_sums", "_weight_sums"):
        getattr(gpu[0], cached).cache_clear()
    assert sum(count > 0 for count in found.values()) >= shows, found


def test_an_array_too_large_for_the_places_is_told(gpu):
    import numpy as np
    with pytest.raises(ValueError, match=r"2\*\*31 values or more: take a smaller minibatch"):
        gpu[0].on(torch.device("cpu"), np.array([2 ** 31]))


def test_the_cases_are_of_both_kinds_and_of_the_article():
    from captures.article import DCGAN
    layers = list(exact.of_layers(DCGAN))
    assert len(layers) == 14 and len(exact.ODD) >= 10
    assert layers[1].operations(16) == 2 * 16 * 4 * 4 * 1024 * 512 * 25
