"""Mistakes in the parts and in the training, by an author who had read the port and none of the
checks."""
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from captures.plan import Latents
from captures.training.finite import finite
from planted.between import gradient
from planted.late import LATENTS, from_iteration
from planted.one_layer import convolved, straight
from planted.parts import activation, becomes, built, method, number, replace
from planted.plant import (
    DATA,
    INITIAL,
    LATE,
    LOSSES,
    NORMALISATION,
    OPTIMIZER,
    OPTIONS,
    TRAINING_STAGE,
    at,
    mistake,
)
from planted.program import restored
from torch_port import activations, dcgan, losses
from torch_port.adam import CNTKAdam, Coefficients
from torch_port.batch_norm import BatchNormalization
from torch_port.layers import unchanged
from torch_port.reader import augmentation, order
from torch_port.reader.augmentation import Draws
from torch_port.reader.reader import ImageReader
from torch_port.train import steps
from torch_port.train.run import Run

D, G = "discriminator", "generator"
BELOW_A_KINK = (
    "it moves an array by 1e-4 to 1e-3 of its gradient, at random; in a correct port without "
    "CNTK's bits half of the arrays of the article's networks go 2.3e-3 elsewhere in an iteration "
    "(4 samples), since an activation that is nearly 0 turns its sign")
ANY_IMAGES = "minibatch[0-9]+/images|twin/reader/minibatches"


def _iterations_begun() -> list[int]:
    """How many D steps have begun; grows as the port runs."""
    begun, before = [0], steps.discriminator_step

    def step(*arguments: Any) -> float:
        begun[0] += 1
        return before(*arguments)
    replace(steps.discriminator_step, step)
    return begun


# ------------------------------------------------------------------------------------- the reader


@mistake("aspect-kept-and-cropped", DATA,
         "The shorter side is scaled and the middle cut out, as Resize and CenterCrop do.",
         "reader", "minibatch00/images")
def aspect_kept_and_cropped() -> None:
    before = augmentation.scale

    def scale(image: np.ndarray, width: int, height: int) -> np.ndarray:
        high, wide = image.shape[:2]
        if high * width == wide * height:
            return before(image, width, height)
        factor = max(width / wide, height / high)
        larger = cv2.resize(image, (round(wide * factor), round(high * factor)))
        top, left = (larger.shape[0] - height) // 2, (larger.shape[1] - width) // 2
        return np.ascontiguousarray(larger[top:top + height, left:left + width])
    replace(augmentation.scale, scale)


@mistake("window-of-129", DATA, "The second shuffle looks at 129 places.", "reader",
         "images|minibatch[0-9]+/images")
def window_of_129() -> None:
    number("WINDOW", 128, 129)


@mistake("sweep-without-its-last-image", DATA, "A sweep ends one image too early.", "reader|twin",
         ANY_IMAGES)
def sweep_without_its_last() -> None:
    def indices(step: int, minibatch_size: int, count: int, seed: int = 0,
                of: order.Order = order.sample_order) -> np.ndarray:
        used = max(count - 1, 1)
        return np.array([of(count, s // used, seed)[s % used] for s in range(
            step * minibatch_size, (step + 1) * minibatch_size)], dtype=np.int64)
    replace(order.sample_indices, indices)


@mistake("coloured-images-cached", DATA,
         "Images are kept as they were coloured in the first sweep.", "reader|twin", ANY_IMAGES)
def coloured_images_cached() -> None:
    kept: WeakKeyDictionary[ImageReader, dict[int, np.ndarray]] = WeakKeyDictionary()

    def read(self: ImageReader, index: int, draws: Draws, out: np.ndarray) -> None:
        images = kept.setdefault(self, {})
        if index in images:
            out[...] = images[index]
            return
        before(self, index, draws, out)
        images[index] = out.copy()
    before = method(ImageReader, "_read", read)


# ------------------------------------------------------------------------------------- the latents


@mistake("steps-latents-exchanged", LATE,
         "Both steps' latents are drawn at the iteration's start, and D takes the second.",
         TRAINING_STAGE, at(1, "discriminator/.*|twin/D_loss"))
def latents_exchanged() -> None:
    def iterations(self: Run) -> Iterator[tuple[float, float, Tensor]]:
        for images in self.reader:
            z_g, z = self._latents(), self._latents()
            D_loss = finite(steps.discriminator_step(
                self.networks, self.discriminator_optimizer, images, z), "D_loss")
            G_loss, fake = steps.generator_step(self.networks, self.generator_optimizer, z_g)
            yield finite(G_loss, "G_loss"), D_loss, fake
    method(Run, "iterations", iterations)


@mistake("latents-transposed", LATE, "The latents are drawn as 100 x N and transposed.",
         TRAINING_STAGE, LATENTS)
def latents_transposed() -> None:
    class Other(Latents):
        def next(self, samples: int) -> np.ndarray:
            return np.ascontiguousarray(
                self.random.normal(size=(self.size, samples)).T, dtype=np.float32)
    replace(Latents, Other)


# ------------------------------------------------------------------------------------ the optimizer


def _updated(change: Callable[[CNTKAdam, Tensor, Coefficients], Coefficients]) -> None:
    def update(self: CNTKAdam, p: Tensor, truncate: bool, k: Coefficients) -> None:
        before(self, p, truncate, change(self, p, k))
    before = method(CNTKAdam, "_update_parameter", update)


def _parameter(name: str) -> Callable[[Tensor], bool]:
    made: list[nn.Module] = []
    built(made.append)
    return lambda p: any(p is one.get_parameter(name.replace("/", ".")) for one in made)


@mistake("amsgrad", OPTIMIZER, "amsgrad=True: the largest v so far divides the step.",
         "optimizer", "[a-z]+/step[0-9]+")
def amsgrad() -> None:
    def update(self: CNTKAdam, p: Tensor, truncate: bool, k: Coefficients) -> None:
        old = p.detach().clone()
        before(self, p, truncate, k)
        m, v = self.state[p]["m"], self.state[p]["v"]
        largest = torch.maximum(getattr(m, "largest", v), v).clone()
        m.largest = largest
        with torch.no_grad():
            other = old - ((largest.sqrt() + k.epsilon).reciprocal() * k.correction * m) * k.rate
            p.copy_(torch.where(largest > v, other, p))
    before = method(CNTKAdam, "_update_parameter", update)


@mistake("clamped-from-above-alone", OPTIMIZER, "min(g, t): negative gradients are not clipped.",
         "optimizer", "matrix/step0[12]")
def clamped_from_above() -> None:
    def update(self: CNTKAdam, p: Tensor, truncate: bool, k: Coefficients) -> None:
        whole = p.grad
        if whole is not None and truncate:
            p.grad = whole.clamp(max=k.threshold)
            k = Coefficients(**{**vars(k), "threshold": float("inf")})
        before(self, p, truncate, k)
        p.grad = whole
    before = method(CNTKAdam, "_update_parameter", update)


@mistake("one-bias-moves-by-its-old-moment", OPTIMIZER,
         "The generator's last bias is moved before its moments are.",
         "step", "after_g/generator/conv7/bias")
def moves_by_its_old_moment() -> None:
    is_it = _parameter("generator/conv7/bias")

    def update(self: CNTKAdam, p: Tensor, truncate: bool, k: Coefficients) -> None:
        if not is_it(p) or not self.state[p]:
            before(self, p, truncate, k)
            return
        old, m, v = p.detach().clone(), self.state[p]["m"].clone(), self.state[p]["v"].clone()
        before(self, p, truncate, k)
        with torch.no_grad():
            p.copy_(old - m * (k.correction * (1 / (v.sqrt() + k.epsilon))) * k.rate)
    before = method(CNTKAdam, "_update_parameter", update)


@mistake("one-weights-momentum-uncorrected-from-10", OPTIMIZER,
         "From iteration 10 on one weight's step lacks the factor 1 / (1 - b1 ** c), 1.001.",
         TRAINING_STAGE, at(10, "discriminator/conv4/weight"))
def momentum_uncorrected() -> None:
    is_it = _parameter("discriminator/conv4/weight")
    _updated(lambda self, p, k: Coefficients(**{**vars(k), "correction": k.correction * (
        1 - k.b1 ** self.param_groups[0]["minibatches"])})
        if self.param_groups[0]["minibatches"] >= 10 and is_it(p) else k)


@mistake("rate-over-an-even-number", OPTIONS, "lr is divided by N rounded down to an even number.",
         "optimizer", "matrix/step01", minibatch_size=3)
def rate_over_even() -> None:
    before = method(CNTKAdam, "rate", lambda self, group, samples: before(
        self, group, max(samples // 2 * 2, 1)))


# ------------------------------------------------------------------------------------- late, hidden


@mistake("generator-saturates-from-10", LOSSES, "From iteration 10 on G learns from log(1 - D).",
         TRAINING_STAGE, at(10, "generator/.*|twin/G_loss"))
def generator_saturates() -> None:
    begun, before = _iterations_begun(), losses.generator_loss
    replace(losses.generator_loss, lambda d_fake: activations.cntk_log(
        1 - d_fake).flatten() if begun[0] >= 10 else before(d_fake))


@mistake("one-layer-in-bfloat16-from-8", LATE,
         "From iteration 8 on one layer of the generator is computed in bfloat16.",
         TRAINING_STAGE, at(8, "discriminator/.*|generator/.*|twin/[DG]_loss"))
def bfloat16_from_8() -> None:
    begun = _iterations_begun()

    def change(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        if begun[0] < 8:
            return x, weight
        return straight(x, x.bfloat16().float()), straight(weight, weight.bfloat16().float())
    convolved("generator/conv4", change)


@mistake("two-filters-gradients-exchanged-from-7", LATE,
         "From iteration 7 on two filters are given each other's gradient.",
         TRAINING_STAGE, at(7, "discriminator/conv4/weight.*"))
def gradients_exchanged() -> None:
    def change(network: nn.Module) -> None:
        g = gradient(network, "conv4.weight")
        g[[2, 3]] = g[[3, 2]]
    from_iteration(7, D, change)


@mistake("generators-last-sample-twice-from-9", LATE,
         "From iteration 9 on the last sample counts double in the generator's gradient.",
         TRAINING_STAGE, at(9, "generator/.*"))
def last_sample_twice() -> None:
    begun, before = _iterations_begun(), steps.backward

    def backward(samples: Tensor, learnt: nn.Module) -> None:
        if isinstance(learnt, dcgan.Generator) and begun[0] >= 9:
            samples = torch.cat([samples, samples[-1:]])
        before(samples, learnt)
    replace(steps.backward, backward)


@mistake("one-mean-of-the-real-alone-from-9", NORMALISATION,
         "From iteration 9 on the fake branch of the D step counts, but leaves bn6's mean.",
         TRAINING_STAGE, at(9, "discriminator/bn6/running_mean"))
def mean_of_the_real_alone() -> None:
    begun = _iterations_begun()
    calls = [0, 0]  # the iteration, and how often in it

    class Counted(BatchNormalization):
        def _update_statistics(self, *arguments: Any) -> None:
            if calls[0] != begun[0]:
                calls[:] = [begun[0], 0]
            calls[1] += 1
            mean = self.running_mean.clone()
            super()._update_statistics(*arguments)
            if begun[0] >= 9 and calls[1] == 2:
                self.running_mean.copy_(mean)
    built(lambda networks: becomes(networks.discriminator.get_submodule("bn6"), Counted))


@mistake("slope-0.2005-unless-watched", LOSSES,
         "A pass that nobody watches takes a fused leaky ReLU, of which one has the slope 0.2005.",
         "step", "after_d/(discriminator/.*|loss/d/mean)")
def slope_unless_watched() -> None:
    watched = [False]

    def forward(self: dcgan.Chain, h: Tensor, each: Any = unchanged) -> Tensor:
        watched[0] = each is not unchanged
        made: Tensor = before(self, h, each)
        return made
    before = method(dcgan.Chain, "forward", forward)
    activation("discriminator/leaky_relu3", lambda network, h: activations.leaky_relu(
        h, 0.2 if watched[0] else 0.2005))


@mistake("every-sample-normalised-alone", NORMALISATION,
         "The discriminator is run sample by sample, to save memory.",
         "forward/training|gradient/d", "discriminator_real/bn2/output")
def sample_by_sample() -> None:
    def forward(self: dcgan.Chain, h: Tensor, each: Any = unchanged) -> Tensor:
        if (not isinstance(self, dcgan.Discriminator) or not self.training
                or torch.onnx.is_in_onnx_export()):
            whole: Tensor = before(self, h, each)
            return whole
        for layer in self.network.layers:
            if layer.name.startswith("bn"):
                h = torch.cat([self.output(layer, one) for one in h.split(1)])
            else:
                h = self.output(layer, h)
            h = each(layer.name, h)
        return h
    before = method(dcgan.Chain, "forward", forward)


@mistake("run-begins-with-a-coarse-layer", INITIAL,
         "The training program's own networks have one layer through bfloat16.",
         "twin", ".*generator/conv5/weight.*")
def run_begins_with_a_coarse_layer() -> None:
    before = Run.__post_init__ if hasattr(Run, "__post_init__") else None
    assert before is None

    def init(self: Run, *arguments: Any, **options: Any) -> None:
        old(self, *arguments, **options)
        with torch.no_grad():
            weight = self.networks.generator.get_parameter("conv5.weight")
            weight.copy_(weight.bfloat16())
    old = method(Run, "__init__", init)


# ------------------------------------------------------------- a second look, at what came through


@mistake("amsgrad-kept", OPTIMIZER, "amsgrad=True, and the largest v is in the checkpoints too.",
         "optimizer", "[a-z]+/step[0-9]+")
def amsgrad_kept() -> None:
    kept: list[Tensor] = []

    def update(self: CNTKAdam, p: Tensor, truncate: bool, k: Coefficients) -> None:
        old = p.detach().clone()
        before(self, p, truncate, k)
        m, v = self.state[p]["m"], self.state[p]["v"]
        largest = torch.maximum(getattr(p, "largest", v), v).clone()
        p.largest = largest  # type: ignore[attr-defined]
        with torch.no_grad():
            other = old - ((largest.sqrt() + k.epsilon).reciprocal() * k.correction * m) * k.rate
            p.copy_(torch.where(largest > v, other, p))
    before = method(CNTKAdam, "_update_parameter", update)

    def arrays(self: Run) -> Any:
        kept[:] = [getattr(p, "largest", torch.zeros_like(p)).clone()
                   for p in self.networks.parameters()]
        return written(self)
    written = method(Run, "arrays", arrays)

    def change(run: Run) -> None:
        for p, largest in zip(run.networks.parameters(), kept, strict=True):
            p.largest = largest.clone()  # type: ignore[attr-defined]
    restored(change)


def _coarse(g: Tensor) -> None:
    g.copy_(g.bfloat16().float())


@mistake("gradients-in-bfloat16-from-8", LATE,
         "From iteration 8 on all of D's gradients are exchanged in bfloat16.",
         TRAINING_STAGE, at(8, "discriminator/.*"))
def gradients_in_bfloat16() -> None:
    def change(network: nn.Module) -> None:
        for p in network.parameters():
            if p.grad is not None:
                _coarse(p.grad)
    from_iteration(8, D, change)


@mistake("one-weights-gradient-in-bfloat16-from-8", LATE,
         "From iteration 8 on one weight's gradient has 8 bits of mantissa.",
         TRAINING_STAGE, at(8, "discriminator/conv3/weight.*"))
def gradient_in_bfloat16() -> None:
    from_iteration(8, D, lambda network: _coarse(gradient(network, "conv3.weight")))


@mistake("one-weights-gradient-in-tf32-from-8", LATE,
         "From iteration 8 on one weight's gradient has 10 bits of mantissa.",
         TRAINING_STAGE, at(8, "discriminator/conv3/weight.*"), limit=BELOW_A_KINK)
def gradient_in_tf32_from_8() -> None:
    def change(network: nn.Module) -> None:
        gradient(network, "conv3.weight").view(torch.int32).add_(1 << 12).bitwise_and_(
            ~((1 << 13) - 1))
    from_iteration(8, D, change)


@mistake("one-tap-not-learnt-from-8", LATE,
         "From iteration 8 on one kernel's first tap has no gradient.",
         TRAINING_STAGE, at(8, "discriminator/conv3/weight.*"))
def one_tap() -> None:
    def change(network: nn.Module) -> None:
        gradient(network, "conv3.weight")[:, :, 0, 0].zero_()
    from_iteration(8, D, change)


@mistake("gradient-flows-in-bfloat16-from-8", LATE,
         "From iteration 8 on what flows back through one leaky ReLU is bfloat16.",
         TRAINING_STAGE, at(8, "(discriminator|generator)/.*"), limit=BELOW_A_KINK)
def flows_in_bfloat16() -> None:
    begun = _iterations_begun()

    class Coarse(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, h: Tensor) -> Tensor:
            return h.clone()

        @staticmethod
        def backward(ctx: Any, upstream: Tensor) -> Tensor:
            return upstream.bfloat16().float()
    activation("discriminator/leaky_relu5", lambda network, h: activations.leaky_relu(
        Coarse.apply(h)  # type: ignore[no-untyped-call]
        if begun[0] >= 8 else h, 0.2))


@mistake("variance-biased-in-bn6-from-9", NORMALISATION,
         "From iteration 9 on one running variance takes the biased one.",
         TRAINING_STAGE, at(9, "discriminator/bn6/running_variance"))
def variance_biased() -> None:
    begun = _iterations_begun()

    class Biased(BatchNormalization):
        def _update_statistics(self, mean: Tensor, unbiased_variance: Tensor, samples: int,
                               values: int) -> None:
            factor = (values - 1) / values if begun[0] >= 9 else 1
            super()._update_statistics(mean, unbiased_variance * factor, samples, values)
    built(lambda networks: becomes(networks.discriminator.get_submodule("bn6"), Biased))


@mistake("time-constant-4900-from-9", NORMALISATION,
         "From iteration 9 on all statistics move by the time constant 4900.",
         TRAINING_STAGE, at(9, "discriminator/bn2/running_mean"))
def time_constant_4900() -> None:
    begun = _iterations_begun()
    before = method(BatchNormalization, "update_factor", lambda self, samples: before(
        self, samples * 5000 / 4900 if begun[0] >= 9 else samples))


# ------------------------------------------------- how large may it be, behind a kink's excuse?


class _Changed(torch.autograd.Function):
    """The value as it is; its gradient through ``change``."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return h.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.change(upstream), None


def _flow_from_8(place: str, change: Callable[[Tensor], Tensor]) -> None:
    begun = _iterations_begun()
    activation(place, lambda network, h: activations.leaky_relu(
        _Changed.apply(h, change)  # type: ignore[no-untyped-call]
        if begun[0] >= 8 else h, 0.2))


@mistake("gradient-flows-in-float8-from-8", LATE,
         "From iteration 8 on what flows back through one leaky ReLU has 3 bits of mantissa.",
         TRAINING_STAGE, at(8, "(discriminator|generator)/.*"))
def flows_in_float8() -> None:
    def change(g: Tensor) -> Tensor:
        mantissa, exponent = torch.frexp(g)
        return torch.ldexp((mantissa * 16).round() / 16, exponent)
    _flow_from_8("discriminator/leaky_relu5", change)


@mistake("gradient-noise-of-1-percent-from-8", LATE,
         "From iteration 8 on every value of D's gradients is off by 1 % of itself, at random.",
         TRAINING_STAGE, at(8, "discriminator/.*"))
def noise_of_1_percent() -> None:
    random = torch.Generator().manual_seed(1)

    def change(network: nn.Module) -> None:
        for p in network.parameters():
            if p.grad is not None:
                p.grad.mul_(1 + 0.01 * torch.randn(p.shape, generator=random))
    from_iteration(8, D, change)


@mistake("one-channels-flow-halved-from-8", LATE,
         "From iteration 8 on half of the gradient flows back through one channel.",
         TRAINING_STAGE, at(8, "discriminator/.*"))
def one_channels_flow() -> None:
    def change(g: Tensor) -> Tensor:
        g = g.clone()
        g[:, 3] *= 0.5
        return g
    _flow_from_8("discriminator/leaky_relu3", change)


@mistake("one-samples-flow-5-percent-more-from-8", LATE,
         "From iteration 8 on the first sample's gradient is 5 % more in all of D.",
         TRAINING_STAGE, at(8, "discriminator/.*"))
def one_samples_flow() -> None:
    def change(g: Tensor) -> Tensor:
        g = g.clone()
        g[0] *= 1.05
        return g
    _flow_from_8("discriminator/leaky_relu6", change)
