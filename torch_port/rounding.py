"""TODO."""
import ctypes
import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from torch_port.threads import _side_by_side

# --------------------------------------------------------------------------------- MKL's branch

_OFF, _COMPATIBLE = 1, 3  # MKL_CBWR_BRANCH_OFF and MKL_CBWR_COMPATIBLE of mkl_service.h


def ask_mkl(compatible: bool) -> bool:
    """Asks MKL for the branch COMPATIBLE, or for its fastest; whether it agreed. It does not after
    its first product of matrices, and there are PyTorchs without MKL."""
    return mkl_branch(_COMPATIBLE if compatible else _OFF)


def mkl_branch(number: int) -> bool:
    """The same for any branch of mkl_service.h, such as MKL_CBWR_AVX2, 10."""
    try:
        libtorch = ctypes.CDLL(os.fspath(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return libtorch.mkl_serv_cbwr_set(number) == 0
    except (OSError, AttributeError):
        return False


# 2^60 and -2^60 in a row of ones: what is left of the sum are the ones added after both. Place of
# -2^60 (2^60 is at 0) to the number of ones lost, of 576. MKL's other branches lose 113, 129 and
# 576 at the last three.
LOST = {1: 2, 64: 65, 111: 112, 112: 240, 128: 240, 575: 128}


def lost_and_fused() -> tuple[dict[int, int], bool]:
    """What a product of 128 x 576 by 576 x 1024 makes of LOST, and whether it multiplies and adds
    with one rounding: -(1 + 2^-11) + (1 + 2^-12)^2 is 2^-24 then, and 0 with two."""
    ones = torch.ones(576, 1024)
    cancelling, squares = torch.ones(128, 576), torch.zeros(128, 576)
    for row, place in enumerate(LOST):
        cancelling[row, 0], cancelling[row, place] = 2.0 ** 60, -(2.0 ** 60)
    squares[:, 0], squares[:, 1] = -(1 + 2.0 ** -11), 1 + 2.0 ** -12
    factors = ones.clone()
    factors[1] = 1 + 2.0 ** -12
    ((kept, fused),) = _side_by_side([0], lambda _: (torch.mm(cancelling, ones),
                                                     torch.mm(squares, factors)))
    return {place: 576 - round(float(kept[row, 0])) for row, place in enumerate(LOST)}, bool(
        fused.any())


@cache
def bit_exact() -> bool:
    """Whether this machine's products of matrices are CNTK's; settles MKL's branch by asking."""
    return lost_and_fused() == (LOST, False)


def follows_cntk(*tensors: Tensor) -> bool:
    """Whether a convolution of these is done in CNTK's order."""
    return (all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
            and not torch.onnx.is_in_onnx_export() and not torch.jit.is_tracing()
            and not torch.compiler.is_compiling()
            and not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled)
            and bit_exact())


# ---------------------------------------------------------------------------- samples and threads

CNTK_THREADS = os.cpu_count() or 1

def as_cntk_rounds() -> None:
    """oneDNN off, so that convolutions have CNTK's bits (torch_port/convolution.py). oneDNN's are
    up to 2.5 times as far from float64 as CNTK's (measured)."""
    torch.backends.mkldnn.set_flags(False)
