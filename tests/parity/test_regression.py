"""Two captures of one plan: a repeat has the same bits, another version rounds otherwise."""
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from captures.certificate import recorded as recorded_of
from captures.errors import CaptureError
from captures.format import Capture, CaptureWriter
from captures.plan import Plan
from parity.cli import app
from parity.history import compare, store, timeline
from parity.history.sides import side
from tests.captures.image_kinds import bmp

VERSIONS = {"torch": "2.13.0", "numpy": "2.4.6"}
LAYER = "forward/training/generator/conv1/output"


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "0.bmp").write_bytes(bmp())
    (tmp_path / "map.txt").write_text(".../0.bmp\t0\n")
    return Plan.make(tmp_path / "map.txt")


def capture(tmp_path, plan, name, change=None, versions=None, job="layers"):
    values = np.random.RandomState(0).normal(size=(4, 6, 8, 8)).astype(np.float32)
    arrays = {LAYER: values, "initial/generator/conv1/weight": values[0] * np.float32(0.02),
              "step/0001/after_d/discriminator/bn2/sample_count": np.array(8)}
    facts = {"ledger": [["d_step", "discriminator/bn2/sample_count", 8]]} if job == "layers" else {}
    if change:
        change(arrays, facts)
    with CaptureWriter(str(tmp_path / name), "port", plan, versions or VERSIONS, 1,
                       job) as writer:
        for key, array in arrays.items():
            writer.add(key, array)
        for key, fact in facts.items():
            writer.fact(key, fact)
    return Capture(tmp_path / name)


def nudge(name, amount):
    def change(arrays, facts):
        arrays[name] = arrays[name] * np.float32(1 + amount)
    return change


def failed(report):
    return [f"{stage.name}/{check.place}" for stage in report.stages for check in stage.checks
            if not check.passed]


def test_a_repeat_is_the_same_bits(tmp_path, plan):
    first = capture(tmp_path, plan, "a")
    assert compare.compare(first, capture(tmp_path, plan, "b")).passed
    report = compare.compare(first, capture(tmp_path, plan, "c", nudge(LAYER, 1e-6)))
    assert failed(report) == ["forward/training/generator/conv1/output"]


def test_another_version_may_round_otherwise(tmp_path, plan):
    first, newer = capture(tmp_path, plan, "a"), {**VERSIONS, "torch": "2.14.0"}
    near = compare.compare(first, capture(tmp_path, plan, "b", nudge(LAYER, 1e-5), newer))
    assert near.passed
    assert "torch" in near.stages[0].notes[0]
    far = compare.compare(first, capture(tmp_path, plan, "c", nudge(LAYER, 1e-3), newer))
    assert failed(far) == ["forward/training/generator/conv1/output"]
    drawn = compare.compare(first, capture(
        tmp_path, plan, "d", nudge("initial/generator/conv1/weight", 1e-6), newer))
    assert failed(drawn) == ["initial/generator/conv1/weight"]


@pytest.mark.parametrize(("name", "passes", "fails"), [
    ("state/generator/conv1/weight", 5e-4, 5e-3),
    ("optimizer/state/generator/conv1/weight_m", 5e-3, 5e-2),
    ("optimizer/probe/matrix/step01", 5e-7, 5e-6),
    ("local/step/0001/after_d/discriminator/conv1/weight", 5e-7, 5e-6),
    ("gradient/d/discriminator/conv1/weight", 5e-2, 0.5)])
def test_another_version_has_policies_of_its_own(tmp_path, plan, name, passes, fails):
    def change(part):
        def change(arrays, facts):
            arrays[name] = (np.random.RandomState(1).normal(size=(6, 8)) * (1 + part)).astype(
                np.float32)
        return change
    newer = {**VERSIONS, "torch": "2.14.0"}
    first = capture(tmp_path, plan, "a", change(0))
    assert compare.compare(first, capture(tmp_path, plan, "b", change(passes), newer)).passed
    report = compare.compare(first, capture(tmp_path, plan, "c", change(fails), newer))
    assert failed(report) == [name]


def lose(name):
    return lambda arrays, facts: arrays.pop(name)


def other_events(arrays, facts):
    facts["ledger"][0][2] = 4


@pytest.mark.parametrize(("change", "place"), [
    (lose(LAYER), "forward/training/generator/conv1/output"), (other_events, "facts/facts/ledger/"
                                                                             "value")])
def test_what_is_missing_or_happened_otherwise_fails(tmp_path, plan, change, place):
    for a, b in ((None, change), (change, None)):
        report = compare.compare(capture(tmp_path, plan, "a", a),
                                    capture(tmp_path, plan, "b", b))
        assert failed(report) == [place]


def test_other_plans_and_jobs_are_refused(tmp_path, plan):
    first = capture(tmp_path, plan, "a")
    with pytest.raises(CaptureError, match=r"different plans \(seed 0 and 1"):
        compare.compare(first, capture(tmp_path, plan.with_values(seed=1), "b"))
    with pytest.raises(CaptureError, match="captures of one job"):
        compare.compare(first, capture(tmp_path, plan, "c", job="twin"))


@pytest.mark.parametrize(("change", "code"), [(None, 0), (nudge(LAYER, 1e-6), 1)])
def test_command(tmp_path, plan, capsys, change, code):
    capture(tmp_path, plan, "a"), capture(tmp_path, plan, "b", change)
    output = tmp_path / "report"
    assert app.main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output",
                              str(output)]) == code
    assert ("AGREE" if code == 0 else "DIFFER") in capsys.readouterr().out
    assert (output / "report.json").is_file()


def test_command_on_what_is_no_capture(tmp_path, capsys):
    assert app.main(["compare", str(tmp_path), str(tmp_path), "--output",
                              str(tmp_path / "report")]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: {tmp_path} is no capture, no certificate and no recorded run")


def test_another_number_of_processors_may_round_otherwise(tmp_path, plan, monkeypatch):
    """CNTK's gradients of weights depend on it."""
    first = capture(tmp_path, plan, "a")
    assert not compare.compare(first, capture(tmp_path, plan, "b", nudge(LAYER, 1e-6))).passed
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert compare.compare(first, capture(tmp_path, plan, "c", nudge(LAYER, 1e-6))).passed
    assert not compare.compare(first, capture(tmp_path, plan, "d", nudge(LAYER, 1e-2))).passed


# ------------------------------------------------------------------- three answers; certificates


def certificate(tmp_path, made, name):
    store.record(name, made, whole=False, folder=tmp_path / "recorded")
    return side(tmp_path / "recorded" / name / "port.certificate", tmp_path)


def run_of(tmp_path, plan, name, change=None, versions=None):
    capture(tmp_path / name, plan, "port", change, versions)
    return tmp_path / name


@pytest.mark.parametrize("kept", [True, False])
def test_three_answers(tmp_path, plan, kept):
    """Of captures, and of what is kept of them."""
    def one(name, change=None, versions=None):
        run = run_of(tmp_path, plan, name, change, versions)
        return certificate(tmp_path, run, name) if kept else Capture(run / "port")

    newer = {**VERSIONS, "torch": "2.14.0"}
    first = one("first")
    assert compare.compared(first, one("again")).word == "identical bits"
    found = compare.compared(first, one("newer", nudge(LAYER, 1e-5), newer))
    assert (found.word, found.first) == ("rounding", LAYER)
    assert found.causes[0].what == "torch: 2.13.0 and 2.14.0" and "torch" in found.sentence
    found = compare.compared(first, one("drifted", nudge(LAYER, 1e-2), newer))
    assert (found.word, found.first) == ("drifted", LAYER) and not found.report.passed
    found = compare.compared(first, one("same", nudge(LAYER, 1e-7)))
    assert found.word == "drifted" and found.causes == ()  # nothing that rounds has changed


def test_a_certificate_against_a_capture(tmp_path, plan):
    first = run_of(tmp_path, plan, "first")
    kept = certificate(tmp_path, first, "kept")
    assert compare.compared(kept, Capture(first / "port")).word == "identical bits"
    moved = run_of(tmp_path, plan, "moved", nudge("initial/generator/conv1/weight", 1e-6))
    found = compare.compared(kept, Capture(moved / "port"))
    assert (found.word, found.first) == ("drifted", "initial/generator/conv1/weight")


def test_the_first_in_time_is_named(tmp_path, plan):
    def change(arrays, facts):
        nudge(LAYER, 1e-2)(arrays, facts)
        nudge("initial/generator/conv1/weight", 1e-2)(arrays, facts)
    first, other = (run_of(tmp_path, plan, name, one) for name, one in
                    (("a", None), ("b", change)))
    found = compare.compared(Capture(first / "port"), Capture(other / "port"))
    assert found.first == "initial/generator/conv1/weight"
    assert compare.in_time("step/0001/after_d/x/y/z") < compare.in_time("gradient/g/x/y/z")


def test_what_is_missing_is_said_to_be_and_every_format_names_the_same_first(
        tmp_path, plan, capsys):
    """Behind what is missing something has drifted, which comes first in the captures' order."""
    local = "local/step/0001/after_d/discriminator/conv1/weight"

    def with_local(arrays, facts):
        arrays[local] = np.ones(4, np.float32)

    def change(arrays, facts):
        with_local(arrays, facts)
        arrays[local] *= np.float32(2)
        lose(LAYER)(arrays, facts)

    capture(tmp_path, plan, "a", with_local), capture(tmp_path, plan, "b", change)
    assert app.main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output",
                     str(tmp_path / "report")]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"The first difference in time is {LAYER}: missing on one side: " in said
    assert "drifted" not in said
    text = (tmp_path / "report" / "report.md").read_text()
    assert "**First difference**: `forward/training`, `generator/conv1/output`: missing on" in text
    assert "CNTK" not in text


def test_the_page_of_two_captures_speaks_of_two_captures(tmp_path, plan):
    capture(tmp_path, plan, "a"), capture(tmp_path, plan, "b", nudge(LAYER, 1e-6))
    app.main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output",
              str(tmp_path / "report")])
    page = (tmp_path / "report" / "report.html").read_text()
    assert "DIFFER: two captures of one plan</title>" in page and "PyTorch port" not in page
    assert "The oracle is" not in page and "whose it is" not in page
    report = compare.compare(Capture(tmp_path / "a"), Capture(tmp_path / "b"))
    assert report.seconds > 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "of 0.0" not in text and " differing values, 0 allowed" in text


def test_nothing_to_compare_is_said(tmp_path, plan):
    first, other = (twin(tmp_path, plan, name, []) for name in "ab")
    for one in (first, other):
        del one.facts["state_hashes"]
    assert "Neither holds an array" in compare.compared(first, other).sentence


def test_recording(tmp_path, plan, capsys):
    run = run_of(tmp_path, plan, "run")
    recorded = tmp_path / "recorded"
    assert [path.name for path in store.record("may", run, False, recorded)] == ["port.certificate"]
    assert {path.name for path in (recorded / "may").iterdir()} >= {"port.certificate",
                                                                    "recorded.json"}
    store.record("june", run, True, recorded)
    assert Capture(recorded / "june" / "port").entries
    for name, of, said in (("may", run, "is there already"), ("a/b", run, "is no name"),
                           ("july", tmp_path / "none", "there is no capture in")):
        with pytest.raises(CaptureError, match=said):
            store.record(name, of, False, recorded)
    assert not (recorded / "july").exists()
    with pytest.raises(CaptureError, match="june, may"):
        side(Path("none"), recorded)


def test_a_run_with_gaps_is_recorded_and_compared(tmp_path, plan):
    """Where a port rounds otherwise, what is not known of its training is NaN."""
    own = "twin/step/state/own"

    def with_gaps(value):
        def change(arrays, facts):
            arrays[own] = np.array([[1.0, np.nan], [value, 3.0]])
        return change

    newer = {**VERSIONS, "torch": "2.14.0"}
    for versions in (VERSIONS, newer):
        for kept in (True, False):
            one, two, three = (run_of(tmp_path / f"{kept}{versions['torch']}", plan, name,
                                      with_gaps(value), of) for name, value, of in (
                ("one", 2.0, VERSIONS), ("two", 2.0, versions), ("three", np.nan, versions)))
            sides = [certificate(tmp_path, one_of, f"{one_of.name}-{versions['torch']}")
                     if kept else Capture(one_of / "port") for one_of in (one, two, three)]
            assert compare.compared(*sides[:2]).word == "identical bits"
            found = compare.compared(sides[0], sides[2])
            assert (found.word, found.first) == ("drifted", own)


def test_what_could_not_be_recorded_leaves_its_name_free(tmp_path, plan):
    def broken(arrays, facts):
        arrays[LAYER] = arrays[LAYER] * np.float32(np.nan)

    recorded = tmp_path / "recorded"
    with pytest.raises(CaptureError, match="holds NaN"):
        store.record("may", run_of(tmp_path, plan, "broken", broken), False, recorded)
    assert not (recorded / "may").exists()
    store.record("may", run_of(tmp_path, plan, "run"), False, recorded)


@pytest.mark.parametrize("name", ["", " ", "a:b", "[/x]", "x ", "a" * 61, ".x", "x.", "a\nb"])
def test_a_name_is_one_of_a_folder_everywhere(tmp_path, plan, name):
    with pytest.raises(CaptureError, match="is no name for a run"):
        store.record(name, run_of(tmp_path, plan, "run"), False, tmp_path / "recorded")


def test_whole_is_what_the_manifest_names_and_no_more(tmp_path, plan):
    run = run_of(tmp_path, plan, "run")
    (run / "port" / "link").symlink_to("/")
    os.mkfifo(run / "port" / "arrays" / "pipe")
    (kept,) = store.record("may", run, True, tmp_path / "recorded")
    assert sorted(path.name for path in kept.rglob("*")) == [
        "000000.npy", "000001.npy", "000002.npy", "arrays", "manifest.json"]
    file = run / "port" / "arrays" / "000000.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(CaptureError, match="not what it was"):
        store.record("june", run, True, tmp_path / "recorded")
    assert not (tmp_path / "recorded" / "june").exists()


def test_a_certificate_keeps_the_order_of_the_run(tmp_path, plan):
    """The first of a stage to differ is the first that was computed, not of the alphabet."""
    early, late = (f"forward/training/{name}/output" for name in ("z/conv1", "a/conv1"))

    def of(amount):
        def change(arrays, facts):
            for name in (early, late):
                arrays[name] = np.full(300, 1 + amount, np.float32)
        return change

    sides = [certificate(tmp_path, run_of(tmp_path, plan, name, of(amount)), name)
             for name, amount in (("a", 0), ("b", 1e-2))]
    assert compare.compared(*sides).first == early


def test_two_certificates_that_keep_more_and_fewer_values(tmp_path, plan):
    def kept(name, values, change=None):
        made = Capture(run_of(tmp_path, plan, name, change, {"torch": name}) / "port")
        path = tmp_path / f"{name}.certificate"
        path.write_bytes(recorded_of(made, {}, made.manifest["plan"], made.plan_hash, {
            "producer": "port", "versions": {"torch": name}}, made.facts, values))
        return side(path, tmp_path)

    first, near, far = (kept("a", 64), kept("b", 2000, nudge(LAYER, 1e-5)),
                        kept("c", 200, nudge(LAYER, 1e-2)))
    for one, other in ((first, near), (near, first)):
        assert compare.compared(one, other).word == "rounding"
    for one, other in ((first, far), (far, near)):
        assert compare.compared(one, other).word == "drifted"


@pytest.mark.parametrize(("change", "word"), [(1, "rounding"), (40, "drifted")])
def test_the_bytes_of_a_picture_may_round(tmp_path, plan, change, word):
    name = "score/generator/written/pictures"

    def of(by):
        def picture(arrays, facts):
            arrays[name] = np.full((4, 64, 64, 3), 127, np.uint8)
            arrays[name].flat[99] += by
        return picture

    first = capture(tmp_path, plan, "a", of(0))
    newer = {**VERSIONS, "torch": "2.14.0"}
    found = compare.compared(first, capture(tmp_path, plan, "b", of(change), newer))
    assert (found.word, found.first) == (word, name)
    assert compare.compared(first, capture(tmp_path, plan, "c", of(1))).word == "drifted"


# ------------------------------------------------------------------- how it is computed


def test_the_same_plan_computed_another_way_is_compared(tmp_path, plan):
    first = capture(tmp_path, plan, "a")
    other = plan.with_values(onednn=1, threads=2)
    found = compare.compared(first, capture(tmp_path, other, "b", nudge(LAYER, 1e-5)))
    assert found.word == "rounding"
    assert [cause.what for cause in found.causes] == [
        "the plan's threads: 1 and 2",
        "the convolutions: in CNTK's order and PyTorch's own (oneDNN)"]


def change_one(name, amount):
    def change(arrays, facts):
        arrays[name] = arrays[name].copy()
        arrays[name].flat[77] += np.float32(amount)
    return change


@pytest.mark.parametrize(("name", "amount", "word"), [
    (LAYER, 1e-4, "rounding"), (LAYER, 0.1, "drifted"),
    ("initial/generator/conv1/weight", 1e-8, "drifted"), ("local/" + LAYER, 0.1, "drifted")])
def test_one_value_of_many_between_two_versions(tmp_path, plan, name, amount, word):
    """Its part of a root mean square is nothing; its own difference is beyond any rounding."""
    def first(arrays, facts):
        arrays["local/" + LAYER] = np.array(arrays[LAYER])

    def second(arrays, facts):
        first(arrays, facts)
        change_one(name, amount)(arrays, facts)

    newer = {**VERSIONS, "torch": "2.14.0"}
    found = compare.compared(capture(tmp_path, plan, "a", first),
                             capture(tmp_path, plan, "b", second, newer))
    assert (found.word, found.first) == (word, name)


def test_one_weight_of_25_million_is_found_at_its_event(tmp_path, plan):
    weight = np.random.RandomState(0).standard_normal(25_000_000).astype(np.float32)
    weight *= np.float32(0.02)

    def with_weight(changed):
        def change(arrays, facts):
            arrays["state/generator/conv2/weight"] = weight
            if changed:
                change_one("state/generator/conv2/weight", changed)(arrays, facts)
                nudge(LAYER, 1e-6)(arrays, facts)
        return change

    first = capture(tmp_path, plan, "a", with_weight(0))
    found = compare.compared(first, capture(tmp_path, plan, "b", with_weight(1e-8)))
    assert (found.word, found.first) == ("drifted", "state/generator/conv2/weight")
    newer = {**VERSIONS, "torch": "2.14.0"}  # beyond what a warm-up could have moved it by
    found = compare.compared(first, capture(tmp_path, plan, "c", with_weight(0.01), newer))
    assert (found.word, found.first) == ("drifted", "state/generator/conv2/weight")
    (check,) = [check for stage in found.report.stages for check in stage.checks
                if not check.passed]
    assert "1 of 25,000,000 values differ, most at [77]" in check.detail


def test_memory_is_of_an_array_and_not_of_the_captures(tmp_path, plan):
    """24 arrays of 4 MB in each of two captures."""
    def change(arrays, facts):
        for i in range(24):
            arrays[f"forward/training/generator/conv{i}/output"] = np.full(2 ** 20, i, np.float32)

    first, second = (capture(tmp_path, plan, name, change) for name in "ab")
    told = []
    tracemalloc.start()
    try:
        assert compare.compared(first, second, lambda *how: told.append(how)).report.passed
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * 2 ** 20
    assert told[0] == (0, 26) and told[-1] == (25, 26)


def twin(tmp_path, plan, name, states, versions=None):
    with CaptureWriter(str(tmp_path / name), "port", plan, versions or VERSIONS, 1,
                       "twin") as writer:
        writer.fact("state_hashes", states)
    return Capture(tmp_path / name)


def test_of_two_trainings_the_first_iteration_that_differs_is_named(tmp_path, plan):
    states = [{"generator/conv1/weight": "a", "generator/bn1/scale": "b"} for _ in range(5)]
    other = [dict(state) for state in states]
    first = twin(tmp_path, plan, "a", states)
    assert compare.compared(first, twin(tmp_path, plan, "b", states)).word == "identical bits"
    other[3]["generator/bn1/scale"] = "c"
    found = compare.compared(first, twin(tmp_path, plan, "c", other))
    assert (found.word, found.first) == ("drifted", "twin/iteration0004/generator/bn1/scale")
    newer = {**VERSIONS, "torch": "2.14.0"}
    found = compare.compared(first, twin(tmp_path, plan, "d", other, newer))
    assert (found.word, found.first) == ("rounding", "twin/iteration0004/generator/bn1/scale")


@pytest.mark.parametrize("shorter", [
    lambda states: states[:3], lambda states: [],
    lambda states: [*states[:4], {"generator/conv1/weight": "a"}],
    lambda states: [*states[:4], {**states[4], "more/x/y": "c"}], lambda states: None])
def test_a_training_that_only_one_side_has_whole_has_drifted(tmp_path, plan, shorter):
    states = [{"generator/conv1/weight": "a", "generator/bn1/scale": "b"} for _ in range(5)]
    newer = {**VERSIONS, "torch": "2.14.0"}
    first, other = (twin(tmp_path, plan, name, states, of) for name, of in (
        ("a", VERSIONS), ("b", newer)))
    other.facts["state_hashes"] = shorter(states)
    for one, another in ((first, other), (other, first)):
        found = compare.compared(one, another)
        assert found.word == "drifted" and "missing on one side" in found.sentence


def test_what_a_training_was_held_against_is_of_it_alone(tmp_path, plan):
    """One run had CNTK's bits, the other was given CNTK's states: that is no difference of time."""
    first, other = (twin(tmp_path, plan, name, []) for name in "ab")
    first.facts["mode"], other.facts["mode"] = "bits", "step"
    capture(tmp_path, plan, "c", lambda arrays, facts: arrays.update(
        {"twin/step/state/apart": np.ones(9)}))
    other.entries.update({name: entry for name, entry in Capture(tmp_path / "c").entries.items()
                          if name.startswith("twin/")})
    assert compare.compared(first, other).word == "identical bits"
    other.facts["mode"] = "bits"
    assert compare.compared(first, other).word == "drifted"


@pytest.mark.parametrize("fact", ["program_state", "latents_hashes"])
def test_hashes_of_what_was_computed_repeat(tmp_path, plan, fact):
    sides = [capture(tmp_path, plan, name) for name in "ab"]
    for one, value in zip(sides, ("a", "b"), strict=True):
        one.facts[fact] = {"weight": value} if fact == "program_state" else [value]
    found = compare.compared(*sides)
    assert (found.word, found.first) == ("drifted", f"facts/{fact}")


# ------------------------------------------------------------------- all recorded runs


@pytest.fixture
def recorded(tmp_path, plan):
    """recorded(name, date, change, versions): one more run in tmp_path / "recorded"."""
    def recorded(name, date, change=None, versions=None, of=plan):
        run = run_of(tmp_path / "runs", of, name, change, versions)
        store.record(name, run, False, tmp_path / "recorded")
        (tmp_path / "recorded" / name / store.NOTE).write_text(json.dumps({"date": date}))
    return recorded


def test_since_which_run(tmp_path, plan, recorded, capsys):
    newer = {**VERSIONS, "torch": "2.14.0"}
    newest = {**VERSIONS, "torch": "2.15.0"}
    recorded("one", "2026-01-01")
    recorded("two", "2026-02-01", nudge(LAYER, 1e-5), newer)
    folder = tmp_path / "recorded"

    def told(code):
        assert app.main(["history", "--recorded", str(folder), "--output",
                         str(tmp_path / "history")]) == code
        return " ".join(capsys.readouterr().out.split())

    assert "two is within rounding of one." in told(0)
    recorded("bad", "2026-03-01", nudge(LAYER, 0.1), newest)
    recorded("as-bad", "2026-04-01", nudge(LAYER, 0.1), newest)
    recorded("elsewhere", "2026-03-02", of=plan.with_values(seed=3))
    said = told(1)
    assert f"Drifted since bad (2026-03-01), first {LAYER}." in said
    assert "torch: 2.14.0 and 2.15.0" in said
    assert "elsewhere is of another plan" in said and "DRIFTED" in said
    page = (tmp_path / "history" / "history.html").read_text()
    assert timeline.LEGEND in page
    assert page.count("<svg") == page.count("<h2>") >= 3 and "http" not in page.replace(
        "http://www.w3.org", "")
    recorded("well-again", "2026-05-01", versions=newest)
    assert "well-again has the bits of one." in told(0)


def test_a_wider_capture_is_no_drift_and_a_narrower_is(tmp_path, recorded):
    """Each array and fact is held against the first run that has it."""
    weight, fact = "initial/generator/conv1/weight", "initial_ledger"

    def narrow(arrays, facts):
        del arrays[weight]

    def wide(change=None):
        def made(arrays, facts):
            facts[fact] = [["generator/conv1/weight", 0, [6, 8, 8], 384, "00"]]
            if change:
                change(arrays, facts)
        return made

    def table():
        found = timeline.timeline(tmp_path / "recorded", "port", lambda done, total: None)
        return found, {row[0]: list(row[1:]) for row in timeline.rows(found)}

    for day, (name, change) in enumerate((("old", narrow), ("older", narrow), ("new", wide()))):
        recorded(name, f"2026-01-0{day + 1}", change)
    found, rows = table()
    assert found.drifted is None and rows["initial"] == ["-", "-", "="]
    assert next(iter(rows)) == "initial"
    assert rows["facts"] == rows["forward/training"] == ["="] * 3
    assert timeline.page(found).count("<svg") == len(rows)
    recorded("other", "2026-01-05", wide(nudge(weight, 0.1)))
    recorded("gone", "2026-01-06", narrow)
    found, rows = table()
    assert rows["initial"] == ["-", "-", "=", "DRIFTED", "DRIFTED"]
    assert found.drifted.name == "other" and found.runs[3].comparison.first == weight


def test_what_a_run_adds_repeats_where_that_runs_versions_do(tmp_path, recorded):
    """Not where those of the first run do, which does not have it."""
    newer, name = {**VERSIONS, "torch": "2.14.0"}, "gradient/d/discriminator/conv1/weight"

    def with_gradient(by):
        def change(arrays, facts):
            arrays[name] = arrays[LAYER] * np.float32(1 + by)
        return change

    recorded("one", "2026-01-01")
    for day, (by, versions) in enumerate(((0, newer), (1e-4, VERSIONS), (1e-4, newer))):
        recorded(f"run{day}", f"2026-02-0{day + 1}", with_gradient(by), versions)
    found = timeline.timeline(tmp_path / "recorded", "port", lambda done, total: None)
    (row,) = [row for row in timeline.rows(found) if row[0].startswith("gradient/d")]
    assert row[1:3] == ["-", "="] and row[3].startswith("~") and row[4] == "DRIFTED"


def test_which_plans_runs_and_in_which_order(tmp_path, plan, recorded, capsys):
    """A single run of another plan hides nothing; of two plans the last is shown, or that of a run
    that is named; and a run stands where it was made, whenever it was recorded."""
    folder = tmp_path / "recorded"

    def told(*more, code=0):
        assert app.main(["history", "--recorded", str(folder), "--output",
                         str(tmp_path / "history"), *more]) == code
        return " ".join("".join(capsys.readouterr()).split())

    recorded("one", "2026-01-02")
    recorded("two", "2026-01-01")
    recorded("seed", "2026-03-01", of=plan.with_values(seed=1))
    assert "one has the bits of two. " in told() + " "
    assert "only one recorded run, seed," in told("--like", "seed", code=2)
    assert "no recorded run nobody" in told("--like", "nobody", code=2)
    recorded("seed-again", "2026-03-02", of=plan.with_values(seed=1))
    assert "seed-again has the bits of seed." in told()
    assert "one has the bits of two." in told("--like", "two")
    (folder / "two" / store.NOTE).write_text(json.dumps(
        {"date": "2026-01-01", "made": "2026-01-03"}))
    assert "two has the bits of one." in told("--like", "two")


def test_recorded_runs_in_a_folder_of_ones_own(tmp_path, plan, capsys):
    run, folder = run_of(tmp_path, plan, "run"), tmp_path / "mine"
    os.utime(run / "port" / "manifest.json", (86400 * 9, 86400 * 9))
    for name in ("may", "june"):
        assert app.main(["record", name, "--run", str(run), "--recorded", str(folder)]) == 0
    assert "recording" in capsys.readouterr().out
    assert json.loads((folder / "may" / store.NOTE).read_text())["made"].startswith("1970-01-1")
    options = ["--recorded", str(folder), "--output", str(tmp_path / "compared")]
    assert app.main(["compare", "may", "june", *options]) == 0
    assert app.main(["compare", "may", str(run), *options]) == 2
    assert f"give one of those in it, {run / 'port'}" in capsys.readouterr().err


def test_one_run_is_no_history(tmp_path, recorded, capsys):
    for _ in range(2):
        assert app.main(["history", "--recorded", str(tmp_path / "recorded"), "--output",
                         str(tmp_path / "history")]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "record at least two" in said and (
            "only one recorded run, one," if (tmp_path / "recorded").exists()
            else "there is no recorded run with a capture port") in said
        if not (tmp_path / "recorded").exists():
            recorded("one", "2026-01-01")


@pytest.mark.parametrize("note", ["[" * 100_000, "{", "[]", " " * 2 ** 17, '{"date": NaN}'])
def test_a_date_that_is_none_is_not_known(tmp_path, recorded, note):
    for name in ("one", "two"):
        recorded(name, "2026-01-01")
    (tmp_path / "recorded" / "two" / store.NOTE).write_text(note)
    found = timeline.timeline(tmp_path / "recorded", "port", lambda done, total: None)
    assert [run.date for run in found.runs] == ["", "2026-01-01"]


def test_a_run_of_before_dates_and_machines_is_still_read(tmp_path, recorded):
    """What an older program kept: no date, and of the machine five words."""
    recorded("one", "2026-01-01")
    (tmp_path / "recorded" / "one" / store.NOTE).unlink()
    recorded("two", "2026-02-01")
    found = timeline.timeline(tmp_path / "recorded", "port", lambda done, total: None)
    assert [run.name for run in found.runs] == ["one", "two"] and found.drifted is None
