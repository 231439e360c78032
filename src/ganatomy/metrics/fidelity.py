"""Voxelwise agreement of an image with its reference: PSNR, SSIM, RMSE, MAE.

Images are ``(rows, columns)`` or ``(slices, rows, columns)`` in physical units. A ``window`` clips both
images first, and its width then is the data range. A mask selects the voxels that count; if it selects
none, the result is NaN.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ganatomy.metrics.metric import Array, Mask, Metric, Window

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5  # an 11x11 window


def psnr(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    data_range: float | None = None,
    *,
    window: Window | None = None,
    mask: npt.ArrayLike | None = None,
) -> float:
    """Return the peak signal-to-noise ratio in dB, 10 log10(data_range² / MSE), with the MSE over the whole array.

    Equal images give infinity.

    Raises:
        ValueError: the shapes differ, or neither a data range nor a window is given.
    """
    peak = _data_range(data_range, window)
    error = rmse(x, y, window=window, mask=mask)
    return 20 * math.log10(peak / error) if error != 0 else math.inf


def rmse(
    x: npt.ArrayLike, y: npt.ArrayLike, mask: npt.ArrayLike | None = None, *, window: Window | None = None
) -> float:
    """Return the root-mean-square difference, in the images' unit."""
    difference = _difference(x, y, window, mask)
    return float(np.sqrt(np.mean(difference**2))) if difference.size else math.nan


def mae(
    x: npt.ArrayLike, y: npt.ArrayLike, mask: npt.ArrayLike | None = None, *, window: Window | None = None
) -> float:
    """Return the mean absolute difference, in the images' unit."""
    difference = _difference(x, y, window, mask)
    return float(np.mean(np.abs(difference))) if difference.size else math.nan


def ssim(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    data_range: float | None = None,
    *,
    window: Window | None = None,
    mask: npt.ArrayLike | None = None,
) -> float:
    """Return the structural similarity of 2D slices, averaged over the slices.

    An 11x11 Gaussian window (σ 1.5 pixels), K1 = 0.01, K2 = 0.03, averaged over the pixels whose window lies
    inside the slice. With a mask, slices it does not touch are left out of the mean.

    Source: Wang et al., IEEE TIP 13(4):600-612, 2004. doi:10.1109/TIP.2003.819861

    Raises:
        ValueError: the shapes differ, a slice is smaller than 11x11, or neither a data range nor a window is
            given.
    """
    peak = _data_range(data_range, window)
    a, b = _pair(x, y, window)
    plane = a.shape[-2:]
    if min(plane) < 2 * SSIM_RADIUS + 1:
        raise ValueError(f"SSIM needs slices of at least 11x11 pixels, not {plane[0]}x{plane[1]}")
    inside = _selection(mask, a.shape)
    slices = zip(a.reshape(-1, *plane), b.reshape(-1, *plane), inside.reshape(-1, *plane), strict=True)
    scores = [score for pair in slices if (score := _slice_ssim(*pair, peak)) is not None]
    return float(np.mean(scores)) if scores else math.nan


def panel(window: Window | None = None, *, data_range: float | None = None, unit: str = "HU") -> tuple[Metric, ...]:
    """Return PSNR, SSIM, RMSE and MAE as metrics of one variant for a table.

    Args:
        window: window to which both images are clipped first; its width is the data range.
        data_range: data range of images that are not clipped, instead of a window.
        unit: unit of the images.
    """
    peak = _data_range(data_range, window)
    variant = f"{window[0]:g},{window[1]:g}" if window else f"range {peak:g}"
    clipped = f"both images clipped to {window[0]:g} to {window[1]:g} {unit}" if window else "no clipping"
    ranged = f"{clipped}, data range {peak:g} {unit}"
    unranged = variant if window else ""
    return (
        Metric(
            "psnr",
            lambda x, y, mask: psnr(x, y, data_range, window=window, mask=mask),
            True,
            "dB",
            variant,
            f"Peak signal-to-noise ratio; {ranged}.",
        ),
        Metric(
            "ssim",
            lambda x, y, mask: ssim(x, y, data_range, window=window, mask=mask),
            True,
            "",
            variant,
            f"Structural similarity, mean over 2D slices, 11x11 Gaussian window; {ranged}.",
        ),
        Metric(
            "rmse",
            lambda x, y, mask: rmse(x, y, mask, window=window),
            False,
            unit,
            unranged,
            f"Root-mean-square error; {clipped}.",
        ),
        Metric(
            "mae",
            lambda x, y, mask: mae(x, y, mask, window=window),
            False,
            unit,
            unranged,
            f"Mean absolute error; {clipped}.",
        ),
    )


def _slice_ssim(x: Array, y: Array, inside: Mask, peak: float) -> float | None:
    interior = (slice(SSIM_RADIUS, -SSIM_RADIUS),) * 2
    if not (selected := inside[interior]).any():
        return None

    def mean(image: Array) -> Array:
        return np.asarray(gaussian_filter(image, SSIM_SIGMA, radius=SSIM_RADIUS))[interior]

    # The mean is subtracted first, since variances are differences of squares that lose digits far from zero.
    centre = float(y.mean())
    a, b = x - centre, y - centre
    mean_a, mean_b = mean(a), mean(b)
    spread = mean(a * a + b * b) - mean_a**2 - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    mean_x, mean_y = mean_a + centre, mean_b + centre
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (spread + c2)
    return float(np.mean((luminance * structure)[selected]))


def _difference(x: npt.ArrayLike, y: npt.ArrayLike, window: Window | None, mask: npt.ArrayLike | None) -> Array:
    a, b = _pair(x, y, window)
    difference: Array = a - b
    return difference if mask is None else difference[_selection(mask, a.shape)]


def _pair(x: npt.ArrayLike, y: npt.ArrayLike, window: Window | None) -> tuple[Array, Array]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"images of different shapes cannot be compared: {a.shape} and {b.shape}")
    return (np.clip(a, *window), np.clip(b, *window)) if window else (a, b)


def _selection(mask: npt.ArrayLike | None, shape: tuple[int, ...]) -> Mask:
    if mask is None:
        return np.ones(shape, dtype=np.bool_)
    selected = np.asarray(mask, dtype=np.bool_)
    if selected.shape != shape:
        raise ValueError(f"the mask's shape {selected.shape} is not the image's {shape}")
    return selected


def _data_range(data_range: float | None, window: Window | None) -> float:
    if window:
        data_range = window[1] - window[0] if data_range is None else data_range
        if data_range != window[1] - window[0]:
            raise ValueError(f"with the window {window} the data range is its width, not {data_range:g}")
    if data_range is None or data_range <= 0:
        raise ValueError("PSNR and SSIM need a positive data range, or a window")
    return data_range
