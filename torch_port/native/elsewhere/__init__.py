"""The C kernels built by other compilers, for other processors, and run: the same bits?

    python -m torch_port.native.elsewhere

elsewhere.c is built by each compiler that is there (gcc, clang, that of Zig's wheel, the cross
compiler for aarch64) in each width, run here or in qemu-user, and prints a hash; so does a
convolution's training step in PyTorch with each branch of MKL in the environment. What could not be
tried is said, and why.
"""
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from captures.system import cpuinfo
from torch_port.native import FLAGS, command_of
from torch_port.native.products import VARIANTS, variant

SOURCE = Path(__file__).with_name("elsewhere.c")
NEEDS = {"plain": "", "narrow": "", "avx": "avx", "avx2": "avx2", "avx512": "avx512f"}
COMPILERS = ("gcc", "clang", "zig")
ARM, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
BRANCHES = ("", "COMPATIBLE", "AVX2", "AVX512")
STEP = """
import hashlib, torch
from torch_port.convolution import conv2d, conv_transpose2d
from torch_port.rounding import as_cntk_rounds
as_cntk_rounds()
torch.manual_seed(0)
torch.ones(300, 300) @ torch.ones(300, 300)  # settles MKL's branch
x, w, v = (torch.randn(s, requires_grad=True)
           for s in ((2, 24, 13, 13), (40, 24, 3, 3), (40, 8, 5, 5)))
y = conv_transpose2d(conv2d(x, w, None, (2, 2)), v, None, (2, 2), (2, 2), (1, 1))
y.square().sum().backward()
print(hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in (y, x.grad, w.grad, v.grad))
                     ).hexdigest()[:16])
"""


@dataclass(frozen=True)
class Tried:
    """hash: "" where it was not tried, and why. group: what has to have one hash."""

    group: str
    what: str
    hash: str = ""
    why: str = ""


def built(compiler: str, flags: tuple[str, ...], folder: Path) -> Path:
    """Raises CalledProcessError: the compiler refused."""
    program = folder / "elsewhere"
    shared = tuple(flag for flag in FLAGS if flag not in ("-shared", "-fPIC"))
    subprocess.run([*command_of(compiler), *shared, *flags, "-o", program, SOURCE], check=True,
                   capture_output=True, text=True)
    return program


def run(*command: str | os.PathLike[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def runs_here(name: str) -> bool:
    """Whether this processor has the variant's vectors."""
    order = list(NEEDS)
    has = variant("narrow").fastest().decode()
    if has == "avx":  # the first Zen has AVX2, and is faster without
        return not NEEDS[name] or NEEDS[name] in cpuinfo().split()
    return order.index(name) <= order.index(has)


def compiled_here(compiler: str, flags: tuple[str, ...] = ()) -> Iterator[Tried]:
    for name, wide in VARIANTS.items():
        what = f"{compiler}, {name}"
        if not command_of(compiler):
            yield Tried("kernels", what, why=f"{compiler} is not on the PATH")
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                program = built(compiler, (*wide, *flags), Path(folder))
            except subprocess.CalledProcessError as error:
                yield Tried("kernels", what, why=f"not compiled: {error.stderr.splitlines()[0]}")
                continue
            if runs_here(name):
                yield Tried("kernels", what, run(program))
            else:
                yield Tried("kernels", what, why=f"compiled, but this processor has no {name}")


def compiled_for_arm() -> Tried:
    missing = [name for name in (ARM, EMULATOR) if shutil.which(name) is None]
    what = f"{ARM}, {EMULATOR}"
    if missing:
        return Tried("kernels", what, why=f"{' and '.join(missing)} not on the PATH (Debian: "
                                          "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)")
    with tempfile.TemporaryDirectory() as folder:
        return Tried("kernels", what, run(EMULATOR, built(ARM, ("-static", *VARIANTS["narrow"]),
                                                          Path(folder))))


def in_pytorch() -> Iterator[Tried]:
    """A step of training with MKL told each of its branches."""
    for branch in BRANCHES:
        told = {"MKL_CBWR": branch} if branch else {}
        done = subprocess.run([sys.executable, "-c", STEP], check=True, capture_output=True,
                              text=True, env={**os.environ, **told})
        yield Tried("PyTorch", f"MKL_CBWR={branch}" if branch else "MKL as it is",
                    done.stdout.strip())


def everything() -> Iterator[Tried]:
    for compiler in COMPILERS:
        yield from compiled_here(compiler)
    yield compiled_for_arm()
    yield from in_pytorch()


def differing(tried: list[Tried]) -> list[Tried]:
    """Those whose hash is another than the first of their group."""
    first: dict[str, str] = {}
    for one in tried:
        if one.hash:
            first.setdefault(one.group, one.hash)
    return [one for one in tried if one.hash and one.hash != first[one.group]]
