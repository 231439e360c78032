"""Errors of reconstructed images relative to their reference, whole and by spatial frequency.

Images are ``(rows, columns)`` or ``(slices, rows, columns)``. Publications use the name NMSE for incompatible numbers,
so the variant must be stated.
"""

import math
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from ganatomy.metrics.metric import Array

NMSEVariant = Literal["norm ratio", "squared ratio"]

BANDS = ("low frequency", "mid frequency", "high frequency")
LIMITS = (1 / 12, 1 / 4)
"""Upper ends of the lower bands, cycles per pixel (our choice)."""


def nmse(output: npt.ArrayLike, reference: npt.ArrayLike, variant: NMSEVariant) -> float:
    """Return the normalised error of a variant; NaN if the reference is zero.

    - ``norm ratio``: ‖x̂ - x‖₂ / ‖x‖₂ of every slice, averaged over the slices that are not empty (Yang et al., DAGAN,
      IEEE Trans. Med. Imaging 37(6), 2018, doi 10.1109/TMI.2017.2785879).
    - ``squared ratio``: ‖x̂ - x‖₂² / ‖x‖₂² of the volume (Zbontar et al., fastMRI, 2018, arXiv 1811.08839).
    """
    ours, theirs = _pair(output, reference)
    if variant == "squared ratio":
        return _ratio(_energy(ours - theirs).sum(), _energy(theirs).sum())
    errors, sizes = np.sqrt(_energy(ours - theirs)), np.sqrt(_energy(theirs))
    return float(np.mean(errors[sizes > 0] / sizes[sizes > 0])) if sizes.any() else math.nan


def nrmse(output: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return ‖x̂ - x‖₂ / ‖x‖₂ of the volume; NaN if the reference is zero."""
    return math.sqrt(nmse(output, reference, "squared ratio"))


def snr(output: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return the signal-to-noise ratio 20 log₁₀(‖x‖₂ / ‖x̂ - x‖₂) of the volume in dB; infinite for equal images."""
    error = nrmse(output, reference)
    return -20 * math.log10(error) if error != 0 else math.inf


def band_errors(
    output: npt.ArrayLike, reference: npt.ArrayLike, limits: tuple[float, ...] = LIMITS
) -> tuple[float, ...]:
    """Return ‖F(x̂ - x)‖₂ / ‖F x‖₂ in bands of spatial frequency, from low to high; NaN if the reference is zero there.

    The zero frequency, the mean brightness, is in no band.

    Args:
        output: reconstructed image.
        reference: true image of the same shape.
        limits: upper ends of all bands but the last, cycles per pixel, where Nyquist is 1/2 along rows and columns.
    """
    ours, theirs = _pair(output, reference)
    errors, powers = (np.square(np.abs(np.fft.fft2(images))).sum(0) for images in (ours - theirs, theirs))
    rows, columns = (np.fft.fftfreq(extent) for extent in theirs.shape[1:])
    frequency = np.hypot(rows[:, None], columns)
    edges = (0.0, *limits, np.inf)
    bands = [(frequency > low) & (frequency <= high) for low, high in pairwise(edges)]
    return tuple(math.sqrt(_ratio(errors[band].sum(), powers[band].sum())) for band in bands)


def _pair(output: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[Array, Array]:
    """Convert both images to (slices, rows, columns)."""
    ours, theirs = (np.asarray(image, dtype=np.float64) for image in (output, reference))
    if ours.shape != theirs.shape:
        raise ValueError(f"images of different shapes cannot be compared: {ours.shape} and {theirs.shape}")
    return ours.reshape(-1, *ours.shape[-2:]), theirs.reshape(-1, *theirs.shape[-2:])


def _energy(images: Array) -> Array:
    return np.asarray(np.square(images).sum(axis=(1, 2)))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan
