"""Writes generator.onnx and discriminator.onnx beside this file: all that is left of a port;
and the same with the mend that the diagnosis names, as mended_....onnx."""
from pathlib import Path

import torch
from torch import nn

CHANNELS = (1024, 512, 256, 128, 64, 32)


def generator(eps: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 100
    for i, channels in enumerate(CHANNELS):
        layers += [nn.ConvTranspose2d(before, channels, 4, bias=False) if i == 0 else
                   nn.ConvTranspose2d(before, channels, 5, 2, 2, 1, bias=False),
                   nn.BatchNorm2d(channels, eps), nn.ReLU()]
        before = channels
    return nn.Sequential(*layers, nn.ConvTranspose2d(before, 3, 5, 2, 2, 1), nn.Tanh())


def discriminator() -> nn.Sequential:
    before = CHANNELS[-1]
    layers: list[nn.Module] = [nn.Conv2d(3, before, 3, 2, 1), nn.LeakyReLU(0.2)]
    for channels in CHANNELS[-2::-1]:
        layers += [nn.Conv2d(before, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels),
                   nn.LeakyReLU(0.2)]
        before = channels
    return nn.Sequential(*layers, nn.Conv2d(before, 1, 4), nn.Sigmoid())


def export(folder: Path, prefix: str = "", eps: float = 1e-3) -> None:
    for network, shape in ((generator(eps), (2, 100, 1, 1)), (discriminator(), (2, 3, 256, 256))):
        name = prefix + ("generator" if shape[1] == 100 else "discriminator")
        # optimize=False: a normalisation that is folded into its convolution cannot be judged.
        torch.onnx.export(network.eval(), (torch.zeros(shape),), folder / f"{name}.onnx",
                          dynamo=True, optimize=False, external_data=False, verbose=False,
                          dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))


if __name__ == "__main__":
    export(Path(__file__).parent)
    export(Path(__file__).parent, "mended_", 1e-5)
