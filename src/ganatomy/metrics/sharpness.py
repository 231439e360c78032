"""Sharpness: profiles, the modulation transfer of a disk's edge, and edge strength against a reference."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.signal.windows import tukey

from ganatomy.metrics.metric import Array

OVERSAMPLING = 4
Point = tuple[float, float]


@dataclass(frozen=True)
class LineProfile:
    """Values along a segment: distance from its start in mm, value in the image's unit."""

    distance_mm: Array
    values: Array


@dataclass(frozen=True)
class EdgeResponse:
    """A disk's edge.

    Attributes:
        distance_mm: from the edge, negative inside the disk.
        edge_spread: mean value at that distance, in the image's unit.
        frequencies: 1/mm, up to the Nyquist frequency of the image.
        mtf: modulation transfer at these frequencies, 1 at zero.
    """

    distance_mm: Array
    edge_spread: Array
    frequencies: Array
    mtf: Array

    @property
    def mtf50(self) -> float:
        """The frequency in 1/mm at which the transfer first falls to one half; NaN if it never does."""
        below = np.flatnonzero(self.mtf < 0.5)
        if not below.size or below[0] == 0:
            return math.nan
        pair = slice(below[0] - 1, below[0] + 1)
        return float(np.interp(-0.5, -self.mtf[pair], self.frequencies[pair]))


def line_profile(
    image: npt.ArrayLike,
    start: Point,
    end: Point,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    *,
    unit: Literal["voxel", "mm"] = "voxel",
    width_mm: float = 0.0,
) -> LineProfile:
    """Sample an image linearly along a segment, every half pixel.

    Args:
        image: ``(rows, columns)``.
        start: row and column; the centre of the first voxel is (0, 0).
        end: likewise.
        spacing_mm: between rows, between columns.
        unit: of ``start`` and ``end``.
        width_mm: average over lines side by side in a band this wide.

    Raises:
        ValueError: start and end coincide.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    scale = spacing if unit == "voxel" else np.ones(2)
    first, last = np.asarray(start) * scale, np.asarray(end) * scale
    length = float(np.linalg.norm(last - first))
    if length == 0:
        raise ValueError("a line profile needs two different points")
    along = (last - first) / length
    step = float(spacing.min()) / 2
    distance = np.linspace(0, length, math.ceil(length / step) + 1)
    offsets = np.linspace(-width_mm / 2, width_mm / 2, math.ceil(width_mm / step) + 1) if width_mm else np.zeros(1)
    across = np.array([-along[1], along[0]])
    points = first + offsets[:, None, None] * across + distance[None, :, None] * along
    values = map_coordinates(
        np.asarray(image, dtype=np.float64), np.moveaxis(points / spacing, -1, 0), order=1, mode="nearest"
    )
    return LineProfile(distance, values.mean(axis=0))


def edge_response(
    image: npt.ArrayLike,
    centre: Point,
    radius_mm: float,
    spacing_mm: tuple[float, float],
    reach_mm: float | None = None,
) -> EdgeResponse:
    """Modulation transfer from the circular edge of a uniform disk in a uniform surround.

    Every pixel within reach of the edge gives one sample of the edge-spread function at its distance from the
    edge; its derivative, transformed, is the modulation transfer.

    Source: Richard et al., Med. Phys. 39(7):4115-4122, 2012. doi:10.1118/1.4725171

    Args:
        image: ``(rows, columns)``, or ``(slices, rows, columns)`` whose mean is taken to lessen noise.
        centre: of the disk, row and column in voxels, fractions allowed.
        radius_mm: of the disk.
        spacing_mm: between rows, between columns.
        reach_mm: how far from the edge to look, six pixels unless given; no other edge may lie within.
    """
    values = np.asarray(image, dtype=np.float64)
    values = values.reshape(-1, *values.shape[-2:]).mean(axis=0)
    coarsest = max(spacing_mm)
    reach = 6 * coarsest if reach_mm is None else reach_mm
    step = min(spacing_mm) / OVERSAMPLING
    rows, columns = np.indices(values.shape)
    radius = np.hypot((rows - centre[0]) * spacing_mm[0], (columns - centre[1]) * spacing_mm[1])
    distance, edge_spread = _edge_spread(radius - radius_mm, values, reach, step)
    line_spread = np.diff(edge_spread) * tukey(edge_spread.size - 1, 0.5)
    padded = 16 * line_spread.size
    transfer = np.abs(np.fft.rfft(line_spread, padded))
    frequencies: Array = np.fft.rfftfreq(padded, step).astype(np.float64)
    # Averaging in bins and taking differences each cost one sinc of the bin width.
    transfer = transfer / transfer[0] / np.sinc(frequencies * step) ** 2
    kept = frequencies <= 1 / (2 * coarsest)
    return EdgeResponse(distance, edge_spread, frequencies[kept], transfer[kept])


def gradient_ratio(
    output: npt.ArrayLike,
    reference: npt.ArrayLike,
    spacing_mm: tuple[float, float],
    edge_fraction: float = 0.05,
) -> float:
    """Edge strength of the output against its reference: 1 is as sharp, less is blurred, more is sharpened.

    Both gradients are projected on that of the smoothed reference and summed over its strongest edges. Noise
    points anywhere and cancels in the sum, so a noisy image does not pass for a sharp one.

    Args:
        output: ``(rows, columns)`` or ``(slices, rows, columns)``; slices are taken one by one.
        reference: of the same shape.
        spacing_mm: between rows, between columns.
        edge_fraction: the part of the pixels that counts as edges.
    """
    ours, theirs = np.asarray(output, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"images of different shapes cannot be compared: {ours.shape} and {theirs.shape}")
    # A smoothed copy says where the edges run, so that anatomy decides and not the noise of single pixels.
    smooth = gaussian_filter(theirs, (0,) * (theirs.ndim - 2) + (1.0, 1.0))
    across = _gradient(smooth, spacing_mm)
    strength = np.linalg.norm(across, axis=0)
    across *= strength >= np.quantile(strength, 1 - edge_fraction)
    reference_strength = float(np.sum(_gradient(theirs, spacing_mm) * across))
    output_strength = float(np.sum(_gradient(ours, spacing_mm) * across))
    return output_strength / reference_strength if reference_strength else math.nan


def _edge_spread(distance: Array, values: Array, reach: float, step: float) -> tuple[Array, Array]:
    bins = 2 * math.ceil(reach / step)
    position = np.floor(distance / step).astype(np.intp) + bins // 2
    near = (position >= 0) & (position < bins)
    count = np.bincount(position[near], minlength=bins)
    total = np.bincount(position[near], weights=values[near], minlength=bins)
    centres: Array = (np.arange(bins, dtype=np.float64) - bins // 2 + 0.5) * step
    filled = count > 0
    if filled.sum() < 2:
        raise ValueError("the disk's edge does not lie inside the image")
    return centres, np.interp(centres, centres[filled], total[filled] / count[filled])


def _gradient(image: Array, spacing_mm: tuple[float, float]) -> Array:
    return np.asarray(np.gradient(image, *spacing_mm, axis=(-2, -1)), dtype=np.float64)
