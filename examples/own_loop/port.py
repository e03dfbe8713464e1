"""A class with its own loop, as Lightning has it: training_step, configure_optimizers."""
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (1024, 512, 256, 128, 64, 32)


class GAN(nn.Module):
    def __init__(self, lr: float = 2e-4, beta1: float = 0.5) -> None:
        super().__init__()
        self.lr, self.beta1 = lr, beta1
        ups: list[nn.Module] = [nn.ConvTranspose2d(100, CHANNELS[0], 4, bias=False)]
        for before, after in pairwise(CHANNELS):
            ups += [nn.BatchNorm2d(before), nn.ReLU(),
                    nn.ConvTranspose2d(before, after, 5, 2, 2, 1, bias=False)]
        self.generator = nn.Sequential(*ups, nn.BatchNorm2d(CHANNELS[-1]), nn.ReLU(),
                                       nn.ConvTranspose2d(CHANNELS[-1], 3, 5, 2, 2, 1), nn.Tanh())
        downs: list[nn.Module] = [nn.Conv2d(3, CHANNELS[-1], 3, 2, 1), nn.LeakyReLU(0.2)]
        for before, after in pairwise(CHANNELS[::-1]):
            downs += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after),
                      nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(*downs, nn.Conv2d(CHANNELS[0], 1, 4), nn.Flatten(0))
        self.apply(self._initialised)

    @staticmethod
    def _initialised(module: nn.Module) -> None:
        """As PyTorch's DCGAN tutorial has it."""
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)

    def adversarial_loss(self, logits: Tensor, label: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    def discriminator_step(self, real: Tensor, z: Tensor) -> Tensor:
        fake = self.generator(z).detach()
        return (self.adversarial_loss(self.discriminator(real), 0.9)
                + self.adversarial_loss(self.discriminator(fake), 0.0)) / 2

    def generator_step(self, z: Tensor) -> Tensor:
        return self.adversarial_loss(self.discriminator(self.generator(z)), 1.0)

    def configure_optimizers(self) -> tuple[torch.optim.Adam, torch.optim.Adam]:
        return tuple(torch.optim.Adam(part.parameters(), self.lr, (self.beta1, 0.999))  # type: ignore[return-value]
                     for part in (self.generator, self.discriminator))
