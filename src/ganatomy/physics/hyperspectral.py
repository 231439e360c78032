"""Transmission of light by unstained tissue in many bands, and its reduction to principal components.

Spectra are the first axis, (bands, ...); wavelengths are in nm. Absorbances are decadic logarithms of the share of
light that tissue lets through.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

BANDS: Array = np.arange(420.0, 721.0, 10.0)
"""Wavelengths of a hyperspectral microscope in nm (our choice, of usual range)."""
REFERENCE = 500.0
"""Wavelength in nm relative to which scattering is stated."""
HAEMOGLOBIN = ((415.0, 12.0, 1.0), (542.0, 12.0, 0.12), (577.0, 10.0, 0.13))
"""Middle and SD in nm, and relative height, of the peaks of oxygenated haemoglobin (SDs and heights: our choice)."""
LEAST = 1e-3
"""Share of light below which a band counts as dark."""


def scattering(wavelengths: ArrayLike, power: float) -> Array:
    """Return the loss by scattering relative to that at 500 nm, (λ / 500)^−power."""
    return np.asarray((np.asarray(wavelengths, np.float64) / REFERENCE) ** -power)


def haemoglobin(wavelengths: ArrayLike) -> Array:
    """Return the absorption of oxygenated haemoglobin relative to its peak at 415 nm."""
    given = np.asarray(wavelengths, np.float64)
    return np.asarray(sum(high * np.exp(-((given - middle) ** 2) / (2 * sd**2)) for middle, sd, high in HAEMOGLOBIN))


def absorbance(spectra: ArrayLike, amounts: ArrayLike) -> Array:
    """Return the absorbance (bands, ...) of substances by Beer and Lambert's law.

    Args:
        spectra: absorbance of one unit of each substance, (substances, bands).
        amounts: amounts of the substances, (substances, ...).
    """
    return np.tensordot(np.asarray(spectra, np.float64).T, np.asarray(amounts, np.float64), 1)


def transmitted(found: ArrayLike, lamp: ArrayLike = 1.0) -> Array:
    """Return the light behind an absorbance (bands, ...).

    Args:
        found: absorbance.
        lamp: light without tissue in each band, or one number.
    """
    values, light = np.asarray(found, np.float64), np.asarray(lamp, np.float64)
    return np.asarray(light.reshape(-1, *[1] * (values.ndim - 1)) * 10**-values)


def flat_field(light: ArrayLike, blank: ArrayLike) -> Array:
    """Return the absorbance of an image of counts, given that of a blank field of the same shape, band by band."""
    shares = np.asarray(light, np.float64) / np.maximum(np.asarray(blank, np.float64), 1e-12)
    return np.asarray(-np.log10(np.maximum(shares, LEAST)))


def principal_components(values: ArrayLike, count: int) -> tuple[Array, Array, Array, Array]:
    """Return mean and SD of each band, principal components of the standardised bands, and their SDs.

    Args:
        values: values of pixels, (bands, pixels); bands without spread are left out of the components.
        count: number of components, the one with the largest variance first.

    Returns:
        Mean (bands), SD (bands), components (count, bands) of unit length whose largest entry is positive, SD of the
        scores (count).
    """
    given = np.asarray(values, np.float64)
    mean, spread = given.mean(axis=1), given.std(axis=1)
    spread = np.where(spread > 1e-9, spread, np.inf)
    standard = (given - mean[:, None]) / spread[:, None]
    variances, axes = np.linalg.eigh(standard @ standard.T / given.shape[1])
    found = axes.T[::-1][:count]
    largest = found[np.arange(len(found)), np.abs(found).argmax(axis=1)]
    return mean, spread, found * np.sign(largest)[:, None], np.sqrt(np.maximum(variances[::-1][:count], 1e-12))
