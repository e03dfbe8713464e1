"""Every kernel against the library whose name it has (TensorFlow 1's: test_independent.py)."""
from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from score_samples import noise

from scores.errors import ScoreError
from scores.resize import KERNELS, resize

# float32's rounding of a sum of up to 12 products of values up to 255 is 255 x 12 x 6e-8 = 2e-4;
# PyTorch has its places in float32 too, off by 3e-5 of a pixel whose neighbours may differ by 255.
ROUNDING, PLACES = 2e-4, 2e-2
SIZES = [(299, 299), (30, 25), (40, 52), (7, 90)]


def pillow(x, height, width, how):
    return np.stack([[np.asarray(Image.fromarray(c).resize((width, height), how)) for c in image]
                     for image in x])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_kernel_is_its_librarys(height, width):
    x = noise(2)
    t = torch.from_numpy(x)
    interpolate = torch.nn.functional.interpolate
    theirs = {
        "bilinear": (interpolate(t, (height, width), mode="bilinear").numpy(), PLACES),
        "antialias": (pillow(x, height, width, Image.BILINEAR), ROUNDING),
        "bicubic": (pillow(x, height, width, Image.BICUBIC), ROUNDING),
    }
    for kernel, (expected, within) in theirs.items():
        assert abs(resize(x, height, width, kernel) - expected).max() <= within, kernel
    odd = noise(1, 0, 41, 53)  # no output lies exactly between two inputs: rounding decides nothing
    nearest = interpolate(torch.from_numpy(odd), (height, width), mode="nearest-exact").numpy()
    np.testing.assert_array_equal(resize(odd, height, width, "nearest"), nearest)
    by_opencv = cv2.resize(x[0].transpose(1, 2, 0), (width, height)).transpose(2, 0, 1)
    assert abs(resize(x[:1], height, width, "bilinear")[0] - by_opencv).max() <= PLACES


def test_kernels_differ_and_float64_stays():
    x = noise(1)
    made = {kernel: resize(x, 33, 33, kernel) for kernel in KERNELS}
    for i, one in enumerate(KERNELS):
        for other in KERNELS[i + 1:]:
            assert abs(made[one] - made[other]).max() > 1, (one, other)
    assert resize(x.astype(np.float64), 33, 33, "bicubic").dtype == np.float64
    assert made["bicubic"].dtype == np.float32


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_constant_stays(kernel):
    assert np.ptp(resize(np.full((1, 3, 9, 11), 100, np.float32), 30, 5, kernel)) < 1e-4


def test_what_is_refused():
    with pytest.raises(ScoreError, match="no kernel 'lanczos'"):
        resize(noise(1), 9, 9, "lanczos")
    with pytest.raises(ScoreError, match="N x C x H x W"):
        resize(noise(1)[0], 9, 9, "bilinear")
