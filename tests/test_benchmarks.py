"""Running the benchmarks together: the file that comes out, and a benchmark that fails."""
import importlib
import json

import pytest

# By themselves: a GPU, many minutes.
APART = ("compare_memory", "convolution_search", "gpu", "product_search")
together = importlib.import_module("benchmarks.__main__")


def fake(name, output):
    print(f"{name}: fast")
    figures = {"ratio": 2.0}
    output.write_text(json.dumps(figures))


def failing(name, output):
    if name == "adam":
        raise together.BenchmarkError("benchmark adam exited 1")
    fake(name, output)


def test_each_benchmark_exists():
    folder = together.ROOT / "benchmarks"
    assert {path.parent.name for path in folder.glob("*/__main__.py")} == {
        *together.BENCHMARKS, *APART}


def test_figures_are_gathered_under_the_benchmarks_names():
    assert together.gather(together.BENCHMARKS, fake) == {
        name: {"ratio": 2.0} for name in together.BENCHMARKS}


def test_the_file_is_written_whole(tmp_path):
    output = tmp_path / "runs" / "bench.json"
    together.write({"adam": {"ratio": 1.1}}, output)
    assert json.loads(output.read_text()) == {"adam": {"ratio": 1.1}}
    assert list(output.parent.iterdir()) == [output]


def test_a_failure_leaves_the_old_file_and_exits_2(tmp_path, monkeypatch, capfd):
    output = tmp_path / "bench.json"
    output.write_text("old")
    monkeypatch.setattr(together, "gather", lambda names: [failing(name, tmp_path / name)
                                                           for name in names])
    assert together.main(["--output", str(output)]) == 2
    assert output.read_text() == "old"
    assert capfd.readouterr().err == "error: benchmark adam exited 1\n"


def test_a_benchmark_that_exits_with_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(together.sys, "executable", "false")
    with pytest.raises(together.BenchmarkError, match=r"adam exited 1.*python -m benchmarks\.adam"):
        together.run("adam", tmp_path / "adam.json")
