"""CNTK's Adam (``C.adam``), its learning-rate rule and its gradient clipping, bit for bit.

    N = samples in the minibatch, g = gradient SUMMED over them, c = minibatches so far, with this
    b1 = momentum, b2 = variance_momentum ** N
    g  <- clamp(g, -t, t),  t = clip_per_sample * N
    v  <- b2 * v + (1 - b2) * g * g
    m  <- b1 * m + u * g,   u = 1 - b1 if unit_gain else 1
    w  <- w - m * (bc * (1 / (sqrt(v) + epsilon))) * rate
    bc = sqrt(1 - b2 ** c) / (1 - b1 ** c),  rate = lr / N

Elementwise over parameters of any shape, in the parameter's precision, products from left to right;
bc and rate are computed in double and rounded once, 1 - b2 from the rounded b2. In float64 nothing
is rounded to float32: that is the oracle.

Errors. Against CNTK 2.7 on the CPU: 0 differing values over 300 steps (N of 1, 4 and 16, both
unit_gain, clipped and not, seven parameters with gradients from 1e-20 to 300). Clipping by norm
(not the article's): 3e-6 of a parameter's largest movement, because CNTK adds squares up in
float32. GPUs were not measured.

An ordinary PyTorch layer differs. torch.optim.Adam with the article's numbers, fed the summed
gradient of 16 samples, against CNTK's movement over 300 steps of random gradients:

    lr as it is, not lr / N              steps 16 times as long (+1500 %)
    unit_gain=False not translated       half as long (-50 %)
    epsilon on the corrected v           gradients of 1e-9 move 16 times as far (+1455 %)
    clip at the threshold, not times N   55 % of the movement elsewhere (threshold 0.1)
    beta2 0.999, not 0.99999861 ** N     0.24 % of the movement elsewhere
    1 - beta2 in double, N = 1           first step 0.64 % shorter
    all of these translated              0.026 % of the movement elsewhere

Source: formulas from microsoft/CNTK, Source/Math/CPUMatrixImpl.h (Adam), Source/Math/Matrix.cpp
(AdamUpdate: bc), Source/CNTKv2LibraryDll/Learner.h and Learner.cpp (rates, momentum, clipping);
figures from tests/torch_port/test_adam.py.
"""
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_port.native import single_library
from torch_port.threads import side_by_side

# Elements worked on at a time, by one thread: six arrays of this many float32 stay in a core's
# cache, so that an update costs one trip to memory instead of one per operation. (From 32,768 on
# PyTorch would share each operation among threads of its own.)
CHUNK = 32767


@dataclass(frozen=True)
class Coefficients:
    """The scalars of one update. b1 and b2 are already rounded to the parameters' precision."""
    b1: float
    b2: float
    gain: float  # u
    correction: float  # bc
    rate: float
    epsilon: float
    threshold: float  # t
    gradient_factor: float  # 1, or 1/N where CNTK averages


class CNTKAdam(torch.optim.Optimizer):
    """``.grad`` holds gradients SUMMED over the minibatch; ``step(samples=N)`` says over how many.

    minibatch_size: None divides lr by N, as CNTK does for a plain float; R divides it by R whatever
        N is, and takes the momentum as given for R samples; 0 (CNTK's IGNORE) averages the gradient
        first, leaves lr undivided and takes clip_per_sample as it is.
    clip_with_truncation: False rescales a parameter's whole gradient when its Frobenius norm
        exceeds the threshold (each parameter by itself).
    State per parameter: ``m`` and ``v``; per group (CNTK: per learner): ``minibatches``, c above.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-4, *, momentum: float = 0.5,
                 unit_gain: bool = False, variance_momentum: float = 0.9999986111120757,
                 epsilon: float = 1e-8, minibatch_size: int | None = None,
                 clip_per_sample: float = math.inf, clip_with_truncation: bool = True) -> None:
        if lr < 0 or epsilon < 0 or clip_per_sample <= 0:
            raise ValueError(f"lr {lr} and epsilon {epsilon} must not be negative, "
                             f"clip_per_sample {clip_per_sample} must be positive (inf: no clip)")
        if not 0 <= momentum < 1 or not 0 <= variance_momentum < 1:
            raise ValueError(f"momentum {momentum} and variance_momentum {variance_momentum} must "
                             "lie in [0, 1)")
        if minibatch_size is not None and minibatch_size < 0:
            raise ValueError(f"minibatch_size {minibatch_size} must be None (lr / N), a number R "
                             "(lr / R) or 0 (mean gradient, lr as it is)")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "unit_gain": unit_gain,
            "variance_momentum": variance_momentum, "epsilon": epsilon,
            "minibatch_size": minibatch_size, "clip_per_sample": clip_per_sample,
            "clip_with_truncation": clip_with_truncation, "minibatches": 0,
        })

    # The scalars, each by its own rule.

    def momentum(self, group: dict[str, Any], samples: int) -> float:
        """b1. A plain float is per minibatch; with ``minibatch_size=R`` it is per R samples."""
        R = group["minibatch_size"]
        made: float = group["momentum"] ** (samples / R) if R else group["momentum"]
        return made

    def variance_momentum(self, group: dict[str, Any], samples: int) -> float:
        """b2. CNTK's default is a per-sample schedule, so minibatch_size has no say."""
        made: float = group["variance_momentum"] ** samples
        return made

    def rate(self, group: dict[str, Any], samples: int) -> float:
        R, rate = group["minibatch_size"], float(group["lr"])
        if R == 0:
            return rate
        return rate / (samples if R is None else R)

    def threshold(self, group: dict[str, Any], samples: int) -> float:
        clip = float(group["clip_per_sample"])
        return clip if group["minibatch_size"] == 0 else clip * samples

    def correction(self, b1: float, b2: float, minibatches: int) -> float:
        """bc, in double."""
        return math.sqrt(1 - b2 ** minibatches) / (1 - b1 ** minibatches)

    def epsilon(self, group: dict[str, Any], b2: float) -> float:
        """Added to the root of the UNcorrected v."""
        return float(group["epsilon"])

    def coefficients(self, group: dict[str, Any], samples: int, dtype: torch.dtype) -> Coefficients:
        b1, b2 = self.momentum(group, samples), self.variance_momentum(group, samples)
        rounded_b1, rounded_b2 = _rounded(b1, dtype), _rounded(b2, dtype)
        return Coefficients(
            b1=rounded_b1, b2=rounded_b2,
            gain=1 - rounded_b1 if group["unit_gain"] else 1.0,
            correction=self.correction(b1, b2, group["minibatches"]),
            rate=self.rate(group, samples), epsilon=self.epsilon(group, b2),
            threshold=self.threshold(group, samples),
            gradient_factor=1 / samples if group["minibatch_size"] == 0 else 1.0,
        )

    # The update.

    @torch.no_grad()
    def step(self, closure: None = None, *, samples: int) -> None:  # type: ignore[override]
        """One update from the gradients summed over a minibatch of so many samples."""
        if closure is not None:
            raise ValueError("CNTKAdam.step takes no closure: run forward and backward, then step")
        if samples < 1:
            raise ValueError(f"samples is {samples}: an update needs a minibatch of at least 1")
        for group in self.param_groups:
            if self.rate(group, samples) == 0:
                continue  # as in CNTK: nothing moves, m and v neither, and the counter stands still
            group["minibatches"] += 1
            by_dtype: dict[torch.dtype, Coefficients] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.dtype not in by_dtype:
                    by_dtype[p.dtype] = self.coefficients(group, samples, p.dtype)
                self._update_parameter(p, group["clip_with_truncation"], by_dtype[p.dtype])

    def _update_parameter(self, p: Tensor, truncate: bool, k: Coefficients) -> None:
        if not p.dtype.is_floating_point or p.grad is None or p.grad.is_sparse:
            raise ValueError(f"CNTKAdam takes dense floating-point parameters and gradients; this "
                             f"parameter is {p.dtype} of shape {tuple(p.shape)}")
        state = self.state[p]
        if not state:
            state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
        _lay_out(state, p)
        g, threshold = p.grad, k.threshold
        if k.gradient_factor != 1:
            g = g * k.gradient_factor
        if threshold != math.inf and not truncate:
            norm = self.norm(g)
            if norm > threshold:
                g = g * (threshold / norm)
            threshold = math.inf

        def update(w: Tensor, part: Tensor, m: Tensor, v: Tensor) -> None:
            scratch = torch.empty_like(w)
            if threshold != math.inf:
                part = torch.clamp(part, -threshold, threshold)
            self._update_chunk(w, part, m, v, scratch, k)
        parts = list(_chunks(p.detach(), g, state["m"], state["v"]))
        if len(parts) == 1:  # in this thread, whose stream a GPU's work is in
            update(*parts[0])
        else:
            side_by_side(parts, update)

    @staticmethod
    def norm(g: Tensor) -> float:
        """The Frobenius norm. CNTK adds the squares up in float32, in an order that depends on its
        threads, so here alone the last digits differ: see the errors above."""
        return float(torch.linalg.vector_norm(g, dtype=torch.float64))

    def _update_chunk(self, w: Tensor, g: Tensor, m: Tensor, v: Tensor, scratch: Tensor,
                      k: Coefficients) -> None:
        """Each operation rounds once, as CNTK's loop does: addcmul, addcdiv, lerp and
        add(alpha=...) may be compiled to fused multiply-adds, which round otherwise."""
        if w.device.type == "cpu" and w.dtype == torch.float32 and w.is_contiguous():
            g = g.contiguous()
            single_library().adam(w.data_ptr(), g.data_ptr(), m.data_ptr(), v.data_ptr(), w.numel(),
                                  k.b1, k.b2, 1 - k.b2, k.gain, k.correction, k.rate, k.epsilon)
            return
        torch.mul(g, 1 - k.b2, out=scratch).mul_(g)
        v.mul_(k.b2).add_(scratch)
        m.mul_(k.b1).add_(g if k.gain == 1 else torch.mul(g, k.gain, out=scratch))
        _square_root(v, scratch).add_(k.epsilon).reciprocal_().mul_(k.correction).mul_(m)
        w.sub_(scratch.mul_(k.rate))

    # Saving and loading.

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError, and changes nothing, when the state is not one of these parameters."""
        self._check(state_dict)
        super().load_state_dict(state_dict)
        for p, state in self.state.items():
            _lay_out(state, p)

    def _check(self, loaded: dict[str, Any]) -> None:
        mend = ("; load the state saved with the same networks and options, or start with a new "
                "optimizer")
        for key in ("state", "param_groups"):
            if key not in loaded:
                raise ValueError(f"optimizer state: no '{key}' in it{mend}")
        if len(loaded["param_groups"]) != len(self.param_groups):
            raise ValueError(f"optimizer state: {len(loaded['param_groups'])} parameter groups, "
                             f"the optimizer has {len(self.param_groups)}{mend}")
        pairs = zip(loaded["param_groups"], self.param_groups, strict=True)
        for i, (theirs, ours) in enumerate(pairs):
            missing = sorted(set(ours) - set(theirs))
            if missing:
                raise ValueError(f"optimizer state, group {i}: no {', '.join(missing)}, so it is "
                                 f"not a CNTKAdam's{mend}")
            if len(theirs["params"]) != len(ours["params"]):
                raise ValueError(f"optimizer state, group {i}: {len(theirs['params'])} parameters, "
                                 f"the optimizer has {len(ours['params'])}{mend}")
            for j, (key, p) in enumerate(zip(theirs["params"], ours["params"], strict=True)):
                state = loaded["state"].get(key)
                if state is None:
                    continue
                for name in ("m", "v"):
                    if name not in state:
                        raise ValueError(f"optimizer state, group {i}, parameter {j}: no "
                                         f"'{name}'{mend}")
                    if state[name].shape != p.shape:
                        raise ValueError(
                            f"optimizer state, group {i}, parameter {j}: '{name}' has shape "
                            f"{tuple(state[name].shape)}, the parameter has {tuple(p.shape)}{mend}")


def _lay_out(state: dict[str, Any], p: Tensor) -> None:
    """m and v as the parameter lies, whatever layout and precision it had when they were made."""
    wanted = torch.empty_like(p, device="meta").stride()
    for name in ("m", "v"):
        held = state[name]
        if (held.stride(), held.dtype, held.device) != (wanted, p.dtype, p.device):
            state[name] = torch.empty_like(p).copy_(held)


def _rounded(value: float, dtype: torch.dtype) -> float:
    return torch.tensor(value, dtype=dtype).item()


def _square_root(v: Tensor, out: Tensor) -> Tensor:
    """The correctly rounded root. torch.sqrt's is not, on the CPU: where MKL computes it, one value
    in six is off by one unit in the last place. NumPy's is, and it is the faster of the two; it
    has no bfloat16, whose root PyTorch rounds from float32's."""
    if v.device.type != "cpu" or v.dtype == torch.bfloat16:
        return torch.sqrt(v, out=out)
    np.sqrt(v.numpy(), out=out.numpy())
    return out


def _chunks(p: Tensor, *others: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """The same stretch of each tensor, as flat views that an in-place operation writes through."""
    dense = p.is_contiguous() or p.is_contiguous(memory_format=torch.channels_last)
    if p.device.type != "cpu" or not dense:
        yield (p, *others)
        return
    flat = []
    for t in (p, *others):
        if t.stride() != p.stride():
            t = torch.empty_like(p).copy_(t)  # only a gradient: m and v are laid out as p
        flat.append(t.as_strided((t.numel(),), (1,)))
    yield from zip(*(t.split(CHUNK) for t in flat), strict=True)
