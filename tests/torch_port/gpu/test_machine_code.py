"""What Triton makes of the kernels for a GPU, without one: nothing multiplies and adds at once."""
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import NEEDS_TRITON, ROOT

PROGRAM = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from torch_port.gpu import kernels

SMALL = {"TERM": 2, "CHANNELS": 16, "UNROLL": 4, "ROWS": 16, "LANES": 32, "JOBS": 32}
WIDE = {"steps": "*i64", "rows": "*i32", "offsets": "*i32", "places": "*i32", "jobs": "*i32"}
NAMES = {"whole_sums", "one_step", "join", "dots", "chains", "channel_sums"}
FLOATS = {"values", "packed", "made", "parts", "a", "b", "x", "g", "mean", "sums"}
made = {}
for name in sorted(NAMES):
    function = getattr(kernels, name)
    constants = {one: SMALL[one] for one in function.arg_names if one in SMALL}
    types = {one: "constexpr" if one in constants else WIDE.get(one) or (
        "*fp32" if one in FLOATS else "i32") for one in function.arg_names}
    source = ASTSource(fn=function, signature=types, constexprs={
        (function.arg_names.index(one),): value for one, value in constants.items()})
    text = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={
        "num_warps": 1, "enable_fp_fusion": sys.argv[1] == "fused"}).asm["ptx"]
    made[name] = {word: text.count(word) for word in ("fma.rn.f32", "mul.f32", "mul.rn.f32",
                                                      "add.f32", "add.rn.f32", ".ftz")}
print(json.dumps(made))
"""


def compiled(how):
    if importlib.util.find_spec("triton") is None:
        pytest.skip(NEEDS_TRITON)
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True,
                          text=True, check=False,
                          env={**os.environ, "TRITON_INTERPRET": "0"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_is_fused_and_nothing_flushed():
    for name, words in compiled("apart").items():
        assert words["fma.rn.f32"] == words[".ftz"] == 0, name
        assert words["add.f32"] + words["add.rn.f32"] > 0, name
        assert words["mul.f32"] + words["mul.rn.f32"] > 0 or name == "join", name


def test_where_fusing_is_on_it_shows():
    assert all(words["fma.rn.f32"] > 0 or name in ("join", "channel_sums", "dots")
               for name, words in compiled("fused").items())
