"""Functions of a dictionary of weights; images R, G, B in 0 .. 1; losses of logits."""
import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = (1024, 512, 256, 128, 64, 32)
MOMENTUM = 0.1
Weights = dict[str, Tensor]


def _normalisation(weights: Weights, name: str, channels: int) -> None:
    weights[f"{name}.gamma"] = torch.ones(channels, requires_grad=True)
    weights[f"{name}.beta"] = torch.zeros(channels, requires_grad=True)
    weights[f"{name}.mean"], weights[f"{name}.var"] = torch.zeros(channels), torch.ones(channels)


def _drawn(*shape: int) -> Tensor:
    return (torch.randn(*shape) * 0.02).requires_grad_()


def generator_weights() -> Weights:
    weights: Weights = {}
    before = 100
    for i, channels in enumerate(CHANNELS, 1):
        size = 4 if i == 1 else 5
        weights[f"up{i}.w"] = _drawn(before, channels, size, size)
        _normalisation(weights, f"up{i}", channels)
        before = channels
    weights["image.w"] = _drawn(before, 3, 5, 5)
    weights["image.b"] = torch.zeros(3, requires_grad=True)
    return weights


def discriminator_weights() -> Weights:
    before = CHANNELS[-1]
    weights = {"down1.w": _drawn(before, 3, 3, 3), "down1.b": torch.zeros(before).requires_grad_()}
    for i, channels in enumerate(CHANNELS[-2::-1], 2):
        weights[f"down{i}.w"] = _drawn(channels, before, 3, 3)
        _normalisation(weights, f"down{i}", channels)
        before = channels
    weights["logit.w"] = _drawn(1, before, 4, 4)
    weights["logit.b"] = torch.zeros(1, requires_grad=True)
    return weights


def normalised(weights: Weights, name: str, h: Tensor, training: bool) -> Tensor:
    return F.batch_norm(h, weights[f"{name}.mean"], weights[f"{name}.var"],
                        weights[f"{name}.gamma"], weights[f"{name}.beta"], training, MOMENTUM)


def generate(weights: Weights, z: Tensor, training: bool = True) -> Tensor:
    h = z.view(len(z), -1, 1, 1)
    for i in range(1, len(CHANNELS) + 1):
        h = F.conv_transpose2d(h, weights["up1.w"]) if i == 1 else F.conv_transpose2d(
            h, weights[f"up{i}.w"], None, 2, 2, 1)
        h = F.relu(normalised(weights, f"up{i}", h, training))
    h = F.conv_transpose2d(h, weights["image.w"], weights["image.b"], 2, 2, 1)
    return (torch.tanh(h) + 1) / 2


def discriminate(weights: Weights, x: Tensor, training: bool = True) -> Tensor:
    h = F.leaky_relu(F.conv2d(x * 2 - 1, weights["down1.w"], weights["down1.b"], 2, 1), 0.2)
    for i in range(2, len(CHANNELS) + 1):
        h = F.conv2d(h, weights[f"down{i}.w"], None, 2, 1)
        h = F.leaky_relu(normalised(weights, f"down{i}", h, training), 0.2)
    return F.conv2d(h, weights["logit.w"], weights["logit.b"]).view(-1)


def d_loss(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def g_loss(fake: Tensor) -> Tensor:
    return F.softplus(-fake).mean()
