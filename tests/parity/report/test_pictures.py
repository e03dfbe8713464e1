"""Arrays to PNGs."""
import io

import numpy as np
import pytest
from PIL import Image

from parity.report.pictures import SHOWN_SIDE, amplification, compare_images


def rgb(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def plain(blue: float, green: float, red: float, side: int = 256) -> np.ndarray:
    colour = np.array([blue, green, red], np.float32)
    return np.broadcast_to(colour[None, :, None, None], (1, 3, side, side)).copy()


def test_channels_are_turned():
    red = plain(-1, -1, 1)
    pair = compare_images(red, red).pairs[0]
    for png in (pair.cntk, pair.port):
        assert rgb(png).shape == (SHOWN_SIDE, SHOWN_SIDE, 3)
        assert (rgb(png) == [255, 0, 0]).all()
    assert (rgb(pair.difference) == 0).all()


def test_a_difference_is_in_its_own_channel_and_as_bright_as_said():
    port = plain(0, 0, 0)
    port[0, 0, 10, 10] = 0.5  # blue
    rows = compare_images(plain(0, 0, 0), port)
    assert (rows.factor, rows.largest) == (2, 0.5)
    assert rows.differing == 1 / port.size
    shown = rgb(rows.pairs[0].difference)
    assert shown[5, 5].tolist() == [0, 0, 128] and shown.astype(int).sum() == 128


@pytest.mark.parametrize("difference, factor", [
    (0.0, 1), (2.0, 1), (1.0, 2), (0.9, 2), (0.4, 5), (0.2, 10), (3e-7, 5_000_000), (5.0, 1)])
def test_the_factor_is_round_and_nothing_saturates(difference, factor):
    assert amplification(np.full(1000, difference)) == factor


def test_nan_is_no_agreement():
    port = plain(0, 0, 0)
    port[0, 1, 100, 100] = np.nan
    rows = compare_images(plain(0, 0, 0), port)
    assert np.isnan(rows.largest) and rows.differing > 0
    assert rgb(rows.pairs[0].difference)[50, 50].tolist() == [0, 255, 0]


def test_infinities_do_not_warn():
    port = plain(0, 0, 0)
    port[0, 1, 100, 100:102] = np.inf, -np.inf
    assert np.isnan(compare_images(port, port).largest)
    assert compare_images(plain(0, 0, 0), port).largest == np.inf


def test_only_some_are_shown_of_all_that_are_compared():
    images = np.repeat(plain(0, 0, 0, 32), 9, 0)
    port = images.copy()
    port[8] += 1
    rows = compare_images(images, port, shown=2)
    assert (len(rows.pairs), rows.count, rows.largest) == (2, 9, 1.0)
    assert rgb(rows.pairs[0].cntk).shape == (32, 32, 3)


def test_odd_sizes():
    image = np.zeros((1, 3, 300, 7), np.float32)
    assert rgb(compare_images(image, image).pairs[0].cntk).shape == (100, 2, 3)


@pytest.mark.parametrize("cntk, port", [
    ((2, 3, 8, 8), (1, 3, 8, 8)), ((2, 1, 8, 8), (2, 1, 8, 8)), ((3, 8, 8), (3, 8, 8)),
    ((0, 3, 8, 8), (0, 3, 8, 8))])
def test_wrong_shapes_are_refused(cntk, port):
    with pytest.raises(ValueError, match=r"give N x 3 x H x W twice"):
        compare_images(np.zeros(cntk, np.float32), np.zeros(port, np.float32))
