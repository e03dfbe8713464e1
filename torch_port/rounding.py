"""The one switch of arithmetic: whether what is computed has CNTK's roundings."""
import os

import torch
from torch import Tensor

CNTK_THREADS = os.cpu_count() or 1


def follows_cntk(*tensors: Tensor) -> bool:
    """Whether a convolution of these is done in CNTK's order."""
    return (all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
            and not torch.onnx.is_in_onnx_export() and not torch.jit.is_tracing()
            and not torch.compiler.is_compiling()
            and not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled))


def as_cntk_rounds() -> None:
    """oneDNN off, so that convolutions have CNTK's bits (torch_port/convolution.py). oneDNN's are
    up to 2.5 times as far from float64 as CNTK's (measured)."""
    torch.backends.mkldnn.set_flags(False)
