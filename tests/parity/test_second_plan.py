"""The second plan: in every option another, and a stage that says what its stages say."""
import dataclasses

import pytest

from captures.plan import LARGEST_SEED, Plan
from parity.producers.second_plan import second_plan
from parity.stages.common import Captures
from parity.stages.second import SECOND, SECOND_STAGES
from tests.captures.image_kinds import bmp
from tests.parity.test_stages import Held, made


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i in range(5):
        (folder / f"{i}.bmp").write_bytes(bmp()[:-1] + bytes([i]))
    (folder / "map.txt").write_text("".join(f".../{i}.bmp\t0\n" for i in range(5)))
    return folder / "map.txt"


@pytest.mark.parametrize("values", [{}, {"minibatch_size": 3, "seed": LARGEST_SEED,
                                        "unit_gain": 1}])
def test_every_option_is_another(images, tmp_path, values):
    plan = Plan.make(images, **{"minibatch_size": 2, **values})
    second = second_plan(plan, tmp_path)
    for option in ("seed", "minibatch_size", "unit_gain", "warmup_iterations"):
        assert getattr(second, option) != getattr(plan, option), option
    assert second.images_sha256 != plan.images_sha256
    assert second.spec.maker.last == plan.spec.maker.last
    assert second.spec.sha256 != plan.spec.sha256
    assert [line.split("\t")[0].rpartition("/")[2] for line in
            (tmp_path / "images.txt").read_text().splitlines()] == [
        f"{i}.bmp" for i in (4, 3, 2, 1, 0)]


def test_with_too_few_images_there_is_none(tmp_path):
    (tmp_path / "0.bmp").write_bytes(bmp())
    (tmp_path / "map.txt").write_text(".../0.bmp\t0\n")
    plan = Plan.make(tmp_path / "map.txt", minibatch_size=1)
    assert second_plan(plan, tmp_path / "second") is None
    assert not (tmp_path / "second").exists()


@pytest.fixture
def outer(images):
    plan = Plan.make(images, minibatch_size=4)

    def outer(change=None):
        sides = made()
        if change:
            change(sides)
        captures = Captures(*(Held(side, who, plan) for who, side in sides.items()))
        return dataclasses.replace(captures, second=captures)
    return outer


def judged(captures):
    return SECOND(captures)


def test_what_the_stages_say(outer):
    got = judged(outer())
    by_stage = {check.place.split("/", 1)[1]: check for check in got.checks}
    assert set(by_stage) == {one.name for one in SECOND_STAGES if one.name != "twin"}
    assert got.passed and "checks" in got.notes[-1]


def test_a_failure_is_named_with_its_stage(outer):
    def seed_ignored(sides):
        sides["port"].arrays["initial/generator/conv1/weight"] = \
            sides["port"].arrays["initial/generator/conv1/weight"][::-1]

    got = judged(outer(seed_ignored))
    failed = [check for check in got.checks if not check.passed]
    assert [check.place for check in failed] == ["second/initial/generator/conv1/weight"]
    assert "of the second plan fail" in failed[0].detail


def test_without_a_second_plan_nothing_is_judged(outer):
    got = judged(dataclasses.replace(outer(), second=None))
    assert got.not_judged and not got.checks
