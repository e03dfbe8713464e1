"""The many plans: what they cover, and that a run goes on where it stopped."""
import json

import pytest
from rich.console import Console

from captures.plan import FIELDS, Plan
from parity.cli import app
from parity.evidence import false_alarms
from parity.judge.results import Check, Report, Stage


@pytest.fixture
def map_file(tmp_path):
    (tmp_path / "0.bmp").write_bytes(b"P5 1 1 255\n0")
    path = tmp_path / "map.txt"
    path.write_text(".../0.bmp\t0\n")
    return path


def test_the_plans_differ_in_all_that_a_plan_may_say(map_file):
    plans = {name: Plan.make(map_file, **values)
             for name, values in false_alarms.catalogue().items()}
    assert len(plans) >= 50
    assert len({plan.hash for plan in plans.values()}) == len(plans)

    def values_of(name):
        return {getattr(plan, name) for plan in plans.values()}

    assert values_of("minibatch_size") >= {1, 2, 3, 4, 8, 16}
    assert values_of("threads") == {1, 2}
    assert values_of("unit_gain") == {0, 1}
    assert values_of("onednn") == {0}  # PyTorch's convolutions, not the port's
    assert max(values_of("warmup_iterations")) >= 20
    assert values_of("weight_scale_exponent") >= {-4, -1, 0, 1, 4}
    assert len(values_of("seed")) >= 30
    assert {field[0] for field in FIELDS} >= set(next(iter(plans.values())).inputs) - {
        "images_sha256"}


def report(passed):
    check = Check("generator/conv1/output", 0.5 if passed else 2.0, 1.0, "times", "error_ratio")
    return Report({}, {}, [Stage("forward/training", "", [check])])


def run(tmp_path, map_file, console, only=("seed-1", "seed-2"), restart=False):
    return false_alarms.main(map_file, tmp_path / "out", only, restart, console)


class Here:
    """The pool's work in this process, where it can be counted and replaced."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def submit(self, work, *arguments):
        from concurrent.futures import Future
        future = Future()
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_):
        pass


@pytest.fixture
def runs(monkeypatch):
    """Which plans were run; ``runs.fail`` are those that fail."""
    class Runs(list):
        fail = ()

    done = Runs()

    def one(name, plan, folder):
        done.append(name)
        if name == "break":
            raise RuntimeError
        return report(name not in done.fail)

    monkeypatch.setattr(false_alarms, "one", one)
    monkeypatch.setattr(false_alarms, "ProcessPoolExecutor", Here)
    return done


def test_none_fails(tmp_path, map_file, runs):
    console = Console(record=True, width=160)
    assert run(tmp_path, map_file, console) == 0
    assert "0 false alarms in 2 plans" in console.export_text()
    kept = json.loads((tmp_path / "out" / "false-alarms.json").read_text())
    assert list(kept) == ["seed-1", "seed-2"]


def test_one_fails(tmp_path, map_file, runs):
    runs.fail = ("seed-2",)
    console = Console(record=True, width=160)
    assert run(tmp_path, map_file, console) == 1
    text = console.export_text()
    assert "1 false alarms in 2 plans: seed-2" in text
    assert "generator/conv1/output" in text


def test_what_was_done_is_not_done_again(tmp_path, map_file, runs, monkeypatch):
    console = Console(quiet=True)
    run(tmp_path, map_file, console, only=("seed-1",))
    run(tmp_path, map_file, console)
    assert runs == ["seed-1", "seed-2"]
    run(tmp_path, map_file, console, restart=True, only=("seed-1",))
    assert runs == ["seed-1", "seed-2", "seed-1"]
    monkeypatch.setattr(false_alarms, "fingerprint", lambda plan: "another program")
    run(tmp_path, map_file, console, only=("seed-2",))
    assert runs[-1] == "seed-2" and len(runs) == 4


def test_bad_input(tmp_path, map_file, capsys):
    assert app.main(["false-alarms", "--only", "seed-x", "--map-file", str(map_file),
                              "--output", str(tmp_path / "out")]) == 2
    assert "there is no plan 'seed-x'" in capsys.readouterr().err
