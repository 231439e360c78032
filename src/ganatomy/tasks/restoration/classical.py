"""Classical denoisers, which judges of denoising tasks compare every run with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet

from ganatomy.case import Sample, Volume
from ganatomy.evaluation.judging import Classical

Noisy = Callable[[Sample, int, int], tuple[Volume, Sequence[float]]]
"""Function from a case and a range of its slices to these slices and the SD of the noise in each."""

PATCH, REACH = 5, 6
"""Patch size and search distance of non-local means in pixels."""
STRENGTHS: dict[str, tuple[float, ...]] = {
    "non-local means": (0.5, 0.8, 1.2),
    "total variation": (0.5, 1.0, 1.5),
    "wavelets": (0.8, 1.0, 1.3),
    "BM3D": (0.8, 1.0, 1.2),
}
"""Method to filter strengths relative to the noise that are tried on validation cases (our choice)."""


def denoisers(noisy: Noisy, told: str) -> list[Classical]:
    """Return classical denoisers, each with several strengths relative to the noise.

    BM3D is among them where the user has installed the package ``bm3d``, whose licence forbids commercial use.

    Args:
        noisy: function that returns noisy slices and the SD of their noise.
        told: words for where this SD comes from.
    """
    known: list[tuple[str, str, Callable[..., Any]]] = [
        ("non-local means", f"patches of {PATCH} pixels, search of {REACH}", non_local_means),
        ("total variation", "Chambolle's projections", total_variation),
        ("wavelets", "shrinkage after Chang, Yu & Vetterli", wavelets),
    ]
    if find_spec("bm3d"):
        known.append(("BM3D", "Dabov et al.", import_module("bm3d").bm3d))

    def run(denoise: Callable[..., Any], strength: float) -> Callable[..., Volume]:
        def denoised(case: Sample, start: int, stop: int) -> Volume:
            images, sigmas = noisy(case, start, stop)
            return slice_by_slice(denoise, images, [strength * sigma for sigma in sigmas])

        return denoised

    return [
        Classical(
            name,
            f"classical, no training; {about}",
            [(f"strength {strength:g} times {told}", run(denoise, strength)) for strength in STRENGTHS[name]],
        )
        for name, about, denoise in known
    ]


def slice_by_slice(denoise: Callable[..., Any], images: Volume, sigmas: Sequence[float]) -> Volume:
    """Denoise slices (slices, rows, columns), each with its own SD; slices with 0 are returned unchanged."""
    planes = zip(np.asarray(images, np.float32), sigmas, strict=True)
    return np.stack([denoise(plane, sigma) if sigma else plane for plane, sigma in planes]).astype(np.float32)


def non_local_means(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Denoise an image (H, W) by non-local means with filter strength and noise ``sigma``.

    Buades, Coll & Morel, A non-local algorithm for image denoising, CVPR 2005. doi:10.1109/CVPR.2005.38; patches as
    scikit-image's documentation recommends for its fast form.
    """
    found: NDArray[np.float32] = denoise_nl_means(
        image, h=sigma, sigma=sigma, patch_size=PATCH, patch_distance=REACH, fast_mode=True
    )
    return found


def total_variation(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Denoise an image (H, W) by total variation with the weight ``sigma``.

    Chambolle, An algorithm for total variation minimization, J. Math. Imaging Vis. 20, 2004.
    doi:10.1023/B:JMIV.0000011325.36760.1e.
    """
    found: NDArray[np.float32] = denoise_tv_chambolle(image, weight=sigma)  # type: ignore[no-untyped-call]
    return found


def wavelets(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Denoise an image (H, W) by soft thresholds of its wavelet coefficients for noise of the SD ``sigma``.

    Chang, Yu & Vetterli, Adaptive wavelet thresholding, IEEE Trans. Image Process. 9(9), 2000. doi:10.1109/83.862633.
    """
    found: NDArray[np.float32] = denoise_wavelet(image, sigma=sigma, wavelet="db2", method="BayesShrink")
    return found
