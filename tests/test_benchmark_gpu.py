"""The measurement on a GPU, as far as it goes without: what is counted, and what goes wrong."""
import importlib
import json

import numpy as np
import pytest
import torch

from benchmarks.gpu import distance, exact

program = importlib.import_module("benchmarks.gpu.__main__")


def test_bits_are_counted_not_values():
    a = torch.tensor([0.0, 1.0, float("nan")])
    assert exact.differing(a, a.clone()) == 0
    assert exact.differing(a, torch.tensor([-0.0, 1.0, float("nan")])) == 1
    with pytest.raises(AssertionError):
        exact.differing(a, a[:2])


def test_a_part_that_fails_is_written_down_and_stops_no_other(tmp_path, capfd):
    report = program.Report(tmp_path / "gpu.json", 1e9)
    assert report.part("one", lambda: 1 / 0) is None
    assert report.part("two", lambda: {"figure": 2}) == {"figure": 2}
    report.seconds = 0
    assert report.part("three", lambda: 3) is None
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert "ZeroDivisionError" in written["one"]["failed"] and written["two"] == {"figure": 2}
    assert written["three"] == {"left_out": "the time was up"}
    program.table(written)
    assert "one: failed\nthree: left out\n" in capfd.readouterr().out


def test_how_far_a_training_parts():
    weights = {0: {"w": np.zeros(2)}, 1: {"w": np.array([3.0, 4.0])}}
    other = {0: {"w": np.zeros(2)}, 1: {"w": np.array([3.0, 3.0])}}
    found = distance.compared(([(1.0, 2.0), (1.1, 2.0)], other), ([(1.0, 2.0), (1.0, 2.0)],
                                                                  weights))
    assert found["parted_by_1_percent_in_iteration"] == 2
    assert found["weights_apart"] == {"1": pytest.approx(0.2)}
    assert distance.compared(([(1.0, 2.0)], weights), ([(1.0, 2.0)], weights))[
        "parted_by_1_percent_in_iteration"] is None


def test_without_a_gpu_it_says_so(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(program.typer.Exit) as end:
        program.main(output=tmp_path / "gpu.json", device="cuda")
    assert end.value.exit_code == 2 and not (tmp_path / "gpu.json").exists()
    assert capfd.readouterr().err.startswith("error: PyTorch finds no GPU here: give --device cpu")
