"""Noise level and noise texture of images.

A denoised image with the right noise level can still look wrong if its noise is blotchy, which the noise power
spectrum shows. Regions of interest are ``(regions, rows, columns)``, flat tissue apart from a
slow trend.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganatomy.metrics.metric import Array

QUADRATIC = 2
BAND = 0.95
FLOOR = 1e-6


@dataclass(frozen=True)
class NoisePowerSpectrum:
    """Radially averaged noise power spectrum.

    Attributes:
        frequencies: mean spatial frequency of every ring, 1/mm, from 0 to the corner of the frequency plane.
        power: mean power in the ring, unit² mm² (HU² mm² for CT).
        area: area of the ring in the frequency plane, 1/mm².
    """

    frequencies: Array
    power: Array
    area: Array

    @property
    def variance(self) -> float:
        """Integral of the spectrum over the frequency plane, which is the pixel variance after detrending."""
        return float(np.sum(self.power * self.area))

    @property
    def mean_frequency(self) -> float:
        """Mean frequency ∫ f NPS(f) df / ∫ NPS(f) df of the radial curve, 1/mm; lower for blotchy noise."""
        total = self.power.sum()
        return float(np.sum(self.frequencies * self.power) / total) if total else math.nan

    @property
    def peak_frequency(self) -> float:
        """Frequency of the strongest ring, 1/mm."""
        return float(self.frequencies[np.argmax(self.power)])


def noise_power_spectrum(
    rois: npt.ArrayLike, spacing_mm: tuple[float, float], detrend: int = QUADRATIC
) -> NoisePowerSpectrum:
    """Compute the radial noise power spectrum, averaged over regions, scaled so that its integral is the variance.

    Source: ICRU Report 87, 2012; Siewerdsen et al., Med. Phys. 29(11):2655-2671, 2002.

    Args:
        rois: ``(regions, rows, columns)``, or one region.
        spacing_mm: between rows, between columns.
        detrend: degree of the polynomial in x and y that is fitted to each region and subtracted; 0 for the
            mean.
    """
    noise = remove_trend(rois, detrend)
    rows, columns = noise.shape[-2:]
    down, across = spacing_mm
    power = np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0) * (down * across) / (rows * columns)
    frequency = np.hypot(np.fft.fftfreq(rows, down)[:, None], np.fft.fftfreq(columns, across)[None, :])
    cell = 1 / (rows * down * columns * across)
    ring_width = max(1 / (rows * down), 1 / (columns * across))
    ring = np.rint(frequency / ring_width).astype(np.intp).ravel()
    members = np.bincount(ring)
    filled = members > 0

    def ring_mean(values: Array) -> Array:
        sums = np.bincount(ring, weights=values.ravel())
        return np.asarray(sums[filled] / members[filled])

    return NoisePowerSpectrum(ring_mean(frequency), ring_mean(power), members[filled] * cell)


def nps_distance(output: NoisePowerSpectrum, reference: NoisePowerSpectrum, band: float = BAND) -> float:
    """Return the distance of two noise power spectra in dB: 0 if equal, 3 if one is twice the other everywhere.

    This is the root mean square of 10 log10(output / reference) over the rings, from the lowest frequency above
    zero up to the one below which ``band`` of the reference's power lies. Power below 1e-6 of the
    reference's peak is raised to that, so an output without noise has a large but finite distance. NaN if the
    reference has no noise.

    Raises:
        ValueError: the spectra were not taken on regions of one size and spacing.
    """
    if output.frequencies.shape != reference.frequencies.shape or not np.allclose(
        output.frequencies, reference.frequencies
    ):
        raise ValueError("noise power spectra can be compared only at the same frequencies")
    below = np.cumsum(reference.power * reference.area)
    if not below[-1]:
        return math.nan
    # The ring at zero frequency is empty after detrending and is left out.
    compared = slice(1, int(np.searchsorted(below, band * below[-1])) + 1)
    floor = FLOOR * reference.power.max()
    ratio = np.maximum(output.power[compared], floor) / np.maximum(reference.power[compared], floor)
    return float(np.sqrt(np.mean((10 * np.log10(ratio)) ** 2)))


def noise_sd(rois: npt.ArrayLike, detrend: int = QUADRATIC) -> float:
    """Return the standard deviation pooled over the regions after detrending each, in the image's unit."""
    return float(np.sqrt(np.mean(remove_trend(rois, detrend) ** 2)))


def remove_trend(rois: npt.ArrayLike, degree: int = QUADRATIC) -> Array:
    """Subtract from each region its least-squares polynomial in x and y of this total degree.

    Args:
        rois: ``(regions, rows, columns)``, or one region.
        degree: 0 for the mean, 1 for a plane, 2 for a paraboloid.

    Returns:
        Detrended regions ``(regions, rows, columns)``.
    """
    values = np.asarray(rois, dtype=np.float64)
    rows, columns = values.shape[-2:]
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    basis, _ = np.linalg.qr(np.stack([(y**i * x**j).ravel() for i, j in powers], axis=1))
    flat = values.reshape(-1, rows * columns)
    return np.asarray((flat - (flat @ basis) @ basis.T).reshape(-1, rows, columns))
