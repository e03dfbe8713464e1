"""Every plant still fits the port, and the replacing of parts does what it says."""
import json

import pytest
import torch

from planted import correct, parts
from planted.__main__ import check, main
from planted.catalogue import mistakes
from planted.plant import Plant
from torch_port import batch_norm, layers, losses
from torch_port.train import steps


@pytest.fixture(autouse=True)
def put_back():
    yield
    parts.restore()


@pytest.fixture
def no_switch(monkeypatch):
    """What is for good in a process stays as it is."""
    monkeypatch.setattr(correct, "mkl_branch", lambda number: False)
    yield
    torch.backends.mkldnn.set_flags(False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of importing PyTorch's compiler
def test_every_plant_fits_the_port(no_switch, capsys):
    assert main(["--check"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    replaced = dict(line.removesuffix(" replaced").split(": ") for line in said.out.splitlines())
    assert main(["--list"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(replaced) == [one["name"] for one in listed["correct"]] + [
        one.name for one in mistakes().values() if not one.exported] + list(listed["sized"])
    assert {one["name"] for one in listed["mistakes"]} == set(mistakes())
    assert all(int(count) > 0 for count in replaced.values())


def test_a_plant_that_fits_no_more_is_named(capsys):
    assert check({"stale": Plant("stale", "", lambda: parts.replace(len, len))}) == 1
    assert "error: stale: no module of torch_port holds" in capsys.readouterr().err


def test_a_layer_that_is_there_no_more_is_named(capsys):
    def stale():
        parts.built(lambda networks: networks.generator.get_submodule("conv8"))
    assert check({"stale": Plant("stale", "", stale)}) == 1
    assert "error: stale: Generator has no attribute `conv8`" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "words"), [
    (["--plants", "no-such", "torch_port.capture"], "there is no plant 'no-such': give some of"),
    ([], "give --plants"),
])
def test_bad_arguments(arguments, words, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_a_function_is_replaced_wherever_the_port_holds_it():
    before = losses.generator_loss
    parts.replace(losses.generator_loss, len)
    assert losses.generator_loss is steps.generator_loss is len
    assert parts.restore() == 2
    assert losses.generator_loss is steps.generator_loss is before


def test_a_replacement_is_replaced_in_its_turn():
    before = layers.with_bias
    for _ in range(2):
        inner = layers.with_bias
        parts.replace(layers.with_bias, lambda *arguments, inner=inner: inner(*arguments))
    parts.restore()
    assert layers.with_bias is before


def test_a_method_and_a_static_one():
    layer = batch_norm.BatchNormalization(3)
    before = parts.method(batch_norm.BatchNormalization, "variance_kept", lambda v, n: 2 * v)
    assert layer.variance_kept(3.0, 4) == 6.0 and before(3.0, 4) == 3.0
    parts.method(batch_norm.BatchNormalization, "update_factor", lambda self, samples: 0.25)
    assert layer.update_factor(5) == 0.25
    parts.restore()
    assert layer.variance_kept(3.0, 4) == 3.0 and layer.update_factor(5) == 1.0


def test_a_number_is_replaced_by_its_name_and_value():
    parts.number("LEARNING_RATE", 1e-4, 1e-3)
    assert steps.LEARNING_RATE == 1e-3


@pytest.mark.parametrize("wrong", [
    lambda: parts.replace(len, print),
    lambda: parts.method(batch_norm.BatchNormalization, "no_such_method", len),
    lambda: parts.method(batch_norm.BatchNormalization, "train", len),  # nn.Module's, not its own
    lambda: parts.number("LEARNING_RATE", 2e-4, 1e-3),
])
def test_a_part_that_is_not_there(wrong):
    with pytest.raises(parts.PlantError):
        wrong()
