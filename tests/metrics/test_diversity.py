import math

import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric
from scipy.ndimage import gaussian_filter

from ganatomy.metrics.diversity import (
    cross_channel_difference,
    ms_ssim,
    ms_ssim_diversity,
    radial_spectrum,
    spectrum_ratio_db,
    total_variance_ratio,
    upsampling_peaks,
)


def smooth(n: int, channels: int, size: tuple[int, int], seed: int, sigma: float = 2.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n, channels, *size))
    return gaussian_filter(noise, (0, 0, sigma, sigma)) * sigma * 100 + 128


def test_ms_ssim_agrees_with_another_implementation() -> None:
    a, b = smooth(3, 1, (192, 208), 0), smooth(3, 1, (192, 208), 1)
    b = 0.7 * a + 0.3 * b
    theirs = MultiScaleSSIMMetric(spatial_dims=2, data_range=255.0)(torch.tensor(a).float(), torch.tensor(b).float())
    np.testing.assert_allclose(ms_ssim(a, b), theirs[:, 0].numpy(), rtol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (64, 48), (180, 180)])
def test_equal_images_are_fully_similar(size: tuple[int, int]) -> None:
    a = smooth(2, 2, size, 0)
    np.testing.assert_allclose(ms_ssim(a, a), 1)


@pytest.mark.parametrize("side", [16, 40, 200])
def test_flat_images_differ_in_luminance_at_the_coarsest_scale_alone(side: int) -> None:
    flat = np.ones((1, 1, side, side))
    c1 = (0.01 * 255) ** 2
    expected = ((2 * 50 * 100 + c1) / (50**2 + 100**2 + c1)) ** 0.1333
    assert ms_ssim(50 * flat, 100 * flat)[0] == pytest.approx(expected)


def test_opposite_images_have_no_similarity() -> None:
    a = smooth(1, 1, (64, 64), 0)
    assert ms_ssim(a, 256 - a)[0] == 0


def test_less_varied_images_are_more_similar_to_each_other() -> None:
    rng = np.random.default_rng(0)
    varied = smooth(20, 1, (32, 32), 0)
    timid = 128 + smooth(1, 1, (32, 32), 5) * 0.5 + 0.05 * varied
    wide, narrow = ms_ssim_diversity(varied, rng, 60), ms_ssim_diversity(timid, rng, 60)
    assert narrow.mean > 0.9 > wide.mean
    assert wide.repeats == 60
    assert ms_ssim_diversity(np.repeat(varied[:1], 4, axis=0), rng, 5).mean == pytest.approx(1)


def test_no_image_is_paired_with_itself() -> None:
    flat = np.ones((2, 1, 16, 16)) * np.array([0.0, 255.0])[:, None, None, None]
    assert ms_ssim_diversity(flat, np.random.default_rng(0), 50).mean < 0.5


def test_unsuitable_images_are_refused() -> None:
    with pytest.raises(ValueError, match="16x16"):
        ms_ssim(np.zeros((1, 1, 15, 40)), np.zeros((1, 1, 15, 40)))
    with pytest.raises(ValueError, match="channels, rows, columns"):
        ms_ssim(np.zeros((16, 16)), np.zeros((16, 16)))
    with pytest.raises(ValueError, match="one size"):
        spectrum_ratio_db(np.zeros((2, 1, 16, 16)), np.zeros((2, 1, 32, 32)))


def test_total_variance_goes_with_the_square_of_the_scale() -> None:
    x = np.random.default_rng(0).normal(size=(50, 8))
    assert total_variance_ratio(x, 3 * x + 5) == pytest.approx(9)
    assert total_variance_ratio(x, np.ones((5, 8))) == 0
    assert math.isnan(total_variance_ratio(np.ones((5, 8)), x))


def test_channels_that_lose_their_relation_are_noticed() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 10, 1, 40, 40))
    agreeing, independent = np.concatenate([a, 2 * a + 3], axis=1), np.concatenate([a, b], axis=1)
    assert cross_channel_difference(agreeing, agreeing[::-1]) == pytest.approx(0, abs=1e-9)
    assert cross_channel_difference(agreeing, independent) == pytest.approx(math.sqrt(2), rel=0.03)
    assert cross_channel_difference(agreeing, np.concatenate([a, 0 * a], axis=1)) == pytest.approx(math.sqrt(3))


def test_white_noise_has_a_flat_spectrum_of_its_variance() -> None:
    spectrum = radial_spectrum(np.random.default_rng(0).normal(3, 2, size=(60, 1, 48, 40)))
    assert spectrum.power[3:] == pytest.approx(4, rel=0.25)
    assert np.median(spectrum.power[3:]) == pytest.approx(4, rel=0.03)
    assert spectrum.frequencies[-1] == pytest.approx(math.sqrt(0.5), abs=0.02)


def stripes(period: int, side: int) -> np.ndarray:
    one = np.arange(side) % period < period // 2
    return np.where(one, 1.0, -1.0)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_up_sampling_patterns_are_found_at_their_period(period: int) -> None:
    real, fake = smooth(40, 1, (64, 64), 0, 1.0), smooth(40, 1, (64, 64), 1, 1.0)
    assert upsampling_peaks(real, fake) == []
    pattern = stripes(period, 64)
    peaks = upsampling_peaks(real, fake + 3 * period * (pattern[:, None] + pattern))
    assert 1 / period in [peak.frequency for peak in peaks]


def test_a_checkerboard_is_found_in_the_corner() -> None:
    real, fake = smooth(40, 1, (64, 64), 0, 1.0), smooth(40, 1, (64, 64), 1, 1.0)
    pattern = stripes(2, 64)
    peaks = upsampling_peaks(real, fake + 2 * pattern[:, None] * pattern)
    assert [peak.frequency for peak in peaks] == [pytest.approx(math.sqrt(0.5))]
    assert peaks[0].excess_db > 3


def test_more_noise_or_contrast_is_no_pattern() -> None:
    real, fake = smooth(40, 1, (64, 64), 0), smooth(40, 1, (64, 64), 1)
    noise = np.random.default_rng(2).normal(0, 20, fake.shape)
    assert upsampling_peaks(real, 3 * fake + noise) == []
    assert upsampling_peaks(real, smooth(40, 1, (64, 64), 1, 1.9)) == []
    noisy = real + noise
    np.testing.assert_allclose(spectrum_ratio_db(noisy, 10 * noisy).power, 20)


@pytest.mark.parametrize("seed", range(8))
def test_real_images_show_no_pattern(seed: int) -> None:
    assert upsampling_peaks(smooth(30, 1, (48, 64), seed), smooth(30, 1, (48, 64), 100 + seed)) == []
