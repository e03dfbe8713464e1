"""Which room a line may stand in: the import rules, the word rule, and what a file must not do.

Each rule reads the syntax trees of all files and returns what breaks it. EXCEPTIONS names the files
in which a rule does not hold, with the reason; one that is no longer needed fails. Below, each rule
is shown files that break it.
"""
import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import ROOT

ROOMS = ("captures", "environment", "cntk_impl", "torch_port", "scores", "datasets", "parity",
         "planted", "benchmarks")
FRAMEWORKS = {"torch", "torchvision", "cntk", "tensorflow", "jax"}
# Inside parity: a part may import parts of lower rank, and itself.
# (onnx and golden return the judge's checks.)
RANK = {"judge": 0, "onnx": 1, "golden": 1, "producers": 2, "stages": 2, "blame": 3, "diagnosis": 3,
        "report": 3,
        "comparison": 4, "history": 4, "evidence": 5, "cli": 6, "__main__": 7}
WORDS = re.compile(r"(?<![a-z])(generator|discriminator|conv7|tanh7|sigmoid7)(?![a-z])", re.I)
WORDS_MAY_STAND = ("captures/article.py", "cntk_impl/", "torch_port/dcgan.py", "torch_port/train/",
                   "planted/")


@dataclass(frozen=True)
class File:
    path: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.path.split("/")[0]

    @property
    def part(self) -> str:
        """Of parity: the folder or file below it."""
        return self.path.split("/")[1].removesuffix(".py")

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and module of every import, those inside functions too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.module and not node.level, f"{self.path}: write imports in full"
                yield node.lineno, node.module
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Every call, and the name that is called as it is written: ``os.replace``."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node, called(node)


Broken = Iterator[tuple[File, int, str]]
Rule = Callable[[list[File]], Broken]


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def files_of(sources: dict[str, str]) -> list[File]:
    return [File(path, ast.parse(source, path)) for path, source in sources.items()]


def the_house() -> list[File]:
    return files_of({path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
                     for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))})


# -------------------------------------------------------------------------------------- the rules


def the_ground(files: list[File]) -> Broken:
    """1. captures imports the standard library and numpy; environment the standard library."""
    may = {"captures": {"captures", "numpy"}, "environment": {"environment"}}
    for file in files:
        for line, name in file.imports():
            top = name.split(".")[0]
            if file.room in may and top not in may[file.room] | sys.stdlib_module_names:
                yield file, line, f"imports {top}"


def programs_know_no_judge(files: list[File]) -> Broken:
    """2. cntk_impl, torch_port, scores and datasets import captures, never parity or each other."""
    programs = {"cntk_impl", "torch_port", "scores", "datasets"}
    for file in files:
        for line, name in file.imports():
            top = name.split(".")[0]
            if file.room in programs and top in {"parity", "tests", *programs} - {file.room}:
                yield file, line, f"imports {top}"


def the_judge_knows_no_framework(files: list[File]) -> Broken:
    """3. parity imports no framework and no program; only parity/onnx imports onnx."""
    programs = {"cntk_impl", "torch_port", "scores", "datasets", "benchmarks"}
    for file in files:
        if file.room != "parity":
            continue
        for line, name in file.imports():
            top = name.split(".")[0]
            if top in FRAMEWORKS | programs or (
                    top in {"onnx", "onnxruntime"} and file.part != "onnx"):
                yield file, line, f"imports {top}"


def floors(files: list[File]) -> Broken:
    """4. judge, onnx, golden <- producers, stages <- blame, report <- comparison, history <- cli,
    evidence."""
    for file in files:
        if file.room != "parity" or file.part == "__init__":
            continue
        if file.part not in RANK:
            yield file, 1, f"parity/{file.part} has no floor: give it one in RANK"
            continue
        for line, name in file.imports():
            parts = name.split(".")
            other = parts[1] if parts[0] == "parity" and len(parts) > 1 else file.part
            if other != file.part and RANK.get(other, 0) >= RANK[file.part]:
                yield file, line, f"imports parity.{other}"


def a_stage_blames_nobody_and_runs_nothing(files: list[File]) -> Broken:
    """4. No stage blames, no stage runs a network."""
    for file in files:
        for line, name in file.imports():
            if file.path.startswith("parity/stages/") and re.match(
                    r"parity\.(blame|producers|onnx\.runtime)\b|onnxruntime", name):
                yield file, line, f"imports {name}"


def the_command_line(files: list[File]) -> Broken:
    """5. Consoles, options and exit codes live in parity/cli; of other rooms in ``__main__``."""
    for file in files:
        if file.path.startswith("parity/cli/") or file.path.endswith("/__main__.py"):
            continue
        for line, name in file.imports():
            if name.split(".")[0] in {"argparse", "typer", "click", "optparse"}:
                yield file, line, f"imports {name}"
        for node, name in file.calls():
            if name in {"sys.exit", "Console"} and not in_main_guard(file, node):
                yield file, node.lineno, f"calls {name}"


def nothing_imports_tests(files: list[File]) -> Broken:
    """5. Nothing imports tests, nor the mistakes that are planted for a test."""
    for file in files:
        for line, name in file.imports():
            top = name.split(".")[0]
            if top == "tests" or (top == "planted" and file.room != "planted"):
                yield file, line, f"imports {top}"


def words(files: list[File]) -> Broken:
    """6. Words of one network stand in the article's room; everything else asks the spec.

    In code: names and strings, not docstrings.
    """
    for file in files:
        if file.path.startswith(WORDS_MAY_STAND):
            continue
        prose = {id(node.value) for node in ast.walk(file.tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(file.tree):
            for text in texts(node) if id(node) not in prose else ():
                if found := WORDS.search(text):
                    yield file, getattr(node, "lineno", 0), f"says {found[0]}"


def texts(node: ast.AST) -> Iterator[str]:
    for value in (getattr(node, name, None) for name in ("id", "attr", "arg", "name", "value")):
        if isinstance(value, str):
            yield value


# A call of these, or an expression whose value nobody takes, at the top of a module changes
# something, reads a file, or loads a library.
CHANGING = re.compile(r"(.*\.)?(open|CDLL|cdll\.LoadLibrary|read_text|read_bytes|mkdir|load|"
                      r"loadtxt|imread|set_flags|set_num_threads|setdefault|update|run|check_output|Popen|"
                      r"use_default_device|select_device|ask_mkl|filterwarnings|setrecursionlimit)")


def importing_changes_nothing(files: list[File]) -> Broken:
    """7. No global switch is set, no file read, no library loaded for its side effect."""
    for file in files:
        for node in at_import(file.tree.body):
            calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
            if isinstance(node, ast.Expr) and calls:
                yield file, node.lineno, f"calls {called(calls[0])} when imported"
            else:
                for call in calls:
                    if CHANGING.fullmatch(called(call)):
                        yield file, node.lineno, f"calls {called(call)} when imported"
            if isinstance(node, ast.Assign) and any(
                    isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
                yield file, node.lineno, f"sets {ast.unparse(node.targets[0])} when imported"


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The simple statements that importing runs."""
    for node in body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        inner = [getattr(node, name, []) for name in ("body", "orelse", "handlers", "finalbody")]
        if any(inner):
            for statements in inner:
                for one in statements:
                    yield from at_import(one.body if isinstance(one, ast.ExceptHandler) else [one])
        else:
            yield node


def no_unpickling(files: list[File]) -> Broken:
    """What is read from a file runs nothing."""
    for file in files:
        for line, name in file.imports():
            if name.split(".")[0] in {"pickle", "marshal", "shelve", "dill", "joblib"}:
                yield file, line, f"imports {name}"
        for node, name in file.calls():
            given = {one.arg: ast.unparse(one.value) for one in node.keywords}
            if given.get("allow_pickle", "False") != "False":
                yield file, node.lineno, "allow_pickle"
            if name == "torch.load" and given.get("weights_only") != "True":
                yield file, node.lineno, "torch.load without weights_only=True"


def one_write_and_rename(files: list[File]) -> Broken:
    """Write-and-rename stands in captures/files.py; of whole folders in captures/output.py."""
    for file in files:
        if file.path in ("captures/files.py", "captures/output.py"):
            continue
        for node, name in file.calls():
            renames = name in {"os.replace", "os.rename", "shutil.move"} or (
                name.endswith((".replace", ".rename")) and len(node.args) == 1
                and not node.keywords)
            if renames:
                yield file, node.lineno, f"calls {name}"


def no_paths_by_hand(files: list[File]) -> Broken:
    """The packages are installed: nobody changes where Python looks for them."""
    for file in files:
        for node, name in file.calls():
            if re.match(r"sys\.path\.(insert|append|extend)|site\.addsitedir", name):
                yield file, node.lineno, f"calls {name}"
        for node in ast.walk(file.tree):
            if (isinstance(node, ast.Constant) and node.value == "PYTHONPATH") or (
                    isinstance(node, ast.keyword) and node.arg == "PYTHONPATH"):
                yield file, getattr(node, "lineno", 0), "PYTHONPATH"


def in_main_guard(file: File, node: ast.AST) -> bool:
    return any(node in ast.walk(one) for one in file.tree.body
               if isinstance(one, ast.If) and "__name__" in ast.unparse(one.test))


RULES: tuple[Rule, ...] = (
    the_ground, programs_know_no_judge, the_judge_knows_no_framework, floors,
    a_stage_blames_nobody_and_runs_nothing, the_command_line, nothing_imports_tests, words,
    importing_changes_nothing, no_unpickling, one_write_and_rename, no_paths_by_hand)


# ------------------------------------------------------------------------- where a rule cannot hold

# Rule to file or folder, and the reason.
EXCEPTIONS: dict[str, dict[str, str]] = {
    "the_ground": {
        "environment/quiet.py": "in a function that CNTK's environment alone calls"},
    "programs_know_no_judge": {
        "cntk_impl/capture/pictures.py": "the score's formula and scaling, Python 3.6 for its sake",
        "scores/generators.py": "a model's file is read, and run, by the port"},
    "the_judge_knows_no_framework": {
        "parity/cli/score.py": "the command of scores, which has none of its own",
        "parity/cli/sensitivity.py": "the command of scores, which has none of its own",
        "parity/cli/score_limits.py": "the command of scores, which has none of its own",
        "parity/cli/equivalent.py": "the command of scores, which has none of its own",
        "parity/producers/for_score.py": "names the classifier's file, reads what was trained",
        "parity/report/gather.py": "contact sheets",
        "parity/stages/score.py": "the score's formulas; the classifier ran before",
        "parity/blame/reproduction.py": "writes the one-node graphs of a reproduction",
        "parity/evidence/examine.py": "loads the graph that a defect changes",
        "parity/evidence/matrix.py": "their versions, for the page"},
    "the_command_line": {
        "environment/set_up.py": "runs before there is a library for it",
        "cntk_impl/console.py": "a program's options, in Python 3.6",
        "parity/evidence/false_alarms.py": "a quiet console for processes of its own"},
    "words": {
        "torch_port/convert/": "converts the article's two networks",
        "torch_port/capture/": "captures the article's two networks",
        "torch_port/stand_in/": "does what CNTK's capture of the two does",
        "torch_port/adapter/": "the names that an adapter gives its two networks",
        "torch_port/losses.py": "the losses of the two",
        "torch_port/onnx_export.py": "exports the two",
        "torch_port/reader/augmentation.py": "a generator of random numbers",
        "torch_port/reader/order.py": "a generator of random numbers",
        "torch_port/translate/adam.py": "torch.Generator",
        "torch_port/translate/batch_norm.py": "torch.Generator",
        "datasets/dataset.py": "the version of the program that draws",
        "scores/generators.py": "which of a model's two networks makes pictures",
        "parity/judge/policies.py": "of what a number was measured",
        "benchmarks/": "measure the article's networks"},
    "one_write_and_rename": {
        "scores/classifiers/weights.py": "a download goes on in its part, renamed when whole",
        "environment/executable_stack.py": "the standard library alone",
        "environment/missing_libraries.py": "the standard library alone",
        "environment/processors.py": "the standard library alone",
        "environment/set_up.py": "the standard library alone",
        "captures/training/checkpoint.py": "a folder, brought to the disk first",
        "datasets/dataset.py": "a folder"},
    "no_paths_by_hand": {
        "captures/process.py": "names the variable to keep it out",
        "environment/find_python.py": "names the variable to keep it out",
        "environment/commands.py": "names the variable to keep it out",
        "torch_port/adapter/load.py": "a user's file, which may import its neighbours",
        "parity/evidence/pool.py": "for the process that all others are forked from"},
}


def excused(rule: str, path: str) -> str | None:
    """The exception that the file falls under."""
    names = EXCEPTIONS.get(rule, ())
    return next((name for name in names
                 if path == name or (name.endswith("/") and path.startswith(name))), None)


@pytest.fixture(scope="module")
def house():
    files = the_house()
    assert len(files) > 100 and {file.room for file in files} >= {"captures", "parity"}
    return files


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_holds(house, rule):
    found = list(rule(house))
    broken = [f"{file.path}:{line} {what}" for file, line, what in found
              if excused(rule.__name__, file.path) is None]
    assert broken == [], rule.__doc__
    needed = {excused(rule.__name__, file.path) for file, _, _ in found}
    named = set(EXCEPTIONS.get(rule.__name__, ()))
    assert named - needed == set(), "these exceptions are no longer needed: take them out"


BROKEN: list[tuple[Rule, str, str]] = [
    (the_ground, "captures/plan.py", "import torch"),
    (the_ground, "captures/plan.py", "def f():\n    from parity.judge import metrics"),
    (the_ground, "environment/set_up.py", "import numpy"),
    (programs_know_no_judge, "cntk_impl/x.py", "from parity import report"),
    (programs_know_no_judge, "torch_port/x.py", "import parity.judge.metrics"),
    (programs_know_no_judge, "scores/x.py", "import torch_port.dcgan"),
    (programs_know_no_judge, "datasets/x.py", "from tests.conftest import ROOT"),
    (the_judge_knows_no_framework, "parity/stages/x.py", "import torch.nn as nn"),
    (the_judge_knows_no_framework, "parity/judge/x.py", "def f():\n    import onnx"),
    (the_judge_knows_no_framework, "parity/report/x.py", "from torch_port import dcgan"),
    (floors, "parity/judge/x.py", "from parity.stages import common"),
    (floors, "parity/stages/x.py", "from parity.producers import jobs"),
    (floors, "parity/stages/x.py", "from parity import comparison"),
    (floors, "parity/report/x.py", "import parity.cli.app"),
    (floors, "parity/evidence/x.py", "from parity.cli.options import RUNS"),
    (floors, "parity/somewhere/x.py", ""),
    (a_stage_blames_nobody_and_runs_nothing, "parity/stages/x.py", "from parity import blame"),
    (a_stage_blames_nobody_and_runs_nothing, "parity/stages/x.py", "import onnxruntime"),
    (a_stage_blames_nobody_and_runs_nothing, "parity/stages/x.py", "import parity.onnx.runtime"),
    (the_command_line, "parity/evidence/x.py", "import argparse"),
    (the_command_line, "torch_port/train/run.py", "import typer"),
    (the_command_line, "parity/stages/x.py", "import sys\nsys.exit(2)"),
    (the_command_line, "parity/history/x.py", "console = Console(width=80)"),
    (nothing_imports_tests, "parity/evidence/x.py", "from tests.conftest import ROOT"),
    (nothing_imports_tests, "torch_port/x.py", "def f():\n    import planted.catalogue"),
    (words, "parity/stages/x.py", "place = 'generator/conv1/output'"),
    (words, "parity/report/x.py", "Discriminator = 1"),
    (words, "parity/judge/x.py", "if layer == 'conv7':\n    pass"),
    (words, "captures/names.py", "def sigmoid7_of(x):\n    return x"),
    (words, "captures/names.py", "f(discriminator_real=1)"),
    (importing_changes_nothing, "torch_port/x.py", "torch.backends.mkldnn.set_flags(False)"),
    (importing_changes_nothing, "captures/x.py", "TABLE = open('table.txt').read()"),
    (importing_changes_nothing, "torch_port/x.py", "try:\n    LIB = ctypes.CDLL('x.so')\n"
                                                   "except OSError:\n    LIB = None"),
    (importing_changes_nothing, "parity/x.py", "os.environ['MKL_CBWR'] = 'COMPATIBLE'"),
    (importing_changes_nothing, "cntk_impl/x.py", "DEVICE = select_device()"),
    (no_unpickling, "captures/x.py", "import pickle"),
    (no_unpickling, "captures/x.py", "np.load(path, allow_pickle=True)"),
    (no_unpickling, "torch_port/x.py", "torch.load(path)"),
    (no_unpickling, "torch_port/x.py", "torch.load(path, weights_only=False)"),
    (one_write_and_rename, "parity/x.py", "os.replace(part, path)"),
    (one_write_and_rename, "parity/x.py", "part.replace(path)"),
    (one_write_and_rename, "datasets/x.py", "Path(part).rename(path)"),
    (no_paths_by_hand, "benchmarks/x.py", "sys.path.insert(0, ROOT)"),
    (no_paths_by_hand, "tests/x.py", "subprocess.run(c, env={'PYTHONPATH': ROOT})"),
    (no_paths_by_hand, "tests/x.py", "dict(os.environ, PYTHONPATH=ROOT)"),
]


@pytest.mark.parametrize("rule, path, source", BROKEN)
def test_what_breaks_a_rule_is_found(rule, path, source):
    found = list(rule(files_of({path: source})))
    assert found and found[0][0].path == path


def test_every_rule_is_shown_to_fail():
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


@pytest.mark.parametrize("path, source", [
    ("captures/x.py", '"""Of the generator and the discriminator."""\nimport os, numpy as np'),
    ("captures/article.py", "NETWORKS = ('generator', 'discriminator')"),
    ("captures/files.py", "import os\ndef f(a, b):\n    os.replace(a, b)"),
    ("parity/stages/x.py", "from parity.judge import metrics\nfrom parity.stages import common\n"
                           "TEXT = 'a'.replace('a', 'b')\nTABLE = dict(a=frozenset({1}))"),
    ("parity/cli/x.py", "import typer\nfrom parity.evidence import defects"),
    ("parity/onnx/x.py", "import onnx\nfrom parity.judge import results"),
    ("torch_port/x.py", "import torch\nfrom captures import plan\n"
                        "def f():\n    torch.set_num_threads(1)"),
    ("torch_port/x/__main__.py", "import sys, typer\nif __name__ == '__main__':\n    sys.exit(0)"),
])
def test_what_keeps_the_rules_passes(path, source):
    files = files_of({path: source})
    assert [(rule.__name__, what) for rule in RULES for _, _, what in rule(files)] == []
