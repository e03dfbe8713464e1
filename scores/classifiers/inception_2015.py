"""Inception as published scores rest on it: TensorFlow's graph of 2015-12-05.

    pixels 0..255, scaled to 299 x 299 by TensorFlow 1's kernel, (x - 128) / 128
        ->  2048 features ("pool_3"), 1008 logits WITHOUT their bias

It is Inception-v3 with four differences, each of which moves a score:

- averages at the edge are over the pixels that are there, not over the padding's zeros;
- in the last block the pool before ``branch_pool`` takes the largest, not the mean;
- 1008 logits, of which 1000 mean something;
- Salimans et al.'s program multiplies the features with the last layer's weights and leaves the
  bias out, so p(y|x) is not quite the network's. torch-fidelity calls it "logits_unbiased".

Weights and names of parameters: pytorch-fid's and torch-fidelity's, which share one file.
"""
from __future__ import annotations

from torch import nn

from scores.classifiers.base import Spec
from scores.classifiers.inception_v3 import Inception, average_without_padding, largest
from scores.classifiers.weights import Source

SPEC = Spec(
    name="inception-2015", title="Inception of 2015-12-05, 1008 logits without bias (pytorch-fid's "
    "and torch-fidelity's weights)",
    otherwise="Inception of 2015-12-05, 1008 logits without bias (other weights than "
    "pytorch-fid's)",
    side=299, kernel="tensorflow1", middle=128.0, scale=128.0, classes=1008, features=2048)
SOURCE = Source("pt_inception-2015-12-05-6726825d.pth",
                "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth",
                "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2", 95_628_359)
UNUSED = ()


def network() -> nn.Module:
    """With no weights in it yet."""
    return Inception(SPEC.classes, average_without_padding, largest, biased=False)
