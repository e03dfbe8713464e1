"""Python 3.6 itself reads every file that has to run in CNTK's environment."""
import json
import subprocess

import pytest

from tests.conftest import ROOT, cntk_environment_or_fail

# Compiles in memory: writes no .pyc. Answers {file: error}.
COMPILE = r"""
import json, sys
errors = {}
for path in json.load(sys.stdin):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        compile(text, path, "exec")
    except SyntaxError as error:
        errors[path] = "line %s: %s" % (error.lineno, error.msg)
json.dump(errors, sys.stdout)
"""


def refused_by_python36(paths) -> dict[str, str]:
    done = subprocess.run([cntk_environment_or_fail(), "-c", COMPILE],
                          input=json.dumps([str(path) for path in paths]),
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_every_file_that_cntk_runs():
    paths = [*ROOT.glob("cntk_impl/**/*.py"), *ROOT.glob("tests/cntk_probes/**/*.py"),
             *ROOT.glob("captures/**/*.py")]
    assert len(paths) > 10
    assert refused_by_python36(paths) == {}


@pytest.mark.parametrize("newer", [
    "if (n := 10) > 5:\n    pass\n",
    "match 1:\n    case 1:\n        pass\n",
    "print(f'{1=}')\n",
    "def f(a, /):\n    pass\n",
    "from __future__ import annotations\n",
])
def test_newer_syntax_is_noticed(tmp_path, newer):
    path = tmp_path / "newer.py"
    path.write_text(newer)
    assert list(refused_by_python36([path])) == [str(path)]
