"""Mistakes by an author who had not read the checks: small ones, late ones, of one place alone."""
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from captures.plan import Latents
from captures.training.checkpoint import Arrays
from captures.training.log import Log
from captures.training.session import Session
from planted.between import gradient, in_d_step, in_g_step
from planted.graphs import attribute, in_export, initializer
from planted.one_layer import EVALUATION, backwards, convolved, output, part
from planted.parts import activation, becomes, built, layer, method, replace, weight_of
from planted.plant import (
    BETWEEN,
    DATA,
    FILES,
    LATE,
    LOSSES,
    ONE_LAYER,
    ONNX,
    OPTIMIZER,
    PORT_EXPORTER,
    RESUMED,
    TRAINING_STAGE,
    at,
    mistake,
)
from planted.program import restored
from torch_port import activations, convolution, dcgan, losses
from torch_port.activations import cntk_log
from torch_port.adam import CNTKAdam, Coefficients
from torch_port.batch_norm import BatchNormalization
from torch_port.layers import Each, unchanged
from torch_port.reader import order
from torch_port.reader.reader import ImageReader
from torch_port.train import steps
from torch_port.train.run import Run, model_file

D, G = "discriminator", "generator"


def _none(_: object) -> None:
    """For a lambda that is to give nothing."""


# ----------------------------------------------------------------------- one layer, one place of it


def _other_root(name: str, factor: Callable[[Tensor, float], Tensor]) -> None:
    """A normalisation's output about its bias times ``factor(variance, epsilon)``."""
    network, _, short = name.partition("/")

    def change(networks: dcgan.Networks) -> None:
        module = networks.get_submodule(network).get_submodule(short)
        before = type(module).forward

        def forward(self: Any, h: Tensor) -> Tensor:
            made: Tensor = before(self, h)
            if torch.onnx.is_in_onnx_export():
                return made
            variance = h.var((0, 2, 3), correction=0) if self.training else self.running_variance
            bias = self.bias[:, None, None]
            other: Tensor = (made - bias) * factor(variance, self.epsilon)[:, None, None] + bias
            return other
        becomes(module, type("OtherRoot", (type(module),), {"forward": forward}))

    layer(name)
    built(change)


@mistake("one-channels-epsilon", ONE_LAYER, "One channel of one normalisation has epsilon 1.5e-5.",
         EVALUATION, "discriminator_(real|fake)/bn4/output")
def one_channels_epsilon() -> None:
    def factor(variance: Tensor, epsilon: float) -> Tensor:
        other = torch.full_like(variance, epsilon)
        other[1] = 1.5 * epsilon
        return torch.sqrt((variance + epsilon) / (variance + other))
    _other_root("discriminator/bn4", factor)


@mistake("epsilon-outside-the-root", ONE_LAYER,
         "One normalisation divides by sqrt(variance) + epsilon.",
         EVALUATION, "generator/bn2/output")
def epsilon_outside_the_root() -> None:
    _other_root("generator/bn2", lambda variance, epsilon: torch.sqrt(variance + epsilon)
                / (torch.sqrt(variance) + epsilon))


@mistake("first-row-of-an-inner-layer", ONE_LAYER,
         "The first row of the generator's fourth convolution is 1e-3 of itself too large.",
         EVALUATION, "generator/conv4/output")
def first_row_of_an_inner_layer() -> None:
    output("generator/conv4", lambda h: torch.cat([h[:, :, :1] * (1 + 1e-3), h[:, :, 1:]], 2))


@mistake("gradient-of-the-last-column-lost", ONE_LAYER,
         "One convolution's backward pass leaves out the last column of its input.",
         "gradient/d", "discriminator_(real|fake)/leaky_relu1/output")
def gradient_of_the_last_column_lost() -> None:
    convolved("discriminator/conv2", lambda x, weight: (
        torch.cat([x[..., :-1], x[..., -1:].detach()], -1), weight))


@mistake("weight-gradient-misses-one-sample", ONE_LAYER,
         "One convolution's weight has no gradient from the last sample of a minibatch.",
         "gradient/d", "discriminator/conv5/weight")
def weight_gradient_misses_one_sample() -> None:
    is_its = weight_of("discriminator/conv5")
    before: Callable[..., Tensor] = convolution.conv2d

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *others: Any) -> Tensor:
        y = before(x, weight, bias, *others)
        if not is_its(weight) or torch.onnx.is_in_onnx_export() or not torch.is_grad_enabled():
            return y
        last = before(x[-1:].detach(), weight, None, *others)
        nothing = last - last.detach()
        return y - torch.cat([torch.zeros_like(y[:-1]), nothing])
    replace(before, convolve)


@mistake("slope-in-float16-in-one-layer", ONE_LAYER,
         "One leaky ReLU's slope is 0.2 in float16, 0.19995.",
         EVALUATION, "discriminator_(real|fake)/leaky_relu6/output")
def slope_in_float16() -> None:
    slope = float(np.float16(0.2))
    activation("discriminator/leaky_relu6", lambda network, h: activations.leaky_relu(h, slope))


@mistake("one-channels-variance-biased", ONE_LAYER,
         "The running variance of one channel of one layer from the biased variance.",
         "step", "after_d/generator/bn2/running_variance")
def one_channels_variance_biased() -> None:
    def kept(module: BatchNormalization, before: Any, variance: Tensor, values: int) -> Tensor:
        made: Tensor = before(variance, values).clone()
        made[1] *= (values - 1) / values
        return made
    part("generator/bn2", "variance_kept", kept)


@mistake("last-latent-ignored", ONE_LAYER, "The last of a sample's latents is taken for 0.",
         EVALUATION, "generator/conv1/output")
def last_latent_ignored() -> None:
    def forward(self: dcgan.Chain, h: Tensor, *each: Any) -> Tensor:
        if isinstance(self, dcgan.Generator) and not torch.onnx.is_in_onnx_export():
            h = torch.cat([h[:, :-1], torch.zeros_like(h[:, -1:])], 1)
        made: Tensor = before(self, h, *each)
        return made
    before = method(dcgan.Chain, "forward", forward)


# ------------------------------------------------------------------------ between backward and step


@mistake("one-filters-gradient-mirrored", BETWEEN,
         "The gradient of one filter of the generator is mirrored.",
         "step", "after_g/generator/conv6/weight.*")
def one_filters_gradient_mirrored() -> None:
    def change(network: nn.Module) -> None:
        g = gradient(network, "conv6.weight")
        g[:, 1] = g[:, 1].flip(-1)
    in_g_step(change)


@mistake("one-channels-gradient-negated", BETWEEN,
         "The gradient of one channel's bias in one normalisation has the other sign.",
         "step", "after_g/generator/bn3/bias.*")
def one_channels_gradient_negated() -> None:
    in_g_step(lambda network: _none(gradient(network, "bn3.bias")[1].neg_()))


@mistake("largest-gradients-clamped", BETWEEN,
         "The gradient of one weight is clamped to nine tenths of its largest value.",
         "step", "after_d/discriminator/conv6/weight.*")
def largest_gradients_clamped() -> None:
    def change(network: nn.Module) -> None:
        g = gradient(network, "conv6.weight")
        most = float(g.abs().max()) * 0.9
        g.clamp_(-most, most)
    in_d_step(change)


@mistake("d-steps-gradient-left-in-the-generator", BETWEEN,
         "The D step goes backwards through the images, and the G step adds its gradient to what "
         "that left.",
         "step", "after_g/generator/conv1/.*")
def d_steps_gradient_left() -> None:
    def d_step(networks: dcgan.Networks, optimizer: CNTKAdam, x: Tensor, z: Tensor) -> float:
        fake = networks.generator(z)
        d_real = networks.discriminator(dcgan.normalized(x, networks.spec.middle))
        samples = losses.discriminator_loss(d_real, networks.discriminator(fake))
        networks.discriminator.zero_grad(set_to_none=True)
        samples.sum().backward()
        optimizer.step(samples=len(z))
        return losses.minibatch_average(samples)

    def g_step(networks: dcgan.Networks, optimizer: CNTKAdam, z: Tensor) -> tuple[float, Tensor]:
        samples, fake = steps.generator_losses(networks, z)
        samples.sum().backward(inputs=list(networks.generator.parameters()))
        optimizer.step(samples=len(z))
        networks.generator.zero_grad(set_to_none=True)
        return losses.minibatch_average(samples), fake.detach()
    replace(steps.discriminator_step, d_step)
    replace(steps.generator_step, g_step)


# ----------------------------------------------------------------------------------- the optimizer


def _parameter_of(name: str) -> Callable[[Tensor], bool]:
    """Whether a tensor is this parameter, ``generator/conv7/bias``, of any networks made later."""
    network, _, short = name.partition("/")
    short = short.replace("/", ".")
    made: list[nn.Module] = []
    layer(name.rpartition("/")[0])
    built(lambda networks: made.append(networks.get_submodule(network)))
    return lambda p: any(p is one.get_parameter(short) for one in made)


@mistake("second-moment-in-bfloat16", OPTIMIZER, "Adam's v of one weight is kept in bfloat16.",
         "step", "after_d/discriminator/conv3/weight.*")
def second_moment_in_bfloat16() -> None:
    is_it = _parameter_of("discriminator/conv3/weight")

    def update(self: CNTKAdam, p: Tensor, *others: Any) -> None:
        before(self, p, *others)
        if is_it(p):
            self.state[p]["v"].copy_(self.state[p]["v"].bfloat16())
    before = method(CNTKAdam, "_update_parameter", update)


@mistake("momentum-of-one-parameter", OPTIMIZER, "Adam's momentum is 0.505 for one weight.",
         "step", "after_g/generator/conv2/weight.*")
def momentum_of_one_parameter() -> None:
    is_it = _parameter_of("generator/conv2/weight")

    def update(self: CNTKAdam, p: Tensor, truncate: bool, k: Coefficients) -> None:
        if is_it(p):
            k = Coefficients(**{**vars(k), "b1": 1.01 * k.b1})
        before(self, p, truncate, k)
    before = method(CNTKAdam, "_update_parameter", update)


@mistake("second-moment-at-least-epsilon-squared", OPTIMIZER,
         "Adam's root is of v.clamp(min=epsilon ** 2).",
         "optimizer|step", "[a-z]+/step0[1-9]|after_d/discriminator/.*")
def second_moment_at_least() -> None:
    def update(self: CNTKAdam, w: Tensor, g: Tensor, m: Tensor, v: Tensor, scratch: Tensor,
               k: Coefficients) -> None:
        was = w.clone()
        before(self, w, g, m, v, scratch, k)
        low = v < k.epsilon ** 2
        w.copy_(torch.where(low, was - m * (k.correction / (2 * k.epsilon)) * k.rate, w))
    before = method(CNTKAdam, "_update_chunk", update)


# ----------------------------------------------------------------------------------- late in a run


def _from_backward(t: int, network: str, change: Callable[[nn.Module], None],
                   only: bool = False) -> None:
    """``change(network)`` after each network's own t-th backward pass, from there on or once."""
    done: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
    before = steps.backward

    def backward(samples: Tensor, learnt: nn.Module) -> None:
        before(samples, learnt)
        done[learnt] = count = done.get(learnt, 0) + 1
        which = D if isinstance(learnt, dcgan.Discriminator) else G
        if which == network and (count == t or (count > t and not only)):
            with torch.no_grad():
                change(learnt)
    replace(steps.backward, backward)


def _at_d_step(t: int, change: Callable[[dcgan.Networks], None]) -> None:
    """``change(networks)`` before the t-th D step of the networks, and before each one behind it"""
    done: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
    before = steps.discriminator_step

    def step(networks: dcgan.Networks, *others: Any) -> float:
        done[networks] = done.get(networks, 0) + 1
        if done[networks] >= t:
            change(networks)
        return before(networks, *others)
    replace(steps.discriminator_step, step)


@mistake("one-scales-gradient-at-iteration-6-alone", LATE,
         "In iteration 6 alone the gradient of one scale is 0.5 % too large.",
         TRAINING_STAGE, at(6, "generator/bn5/scale.*"))
def one_scales_gradient_at_6() -> None:
    _from_backward(6, G, lambda network: _none(gradient(network, "bn5.scale").mul_(1.005)), True)


@mistake("last-bias-gradient-from-iteration-18", LATE,
         "From iteration 18 on the gradient of the last bias, one number, is 0.5 % too large.",
         TRAINING_STAGE, at(18, "discriminator/conv7/bias.*"))
def last_bias_from_18() -> None:
    _from_backward(18, D, lambda network: _none(gradient(network, "conv7.bias").mul_(1.005)))


@mistake("gradient-clamped-from-iteration-16", LATE,
         "From iteration 16 on one gradient is clamped to half of its largest value.",
         TRAINING_STAGE, at(16, "discriminator/conv4/weight.*"))
def clamped_from_16() -> None:
    def change(network: nn.Module) -> None:
        g = gradient(network, "conv4.weight")
        most = float(g.abs().max()) / 2
        g.clamp_(-most, most)
    _from_backward(16, D, change)


@mistake("one-bias-frozen-behind-the-first-iteration", LATE,
         "One bias was frozen for the G step and not thawed: it stands still from iteration 2 on.",
         TRAINING_STAGE, at(2, "discriminator/conv1/bias.*"))
def one_bias_frozen() -> None:
    def change(network: nn.Module) -> None:
        network.get_parameter("conv1.bias").grad = None
    _from_backward(2, D, change)


@mistake("slope-0.201-from-iteration-13", LATE,
         "From iteration 13 on one leaky ReLU has the slope 0.201.",
         TRAINING_STAGE, at(13, "discriminator/.*|twin/D_loss"))  # the loss is of it
def slope_from_13() -> None:
    late: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()

    def change(networks: dcgan.Networks) -> None:
        late[networks.discriminator] = True
    _at_d_step(13, change)
    activation("discriminator/leaky_relu2", lambda network, h: activations.leaky_relu(
        h, 0.201 if network in late else 0.2))


@mistake("one-layer-left-in-evaluation-from-14", LATE,
         "One normalisation of the generator is left in evaluation mode after iteration 13.",
         TRAINING_STAGE, at(14, "generator/bn3/(sample_count|running_.*)"))
def left_in_evaluation() -> None:
    _at_d_step(14, lambda networks: _none(networks.generator.get_submodule("bn3").eval()))


@mistake("counts-end-at-100", LATE, "sample_count goes no further than 100.",
         TRAINING_STAGE, at(17, "discriminator/bn2/sample_count"))
def counts_end_at_100() -> None:
    def update(self: BatchNormalization, *arguments: Any) -> None:
        before(self, *arguments)
        self.sample_count.clamp_(max=100)
    before = method(BatchNormalization, "_update_statistics", update)


@mistake("one-biases-rate-from-iteration-19", LATE,
         "From iteration 19 on one bias has 0.5 % less of a learning rate.",
         TRAINING_STAGE, at(19, "generator/conv7/bias"))
def one_biases_rate_from_19() -> None:
    is_it = _parameter_of("generator/conv7/bias")

    def update(self: CNTKAdam, p: Tensor, truncate: bool, k: Coefficients) -> None:
        if is_it(p) and self.param_groups[0]["minibatches"] >= 19:
            k = Coefficients(**{**vars(k), "rate": 0.995 * k.rate})
        before(self, p, truncate, k)
    before = method(CNTKAdam, "_update_parameter", update)


@mistake("latents-used-twice-at-17", LATE,
         "In iteration 17 the G step takes the latents of the D step.",
         TRAINING_STAGE, "twin/latents/drawn")
def latents_used_twice_at_17() -> None:
    before = Latents.next

    class Other(Latents):
        drawn, kept = 0, np.zeros(0, np.float32)

        def next(self, samples: int) -> np.ndarray:
            self.drawn += 1
            made = before(self, samples)
            if self.drawn == 34:
                return self.kept
            self.kept = made
            return made
    replace(Latents, Other)


# --------------------------------------------------------------------------------------- the reader


@mistake("third-sweep-as-the-second", DATA, "From the third sweep on the order is the second's.",
         "reader|twin", "minibatch[0-9]+/images|twin/reader/minibatches", minibatch_size=4)
def third_sweep_as_the_second() -> None:
    before = order.sample_order
    replace(order.sample_order, lambda count, sweep, seed=0: before(count, min(sweep, 1), seed))


@mistake("minibatch-at-the-sweeps-end-wraps", DATA,
         "A minibatch that crosses the end of a sweep is filled up from that sweep's own start.",
         "reader", "minibatch0[67]/images")
def minibatch_wraps() -> None:
    def indices(step: int, minibatch_size: int, count: int, seed: int = 0,
                of: order.Order = order.sample_order) -> np.ndarray:
        samples = range(step * minibatch_size, (step + 1) * minibatch_size)
        return np.array([of(count, samples[0] // count, seed)[s % count] for s in samples],
                        dtype=np.int64)
    replace(order.sample_indices, indices)


@mistake("draws-begin-anew-after-16", DATA,
         "The colours' draws are made for 16 minibatches and used again.",
         "reader|twin", "minibatch16/images|twin/reader/minibatches")
def draws_begin_anew() -> None:
    before = method(ImageReader, "draws", lambda self, step: before(self, step % 16))


def _minibatch(change: Callable[[Tensor], None]) -> None:
    def minibatch(self: ImageReader, step: int) -> Tensor:
        made: Tensor = before(self, step)
        change(made)
        return made
    before = method(ImageReader, "minibatch", minibatch)


@mistake("one-pixel-from-beside-it", DATA,
         "The last pixel of the last row has the blue of the one before it.",
         "reader", "minibatch00/images")
def one_pixel() -> None:
    _minibatch(lambda x: _none(x[:, 0, -1, -1].copy_(x[:, 0, -1, -2])))


@mistake("images-kept-in-float16", DATA, "Read images are kept in float16.",
         "reader", "minibatch00/images")
def images_in_float16() -> None:
    _minibatch(lambda x: _none(x.copy_(x.half())))


# --------------------------------------------------------------------------------------- the losses


@mistake("probability-clamped-at-1e-7", LOSSES,
         "The fake branch's probability is clamped to 1e-7 .. 1 - 1e-7, as Keras does.",
         "pointwise", "loss_of_fake/(output|gradient)")
def probability_clamped() -> None:
    replace(losses.discriminator_loss, lambda d_real, d_fake: -cntk_log(d_real).flatten()
            - cntk_log(1 - d_fake.clamp(1e-7, 1 - 1e-7)).flatten())


@mistake("one-sample-counts-more", LOSSES,
         "The gradient of the first real sample is 1 % too large; the loss is right.",
         "gradient/d", "discriminator_real/sigmoid7/output")
def one_sample_counts_more() -> None:
    def of(networks: dcgan.Networks, x: Tensor, z: Tensor, each_real: Each = unchanged,
           each_fake: Each = unchanged) -> Tensor:
        with torch.no_grad():
            fake = networks.generator(z)
        d_real = networks.discriminator(dcgan.normalized(x, networks.spec.middle), each_real)
        d_fake = networks.discriminator(fake, each_fake)
        more = torch.cat([d_real[:1] * 1.01, d_real[1:]])
        return losses.discriminator_loss(backwards(d_real, more), d_fake)
    replace(steps.discriminator_losses, of)


@mistake("printed-loss-rounded", LOSSES, "The loss that is told and logged has four decimals.",
         "step|twin", "after_d/loss/d/mean|iteration0001/twin/D_loss")
def printed_loss_rounded() -> None:
    before = losses.minibatch_average
    replace(losses.minibatch_average, lambda samples: round(before(samples), 4))


# ----------------------------------------------------------------------------- files, and going on


@mistake("losses-exchanged-in-the-log", FILES, "The log has D's loss in G's column.",
         "program", "run/(log/)?losses.*|run/log/D_loss")  # D's column has G's loss
def losses_exchanged() -> None:
    before = method(Log, "add", lambda self, g_loss, d_loss: before(self, d_loss, g_loss))


@mistake("picture-of-the-iteration-before", FILES,
         "The picture that is written is that of the iteration before.",
         "program", "run/picture/written")
def picture_of_the_iteration_before() -> None:
    kept: WeakKeyDictionary[Session, np.ndarray] = WeakKeyDictionary()

    def write(self: Session, step: int, image: Any) -> None:
        new = np.array(image, np.float32)
        before(self, step, kept.get(self, new))
        kept[self] = new
    before = method(Session, "write_image", write)


@mistake("model-without-its-variances", FILES,
         "The generator's model file has no running variances.",
         "program", "models/generator/bn1/running_variance")
def model_without_its_variances() -> None:
    def save(self: Run, folder: Path) -> None:
        before(self, folder)
        path = folder / model_file(G)
        held = torch.load(path, weights_only=True)
        torch.save({key: value for key, value in held.items()
                    if not key.endswith("running_variance")}, path)
    before = method(Run, "save_models", save)


@mistake("checkpoint-in-float16", RESUMED, "A checkpoint holds Adam's v in float16.",
         "program", "(run|resumed)/discriminator/conv1/.*")
def checkpoint_in_float16() -> None:
    def arrays(self: Run) -> Arrays:
        made: Arrays = before(self)
        return {name: array.astype(np.float16).astype(np.float32) if name.endswith("_v")
                else array for name, array in made.items()}
    before = method(Run, "arrays", arrays)


@mistake("two-moments-exchanged-on-going-on", RESUMED,
         "Adam's moments of one normalisation's scale and bias come back exchanged.",
         "program", "resumed/discriminator/bn3/(scale|bias).*")
def two_moments_exchanged() -> None:
    def change(run: Run) -> None:
        held = run.discriminator_optimizer.state
        network = run.networks.discriminator
        scale, bias = (network.get_parameter(f"bn3.{name}") for name in ("scale", "bias"))
        held[scale], held[bias] = held[bias], held[scale]
    restored(change)


@mistake("generators-counter-one-ahead", RESUMED,
         "The generator's optimizer goes on one minibatch too far.",
         "program", "resumed/generator/(conv1/.*|learner/minibatches)")
def generators_counter_one_ahead() -> None:
    def change(run: Run) -> None:
        run.generator_optimizer.param_groups[0]["minibatches"] += 1
    restored(change)


# --------------------------------------------------------------------------------------------- ONNX


@mistake("onnx-port-epsilon-a-thousandth-more", ONNX,
         "The port's file has epsilon 1.001e-5 in one normalisation.",
         "onnx", "generator/bn5/node_port_export", blame=PORT_EXPORTER)
def onnx_epsilon() -> None:
    in_export(G, attribute("bn5", "epsilon", 1.001e-5))


@mistake("onnx-port-slope-0.2002", ONNX, "The port's file has the slope 0.2002 in one layer.",
         "onnx", "discriminator/leaky_relu6/node_port_export", blame=PORT_EXPORTER)
def onnx_slope() -> None:
    in_export(D, attribute("leaky_relu6", "alpha", 0.2002))


@mistake("onnx-port-one-mean", ONNX,
         "In the port's file the running mean of one channel is 1e-6 of itself too large.",
         "onnx", "discriminator/bn5/(running_)?mean_port_export", blame=PORT_EXPORTER)
def onnx_one_mean() -> None:
    def change(mean: np.ndarray) -> np.ndarray:
        mean[1] *= np.float32(1 + 1e-6)
        return mean
    in_export(D, initializer("bn5", 3, change))


@mistake("onnx-port-one-bias-zero", ONNX,
         "In the port's file the last layer of the generator has no bias for the third channel.",
         "onnx", "generator/conv7/bias_port_export", blame=PORT_EXPORTER)
def onnx_one_bias() -> None:
    def change(bias: np.ndarray) -> np.ndarray:
        bias[2] = 0
        return bias
    in_export(G, initializer("conv7", 2, change))
