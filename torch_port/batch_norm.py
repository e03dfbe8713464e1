"""CNTK's batch normalisation over the channels of N x C x H x W (``map_rank=1``).

    training     y = scale * (x - mean) / sqrt(variance + epsilon) + bias
                 mean, variance: the minibatch's own, over n = N*H*W values, variance biased (1/n)
                 running <- (1 - a) * running + a * batch; the batch variance here is UNBIASED
                 a = 1 if no sample was seen before, else 1 - exp(-N/T), N in samples, T = 5000
                 sample_count <- sample_count + N
    evaluation   y = scale * (x - running_mean) / sqrt(running_variance + epsilon) + bias
    T = 0: a = 1.  T = inf: a = 0 after the first.  T < 0: a = N / (N + sample_count)

Shapes: x, y N x C x H x W; scale, bias, running_mean, running_variance C; sample_count a scalar,
in samples (CNTK's aggregate_count). Before training: 1, 0, 0, 0, 0. Every training forward updates
the running statistics, so a layer that two branches share updates twice, and so does that of a
discriminator whose weights stand still while the generator learns: CNTK's do too.

float32 on the CPU: CNTK's bits, 0 values differing, in outputs of both modes, running statistics
and gradients of x, scale and bias; on every layer of the article's networks and on 1 to 16 samples
with maps of 1 x 1 to 128 x 128, whatever the threads on either side. CNTK leaves this to MKL, which
rounds so (g the gradient of y, all float32; the order of the sums is in native/cntk_batch_norm.c):

    mean = sum(x) / n        variance = sum((x - mean)^2) / n       r = 1 / sqrt(variance + epsilon)
    y = (scale * r) * (x - mean) + bias         running variance: variance * (n / (n - 1))
    backward: CNTK keeps r and gives MKL 1 / (r * r) - epsilon as the variance: another r from there
    bias' = sum(g)           scale' = sum((x - mean) * g) * r
    x' = (scale * r) * ((g - bias' / n) - (x - mean) * (scale' * r) / n)

PyTorch sums in double: nearer to the true value (output 2.7e-7 off on 4 x 16 x 64 x 64 values,
where CNTK is 6.9e-6 off), and so not what CNTK trains with. Elsewhere (float64, the oracle; GPUs;
traces and exports, which want one BatchNormalization node) the layer is PyTorch's kernel. With one
value per channel (n = 1) the running variance becomes NaN, as in CNTK.

Those are the bits of the code that MKL takes on an AMD processor. It has other code for Intel's,
whose sums of x have the same order and whose products and roots round otherwise: forced upon the
same machine (MKL_DEBUG_CPU_TYPE 5, AVX2, and 7, AVX-512) the output moves by 8.2e-8 and 5.4e-8 of
itself, gradients by 7.6e-7 at most. The port does not follow there; MKL_DEBUG_CPU_TYPE=0 in CNTK's
environment asks MKL for the code measured here (not tried on an Intel processor).

Time over that of PyTorch's kernel on 16 x 32 x 128 x 128 values: forward and backward in training
0.9 in one thread and 0.7 to 1.0 in two, evaluation 1.1 and 1.2; at worst 1.9, of under 2 ms.

An ordinary PyTorch layer differs. nn.BatchNorm2d blends its first minibatch into 0 and 1 instead of
copying it (running variance +1010 % after one minibatch of deviation 0.3, at CNTK's factor), its
momentum of 0.1 stands where CNTK has 0.0032 for 16 samples, and before any training it divides by
1 where CNTK's divides by sqrt(1e-5): 316 times less.

Source: microsoft/CNTK, Source/ComputationNetworkLib/TrainingNodes.h (factors) and
Source/Math/BatchNormalizationEngine.cpp (what MKL is given); the rest measured by
tests/torch_port/test_batch_norm.py.
"""
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from torch_port import ranks
from torch_port.native import Shape, batch_norm_library
from torch_port.rounding import has_the_order
from torch_port.threads import ranges, side_by_side

# Below that many values a thread costs more to start than it saves.
VALUES_PER_THREAD = 1 << 20


class BatchNormalization(nn.Module):
    running_mean: Tensor
    running_variance: Tensor
    sample_count: Tensor

    def __init__(self, channels: int, time_constant: float = 5000.0, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        self.time_constant = time_constant
        self.epsilon = epsilon
        self.scale = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.zeros(channels))
        # An integer: no cast of the module (.double(), .half()) can lose a sample.
        self.register_buffer("sample_count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and ranks.several():
            shared: Tensor = ranks.Shared.apply(self._normalised(ranks.Gathered.apply(x)))
            return shared
        return self._normalised(x)

    def _normalised(self, x: Tensor) -> Tensor:
        if not self.training:
            if not self._rounds_as_cntk(x):
                return F.batch_norm(x, self.running_mean, self.running_variance, self.scale,
                                    self.bias, False, 0.0, self.epsilon)
            # Through double: PyTorch's float32 root is not rounded correctly (one value in seven).
            deviation = (self.running_variance + self.epsilon).double().sqrt().float()
            factor, bias = (self.scale * (1 / deviation))[:, None, None], self.bias[:, None, None]
            y = x - self.running_mean[:, None, None]
            # One array instead of three, where no gradient asks for the second.
            return (y * factor if factor.requires_grad else y.mul_(factor)).add_(bias)
        samples, values = x.shape[0], x.numel() // self.channels
        if self._rounds_as_cntk(x):
            out: Tensor
            out, mean, variance = _AsMKL.apply(x, self.scale, self.bias, self.epsilon)
            n = torch.tensor(float(values), dtype=torch.float32)
            self._update_statistics(mean, variance * (n / (n - 1)), samples, values)
            return out
        # Momentum 1 has the kernel leave the batch's own statistics (summed in double on the CPU,
        # variance unbiased) in the two vectors it takes for running ones: one pass over x, not two.
        mean = torch.zeros_like(self.running_mean)
        variance = torch.zeros_like(self.running_variance)
        y = torch.batch_norm(x, self.scale, self.bias, mean, variance, True, 1.0, self.epsilon,
                             torch.backends.cudnn.enabled)
        with torch.no_grad():
            self._update_statistics(mean, variance, samples, values)
        return y

    def _rounds_as_cntk(self, x: Tensor) -> bool:
        """Whether CNTK's arithmetic is at hand: float32 on the CPU, or on a GPU that was
        asked. A trace and an export, which want one BatchNormalization node, take PyTorch's. So
        does an x of another shape, which PyTorch's refuses."""
        return (not torch.jit.is_tracing() and not torch.compiler.is_compiling()
                and x.device == self.scale.device and has_the_order(x)
                and x.dtype == self.scale.dtype == torch.float32
                and x.ndim == 4 and x.shape[1] == self.channels and x.numel() > 0)

    def _update_statistics(self, mean: Tensor, unbiased_variance: Tensor, samples: int,
                           values: int) -> None:
        """``values`` is n = N*H*W, ``samples`` is N."""
        a = self.update_factor(samples)
        if a:  # 0 times infinity would be no number
            mean, kept = mean.detach(), self.variance_kept(unbiased_variance.detach(), values)
            self.running_mean.mul_(1 - a).add_(mean * a)
            self.running_variance.mul_(1 - a).add_(kept * a)
        self.sample_count += samples

    def update_factor(self, samples: int) -> float:
        """a of the running update, for a minibatch of so many samples."""
        count, T = int(self.sample_count), self.time_constant
        if count == 0 or T == 0:
            return 1.0
        if T < 0:
            return samples / (samples + count)
        return -math.expm1(-samples / T)

    @staticmethod
    def variance_kept(unbiased_variance: Tensor, values: int) -> Tensor:
        """The variance that enters the running one."""
        return unbiased_variance

    def extra_repr(self) -> str:
        return f"{self.channels}, time_constant={self.time_constant}, epsilon={self.epsilon}"


class _AsMKL(torch.autograd.Function):
    """(y, mean, biased variance) of a minibatch by cntk_batch_norm.c, and its backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor, epsilon: float
                ) -> tuple[Tensor, Tensor, Tensor]:
        x, scale, bias = (t.resolve_neg().contiguous() for t in (x, scale, bias))
        if x.is_cuda:
            from torch_port.gpu import batch_norm as on_gpu  # imports Triton
            y, mean, variance = on_gpu.forward(x, scale, bias, epsilon)
        else:
            y, mean, variance = (torch.empty_like(like) for like in (x, scale, scale))
            _over_channels(batch_norm_library().batch_norm_forward, x, (x, scale, bias), epsilon,
                           (y, mean, variance))
        ctx.save_for_backward(x, scale, mean, variance)
        ctx.epsilon = epsilon
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (x, scale, mean, variance), g = ctx.saved_tensors, g.resolve_neg().contiguous()
        if x.is_cuda:
            from torch_port.gpu import batch_norm as on_gpu
            return *on_gpu.backward(x, g, scale, mean, variance, ctx.epsilon), None
        gradients = torch.empty_like(x), torch.empty_like(scale), torch.empty_like(scale)
        _over_channels(batch_norm_library().batch_norm_backward, x,
                       (x, g, scale, mean, variance), ctx.epsilon, gradients)
        return *gradients, None


def _over_channels(function: Callable[..., None], x: Tensor, given: tuple[Tensor, ...],
                   epsilon: float, made: tuple[Tensor, ...]) -> None:
    """Calls the C function for all channels, in as many threads as PyTorch's own kernels take.
    No sum crosses channels, so the threads change no bit."""
    channels = x.shape[1]
    pointers = [[t.data_ptr() for t in tensors] for tensors in (given, made)]

    def work(start: int, end: int) -> None:
        function(Shape(*x.shape), start, end, *pointers[0], epsilon, *pointers[1])

    threads = min(torch.get_num_threads(), channels, max(1, x.numel() // VALUES_PER_THREAD))
    if threads == 1:
        work(0, channels)
        return
    side_by_side(ranges(channels, -(-channels // threads)), work)
