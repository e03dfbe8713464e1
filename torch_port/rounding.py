"""The one switch of arithmetic: whether what is computed has CNTK's roundings."""
import torch
from torch import Tensor

DEFAULT_CNTK_THREADS = 2
_chosen = {"cntk_threads": DEFAULT_CNTK_THREADS, "gpu": 0}


def cntk_threads() -> int:
    """Of how many threads the CNTK is that is followed; the port's own are no matter."""
    return _chosen["cntk_threads"]


def has_the_order(*tensors: Tensor) -> bool:
    """Whether the device of these computes in CNTK's order: the CPU, and a GPU that was asked to
    (torch_port/gpu)."""
    return all(t.device.type == "cpu" or (t.device.type == "cuda" and bool(_chosen["gpu"]))
               for t in tensors)


def follows_cntk(*tensors: Tensor) -> bool:
    """Whether a convolution of these is done in CNTK's order."""
    return (has_the_order(*tensors) and all(t.dtype == torch.float32 for t in tensors)
            and not torch.onnx.is_in_onnx_export() and not torch.jit.is_tracing()
            and not torch.compiler.is_compiling()
            and not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled))


def as_cntk_rounds(cntk_threads: int = DEFAULT_CNTK_THREADS, gpu: bool = False) -> None:
    """As a CNTK of so many threads; oneDNN off, so that convolutions have CNTK's bits
    (torch_port/convolution.py). oneDNN's are up to 2.5 times as far from float64 as CNTK's
    (measured). gpu: on a GPU too."""
    torch.backends.mkldnn.set_flags(False)
    _chosen.update(cntk_threads=cntk_threads, gpu=int(gpu))
