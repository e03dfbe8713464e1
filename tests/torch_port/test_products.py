"""The products of random shapes, against the MKL inside CNTK's wheel; and against themselves."""
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from benchmarks import product_search
from torch_port import edges, products
from torch_port.native import CompilerError
from torch_port.native import products as native
from torch_port.threads import side_by_side

SEED, COUNT, LARGEST = 1, 450, 40


@pytest.fixture(scope="module")
def theirs(cntk):
    return cntk.run("products.py", str(SEED), str(COUNT), str(LARGEST))


def found(theirs):
    return list(product_search.differing(theirs["shapes"], theirs["hashes"]))


def test_products_of_random_shapes_have_cntks_bits(theirs):
    assert found(theirs) == []


@pytest.mark.parametrize(("place", "value", "forms"), [
    ((edges, "ROWS"), 1, {0, 1, 2}), ((edges, "COLUMNS"), 1, {0, 1, 2}),
    ((edges, "SMALLEST"), 1, {0, 1, 2}), ((products, "BLOCK"), 16, {0, 1, 2})])
def test_another_edge_or_block_shows(theirs, monkeypatch, place, value, forms):
    monkeypatch.setattr(*place, value)
    assert {shape[0] for _, shape in found(theirs)} & forms


def test_blocks():
    assert products.blocks(300) == [(224, 300), (0, 112), (112, 224)]
    assert products.blocks(224) == [(112, 224), (0, 112)]
    assert products.blocks(5) == [(0, 5)]


def runnable():
    """The variants that this processor runs: the fastest one and what is narrower."""
    order = [name for name in native.VARIANTS if name != "avx512"]
    fastest = native.variant("narrow").fastest().decode()
    if fastest == "avx512":
        return [*order, fastest]
    known = order if fastest in ("avx", "avx2") else ["plain", "narrow"]
    return known if fastest != "narrow" else ["plain", "narrow"]


@pytest.mark.parametrize("threads", [1, 3])
def test_width_and_threads_change_no_bit(threads, monkeypatch):
    random = np.random.RandomState(0)

    def drawn(*shape):
        return torch.from_numpy(random.standard_normal(shape).astype(np.float32))

    x, weight, g = drawn(3, 13, 17, 15), drawn(37, 13, 3, 3), drawn(3, 37, 8, 7)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        made = {}
        for name in runnable():
            library = native.variant(name)
            monkeypatch.setattr(products, "library", lambda library=library: library)
            made[name] = [products.correlate(x, weight, (2, 2), products.NO_PADS, 2),
                          products.backward_data(g, weight, (2, 2), products.NO_PADS,
                                                 (17, 15), 2),
                          products.backward_weight(g, x, (3, 3), (2, 2), products.NO_PADS, 2)]
    finally:
        torch.set_num_threads(before)
    assert len(made) >= 2
    for others in made.values():
        assert all(torch.equal(a, b) for a, b in zip(made["plain"], others, strict=True))


def reference(left, right):
    """Blocks of 112, the remainder first, by PyTorch's own additions; left m x k, right k x n."""
    total = torch.zeros(len(left), right.shape[1])
    for start, end in products.blocks(left.shape[1]):
        part = torch.zeros_like(total)
        for k in range(start, end):
            part += left[:, k:k + 1] * right[k]
        total += part
    return total


def test_the_order_of_the_docstring_is_what_is_computed():
    random = torch.Generator().manual_seed(3)
    x = torch.randn(1, 300, 4, 4, generator=random)
    weight = torch.randn(12, 300, 1, 1, generator=random)
    y = products.correlate(x, weight, (1, 1), products.NO_PADS, threads=1)
    assert torch.equal(y.reshape(12, 16), reference(weight.reshape(12, 300), x.reshape(300, 16)))


def refusing(folder, flag):
    """A compiler that refuses a flag."""
    path = folder / "cc-without-vectors"
    path.write_text(f'#!/bin/sh\ncase "$*" in *{flag}*) echo no vectors >&2; exit 1 ;; esac\n'
                    'exec cc "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_a_compiler_without_vectors_gives_the_plain_variant_and_says_so(tmp_path):
    with pytest.warns(RuntimeWarning, match="no vectors .*have CNTK.s bits.*the kind 'plain'"):
        library = native.fastest(refusing(tmp_path, "-DWIDTH=4"), tmp_path)
    assert library.lanes() == native.variant("plain").lanes()


def test_a_compiler_without_this_processors_vectors_gives_the_narrow_variant(tmp_path):
    if native.variant("narrow").fastest() == b"narrow":
        pytest.skip("this processor has no wider vectors than the narrow variant's")
    with pytest.warns(RuntimeWarning, match="by the kind 'narrow'"):
        library = native.fastest(refusing(tmp_path, "-mavx"), tmp_path)
    assert library.lanes() == native.variant("narrow").lanes()


def test_threads_that_need_one_library_at_once_compile_it_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: native.variant("plain", folder=tmp_path), range(16)))
    assert {library.lanes() for library in made} == {native.variant("plain").lanes()}
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_left_running_when_a_part_fails():
    """C knows the arrays by address alone, and they go when the error does."""
    ended = []

    def work(seconds):
        if not seconds:
            raise KeyboardInterrupt
        time.sleep(seconds)
        ended.append(seconds)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side([(0.2,), (0,), (0,), *[(0.05,)] * 9], work)
        count = len(ended)
        time.sleep(0.3)
        assert 0.2 in ended and len(ended) == count < 10
    finally:
        torch.set_num_threads(before)


def test_no_compiler_is_told(tmp_path):
    with pytest.raises(CompilerError, match=r"no C compiler.*Install one"):
        native.fastest("no-such-compiler", tmp_path)


def test_what_another_processor_left_in_the_cache_is_not_taken(tmp_path, monkeypatch):
    """Its library stands under another name; here it is none that could be loaded."""
    native.variant("narrow", folder=tmp_path)
    monkeypatch.setattr(native, "VARIANTS", {**native.VARIANTS, "other": ("-DWIDTH=2",)})
    native.variant("other", folder=tmp_path)
    (of_another,) = [path for path in tmp_path.glob("*.so")
                     if native.ctypes.CDLL(str(path)).lanes() == 8]
    of_another.unlink()  # it is loaded: to write into it would end this process
    of_another.write_bytes(b"of another processor")
    assert native.fastest(folder=tmp_path).lanes() in (4, 16, 32)

@pytest.mark.parametrize("content", [b"", b"of another processor" * 99])
def test_what_is_no_library_in_the_cache_is_made_again(tmp_path, content):
    native.variant("plain", folder=tmp_path / "good")
    (good,) = (tmp_path / "good").glob("*.so")
    (tmp_path / good.name).write_bytes(content)
    assert native.variant("plain", folder=tmp_path).lanes() == native.variant("plain").lanes()


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CompilerError, match="must be a folder that can be written to"):
        native.fastest(folder=tmp_path / "file")
