"""Where an iteration's time goes, from PyTorch's profiler."""
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity

# A part, and words of the operations whose own time is its; the first that fits counts.
PARTS = {
    "convolutions, forward": ("_Convolution", "_Transposed", "aten::mkldnn_convolution",
                              "aten::_slow_conv2d_forward", "aten::slow_conv_transpose2d",
                              "aten::mm", "aten::addmm"),
    "convolutions, gradients": ("_ConvolutionBackward", "_TransposedBackward",
                                "aten::convolution_backward", "aten::mkldnn_convolution_backward"),
    "batch normalisation": ("atch_norm", "atchNorm", "AsMKL"),
    "Adam": ("Optimizer.step",),
    "activations": ("relu", "tanh", "sigmoid"),
    "copies": ("aten::copy_", "aten::clone", "aten::_to_copy", "aten::fill_"),
}
REST = "the rest"


def part_of(name: str) -> str:
    exact = {word: part for part, words in PARTS.items() for word in words}
    if name in exact:
        return exact[name]
    return next((part for part, words in PARTS.items() if any(word in name for word in words)),
                REST)


def seconds_of_parts(work: Callable[[], object]) -> dict[str, float]:
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profile:
        work()
    made = dict.fromkeys([*PARTS, REST], 0.0)
    for one in profile.key_averages():
        made[part_of(one.key)] += one.self_cpu_time_total / 1e6
    return made
