import math

import numpy as np
import pytest

from ganatomy.metrics.texture import (
    noise_power_spectrum,
    noise_sd,
    nps_distance,
    remove_trend,
)

SPACING = (0.7, 0.9)


@pytest.fixture(scope="module")
def white() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 12, (300, 32, 40))


def low_pass(rois: np.ndarray, width_mm: float) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (np.fft.fftfreq(n, d) for n, d in zip(rois.shape[1:], SPACING, strict=True))
    frequency = np.hypot(rows[:, None], columns[None, :])
    transfer = np.exp(-2 * (np.pi * width_mm * frequency) ** 2)
    return np.fft.ifft2(np.fft.fft2(rois) * transfer).real, transfer


def test_the_integral_is_the_variance(white: np.ndarray) -> None:
    spectrum = noise_power_spectrum(white, SPACING, detrend=0)
    variance = np.mean(white.var(axis=(1, 2)))
    assert spectrum.variance == pytest.approx(variance, rel=1e-12)
    assert spectrum.area.sum() == pytest.approx(1 / math.prod(SPACING))


def test_white_noise_is_flat(white: np.ndarray) -> None:
    spectrum = noise_power_spectrum(white, SPACING)
    assert spectrum.power[3:] == pytest.approx(12**2 * math.prod(SPACING), rel=0.08)


def test_filtered_noise_has_the_filters_spectrum(white: np.ndarray) -> None:
    filtered, transfer = low_pass(white, width_mm=0.6)
    spectrum = noise_power_spectrum(filtered, SPACING, detrend=0)
    expected = 12**2 * math.prod(SPACING) * np.exp(-4 * (np.pi * 0.6 * spectrum.frequencies) ** 2)
    strong = (spectrum.frequencies > 0) & (expected > 1)
    assert spectrum.power[strong] == pytest.approx(expected[strong], rel=0.15)
    assert spectrum.variance == pytest.approx(12**2 * np.mean(transfer**2), rel=0.02)


def test_coarser_noise_has_a_lower_mean_frequency(white: np.ndarray) -> None:
    fine = noise_power_spectrum(white, SPACING)
    coarse = noise_power_spectrum(low_pass(white, 0.6)[0], SPACING)
    assert coarse.mean_frequency < 0.7 * fine.mean_frequency
    wave = np.cos(2 * np.pi * np.arange(64) / 8) * np.ones((64, 1))
    assert noise_power_spectrum(wave, (0.5, 0.5)).peak_frequency == pytest.approx(1 / 4, abs=0.02)


def test_a_paraboloid_is_trend_and_not_noise() -> None:
    y, x = np.indices((20, 30))
    trend = np.stack([3 + 0.2 * x - y + 0.01 * x * y + 0.05 * y**2, 40 - 0.1 * x**2])
    assert remove_trend(trend) == pytest.approx(np.zeros_like(trend), abs=1e-9)
    assert noise_sd(trend, detrend=1) > 1


def test_distance_of_scaled_noise_is_its_power_ratio_in_decibels(white: np.ndarray) -> None:
    reference = noise_power_spectrum(white, SPACING)
    assert nps_distance(reference, reference) == 0
    halved = noise_power_spectrum(white / 2, SPACING)
    assert nps_distance(halved, reference) == pytest.approx(20 * math.log10(2))
    assert nps_distance(noise_power_spectrum(0 * white, SPACING), reference) == pytest.approx(60, abs=1)
    assert math.isnan(nps_distance(reference, noise_power_spectrum(0 * white, SPACING)))


def test_spectra_of_different_regions_cannot_be_compared(white: np.ndarray) -> None:
    reference = noise_power_spectrum(white, SPACING)
    for other in (noise_power_spectrum(white[:, :16], SPACING), noise_power_spectrum(white, (1.4, 1.8))):
        with pytest.raises(ValueError, match="same frequencies"):
            nps_distance(other, reference)


def test_distance_sees_blotchy_noise_of_the_right_strength(white: np.ndarray) -> None:
    blotchy = low_pass(white, 0.6)[0]
    blotchy *= white.std() / blotchy.std()
    assert noise_sd(blotchy) == pytest.approx(noise_sd(white), rel=0.05)
    assert nps_distance(noise_power_spectrum(blotchy, SPACING), noise_power_spectrum(white, SPACING)) > 5
