"""A DCGAN as people write it: nn.Sequential, nn.BatchNorm2d, BCE, torch.optim.Adam."""
import torch
from torch import nn

CHANNELS = (1024, 512, 256, 128, 64, 32)


def generator(norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Unflatten(1, (100, 1, 1))]
    before = 100
    for i, channels in enumerate(CHANNELS):
        layers += [nn.ConvTranspose2d(before, channels, 4, bias=False) if i == 0 else
                   nn.ConvTranspose2d(before, channels, 5, 2, 2, 1, bias=False),
                   norm(channels), nn.ReLU(inplace=True)]
        before = channels
    return nn.Sequential(*layers, nn.ConvTranspose2d(before, 3, 5, 2, 2, 1), nn.Tanh())


def discriminator(norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    before = CHANNELS[-1]
    layers: list[nn.Module] = [nn.Conv2d(3, before, 3, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    for channels in CHANNELS[-2::-1]:
        layers += [nn.Conv2d(before, channels, 3, 2, 1, bias=False),
                   norm(channels), nn.LeakyReLU(0.2, inplace=True)]
        before = channels
    return nn.Sequential(*layers, nn.Conv2d(before, 1, 4), nn.Sigmoid(), nn.Flatten(0))


def d_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    bce = nn.functional.binary_cross_entropy
    return bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))


def g_loss(fake: torch.Tensor) -> torch.Tensor:
    return nn.functional.binary_cross_entropy(fake, torch.ones_like(fake))
