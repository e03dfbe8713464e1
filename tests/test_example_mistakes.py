"""The diagnosis on a user's port: mistakes in the first example, alone and in pairs.

    .venv-torch/bin/python -m pytest tests/test_example_mistakes.py --every-mistake

runs all of them, 10 seconds each; without the option, some. What is known to be misnamed is marked,
and fails here once it is not.
"""
import re

import numpy as np
import pytest

from tests.conftest import EVERY_MISTAKE, ROOT
from tests.example_mistakes import BEFORE, MISNAMED, MISTAKES, REFUSED
from tests.test_examples import judged, reference  # noqa: F401
from torch_port.adapter.network import MatchingError

pytestmark = pytest.mark.filterwarnings("ignore")
EXAMPLE = ROOT / "examples" / "sequential"
PAIRS = 20


def pairs(count: int) -> list[tuple[str, str]]:
    """Drawn once and for all; the two are of different kinds, and both named where alone."""
    names = [name for name in MISTAKES if name not in (*MISNAMED, *REFUSED)]
    random, made = np.random.RandomState(0), list[tuple[str, str]]()
    while len(made) < count:
        a, b = (names[int(i)] for i in random.choice(len(names), 2, replace=False))
        if MISTAKES[a].kind != MISTAKES[b].kind and (a, b) not in made:
            made.append((a, b))
    return made


def pytest_generate_tests(metafunc):
    every = metafunc.config.getoption(EVERY_MISTAKE)
    if "mistake" in metafunc.fixturenames:
        metafunc.parametrize("mistake", [
            name for name in MISTAKES if name not in REFUSED][::1 if every else 13])
    if "pair" in metafunc.fixturenames:
        metafunc.parametrize("pair", pairs(PAIRS if every else 1), ids="+".join)


@pytest.fixture
def named(judged):  # noqa: F811
    """Names of mistakes -> the diagnoses of a port that makes them all, by name."""
    def named(*mistakes: str) -> list[str]:
        lines = BEFORE + "\n\n".join(MISTAKES[name].lines for name in mistakes)
        report = judged(EXAMPLE, "mended.py", lines)
        assert not report.passed
        return [one.name for one in report.diagnoses]
    return named


def known(request, name: str) -> None:
    if name in MISNAMED:
        request.applymarker(pytest.mark.xfail(reason=MISNAMED[name], strict=True))


def test_what_is_said_first(request, named, mistake):
    known(request, mistake)
    said = named(mistake)
    assert said
    assert re.fullmatch(MISTAKES[mistake].said, said[0]), said


@pytest.mark.parametrize("refused", REFUSED)
def test_a_layer_of_another_shape_is_refused(named, refused):
    with pytest.raises(MatchingError, match=REFUSED[refused]):
        named(refused)


def test_both_of_a_pair_are_named(request, named, pair):
    known(request, "+".join(pair))
    said = named(*pair)
    for one in pair:
        assert any(re.fullmatch(MISTAKES[one].said, name) for name in said), said


def test_the_known_ones_are_few():
    """At least four of five alone, the refused ones not counted as named, and half of the pairs."""
    alone = [*REFUSED, *(name for name in MISNAMED if "+" not in name)]
    assert set(alone) <= set(MISTAKES) and len(alone) <= 0.2 * len(MISTAKES)
    assert len(REFUSED) + len(MISNAMED) - len(alone) <= 0.5 * PAIRS
