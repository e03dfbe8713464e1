"""Inception-v3 with ImageNet's 1000 classes: what the article says it took its score with.

    x in [-1, 1], R, G, B, 299 x 299  ->  2048 features, 1000 logits (with their bias)

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015. The network is
given as data below; parameters have torchvision's names, so that torchvision's weights file is read
as it is (``inception_v3_google-0cc3c7bd.pth``: the weights of TensorFlow's inception_v3_2016_08_28,
trained on pixels in [-1, 1]). The second head of the training, ``AuxLogits``, is left out.

The article does not say how it brought 256 x 256 to 299 x 299. Bilinear is taken, which is what
Keras and CNTK's reader do by default, and ``scores/sensitivity.py`` measures what another would do.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scores.classifiers.base import Spec
from scores.classifiers.weights import Source

# One convolution: name, channels out, kernel (height, width), stride, padding (height, width).
Layer = tuple[str, int, tuple[int, int], int, tuple[int, int]]
Pool = Callable[[Tensor], Tensor]

SPEC = Spec(
    name="inception-v3", title="Inception-v3, ImageNet, 1000 classes (torchvision's weights)",
    otherwise="Inception-v3, 1000 classes (other weights than torchvision's)",
    side=299, kernel="bilinear", middle=127.5, scale=127.5, classes=1000, features=2048)
# torchvision publishes the first eight digits of the SHA-256, in the file's name.
SOURCE = Source("inception_v3_google-0cc3c7bd.pth",
                "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
                "0cc3c7bd", 108_949_747)
UNUSED = ("AuxLogits.",)


def average(x: Tensor) -> Tensor:
    """3 x 3; the zeros of the padding count, as in torchvision."""
    return F.avg_pool2d(x, 3, 1, 1)


def average_without_padding(x: Tensor) -> Tensor:
    """3 x 3; a window at the edge is divided by the pixels that it has, as in TensorFlow."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def largest(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1)


def halving(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2)


class BasicConvolution(nn.Module):
    """relu(batch normalisation(convolution)); epsilon 1e-3, no bias."""

    def __init__(self, before: int, layer: Layer) -> None:
        super().__init__()
        _, after, kernel, stride, padding = layer
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def same(name: str, after: int, height: int, width: int | None = None) -> Layer:
    """At stride 1, padded so that the size stays."""
    width = height if width is None else width
    return name, after, (height, width), 1, (height // 2, width // 2)


def valid(name: str, after: int, side: int, stride: int = 1) -> Layer:
    return name, after, (side, side), stride, (0, 0)


class Mixed(nn.Module):
    """Branches side by side, joined along the channels.

    branches: each a chain of layers; a fork, the tuple of two layers at a chain's end, gives both.
    pool: before the last branch; its convolution is ``branch_pool``, where there is one.
    """

    def __init__(self, before: int, branches: Sequence[Sequence[Layer | tuple[Layer, Layer]]],
                 pool: Pool, pooled: int) -> None:
        super().__init__()
        self.branches = [[[layer[0] for layer in step] if isinstance(step[0], tuple) else [step[0]]
                          for step in branch] for branch in branches]
        for branch in branches:
            channels = before
            for step in branch:
                forked = list(step) if isinstance(step[0], tuple) else [step]
                for layer in forked:
                    self.add_module(layer[0], BasicConvolution(channels, layer))
                channels = forked[0][1]
        self.pool = pool
        self.branch_pool = BasicConvolution(before, same("", pooled, 1)) if pooled else None

    def forward(self, x: Tensor) -> Tensor:
        made = []
        for branch in self.branches:
            h = [x]
            for names in branch:
                h = [self.get_submodule(str(name))(h[0]) for name in names]
            made += h
        h_pool = self.pool(x)
        return torch.cat([*made, h_pool if self.branch_pool is None else self.branch_pool(h_pool)],
                         1)


def block_35(before: int, pooled: int, pool: Pool) -> Mixed:
    return Mixed(before, [
        [same("branch1x1", 64, 1)],
        [same("branch5x5_1", 48, 1), same("branch5x5_2", 64, 5)],
        [same("branch3x3dbl_1", 64, 1), same("branch3x3dbl_2", 96, 3),
         same("branch3x3dbl_3", 96, 3)]], pool, pooled)


def block_35_to_17(before: int) -> Mixed:
    return Mixed(before, [
        [valid("branch3x3", 384, 3, 2)],
        [same("branch3x3dbl_1", 64, 1), same("branch3x3dbl_2", 96, 3),
         valid("branch3x3dbl_3", 96, 3, 2)]], halving, 0)


def block_17(before: int, c: int, pool: Pool) -> Mixed:
    return Mixed(before, [
        [same("branch1x1", 192, 1)],
        [same("branch7x7_1", c, 1), same("branch7x7_2", c, 1, 7), same("branch7x7_3", 192, 7, 1)],
        [same("branch7x7dbl_1", c, 1), same("branch7x7dbl_2", c, 7, 1),
         same("branch7x7dbl_3", c, 1, 7), same("branch7x7dbl_4", c, 7, 1),
         same("branch7x7dbl_5", 192, 1, 7)]], pool, 192)


def block_17_to_8(before: int) -> Mixed:
    return Mixed(before, [
        [same("branch3x3_1", 192, 1), valid("branch3x3_2", 320, 3, 2)],
        [same("branch7x7x3_1", 192, 1), same("branch7x7x3_2", 192, 1, 7),
         same("branch7x7x3_3", 192, 7, 1), valid("branch7x7x3_4", 192, 3, 2)]], halving, 0)


def block_8(before: int, pool: Pool) -> Mixed:
    return Mixed(before, [
        [same("branch1x1", 320, 1)],
        [same("branch3x3_1", 384, 1),
         (same("branch3x3_2a", 384, 1, 3), same("branch3x3_2b", 384, 3, 1))],
        [same("branch3x3dbl_1", 448, 1), same("branch3x3dbl_2", 384, 3),
         (same("branch3x3dbl_3a", 384, 1, 3), same("branch3x3dbl_3b", 384, 3, 1))]], pool, 192)


class Inception(nn.Module):
    """pool: of the blocks inside. last_pool: of the last block. biased: whether the logits have
    their bias. Everything else is the same in both forms."""

    def __init__(self, classes: int = SPEC.classes, pool: Pool = average, last_pool: Pool = average,
                 biased: bool = True) -> None:
        super().__init__()
        self.biased = biased
        self.Conv2d_1a_3x3 = BasicConvolution(3, valid("", 32, 3, 2))
        self.Conv2d_2a_3x3 = BasicConvolution(32, valid("", 32, 3))
        self.Conv2d_2b_3x3 = BasicConvolution(32, same("", 64, 3))
        self.Conv2d_3b_1x1 = BasicConvolution(64, valid("", 80, 1))
        self.Conv2d_4a_3x3 = BasicConvolution(80, valid("", 192, 3))
        self.Mixed_5b = block_35(192, 32, pool)
        self.Mixed_5c = block_35(256, 64, pool)
        self.Mixed_5d = block_35(288, 64, pool)
        self.Mixed_6a = block_35_to_17(288)
        self.Mixed_6b = block_17(768, 128, pool)
        self.Mixed_6c = block_17(768, 160, pool)
        self.Mixed_6d = block_17(768, 160, pool)
        self.Mixed_6e = block_17(768, 192, pool)
        self.Mixed_7a = block_17_to_8(768)
        self.Mixed_7b = block_8(1280, pool)
        self.Mixed_7c = block_8(2048, last_pool)
        self.fc = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N x 3 x 299 x 299 to features N x 2048 and logits N x classes."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = halving(x)
        x = halving(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for block in (self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b,
                      self.Mixed_6c, self.Mixed_6d, self.Mixed_6e, self.Mixed_7a, self.Mixed_7b,
                      self.Mixed_7c):
            x = block(x)
        features = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return features, F.linear(features, self.fc.weight, self.fc.bias if self.biased else None)


def network() -> nn.Module:
    """With no weights in it yet."""
    return Inception()
