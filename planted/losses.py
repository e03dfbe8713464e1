"""Mistakes in what is non-linear, and in what is learnt from."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from planted.parts import activation, method, number, replace
from planted.plant import LOSSES, mistake
from torch_port import activations, dcgan, losses
from torch_port.layers import Each, unchanged
from torch_port.train import steps

EVALUATION = "forward/evaluation"
FIRST_RECTIFIER = "discriminator_(real|fake)/leaky_relu1/output"
OF_REAL = "loss_of_real/(output|gradient)"


@mistake("mean-for-sum-in-the-loss", LOSSES,
         "The discriminator's loss with its mean taken before the gradient.",
         "pointwise", "loss_of_fake/(output|gradient)")
def mean_for_sum_in_the_loss() -> None:
    before = losses.discriminator_loss
    replace(losses.discriminator_loss,
            lambda d_real, d_fake: before(d_real, d_fake) / len(d_fake))


@mistake("log-clamped-at-100", LOSSES, "binary_cross_entropy's clamp: -100, CNTK's is -85.1.",
         "pointwise", OF_REAL)
def log_clamped_at_100() -> None:
    replace(losses.generator_loss, lambda d_fake: F.binary_cross_entropy(
        d_fake, torch.ones_like(d_fake), reduction="none").flatten())


@mistake("log-of-tiny-minus-100", LOSSES, "CNTK's log with the other clamp.",
         "pointwise", "log/output")
def log_of_tiny() -> None:
    number("LOG_OF_TINY", -85.1, -100.0)


@mistake("softplus-loss", LOSSES,
         "The stable form on logits, softplus: it keeps a gradient where CNTK's is 0.",
         "pointwise", OF_REAL)
def softplus_loss() -> None:
    sigmoid, before = activations.sigmoid, losses.generator_loss

    def with_logit(x: Tensor) -> Tensor:
        y: Any = sigmoid(x)
        y.logit = x
        return y  # type: ignore[no-any-return]

    def of(d_fake: Any) -> Tensor:
        return F.softplus(-d_fake.logit).flatten() if hasattr(d_fake, "logit") else before(d_fake)

    replace(activations.sigmoid, with_logit)
    replace(losses.generator_loss, of)


@mistake("torch-sigmoid", LOSSES,
         "torch.sigmoid, which is 0 where CNTK's is subnormal and rounds otherwise elsewhere.",
         "pointwise", "sigmoid/(output|gradient)|" + OF_REAL)
def torch_sigmoid() -> None:
    replace(activations.sigmoid, torch.sigmoid)


@mistake("leaky-slope-0.01", LOSSES, "leaky_relu's default slope, 0.01.",
         EVALUATION, FIRST_RECTIFIER)
def leaky_slope() -> None:
    activation("discriminator/leaky_relu", lambda network, h: activations.leaky_relu(h, 0.01))


@mistake("slope-at-zero", LOSSES,
         "The gradient at exactly 0 is the slope, as PyTorch has it; CNTK's is 1.",
         "pointwise", "leaky_relu/gradient")
def slope_at_zero() -> None:
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.where(x <= 0, upstream * ctx.slope, upstream), None

    method(activations._LeakyReLU, "backward", backward)


@mistake("relu-for-leaky-relu", LOSSES, "ReLU in the discriminator.", EVALUATION, FIRST_RECTIFIER)
def relu_for_leaky_relu() -> None:
    activation("discriminator/leaky_relu", lambda network, h: activations.relu(h))


@mistake("one-relu-forgotten", LOSSES, "The generator's sixth layer without its ReLU.",
         EVALUATION, "generator/relu6/output")
def one_relu_forgotten() -> None:
    activation("generator/relu6", lambda network, h: h * 1)


@mistake("tanh-for-sigmoid", LOSSES,
         "tanh at the end of the discriminator, brought into 0..1 as (tanh + 1) / 2.",
         EVALUATION, "discriminator_(real|fake)/sigmoid7/output")
def tanh_for_sigmoid() -> None:
    activation("discriminator/sigmoid7", lambda network, h: (torch.tanh(h) + 1) / 2)


@mistake("sigmoid-for-tanh", LOSSES, "A sigmoid at the end of the generator: images in 0..1.",
         EVALUATION, "generator/tanh7/output")
def sigmoid_for_tanh() -> None:
    activation("generator/tanh7", lambda network, h: activations.sigmoid(h))


@mistake("minimax-loss", LOSSES, "The generator minimises log(1 - D(G(z))).",
         "pointwise", OF_REAL)
def minimax_loss() -> None:
    replace(losses.generator_loss, lambda d_fake: activations.cntk_log(1 - d_fake).flatten())


def smoothed(label: float) -> None:
    """Another label of real images in the D step; the loss by itself stays what it is."""
    def of(networks: dcgan.Networks, x: Tensor, z: Tensor, each_real: Each = unchanged,
           each_fake: Each = unchanged) -> Tensor:
        with torch.no_grad():
            fake = networks.generator(z)
        d_real = networks.discriminator(dcgan.normalized(x), each_real)
        d_fake = networks.discriminator(fake, each_fake)
        return losses.discriminator_loss(d_real, d_fake) * label \
            + (1 - label) * losses.discriminator_loss(1 - d_real, d_fake)

    replace(steps.discriminator_losses, of)


@mistake("label-smoothing", LOSSES, "The label of real images is 0.9, as GAN recipes have it.",
         "gradient/d", "loss/samples/value")
def label_smoothing() -> None:
    smoothed(0.9)


@mistake("label-smoothing-0.999", LOSSES, "The label of real images is 0.999.",
         "gradient/d", "loss/samples/value|discriminator_real/sigmoid7/output")
def label_smoothing_slight() -> None:
    smoothed(0.999)


@mistake("loss-halved", LOSSES, "The discriminator's loss is the mean of its two halves.",
         "gradient/d", "loss/samples/value")
def loss_halved() -> None:
    before = steps.discriminator_losses
    replace(steps.discriminator_losses, lambda *arguments: before(*arguments) / 2)


@mistake("log-of-p-plus-1e-8", LOSSES, "log(p + 1e-8), so that it is never infinite.",
         "pointwise", "log/(output|gradient)")
def log_plus_epsilon() -> None:
    before = activations.cntk_log
    replace(activations.cntk_log, lambda z: before(z + 1e-8))


@mistake("generator-loss-without-its-log", LOSSES,
         "The generator's step minimises 1 - D(G(z)), a hinge-like recipe.",
         "gradient/g", "loss/samples/value")
def generator_loss_without_log() -> None:
    def of(networks: dcgan.Networks, z: Tensor, each: Each = unchanged,
           each_fake: Each = unchanged) -> tuple[Tensor, Tensor]:
        fake = networks.generator(z, each)
        return (1 - networks.discriminator(fake, each_fake)).flatten(), fake
    replace(steps.generator_losses, of)


@mistake("tanh-gradient-approximated", LOSSES,
         "tanh's gradient from its input in one precision less: 1e-3 of it is missing.",
         "gradient/g", "generator/conv7/output")
def tanh_gradient() -> None:
    def bounded(network: dcgan.Chain, h: Tensor) -> Tensor:
        y = activations.tanh(h)
        return y.detach() + (y - y.detach()) * (1 - 1e-3)
    activation("generator/tanh7", bounded)
