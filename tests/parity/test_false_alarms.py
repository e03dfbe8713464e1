"""Correct ports and many plans: what they cover; a run goes on; parts come together."""
import shutil
from dataclasses import replace

import pytest
from rich.console import Console

from captures.article import DCGAN
from captures.files import read_json, write_json
from captures.narrow import narrow
from captures.plan import FIELDS
from parity.cli import app
from parity.evidence import false_alarms
from parity.evidence.false_alarms import Wanted
from parity.evidence.plans import plan_of
from parity.evidence.shards import Shard
from parity.judge.results import Check, Stage


@pytest.fixture
def map_file(tmp_path):
    (tmp_path / "0.bmp").write_bytes(b"P5 1 1 255\n0")
    path = tmp_path / "map.txt"
    path.write_text(".../0.bmp\t0\n")
    return path


def test_the_plans_differ_in_all_that_a_plan_may_say(map_file):
    plans = {name: plan_of(map_file, name.startswith("whole"), **values)
             for name, values in false_alarms.plans().items()}
    assert len(plans) >= 50
    assert len({plan.hash for plan in plans.values()}) == len(plans)

    def values_of(name):
        return {getattr(plan, name) for plan in plans.values()}

    assert values_of("minibatch_size") >= {1, 2, 3, 4, 8, 16}
    assert values_of("threads") == {1, 2}
    assert values_of("unit_gain") == {0, 1}
    assert values_of("onednn") == {0}  # a port's convolutions are its own affair
    assert max(values_of("warmup_iterations")) >= 20
    assert values_of("weight_scale_exponent") >= {-4, -1, 0, 1, 4}
    assert len(values_of("seed")) >= 25
    assert values_of("spec") == {DCGAN, narrow()}
    assert {field[0] for field in FIELDS} >= set(next(iter(plans.values())).inputs) - {
        "images_sha256", "network", "network_sha256"}


def test_the_ports_are_the_family(map_file):
    assert set(false_alarms.all_ports()) >= {
        "ours", "onednn", "channels-last", "ordinary", "f-batch-norm", "compiled", "float32-bias",
        "fft", "taps", "native", "mkl-avx2", "double-inside"}
    tasks = {name: false_alarms._task(name, values, map_file, map_file.parent, ["ours"])
             for name, values in false_alarms.plans().items()}
    assert {task.branch for task in tasks.values()} == {"", "5", "7"}
    assert tasks["cntk-on-avx2-1"].ports != tasks["seed-1"].ports  # another key


def test_a_narrow_network_is_the_articles_with_fewer_channels():
    made = narrow()
    assert list(made.arrays) == list(DCGAN.arrays)
    for ours, theirs in ((made.maker, DCGAN.maker), (made.critic, DCGAN.critic)):
        assert (ours.input, ours.output) == (theirs.input, theirs.output)
        assert [(one.kind, one.output[1:], one.pads) for one in ours.layers] == [
            (one.kind, one.output[1:], one.pads) for one in theirs.layers]
    assert made.maker.layer("conv3").weight == (64, 32, 5, 5)


def run(tmp_path, map_file, console, **wanted):
    wanted = {"only": ("seed-1", "seed-2"), "ports": ("ours", "onednn"), **wanted}
    return false_alarms.main(map_file, tmp_path / "out", Wanted(**wanted), console)


@pytest.fixture
def runs(monkeypatch):
    """Which ports were run with which plans; ``runs.fail`` are those that fail."""
    class Runs(list):
        fail, killed = (), ()

    done = Runs()

    def run_all(what, tasks, work, total, console):
        for task in tasks:
            for port, key in task.ports.items():
                done.append((task.name, port))
                if done[-1] not in done.killed:
                    wrong = done[-1] in done.fail
                    check = Check("generator/conv1/output", 2.0 if wrong else 0.5, 1.0, "times",
                                  "error_ratio")
                    write_json(task.result(port), {
                        **false_alarms.result_of([Stage("forward/training", "", [check])]),
                        "plan": task.name, "port": port, "key": key, "seconds": 1.0})
            yield task, 0

    monkeypatch.setattr(false_alarms, "run_all", run_all)
    return done


FOUR = [("seed-1", "ours"), ("seed-1", "onednn"), ("seed-2", "ours"), ("seed-2", "onednn")]


@pytest.mark.parametrize("stopped", [True, False])
def test_a_plan_of_a_training_is_judged_by_the_twin_run_alone(tmp_path, map_file, monkeypatch,
                                                             stopped):
    task = false_alarms._task("training-11", false_alarms.plans()["training-11"], map_file,
                              tmp_path, ["onednn"])
    assert task.training and not replace(task, name="seed-11").training
    seen = []

    def beside(made, planted, of, scratch, log):
        seen.append((planted, of, scratch))
        return "lack" if stopped else "run"

    def twin(made):
        return Stage("twin", "", [Check("twin/x", 2.0 if made == "lack" else 0.5, 1.0, "times",
                                        "exact")])
    monkeypatch.setattr(false_alarms, "beside", beside)
    monkeypatch.setattr(false_alarms, "TWIN_RUN", twin)
    monkeypatch.setattr(false_alarms, "Capture", lambda folder: folder)
    task.results.mkdir(parents=True)
    false_alarms._one_port(task, "onednn")
    assert seen == [(["onednn"], task.reference, task.scratch)]
    found = false_alarms.load_result(task, "onednn")
    assert found["passed"] != stopped and found["checks"] == 1


def test_none_fails(tmp_path, map_file, runs):
    console = Console(record=True, width=160)
    assert run(tmp_path, map_file, console) == 0
    assert runs == FOUR
    assert "0 false alarms in 4 comparisons of 2 correct ports over 2 plans" \
        in console.export_text()
    kept = read_json(tmp_path / "out" / "false-alarms.json")
    assert [(one["plan"], one["port"]) for one in kept] == FOUR


def test_one_fails(tmp_path, map_file, runs):
    runs.fail = (("seed-2", "onednn"),)
    console = Console(record=True, width=160)
    assert run(tmp_path, map_file, console) == 1
    text = console.export_text()
    assert "1 false alarms in 4" in text
    assert "false alarm: onednn, plan seed-2: forward/training generator/conv1/output" in text


def test_a_port_that_leaves_no_result_is_an_alarm(tmp_path, map_file, runs):
    runs.killed = (("seed-1", "ours"),)
    console = Console(record=True, width=160)
    assert run(tmp_path, map_file, console) == 1
    assert "false alarm: ours, plan seed-1: the process of the plan failed" \
        in console.export_text()


def test_nothing_judged_is_no_pass():
    assert not false_alarms.result_of([])["passed"]
    assert not false_alarms.result_of([Stage("onnx", "")])["passed"]


def test_what_was_done_is_not_done_again(tmp_path, map_file, runs, monkeypatch):
    console = Console(quiet=True)
    run(tmp_path, map_file, console, only=("seed-1",))
    run(tmp_path, map_file, console)
    assert runs == FOUR
    run(tmp_path, map_file, console, restart=True, only=("seed-1",))
    assert runs == FOUR + FOUR[:2]
    monkeypatch.setattr(false_alarms, "suite_key", lambda plan: "another program")
    run(tmp_path, map_file, console, only=("seed-1",))
    assert runs == FOUR + FOUR[:2] + FOUR[:2]


def test_the_results_of_parts_come_together(tmp_path, map_file, runs, monkeypatch):
    console = Console(quiet=True)
    for part in (1, 2):
        run(tmp_path, map_file, console, shard=Shard(part, 2))
        shutil.move(tmp_path / "out", tmp_path / f"part{part}")
    assert runs == FOUR
    assert run(tmp_path, map_file, console, merge=(tmp_path / "part1", tmp_path / "part2")) == 0
    assert runs == FOUR


def test_the_page_has_every_port_with_its_largest_margin():
    results = [{**false_alarms.result_of([Stage("step", "", [
        Check("place", margin, 1.0, "times", "policy")])]), "plan": plan, "port": "ours"}
        for plan, margin in (("seed-1", 0.25), ("seed-2", 0.75))]
    rows = false_alarms.by_port(results)
    page = false_alarms.page(results, rows, false_alarms.catalogue())
    assert "**0 false alarms in 2 comparisons: 1 correct ports, 2 plans, 2 checks.**" in page
    assert "| ours | This project's port, with CNTK's bits. | 2 | 0 | 0.75 | seed-2: step place" \
        in page


@pytest.mark.parametrize(("arguments", "words"), [
    (["--only", "seed-x"], "there is no plan 'seed-x'"),
    (["--ports", "none"], "there is no port 'none'"),
    (["--shard", "0/8"], "the shard is '0/8': give 3/8 for the third of eight parts"),
])
def test_bad_input(arguments, words, tmp_path, map_file, capsys):
    assert app.main(["false-alarms", *arguments, "--map-file", str(map_file),
                     "--output", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
