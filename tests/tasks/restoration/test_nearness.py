import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ganatomy.tasks.restoration.nearness import spectrum_distance


def test_the_spectrum_distance_sees_blur_and_flat_images_have_none():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 32, 32))
    blurred = (image + np.roll(image, 1, 2) + np.roll(image, 1, 1) + np.roll(image, (1, 1), (1, 2))) / 4
    assert spectrum_distance(2 * image, image) == pytest.approx(20 * math.log10(2))
    assert spectrum_distance(blurred, image) > 5
    assert math.isnan(spectrum_distance(image, np.zeros_like(image)))
    y, x = np.indices((256, 256)) / 256
    fine = np.random.default_rng(0).normal(0, 10, (256, 256))
    smooth = (900 * np.exp(-8 * ((y - 0.5) ** 2 + (x - 0.5) ** 2)) + fine)[None].astype(np.float32)
    assert spectrum_distance(gaussian_filter(smooth, (0, 3, 3)), smooth) > 3, "little detail is detail, too"
