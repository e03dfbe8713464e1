"""Batch normalisation on a GPU, by Triton's interpreter: the bits of the C code."""
import pytest

from benchmarks.gpu import exact


@pytest.mark.parametrize("shape", [(3, 17, 7, 5), (2, 5, 3, 20), (1, 2, 1, 2), (2, 3, 4, 1)],
                         ids=str)
def test_it_has_the_c_codes_bits(gpu, shape):
    assert exact.normalised(shape, "cpu", False)["differing"] == 0


def test_another_order_of_its_sums_shows(gpu, monkeypatch):
    kernel = gpu[1].kernels.channel_sums

    class Turned:
        def __getitem__(self, grid):
            def launch(x, g, mean, sums, channels, samples, rows, columns, **options):
                return kernel[grid](x, g, mean, sums, channels, samples, columns, rows, **options)
            return launch
    monkeypatch.setattr(gpu[1].kernels, "channel_sums", Turned())
    assert exact.normalised((2, 5, 3, 20), "cpu", False)["differing"] > 0
