"""In what arithmetic a training computes, by name.

    cntk       every sum in CNTK's order, every operation rounded as CNTK rounds it: its bits
    float32    stock PyTorch: sums in whatever order is fastest
    tf32       the same, with factors of products rounded to 10 bits (NVIDIA's matrix units)
    bfloat16   activations and factors of products rounded to 8 bits, sums in float32; weights,
               statistics, losses and Adam stay float32

The fast ones are the article's program all the same (losses, batch normalisation's statistics,
Adam, initial weights, minibatches, latents), and another rounding: from one seed a run parts from
CNTK's within some iterations, as CNTK's own other branches do.
"""
from dataclasses import dataclass

import torch

from captures.errors import TrainingError
from captures.system import cpuinfo

CNTK = "cntk"


@dataclass(frozen=True)
class Arithmetic:
    """device: cpu or cuda."""

    name: str
    device: str

    @property
    def fast(self) -> bool:
        return self.name != CNTK

    @property
    def factors(self) -> torch.dtype:
        """Of activations, and of the weights as they go into a product."""
        return torch.bfloat16 if self.name == "bfloat16" else torch.float32

    @property
    def identity(self) -> str:
        """What a run says of it, and a checkpoint: another one is refused."""
        if not self.fast:
            return "CNTK's order" + (" on a GPU" if self.device == "cuda" else "")
        return f"{self.name} on {self.device}"


NAMES = (CNTK, "float32", "tf32", "bfloat16")
ON_THE_CPU = Arithmetic(CNTK, "cpu")
DEVICES = ("cpu", "cuda")


def chosen(name: str, device: str) -> Arithmetic:
    """Raises TrainingError: this machine has not what that asks for."""
    if device == "cuda":
        _needs_gpu(name)
    elif name == "tf32":
        raise TrainingError("--arithmetic tf32 is a GPU's: give --device cuda, or --arithmetic "
                            "float32")
    elif name == "bfloat16" and not bfloat16_here():
        raise TrainingError("--arithmetic bfloat16: this processor multiplies no bfloat16 "
                            "(AVX512-BF16, AMX, ARM's BF16), so it would be slower than float32: "
                            "give --arithmetic float32")
    return Arithmetic(name, device)


def bfloat16_here() -> bool:
    """Whether the processor multiplies bfloat16."""
    return bool(set(cpuinfo().split()) & {"avx512_bf16", "amx_bf16", "bf16"})


def _needs_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        raise TrainingError(
            "--device cuda: PyTorch finds no GPU here: give --device cpu, or, where there is an "
            "NVIDIA driver, make the environment for it (ACCELERATOR=cuda bin/parity setup-torch)")
    if name in ("tf32", "bfloat16") and torch.cuda.get_device_capability() < (8, 0):
        raise TrainingError(f"--arithmetic {name}: this GPU has no matrix units for it (NVIDIA's "
                            "Ampere and later have): give --arithmetic float32")
    if name == CNTK:
        try:
            import triton  # noqa: F401
        except ImportError:
            raise TrainingError("--arithmetic cntk on a GPU needs Triton, which PyTorch's build "
                                "for CUDA brings: give --device cpu, or install that") from None


def use(arithmetic: Arithmetic) -> None:
    """Sets PyTorch's switches for one of the fast ones."""
    torch.backends.mkldnn.set_flags(True)
    if arithmetic.device == "cuda":
        fast = arithmetic.name != "float32"
        torch.backends.cuda.matmul.allow_tf32 = fast
        torch.backends.cudnn.allow_tf32 = fast
        torch.backends.cudnn.benchmark = True
