"""The kernels by other compilers and for other processors, as far as their tools are here."""
import shutil
import subprocess

import pytest

from torch_port import native
from torch_port.native import elsewhere


def test_every_build_has_the_same_bits(tmp_path):
    tried = [one for compiler in elsewhere.COMPILERS for one in elsewhere.compiled_here(compiler)]
    tried += [elsewhere.compiled_for_arm()]
    assert not elsewhere.differing(tried)
    assert all(one.hash or one.why for one in tried)
    ran = {one.what for one in tried if one.hash}
    assert {"gcc, plain", "gcc, narrow"} <= ran


def test_fused_multiply_add_shows(tmp_path):
    plain = next(elsewhere.compiled_here("gcc"))
    if shutil.which(elsewhere.ARM) and shutil.which(elsewhere.EMULATOR):
        compiler, emulator, flags = elsewhere.ARM, [elsewhere.EMULATOR], ("-static",)
    else:
        compiler, emulator, flags = "gcc", [], ("-march=native",)
    program = elsewhere.built(compiler, (*flags, "-DWIDTH=4", "-ffp-contract=fast"), tmp_path)
    fused = elsewhere.run(*emulator, program)
    assert elsewhere.differing([plain, elsewhere.Tried("kernels", "fused", fused)])


def test_what_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    assert all("not on the PATH" in one.why and not one.hash
               for one in [*elsewhere.compiled_here("clang"), *elsewhere.compiled_here("zig"),
                           elsewhere.compiled_for_arm()])


def test_where_there_is_no_cc_the_one_beside_pytorch_is_taken(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: name == "ziglang")
    assert native.command_of("cc")[1:] == native.command_of("zig")[1:] == ["-m", "ziglang", "cc"]
    assert native.command_of("gcc") == []
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert native.command_of("cc") == ["/usr/bin/cc"]


def test_a_compiler_that_refuses_is_said(monkeypatch):
    def refuse(*arguments):
        raise subprocess.CalledProcessError(1, "cc", stderr="elsewhere.c: no vectors\nand more")
    monkeypatch.setattr(elsewhere, "built", refuse)
    assert next(elsewhere.compiled_here("gcc")).why == "not compiled: elsewhere.c: no vectors"


@pytest.mark.parametrize(("hashes", "count"), [(("a", "a", ""), 0), (("a", "b", "a"), 1)])
def test_differing(hashes, count):
    assert len(elsewhere.differing(
        [elsewhere.Tried("kernels", str(i), one) for i, one in enumerate(hashes)])) == count
