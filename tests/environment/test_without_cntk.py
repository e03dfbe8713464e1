"""Tests that need CNTK: not run, and said so, only where there can be none."""
import os
import subprocess
import sys

import pytest

from tests import conftest
from tests.conftest import ROOT, cntk_environment_or_fail


def test_without_a_python36_they_are_not_run_and_the_run_says_so_last():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "tests/environment/test_python36.py", "tests/environment/test_find_python.py", "-k",
         "newer or every_file or none"], cwd=ROOT, text=True, capture_output=True, check=False,
        env={**os.environ, "CNTK_PYTHON": "none"})
    assert done.returncode == 0, done.stdout
    last = done.stdout.splitlines()[-3:]
    assert " NOT RUN: 6 tests need real CNTK " in last[0]
    assert last[1:] == ["This machine has no Python 3.6 for it (CNTK_PYTHON=none, or none was "
                        "found).", "    6 of tests/environment/test_python36.py"]


@pytest.fixture
def no_environment(monkeypatch):
    monkeypatch.setattr(conftest.find_python, "installed_cntk", lambda root: None)
    conftest.without_python36.cache_clear()
    yield monkeypatch
    conftest.without_python36.cache_clear()


def test_with_a_python36_an_environment_that_is_not_there_is_a_failure(no_environment):
    no_environment.setattr(conftest.set_up, "possible", lambda write: list(
        conftest.set_up.KINDS.values()))
    with pytest.raises(pytest.fail.Exception, match="do not pass without CNTK"):
        cntk_environment_or_fail()


def test_without_one_it_is_a_skip(no_environment):
    no_environment.setattr(conftest.set_up, "possible", lambda write: [
        conftest.set_up.KINDS["torch"]])
    with pytest.raises(pytest.skip.Exception, match="needs real CNTK"):
        cntk_environment_or_fail()
