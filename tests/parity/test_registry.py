"""A stage is one file and one line: everything else is derived from the registry."""
import importlib

import pytest

from captures.errors import PlanError
from parity.cli import app, options, run
from parity.judge import judgements
from parity.judge.results import Report
from parity.report import facts
from parity.stages import registry
from parity.stages.common import Captures, Nothing
from parity.stages.definition import Definition, Needs, only
from tests.conftest import ROOT


def judge(stage, captures):
    stage.checks.append(judgements.there("all/of/it"))


NEW = Definition("new/one", "a stage that a test adds", "by looking", judge,
                 only("cntk", facts=("something",)), ("training",))


@pytest.fixture
def added(monkeypatch):
    """The one line, in the middle."""
    at = [stage.name for stage in registry.STAGES].index("forward/g_step")
    monkeypatch.setattr(registry, "STAGES", [*registry.STAGES[:at], NEW, *registry.STAGES[at:]])


def test_a_new_stage_is_in_the_order_and_the_table(added):
    names = registry.names()
    assert names[names.index("new/one") + 1] == "forward/g_step"
    assert "| new/one | a stage that a test adds | by looking |" in registry.table()
    assert registry.chosen(["step", "new/one"])[0] is NEW


def test_a_new_stage_has_its_turn(added):
    turn = {stage.name: part for part, stages in registry.schedule() for stage in stages}
    assert turn["new/one"] == "training"
    assert registry.parts([NEW]) == ("training",)


def test_a_stage_that_is_not_there_is_refused():
    with pytest.raises(PlanError, match=r"no stage 'forward/backwards': give some of reference, "):
        registry.chosen(["forward/backwards"])


def test_a_new_stage_is_a_choice_of_the_command_line(added, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    try:
        importlib.reload(options), importlib.reload(run)
        assert app.main(["run", "--help"]) == 0
    finally:
        monkeypatch.undo()
        importlib.reload(options), importlib.reload(run)
    said = capsys.readouterr().out
    assert "new/one" in said and "forward/g_step" in said


@pytest.mark.parametrize("facts_of_cntk, passed", [({"something": 1}, True), ({}, False)])
def test_a_new_stage_is_judged_and_reported(added, facts_of_cntk, passed):
    cntk = Nothing()
    cntk.facts = facts_of_cntk
    captures = Captures(cntk, Nothing(), Nothing())
    (stage,) = [one(captures) for one in registry.chosen(["new/one"])]
    report = Report({}, {}, [stage])
    assert report.passed is passed
    if not passed:
        assert report.coverage == [
            "new/one was not judged: the capture of CNTK has no fact something"]
        assert "not judged" in facts.summary(report) or "could be judged" in facts.summary(report)


def test_every_part_and_prefix_is_one_that_there_is():
    for stage in registry.STAGES:
        assert all(part in registry.PARTS for part in stage.parts), stage.name
        assert all(isinstance(needs, Needs) for needs in stage.needs.values())


def test_the_readme_has_the_table():
    assert registry.table() in (ROOT / "README.md").read_text()
