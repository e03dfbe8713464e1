"""The benchmarks of an iteration and of its products: what is counted, and what goes wrong."""
import importlib
import io
import json
import sys

import pytest
import torch

from benchmarks.image_reader import make_images
from benchmarks.iteration import in_the_port, parts
from captures.article import DCGAN
from captures.narrow import narrow
from torch_port import rounding

iteration = importlib.import_module("benchmarks.iteration.__main__")
products = importlib.import_module("benchmarks.products.__main__")
NARROW = narrow(DCGAN, 16)


@pytest.fixture
def as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    rounding.as_cntk_rounds()


SECONDS = {"cntk": [8.0, 6.0], "cntk avx2": [4.0, 5.0], "exact": [2.0, 3.0], "float32": [1.0, 2.0]}


def test_how_many_times_as_fast():
    assert iteration.fastest(SECONDS) == "cntk avx2"
    assert iteration.times(SECONDS, "cntk") == {
        "cntk": [1.0, 1.0], "cntk avx2": [1.5, 1.6], "exact": [3.0, 3.0], "float32": [6.0, 5.5]}
    assert iteration.fastest({"exact": [1.0]}) == "" and iteration.times(SECONDS, "") == {}


def test_the_table():
    text = iteration.table({
        "seconds": {"cntk": 6.0, "exact": 2.0}, "seconds_of_processors": {"cntk": 12.0, "exact": 4},
        "times_cntk": {"cntk": [1, 1], "exact": [3, 3.5]}, "times_fastest_cntk": {},
        "megabytes": {"cntk": 2000, "exact": 1500.4},
        "seconds_of_parts": {"exact": {"Adam": 0.25, "the rest": 0.5}}})
    assert "| exact | 2.00 | 4.00 | 3.00 (3.50) |  | 1500 |" in text.splitlines()
    assert "| Adam | 0.25 |" in text.splitlines()


class Ended(iteration.Process):
    def __init__(self, name, *_):
        self.name = name
        self.process = iteration.subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.exit(3)"], text=True,
            stdin=iteration.subprocess.PIPE, stdout=iteration.subprocess.PIPE)


def test_one_that_ends_is_named(monkeypatch, capfd):
    monkeypatch.setattr(iteration, "Process", Ended)
    with pytest.raises(iteration.typer.Exit) as end:
        iteration.main(only=[iteration.Name("exact")])
    assert end.value.exit_code == 2
    assert capfd.readouterr().err == "error: exact ended with exit code 3\n"


@pytest.mark.parametrize("name", ["cntk", "float32", "stock"])
def test_the_ports_iterations(name, tmp_path, monkeypatch, capsys, as_before):
    monkeypatch.setattr(in_the_port, "DCGAN", NARROW)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\nparts\n"))
    in_the_port.main(str(make_images(tmp_path, 4)), 2, name)
    first, profiled = capsys.readouterr().out.splitlines()
    seconds, of_processors, peak = map(float, first.split())
    assert seconds > 0 and of_processors > 0 and peak > 1e8
    found = json.loads(profiled)
    for part in ("convolutions, forward", "convolutions, gradients", "batch normalisation",
                 "activations", "Adam"):
        assert found[part] > 0, part


def test_an_operations_part():
    assert parts.part_of("aten::native_batch_norm_backward") == "batch normalisation"
    assert parts.part_of("_ConvolutionBackward") == "convolutions, gradients"
    assert parts.part_of("aten::sum") == parts.REST


def test_the_stock_network_has_the_articles_shapes():
    for network in NARROW.networks:
        made = in_the_port.stock_network(network, NARROW.slope)
        size = network.input if len(network.input) == 3 else (*network.input, 1, 1)
        assert made(torch.zeros(2, *size)).shape == (2, *network.output)


def test_what_an_iteration_asks_of_the_layers():
    maker, critic = DCGAN.networks
    count = products.times_in_an_iteration
    assert count(maker, maker.layers[0], DCGAN) == (2, 0, 1)
    assert count(maker, maker.layer("conv2"), DCGAN) == (2, 1, 1)
    assert count(critic, critic.layers[0], DCGAN) == (3, 1, 2)
    assert count(critic, critic.layer("conv2"), DCGAN) == (3, 3, 2)
    assert products.operations(critic.layer("conv2"), 16) == 2 * 16 * 64 * 64 * 32 * 64 * 9


def test_the_products_of_all_layers(as_before):
    torch.set_num_threads(1)
    figures = products.measure(1, 2, NARROW, size=64)
    assert len(figures["rates"]) == 14
    assert all(rate > 0 for of in figures["rates"].values() for way in of.values()
               for rate in way.values())
    text = products.table(figures)
    assert text.count("\n| generator conv") == 7 and "seconds of an iteration" in text


def test_every_way_computes_the_same_product(as_before):
    layer = NARROW.critic.layer("conv3")
    made = {}
    for way in products.ways():
        works = products.passes(layer, way, 2)
        torch.backends.mkldnn.set_flags(way != products.EXACT)
        made[way] = [works["forward"](), *(works[name]()[0] for name in products.PASSES[1:])]
    for way, of in made.items():
        for ours, exact in zip(of, made[products.EXACT], strict=True):
            far = (ours.float() - exact).norm() / exact.norm()
            assert far < (2e-2 if "bfloat16" in way else 1e-5), way
