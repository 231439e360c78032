"""Variety of generated images relative to real ones, and periodic artefacts of upsampling.

Images are ``(n, channels, rows, columns)``. Values are comparable only between samples of equal n that were prepared
alike, so each should be read together with that of real images.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

from ganatomy.metrics.distribution import Spread, as_features
from ganatomy.metrics.metric import Array

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11
SIGMA = 1.5
SMALLEST = 2 ** (len(SCALE_WEIGHTS) - 1)
PAIRS_AT_ONCE = 16
NEAREST_RING, FURTHEST_RING = 2, 7  # a Hann window spreads a line over the rings beside it
LOWEST_RING = 4
QUIET = 1e-6  # fraction of the strongest ring to which weaker power is raised, about the precision of images


@dataclass(frozen=True)
class RadialSpectrum:
    """Power of images by spatial frequency, averaged over directions.

    Attributes:
        frequencies: frequency of every ring in cycles per pixel, from 0 to the corner of the frequency plane, √2/2.
        power: mean squared magnitude in the ring, in the images' unit squared.
    """

    frequencies: Array
    power: Array


@dataclass(frozen=True)
class Peak:
    """Line in the spectrum: its frequency in cycles per pixel, and its height above the surroundings in dB."""

    frequency: float
    excess_db: float


def ms_ssim(a: npt.ArrayLike, b: npt.ArrayLike, data_range: float = 255.0) -> Array:
    """Return the multi-scale structural similarity of pairs of images, 1 for equal images.

    Five scales with the weights of the source, halved by 2x2 means; an 11x11 Gaussian window (σ 1.5 pixels)
    inside the image, K1 = 0.01, K2 = 0.03; negative terms count as 0. Below 176 pixels the window does not fit
    the coarser scales: there it shrinks to the image, σ with it. Channels are averaged.

    Source: Wang et al., Asilomar Conf. Signals Syst. Comput. 2003. doi:10.1109/ACSSC.2003.1292216

    Args:
        a: images (n, channels, rows, columns), at least 16x16.
        b: images of the same shape.
        data_range: range of the values.

    Returns:
        Similarities (n,).

    Raises:
        ValueError: the shapes differ, the images are too small, or the data range is not positive.
    """
    x, y = _images(a), _images(b)
    if x.shape != y.shape or min(x.shape[2:]) < SMALLEST:
        raise ValueError(f"MS-SSIM needs images of equal shape and at least 16x16 pixels, not {x.shape}, {y.shape}")
    if data_range <= 0:
        raise ValueError("MS-SSIM needs a positive data range")
    score = np.ones(len(x))
    for scale, weight in enumerate(SCALE_WEIGHTS):
        similarity, contrast = _ssim_terms(x, y, data_range)
        score *= np.maximum(similarity if scale == len(SCALE_WEIGHTS) - 1 else contrast, 0) ** weight
        x, y = _halve(x), _halve(y)
    return score


def ms_ssim_diversity(
    images: npt.ArrayLike, rng: np.random.Generator, pairs: int = 1000, data_range: float = 255.0
) -> Spread:
    """Return the MS-SSIM of random pairs of different images; higher than among real images means less varied.

    A value below that of real images is no merit, since noise lowers it. Pairs should be of one class and one pose.

    Source: Odena et al., ICML 2017, arXiv:1610.09585.

    Args:
        images: (n, channels, rows, columns).
        rng: draws the pairs.
        pairs: number of pairs.
        data_range: range of the values.

    Returns:
        Mean and SD over pairs; the mean's standard error is about SD / √pairs while pairs are fewer than images.
    """
    x = _images(images)
    first = rng.integers(len(x), size=pairs)
    second = (first + rng.integers(1, len(x), size=pairs)) % len(x)
    blocks = np.array_split(np.arange(pairs), math.ceil(pairs / PAIRS_AT_ONCE))
    return Spread.of(np.concatenate([ms_ssim(x[first[some]], x[second[some]], data_range) for some in blocks]))


def total_variance_ratio(real: npt.ArrayLike, fake: npt.ArrayLike) -> float:
    """Return the sum of the variances of all features (n, d), fake over real; NaN if the real ones do not vary."""
    reference = as_features(real).var(axis=0, ddof=1).sum()
    return float(as_features(fake).var(axis=0, ddof=1).sum() / reference) if reference else math.nan


def cross_channel_difference(real: npt.ArrayLike, fake: npt.ArrayLike) -> float:
    """Return the Frobenius norm of the difference of the channels' correlation matrices, real and fake.

    It is 0 if channels correlate as in real images. Correlations of a constant channel count as 0.

    Args:
        real: images (n, channels, rows, columns).
        fake: images (m, channels, rows, columns).
    """
    return float(np.linalg.norm(_channel_correlation(_images(real)) - _channel_correlation(_images(fake))))


def radial_spectrum(images: npt.ArrayLike) -> RadialSpectrum:
    """Return the power spectrum averaged over images, channels and directions.

    The mean of each image is subtracted, and a Hann window keeps borders from appearing as lines.

    Args:
        images: (n, channels, rows, columns).
    """
    x = _images(images)
    rows, columns = x.shape[2:]
    window = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(columns + 2)[1:-1])
    window /= np.sqrt(np.mean(window**2))
    power = np.zeros((rows, columns))
    for image in x:
        centred = image - image.mean(axis=(1, 2), keepdims=True)
        power += np.mean(np.abs(np.fft.fft2(centred * window)) ** 2, axis=0)
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns))
    ring = np.rint(frequency * min(rows, columns)).astype(np.intp).ravel()
    members = np.bincount(ring)
    mean_power = np.bincount(ring, weights=power.ravel()) / members / (len(x) * rows * columns)
    return RadialSpectrum(np.arange(len(members)) / min(rows, columns), mean_power)


def spectrum_ratio_db(real: npt.ArrayLike, fake: npt.ArrayLike, quiet: float = QUIET) -> RadialSpectrum:
    """Return the radial spectrum of the fakes over that of real images of the same size, in dB, as ``power``.

    Args:
        real: images (n, channels, rows, columns).
        fake: images (m, channels, rows, columns).
        quiet: fraction of the strongest ring of the real images to which weaker power is raised.

    Raises:
        ValueError: the images differ in size, or the real ones are flat.
    """
    reference, ours = radial_spectrum(real), radial_spectrum(fake)
    if reference.frequencies.shape != ours.frequencies.shape:
        raise ValueError("spectra can be compared only for images of one size")
    floor = quiet * reference.power.max()
    if floor == 0:
        raise ValueError("the real images are all flat")
    ratio = np.maximum(ours.power, floor) / np.maximum(reference.power, floor)
    return RadialSpectrum(reference.frequencies, 10 * np.log10(ratio))


def upsampling_peaks(real: npt.ArrayLike, fake: npt.ArrayLike, threshold_db: float = 2.0) -> list[Peak]:
    """Find lines in the fakes' spectrum at the frequencies of repeated upsampling by two.

    Such patterns have periods of 2, 4, 8… pixels: the spectrum is searched at 1/2, 1/4, 1/8… cycles per
    pixel, along the axes and the diagonals, down to four periods per image. A line counts where the
    ratio to real images exceeds by the threshold what the frequencies on either side lead one to expect; an excess over
    a broad band is no line.

    Args:
        real: images (n, channels, rows, columns).
        fake: images (m, channels, rows, columns) of that size.
        threshold_db: lowest excess, in dB.

    Returns:
        The lines found, highest frequency first.
    """
    ratio = spectrum_ratio_db(real, fake)
    side = round(1 / ratio.frequencies[1])
    halvings = range(1, 1 + int(math.log2(side / LOWEST_RING)))
    candidates = sorted((factor / 2**k for k in halvings for factor in (1.0, math.sqrt(2))), reverse=True)
    peaks = [Peak(frequency, _excess(ratio.power, round(frequency * side))) for frequency in candidates]
    return [peak for peak in peaks if peak.excess_db > threshold_db]


def _images(images: npt.ArrayLike) -> Array:
    x = np.asarray(images, dtype=np.float64)
    if x.ndim != 4 or len(x) == 0:
        raise ValueError(f"images must be (n, channels, rows, columns), not {x.shape}")
    return x


def _ssim_terms(x: Array, y: Array, data_range: float) -> tuple[Array, Array]:
    """Return the mean similarity and the mean contrast-structure term of each pair."""
    size = min(WINDOW, *x.shape[2:])
    offsets = np.arange(size) - (size - 1) / 2
    kernel = np.exp(-0.5 * (offsets / (SIGMA * size / WINDOW)) ** 2)
    kernel /= kernel.sum()

    def mean(images: Array) -> Array:
        for axis in (2, 3):
            images = correlate1d(images, kernel, axis=axis)
        start = size // 2
        rows, columns = (length - size + 1 for length in images.shape[2:])
        return images[:, :, start : start + rows, start : start + columns]

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = mean(x), mean(y)
    spread = mean(x * x) + mean(y * y) - mean_x**2 - mean_y**2
    contrast = (2 * (mean(x * y) - mean_x * mean_y) + c2) / (spread + c2)
    similarity = contrast * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return similarity.mean(axis=(1, 2, 3)), contrast.mean(axis=(1, 2, 3))


def _halve(images: Array) -> Array:
    rows, columns = images.shape[2:]
    even = np.pad(images, ((0, 0), (0, 0), (0, rows % 2), (0, columns % 2)), mode="edge")
    return np.asarray((even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]) / 4)


def _channel_correlation(images: Array) -> Array:
    values = np.moveaxis(images, 1, 0).reshape(images.shape[1], -1)
    centred = values - values.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    return np.asarray(unit @ unit.T)


def _excess(ratio: Array, ring: int) -> float:
    """Return the least excess over the values extrapolated from rings below, rings above, and both."""
    below = np.arange(max(1, ring - FURTHEST_RING), ring - NEAREST_RING + 1)
    above = np.arange(ring + NEAREST_RING, min(len(ratio), ring + FURTHEST_RING + 1))
    # Concave trends lie below the extrapolations of either side, convex trends below the common line.
    trends = [rings for rings in (below, above, np.concatenate([below, above])) if len(rings) > NEAREST_RING]
    expected = max(np.polynomial.Polynomial.fit(rings, ratio[rings], 1)(float(ring)) for rings in trends)
    return float(ratio[ring] - expected)
