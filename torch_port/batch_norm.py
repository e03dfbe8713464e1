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

Errors, root mean square against float64. Given CNTK's own statistics of a minibatch the running
update has CNTK's bits; the statistics themselves are summed in double, where CNTK sums in float32:
on 4 x 16 x 64 x 64 values the output is off by 2.7e-7 (CNTK 6.9e-6), mean 1.2e-7 (6.8e-6), variance
3.4e-8 (1.4e-6). Gradients of x, scale, bias: at most CNTK's own error. With one value per channel
(n = 1) the running variance becomes NaN, as in CNTK.

An ordinary PyTorch layer differs. nn.BatchNorm2d blends its first minibatch into 0 and 1 instead of
copying it (running variance +1010 % after one minibatch of deviation 0.3, at CNTK's factor), its
momentum of 0.1 stands where CNTK has 0.0032 for 16 samples, and before any training it divides by
1 where CNTK's divides by sqrt(1e-5): 316 times less.

Source: microsoft/CNTK, Source/ComputationNetworkLib/TrainingNodes.h (factors); the rest measured by
tests/torch_port/test_batch_norm.py.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_variance, self.scale, self.bias,
                                False, 0.0, self.epsilon)
        # Momentum 1 has the kernel leave the batch's own statistics (summed in double on the CPU,
        # variance unbiased) in the two vectors it takes for running ones: one pass over x, not two.
        mean = torch.zeros_like(self.running_mean)
        variance = torch.zeros_like(self.running_variance)
        y = torch.batch_norm(x, self.scale, self.bias, mean, variance, True, 1.0, self.epsilon,
                             torch.backends.cudnn.enabled)
        with torch.no_grad():
            self._update_statistics(mean, variance, samples=x.shape[0],
                                    values=x.numel() // self.channels)
        return y

    def _update_statistics(self, mean: Tensor, unbiased_variance: Tensor, samples: int,
                           values: int) -> None:
        """``values`` is n = N*H*W, ``samples`` is N."""
        a = self.update_factor(samples)
        self.running_mean.mul_(1 - a).add_(mean * a)
        self.running_variance.mul_(1 - a).add_(self.variance_kept(unbiased_variance, values) * a)
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
