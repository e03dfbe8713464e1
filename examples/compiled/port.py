"""Blocks inside of blocks, as residual networks nest them; torch.compile about it all."""
import torch
from torch import Tensor, nn

CHANNELS = (1024, 512, 256, 128, 64, 32)


class Up(nn.Module):
    def __init__(self, before: int, channels: int, first: bool) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(before, channels, 4, bias=False) if first else \
            nn.ConvTranspose2d(before, channels, 5, 2, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, momentum=0.003)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class Down(nn.Module):
    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, momentum=0.003)
        self.conv = nn.Conv2d(before, channels, 3, 2, 1, bias=False)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Stage(nn.Module):
    """Blocks, or stages, one after the other."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.ModuleList(body)

    def forward(self, x: Tensor) -> Tensor:
        for one in self.body:
            x = one(x)
        return x


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = (100, *CHANNELS)
        ups = [Up(sizes[i], sizes[i + 1], i == 0) for i in range(len(CHANNELS))]
        self.image = nn.ConvTranspose2d(CHANNELS[-1], 3, 5, 2, 2, 1)
        self.stem, self.stages = ups[0], nn.ModuleDict({
            "low": Stage(ups[1], Stage(ups[2])), "high": Stage(*ups[3:])})

    def forward(self, z: Tensor) -> Tensor:
        h = self.stem(z.view(len(z), -1, 1, 1))
        for stage in self.stages.values():
            h = stage(h)
        return torch.tanh(self.image(h))


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = CHANNELS[::-1]
        self.head = nn.Conv2d(sizes[-1], 1, 4)
        self.downs = Stage(*(Down(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)))
        self.stem = nn.Sequential(nn.Conv2d(3, sizes[0], 3, 2, 1), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.head(self.downs(self.stem(x)))).squeeze()


def compiled_generator() -> nn.Module:
    return torch.compile(Generator())  # type: ignore[return-value]


def compiled_discriminator() -> nn.Module:
    return torch.compile(Discriminator())  # type: ignore[return-value]
