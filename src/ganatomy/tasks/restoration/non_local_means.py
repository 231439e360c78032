"""Non-local means, the baseline without training for denoising tasks."""

from collections.abc import Sequence

import numpy as np
from skimage.restoration import denoise_nl_means

from ganatomy.case import Volume

PATCH, REACH, STRENGTH = 5, 6, 0.8
"""Patch size and search distance in pixels, and filter strength relative to the noise."""


def non_local_means(noisy: Volume, sigmas: Sequence[float]) -> Volume:
    """Denoise slice by slice with a known standard deviation of the noise.

    Buades, Coll & Morel, A non-local algorithm for image denoising, CVPR 2005. doi:10.1109/CVPR.2005.38; strength and
    patches as scikit-image's documentation recommends for its fast form, not tuned to the data.

    Args:
        noisy: slices, (slices, rows, columns).
        sigmas: standard deviation of the noise in each slice, in its unit; slices with 0 are returned unchanged.
    """
    how = {"patch_size": PATCH, "patch_distance": REACH, "fast_mode": True}
    restored = [
        denoise_nl_means(plane, h=STRENGTH * sigma, sigma=sigma, **how) if sigma else plane
        for plane, sigma in zip(np.asarray(noisy, np.float32), sigmas, strict=True)
    ]
    return np.stack(restored).astype(np.float32)
