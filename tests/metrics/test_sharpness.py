import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from ganatomy.metrics.sharpness import gradient_ratio, line_profile

SPACING = (0.8, 0.6)
CENTRE = (60.3, 80.7)
RADIUS = 25.0


def blurred_disk(sigma_mm: float) -> np.ndarray:
    rows, columns = np.indices((120, 160))
    radius = np.hypot((rows - CENTRE[0]) * SPACING[0], (columns - CENTRE[1]) * SPACING[1])
    return 50 + 100 * (1 + erf((RADIUS - radius) / (math.sqrt(2) * sigma_mm)))


def test_profile_of_a_ramp_is_the_ramp_in_millimetres() -> None:
    rows, columns = np.indices((30, 40))
    ramp = rows * SPACING[0] * 3 + columns * SPACING[1] * 4
    profile = line_profile(ramp, (2, 3), (22, 33), SPACING)
    length = math.hypot(20 * SPACING[0], 30 * SPACING[1])
    assert profile.distance_mm[-1] == pytest.approx(length)
    start, end = ramp[2, 3], ramp[22, 33]
    assert profile.values == pytest.approx(start + (end - start) * profile.distance_mm / length)
    in_mm = line_profile(ramp, (1.6, 1.8), (17.6, 19.8), SPACING, unit="mm", width_mm=3)
    assert in_mm.values == pytest.approx(profile.values)


def test_a_wide_profile_averages_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 10, (100, 100))
    thin = line_profile(noise, (50, 5), (50, 95))
    wide = line_profile(noise, (50, 5), (50, 95), width_mm=20)
    assert wide.values.std() < 0.5 * thin.values.std()


def test_a_profile_needs_two_points() -> None:
    with pytest.raises(ValueError, match="two different points"):
        line_profile(np.zeros((4, 4)), (1, 1), (1, 1))


def test_gradient_ratio_orders_images_by_sharpness() -> None:
    sharp = blurred_disk(0.8)
    assert gradient_ratio(sharp, sharp, SPACING) == pytest.approx(1)
    blurred = [gradient_ratio(gaussian_filter(sharp, s), sharp, SPACING) for s in (0.5, 1, 2)]
    assert 1 > blurred[0] > blurred[1] > blurred[2] > 0
    assert gradient_ratio(2 * sharp - gaussian_filter(sharp, 1), sharp, SPACING) > 1.05
    assert math.isnan(gradient_ratio(sharp, np.zeros_like(sharp), SPACING))


def test_noise_does_not_pass_for_sharpness() -> None:
    rng = np.random.default_rng(0)
    sharp = blurred_disk(0.8)
    noisy, reference = (sharp + rng.normal(0, sd, sharp.shape) for sd in (40, 5))
    assert gradient_ratio(noisy, reference, SPACING) == pytest.approx(1, abs=0.08)
