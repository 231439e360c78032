import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.metrics.reconstruction import LIMITS, band_errors, nmse, nrmse, snr


def test_each_nmse_is_what_its_variant_says():
    true = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 3.0)])
    output = true + np.array([0.5, 0.3])[:, None, None]
    assert nmse(output, true, "norm ratio") == pytest.approx((0.5 + 0.1) / 2)
    squared = (0.5**2 + 0.3**2) / (1 + 9)
    assert nmse(output, true, "squared ratio") == pytest.approx(squared)
    assert nrmse(output, true) == pytest.approx(math.sqrt(squared))
    assert snr(output, true) == pytest.approx(-10 * math.log10(squared))


def test_an_empty_slice_does_not_count_and_an_empty_volume_has_no_error():
    true = np.stack([np.ones((4, 4)), np.zeros((4, 4))])
    assert nmse(true + 0.1, true, "norm ratio") == pytest.approx(0.1)
    assert math.isnan(nmse(true, 0 * true, "norm ratio")) and math.isnan(nrmse(true, 0 * true))
    assert snr(true, true) == math.inf


def wave(cycles, size=48):
    return np.broadcast_to(np.cos(2 * np.pi * cycles * np.arange(size) / size), (size, size))


@pytest.mark.parametrize(("cycles", "band"), [(2, 0), (4, 0), (8, 1), (12, 1), (20, 2)])
def test_an_error_is_found_in_the_band_of_its_frequency(cycles, band):
    true = wave(2) + wave(8) + wave(20)
    errors = band_errors(true + 0.25 * wave(cycles), true)
    assert [error > 1e-6 for error in errors] == [index == band for index in range(3)]
    assert errors[band] == pytest.approx(0.25)


def test_brightness_is_in_no_band():
    assert band_errors(wave(2) + wave(8) + wave(20) + 5, wave(2) + wave(8) + wave(20)) == pytest.approx(
        (0, 0, 0), abs=1e-9
    )
    assert all(0 < limit < 0.5 for limit in LIMITS)


@given(st.floats(0.1, 10), st.integers(0, 99))
def test_errors_are_relative(scale, seed):
    true, output = np.random.default_rng(seed).random((2, 2, 12, 10))
    for metric in (nrmse, snr, lambda x, y: nmse(x, y, "norm ratio"), band_errors):
        np.testing.assert_allclose(metric(scale * output, scale * true), metric(output, true), rtol=1e-9)


def test_images_of_different_shapes_are_not_compared():
    with pytest.raises(ValueError, match="different shapes"):
        nrmse(np.ones((3, 3)), np.ones((3, 4)))
